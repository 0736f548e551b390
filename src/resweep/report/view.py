"""What of a ranking is listed, and in which order: ``--runs``, ``--where``, ``--sort`` and ``--top``.

A view hides rows and never changes the ranking behind them: means, verdicts and the answer are those of all runs, so
that nobody gets a verdict by leaving settings out after having seen the results.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resweep.errors import Problem, RequestError, nearest_name
from resweep.report.results import RUN_COLUMNS, results_rows
from resweep.report.table import Ranking, SettingRow, metric_values, short_names
from resweep.report.where import Condition, number, parse_where
from resweep.report.words import value_text

SMALLER_IS_BETTER = frozenset({"loss", "brier", "ece"})
"""Last parts of the names of metrics that are the better the smaller they are."""

OF_ONE_RUN = "differs between the runs of a setting; add --runs, which lists single runs"


@dataclass(frozen=True)
class View:
    """What is listed.

    Args:
        runs: a row per run in place of one per setting.
        sort: the column to sort by, metrics best first and the others upwards; with ``-`` in front the other way
            round. None for the ranking, or for runs the order of the plan.
        top: how many rows at most; None for all.
        where: a condition on a row's values, see :mod:`resweep.report.where`; None for all.
        everything: also list the values that are the same in all runs.
    """

    runs: bool = False
    sort: str | None = None
    top: int | None = None
    where: str | None = None
    everything: bool = False

    def condition(self) -> Condition | None:
        """Return ``where`` as read, None without one.

        Raises:
            RequestError: the text is no condition, or ``top`` is below 1.
        """
        if self.top is not None and self.top < 1:
            raise RequestError(Problem("--top", str(self.top), "must be a whole number, at least 1"))
        return None if self.where is None else parse_where(self.where)


def shown_settings(table: Ranking, view: View) -> list[SettingRow]:
    """Return the settings that a view lists, in its order.

    Raises:
        RequestError: the condition or the column to sort by names something that is no column.
    """
    rows = table.rows
    fields = _setting_fields(table) if view.where is not None or view.sort is not None else []
    per_run = {"seed", "data.fold", "id", "folder", "status", "error", *RUN_COLUMNS} - {"fit_seconds"}
    other = dict.fromkeys(per_run, OF_ONE_RUN)
    return [rows[place] for place in _kept(fields, len(rows), view, table, other)]


def shown_runs(table: Ranking, view: View) -> list[dict[str, Any]]:
    """Return the rows of :func:`resweep.report.results.results_rows` that a view lists, in its order.

    Raises:
        RequestError: the condition or the column to sort by names something that is no column.
    """
    rows = results_rows(table.sweep)
    return [rows[place] for place in _kept(_run_fields(table, rows), len(rows), view, table, {})]


def absent_values(table: Ranking, view: View) -> list[str]:
    """Return a line for each value that the condition asks for and that nothing has, with those that there are.

    Args:
        table: the ranking.
        view: one whose columns were found by :func:`shown_settings` or :func:`shown_runs`.
    """
    condition = view.condition()
    if condition is None:
        return []
    return condition.absent(_run_fields(table, results_rows(table.sweep)) if view.runs else _setting_fields(table))


def smaller_is_better(metric: str, table: Ranking) -> bool:
    """Return whether smaller values of a metric are the better ones; the config says so of the monitored one."""
    if metric == table.monitor:
        return table.mode == "min"
    return metric.rsplit("/", 1)[-1] in SMALLER_IS_BETTER


def _run_fields(table: Ranking, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The columns of single runs, swept values by their short names, too."""
    swept = {key for run in table.sweep.runs for key in run.swept}
    short = {name: key for key, name in short_names(sorted(swept)).items()}
    return [row | {name: row[key] for name, key in short.items() if name not in row} for row in rows]


def _setting_fields(table: Ranking) -> list[dict[str, Any]]:
    """The columns by which settings are chosen and sorted: values, means over completed runs, n, median time."""
    metrics = sorted({metric for run in table.sweep.runs for metric in run.metrics})
    fields = []
    for row in table.rows:
        found: dict[str, Any] = {name: row.values.get(key) for key, name in table.names.items()}
        for metric in metrics:
            values = metric_values(row.runs, metric)
            found[metric] = statistics.fmean(values) if values else None
        found |= {"n": len(row.completed), "fit_seconds": row.fit_seconds}
        fields.append(found | {key: row.values.get(key) for key in table.names})
    return fields


def _kept(fields: list[dict[str, Any]], count: int, view: View, table: Ranking, other: Mapping[str, str]) -> list[int]:
    """Return the places of the rows that are listed, in the order of the lines."""
    condition = view.condition()
    kept = list(range(count))
    if condition is not None:
        kept = [place for place, holds in enumerate(condition.kept(fields, other)) if holds]
    if view.sort is not None and fields:
        kept = _sorted(kept, fields, view.sort, table, other)
    return kept[: view.top]


def _sorted(
    kept: list[int], fields: list[dict[str, Any]], sort: str, table: Ranking, other: Mapping[str, str]
) -> list[int]:
    name = sort.removeprefix("-")
    if name not in fields[0]:
        message = other.get(name) or f"is not a column; there are {', '.join(fields[0])}"
        near = None if name in other else nearest_name(name, fields[0])
        raise RequestError(Problem("--sort", sort, message, near))
    downwards = "/" in name and not smaller_is_better(name, table)
    downwards ^= sort.startswith("-")
    values = {place: fields[place][name] for place in kept}
    there = [place for place in kept if values[place] is not None]
    absent = [place for place in kept if values[place] is None]
    return sorted(there, key=lambda place: _order(values[place]), reverse=downwards) + absent


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers before words."""
    size = number(value)
    return size is None, size or 0.0, value_text(value)


def hidden_text(table: Ranking, view: View, shown: int, total: int) -> str | None:
    """Return what a view leaves out, in a line; None when it leaves nothing out.

    Args:
        table: the ranking.
        view: what was asked for.
        shown: rows that are listed.
        total: rows that there are.
    """
    parts = []
    if shown < total:
        kind = "runs" if view.runs else "settings"
        text = f"{shown} of {total} {kind} listed"
        parts.append(text if view.runs else f"{text}; means, verdicts and answer are those of all")
    equal = equal_values(table)
    if equal and not view.everything:
        plural = "s" if len(equal) > 1 else ""
        parts.append(f"{len(equal)} equal value{plural} hidden (--all)")
    return "; ".join(parts) or None


def equal_values(table: Ranking) -> dict[str, Any]:
    """Return the config values that all runs have in common, by dotted key; empty where they were not recorded."""
    return {key: value for key, value in table.sweep.base.items() if key not in table.names}

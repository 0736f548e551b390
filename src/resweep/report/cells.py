"""The comparison as tables of texts, the same for the terminal, Markdown and LaTeX; and what their columns mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resweep.console import duration
from resweep.report.layout import Grid
from resweep.report.selection import AxisResult, Choice, axis_results
from resweep.report.stats import MIN_SEEDS, NOT_DISTINGUISHABLE, Difference
from resweep.report.table import Ranking, SettingRow
from resweep.report.words import counts_text, summary_text, value_text

MOST_VALUES = 8
"""Values of an axis that are listed; the others are counted."""

EMPTY = "-"


def setting_grid(table: Ranking, rows: Sequence[SettingRow], plus_minus: str = "±") -> Grid:
    """Return the settings: values, n, validation, test, difference and verdict against the best, seeds still needed.

    Args:
        table: the ranking.
        rows: those of its rows that are listed, in the order of the lines.
        plus_minus: the sign between mean and standard deviation.
    """
    compared = any(row.difference is not None for row in table.rows)
    more = any(_more_text(row.difference) != EMPTY for row in rows)
    incomplete = any(row.not_completed for row in rows)
    columns = [*table.names.values(), "n", table.monitor, *([table.shown] if table.shown is not None else [])]
    columns += (["vs best", "verdict"] if compared else []) + ([f"fresh {table.unit}s"] if more else [])
    columns += ["time", *(["not completed"] if incomplete else [])]
    cells = []
    for row in rows:
        line = [*(value_text(row.values.get(key)) for key in table.names), str(len(row.completed))]
        line += _result_texts(table, row, plus_minus)
        line += _verdict_texts(row.difference, row.best) if compared else []
        line += [_more_text(row.difference)] if more else []
        line += [duration(row.fit_seconds), *([counts_text(row.not_completed) or EMPTY] if incomplete else [])]
        cells.append(line)
    return Grid(columns, cells, [row.best for row in rows])


def axis_grid(table: Ranking, plus_minus: str = "±", limit: int | None = MOST_VALUES) -> tuple[Grid, list[str]] | None:
    """Return for each axis its values with the setting chosen on validation; None where there was nothing to choose.

    An axis whose values were tried with one setting each is left out: the table of settings says it all.

    Args:
        table: the ranking.
        plus_minus: the sign between mean and standard deviation.
        limit: values of an axis that are listed, None for all.

    Returns:
        The table, and a line for each axis of which values are left out.
    """
    results = [result for result in axis_results(table) if result.tuned]
    if not results or table.best is None:
        return None
    columns = ["axis", "value", "tried", table.compared, "vs first", "verdict", "with"]
    cells, best, left_out = [], [], []
    for result in results:
        for choice in result.choices[:limit]:
            cells.append(_choice_texts(table, result, choice, plus_minus))
            best.append(choice is result.choices[0])
        if limit is not None and len(result.choices) > limit:
            left_out.append(f"{result.name}: {len(result.choices) - limit} further values, see --format json")
    return Grid(columns, cells, best), left_out


def run_grid(rows: Sequence[dict[str, Any]]) -> Grid:
    """Return single runs, columns without any value left out.

    Args:
        rows: as :func:`resweep.report.results.results_rows` makes them.
    """
    kept = [key for key in (rows[0] if rows else ()) if any(row[key] is not None for row in rows) and key != "folder"]
    return Grid(kept, [[_number_text(row[key]) for key in kept] for row in rows])


def note(table: Ranking, rows: Sequence[SettingRow], plus_minus: str = "±") -> str | None:
    """Return what the columns of :func:`setting_grid` mean; None where no setting has a result."""
    if not any(row.val.n for row in rows):
        return None
    unit = f"{table.unit}s"
    parts = [f"mean {plus_minus} sd over n {unit}"]
    if any(0 < row.val.n < MIN_SEEDS for row in rows):
        parts[0] += f" (below {MIN_SEEDS} {unit}: mean, smallest..largest)"
    differences = [row.difference for row in rows if row.difference is not None]
    if differences:
        parts.append(f"vs best: difference in {table.compared}")
        parts.append(_verdict_note(table))
    if any(difference.sign_test for difference in differences):
        parts.append(f"sign test, which takes at least 6 {unit}, where all {unit} differ by the same amount")
    if any(_more_text(difference) != EMPTY for difference in differences):
        text = f"fresh {unit}: how many of each, as a new sweep compared on its own, show the observed difference"
        parts.append(f"{text} with 80 % power")
    if len({row.broken for row in rows if row.val.n}) > 1:
        parts.append("settings with failed, diverged or lost runs rank below the others")
    return "; ".join(parts)


def _verdict_note(table: Ranking) -> str:
    count = table.pairs.count
    if count == 0:
        return f"a verdict takes at least {MIN_SEEDS} {table.unit}s that two settings share"
    corrected = " corrected for overlapping training splits" if table.unit == "fold" else ""
    family = f"p values corrected by Holm over {count} pairs of settings" if count > 1 else "one pair of settings"
    return f"verdict: paired t test by {table.unit}{corrected}, {family}"


def axis_note(table: Ranking) -> str:
    """Return what the columns of :func:`axis_grid` mean."""
    text = "each value with its best setting, chosen on validation among so many settings tried"
    return f"{text}; vs first: difference in {table.compared} to the first value of the axis, verdict as above"


def difference_text(difference: Difference | None) -> str:
    """Return a mean difference with its sign, ``-`` where there is none."""
    return EMPTY if difference is None or difference.mean is None else f"{difference.mean:+.4f}"


def _result_texts(table: Ranking, row: SettingRow, plus_minus: str) -> list[str]:
    n = len(row.completed)
    texts = [summary_text(row.val, plus_minus, n)]
    return texts + ([summary_text(row.test, plus_minus, n)] if table.shown is not None else [])


def _verdict_texts(difference: Difference | None, first: bool) -> list[str]:
    if first:
        return [EMPTY, "best"]
    return [difference_text(difference), EMPTY if difference is None else difference.verdict]


def _more_text(difference: Difference | None) -> str:
    """How many fresh seeds; a difference of nothing takes any number."""
    if difference is None or difference.verdict != NOT_DISTINGUISHABLE:
        return EMPTY
    return ">1000" if difference.more_seeds is None else str(difference.more_seeds)


def _choice_texts(table: Ranking, result: AxisResult, choice: Choice, plus_minus: str) -> list[str]:
    start = [result.name, choice.text, str(choice.settings)]
    if choice.row is None:
        return [*start, EMPTY, EMPTY, "no result", EMPTY]
    first = result.choices[0]
    difference = None if choice is first or first.row is None else table.difference(choice.row, first.row)
    others = " ".join(
        f"{name}={value_text(choice.row.values.get(key))}" for key, name in table.names.items() if key != result.key
    )
    found = _result_texts(table, choice.row, plus_minus)[-1]
    return [*start, found, *_verdict_texts(difference, choice is first), others]


def _number_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else value_text(value)

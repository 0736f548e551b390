"""What a sweep showed, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from resweep import console
from resweep.report.stats import MIN_SEEDS, NOT_DISTINGUISHABLE, TOO_FEW_SEEDS, Summary

if TYPE_CHECKING:
    from resweep.report.table import Ranking, SettingRow


def answer(table: Ranking, plus_minus: str = "±") -> str:
    """Return what the sweep showed, in a few sentences.

    Args:
        table: a ranked sweep.
        plus_minus: the sign between mean and standard deviation.
    """
    best = table.best
    if best is None:
        return "No run has completed with a validation result, so nothing can be ranked."
    same = table.shown is not None and table.shown.split("/")[-1] == table.monitor.split("/")[-1]
    names = ("val", "test") if same else (table.monitor, table.shown)
    parts = [f"{names[0]} {summary_text(best.val, plus_minus)}"]
    if best.test.n:
        parts.append(f"{names[1]} {summary_text(best.test, plus_minus)}")
    numbers = f"({', '.join(parts)}, n={best.val.n})"
    if best.broken:
        numbers += f", only {_completed_text(best)}"
    if not table.names:
        return f"One setting {numbers}."
    return " ".join([f"Best on validation: {table.setting(best)} {numbers}.", *_verdicts(table)])


def repeats_text(table: Ranking) -> str | None:
    """Return how many runs were left out as repeats, None when there are none."""
    plural = "" if table.repeats == 1 else "s"
    return f"{table.repeats} repeat{plural} of the same config counted once" if table.repeats else None


def value_text(value: Any) -> str:
    """Return a config value as it is written in an override; None, absent, as ``-``."""
    return "-" if value is None else console.value(value)


def summary_text(summary: Summary, plus_minus: str = "±", expected: int | None = None) -> str:
    """Return ``mean ± sd`` to four decimals; below three seeds the mean with ``smallest..largest``.

    Args:
        summary: the numbers.
        plus_minus: the sign in the middle.
        expected: how many values there should be; another n is written out.
    """
    if summary.n == 0:
        return "-"
    text = f"{summary.mean:.4f}"
    if summary.n >= MIN_SEEDS:
        text += f" {plus_minus} {summary.sd:.4f}"
    elif summary.n > 1:
        text += f" {summary.smallest:.4f}..{summary.largest:.4f}"
    return text if expected in (None, summary.n) else f"{text} (n={summary.n})"


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts other than those of completed runs as ``1 failed, 2 diverged``."""
    return ", ".join(f"{number} {status}" for status, number in counts.items() if status != "completed")


def _verdicts(table: Ranking) -> list[str]:
    others = [row for row in table.rows if row.difference is not None]
    survivors = _survivors(table)
    by_verdict: dict[str, list[SettingRow]] = {}
    for row in others:
        if row not in survivors or row.difference.verdict != "higher":
            by_verdict.setdefault(row.difference.verdict, []).append(row)
    seeds = _span([row.difference.n for row in by_verdict.get(NOT_DISTINGUISHABLE, ())])
    units = f"{table.unit}s"
    words = {
        NOT_DISTINGUISHABLE: f"Not distinguishable from it with {seeds} {units}: ",
        "higher": f"Higher on {table.shown or table.monitor}, though not chosen by validation: ",
        TOO_FEW_SEEDS: f"Too few shared {units} to tell apart from it: ",
    }
    sentences = [f"{text}{_some(table, by_verdict[key])}." for key, text in words.items() if key in by_verdict]
    if survivors:
        listed = _some(table, survivors, lambda row: f"{table.setting(row)} ({_completed_text(row)})")
        sentences.insert(0, f"Better on validation in the runs that completed, but ranked below: {listed}.")
    worse = len(by_verdict.get("lower", ()))
    if worse:
        everything = "The other setting is" if worse == 1 else f"All {worse} other settings are"
        some = f"{worse} other setting{'s are' if worse > 1 else ' is'}"
        sentences.append(f"{everything if worse == len(others) else some} lower on {table.shown or table.monitor}.")
    return sentences


def _survivors(table: Ranking) -> list[SettingRow]:
    """Settings whose mean beats the best row's, which ranks above them because none of its runs broke."""
    best, sign = table.best, 1 if table.mode == "max" else -1
    if best is None or best.broken:
        return []
    return [row for row in table.rows if row.broken and row.val.n and sign * (row.val.mean - best.val.mean) > 0]


def _completed_text(row: SettingRow) -> str:
    return f"{len(row.completed)} of {len(row.runs)} runs completed"


def _some(
    table: Ranking, rows: list[SettingRow], text: Callable[[SettingRow], str] | None = None, limit: int = 4
) -> str:
    listed = "; ".join((text or table.setting)(row) for row in rows[:limit])
    return listed if len(rows) <= limit else f"{listed}; and {len(rows) - limit} more"


def _span(numbers: list[int]) -> str:
    if not numbers:
        return ""
    return str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"

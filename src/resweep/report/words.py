"""What a sweep showed, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from resweep import console
from resweep.report.stats import (
    ALPHA,
    BETTER,
    MAX_SEEDS,
    MIN_SEEDS,
    NOT_DISTINGUISHABLE,
    ONE_SEED,
    TOO_FEW_SEEDS,
    WORSE,
    Summary,
)

if TYPE_CHECKING:
    from resweep.report.table import Ranking, SettingRow

LISTED = 4
"""Settings that a sentence names before it counts the rest."""


def answer(table: Ranking, plus_minus: str = "±") -> str:
    """Return what to use and whether the difference can be trusted, in about two sentences.

    Verdicts are those of the sweep's family of comparisons; which setting is called nearest is decided on validation.

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
        numbers += f", though only {_completed_text(best)}"
    if not table.names:
        return f"One setting {numbers}."
    return " ".join([f"Use {table.setting(best)}: best on validation {numbers}.", *_trust(table, best)])


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


def _trust(table: Ranking, best: SettingRow) -> list[str]:
    """Sentences that say which of the differences to the best setting can be trusted."""
    if not table.pairs.values[best.index]:
        return [f"It has no {table.compared}, so nothing can be said about the differences."]
    survivors = _survivors(table)
    apart = {row.index for row in survivors}
    by_verdict: dict[str, list[SettingRow]] = {}
    for row in table.rows:
        if row.difference is not None and not (row.index in apart and row.difference.verdict == BETTER):
            by_verdict.setdefault(row.difference.verdict, []).append(row)
    sentences = []
    if survivors:
        listed = _some(table, survivors, lambda row: f"{table.setting(row)} ({_completed_text(row)})")
        sentences.append(f"Better on validation in the runs that completed, but ranked below: {listed}.")
    if BETTER in by_verdict:
        listed = _some(table, by_verdict[BETTER])
        sentences.append(f"Better on {table.compared}, though not chosen by validation: {listed}.")
    sentences += _undecided(table, by_verdict)
    if WORSE in by_verdict:
        sentences.append(_worse(table, by_verdict))
    return sentences or ["No other setting has a result to compare it with."]


def _undecided(table: Ranking, by_verdict: Mapping[str, list[SettingRow]]) -> list[str]:
    """What cannot be told apart, and how many further runs that would take."""
    sentences = []
    if equal := by_verdict.get(NOT_DISTINGUISHABLE):
        seeds = _count(table, [row.difference.n for row in equal])
        everyone = len(equal) == len(table.rows) - 1 > LISTED
        listed = f"any of the {len(equal):,} other settings" if everyone else _some(table, equal)
        sentences.append(f"On {table.compared}, {seeds} cannot tell it apart from {listed}.")
        sentences.append(_further(table, equal[0], alone=len(equal) == 1))
    if few := by_verdict.get(TOO_FEW_SEEDS):
        sentences.append(
            f"Too few shared {table.unit}s to tell it apart from {_some(table, few)}: it takes {MIN_SEEDS}."
        )
    if one := by_verdict.get(ONE_SEED):
        others = "the difference" if len(one) == 1 else f"the differences to {len(one)} other settings"
        sentences.append(f"One {table.unit}: nothing can be said about {others}; it takes at least {MIN_SEEDS}.")
    return sentences


def _further(table: Ranking, row: SettingRow, alone: bool) -> str:
    """How many further seeds would show the difference to the nearest competitor."""
    of = "it" if alone else f"the nearest, {table.setting(row)},"
    if row.difference.p == 1:
        return f"From {of} it does not differ at all."
    if row.difference.more_seeds is None:
        return f"Showing the difference to {of} takes more than {MAX_SEEDS:,} further {table.unit}s."
    further = row.difference.more_seeds
    plural = "" if further == 1 else "s"
    return f"Showing the observed difference to {of} takes about {further:,} further {table.unit}{plural} of each."


def _worse(table: Ranking, by_verdict: Mapping[str, list[SettingRow]]) -> str:
    rows = by_verdict[WORSE]
    error = f"p < {ALPHA:g}" + (f" corrected for {table.pairs.count:,} comparisons" if table.pairs.count > 1 else "")
    basis = f"({_count(table, [row.difference.n for row in rows])}, {error})"
    if len(by_verdict) > 1:
        verb = "s are" if len(rows) > 1 else " is"
        return f"{len(rows):,} other setting{verb} worse {basis}."
    several = f"All {len(rows):,} other settings" if len(rows) > 1 else "The other setting"
    several += " with results" if len(rows) < len(table.rows) - 1 else ""
    verb, what = ("are", "differences") if len(rows) > 1 else ("is", "difference")
    return f"{several} {verb} worse on {table.compared} {basis}: the {what} can be trusted."


def _survivors(table: Ranking) -> list[SettingRow]:
    """Settings whose mean beats the best row's, which ranks above them because none of its runs broke."""
    best, sign = table.best, 1 if table.mode == "max" else -1
    if best is None or best.broken:
        return []
    return [row for row in table.rows if row.broken and row.val.n and sign * (row.val.mean - best.val.mean) > 0]


def _completed_text(row: SettingRow) -> str:
    return f"{len(row.completed)} of {len(row.runs)} runs completed"


def _some(table: Ranking, rows: list[SettingRow], text: Callable[[SettingRow], str] | None = None) -> str:
    listed = "; ".join((text or table.setting)(row) for row in rows[:LISTED])
    return listed if len(rows) <= LISTED else f"{listed}; and {len(rows) - LISTED} more"


def _count(table: Ranking, numbers: list[int]) -> str:
    """``3 seeds``, or ``3 to 5 folds``."""
    low, high = min(numbers), max(numbers)
    return f"{low if low == high else f'{low} to {high}'} {table.unit}s"

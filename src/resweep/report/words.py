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
    to_digits,
)

if TYPE_CHECKING:
    from resweep.report.table import Ranking, SettingRow

LISTED = 4
"""Settings that a sentence names before it counts the rest."""

UNDER_WAY = frozenset({"pending", "running", "interrupted", "lost"})
"""States of runs that can still bring a result, so that an answer holds so far only."""


def answer(table: Ranking, plus_minus: str = "±") -> str:
    """Return what to use and which differences were shown, in about two sentences.

    Verdicts are those of the sweep's family of comparisons; which setting is called nearest is decided on validation.
    While runs are still to come the answer begins with how many have completed. Settings of which no run came through
    are named.

    Args:
        table: a ranked sweep.
        plus_minus: the sign between mean and standard deviation.
    """
    best = table.best
    if best is None:
        text = "No run has completed with a validation result, so nothing can be ranked."
    elif not table.names:
        text = f"One setting {_numbers(table, best, plus_minus)}.{_one_alone(table, best)}"
    else:
        among = " among the settings without failed runs" if _survivors(table) else ""
        numbers = _numbers(table, best, plus_minus)
        found = f"Use {table.setting(best)}: best on validation{among} {numbers}{_tie_text(table, best)}."
        text = " ".join([found, *_shown(table, best)])
    return " ".join([_so_far(table, text), *_lost_settings(table)])


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


def _so_far(table: Ranking, text: str) -> str:
    """The text, begun with how many runs have completed while others are still to come."""
    counts = table.sweep.counts
    if not UNDER_WAY & set(counts):
        return text
    done = f"{counts.get('completed', 0):,} of {sum(counts.values()):,} runs completed"
    return f"So far ({done}): {text[0].lower()}{text[1:]}"


def _numbers(table: Ranking, best: SettingRow, plus_minus: str) -> str:
    same = table.shown is not None and table.shown.split("/")[-1] == table.monitor.split("/")[-1]
    names = ("val", "test") if same else (table.monitor, table.shown)
    parts = [f"{names[0]} {summary_text(best.val, plus_minus)}"]
    if best.test.n:
        parts.append(f"{names[1]} {summary_text(best.test, plus_minus)}")
    numbers = f"({', '.join(parts)}, n={best.val.n})"
    return f"{numbers}, though only {_completed_text(best)}" if best.broken else numbers


def _one_alone(table: Ranking, best: SettingRow) -> str:
    if best.val.n > 1:
        return ""
    return f" One {table.unit} says nothing about differences to other settings; it takes at least {MIN_SEEDS} of each."


def _tie_text(table: Ranking, best: SettingRow) -> str:
    """Which settings have the same mean on validation, and what put the first row before them."""
    ties = [row for row in table.rows if _tied(row, best)]
    if not ties:
        return ""
    by = "the lower val/loss" if all(row.loss > best.loss for row in ties) else "the order of the plan"
    return f", equal with {_some(table, ties)} and ahead by {by}"


def _lost_settings(table: Ranking) -> list[str]:
    """One sentence that names the settings of which every run failed, diverged or was lost."""
    broken = [row for row in table.rows if row.all_broken]
    if not broken or not table.names:
        return []

    def text(row: SettingRow) -> str:
        how = " or ".join("was lost" if status == "lost" else status for status in row.not_completed)
        number = len(row.runs)
        return f"{table.setting(row)} {how} in {f'{number} of {number} runs' if number > 1 else 'its only run'}"

    return [f"{_some(table, broken, text)}."]


def _shown(table: Ranking, best: SettingRow) -> list[str]:
    """Sentences that say which of the differences to the best setting were shown."""
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
    """What cannot be told apart, and how many fresh runs that would take."""
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
        others = "the difference" if len(one) == 1 else f"the differences to {len(one):,} other settings"
        sentences.append(f"One {table.unit} says nothing about {others}; it takes at least {MIN_SEEDS}.")
    return sentences


def _further(table: Ranking, row: SettingRow, alone: bool) -> str:
    """How many fresh seeds would show the difference to the nearest competitor."""
    of = "it" if alone else f"the nearest, {table.setting(row)},"
    if row.difference.p == 1:
        return f"From {of} it does not differ at all."
    fresh = "fresh seeds" if table.unit == "seed" else f"runs with fresh seeds ({table.unit}s times seeds)"
    if row.difference.more_seeds is None:
        return f"Showing the difference to {of} takes more than {MAX_SEEDS:,} {fresh}."
    number = f"{row.difference.more_seeds:,}"
    return f"Showing the observed difference to {of} takes about {number} {fresh} of each, compared on their own."


def _worse(table: Ranking, by_verdict: Mapping[str, list[SettingRow]]) -> str:
    """Which settings are worse, and by how much the one that ranks highest of them is."""
    rows = by_verdict[WORSE]
    size = _size_text(table, rows[0])
    some_else = len(by_verdict) > 1
    if len(rows) == 1:
        first = table.setting(rows[0]) if some_else or len(table.rows) > 2 else "The other setting"
        return f"{first} is worse on {table.compared} by {size}."
    if some_else:
        several = f"{len(rows):,} other settings"
    else:
        several = "Both other settings" if len(rows) == 2 else f"All {len(rows):,} other settings"
        several += " with results" if len(rows) < len(table.rows) - 1 else ""
    basis = f"p < {ALPHA:g} corrected for {table.pairs.count:,} comparisons"
    return f"{several} are worse on {table.compared} ({basis}), the nearest, {table.setting(rows[0])}, by {size}."


def _size_text(table: Ranking, row: SettingRow) -> str:
    """How much worse than the best: mean, uncorrected interval, corrected p."""
    difference = row.difference
    sign = -1 if table.larger_is_better else 1
    seeds = f"{difference.n} {table.unit}s"
    p = "p < 0.0001" if difference.adjusted < 1e-4 else f"p = {difference.adjusted:.2g}"
    p += f" corrected for {table.pairs.count:,} comparisons" if table.pairs.count > 1 else ""
    if difference.low is None:
        return f"{sign * difference.mean:.4f} (the same in all {seeds}, {p})"
    low, high = sorted((sign * difference.low, sign * difference.high))
    return f"{sign * difference.mean:.4f} (95 % interval {low:.4f} to {high:.4f} uncorrected, {seeds}, {p})"


def _survivors(table: Ranking) -> list[SettingRow]:
    """Settings whose mean beats the best row's, which ranks above them because none of its runs broke."""
    best, sign = table.best, 1 if table.mode == "max" else -1
    if best is None or best.broken:
        return []
    ahead = [row for row in table.rows if row.broken and row.val.n and not _equal(row, best)]
    return [row for row in ahead if sign * (row.val.mean - best.val.mean) > 0]


def _equal(row: SettingRow, best: SettingRow) -> bool:
    """Whether two means on validation are the same number."""
    return to_digits(row.val.mean) == to_digits(best.val.mean)


def _tied(row: SettingRow, best: SettingRow) -> bool:
    """Whether a setting was behind the best one by a rule for equal means only."""
    return row is not best and row.val.n > 0 and row.broken == best.broken and _equal(row, best)


def _completed_text(row: SettingRow) -> str:
    return f"{len(row.completed)} of {len(row.runs)} runs completed"


def _some(table: Ranking, rows: list[SettingRow], text: Callable[[SettingRow], str] | None = None) -> str:
    listed = "; ".join((text or table.setting)(row) for row in rows[:LISTED])
    return listed if len(rows) <= LISTED else f"{listed}; and {len(rows) - LISTED} more"


def _count(table: Ranking, numbers: list[int]) -> str:
    """``3 seeds``, or ``3 to 5 folds``."""
    low, high = min(numbers), max(numbers)
    return f"{low if low == high else f'{low} to {high}'} {table.unit}s"

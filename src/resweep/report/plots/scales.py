"""Where values lie on an axis: levels of a swept key, logarithmic places, groups that get a line each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from resweep.report.load import RunRecord
from resweep.report.plots.canvas import HIGHLIGHTED
from resweep.report.table import Ranking
from resweep.report.words import value_text

LOGARITHMIC_KEYS = ("lr", "weight_decay")
"""Last parts of the keys whose values are compared by their ratio, however few and however spaced."""


def measured_runs(table: Ranking) -> list[RunRecord]:
    """Return the completed runs that have the monitored metric, best setting first."""
    return [run for row in table.rows for run in row.completed if run.metrics.get(table.monitor) is not None]


def splitting_key(table: Ranking, runs: Sequence[RunRecord]) -> str | None:
    """Return the swept choice whose values get a line each: the optimizer, else the first that is no number."""
    keys = [key for key in table.names if 1 < len(split_values(runs, key)) <= HIGHLIGHTED]
    names = [key for key in keys if not numeric(split_values(runs, key))]
    others = len(table.names) > 1
    return ("optimizer" if "optimizer" in names else names[0]) if names and others else None


def split_values(runs: Iterable[RunRecord], key: str | None) -> list[str]:
    """Return a key's values as text, in the order of the runs; none without a key."""
    return list(dict.fromkeys(value_text(run.swept.get(key)) for run in runs)) if key is not None else []


def levels(runs: Iterable[RunRecord], key: str) -> list[str]:
    """Return a key's values as text, by size if all are numbers, else in the order of the runs."""
    return levels_of(split_values(runs, key))


def levels_of(texts: Iterable[str]) -> list[str]:
    """Return the distinct texts, by size if all are numbers, else in the order given."""
    found = list(dict.fromkeys(texts))
    return sorted(found, key=float) if numeric(found) else found


def numeric(values: Iterable[str]) -> bool:
    """Return whether every text is a finite number."""
    try:
        return all(abs(float(value)) < math.inf for value in values)
    except ValueError:
        return False


@dataclass(frozen=True)
class Axis:
    """Where the values of a key lie on an axis.

    Args:
        where: place of each value, by its text; numbers by size.
        log: whether places are decimal logarithms, except that of zero.
        numbers: whether all values are numbers.
    """

    where: dict[str, float]
    log: bool
    numbers: bool

    @property
    def label(self) -> str:
        """What follows the key's name beside the axis."""
        return " (log scale)" if self.log else ""

    @property
    def has_zero(self) -> bool:
        """Whether a logarithmic axis has zero at a place of its own."""
        return self.log and float(next(iter(self.where))) == 0

    def ticks(self, most: int, apart: float = 0.0) -> list[tuple[float, str]]:
        """Return places and texts for ticks: every value, or round numbers where there are more than ``most``.

        Args:
            most: values up to which each has a tick.
            apart: smallest distance of two ticks as a share of the axis; values closer to the last one have none.
        """
        if len(self.where) > most and self.numbers:
            return self._round_ticks()
        found = sorted((place, text) for text, place in self.where.items())
        gap = apart * (found[-1][0] - found[0][0])
        kept = found[:1]
        for place, text in found[1:]:
            if place - kept[-1][0] >= gap:
                kept.append((place, text))
        return kept

    def _round_ticks(self) -> list[tuple[float, str]]:
        from matplotlib.ticker import MaxNLocator

        low, high = min(self.where.values()), max(self.where.values())
        steps = [1, 2, 5, 10]
        zero = [(low, "0")] if self.has_zero else []
        if self.log:
            start = sorted(self.where.values())[1] if zero else low
            exponents = MaxNLocator(6, steps=steps, integer=True).tick_values(start, high)
            found = [(place, f"{10.0**place:g}") for place in exponents if start <= place <= high]
            return zero + (found or [(place, f"{10.0**place:.3g}") for place in (start, high)])
        return [
            (tick, f"{tick:g}") for tick in MaxNLocator(6, steps=steps).tick_values(low, high) if low <= tick <= high
        ]


def places(levels: Sequence[str], key: str = "") -> Axis:
    """Return where values lie on an axis.

    Numbers that are :func:`logarithmic` lie at their decimal logarithm, with zero one mean step below the smallest;
    other numbers at themselves; what is no number at 0, 1, 2, and so on.

    Args:
        levels: distinct values as text, numbers by size.
        key: dotted key whose values they are.
    """
    if not numeric(levels):
        return Axis(dict(zip(levels, map(float, range(len(levels))), strict=True)), False, False)
    numbers = [float(level) for level in levels]
    if not logarithmic(numbers, key):
        return Axis(dict(zip(levels, numbers, strict=True)), False, True)
    found = [math.log10(number) for number in numbers if number > 0]
    zero = found[0] - (found[-1] - found[0]) / (len(found) - 1)
    where = [math.log10(number) if number > 0 else zero for number in numbers]
    return Axis(dict(zip(levels, where, strict=True)), True, True)


def logarithmic(numbers: Sequence[float], key: str = "") -> bool:
    """Return whether values call for a logarithmic axis.

    None is negative, two at least are positive, and these span two decades or more, or one decade where zero is among
    the values, which would otherwise lie on the smallest one; of five or more, the median must also lie nearer to the
    middle in logarithms than as it is, which tells a search over logarithms from one over the numbers. Learning rates
    and weight decays are logarithmic from one decade on, whatever their spacing. Four or more that span a factor of
    eight count as well if neighbours have about the same ratio, as in 32, 64, 128, 256.

    Args:
        numbers: distinct values, ascending.
        key: dotted key whose values they are.
    """
    positive = [number for number in numbers if number > 0]
    if min(numbers) < 0 or len(positive) < 2:
        return False
    logs = [math.log10(number) for number in positive]
    decades = logs[-1] - logs[0] + 1e-9
    if decades >= 1 and key.split(".")[-1] in LOGARITHMIC_KEYS:
        return True
    if decades >= (1 if 0 in numbers else 2):
        return len(positive) < 5 or _off_middle(logs) < _off_middle(positive)
    if len(positive) < 4 or decades < math.log10(8):
        return False
    ratios = [right - left for left, right in pairwise(logs)]
    return max(ratios) < 1.5 * min(ratios)


def _off_middle(values: Sequence[float]) -> float:
    """How far the median lies from the middle of the range, as a share of the range."""
    return abs((statistics.median(values) - values[0]) / (values[-1] - values[0]) - 0.5)

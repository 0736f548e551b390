"""All pairs of settings as one family of comparisons.

Whoever looks at a sweep picks a pair afterwards: the best setting against the second, the best setting of each
optimizer. A p value that was computed for one comparison does not hold for the most striking one of many. Corrected
over all pairs it does, however the pair was chosen, so every verdict of a sweep is looked up in here.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from resweep.report.stats import ALPHA, MIN_SEEDS, ROUNDING, Difference, paired_difference

if TYPE_CHECKING:
    import numpy

SMALL = 1e-3
"""P values that are kept however many there are; of larger ones only the first thousand."""


class Pairs:
    """Every setting against every other, paired by seed, with p values corrected by Holm over all pairs.

    Args:
        values: for each setting the compared metric by repeat (a seed, or a seed and a fold); empty for a setting
            without results.
        larger_is_better: direction of the metric.
        overlap: as in :func:`resweep.report.stats.paired_difference`.

    Raises:
        ValueError: if a value is not finite.

    The p values of the family are computed on first use, a setting against all later ones at a time; of 3,333
    settings with three seeds there are 5.6 million.

    Example:
        >>> pairs = Pairs([{0: 0.90, 1: 0.91, 2: 0.92}, {0: 0.80, 1: 0.82, 2: 0.81}, {0: 0.81, 1: 0.80, 2: 0.83}])
        >>> pairs.count, pairs.difference(0, 1).verdict
        (3, 'better')
    """

    def __init__(
        self, values: Sequence[Mapping[Hashable, float]], *, larger_is_better: bool = True, overlap: float = 0.0
    ) -> None:
        self.values = values
        self.larger_is_better = larger_is_better
        self.overlap = overlap

    @property
    def count(self) -> int:
        """Comparisons in the family: pairs of settings that share at least three repeats."""
        return self._family[0]

    @property
    def claimed(self) -> int:
        """Comparisons that are distinguishable."""
        return bisect.bisect_left(self._family[2], ALPHA)

    def difference(self, ours: int, other: int) -> Difference:
        """Return one setting against another, with the family's correction.

        Args:
            ours: position of the first setting in ``values``.
            other: position of the second one.

        Raises:
            IndexError: if there is no such setting.
            ValueError: if both are the same.
        """
        if ours == other:
            raise ValueError(f"a setting is not compared with itself, got {ours} twice")
        return paired_difference(
            self.values[ours],
            self.values[other],
            larger_is_better=self.larger_is_better,
            overlap=self.overlap,
            adjust=self.adjust,
        )

    def adjust(self, p: float) -> float:
        """Return the corrected value of a p value of this family."""
        _, values, adjusted = self._family
        # The family was computed in another order of additions: the value is found again up to rounding.
        index = bisect.bisect_left(values, p * (1 - 1e-9))
        return max(p, float(adjusted[index])) if index < len(values) else 1.0

    @cached_property
    def _family(self) -> tuple[int, numpy.ndarray, numpy.ndarray]:
        """Number of p values, and those whose corrected value is below 1 in ascending order, with that value.

        L values of SMALL and more make the smallest of them at least L * SMALL when corrected. From L * SMALL = 1 on
        all of them become 1 and need not be kept, so millions of pairs take little memory.
        """
        import numpy

        small, large, count, many = [numpy.empty(0)], [], 0, 0
        for p_values in self._rows():
            below = p_values < SMALL
            small.append(p_values[below])
            count += len(p_values)
            many += len(p_values) - len(small[-1])
            if many * SMALL < 1:
                large.append(p_values[~below])
        values = numpy.sort(numpy.concatenate(small + large if many * SMALL < 1 else small))
        adjusted = numpy.maximum.accumulate(values * (count - numpy.arange(len(values))))
        below = int(numpy.searchsorted(adjusted, 1.0))
        return count, values[:below].copy(), adjusted[:below].copy()

    def _rows(self) -> Iterator[numpy.ndarray]:
        """Uncorrected p values of a setting against the later ones that share enough repeats, a setting at a time."""
        import numpy

        settings = [values for values in self.values if len(values) >= MIN_SEEDS]
        held = Counter(repeat for values in settings for repeat in values)
        shared = [repeat for repeat, number in held.items() if number > 1]
        if not shared:
            return
        table = numpy.array([[values.get(repeat, numpy.nan) for values in settings] for repeat in shared], dtype=float)
        table /= numpy.nanmax(abs(table)) or 1.0  # so that no square overflows
        for index in range(len(settings) - 1):
            ours = table[:, index]
            has = ~numpy.isnan(ours)
            if has.sum() >= MIN_SEEDS:
                yield _against(ours[has][:, None], table[has, index + 1 :], self.overlap)


def _against(ours: numpy.ndarray, others: numpy.ndarray, overlap: float) -> numpy.ndarray:
    """P values of one setting, shape (repeats, 1), against others, (repeats, settings), NaN where a value is missing.

    The rules are those of :func:`resweep.report.stats.paired_difference`; pairs that share too few repeats are left
    out.
    """
    import numpy
    from scipy.special import stdtr

    differences = ours - others
    missing = numpy.isnan(differences)
    if complete := not missing.any():
        n = numpy.full(others.shape[1], len(others))
    else:
        n = len(others) - missing.sum(axis=0)
        enough = n >= MIN_SEEDS
        others, differences, missing, n = others[:, enough], differences[:, enough], missing[:, enough], n[enough]
    mean = (differences if complete else numpy.where(missing, 0, differences)).sum(axis=0) / n
    centred = differences - mean
    centred = centred if complete else numpy.where(missing, 0, centred)
    sd = numpy.sqrt((centred * centred).sum(axis=0) / (n - 1))
    largest = numpy.maximum(abs(ours), abs(others))
    rounding = ROUNDING * numpy.fmax.reduce(largest, axis=0)
    equal = numpy.fmax.reduce(differences, axis=0) - numpy.fmin.reduce(differences, axis=0) <= rounding
    error = numpy.where(equal, 1.0, sd) * numpy.sqrt(1 / n + overlap)
    p = 2 * stdtr(n - 1, -abs(mean) / error)
    p[equal] = numpy.where((abs(mean) > rounding) & (overlap == 0), 2 * 0.5**n, 1.0)[equal]
    return p

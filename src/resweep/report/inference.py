"""Pieces of the tests that verdicts rest on: correction for many comparisons, ranks, effect size and power."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from itertools import pairwise

ALPHA = 0.05
"""Share of sweeps without any difference in which a difference may be claimed (family-wise error)."""

MIN_SEEDS = 3
"""Seeds below which an interval says next to nothing, so that smallest and largest are shown instead."""

POWER = 0.8
"""Share of repetitions in which the fresh seeds would show the observed difference, were it the true one."""

MAX_SEEDS = 1000
"""Fresh seeds that are looked at; a difference that takes more is not worth a number."""

MIN_WILCOXON = 6
"""Differences other than 0 below which the signed-rank test cannot reach 5 %: its smallest p is 2 * 0.5^n."""

EXACT_RANKS = 50
"""Differences up to which the signed-rank test counts all sign patterns."""


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected for their number, so that any of them may be looked at.

    Args:
        p_values: uncorrected p values; None for a comparison that was not tested, which stays None and does not count.

    Returns:
        The k-th smallest of m values times m - k + 1, at least as large as the ones before it, at most 1; in the order
        that was given. A claim for each value below 0.05 is wrong anywhere in at most 5 % of families.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Example:
        >>> holm([0.04, None, 0.01])
        [0.04, None, 0.02]
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = largest
    return adjusted


def signed_rank(differences: Sequence[float], rounding: float = 0.0) -> float | None:
    """Return the two-sided p value of Wilcoxon's signed-rank test, exact up to 50 differences, ties included.

    Args:
        differences: one per seed.
        rounding: differences this close to 0 are left out, and such this close to each other share a rank.

    Returns:
        The p value; the normal approximation with the correction for ties above 50 differences other than 0; None with
        fewer than 6 of them.

    Source: Wilcoxon 1945; checked against scipy.stats.wilcoxon and, with ties, against all 2^n sign patterns.

    Example:
        >>> signed_rank([1, 2, 3, 4, 5, 6])
        0.03125
    """
    kept = [value for value in differences if abs(value) > rounding]
    if len(kept) < MIN_WILCOXON:
        return None
    sizes = _size_classes(kept, rounding)
    if len(kept) > EXACT_RANKS:
        from scipy.stats import wilcoxon

        signed = [math.copysign(size, value) for size, value in zip(sizes, kept, strict=True)]
        return float(wilcoxon(signed, method="asymptotic").pvalue)
    ordered = sorted(sizes)
    ranks = [bisect.bisect_left(ordered, size) + bisect.bisect_right(ordered, size) + 1 for size in sizes]  # doubled
    above = sum(rank for rank, value in zip(ranks, kept, strict=True) if value > 0)
    ways = [1] + [0] * sum(ranks)  # sign patterns by the sum of the ranks with a plus
    for rank in ranks:
        ways = [count + (ways[total - rank] if total >= rank else 0) for total, count in enumerate(ways)]
    tail = min(sum(ways[: above + 1]), sum(ways[above:]))
    return min(1.0, 2 * tail / 2 ** len(ranks))


def _size_classes(differences: Sequence[float], rounding: float) -> list[int]:
    """Number the sizes from 1 in ascending order; a new one begins where the gap to the next smaller is too wide."""
    order = sorted(range(len(differences)), key=lambda index: abs(differences[index]))
    classes = [1] * len(order)
    for smaller, index in pairwise(order):
        classes[index] = classes[smaller] + (abs(differences[index]) - abs(differences[smaller]) > rounding)
    return classes


def hedges(n: int) -> float:
    """Return the factor that takes the bias from mean / sd of n differences (n > 2).

    Source: Hedges 1981, "Distribution theory for Glass's estimator of effect size and related estimators", exact form.

    Example:
        >>> round(hedges(11), 3)
        0.923
    """
    half = (n - 1) / 2
    return math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)


def detection_power(effect: float, n: int, level: float = ALPHA, overlap: float = 0.0) -> float:
    """Return how often a paired t test shows a true difference, on its own side of 0.

    Args:
        effect: true mean of the differences divided by their standard deviation; its sign does not matter.
        n: seeds, from 2 on.
        level: p value below which a difference is claimed.
        overlap: as in :func:`paired_difference`.

    Returns:
        The share of repetitions with a claim, from the noncentral t distribution with n - 1 degrees of freedom.

    Source: Cohen 1988, "Statistical power analysis for the behavioral sciences"; checked against scipy.stats.nct.

    Example:
        >>> [round(detection_power(0.5, n), 3) for n in (33, 34)]
        [0.795, 0.808]
    """
    from scipy.special import nctdtr, stdtrit

    shift = abs(effect) / math.sqrt(1 / n + overlap)
    return 1 - float(nctdtr(n - 1, shift, -stdtrit(n - 1, level / 2)))


def fresh_seeds(effect: float | None, overlap: float = 0.0) -> int | None:
    """Return how many fresh seeds show a difference with 80 % power, in a comparison of these two settings alone.

    Args:
        effect: true mean of the differences divided by their standard deviation, not 0; None where they are all equal,
            so that the sign test decides, which takes six (and is no test of folds).
        overlap: as in :func:`resweep.report.stats.paired_difference`.

    Returns:
        The smallest number from 3 to 1,000 with that power at a level of 5 %, None where none has it.

    Source: :func:`detection_power`.

    Example:
        >>> fresh_seeds(0.5), fresh_seeds(-20.0), fresh_seeds(0.001)
        (34, 3, None)
    """
    seeds = range(MIN_SEEDS, MAX_SEEDS + 1)
    if effect is None and overlap:
        return None
    if effect is None:
        index = bisect.bisect_left(seeds, True, key=lambda n: 2 * 0.5**n < ALPHA)
    else:
        index = bisect.bisect_left(seeds, POWER, key=lambda n: detection_power(effect, n, ALPHA, overlap))
    return seeds[index] if index < len(seeds) else None

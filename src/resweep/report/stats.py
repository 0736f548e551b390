"""Means over seeds, their intervals, and differences paired by seed.

Every run of a setting differs from the others of that setting in its seed only, so n is a number of seeds. Intervals
assume that the seeds' results are roughly normal; they are not corrected for the number of settings compared. Where
the assumption breaks down because every seed differs by the same amount, a sign test takes the interval's place.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

MIN_SEEDS = 3
"""Seeds below which an interval says next to nothing, so that smallest and largest are shown instead."""

NOT_DISTINGUISHABLE = "not distinguishable"
TOO_FEW_SEEDS = "too few seeds"

ROUNDING = 1e-6
"""Differences closer than this share of the values are equal: metrics are computed in single precision (6e-8)."""


@dataclass(frozen=True)
class Summary:
    """A sample in a few numbers.

    Args:
        n: how many values.
        mean: arithmetic mean; None for n = 0.
        sd: standard deviation with n - 1 in the denominator; None for n < 2.
        low: lower end of the 95 % t interval of the mean; None for n < 2.
        high: upper end of the same interval.
        smallest: smallest value; None for n = 0.
        largest: largest value; None for n = 0.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    smallest: float | None = None
    largest: float | None = None


@dataclass(frozen=True)
class Difference:
    """A setting against the best one, over the seeds that both have.

    Args:
        n: shared seeds.
        mean: mean of the differences ours - best; None for n = 0.
        low: lower end of the 95 % paired t interval; None for n < 2 and where all differences are equal.
        high: upper end of the same interval.
        verdict: "lower", "higher", "not distinguishable" or "too few seeds".
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None
    verdict: str

    @property
    def sign_test(self) -> bool:
        """Whether all differences are equal, so that a sign test has decided in place of the interval."""
        return self.n >= MIN_SEEDS and self.low is None


def summarize(values: Sequence[float]) -> Summary:
    """Return n, mean, standard deviation, 95 % interval of the mean, smallest and largest of a sample.

    Args:
        values: finite numbers, one per seed.

    Returns:
        A summary whose interval is mean ± t(0.975, n - 1) * sd / sqrt(n).

    Raises:
        ValueError: if a value is not finite.

    Source: Student 1908; checked against scipy.stats.t.interval.

    Example:
        >>> summarize([0.5, 0.75]).mean
        0.625
    """
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"values must be finite, got {list(values)}")
    if not values:
        return Summary(0)
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Summary(1, mean, smallest=mean, largest=mean)
    sd = statistics.stdev(values)
    half = _t_quantile(len(values) - 1) * sd / math.sqrt(len(values))
    return Summary(len(values), mean, sd, mean - half, mean + half, min(values), max(values))


def paired_difference(
    ours: Mapping[Hashable, float], best: Mapping[Hashable, float], overlap: float = 0.0
) -> Difference:
    """Return the mean difference to the best setting over shared seeds, with a verdict in words.

    The 95 % t interval of the per-seed differences decides from three shared seeds on: 0 inside it is "not
    distinguishable", otherwise "lower" or "higher" says on which side of the best the setting lies.

    Differences that are all equal, which happens with few test images, would give an interval without width that
    claims certainty. Then the two-sided sign test decides at 5 %: n equal signs have probability 2 * 0.5^n, so fewer
    than six shared seeds are never distinguishable.

    Args:
        ours: the setting's value of each seed.
        best: the best setting's value of each seed.
        overlap: images of the test split divided by images of the training split where the runs are folds of a
            cross-validation. Their training splits overlap, so the variance of the mean is
            sd^2 * (1 / n + overlap) and not sd^2 / n. 0 for runs that differ in the seed.

    Returns:
        The difference; a seed that only one of the two has is left out.

    Source: paired t interval, checked against scipy.stats.ttest_rel; sign test, against scipy.stats.binomtest;
    correction for folds of Nadeau & Bengio 2003 (Machine Learning 52, section 4, corrected resampled t-test).

    Example:
        >>> paired_difference({0: 0.5, 1: 0.6}, {0: 0.7, 1: 0.7}).verdict
        'too few seeds'
    """
    shared = [seed for seed in ours if seed in best]
    summary = summarize([ours[seed] - best[seed] for seed in shared])
    rounding = ROUNDING * max((abs(values[seed]) for values in (ours, best) for seed in shared), default=0.0)
    equal = summary.n > 1 and summary.largest - summary.smallest <= rounding
    low, high = (None, None) if equal else _widened(summary, overlap)
    side = "lower" if summary.n and summary.mean < 0 else "higher"
    if summary.n < MIN_SEEDS:
        verdict = TOO_FEW_SEEDS
    elif equal:
        distinguishable = abs(summary.mean) > rounding and 2 * 0.5**summary.n < 0.05
        verdict = side if distinguishable else NOT_DISTINGUISHABLE
    else:
        verdict = NOT_DISTINGUISHABLE if low <= 0 <= high else side
    return Difference(summary.n, summary.mean, low, high, verdict)


def _widened(summary: Summary, overlap: float) -> tuple[float | None, float | None]:
    """Return the interval of a mean over runs whose training splits overlap."""
    if summary.n < 2 or overlap == 0:
        return summary.low, summary.high
    half = (summary.high - summary.mean) * math.sqrt(1 + summary.n * overlap)
    return summary.mean - half, summary.mean + half


def _t_quantile(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))

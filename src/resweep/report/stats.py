"""Means over seeds, their intervals, and differences paired by seed.

Every run of a setting differs from the others of that setting in its seed only, so n is a number of seeds. Intervals
and t tests assume that the seeds' results are roughly normal. Where the assumption breaks down because every seed
differs by the same amount, a sign test decides in the t test's place.

A verdict needs a p value that holds for every comparison that could have been looked at, and so for the one that was
picked afterwards: :class:`resweep.report.pairs.Pairs` corrects over all pairs of settings. An interval is shown as it
is, uncorrected.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from resweep.report.inference import ALPHA as ALPHA
from resweep.report.inference import MAX_SEEDS as MAX_SEEDS
from resweep.report.inference import MIN_SEEDS as MIN_SEEDS
from resweep.report.inference import POWER as POWER
from resweep.report.inference import fresh_seeds, hedges, signed_rank
from resweep.report.inference import holm as holm

BETTER = "better"
WORSE = "worse"
NOT_DISTINGUISHABLE = "not distinguishable"
TOO_FEW_SEEDS = "too few seeds"
ONE_SEED = "one seed: nothing can be said"

ROUNDING = 1e-6
"""Differences closer than this share of the values are equal: metrics are computed in single precision (6e-8)."""

DIGITS = 6
"""Digits to which two means are compared: the same images right in another order of seeds are no difference."""


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
    """A setting against another one, over the seeds that both have, from the point of view of the first.

    Args:
        n: shared seeds.
        mean: mean of the differences ours - other, in units of the metric; None for n = 0.
        sd: standard deviation of the differences with n - 1 in the denominator; None for n < 2.
        low: lower end of the uncorrected 95 % paired t interval of the mean difference; None for n < 2 and where all
            differences are equal.
        high: upper end of the same interval.
        p: two-sided p of the paired t test, uncorrected (of the sign test where all differences are equal); None for
            n < 3.
        wilcoxon: two-sided p of the signed-rank test, uncorrected; None with fewer than 6 differences other than 0.
        won: share of the seeds in which ours is better, a tie counting half; None for n = 0.
        effect: mean / sd of the differences (Cohen's d_z), times Hedges' factor against its bias in small samples; has
            the sign of ``mean``; None for n < 3 and where all differences are equal.
        adjusted: p corrected by Holm over the family of comparisons that this one belongs to; None where p is.
        verdict: one of "better", "worse", "not distinguishable", "too few seeds", "one seed: nothing can be said".
        more_seeds: fresh seeds with which a new comparison of just these two settings shows the observed difference
            (``effect``) with 80 % power in a paired t test at 5 %, at least 3; None where the difference is
            distinguishable already, has no p, or takes more than 1,000. Run them as a new sweep and compare that sweep
            alone: added to the seeds at hand and tested again, the same pair would have a second chance to differ by
            luck. The observed difference is itself uncertain, and so is this number.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    wilcoxon: float | None = None
    won: float | None = None
    effect: float | None = None
    adjusted: float | None = None
    verdict: str = TOO_FEW_SEEDS
    more_seeds: int | None = None

    @property
    def sign_test(self) -> bool:
        """Whether all differences are equal, so that a sign test has decided in place of the t test."""
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
    sd = math.hypot(*(value - mean for value in values)) / math.sqrt(len(values) - 1)
    half = _t_quantile(len(values) - 1) * sd / math.sqrt(len(values))
    return Summary(len(values), mean, sd, mean - half, mean + half, min(values), max(values))


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 9999
) -> tuple[float, float] | None:
    """Return the bootstrap interval of the mean (bias-corrected and accelerated), which does not assume normality.

    With a handful of seeds it is too short: the mean of three values has ten different resamples only. The t interval
    of :func:`summarize` is the one that verdicts rest on.

    Args:
        values: finite numbers, one per seed.
        confidence: share of samples whose interval holds the true mean.
        resamples: samples drawn with replacement; the same ones in every call.

    Returns:
        Lower and upper end, both the value itself where all are equal but for rounding; None below 3 values.

    Raises:
        ValueError: if a value is not finite.

    Source: Efron 1987, "Better bootstrap confidence intervals"; scipy.stats.bootstrap.

    Example:
        >>> bootstrap_interval([0.5, 0.5, 0.5])
        (0.5, 0.5)
    """
    summary = summarize(values)
    if summary.n < MIN_SEEDS:
        return None
    if summary.largest - summary.smallest <= ROUNDING * max(abs(summary.smallest), abs(summary.largest)):
        return summary.smallest, summary.largest
    import numpy
    from scipy.stats import bootstrap

    found = bootstrap(
        (list(values),),
        numpy.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="BCa",
        random_state=numpy.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def paired_difference(
    ours: Mapping[Hashable, float],
    other: Mapping[Hashable, float],
    *,
    larger_is_better: bool = True,
    overlap: float = 0.0,
    adjust: Callable[[float], float] | None = None,
) -> Difference:
    """Return the difference between two settings over the seeds that both have, with a verdict in words.

    The paired t test decides from three shared seeds on. Differences that are all equal, which happens with few test
    images, would give an interval without width that claims certainty. Then the two-sided sign test decides: n equal
    signs have probability 2 * 0.5^n, so fewer than six shared seeds are never distinguishable. It takes the seeds for
    independent; of folds, whose training images overlap, equal differences show nothing (p = 1).

    Args:
        ours: the first setting's value of each seed.
        other: the second setting's value of each seed.
        larger_is_better: direction of the metric.
        overlap: images of the test split divided by images of the training split where the runs are folds of a
            cross-validation. Their training splits overlap, so the variance of the mean is
            sd^2 * (1 / n + overlap) and not sd^2 / n. 0 for runs that differ in the seed.
        adjust: makes a p value into one that is corrected for the other comparisons of the family; without it this is
            the only comparison.

    Returns:
        The difference; a seed that only one of the two has is left out.

    Raises:
        ValueError: if a value is not finite.

    Source: paired t test, checked against scipy.stats.ttest_rel; sign test, against scipy.stats.binomtest;
    correction for folds of Nadeau & Bengio 2003 (Machine Learning 52, section 4, corrected resampled t-test).

    Example:
        >>> paired_difference({0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.6, 1: 0.71, 2: 0.8}).verdict
        'worse'
    """
    shared = [seed for seed in ours if seed in other]
    differences = [ours[seed] - other[seed] for seed in shared]
    summary = summarize(differences)
    if summary.n < 2:
        won = _won(differences, 0.0, larger_is_better) if differences else None
        return Difference(summary.n, summary.mean, won=won, verdict=ONE_SEED if differences else TOO_FEW_SEEDS)
    rounding = ROUNDING * max(abs(values[seed]) for values in (ours, other) for seed in shared)
    error = summary.sd * math.sqrt(1 / summary.n + overlap)
    equal = summary.largest - summary.smallest <= rounding
    half = _t_quantile(summary.n - 1) * error
    p = _p_value(summary, error, equal, rounding, overlap)
    adjusted = p if p is None or adjust is None else adjust(p)
    distinguishable = adjusted is not None and adjusted < ALPHA
    side = BETTER if (summary.mean > 0) == larger_is_better else WORSE
    undecided = TOO_FEW_SEEDS if p is None else NOT_DISTINGUISHABLE
    effect = None if p is None or equal else hedges(summary.n) * summary.mean / summary.sd
    open_question = p is not None and not distinguishable and abs(summary.mean) > rounding
    return Difference(
        n=summary.n,
        mean=summary.mean,
        sd=summary.sd,
        low=None if equal else summary.mean - half,
        high=None if equal else summary.mean + half,
        p=p,
        wilcoxon=signed_rank(differences, rounding),
        won=_won(differences, rounding, larger_is_better),
        effect=effect,
        adjusted=adjusted,
        verdict=side if distinguishable else undecided,
        more_seeds=fresh_seeds(effect, overlap) if open_question else None,
    )


def to_digits(value: float) -> float:
    """Return a mean rounded to the six digits that count when two of them are compared.

    Example:
        >>> to_digits(0.1 + 0.2) == to_digits(0.3)
        True
    """
    return float(f"{value:.{DIGITS}g}")


def _p_value(summary: Summary, error: float, equal: bool, rounding: float, overlap: float) -> float | None:
    """Of the paired t test, or of the sign test where all differences are equal; folds are too dependent for that."""
    if summary.n < MIN_SEEDS:
        return None
    if equal:
        return min(1.0, 2 * 0.5**summary.n) if abs(summary.mean) > rounding and not overlap else 1.0
    from scipy.special import stdtr

    return 2 * float(stdtr(summary.n - 1, -abs(summary.mean) / error))


def _won(differences: Sequence[float], rounding: float, larger_is_better: bool) -> float:
    sign = 1 if larger_is_better else -1
    wins = sum(1.0 if sign * value > rounding else 0.5 if abs(value) <= rounding else 0.0 for value in differences)
    return wins / len(differences)


@functools.cache
def _t_quantile(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))

from __future__ import annotations

import math
import random

import pytest
import scipy.stats

from resweep.report.stats import NOT_DISTINGUISHABLE, TOO_FEW_SEEDS, paired_difference, summarize


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_is_students(n):
    draw = random.Random(n)
    values = [draw.gauss(0.9, 0.02) for _ in range(n)]
    summary = summarize(values)
    low, high = scipy.stats.t.interval(0.95, n - 1, loc=summary.mean, scale=scipy.stats.sem(values))
    assert summary.n == n
    assert summary.mean == pytest.approx(sum(values) / n, rel=1e-12)
    assert summary.sd == pytest.approx(scipy.stats.tstd(values), rel=1e-12)
    assert (summary.low, summary.high) == pytest.approx((low, high), rel=1e-12)
    assert (summary.smallest, summary.largest) == (min(values), max(values))


def test_known_interval_of_three_values():
    # t(0.975, 2) = 4.302653 (published table), sd = 1, n = 3
    summary = summarize([1.0, 2.0, 3.0])
    assert summary.high - summary.mean == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)


def test_one_value_has_no_spread_and_none_has_nothing():
    one = summarize([0.0])
    assert (one.n, one.mean, one.sd, one.low, one.smallest, one.largest) == (1, 0.0, None, None, 0.0, 0.0)
    assert summarize([]).mean is None
    with pytest.raises(ValueError, match="finite"):
        summarize([1.0, math.nan])


BEST = {0: 0.90, 1: 0.92, 2: 0.91, 3: 0.93}


@pytest.mark.parametrize(
    ("shifts", "verdict"),
    [
        ((0.0, 0.0, 0.0, 0.0), NOT_DISTINGUISHABLE),
        ((0.01, -0.01, 0.02, -0.02), NOT_DISTINGUISHABLE),
        ((-0.05, -0.06, -0.05, -0.04), "lower"),
        ((0.05, 0.06, 0.05, 0.04), "higher"),
    ],
)
def test_verdicts_equal_below_and_above(shifts, verdict):
    ours = {seed: BEST[seed] + shift for seed, shift in zip(BEST, shifts, strict=True)}
    assert paired_difference(ours, BEST).verdict == verdict


@pytest.mark.parametrize("case", range(6))
def test_the_difference_is_the_paired_t_test(case):
    draw = random.Random(case)
    best = {seed: draw.gauss(0.9, 0.02) for seed in range(5)}
    ours = {seed: value + draw.gauss(-0.004 * case, 0.005) for seed, value in best.items()}
    found = paired_difference(ours, best)
    test = scipy.stats.ttest_rel([ours[seed] for seed in best], [best[seed] for seed in best])
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert (found.verdict == NOT_DISTINGUISHABLE) == (test.pvalue >= 0.05)


def test_pairing_sees_what_the_spread_of_seeds_hides():
    best = {0: 0.70, 1: 0.80, 2: 0.90}
    ours = {0: 0.689, 1: 0.790, 2: 0.891}
    assert scipy.stats.ttest_ind(list(ours.values()), list(best.values())).pvalue > 0.9
    assert paired_difference(ours, best).verdict == "lower"


def test_only_shared_seeds_count():
    found = paired_difference({0: 0.5, 1: 0.5, 7: 0.0}, {0: 0.7, 1: 0.7, 8: 1.0})
    assert (found.n, found.verdict) == (2, TOO_FEW_SEEDS)
    assert found.mean == pytest.approx(-0.2)
    nothing = paired_difference({7: 0.0}, {8: 1.0})
    assert (nothing.n, nothing.mean, nothing.verdict) == (0, None, TOO_FEW_SEEDS)


@pytest.mark.parametrize("n", range(3, 9))
@pytest.mark.parametrize("side", [-1, 1])
def test_equal_differences_are_judged_by_the_sign_test(n, side):
    best = {seed: 0.9 + seed / 997 for seed in range(n)}  # the differences are equal up to rounding only
    ours = {seed: value + side * 0.01 for seed, value in best.items()}
    found = paired_difference(ours, best)
    significant = scipy.stats.binomtest(n, n).pvalue < 0.05
    assert found.verdict == (("higher" if side > 0 else "lower") if significant else NOT_DISTINGUISHABLE)
    assert (found.low, found.high, found.sign_test) == (None, None, True)


def test_no_difference_in_any_seed_is_not_distinguishable():
    best = {seed: 0.9 for seed in range(10)}
    assert paired_difference(best, best).verdict == NOT_DISTINGUISHABLE
    assert not paired_difference(best | {0: 0.8}, best).sign_test


def test_folds_widen_the_interval_as_published() -> None:
    """Nadeau & Bengio 2003: the variance of the mean is sd^2 (1/n + test/train), by hand for five folds."""
    differences = [0.01, 0.02, 0.03, 0.02, 0.02]
    ours = {fold: 0.5 + difference for fold, difference in enumerate(differences)}
    found = paired_difference(ours, dict.fromkeys(range(5), 0.5), overlap=1 / 4)
    half = scipy.stats.t.ppf(0.975, 4) * scipy.stats.tstd(differences) * math.sqrt(1 / 5 + 1 / 4)
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half))
    assert found.verdict == "higher"
    assert paired_difference(ours, dict.fromkeys(range(5), 0.51), overlap=1 / 4).verdict == NOT_DISTINGUISHABLE
    assert paired_difference(ours, dict.fromkeys(range(5), 0.51)).verdict == "higher"

from __future__ import annotations

import itertools
import math
import random

import pytest
import scipy.stats

from resweep.report.inference import detection_power, fresh_seeds, hedges, holm, signed_rank
from resweep.report.stats import (
    BETTER,
    MAX_SEEDS,
    NOT_DISTINGUISHABLE,
    ONE_SEED,
    POWER,
    TOO_FEW_SEEDS,
    WORSE,
    bootstrap_interval,
    paired_difference,
    summarize,
)


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


def test_the_bootstrap_interval_of_many_normal_values_is_students():
    draw = random.Random(1)
    values = [draw.gauss(0.9, 0.02) for _ in range(400)]
    low, high = bootstrap_interval(values)
    summary = summarize(values)
    assert high - low == pytest.approx(summary.high - summary.low, rel=0.05)
    assert (low + high) / 2 == pytest.approx(summary.mean, abs=0.1 * (high - low))


def test_the_bootstrap_interval_leans_to_the_side_of_the_long_tail():
    values = [0.90, 0.90, 0.91, 0.91, 0.92, 0.92, 0.93, 0.99]
    low, high = bootstrap_interval(values)
    mean = sum(values) / 8
    assert high - mean > 1.3 * (mean - low)
    assert min(values) < low < mean < high < max(values)
    assert bootstrap_interval([value + 1 for value in values]) == pytest.approx((low + 1, high + 1), abs=1e-12)


def test_the_bootstrap_interval_is_the_same_each_time_and_needs_three_values():
    values = [0.8, 0.9, 0.85, 0.7]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values[:2]) is None
    assert bootstrap_interval([0.9, 0.9, 0.9]) == (0.9, 0.9)
    assert bootstrap_interval([0.9758, 0.9758, 0.9758 + 1.2e-16]) == pytest.approx((0.9758, 0.9758))


BEST = {0: 0.90, 1: 0.92, 2: 0.91, 3: 0.93}


@pytest.mark.parametrize(
    ("shifts", "verdict"),
    [
        ((0.0, 0.0, 0.0, 0.0), NOT_DISTINGUISHABLE),
        ((0.01, -0.01, 0.02, -0.02), NOT_DISTINGUISHABLE),
        ((-0.05, -0.06, -0.05, -0.04), WORSE),
        ((0.05, 0.06, 0.05, 0.04), BETTER),
    ],
)
def test_verdicts_equal_below_and_above(shifts, verdict):
    ours = {seed: BEST[seed] + shift for seed, shift in zip(BEST, shifts, strict=True)}
    opposite = {BETTER: WORSE, WORSE: BETTER}.get(verdict, verdict)
    assert paired_difference(ours, BEST).verdict == verdict
    assert paired_difference(BEST, ours).verdict == opposite
    assert paired_difference(ours, BEST, larger_is_better=False).verdict == opposite


@pytest.mark.parametrize("case", range(6))
def test_the_difference_is_the_paired_t_test(case):
    draw = random.Random(case)
    best = {seed: draw.gauss(0.9, 0.02) for seed in range(5)}
    ours = {seed: value + draw.gauss(-0.004 * case, 0.005) for seed, value in best.items()}
    found = paired_difference(ours, best)
    test = scipy.stats.ttest_rel([ours[seed] for seed in best], [best[seed] for seed in best])
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.p == found.adjusted == pytest.approx(test.pvalue, rel=1e-9)
    assert (found.verdict == NOT_DISTINGUISHABLE) == (test.pvalue >= 0.05)
    assert found.sd == pytest.approx(scipy.stats.tstd([ours[seed] - best[seed] for seed in best]), rel=1e-9)


def test_a_difference_computed_by_hand():
    """Differences 3, 1, 2, 2 of 100: mean 2, sd sqrt(2/3), t = 2 sqrt(6), p in closed form for df 3."""
    ours, other = {0: 0.93, 1: 0.91, 2: 0.92, 3: 0.92}, dict.fromkeys(range(4), 0.90)
    found = paired_difference(ours, other)
    sd, t = math.sqrt(2 / 3), 2 * math.sqrt(6)
    angle = math.atan(t / math.sqrt(3))
    assert (found.n, found.mean, found.sd) == (4, pytest.approx(0.02), pytest.approx(sd / 100))
    assert found.p == pytest.approx(1 - 2 / math.pi * (angle + math.sin(angle) * math.cos(angle)), rel=1e-9)
    # Hedges' factor with 3 degrees of freedom: Gamma(1.5) / (sqrt(1.5) Gamma(1)) = sqrt(pi / 6)
    assert found.effect == pytest.approx(2 / sd * math.sqrt(math.pi / 6), rel=1e-9)
    assert (found.won, found.wilcoxon, found.verdict, found.more_seeds) == (1.0, None, BETTER, None)


def test_pairing_sees_what_the_spread_of_seeds_hides():
    best = {0: 0.70, 1: 0.80, 2: 0.90}
    ours = {0: 0.689, 1: 0.790, 2: 0.891}
    assert scipy.stats.ttest_ind(list(ours.values()), list(best.values())).pvalue > 0.9
    assert paired_difference(ours, best).verdict == WORSE


def test_only_shared_seeds_count():
    found = paired_difference({0: 0.5, 1: 0.5, 7: 0.0}, {0: 0.7, 1: 0.7, 8: 1.0})
    assert (found.n, found.verdict, found.p, found.more_seeds) == (2, TOO_FEW_SEEDS, None, None)
    assert found.mean == pytest.approx(-0.2)
    nothing = paired_difference({7: 0.0}, {8: 1.0})
    assert (nothing.n, nothing.mean, nothing.won, nothing.verdict) == (0, None, None, TOO_FEW_SEEDS)


def test_two_seeds_have_an_interval_and_no_verdict():
    found = paired_difference({0: 0.5, 1: 0.6}, {0: 0.4, 1: 0.3})
    # mean 0.2, sd 0.1 sqrt(2), t(0.975, 1) = 12.706205
    assert (found.low, found.high) == pytest.approx((0.2 - 12.706205 * 0.1, 0.2 + 12.706205 * 0.1), abs=1e-6)
    assert (found.verdict, found.adjusted, found.effect) == (TOO_FEW_SEEDS, None, None)


def test_one_seed_says_nothing():
    found = paired_difference({0: 0.9, 1: 0.8}, {0: 0.1})
    assert (found.n, found.mean, found.won, found.verdict) == (1, pytest.approx(0.8), 1.0, ONE_SEED)
    assert (found.sd, found.low, found.p, found.adjusted, found.effect, found.more_seeds) == (None,) * 6
    assert "nothing can be said" in found.verdict


@pytest.mark.parametrize("n", range(3, 9))
@pytest.mark.parametrize("side", [-1, 1])
def test_equal_differences_are_judged_by_the_sign_test(n, side):
    best = {seed: 0.9 + seed / 997 for seed in range(n)}  # the differences are equal up to rounding only
    ours = {seed: value + side * 0.01 for seed, value in best.items()}
    found = paired_difference(ours, best)
    significant = scipy.stats.binomtest(n, n).pvalue < 0.05
    assert found.p == scipy.stats.binomtest(n, n).pvalue
    assert found.verdict == ((BETTER if side > 0 else WORSE) if significant else NOT_DISTINGUISHABLE)
    assert (found.low, found.high, found.effect, found.sign_test) == (None, None, None, True)
    assert found.more_seeds == (None if significant else 6)  # fresh ones: a sign test of its own


def test_no_difference_in_any_seed_is_not_distinguishable():
    best = {seed: 0.9 for seed in range(10)}
    found = paired_difference(best, best)
    assert (found.verdict, found.p, found.won, found.more_seeds) == (NOT_DISTINGUISHABLE, 1.0, 0.5, None)
    assert not paired_difference(best | {0: 0.8}, best).sign_test


def test_a_tie_is_half_a_win():
    other = dict.fromkeys(range(4), 0.5)
    ours = {0: 0.6, 1: 0.6, 2: 0.5, 3: 0.4}
    assert paired_difference(ours, other).won == 2.5 / 4
    assert paired_difference(ours, other, larger_is_better=False).won == 1.5 / 4


def test_folds_widen_the_interval_as_published() -> None:
    """Nadeau & Bengio 2003: the variance of the mean is sd^2 (1/n + test/train), by hand for five folds."""
    differences = [0.01, 0.02, 0.03, 0.02, 0.02]
    ours = {fold: 0.5 + difference for fold, difference in enumerate(differences)}
    found = paired_difference(ours, dict.fromkeys(range(5), 0.5), overlap=1 / 4)
    error = scipy.stats.tstd(differences) * math.sqrt(1 / 5 + 1 / 4)
    half = scipy.stats.t.ppf(0.975, 4) * error
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(0.02 / error, 4), rel=1e-9)
    assert found.verdict == BETTER
    assert paired_difference(ours, dict.fromkeys(range(5), 0.51), overlap=1 / 4).verdict == NOT_DISTINGUISHABLE
    assert paired_difference(ours, dict.fromkeys(range(5), 0.51)).verdict == BETTER


def test_equal_differences_of_ten_folds_show_nothing_and_of_ten_seeds_something():
    ours, other = dict.fromkeys(range(10), 0.501), dict.fromkeys(range(10), 0.5)
    folds, seeds = paired_difference(ours, other, overlap=1 / 9), paired_difference(ours, other)
    assert (folds.p, folds.verdict, folds.more_seeds) == (1.0, NOT_DISTINGUISHABLE, None)
    assert (seeds.p, seeds.verdict) == (2 * 0.5**10, BETTER)


def test_holm_on_a_published_example():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") gives 0.03 0.06 0.06 0.02
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9, None]) == [1.0, None, 1.0, None]
    assert holm([]) == []


@pytest.mark.parametrize("n", [6, 7, 20, 50])
def test_the_signed_rank_test_is_scipys(n):
    draw = random.Random(n)
    values = [draw.gauss(0.3, 1) for _ in range(n)]
    assert signed_rank(values) == pytest.approx(scipy.stats.wilcoxon(values, method="exact").pvalue, rel=1e-12)


def test_the_signed_rank_test_of_many_values_is_the_normal_approximation():
    values = [((17 * i) % 23 - 9) / 10 for i in range(80)]
    kept = [round(10 * value) for value in values if value]
    assert len(kept) > 50
    expected = scipy.stats.wilcoxon(kept, method="asymptotic").pvalue
    assert signed_rank(values, rounding=1e-6) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("values", [[1, 1, 2, 3, -4, 5], [1, 1, 1, 1, 1, -1, 2, 2, 0], [-2, -2, -2, -2, -2, -2, -5]])
def test_the_signed_rank_test_with_ties_counts_all_sign_patterns(values):
    kept = [value for value in values if value]
    ranks = scipy.stats.rankdata([abs(value) for value in kept])
    middle = ranks.sum() / 2
    observed = abs(sum(rank for rank, value in zip(ranks, kept, strict=True) if value > 0) - middle)
    patterns = itertools.product([0, 1], repeat=len(kept))
    extreme = [abs(sum(r * s for r, s in zip(ranks, signs, strict=True)) - middle) >= observed for signs in patterns]
    assert signed_rank(values) == pytest.approx(sum(extreme) / 2 ** len(kept), rel=1e-12)


def test_ties_up_to_rounding_share_a_rank():
    exact = [k / 360 for k in (1, 1, 2, 2, 3, -1, 4)]
    noise = [value + 3e-9 * (-1) ** i for i, value in enumerate(exact)]
    assert signed_rank(noise, 1e-6) == signed_rank([1, 1, 2, 2, 3, -1, 4])
    assert signed_rank([*noise[:5], 1e-8, -1e-8], 1e-6) is None  # five are left


def test_equal_sizes_share_a_rank_on_both_sides_of_any_edge():
    images = [3, -1, 3, 2, 3, 1, 3, 2]
    for shift in (step * 2e-8 for step in range(-20, 21)):  # what single precision does to differences of accuracies
        moves = [shift if place % 2 else -shift for place in range(len(images))]
        values = [math.copysign(abs(count) / 360 + move, count) for count, move in zip(images, moves, strict=True)]
        assert signed_rank(values, 1e-6) == signed_rank(images)


@pytest.mark.parametrize("n", [3, 5, 30])
def test_hedges_factor_takes_the_bias_away(n):
    """The mean of a noncentral t variable with effect delta sqrt(n) is delta sqrt(n) / factor."""
    assert scipy.stats.nct.mean(n - 1, 0.7 * math.sqrt(n)) * hedges(n) / math.sqrt(n) == pytest.approx(0.7, rel=1e-9)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_power_has_the_sample_sizes_of_the_textbooks(effect, n):
    """Cohen's small, medium and large effect: seeds of a paired t test at 5 %, two-sided, with 80 % power."""
    assert detection_power(effect, n) >= 0.8 > detection_power(effect, n - 1)


@pytest.mark.parametrize("effect", [0.1, 1.0, -3.0, 30.0, 1e4])
@pytest.mark.parametrize("n", [3, 5, 40, 1003])
@pytest.mark.parametrize("level", [0.05, 1e-3, 1e-8])
def test_power_is_that_of_the_noncentral_t(effect, n, level):
    """Against the definition (Z + shift) / sqrt(V / df), integrated over V."""
    critical = scipy.stats.t.isf(level / 2, n - 1)
    shift = abs(effect) * math.sqrt(n)
    shares = [(i + 0.5) / 4000 for i in range(4000)]
    scale = scipy.stats.chi2.ppf(shares, n - 1) ** 0.5 / math.sqrt(n - 1)
    expected = scipy.stats.norm.sf(critical * scale - shift).mean()
    assert detection_power(effect, n, level) == pytest.approx(expected, abs=2e-3)


def test_fresh_seeds_are_the_first_with_enough_power_on_their_own():
    """Differences 1, 0, 2, -1 of 100: mean 0.5, sd sqrt(5/3), Hedges' factor sqrt(pi / 6); a family of one at 5 %."""
    other = dict.fromkeys(range(4), 0.5)
    ours = {0: 0.51, 1: 0.50, 2: 0.52, 3: 0.49}
    effect = 0.5 / math.sqrt(5 / 3) * math.sqrt(math.pi / 6)
    for adjust in (None, lambda p: 1.0):  # how many other comparisons there were does not matter
        found = paired_difference(ours, other, adjust=adjust)
        n = found.more_seeds
        powers = [scipy.stats.nct.sf(scipy.stats.t.isf(0.025, k - 1), k - 1, effect * math.sqrt(k)) for k in (n - 1, n)]
        assert powers[0] < POWER <= powers[1]
        assert found.effect == pytest.approx(effect)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (-0.5, 34), (0.8, 15)])
def test_fresh_seeds_are_those_of_the_textbooks(effect, n):
    assert fresh_seeds(effect) == n


def test_three_fresh_seeds_are_the_least():
    """Even where two would do: three are what a verdict takes."""
    assert detection_power(1000.0, 2) > POWER
    assert fresh_seeds(1000.0) == 3
    ours = {0: 0.90, 1: 0.9101, 2: 0.92}
    found = paired_difference(ours, dict.fromkeys(range(3), 0.5), adjust=lambda p: 1.0)
    assert (found.verdict, found.more_seeds) == (NOT_DISTINGUISHABLE, 3)


def test_no_number_of_fresh_seeds_where_it_would_say_nothing():
    other = dict.fromkeys(range(4), 0.5)
    tiny = {0: 0.51, 1: 0.49, 2: 0.511, 3: 0.4901}
    assert detection_power(0.00027 / 0.0115, MAX_SEEDS) < POWER
    assert paired_difference(tiny, other).more_seeds is None
    zero = {0: 0.51, 1: 0.49, 2: 0.51, 3: 0.49}
    assert paired_difference(zero, other).more_seeds is None


def test_overlapping_folds_may_never_show_a_small_difference():
    """The variance of the mean does not go below sd^2 * overlap, so the power has a ceiling."""
    ours, other = {0: 0.51, 1: 0.50, 2: 0.52, 3: 0.49}, dict.fromkeys(range(4), 0.5)
    assert paired_difference(ours, other).more_seeds is not None
    assert paired_difference(ours, other, overlap=1 / 4).more_seeds is None
    assert detection_power(0.387, 10**6, overlap=1 / 4) < POWER

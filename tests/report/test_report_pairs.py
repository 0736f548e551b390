from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest
import scipy.stats

from resweep.report.pairs import Pairs
from resweep.report.stats import BETTER, NOT_DISTINGUISHABLE, TOO_FEW_SEEDS, WORSE, holm, paired_difference


def family(case: int) -> list[dict[int, float]]:
    """Settings on two levels, with missing seeds, a setting without results and two that differ by a constant."""
    draw = random.Random(case)
    seeds = [draw.gauss(0, 0.02) for _ in range(8)]
    settings = [
        {
            seed: 0.8 + 0.03 * (index % 2) + shift + draw.gauss(0, 0.01)
            for seed, shift in enumerate(seeds)
            if draw.random() < 0.8
        }
        for index in range(9)
    ]
    settings[4] = {}
    settings[5] = dict(list(settings[5].items())[:1])
    settings[7] = {seed: value + 0.02 for seed, value in settings[6].items()}
    return settings


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_every_pair_has_holms_value_over_all_pairs(case, overlap):
    """The vectorized family against single comparisons, corrected by the plain form of Holm."""
    settings = family(case)
    pairs = Pairs(settings, overlap=overlap)
    both = list(itertools.combinations(range(len(settings)), 2))
    alone = [paired_difference(settings[i], settings[j], overlap=overlap) for i, j in both]
    adjusted = holm([difference.p for difference in alone])
    assert pairs.count == sum(difference.p is not None for difference in alone)
    claimed = 0
    for (i, j), single, expected in zip(both, alone, adjusted, strict=True):
        found = pairs.difference(i, j)
        assert found.adjusted == (None if expected is None else pytest.approx(expected, rel=1e-7))
        assert (found.n, found.mean, found.low, found.p) == (single.n, single.mean, single.low, single.p)
        claimed += found.verdict in (BETTER, WORSE)
        assert (found.verdict in (BETTER, WORSE)) == (expected is not None and expected < 0.05)
    assert pairs.claimed == claimed


def test_the_family_rests_on_scipys_p_values():
    draw = random.Random(7)
    settings = [[0.9 + 0.003 * index + draw.gauss(0, 0.002) for _ in range(5)] for index in range(7)]
    both = list(itertools.combinations(range(7), 2))
    expected = holm([float(scipy.stats.ttest_rel(settings[i], settings[j]).pvalue) for i, j in both])
    pairs = Pairs([dict(enumerate(values)) for values in settings])
    assert [pairs.difference(i, j).adjusted for i, j in both] == pytest.approx(expected, rel=1e-7)
    assert pairs.claimed == sum(p < 0.05 for p in expected) and 0 < pairs.claimed < 21


@pytest.mark.parametrize("step", [0.0, 3e-4, 0.01])
@pytest.mark.parametrize("settings", [40, 50])
def test_large_p_values_are_corrected_without_being_kept(settings, step):
    """780 and 1,225 pairs: below and above the thousand that are kept; none, some and most of them real."""
    draw = random.Random(settings)
    values = [{seed: 0.5 + step * index + draw.gauss(0, 0.002) for seed in range(6)} for index in range(settings)]
    both = list(itertools.combinations(range(settings), 2))
    expected = holm([paired_difference(values[i], values[j]).p for i, j in both])
    pairs = Pairs(values)
    assert [pairs.difference(i, j).adjusted for i, j in both] == pytest.approx(expected, rel=1e-7)
    assert pairs.claimed == sum(p < 0.05 for p in expected)
    assert (pairs.claimed > 0) == (step > 0)


def test_a_difference_seen_from_both_sides():
    settings = family(2)
    pairs = Pairs(settings)
    there, back = pairs.difference(0, 1), pairs.difference(1, 0)
    assert there.mean == pytest.approx(-back.mean) and there.effect == pytest.approx(-back.effect)
    assert there.won == pytest.approx(1 - back.won)
    assert (there.p, there.adjusted) == pytest.approx((back.p, back.adjusted))
    with pytest.raises(ValueError, match="itself"):
        pairs.difference(3, 3)


def test_three_settings_by_hand():
    """t = 5 and df = 2 have p = 1 - 5 / sqrt(27); the three p values are multiplied by 3, 2 and 1."""
    a, b, c = {0: 357, 1: 357, 2: 356}, {0: 356, 1: 355, 2: 354}, {0: 350, 1: 340, 2: 356}
    pairs = Pairs([a, b, c])
    p = 1 - 5 / 27**0.5  # differences 1, 2, 2: mean 5/3, sd sqrt(1/3)
    found = pairs.difference(1, 0)
    assert found.p == pytest.approx(p)
    assert (pairs.count, found.adjusted) == (3, pytest.approx(3 * p))
    assert (found.verdict, paired_difference(b, a).verdict) == (NOT_DISTINGUISHABLE, WORSE)


def test_fresh_seeds_do_not_depend_on_the_family():
    """They are compared in a new sweep of two settings, so the correction of this one does not matter."""
    settings = family(3)
    pairs = Pairs(settings)
    undecided = 0
    for i, j in itertools.combinations(range(len(settings)), 2):
        alone, among = paired_difference(settings[i], settings[j]), pairs.difference(i, j)
        if alone.verdict == among.verdict == NOT_DISTINGUISHABLE:
            assert among.more_seeds == alone.more_seeds
            undecided += among.more_seeds is not None
    assert undecided > 3


def test_settings_that_share_too_few_seeds_do_not_dilute_the_family():
    few = [{0: 0.1, 1: 0.2}, {0: 0.2}, {}, {7: 0.3, 8: 0.3, 9: 0.3}]
    a, b = {0: 0.90, 1: 0.91, 2: 0.92}, {0: 0.80, 1: 0.82, 2: 0.81}
    pairs = Pairs([a, b, *few])
    assert pairs.count == 1
    assert pairs.difference(0, 1).adjusted == pytest.approx(pairs.difference(0, 1).p)
    assert pairs.difference(0, 5).verdict == TOO_FEW_SEEDS
    assert (Pairs([]).count, Pairs([{}, {}]).count, Pairs(few).count) == (0, 0, 0)


def test_a_thousand_seeds_that_no_two_settings_share():
    pairs = Pairs([{1000 * index + seed: 0.5 for seed in range(3)} for index in range(300)])
    assert pairs.count == 0
    assert pairs.difference(0, 1).verdict == TOO_FEW_SEEDS


def test_a_loss_is_better_when_smaller():
    a, b = {0: 0.10, 1: 0.11, 2: 0.12}, {0: 0.20, 1: 0.22, 2: 0.21}
    assert Pairs([a, b], larger_is_better=False).difference(0, 1).verdict == BETTER
    assert Pairs([a, b]).difference(0, 1).verdict == WORSE


def test_large_sweeps_fit_into_memory():
    """10,000 runs: 3,333 settings with three seeds are 5.6 million pairs."""
    draw = random.Random(0)
    settings = [{seed: draw.gauss(0.9, 0.01) for seed in range(3)} for _ in range(3333)]
    tracemalloc.start()
    try:
        pairs = Pairs(settings)
        assert pairs.count == 3333 * 3332 // 2
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert pairs.claimed == 0  # they are all draws of one distribution


def test_values_of_any_size_have_the_same_p_values():
    settings = family(1)
    expected = Pairs(settings).difference(0, 1).adjusted
    for scale in (1e-200, 1e200):
        scaled = [{seed: scale * value for seed, value in values.items()} for values in settings]
        assert Pairs(scaled).difference(0, 1).adjusted == pytest.approx(expected, rel=1e-6)
    assert Pairs([dict.fromkeys(range(4), 0.0)] * 2).difference(0, 1).p == 1.0

"""Verdicts on simulated sweeps whose truth is planted, a thousand for each case, ranked as `resweep compare` does."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from types import ModuleType

import pytest
import scipy.special
import scipy.stats

from resweep.report.stats import paired_difference
from resweep.report.table import ranking

SWEEPS = 1000
SETTINGS, SEEDS = 6, 5
PAIRS = SETTINGS * (SETTINGS - 1) // 2
LIMIT = scipy.stats.binom.ppf(0.999, SWEEPS, 0.05) / SWEEPS  # 5 % and what chance adds to it


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, from which the simulation is taken."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("verdicts")


def power(effect: float, n: int, level: float) -> float:
    """Share of paired t tests that show a true difference on its own side, by scipy's noncentral t distribution."""
    return float(scipy.stats.nct.sf(scipy.stats.t.isf(level / 2, n - 1), n - 1, effect * n**0.5))


@pytest.mark.parametrize("planted", [0.0, 1.0, 3.0])
def test_two_settings_are_told_apart_as_often_as_the_t_test_promises(verdicts: ModuleType, planted: float) -> None:
    """A sweep of two settings is one comparison, so the rates are known exactly."""
    found = verdicts.rates([planted, 0.0], SEEDS, SWEEPS, start=1)
    if planted == 0:
        assert scipy.stats.binomtest(round(found.false * SWEEPS), SWEEPS, 0.05).pvalue > 0.001
        assert found.found is None
    else:
        expected = power(planted, SEEDS, 0.05)
        assert scipy.stats.binomtest(round(found.found * SWEEPS), SWEEPS, expected).pvalue > 0.001
        assert found.false < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("planted", [0.0, 1.0, 3.0])
def test_of_many_settings_no_false_claim_is_made_in_95_of_100_sweeps(verdicts: ModuleType, planted: float) -> None:
    """One setting is ahead of five equal ones; a claim about any of the 15 pairs may be false in 5 % of the sweeps."""
    found = verdicts.rates([planted] + [0.0] * (SETTINGS - 1), SEEDS, SWEEPS, start=2)
    assert found.false <= LIMIT
    assert found.false_about_best <= LIMIT  # the pair is picked after validation has been looked at
    assert found.uncorrected > 0.25  # what the correction is for
    if planted:
        # Holm's correction finds at least what Bonferroni's does and at most what a single test does. The five planted
        # pairs of a sweep share a setting, so the margin is that of one pair a sweep.
        low, high = power(planted, SEEDS, 0.05 / PAIRS), power(planted, SEEDS, 0.05)
        assert found.found >= low - 3 * (low * (1 - low) / SWEEPS) ** 0.5
        assert found.found <= high + 3 * (high * (1 - high) / SWEEPS) ** 0.5


def test_one_seed_never_says_anything(verdicts: ModuleType) -> None:
    table = ranking(verdicts.simulate([9.0, 0.0, 0.0], 1, random.Random(0)))
    assert {row.difference.verdict for row in table.rows[1:]} == {"one seed: nothing can be said"}


@pytest.mark.slow
def test_fresh_seeds_find_what_is_not_there_in_5_of_100_sweeps(verdicts: ModuleType) -> None:
    """Two equal settings: the sweep with the proposed seeds is a test of its own, whatever the first one looked like.

    Testing again with all seeds gives chance a second go: with the first test, 5 % become nearly 10 %.
    """
    found = verdicts.follow_up(0.0, SEEDS, SWEEPS, start=3)
    proposals = round(found.proposed * SWEEPS)
    assert proposals > 500
    assert scipy.stats.binomtest(round(found.fresh * proposals), proposals, 0.05).pvalue > 0.001
    assert found.fresh <= scipy.stats.binom.ppf(0.999, proposals, 0.05) / proposals
    assert scipy.stats.binomtest(round(found.either * SWEEPS), SWEEPS, 0.05, alternative="greater").pvalue < 0.001


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.5, 1.0])
def test_fresh_seeds_show_the_difference_that_was_observed(verdicts: ModuleType, effect: float) -> None:
    """A first sweep whose effect is exactly the planted one; its proposal must show it in at least 80 % of sweeps."""
    seeds = 7
    spread = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]  # sd sqrt(28 / 6); Hedges' factor with 6 degrees of freedom
    factor = scipy.special.gamma(3) / (3**0.5 * scipy.special.gamma(2.5))
    middle = effect / factor * (28 / 6) ** 0.5
    observed = paired_difference(
        {seed: 0.5 + (middle + step) / 1000 for seed, step in enumerate(spread)},
        dict.fromkeys(range(seeds), 0.5),
        adjust=lambda p: 1.0,  # one of very many comparisons
    )
    assert observed.effect == pytest.approx(effect)
    expected = power(effect, observed.more_seeds, 0.05)
    assert expected >= 0.8 > power(effect, observed.more_seeds - 1, 0.05)
    found = verdicts.rates([effect, 0.0], observed.more_seeds, SWEEPS, start=4)
    assert scipy.stats.binomtest(round(found.found * SWEEPS), SWEEPS, expected).pvalue > 0.001


@pytest.mark.slow
def test_a_planted_difference_is_found_in_the_end(verdicts: ModuleType) -> None:
    """From a noisy first sweep on: more than 80 %, as the sweeps that are followed up looked too weak, not too good."""
    found = verdicts.follow_up(1.0, SEEDS, SWEEPS, start=5)
    assert found.proposed > 0.4 and found.fresh > 0.9

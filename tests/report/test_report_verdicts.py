"""Verdicts on simulated sweeps whose truth is planted, a thousand for each case, ranked as `resweep compare` does."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from types import ModuleType

import pytest
import scipy.stats

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

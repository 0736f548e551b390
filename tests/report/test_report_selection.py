from __future__ import annotations

import itertools
import math

import numpy
import pytest
from scipy import stats

from resweep.report.budget import first_chances
from resweep.report.load import load_sweep
from resweep.report.selection import axis_results, budget_curves, sensitivity
from resweep.report.table import ranking

SHIFTS = (-0.01, 0.0, 0.01)
"""Added to the validation mean of a setting for its three seeds."""


def ranked(sweep):
    return ranking(load_sweep(sweep.finish()))


def add(sweep, swept, val, tests=(0.5, 0.5, 0.5)):
    """Add a setting with three seeds around a validation mean."""
    for seed, shift in enumerate(SHIFTS):
        sweep.run(swept, seed, val + shift, tests[seed])


def add_broken(sweep, swept, status="failed"):
    for seed in range(3):
        sweep.run(swept, seed, status=status)


@pytest.fixture
def tuned(plant):
    """Two optimizers, of which the better setting on validation is the worse one on test in both cases."""
    sweep = plant()
    add(sweep, {"optimizer": "sgd", "lr": 0.1}, 0.90, (0.80, 0.83, 0.81))
    add(sweep, {"optimizer": "sgd", "lr": 0.01}, 0.80, (0.95, 0.97, 0.96))
    add(sweep, {"optimizer": "adam", "lr": 0.1}, 0.70, (0.60, 0.64, 0.61))
    add(sweep, {"optimizer": "adam", "lr": 0.01}, 0.85, (0.50, 0.54, 0.53))
    add_broken(sweep, {"optimizer": "adam", "lr": 1.0}, "diverged")
    return ranked(sweep)


def holm(p_values):
    """Holm 1979, written down step by step."""
    adjusted, largest = {}, 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = largest
    return [adjusted[number] for number in range(len(p_values))]


def test_the_setting_of_each_value_is_chosen_on_validation_and_shown_on_test(tuned):
    optimizer, lr = axis_results(tuned)
    assert (optimizer.key, optimizer.name) == ("optimizer", "optimizer")
    sgd, adam = optimizer.choices
    assert (sgd.value, sgd.text, sgd.row.values["lr"], adam.row.values["lr"]) == ("sgd", "sgd", 0.1, 0.01)
    assert (sgd.row.val.mean, sgd.row.test.mean) == pytest.approx((0.90, (0.80 + 0.83 + 0.81) / 3))
    assert (adam.row.val.mean, adam.row.test.mean) == pytest.approx((0.85, (0.50 + 0.54 + 0.53) / 3))
    assert [(choice.text, choice.row and choice.row.values["optimizer"]) for choice in lr.choices] == [
        ("0.1", "sgd"),
        ("0.01", "adam"),
        ("1", None),
    ]


def test_settings_tried_and_runs_done_are_counted(tuned):
    optimizer, lr = axis_results(tuned)
    assert [(choice.text, choice.settings, choice.runs) for choice in optimizer.choices] == [
        ("sgd", 2, 6),
        ("adam", 3, 9),
    ]
    assert [(choice.text, choice.settings, choice.runs) for choice in lr.choices] == [
        ("0.1", 2, 6),
        ("0.01", 2, 6),
        ("1", 1, 3),
    ]
    assert (optimizer.tuned, optimizer.even) == (True, False)


def test_a_pair_of_choices_has_the_verdict_of_the_whole_family(tuned):
    """The p value is scipy's, the correction Holm's over the six pairs of the four settings with results."""
    tests = {  # in ranking order, so that sgd 0.1 against adam 0.01 is the first pair
        "sgd 0.1": (0.80, 0.83, 0.81),
        "adam 0.01": (0.50, 0.54, 0.53),
        "sgd 0.01": (0.95, 0.97, 0.96),
        "adam 0.1": (0.60, 0.64, 0.61),
    }
    p_values = [stats.ttest_rel(a, b).pvalue for a, b in itertools.combinations(tests.values(), 2)]
    [(first, second, difference)] = axis_results(tuned)[0].pairs
    assert (first, second) == (0, 1)
    assert difference.mean == pytest.approx(0.2900)
    assert difference.p == pytest.approx(p_values[0])
    assert difference.adjusted == pytest.approx(holm(p_values)[0])
    assert difference.adjusted > 3 * difference.p
    assert difference.verdict == "better"


def test_the_verdict_of_a_pair_is_that_of_its_first_choice(plant):
    sweep = plant()
    add(sweep, {"model": "a"}, 0.9, (0.50, 0.51, 0.53))
    add(sweep, {"model": "b"}, 0.8, (0.90, 0.92, 0.93))
    [(first, second, difference)] = axis_results(ranked(sweep))[0].pairs
    assert (first, second, difference.verdict) == (0, 1, "worse")
    assert difference.mean == pytest.approx((0.50 + 0.51 + 0.53 - 0.90 - 0.92 - 0.93) / 3)


def test_a_setting_with_failed_runs_is_not_chosen_while_there_is_another(plant):
    sweep = plant()
    add(sweep, {"optimizer": "sgd", "lr": 1}, 0.6)
    sweep.run({"optimizer": "sgd", "lr": 2}, 0, 0.9, 0.9)
    sweep.run({"optimizer": "sgd", "lr": 2}, 1, status="diverged")
    sweep.run({"optimizer": "adam", "lr": 1}, 0, 0.8, 0.8)
    sweep.run({"optimizer": "adam", "lr": 1}, 1, status="failed")
    sgd, adam = axis_results(ranked(sweep))[0].choices
    assert (sgd.text, sgd.row.values["lr"], sgd.row.broken, sgd.settings, sgd.runs) == ("sgd", 1, False, 2, 5)
    assert (adam.text, adam.row.broken, adam.settings, adam.runs) == ("adam", True, 1, 2)


def test_a_setting_still_to_run_was_not_tried(plant):
    sweep = plant()
    add(sweep, {"optimizer": "sgd", "lr": 1}, 0.6)
    for lr, status in enumerate(("running", "pending", "interrupted"), 2):
        sweep.run({"optimizer": "sgd", "lr": lr}, 0, status=status)
    for lr, status in enumerate(("failed", "lost", "pruned", "diverged"), 5):
        sweep.run({"optimizer": "adam", "lr": lr}, 0, status=status)
    table = ranked(sweep)
    sgd, adam = axis_results(table)[0].choices
    assert (sgd.text, sgd.settings, sgd.runs) == ("sgd", 1, 3)
    assert (adam.text, adam.row, adam.settings, adam.runs) == ("adam", None, 4, 4)
    assert axis_results(table)[0].pairs == []


def test_nothing_is_chosen_where_nothing_completed(plant):
    sweep = plant()
    add_broken(sweep, {"optimizer": "sgd"})
    add_broken(sweep, {"optimizer": "adam"})
    table = ranked(sweep)
    assert [(choice.text, choice.row) for choice in axis_results(table)[0].choices] == [("sgd", None), ("adam", None)]
    assert (budget_curves(table), budget_curves(table, "optimizer"), sensitivity(table)) == ([], [], [])


def test_an_absent_key_and_a_list_are_values_too(plant):
    sweep = plant()
    add(sweep, {"optimizer": "sgd", "momentum": 0.9, "betas": None}, 0.9)
    add(sweep, {"optimizer": "adam", "betas": [0.9, 0.99]}, 0.8)
    results = {result.key: result for result in axis_results(ranked(sweep))}
    assert [(choice.value, choice.text) for choice in results["momentum"].choices] == [(0.9, "0.9"), (None, "-")]
    assert [choice.text for choice in results["betas"].choices] == ["-", "[0.9, 0.99]"]
    assert (results["optimizer"].tuned, results["optimizer"].even) == (False, True)


def test_of_many_values_the_pairs_of_the_first_are_listed(plant):
    sweep = plant()
    for number in range(23):
        for seed in range(3):
            sweep.run({"lr": number}, seed, number / 100, (number * 7 % 23 + seed * number % 5) / 100)
    result = axis_results(ranked(sweep))[0]
    assert [choice.value for choice in result.choices] == list(range(22, -1, -1))
    assert [(first, second) for first, second, _ in result.pairs] == list(itertools.combinations(range(20), 2))


POOL = {1: (0.61, 0.5), 2: (0.93, 0.4), 3: (0.72, 0.9), 4: None, 5: (0.85, 0.7), 6: None, 7: (0.64, 0.2)}
"""Validation and test mean by learning rate; None for a failed setting."""


def searches(budget, pick):
    """Validation and test of what each search of a budget ends with, those without a result left out."""
    chosen = []
    for subset in itertools.combinations(POOL.values(), budget):
        if any(subset):
            chosen.append(pick(result for result in subset if result))
    return numpy.array(chosen)


@pytest.mark.parametrize("monitor, mode, pick", [("val/accuracy", "max", max), ("val/loss", "min", min)])
def test_a_budget_curve_equals_all_searches_counted_one_by_one(plant, monitor, mode, pick):
    sweep = plant(base={"monitor": monitor, "monitor_mode": mode})
    for lr, result in POOL.items():
        fields = (
            {"status": "failed"} if result is None else {"metrics": {monitor: result[0], "test/accuracy": result[1]}}
        )
        sweep.run({"lr": lr}, 0, **fields)
    [curve] = budget_curves(ranked(sweep))
    assert (curve.text, curve.budgets, curve.settings, curve.failed) == ("all", [1, 2, 3, 4, 5, 6, 7], 7, 2)
    for place, budget in enumerate(curve.budgets):
        val, test = searches(budget, pick).T
        assert curve.expected[place] == pytest.approx(val.mean())
        assert curve.test[place] == pytest.approx(test.mean())
        assert curve.low[place] == pytest.approx(numpy.quantile(val, 0.025, method="inverted_cdf"))
        assert curve.high[place] == pytest.approx(numpy.quantile(val, 0.975, method="inverted_cdf"))
        assert curve.found[place] == pytest.approx(len(val) / math.comb(7, budget))


@pytest.mark.parametrize(
    ("results", "settings", "first"),
    # With one result k of N searches have it, k / N; with 2 of 4 settings k = 2 misses both in 1 of 6, k = 3 never.
    [(1, 9, 9), (1, 10, 9), (2, 4, 3), (9, 10, 1), (8, 10, 2), (5, 5, 1)],
)
def test_a_budget_curve_begins_where_nine_of_ten_searches_have_a_result(plant, results, settings, first):
    sweep = plant()
    for lr in range(settings):
        result = {"val": 0.5 + 0.01 * lr, "test": 0.5} if lr < results else {"status": "diverged"}
        sweep.run({"lr": lr}, 0, **result)
    [curve] = budget_curves(ranked(sweep))
    assert curve.budgets[curve.begins] == first
    missed = [math.comb(settings - results, k) / math.comb(settings, k) for k in curve.budgets]
    assert [share <= 0.1 + 1e-9 for share in missed] == [k >= first for k in curve.budgets]


@pytest.mark.parametrize("settings", [1, 2, 5, 20, 3333])
def test_the_best_of_k_numbers_is_expected_where_the_formula_says(settings):
    """Of the numbers 1..N the largest of k drawn without replacement has the mean k (N + 1) / (k + 1)."""
    budgets = sorted({1, min(2, settings), settings // 2 + 1, settings})
    chances = first_chances(settings, budgets)
    assert chances.sum(axis=1) == pytest.approx(numpy.ones(len(budgets)))
    numbers = numpy.arange(settings, 0, -1)
    wanted = [k * (settings + 1) / (k + 1) for k in budgets]
    assert chances @ numbers == pytest.approx(numpy.array(wanted), rel=1e-12)
    assert chances[-1, 0] == 1.0


def test_a_budget_curve_is_what_shuffling_the_trials_approaches(plant):
    """The procedure of Sivaprasad et al. 2020: shuffle, take the best of the first k, average."""
    generator = numpy.random.default_rng(0)
    values = generator.normal(0.5, 0.1, 12).round(4)
    sweep = plant()
    for lr, value in enumerate(values.tolist()):
        sweep.run({"lr": lr}, 0, value, 0.5)
    [curve] = budget_curves(ranked(sweep))
    best = numpy.maximum.accumulate(generator.permuted(numpy.tile(values, (4000, 1)), axis=1), axis=1)
    error = best.std(axis=0) / math.sqrt(4000)
    assert (numpy.abs(best.mean(axis=0) - curve.expected) <= 4 * error + 1e-12).all()
    assert curve.test == pytest.approx([0.5] * 12)


def test_what_wins_untuned_and_what_wins_after_tuning(plant):
    """adam is good with any learning rate, sgd is better with one of four."""
    sweep = plant()
    for lr, (adam, sgd) in enumerate([(0.80, 0.2), (0.81, 0.3), (0.82, 0.9), (0.83, 0.4)]):
        add(sweep, {"optimizer": "adam", "lr": lr}, adam)
        add(sweep, {"optimizer": "sgd", "lr": lr}, sgd)
    sgd, adam = budget_curves(ranked(sweep), "optimizer")
    assert (sgd.text, adam.text, sgd.budgets, adam.found) == ("sgd", "adam", [1, 2, 3, 4], [1.0] * 4)
    assert sgd.expected == pytest.approx([0.45, (3 * 0.9 + 2 * 0.4 + 0.3) / 6, (3 * 0.9 + 0.4) / 4, 0.9])
    assert adam.expected == pytest.approx([0.815, (3 * 0.83 + 2 * 0.82 + 0.81) / 6, (3 * 0.83 + 0.82) / 4, 0.83])
    assert [a > b for a, b in zip(adam.expected, sgd.expected, strict=True)] == [True, True, True, False]
    assert (sgd.low[0], sgd.high[0]) == pytest.approx((0.2, 0.9))
    assert sgd.low[-1] == sgd.high[-1] == pytest.approx(0.9)


def test_the_band_ends_at_the_value_whose_share_is_exactly_met(plant):
    """Of 40 settings the smallest has a share of exactly 2.5 % and the 39th exactly completes 97.5 %."""
    sweep = plant()
    for lr in range(40):
        sweep.run({"lr": lr}, 0, (lr + 1) / 100, 0.5)
    [curve] = budget_curves(ranked(sweep))
    assert (curve.low[0], curve.high[0]) == (0.01, 0.39)


def test_settings_still_to_run_are_no_part_of_a_budget(plant):
    sweep = plant()
    add(sweep, {"lr": 1}, 0.6)
    add(sweep, {"lr": 2}, 0.8)
    for lr, status in enumerate(("running", "pending", "interrupted"), 3):
        sweep.run({"lr": lr}, 0, status=status)
    [curve] = budget_curves(ranked(sweep))
    assert (curve.settings, curve.failed, curve.budgets, curve.found) == (2, 0, [1, 2], [1.0, 1.0])
    assert curve.expected == pytest.approx([0.7, 0.8])


def test_a_budget_needs_settings_to_choose_from(plant):
    sweep = plant()
    add(sweep, {"optimizer": "adam"}, 0.8)
    add(sweep, {"optimizer": "sgd"}, 0.9)
    table = ranked(sweep)
    assert budget_curves(table, "optimizer") == []
    assert [curve.expected for curve in budget_curves(table)] == [pytest.approx([0.85, 0.9])]
    with pytest.raises(ValueError, match=r"key must be one of \['optimizer'\], got 'lr'"):
        budget_curves(table, "lr")


def test_a_budget_curve_without_a_test_metric_has_no_test(plant):
    sweep = plant()
    for lr in range(3):
        sweep.run({"lr": lr}, 0, 0.5 + lr / 10, None)
    [curve] = budget_curves(ranked(sweep))
    assert curve.test is None
    assert curve.expected[-1] == pytest.approx(0.7)


def test_the_budgets_of_many_settings_are_thinned_out(plant):
    sweep = plant()
    for lr in range(120):
        sweep.run({"lr": lr}, 0, lr / 120, 0.5)
    [curve] = budget_curves(ranked(sweep))
    assert curve.settings == 120
    assert len(curve.budgets) <= 50
    assert curve.budgets[:4] == [1, 2, 3, 4]
    assert curve.budgets[-1] == 120
    assert curve.budgets == sorted(set(curve.budgets))
    wanted = [(k * 121 / (k + 1) - 1) / 120 for k in curve.budgets]
    assert curve.expected == pytest.approx(wanted)


@pytest.fixture
def grid(plant):
    """Three learning rates, two optimizers and two decays; the best in the middle, a neighbour of it failed."""
    sweep = plant()
    vals = {"sgd": {0.01: 0.80, 0.1: 0.90, 1.0: None}, "adam": {0.01: 0.84, 0.1: 0.82, 1.0: 0.70}}
    for (optimizer, by_lr), decay in itertools.product(vals.items(), (0, 5e-4)):
        for lr, val in by_lr.items():
            swept = {"optimizer": optimizer, "lr": lr, "decay": decay}
            if val is None:
                add_broken(sweep, swept)
            else:
                tests = [val + (1 + seed) * (0.01 if optimizer == "sgd" else 0.02) for seed in range(3)]
                add(sweep, swept, val - (0.03 if decay else 0), tests)
    return ranked(sweep)


def test_neighbours_differ_from_the_best_in_one_key(grid):
    assert grid.best.values == {"optimizer": "sgd", "lr": 0.1, "decay": 0}
    found = sensitivity(grid)
    assert [(near.key, near.text, near.steps) for near in found] == [
        ("optimizer", "adam", None),
        ("lr", "0.01", -1),
        ("lr", "1", 1),
        ("decay", "0.0005", 1),
    ]
    assert [near.loss for near in found] == [pytest.approx(0.08), pytest.approx(0.10), None, pytest.approx(0.03)]
    assert found[2].row.not_completed == {"failed": 3}
    assert found[2].difference is None


def test_a_neighbour_is_compared_with_the_best(grid):
    adam = sensitivity(grid)[0]
    ours, best = (0.84, 0.86, 0.88), (0.91, 0.92, 0.93)
    assert adam.difference.mean == pytest.approx(-0.06)
    assert adam.difference.p == pytest.approx(stats.ttest_rel(ours, best).pvalue)


def test_the_loss_of_a_neighbour_is_positive_when_a_loss_is_monitored(plant):
    sweep = plant(base={"monitor": "val/loss", "monitor_mode": "min"})
    for lr, loss in ((1, 0.5), (2, 0.2), (3, 0.3)):
        sweep.run({"lr": lr}, 0, metrics={"val/loss": loss, "test/accuracy": 0.5})
    found = sensitivity(ranked(sweep))
    assert [(near.text, near.loss, near.steps) for near in found] == [
        ("1", pytest.approx(0.3), -1),
        ("3", pytest.approx(0.1), 1),
    ]


def test_a_better_mean_of_the_survivors_is_a_negative_loss(plant):
    sweep = plant()
    add(sweep, {"lr": 1}, 0.6)
    sweep.run({"lr": 2}, 0, 0.9, 0.9)
    sweep.run({"lr": 2}, 1, status="diverged")
    [near] = sensitivity(ranked(sweep))
    assert (near.text, near.loss, near.row.broken) == ("2", pytest.approx(-0.3), True)


def test_a_random_search_has_no_neighbours(plant):
    sweep = plant()
    for number in range(4):
        sweep.run({"lr": 0.1 + number, "decay": 0.2 + number}, 0, 0.5 + number / 10, 0.5)
    assert sensitivity(ranked(sweep)) == []


def test_neighbours_on_an_axis_of_words_stand_in_ranking_order(plant):
    sweep = plant()
    for name, val in (("10", 0.7), ("9", 0.6), ("none", 0.8), ("all", 0.9)):
        add(sweep, {"layers": name}, val)
    found = sensitivity(ranked(sweep))
    assert [(near.text, near.steps) for near in found] == [("none", None), ("10", None), ("9", None)]


def test_a_number_kept_as_text_is_a_number_and_an_absent_one_comes_first(plant):
    sweep = plant()
    for value, val in (("10", 0.7), ("9", 0.9), (None, 0.6), ("1e-3", 0.8)):
        add(sweep, {"clip": value}, val)
    found = sensitivity(ranked(sweep))
    assert [(near.text, near.steps) for near in found] == [("-", None), ("1e-3", -1), ("10", 1)]

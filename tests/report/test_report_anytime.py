from __future__ import annotations

import math

import numpy
import pytest

from resweep.report.anytime import anytime_profile, performance_profile, time_to_target
from resweep.report.load import load_sweep
from resweep.report.table import ranking


def ranked(sweep):
    return ranking(load_sweep(sweep.finish()))


def write(folder, epochs, metric="val/accuracy"):
    """Write ``metrics.csv`` from (epoch, value, seconds); None for an empty field."""
    lines = [f"epoch,{metric},seconds"]
    lines += [",".join("" if cell is None else str(cell) for cell in epoch) for epoch in epochs]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def add(sweep, swept, seed, values, seconds=1.0, **fields):
    """Add a run whose epochs have these values and take this long each."""
    fields = {"val": values and max(value for value in values if value is not None), "test": 0.5} | fields
    folder = sweep.run(swept, seed, **fields)
    write(folder, [(epoch, value, seconds) for epoch, value in enumerate(values, 1)])
    return folder


@pytest.fixture
def raced(plant):
    """Three optimizers and three seeds; a target of 0.8 is reached after the seconds in the comments."""
    sweep = plant()
    add(sweep, {"optimizer": "sgd"}, 0, [0.2, 0.5, 0.7, 0.9], 1.0)  # 4
    add(sweep, {"optimizer": "sgd"}, 1, [0.2, 0.8, 0.7, 0.9], 1.0)  # 2, and worse again afterwards
    add(sweep, {"optimizer": "sgd"}, 2, [0.2, 0.5, 0.8, 0.95], 1.0)  # 3
    add(sweep, {"optimizer": "adam"}, 0, [0.8, 0.81], 2.0)  # 2
    add(sweep, {"optimizer": "adam"}, 1, [0.5, 0.85], 2.0)  # 4
    add(sweep, {"optimizer": "adam"}, 2, [0.5, 0.7], 2.0)  # never
    add(sweep, {"optimizer": "rmsprop"}, 0, [0.8, 0.8], 1.5)  # 1.5
    add(sweep, {"optimizer": "rmsprop"}, 1, [0.9, 0.1], 1.5, status="diverged")  # never, as it diverged
    add(sweep, {"optimizer": "rmsprop"}, 2, [0.1, 0.2], 1.5)  # never
    return ranked(sweep)


def by_name(table, entries):
    return {entry.row.values["optimizer"]: entry for entry in entries}


def test_the_first_epoch_and_the_seconds_at_which_a_target_is_reached(raced):
    times = time_to_target(raced, 0.8)
    assert (times.metric, times.mode, times.target, times.given) == ("val/accuracy", "max", 0.8, True)
    found = by_name(raced, times.settings)
    assert [(run.epoch, run.seconds) for run in found["sgd"].runs] == [(4, 4.0), (2, 2.0), (3, 3.0)]
    assert [(run.epoch, run.seconds) for run in found["adam"].runs] == [(1, 2.0), (2, 4.0), (None, None)]
    assert [(run.epoch, run.seconds) for run in found["rmsprop"].runs] == [(1, 1.5), (None, None), (None, None)]
    assert [run.best for run in found["rmsprop"].runs] == [0.8, 0.9, 0.2]


def test_runs_that_never_get_there_are_counted(raced):
    times = time_to_target(raced, 0.8)
    found = by_name(raced, times.settings)
    assert [(found[name].reached, found[name].never) for name in ("sgd", "adam", "rmsprop")] == [(3, 0), (2, 1), (1, 2)]
    assert (times.reached, times.runs) == (6, 9)


def test_never_is_later_than_any_time_in_the_median(raced):
    found = by_name(raced, time_to_target(raced, 0.8).settings)
    assert (found["sgd"].epochs, found["sgd"].seconds) == (3.0, 3.0)
    assert (found["adam"].epochs, found["adam"].seconds) == (2.0, 4.0)  # of 2 s, 4 s and never
    assert (found["rmsprop"].epochs, found["rmsprop"].seconds) == (None, None)  # of 1.5 s, never and never


def test_half_of_the_runs_are_not_enough_for_a_median(plant):
    sweep = plant()
    add(sweep, {"optimizer": "sgd"}, 0, [0.9])
    add(sweep, {"optimizer": "sgd"}, 1, [0.2])
    [setting] = time_to_target(ranked(sweep), 0.5).settings
    assert (setting.reached, setting.never, setting.epochs) == (1, 1, None)


@pytest.mark.parametrize("runs, wanted", [(1, 1), (2, 2), (3, 3), (4, 3), (8, 6), (10, 8)])
def test_three_quarters_of_the_completed_runs_reach_the_default_target(plant, runs, wanted):
    sweep = plant()
    for seed in range(runs):
        add(sweep, {}, seed, [0.1, 0.5 + (seed * 7 % runs) / 100])
    times = time_to_target(ranked(sweep))
    assert times.given is False
    assert (times.reached, times.runs) == (wanted, runs)
    assert times.target == pytest.approx(0.5 + (runs - wanted) / 100)


def test_hopeless_settings_do_not_lower_the_default_target(plant):
    sweep = plant()
    for rate, value in ((0.1, 0.9), (0.01, 0.8), (1, 0.2), (10, 0.1)):
        for seed in range(2):
            add(sweep, {"optimizer.lr": rate}, seed, [0.1, value + seed / 100])
    times = time_to_target(ranked(sweep))
    assert (times.target, times.reached, times.runs) == (0.81, 3, 8)  # of 0.91, 0.90, 0.81 and 0.80 the third


def test_runs_that_broke_do_not_set_the_default_target(plant):
    sweep = plant()
    for seed, status in enumerate(["completed"] * 4 + ["diverged", "failed", "lost", "pruned"]):
        add(sweep, {}, seed, [0.1, 0.5 if status == "completed" else 0.01], status=status)
    times = time_to_target(ranked(sweep))
    assert (times.target, times.reached, times.runs) == (0.5, 4, 8)


def test_a_target_of_a_loss_is_reached_from_above(plant):
    sweep = plant(base={"monitor": "val/loss", "monitor_mode": "min"})
    for seed, losses in enumerate(([0.9, 0.4, 0.6], [0.8, 0.7, 0.5], [0.9, 0.8, 0.7], [3.0, 2.0, 1.0])):
        write(
            sweep.run({}, seed, metrics={"val/loss": min(losses)}),
            [(e, v, 2) for e, v in enumerate(losses, 1)],
            "val/loss",
        )
    table = ranked(sweep)
    times = time_to_target(table)
    assert times.target == 0.7
    assert [run.epoch for run in times.settings[0].runs] == [2, 2, 3, None]
    assert [run.best for run in times.settings[0].runs] == [0.4, 0.5, 0.7, 1.0]
    [curve] = anytime_profile(table)
    assert curve.mean == pytest.approx([1.4, (0.4 + 0.7 + 0.8 + 2.0) / 4, (0.4 + 0.5 + 0.7 + 1.0) / 4])


def test_single_precision_reaches_a_round_target(plant):
    sweep = plant()
    add(sweep, {}, 0, [float(numpy.float32(0.9)), 0.95])
    assert float(numpy.float32(0.9)) < 0.9
    assert time_to_target(ranked(sweep), 0.9).settings[0].runs[0].epoch == 1
    assert time_to_target(ranked(sweep), 0.90001).settings[0].runs[0].epoch == 2


def test_pruned_runs_have_times_and_runs_under_way_do_not(plant):
    sweep = plant()
    add(sweep, {}, 0, [0.5, 0.9])
    add(sweep, {}, 1, [0.9], status="pruned")
    add(sweep, {}, 2, [0.3], status="pruned")
    for seed, status in enumerate(("running", "pending", "interrupted"), 3):
        add(sweep, {}, seed, [0.9], status=status)
    [setting] = time_to_target(ranked(sweep), 0.9).settings
    assert [(run.run.seed, run.epoch) for run in setting.runs] == [(0, 2), (1, 1), (2, None)]


def test_epochs_and_values_that_are_missing(plant):
    sweep = plant()
    write(sweep.run({}, 0, 0.9, 0.5), [(1, None, 1.0), (2, 0.8, 1.0), (3, 0.9, 1.0)])  # undefined at first
    write(sweep.run({}, 1, 0.9, 0.5), [(1, 0.8, 1.0), (3, 0.9, 1.0)])  # epoch 2 is lost, and so is its time
    write(sweep.run({}, 2, 0.9, 0.5), [(1, 0.2, 1.0), (2, 0.9, None)])
    sweep.run({}, 3, 0.9, 0.5)  # no file
    write(sweep.run({}, 4, 0.9, 0.5), [(1, None, 1.0), (2, None, 1.0)])
    table = ranked(sweep)
    [setting] = time_to_target(table, 0.9).settings
    assert [(run.epoch, run.seconds) for run in setting.runs] == [(3, 3.0), (3, None), (2, None)]
    assert (setting.unknown, setting.never, setting.epochs, setting.seconds) == (2, 0, 3.0, 3.0)
    profile = performance_profile(table, 0.9)
    assert (profile.problems, profile.left_out, profile.curves[0].runs) == (1, 4, 1)
    assert performance_profile(table, 0.9, by="epochs").left_out == 2
    [curve] = anytime_profile(table)
    assert (curve.seconds, curve.mean) == ([2.0, 3.0], pytest.approx([(0.8 + 0.8 + 0.2) / 3, (0.9 + 0.8 + 0.2) / 3]))
    assert (curve.n, curve.left_out) == (3, 2)


def test_without_curves_there_is_nothing_to_say(plant):
    sweep = plant()
    sweep.run({}, 0, 0.9, 0.5)
    add(sweep, {}, 1, [0.5], status="failed")
    table = ranked(sweep)
    assert (time_to_target(table), performance_profile(table), anytime_profile(table)) == (None, None, [])


def test_another_monitored_metric_than_the_files_have(plant):
    sweep = plant(base={"monitor": "val/map", "monitor_mode": "max"})
    write(sweep.run({}, 0, metrics={"val/map": 0.9}), [(1, 0.9, 1.0)])
    assert time_to_target(ranked(sweep)) is None


@pytest.mark.parametrize("target", [math.nan, math.inf])
def test_a_target_must_be_a_number(raced, target):
    with pytest.raises(ValueError, match="target must be finite"):
        time_to_target(raced, target)
    with pytest.raises(ValueError, match=r"by must be \"seconds\" or \"epochs\", got 'steps'"):
        performance_profile(raced, by="steps")


def test_a_performance_profile_computed_by_hand(raced):
    """Fastest in seconds: seed 0 rmsprop with 1.5, seed 1 sgd with 2, seed 2 sgd with 3."""
    profile = performance_profile(raced, 0.8)
    assert (profile.metric, profile.by, profile.target) == ("val/accuracy", "seconds", 0.8)
    assert (profile.problems, profile.unsolved, profile.left_out) == (3, 0, 0)
    found = by_name(raced, profile.curves)
    assert (found["sgd"].ratios, found["sgd"].shares) == ([1.0, pytest.approx(4 / 1.5)], pytest.approx([2 / 3, 1.0]))
    assert found["adam"].ratios == pytest.approx([1.0, 2 / 1.5, 4 / 2])
    assert found["adam"].shares == pytest.approx([0.0, 1 / 3, 2 / 3])
    assert (found["rmsprop"].ratios, found["rmsprop"].shares) == ([1.0], pytest.approx([1 / 3]))
    assert [curve.runs for curve in profile.curves] == [3, 3, 3]


def test_a_profile_in_epochs_does_not_know_how_long_they_took(raced):
    found = by_name(raced, performance_profile(raced, 0.8, by="epochs").curves)  # fastest: 1, 2 and 3 epochs
    assert (found["sgd"].ratios, found["sgd"].shares) == ([1.0, 4.0], pytest.approx([2 / 3, 1.0]))
    assert (found["adam"].ratios, found["adam"].shares) == ([1.0], pytest.approx([2 / 3]))
    assert (found["rmsprop"].ratios, found["rmsprop"].shares) == ([1.0], pytest.approx([1 / 3]))


def test_a_seed_that_nobody_solves_counts_against_everybody(raced):
    profile = performance_profile(raced, 0.93)  # sgd with seed 2 alone
    assert (profile.problems, profile.unsolved) == (3, 2)
    found = by_name(raced, profile.curves)
    assert (found["sgd"].ratios, found["sgd"].shares) == ([1.0], pytest.approx([1 / 3]))
    assert (found["adam"].ratios, found["adam"].shares) == ([1.0], [0.0])


def test_a_share_is_that_of_the_seeds_a_setting_has_runs_of(plant):
    sweep = plant()
    for seed in range(4):
        add(sweep, {"optimizer": "sgd"}, seed, [0.9], 1.0)
    add(sweep, {"optimizer": "adam"}, 0, [0.8, 0.9], 1.0)
    add(sweep, {"optimizer": "adam"}, 1, [0.9], 1.0)
    add(sweep, {"optimizer": "adam"}, 2, [0.9], 1.0, status="running")
    found = by_name(None, performance_profile(ranked(sweep), 0.9).curves)
    assert (found["adam"].runs, found["adam"].ratios, found["adam"].shares) == (2, [1.0, 2.0], [0.5, 1.0])


def test_the_share_at_one_adds_up_over_settings_and_ends_at_the_share_that_arrived(plant):
    """Without ties one setting is the fastest on each solved seed; a profile's last share is that of the solved."""
    generator = numpy.random.default_rng(3)
    sweep = plant()
    for name in ("a", "b", "c"):
        for seed in range(12):
            add(sweep, {"optimizer": name}, seed, generator.random(6).round(6).tolist(), float(1 + generator.random()))
    table = ranked(sweep)
    profile, times = performance_profile(table, 0.8), time_to_target(table, 0.8)
    assert sum(curve.shares[0] * 12 for curve in profile.curves) == pytest.approx(12 - profile.unsolved)
    for curve, setting in zip(profile.curves, times.settings, strict=True):
        assert curve.shares[-1] == pytest.approx(setting.reached / 12)
        assert curve.ratios == sorted(set(curve.ratios))
        assert curve.shares[1:] == sorted(set(curve.shares[1:]))


def test_folds_of_a_seed_are_problems_of_their_own(plant):
    sweep = plant()
    for fold, (sgd, adam) in enumerate([(1.0, 2.0), (4.0, 2.0)]):
        add(sweep, {"optimizer": "sgd", "data.fold": fold}, 0, [0.9], sgd)
        add(sweep, {"optimizer": "adam", "data.fold": fold}, 0, [0.9], adam)
    profile = performance_profile(ranked(sweep), 0.9)
    assert profile.problems == 2
    assert [(curve.ratios, curve.shares) for curve in profile.curves] == [([1.0, 2.0], [0.5, 1.0])] * 2


def test_an_anytime_curve_computed_by_hand(plant):
    """Best so far by second: 0.3 from 1 s, 0.6 from 2 s (0.5 is worse); 0.4 from 1.5 s, 0.8 from 3 s."""
    sweep = plant()
    add(sweep, {}, 0, [0.3, 0.6, 0.5], 1.0)
    add(sweep, {}, 1, [0.4, 0.8], 1.5)
    [curve] = anytime_profile(ranked(sweep))
    assert curve.seconds == [1.5, 2.0, 3.0]  # from 1.5 s on both have a value
    assert curve.mean == pytest.approx([0.35, 0.5, 0.7])
    assert (curve.low, curve.high) == ([0.3, 0.4, 0.6], [0.4, 0.6, 0.8])
    assert (curve.n, curve.left_out) == (2, 0)


def test_a_run_that_ends_early_keeps_its_best(plant):
    sweep = plant()
    add(sweep, {}, 0, [0.7], 1.0)
    add(sweep, {}, 1, [0.1, 0.1, 0.2, 0.2], 1.0)
    [curve] = anytime_profile(ranked(sweep))
    assert curve.seconds == [1.0, 3.0, 4.0]  # nothing changes at 2 s, and the runs end at 4 s
    assert curve.mean == pytest.approx([0.4, 0.45, 0.45])


def test_only_completed_runs_are_in_an_anytime_curve(raced):
    found = by_name(raced, anytime_profile(raced))
    assert (found["sgd"].n, found["adam"].n, found["rmsprop"].n) == (3, 3, 2)
    assert found["rmsprop"].mean == pytest.approx([(0.8 + 0.1) / 2, (0.8 + 0.2) / 2])


def test_a_long_curve_is_thinned_out_and_keeps_its_ends(plant):
    sweep = plant()
    values = [epoch / 1000 for epoch in range(1, 901)]
    add(sweep, {}, 0, values, 0.5)
    [curve] = anytime_profile(ranked(sweep))
    assert len(curve.seconds) == 200
    assert (curve.seconds[0], curve.seconds[-1]) == (0.5, 450.0)
    assert curve.mean == pytest.approx([second * 2 / 1000 for second in curve.seconds])


def test_seconds_that_were_not_measured_are_not_known(plant):
    sweep = plant()
    for name, seconds in (("sgd", 0.0), ("adam", 2.0), ("rmsprop", -1.0)):
        add(sweep, {"optimizer": name}, 0, [0.5, 0.9], seconds)
    table = ranked(sweep)
    found = by_name(table, time_to_target(table, 0.9).settings)
    assert {name: (setting.epochs, setting.seconds) for name, setting in found.items()} == {
        "sgd": (2.0, None), "adam": (2.0, 4.0), "rmsprop": (2.0, None),
    }  # fmt: skip
    profile = performance_profile(table, 0.9)
    assert [(curve.row.values["optimizer"], curve.shares) for curve in profile.curves] == [("adam", [1.0])]
    assert profile.left_out == 2
    assert [curve.row.values["optimizer"] for curve in anytime_profile(table)] == ["adam"]


def test_a_pruned_run_counts_with_its_time_or_as_never_but_sets_no_target(plant):
    sweep = plant()
    add(sweep, {}, 0, [0.5, 0.8])
    add(sweep, {}, 1, [0.9], status="pruned")
    add(sweep, {}, 2, [0.3], status="pruned")
    times = time_to_target(ranked(sweep))
    assert times.target == 0.8  # with the pruned runs it would be that of the third of three: 0.3
    assert [run.epoch for run in times.settings[0].runs] == [2, 1, None]
    assert (times.runs, times.reached, times.settings[0].epochs) == (3, 2, 2.0)

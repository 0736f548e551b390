from __future__ import annotations

import csv
import itertools
import math
import os
import time
from pathlib import Path

import pytest
import scipy.stats

from resweep.record import write_atomic
from resweep.report.load import RunRecord, Sweep, load_sweep
from resweep.report.results import results_rows, run_command, sweep_command, write_results_csv
from resweep.report.table import ranking


def test_the_figures_are_those_computed_by_hand(known):
    best, second, last = ranking(load_sweep(known)).rows
    assert best.values == {"optimizer": "sgd"}
    assert (best.val.n, best.best, best.difference) == (3, True, None)
    assert (best.val.mean, best.val.sd) == pytest.approx((0.92, 0.02))
    assert (best.test.mean, best.test.smallest, best.test.largest) == pytest.approx((0.82, 0.80, 0.84))
    assert best.fit_seconds == 14.0  # the middle one of 13, 14, 15
    assert second.values == {"optimizer": "adam"}
    assert (second.val.n, second.val.mean) == (2, pytest.approx(0.81))
    assert second.not_completed == {"diverged": 1}
    assert (second.difference.n, second.difference.verdict) == (2, "too few seeds")
    assert second.difference.mean == pytest.approx(0.10)
    assert (last.val.n, last.difference, last.not_completed) == (0, None, {"failed": 1})


def test_validation_ranks_and_test_does_not(known):
    table = ranking(load_sweep(known))
    assert (table.monitor, table.shown) == ("val/accuracy", "test/accuracy")
    assert table.rows[1].test.mean > table.rows[0].test.mean
    assert table.best is table.rows[0]


def test_a_monitored_loss_ranks_the_smallest_first(plant):
    sweep = plant(base={"monitor": "val/loss", "monitor_mode": "min"})
    for name, loss in (("big", 0.9), ("small", 0.1), ("middle", 0.5)):
        sweep.run({"model": name}, 0, metrics={"val/loss": loss, "val/accuracy": loss, "test/accuracy": 0.5})
    table = ranking(load_sweep(sweep.finish()))
    assert [row.values["model"] for row in table.rows] == ["small", "middle", "big"]
    assert table.shown == "test/accuracy"


def test_equal_means_are_ordered_by_the_lower_validation_loss(plant):
    """Then by the plan; means that are equal but for the order of additions count as equal."""
    losses = {"high": 0.5, "none": None, "low": 0.1, "again": 0.10000000001, "worse": 0.01}
    sweep = plant()
    for place, (name, loss) in enumerate(losses.items()):
        for seed in range(3):
            val = (1 + (seed + place) % 3) / 10 / 0.9 * (1 + 1e-12 * place) - (0.01 if name == "worse" else 0)
            metrics = {"val/accuracy": val, "test/accuracy": 0.5} | ({} if loss is None else {"val/loss": loss + seed})
            sweep.run({"model": name}, seed, metrics=metrics)
    sweep.run({"model": "low"}, 3, status="pending", metrics={"val/loss": 99.0})  # no result: does not count
    table = ranking(load_sweep(sweep.finish()))
    assert [row.values["model"] for row in table.rows] == ["low", "again", "high", "none", "worse"]
    assert [row.loss for row in table.rows] == pytest.approx([1.1, 1.1, 1.5, math.inf, 1.01])
    assert len({row.val.mean for row in table.rows[:4]}) > 1


def test_a_setting_is_all_broken_when_no_run_came_through(plant):
    sweep = plant()
    states_of = {"a": ("failed", "diverged"), "b": ("diverged", "pending"), "c": ("failed", "completed")}
    for model, states in states_of.items():
        for seed, status in enumerate(states):
            sweep.run({"model": model}, seed, 0.5, 0.5, status=status)
    found = {row.values["model"]: row.all_broken for row in ranking(load_sweep(sweep.finish())).rows}
    assert found == {"a": True, "b": False, "c": False}


def test_only_columns_that_differ(plant):
    sweep = plant()
    for lr in (0.1, 0.01):
        for seed in (0, 1):
            sweep.run({"data": "digits", "optimizer.lr": lr, "model.dropout": 0}, seed, 0.5, 0.5)
    table = ranking(load_sweep(sweep.finish()))
    assert table.names == {"optimizer.lr": "lr"}
    assert [(row.values, len(row.completed)) for row in table.rows] == [
        ({"optimizer.lr": 0.1}, 2),
        ({"optimizer.lr": 0.01}, 2),
    ]


def test_names_that_end_alike_stay_whole(plant):
    sweep = plant()
    for number in (1, 2):
        sweep.run({"model.name": f"m{number}", "data.name": f"d{number}", "optimizer.lr": number}, 0, 0.5, 0.5)
    assert list(ranking(load_sweep(sweep.finish())).names.values()) == ["model.name", "data.name", "lr"]


def test_only_seeds_make_one_row(plant):
    sweep = plant()
    for seed, value in enumerate((0.5, 0.6, 0.7)):
        sweep.run({}, seed, value, value)
    table = ranking(load_sweep(sweep.finish()))
    assert len(table.rows) == 1
    assert table.rows[0].val.mean == pytest.approx(0.6)


def test_metrics_that_are_null_or_zero(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, 0.5, None)
    sweep.run({"optimizer": "sgd"}, 1, None, 0.25)
    sweep.run({"optimizer": "adam"}, 0, 0.0, 0.0)
    best, zero = ranking(load_sweep(sweep.finish())).rows
    assert (len(best.completed), best.val.n, best.val.mean, best.test.n, best.test.mean) == (2, 1, 0.5, 1, 0.25)
    assert (zero.val.n, zero.val.mean) == (1, 0.0)


def test_nothing_completed_is_said(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, status="failed")
    sweep.run({"optimizer": "adam"}, 0, 0.9, 0.9, status="running")
    table = ranking(load_sweep(sweep.finish()))
    assert table.best is None
    assert [row.val.n for row in table.rows] == [0, 0]


def test_results_have_every_run_once(known):
    sweep = load_sweep(known)
    rows = results_rows(sweep)
    assert [row["status"] for row in rows] == ["completed", "completed", "diverged", *["completed"] * 3, "failed"]
    assert rows[2]["error"] == "NonFiniteLoss: loss became NaN"
    assert (rows[0]["seed"], rows[0]["optimizer"], rows[0]["val/accuracy"]) == (0, "adam", 0.8)
    with write_results_csv(sweep, known / "results.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["id"] for row in read] == [run.id for run in sweep.runs]
    assert [row["test/accuracy"] for row in read] == ["0.9", "0.92", "0.1", "0.8", "0.82", "0.84", ""]
    assert read[0]["seed"] == "0"
    assert list(read[0])[:5] == ["id", "folder", "status", "optimizer", "seed"]


def test_a_damaged_run_is_a_row(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    (sweep.run({"optimizer": "sgd"}, 1) / "run.json").write_text("{")
    rows = results_rows(load_sweep(sweep.finish()))
    assert [(row["folder"], row["status"]) for row in rows] == [("run-000", "completed"), ("run-001", "unreadable")]
    assert rows[0].keys() == rows[1].keys()


def test_the_commands_are_quoted_and_complete(known):
    sweep = load_sweep(known)
    assert run_command(sweep, sweep.runs[0]) == "resweep train 'model.name=my net' optimizer=adam seed=0"
    assert sweep_command(sweep).endswith("optimizer=adam,sgd,rmsprop seed=0,1,2 'model.name=my net'")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "a.csv"
    write_atomic(target, "old\n")

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(target, "new\n")
    assert target.read_text() == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_repeats_of_a_config_are_one_seed(plant):
    sweep = plant()
    for day, value in (("02", 0.7), ("03", 0.9), ("01", 0.8)):
        when = f"2026-01-{day}T00:00:00+00:00"
        sweep.run({}, 0, value, value, config_digest="same", finished_at=when)
    loaded = load_sweep(sweep.finish())
    table = ranking(loaded)
    assert (table.rows[0].val.n, table.rows[0].val.mean, table.repeats) == (1, 0.9, 2)
    assert len(results_rows(loaded)) == 3


def test_the_folds_of_a_cross_validation_repeat_a_setting(plant):
    sweep = plant(base={"monitor": "val/accuracy", "data.num_folds": 3})
    for optimizer, tests in {"sgd": [0.90, 0.80, 0.70], "adam": [0.88, 0.79, 0.66]}.items():
        for fold, test in enumerate(tests):
            sweep.run({"optimizer": optimizer, "data.fold": fold}, 0, test, test)
    table = ranking(load_sweep(sweep.finish()))
    assert table.unit == "fold" and list(table.names) == ["optimizer"]
    best, other = table.rows
    assert (best.values, best.val.n, best.test.mean) == ({"optimizer": "sgd"}, 3, pytest.approx(0.80))
    # differences -0.02, -0.01, -0.04; t(0.975, 2) = 4.3027; variance of the mean sd^2 (1/3 + 1/2)
    half = 4.302653 * 0.0152753 * (1 / 3 + 1 / 2) ** 0.5
    assert other.difference.n == 3 and other.difference.mean == pytest.approx(-0.07 / 3)
    assert other.difference.high == pytest.approx(-0.07 / 3 + half, rel=1e-5)


def test_the_overlap_of_folds_is_that_of_the_images_trained_on(plant):
    """With a validation split carved out, less than (k - 1) of k parts is trained on."""
    sweep = plant(base={"monitor": "val/accuracy", "data.num_folds": 3})
    for optimizer, tests in {"sgd": [0.90, 0.80, 0.70], "adam": [0.88, 0.79, 0.66]}.items():
        for fold, test in enumerate(tests):
            sizes = {"train": 50, "val": 50, "test": 50}
            sweep.run({"optimizer": optimizer, "data.fold": fold}, 0, test, test, split_sizes=sizes)
    _, other = ranking(load_sweep(sweep.finish())).rows
    half = 4.302653 * 0.0152753 * (1 / 3 + 1) ** 0.5
    assert other.difference.high == pytest.approx(-0.07 / 3 + half, rel=1e-5)


def test_every_row_knows_its_place(known):
    table = ranking(load_sweep(known))
    assert [row.index for row in table.rows] == [0, 1, 2]
    assert [row.difference for row in table.rows] == [table.difference(row, table.best) for row in table.rows]
    best, second, failed = table.rows
    assert table.difference(second, best).mean == pytest.approx(0.10)
    assert table.difference(best, second).mean == pytest.approx(-0.10)
    assert table.difference(best, best) is table.difference(best, failed) is table.difference(failed, best) is None


@pytest.mark.parametrize(
    ("monitor", "mode", "compared", "larger"),
    [
        ("val/accuracy", "max", "test/accuracy", True),
        ("val/loss", "min", "test/accuracy", True),
        ("val/error", "min", "test/error", False),
        ("val/f1", "max", "test/f1", True),
        ("val/loss", "min", "val/loss", False),
    ],
)
def test_the_verdict_knows_the_direction_of_the_metric(plant, monitor, mode, compared, larger):
    """Ours is 0.01, 0.02, 0.02 below the best on validation: t = 5 sqrt(3) / sqrt(3) = 5, p = 1 - 5 / sqrt(27)."""
    sweep = plant(base={"monitor": monitor, "monitor_mode": mode})
    values = {"first": (0.50, 0.60, 0.70), "second": (0.49, 0.58, 0.68)}
    order = 1 if mode == "max" else -1
    for name, results in values.items():
        for seed, value in enumerate(results):
            shown = {compared: value} if compared != monitor else {}
            val = {monitor: value if compared == monitor else order * (name == "first")}
            sweep.run({"model": name}, seed, metrics=val | shown)
    table = ranking(load_sweep(sweep.finish()))
    first, second = sorted(table.rows, key=lambda row: row.values["model"])
    assert (table.compared, table.larger_is_better) == (compared, larger)
    found = table.difference(second, first)
    assert (found.p, found.verdict) == (pytest.approx(1 - 5 / 27**0.5), "worse" if larger else "better")
    assert table.difference(first, second).verdict == ("better" if larger else "worse")


# Correct answers of the demo's 36 runs: of 216 validation and 360 test images, for the seeds 0, 1 and 2.
DEMO = {
    ("sgd", 0, 0): ((210, 347), (210, 355), (214, 349)),
    ("sgd", 0, 0.0005): ((210, 353), (210, 351), (214, 354)),
    ("sgd", 0.3, 0): ((209, 356), (208, 354), (210, 356)),
    ("sgd", 0.3, 0.0005): ((211, 356), (208, 351), (211, 351)),
    ("adam", 0, 0): ((211, 355), (209, 350), (211, 354)),
    ("adam", 0, 0.0005): ((208, 356), (208, 354), (211, 353)),
    ("adam", 0.3, 0): ((211, 355), (209, 355), (212, 354)),
    ("adam", 0.3, 0.0005): ((211, 355), (211, 353), (209, 355)),
    ("rmsprop", 0, 0): ((210, 355), (210, 357), (213, 354)),
    ("rmsprop", 0, 0.0005): ((210, 357), (212, 358), (212, 356)),
    ("rmsprop", 0.3, 0): ((210, 355), (212, 356), (213, 354)),
    ("rmsprop", 0.3, 0.0005): ((209, 356), (213, 357), (214, 356)),
}


@pytest.fixture
def demo(plant):
    """The ranking of the demo as it came out on one machine."""
    sweep = plant("demo")
    for (optimizer, dropout, decay), seeds in DEMO.items():
        for seed, (val, test) in enumerate(seeds):
            swept = {"optimizer": optimizer, "model.dropout": dropout, "optimizer.weight_decay": decay}
            sweep.run(swept, seed, val / 216, test / 360)
    return ranking(load_sweep(sweep.finish()))


def row_of(table, *values):
    return next(row for row in table.rows if tuple(row.values.values()) == values)


def test_the_demo_by_hand(demo):
    best = demo.best
    assert tuple(best.values.values()) == ("rmsprop", 0.3, 0.0005)
    assert best.val.mean == pytest.approx(636 / 648) and best.test.mean == pytest.approx(1069 / 1080)
    assert best.test.sd == pytest.approx((1 / 3) ** 0.5 / 360)  # 356, 357, 356: deviations -1/3, 2/3, -1/3
    # -1, -2, -2 images against the best: mean -5/3, sd sqrt(1/3), t = -5; two-sided p of df 2 is 1 - 5 / sqrt(27)
    adam = row_of(demo, "adam", 0.3, 0).difference
    assert (adam.mean, adam.sd) == pytest.approx((-5 / 3 / 360, (1 / 3) ** 0.5 / 360))
    assert adam.p == pytest.approx(1 - 5 / 27**0.5)
    assert (adam.low, adam.high) == pytest.approx(
        ((-5 / 3 - 4.302653 / 3) / 360, (-5 / 3 + 4.302653 / 3) / 360), rel=1e-5
    )
    # Hedges' factor of df 2: Gamma(1) / Gamma(1/2) = 1 / sqrt(pi)
    assert adam.effect == pytest.approx(-5 / 3 * 3**0.5 / math.pi**0.5)
    assert (adam.won, row_of(demo, "rmsprop", 0, 0.0005).difference.won) == (0.0, 2.5 / 3)  # +1, +1, 0
    assert {row.difference.wilcoxon for row in demo.rows[1:]} == {None}  # three seeds are too few for it


def test_the_demos_pairs_against_scipy(demo):
    """All 66 pairs, t tests by scipy and Holm's correction written out."""
    correct = [[test for _, test in DEMO[tuple(row.values.values())]] for row in demo.rows]
    both = list(itertools.combinations(range(12), 2))
    p_values = {}
    for i, j in both:
        differences = {a - b for a, b in zip(correct[i], correct[j], strict=True)}
        p_values[i, j] = (
            scipy.stats.ttest_rel(correct[i], correct[j]).pvalue if len(differences) > 1
            else 1.0 if differences == {0} else 0.25
        )  # fmt: skip
    largest, expected = 0.0, {}
    for rank, pair in enumerate(sorted(both, key=p_values.get)):
        largest = max(largest, min(1.0, (66 - rank) * p_values[pair]))
        expected[pair] = largest
    assert demo.pairs.count == 66
    for pair in both:
        found = demo.difference(*(demo.rows[index] for index in pair))
        assert found.p == pytest.approx(p_values[pair], rel=1e-6)
        assert found.adjusted == pytest.approx(expected[pair], rel=1e-6)
        assert (found.verdict == "not distinguishable") == (expected[pair] >= 0.05)


def test_ten_thousand_runs_are_ranked():
    """In seconds; `benchmarks/compare.py` measures them, this one only refuses minutes and a square of the rows."""
    runs = [
        RunRecord(
            f"{setting:05x}{seed}",
            seed=seed,
            swept={"optimizer.lr": setting / 7, "seed": seed},
            status="completed",
            metrics={"val/accuracy": (setting * 37 + seed * 11) % 1009 / 1009, "test/accuracy": seed / 3},
            dir=Path(str(setting)),
        )
        for setting in range(3334)
        for seed in range(3)
    ]
    started = time.perf_counter()
    table = ranking(Sweep(Path("large"), "large", {}, runs, []))
    assert time.perf_counter() - started < 60
    assert table.pairs.count == 3334 * 3333 // 2
    assert {row.difference.p for row in table.rows[1:]} == {1.0}  # every setting has the same test results

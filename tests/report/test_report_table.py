from __future__ import annotations

import csv
import os

import pytest

from resweep.console import duration
from resweep.record import write_atomic
from resweep.report.load import load_sweep
from resweep.report.results import results_rows, run_command, sweep_command, write_results_csv
from resweep.report.table import ranking, settings_table
from resweep.report.words import answer, value_text


def test_the_figures_are_those_computed_by_hand(known):
    best, second, last = settings_table(load_sweep(known))
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
    assert answer(table) == "One setting (val 0.6000 ± 0.1000, test 0.6000 ± 0.1000, n=3)."


def test_metrics_that_are_null_or_zero(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, 0.5, None)
    sweep.run({"optimizer": "sgd"}, 1, None, 0.25)
    sweep.run({"optimizer": "adam"}, 0, 0.0, 0.0)
    best, zero = settings_table(load_sweep(sweep.finish()))
    assert (len(best.completed), best.val.n, best.val.mean, best.test.n, best.test.mean) == (2, 1, 0.5, 1, 0.25)
    assert (zero.val.n, zero.val.mean) == (1, 0.0)


def test_the_answer_names_what_cannot_be_told_apart(plant):
    sweep = plant()
    shifts = {
        "sgd": (0, 0, 0),
        "adam": (-0.002, 0.002, -0.001),
        "rmsprop": (-0.10, -0.11, -0.10),
        "late": (0.1, 0.1, 0.11),
    }
    for name, shift in shifts.items():
        for seed in range(3):
            sweep.run({"optimizer": name}, seed, 0.9 - 0.01 * len(name), 0.8 + 0.01 * seed + shift[seed])
    text = answer(ranking(load_sweep(sweep.finish())))
    assert text.startswith("Best on validation: optimizer=sgd (val 0.8700 ± 0.0000, test 0.8100 ± 0.0100, n=3).")
    assert "Not distinguishable from it with 3 seeds: optimizer=adam." in text
    assert "Higher on test/accuracy, though not chosen by validation: optimizer=late." in text
    assert text.endswith("1 other setting is lower on test/accuracy.")


def test_nothing_completed_is_said(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, status="failed")
    sweep.run({"optimizer": "adam"}, 0, 0.9, 0.9, status="running")
    table = ranking(load_sweep(sweep.finish()))
    assert table.best is None
    assert [row.val.n for row in table.rows] == [0, 0]
    assert "nothing can be ranked" in answer(table)


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


def test_texts_of_values_and_durations():
    assert [value_text(value) for value in (0.1, 1e-5, 1 / 3, 0, False, [1, 2])] == [
        "0.1",
        "1e-05",
        "0.3333",
        "0",
        "false",
        "[1, 2]",
    ]
    assert [duration(value) for value in (None, 0, 9.94, 9.96, 59.6, 362, 4920)] == [
        "-",
        "0.0s",
        "9.9s",
        "10s",
        "1m00s",
        "6m02s",
        "1h22m",
    ]


def test_repeats_of_a_config_are_one_seed(plant):
    sweep = plant()
    for day, value in (("02", 0.7), ("03", 0.9), ("01", 0.8)):
        when = f"2026-01-{day}T00:00:00+00:00"
        sweep.run({}, 0, value, value, config_digest="same", finished_at=when)
    loaded = load_sweep(sweep.finish())
    table = ranking(loaded)
    assert (table.rows[0].val.n, table.rows[0].val.mean, table.repeats) == (1, 0.9, 2)
    assert len(results_rows(loaded)) == 3


def survivors(plant, lucky: str, status: str):
    """One of three seeds of ``lucky`` completed with the highest mean, the other two have another status."""
    sweep = plant()
    for seed in range(3):
        sweep.run({"optimizer": "sgd"}, seed, 0.8 + seed / 100, 0.8 + seed / 100)
    sweep.run({"optimizer": lucky}, 0, 0.95, 0.95)
    for seed in (1, 2):
        sweep.run({"optimizer": lucky}, seed, status=status)
    return ranking(load_sweep(sweep.finish()))


@pytest.mark.parametrize("status", ["failed", "diverged", "lost"])
def test_a_lucky_seed_does_not_outrank_complete_settings(plant, status):
    table = survivors(plant, "adam", status)
    assert [row.values["optimizer"] for row in table.rows] == ["sgd", "adam"]
    text = answer(table)
    assert text.startswith("Best on validation: optimizer=sgd (val 0.8100")
    assert "only" not in text
    assert "ranked below: optimizer=adam (1 of 3 runs completed)." in text


@pytest.mark.parametrize("status", ["pending", "running", "interrupted"])
def test_a_sweep_under_way_is_ranked_by_the_mean(plant, status):
    table = survivors(plant, "adam", status)
    assert [row.values["optimizer"] for row in table.rows] == ["adam", "sgd"]
    assert table.rows[0].not_completed == {status: 2}
    assert "runs completed" not in answer(table)


def test_the_answer_says_when_even_the_best_is_incomplete(plant):
    sweep = plant()
    for name, value in (("sgd", 0.8), ("adam", 0.9)):
        sweep.run({"optimizer": name}, 0, value, value)
        for seed in (1, 2):
            sweep.run({"optimizer": name}, seed, status="diverged")
    text = answer(ranking(load_sweep(sweep.finish())))
    assert text.startswith(
        "Best on validation: optimizer=adam (val 0.9000, test 0.9000, n=1), only 1 of 3 runs completed."
    )


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
    assert "with 3 folds" in answer(table)


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

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from resweep.errors import RequestError
from resweep.report.load import load_confusion, load_curves, load_sweep, without_repeats


def test_reads_the_runs_in_plan_order(plant):
    sweep = plant()
    for seed in (0, 1, 2):
        sweep.run({"optimizer": "sgd"}, seed, 0.5, 0.25)
    loaded = load_sweep(sweep.finish(runs=["run-002", "run-000", "run-001"]))
    assert loaded.name == "planted"
    assert [run.seed for run in loaded.runs] == [2, 0, 1]
    assert loaded.runs[1].metrics == {"val/accuracy": 0.5, "test/accuracy": 0.25}
    assert loaded.runs[1].swept == {"optimizer": "sgd", "seed": 0}
    assert loaded.damaged == []


def test_a_damaged_record_is_named_and_the_rest_loads(plant):
    sweep = plant()
    good = sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    for text in ('{"id": "a", "stat', "[]", '{"id": "a"}', '{"id": "a", "status": "completed", "metrics": {"x": "y"}}'):
        (sweep.run({"optimizer": "sgd"}, 1) / "run.json").write_text(text)
    loaded = load_sweep(sweep.finish())
    assert [run.dir for run in loaded.runs] == [good]
    assert [line.split(":")[0] for line in loaded.damaged] == ["run-001", "run-002", "run-003", "run-004"]
    assert loaded.counts == {"completed": 1, "unreadable": 4}


def test_a_damaged_request_is_named_and_the_runs_load(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    (sweep.dir / "sweep.yaml").write_text("runs: [a, b\nname: {")
    loaded = load_sweep(sweep.dir)
    assert len(loaded.runs) == 1
    assert loaded.damaged[0].startswith("sweep.yaml: ")
    assert loaded.counts == {"completed": 1}


def test_numbers_that_are_not_finite_are_absent(plant):
    sweep = plant()
    folder = sweep.run({"optimizer": "sgd"}, 0)
    record = json.loads((folder / "run.json").read_text()) | {"metrics": {"a": math.nan, "b": math.inf, "c": 0}}
    (folder / "run.json").write_text(json.dumps(record))
    assert load_sweep(sweep.finish()).runs[0].metrics == {"a": None, "b": None, "c": 0.0}


def test_single_runs_and_one_run_are_sweeps(plant):
    sweep = plant()
    folder = sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    sweep.run({"optimizer": "adam"}, 0, 0.5, 0.5)
    (sweep.dir / "latest").symlink_to(folder.name)
    assert [run.folder for run in load_sweep(sweep.dir).runs] == ["run-000", "run-001"]
    one = load_sweep(folder)
    assert [run.swept["optimizer"] for run in one.runs] == ["sgd"]
    assert one.dir == folder


def test_planned_runs_without_a_record_are_pending(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    sweep.run({"optimizer": "sgd"}, 1, status="pending")
    assert load_sweep(sweep.finish(planned=6)).counts == {"completed": 1, "pending": 5}


def test_a_path_that_is_no_sweep_names_the_closest_folder(plant, tmp_path: Path):
    sweep = plant("opt-dropout")
    sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    sweep.finish()
    with pytest.raises(RequestError) as caught:
        load_sweep(tmp_path / "opt-dropot")
    problem = caught.value.problems[0]
    assert (problem.key, problem.value) == ("SWEEP_DIR", str(tmp_path / "opt-dropot"))
    assert problem.nearest == str(tmp_path / "opt-dropout")
    with pytest.raises(RequestError, match=r"sweeps below it: opt-dropout"):
        load_sweep(tmp_path)
    with pytest.raises(RequestError, match="is a file"):
        load_sweep(sweep.dir / "sweep.yaml")


def test_curves_without_a_file_are_empty(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    frame = load_curves(load_sweep(sweep.finish()).runs[0])
    assert len(frame) == 0
    assert {"epoch", "train/loss", "val/accuracy"} <= set(frame.columns)


def test_a_torn_line_is_left_out_and_the_later_epoch_counts(plant):
    sweep = plant()
    folder = sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    sweep.curves(folder, [0.5, 0.75])
    path = folder / "metrics.csv"
    with path.open("a") as file:
        file.write("3,0.1,0.9\n")  # too few fields
        file.write("2,0.2,0.8,0.3,0.875,0.1,2.0,nonsense\n")
        file.write("4,0.1,0.9,0.2,0.99,0.1,2.0,50")  # no line end: the last value may have been cut
    frame = load_curves(load_sweep(sweep.finish()).runs[0])
    assert frame["epoch"].tolist() == [1, 2]
    assert frame["val/accuracy"].tolist() == [0.5, 0.875]
    assert math.isnan(frame["images_per_second"][1])


@pytest.mark.parametrize("text", ["", "epoch", "epoch,val/accuracy\n", "\x00\x01\n\x02\n"])
def test_curves_of_a_file_without_rows_are_empty(plant, text):
    sweep = plant()
    folder = sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    (folder / "metrics.csv").write_text(text)
    assert len(load_curves(load_sweep(sweep.finish()).runs[0])) == 0


def test_confusion_is_read_by_true_class(plant):
    sweep = plant()
    folder = sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    sweep.confusion(folder, ["a,b", "c"], [[3, 1], [0, 4]])
    run = load_sweep(sweep.finish()).runs[0]
    assert load_confusion(run).classes == ("a,b", "c")
    assert load_confusion(run).counts == ((3, 1), (0, 4))
    (folder / "confusion.csv").write_text("true,a,b\na,1\n")
    assert load_confusion(run) is None
    (folder / "confusion.csv").unlink()
    assert load_confusion(run) is None


def test_loading_and_ranking_import_nothing_heavy(known):
    code = (
        "import sys; from resweep.report.load import load_sweep; from resweep.report.words import counts_text\n"
        f"print(counts_text(load_sweep({str(known)!r}).counts))\n"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'scipy', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 diverged, 1 failed", "[]"]


def test_a_link_to_a_run_makes_no_sweep_of_a_folder_of_sweeps(plant, tmp_path: Path):
    sweep = plant("opt")
    run = sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    sweep.finish()
    (tmp_path / "latest").symlink_to(run)
    with pytest.raises(RequestError, match="sweeps below it: opt"):
        load_sweep(tmp_path)
    (sweep.dir / "sweep.yaml").unlink()
    (tmp_path / "again").symlink_to(sweep.dir)
    with pytest.raises(RequestError, match=r"folders of runs below it: opt  did you"):
        load_sweep(tmp_path)


def test_of_repeats_the_newest_finished_run_counts(plant):
    sweep = plant()
    days = {"completed": "03", "failed": "05", "diverged": "04", "running": None}
    for status, day in days.items():
        when = None if day is None else f"2026-01-{day}T00:00:00+00:00"
        sweep.run({}, 0, status=status, config_digest="same", finished_at=when)
    sweep.run({}, 1, config_digest="other")
    sweep.run({}, 1)
    sweep.run({}, 1)
    runs = load_sweep(sweep.finish()).runs
    assert [run.folder for run in without_repeats(runs)] == ["run-002", "run-004", "run-005", "run-006"]
    started = [("failed", "2026-01-01T00:00:00+00:00"), ("running", "2026-01-02T00:00:00+00:00")]
    other = plant("unfinished")
    for status, when in reversed(started):
        other.run({}, 0, status=status, config_digest="same", started_at=when)
    assert [run.status for run in without_repeats(load_sweep(other.finish()).runs)] == ["running"]

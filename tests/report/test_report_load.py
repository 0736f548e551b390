from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pandas
import pytest

from resweep.errors import RequestError
from resweep.record import columns
from resweep.report.load import (
    load_calibration,
    load_confusion,
    load_curves,
    load_mistakes,
    load_sweep,
    load_weights,
    log_tail,
    without_repeats,
)
from resweep.report.run_files import damaged_files

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" + b"\x00\x00\x00\x00IEND\xaeB`\x82"


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


def test_all_curves_are_what_pandas_reads_and_each_file_is_read_once(plant):
    chance = numpy.random.default_rng(3)
    sweep = plant()
    expected = {}
    for seed, (further, end) in enumerate([((), "\n"), (("val/map",), "\r\n"), ((), "\n")]):
        folder = sweep.run({"optimizer": "sgd"}, seed, 0.5, 0.5)
        header = columns(further)
        numbers = chance.normal(size=(40 + seed, len(header))) * 10.0 ** chance.integers(-8, 8, size=len(header))
        lines = [",".join([str(k), *(f"{cell:.10g}" for cell in row[1:])]) for k, row in enumerate(numbers, 1)]
        (folder / "metrics.csv").write_text(end.join([",".join(header), *lines, ""]), newline="")
        expected[folder.name] = pandas.read_csv(folder / "metrics.csv")
    sweep.run({"optimizer": "sgd"}, 9, status="pending")
    loaded = load_sweep(sweep.finish())
    curves = loaded.curves
    assert list(curves) == list(expected)
    for folder, frame in expected.items():
        pandas.testing.assert_frame_equal(curves[folder], frame, rtol=1e-14, atol=0)
        shutil.rmtree(sweep.dir / folder)
    assert loaded.curves is curves and loaded.damaged == []


WHOLE = "epoch,train/loss,val/accuracy\n1,0.5,0.25\n2,0.25,0.5\n"
DAMAGED_CURVES = {
    "cut line": (WHOLE + "3,0.1,0.7", [0.25, 0.5], "its last line was cut"),
    "torn line": (WHOLE.replace("0.25,0.5", "0.25"), [0.25], "1 line with the wrong number of values"),
    "shifted lines": ("epoch,a,val/accuracy\n1,7\n2,0.5,0.25,9\n3,1,0.75\n", [0.75], "2 lines with the wrong number"),
    "no number": (WHOLE + "3,x,1_0\n4,0.5,\n", [0.25, 0.5, None, None], "3 values that are no number"),
    "no header": ("1,0.5,0.25\n2,0.25,0.5\n", [], "has no header with a column epoch"),
    "two columns epoch": ("epoch,epoch,val/accuracy\n1,1,0.25\n", [], "has no header with a column epoch"),
    "empty": ("", [], "is empty"),
    "only a header": ("epoch,val/accuracy\n", [], "holds no epoch"),
    "broken epochs": (WHOLE + "2.5,0,0\n-1,0,0\n0,0,0\nnan,0,0\n1e300,0,0\n", [0.25, 0.5], "5 lines without a whole"),
    "binary": ("\x00\x01\x02\n\x00\n", [], "has no header with a column epoch"),
    "a quote that never ends": (WHOLE + '3,"0.5,0.75\n4,1,1\n', [0.25, 0.5, 1.0], "1 line with the wrong number"),
    "an endless cell": (WHOLE + "3," + "x" * 200_000 + ",1\n", [0.25, 0.5], "1 line with the wrong number of values"),
}


@pytest.mark.parametrize("kind", DAMAGED_CURVES)
def test_what_is_damaged_in_curves_is_named_and_the_rest_is_read(plant, kind):
    text, accuracies, reason = DAMAGED_CURVES[kind]
    sweep = plant()
    (sweep.run({}, 0, 0.5, 0.5) / "metrics.csv").write_text(text)
    sweep.curves(sweep.run({}, 1, 0.5, 0.5), [0.125])
    loaded = load_sweep(sweep.finish())
    frame = loaded.curves.get("run-000")
    values = [] if frame is None else frame["val/accuracy"].tolist()
    assert [None if math.isnan(value) else value for value in values] == accuracies
    assert loaded.curves["run-001"]["val/accuracy"].tolist() == [0.125]
    assert len(loaded.damaged) == 1 and loaded.damaged[0].startswith(f"run-000/metrics.csv: {reason}")
    assert loaded.unreadable == [] and loaded.counts == {"completed": 2}
    assert len(load_curves(loaded.runs[0])) == len(accuracies)


def test_numbers_that_diverged_are_no_damage_and_epochs_come_in_order(plant):
    sweep = plant()
    folder = sweep.run({}, 0, status="diverged")
    (folder / "metrics.csv").write_text("val/loss,epoch\n4,3\nnan,1\ninf,2\n5,3\n")
    loaded = load_sweep(sweep.finish())
    frame = loaded.curves["run-000"]
    assert frame["epoch"].tolist() == [1, 2, 3] and frame["epoch"].dtype.kind == "i"
    assert frame["val/loss"].isna().tolist() == [True, True, False] and frame["val/loss"][2] == 5
    assert loaded.damaged == []


def test_a_line_being_written_is_no_damage_and_a_missing_file_of_a_completed_run_is(plant):
    sweep = plant()
    (sweep.run({}, 0, status="running") / "metrics.csv").write_text(WHOLE + "3,0.")
    sweep.run({}, 1, status="failed")
    sweep.run({}, 2, 0.5, 0.5)
    (sweep.run({}, 3, 0.5, 0.5) / "metrics.csv").mkdir()
    loaded = load_sweep(sweep.finish())
    assert loaded.curves["run-000"]["epoch"].tolist() == [1, 2]
    assert loaded.damaged == [
        "run-002/metrics.csv: is missing",
        "run-003/metrics.csv: cannot be read (Is a directory)",
    ]


def test_tables_of_the_test_are_read_with_empty_cells_as_nan(plant):
    sweep = plant()
    folder = sweep.run({}, 0, 0.5, 0.5)
    run = load_sweep(sweep.finish()).runs[0]
    assert load_calibration(run) is None and load_weights(run) is None and load_mistakes(run) is None
    (folder / "calibration.csv").write_text(
        "lower,upper,count,confidence,accuracy\n0,0.5,0,,\n0.5,1,8,0.75,0.5\n", encoding="utf-8-sig"
    )
    (folder / "weights.csv").write_text('name,count,norm,largest\n"a,b",4,3,inf\nc,1,0.5,0.5\n')
    (folder / "mistakes.png").write_bytes(PNG)
    calibration = load_calibration(run)
    assert list(calibration) == ["lower", "upper", "count", "confidence", "accuracy"]
    assert calibration["count"].tolist() == [0, 8] and calibration["accuracy"][1] == 0.5
    assert calibration["confidence"].isna().tolist() == [True, False]
    weights = load_weights(run)
    assert weights["name"].tolist() == ["a,b", "c"] and weights["norm"].tolist() == [3, 0.5]
    assert weights["largest"].isna().tolist() == [True, False]
    assert load_mistakes(run) == PNG
    checked = load_sweep(sweep.dir)
    checked.check_files()
    assert checked.damaged == ["run-000/metrics.csv: is missing"]


DAMAGED_FILES = [
    ("confusion.csv", b"true,a,b\na,1,0\nb,1\n", "is no square table with a header"),
    ("confusion.csv", b"", "is no square table with a header"),
    ("confusion.csv", b"true,a\na,-1\n", "holds something else than counts"),
    ("confusion.csv", b"true,a\na,1e999\n", "holds something else than counts"),
    ("confusion.csv", b"true,a\na,nan\n", "holds something else than counts"),
    ("confusion.csv", b"true,a\na,1.5\n", "holds something else than counts"),
    ("confusion.csv", b"true,\xff\n\xff,1\n", "is no text in UTF-8"),
    ("calibration.csv", b"lower,upper\n0,1\n", "has no header with the columns lower, upper, count, confidence, acc"),
    ("calibration.csv", b"lower,upper,count,confidence,accuracy\n0,1,x,1,1\n", "has no line that can be used"),
    ("weights.csv", b"name,count,norm,largest\na,1,1,1\nb,1\nc,x,1,1\nd,1,2,2\n", "2 damaged lines"),
    ("mistakes.png", b"\x89PNG\r\n\x1a\n and no end", "is no whole PNG picture"),
    ("mistakes.png", b"<script>alert(1)</script>", "is no whole PNG picture"),
]


@pytest.mark.parametrize(("name", "data", "reason"), DAMAGED_FILES)
def test_a_damaged_file_is_named_once_and_gives_nothing_wrong(plant, name, data, reason):
    sweep = plant()
    folder = sweep.run({}, 0, status="failed")
    (folder / name).write_bytes(data)
    loaded = load_sweep(sweep.finish())
    loaded.check_files()
    loaded.check_files()
    dataclasses.replace(loaded).check_files()
    assert len(loaded.damaged) == 1 and loaded.damaged[0].startswith(f"run-000/{name}: {reason}")
    read = {"confusion.csv": load_confusion, "calibration.csv": load_calibration, "mistakes.png": load_mistakes}
    found = read.get(name, load_weights)(loaded.runs[0])
    if name == "weights.csv":
        assert found["name"].tolist() == ["a", "d"] and found["norm"].tolist() == [1, 2]
    else:
        assert found is None


@pytest.mark.parametrize(
    ("old", "new", "damaged"),
    [("", "", False), ("7,7", "7.0,7", False), ("7,7", "7,,7", True), ("7,7", "7,x", True), ("7,7", "7", True)],
)
def test_large_confusion_matrices_are_checked_too(plant, old, new, damaged):
    size = 260
    sweep = plant()
    folder = sweep.run({}, 0, 0.5, 0.5)
    sweep.curves(folder, [0.5])
    sweep.confusion(folder, [f"c{k}" for k in range(size)], [[7] * size] * size)
    text = (folder / "confusion.csv").read_text()
    (folder / "confusion.csv").write_text(text.replace(old, new, 1), newline="")
    assert len(text) > 100_000
    loaded = load_sweep(sweep.finish())
    loaded.check_files()
    assert (len(loaded.damaged), load_confusion(loaded.runs[0]) is None) == (int(damaged), damaged)


def test_the_end_of_a_log_is_plain_text(plant):
    sweep = plant()
    folder = sweep.run({}, 0, status="failed")
    run = load_sweep(sweep.finish()).runs[0]
    assert log_tail(run) == ""
    text = (
        "start\n\n\x1b[31mred\x1b[0m\x07 bell\n 10%\r 50%\r100%\r\nü \u202e\xff\n".encode() + b"bad \xff\n" + b"x" * 900
    )
    (folder / "run.log").write_bytes(text)
    assert log_tail(run).split("\n") == ["start", r"red\x07 bell", "100%", "ü \\u202eÿ", "bad �", "x" * 400 + "…"]
    assert log_tail(run, 2).split("\n") == ["bad �", "x" * 400 + "…"]
    assert log_tail(run, 0) == ""
    (folder / "run.log").write_text("".join(f"line {number:07d}\n" for number in range(100_000)))
    assert log_tail(run, 3).split("\n") == ["line 0099997", "line 0099998", "line 0099999"]
    assert set(map(len, log_tail(run, 10**9).split("\n"))) == {12}
    (folder / "run.log").unlink()
    (folder / "run.log").mkdir()
    assert log_tail(run) == "run.log cannot be read (Is a directory)"


def test_a_damaged_run_keeps_its_name_whatever_that_is(plant):
    sweep = plant()
    names = ["a: b", "sweep.yaml", "run.json: x", "metrics.csv: y"]
    for name in names:
        sweep.run({}, 0).rename(sweep.dir / f"moved-{len(name)}")
        (sweep.dir / f"moved-{len(name)}" / "run.json").write_text("[]")
        (sweep.dir / f"moved-{len(name)}").rename(sweep.dir / name)
    (sweep.dir / "trials.json").write_text("no trials")
    loaded = load_sweep(sweep.dir)
    assert sorted(folder for folder, _ in loaded.unreadable) == sorted(names)
    assert loaded.counts == {"unreadable": 4}


def test_overrides_of_a_single_run_have_the_types_of_its_config(plant):
    sweep = plant()
    path = sweep.run({}, 0, 0.5, 0.5) / "run.json"
    given = {
        "data.fold": ("0", 0), "optimizer.lr": ("1e-3", 0.001), "a": ("-.5", -0.5), "b": ("1.", 1.0),
        "c": ("007", "007"),
        "d": ("true", True), "e": ("NULL", None), "f": ("'0'", "0"), "g": ("[1, 2e-3, x]", [1, 0.002, "x"]),
        "h": ("on", "on"), "i": ("2026-01-01", "2026-01-01"), "j": ("", ""), "k": ("a=b", "a=b"), "l": ("nan", "nan"),
        "m": ("{w: 1}", {"w": 1}), "n": ("[1", "[1"), "o": ("9" * 400, "9" * 400), "p": ("a\\,b", "a,b"),
        "q": ("1e", "1e"),
        "r": ("1_000", 1000), "s": ("1e999", "1e999"), "t": ("sgd", "sgd"),
    }  # fmt: skip
    overrides = [f"{'+' if key == 't' else ''}{key}={text}" for key, (text, _) in given.items()]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"swept": {}, "overrides": [*overrides, "~gone"]}))
    swept = load_sweep(sweep.dir).runs[0].swept
    assert swept == {key: value for key, (_, value) in given.items()}
    assert [type(value) for value in swept.values()] == [type(value) for _, value in given.values()]


def test_a_config_is_read_or_named(plant):
    sweep = plant()
    for seed in range(3):
        sweep.run({}, seed, 0.5, 0.5)
    folder = sweep.finish()
    (folder / "run-000" / "config.yaml").write_text(f"# made by\n\nmodel: {{width: 8}}\n1: {10**400}\n", "utf-8-sig")
    (folder / "run-001" / "config.yaml").write_text("model: [1\nx: 2\n")
    loaded = load_sweep(folder)
    assert [loaded.config(run) for run in loaded.runs] == [{"model": {"width": 8}, "1": str(10**400)}, None, None]
    [fault] = loaded.damaged
    assert fault.startswith("run-001/config.yaml: is no YAML (line 2: ")


def test_looking_at_configs_costs_next_to_nothing(plant):
    sweep = plant()
    run = sweep.run({}, 0, status="failed")
    (run / "config.yaml").write_text("model:\n" + "".join(f"  key{number}: {number}\n" for number in range(400)))
    runs = load_sweep(sweep.finish()).runs * 2000
    started = time.process_time()
    assert damaged_files(runs) == []
    assert time.process_time() - started < 2  # 0.1 s on two cores; parsing them takes 20 s

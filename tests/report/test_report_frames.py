"""Frames and Parquet files: what stands in them, which types they have, and that they say what the CSV file says."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import pandas
import pyarrow
import pytest
from pyarrow import parquet

from resweep.report.frames import curves_frame, runs_frame, write_parquet
from resweep.report.load import load_sweep
from resweep.report.results import results_rows, write_results_csv

SCHEMA = {
    "id": "string", "folder": "string", "status": "string", "optimizer": "string", "seed": "int64",
    "val/accuracy": "double", "test/accuracy": "double", "best_epoch": "int64", "epochs": "int64",
    "fit_seconds": "double", "images_per_second": "double", "parameters": "int64", "peak_memory_bytes": "int64",
    "error": "string",
}  # fmt: skip


def arrow_types(path: Path) -> dict[str, str]:
    """Arrow's types by column; its two sorts of text count as one."""
    return {field.name: str(field.type).removeprefix("large_") for field in parquet.read_schema(path)}


def test_there_is_a_row_per_run_with_the_planted_figures(known: Path) -> None:
    frame = runs_frame(load_sweep(known))
    assert list(frame["optimizer"]) == ["adam"] * 3 + ["sgd"] * 3 + ["rmsprop"]
    assert list(frame["seed"]) == [0, 1, 2, 0, 1, 2, 0]
    assert list(frame["status"]) == ["completed"] * 2 + ["diverged"] + ["completed"] * 3 + ["failed"]
    means = frame[frame["status"] == "completed"].groupby("optimizer")["val/accuracy"].mean()
    assert means.to_dict() == pytest.approx({"adam": 0.81, "sgd": 0.92})
    assert frame["error"][6] == "OutOfMemoryError: needed 1 GB more" and frame["error"].isna().sum() == 5
    assert list(frame["fit_seconds"]) == [10.0 + number for number in range(7)]


def test_curves_have_a_row_per_run_and_epoch(known: Path) -> None:
    sweep = load_sweep(known)
    frame = curves_frame(sweep)
    assert len(frame) == 5 * 3  # the diverged and the failed run have no curve
    assert list(frame.columns[:5]) == ["id", "folder", "optimizer", "seed", "epoch"]
    third = frame[(frame["optimizer"] == "sgd") & (frame["seed"] == 2)]
    assert list(third["epoch"]) == [1, 2, 3] and list(third["val/accuracy"]) == [0.6, 0.8, 0.94]
    assert list(third["val/loss"]) == pytest.approx([0.5, 0.3, 0.16])
    runs = {run.folder: run for run in sweep.runs}
    assert all(runs[row.folder].swept["optimizer"] == row.optimizer for row in frame.itertuples())
    assert set(frame["id"]) == {run.id for run in sweep.runs if run.status == "completed"}


def test_curves_of_different_length_and_columns_go_together(plant: Callable) -> None:
    sweep = plant()
    sweep.curves(sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5), [0.1, 0.5])
    long = sweep.run({"optimizer": "adam"}, 0, 0.5, 0.5)
    (long / "metrics.csv").write_text("epoch,val/map,val/accuracy\n1,0.2,0.3\n2,0.4,nan\n3,0.5,0.6\n4,0.9")
    frame = curves_frame(load_sweep(sweep.finish()))
    assert list(frame["optimizer"]) == ["sgd"] * 2 + ["adam"] * 3
    assert list(frame["epoch"]) == [1, 2, 1, 2, 3]
    assert list(frame["val/map"].isna()) == [True, True, False, False, False]
    assert math.isnan(frame["val/accuracy"][3]) and frame["val/accuracy"][4] == 0.6


def test_parquet_says_what_the_frames_and_the_csv_file_say(known: Path) -> None:
    sweep = load_sweep(known)
    results, curves = write_parquet(sweep, known)
    assert (results, curves) == (known / "results.parquet", known / "curves.parquet")
    read = parquet.read_table(results).to_pylist()
    rows = list(csv.DictReader(write_results_csv(sweep, known / "results.csv").read_text().splitlines()))
    assert len(read) == len(rows) == 7
    for ours, theirs in zip(read, rows, strict=True):
        assert list(ours) == list(theirs)
        assert {name: "" if value is None else str(value) for name, value in ours.items()} == theirs
    frame = curves_frame(sweep)
    pandas.testing.assert_frame_equal(parquet.read_table(curves).to_pandas(), frame, check_dtype=False)
    assert not list(known.glob(".*.tmp"))


def test_types_do_not_depend_on_what_is_missing(known: Path, plant: Callable) -> None:
    write_parquet(load_sweep(known), known)
    assert arrow_types(known / "results.parquet") == SCHEMA
    bare = plant("bare")  # nothing has finished: columns of nothing but missing values
    bare.run({"optimizer": "sgd"}, 0, status="pending", epochs=0, best_epoch=None, fit_seconds=None)
    folder = bare.finish()
    write_parquet(load_sweep(folder), folder)
    expected = {name: kind for name, kind in SCHEMA.items() if "/" not in name}
    assert arrow_types(folder / "results.parquet") == expected
    curves = arrow_types(folder / "curves.parquet")
    assert curves == {"id": "string", "folder": "string", "optimizer": "string", "seed": "int64", "epoch": "int64"} | {
        name: "double" for name in curves if "/" in name or name in ("lr", "seconds", "images_per_second")
    }
    assert "val/accuracy" in curves and parquet.read_table(folder / "curves.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([1, 2, None], "int64", [1, 2, None]),
        ([0, 0.5, 2], "double", [0.0, 0.5, 2.0]),
        ([True, False, None], "bool", [True, False, None]),
        (["0.1", "validation", None], "string", ["0.1", "validation", None]),
        ([0.5, "validation", True], "string", ["0.5", "validation", "true"]),
        ([True, 1, 0.5], "string", ["true", "1", "0.5"]),
        ([[0.1, 0.2], {"a": 1}, None], "string", ["[0.1, 0.2]", '{"a": 1}', None]),
        ([2**70, 1, 2], "double", [2.0**70, 1.0, 2.0]),
        ([10**400, 1, None], "string", [str(10**400), "1", None]),
        ([None, None, None], "string", [None, None, None]),
    ],
)
def test_swept_values_have_one_type(plant: Callable, values: list, kind: str, stored: list) -> None:
    sweep = plant()
    for seed, value in enumerate(values):
        sweep.run({"model.key": value}, seed, 0.5, 0.5)
    folder = sweep.finish()
    results, _ = write_parquet(load_sweep(folder), folder)
    assert arrow_types(results)["model.key"] == kind
    assert parquet.read_table(results)["model.key"].to_pylist() == stored


def test_damaged_runs_keep_their_row(known: Path) -> None:
    (known / "run-003" / "run.json").write_text("{")
    frame = runs_frame(load_sweep(known))
    damaged = frame[frame["status"] == "unreadable"]
    assert list(damaged["folder"]) == ["run-003"] and damaged["error"].str.contains("damaged").all()
    assert damaged["val/accuracy"].isna().all() and len(frame) == 7


def test_a_seed_that_only_the_overrides_tell_is_no_mistake(plant: Callable) -> None:
    sweep = plant()
    for seed, own in enumerate([None, 1]):
        path = sweep.run({}, seed, 0.5, 0.5) / "run.json"
        record = json.loads(path.read_text()) | {"swept": {}, "seed": own, "overrides": [f"seed={seed + 4}"]}
        path.write_text(json.dumps(record))
    loaded = load_sweep(sweep.finish())
    assert [row["seed"] for row in results_rows(loaded)] == [4, 1]
    frame = runs_frame(loaded)
    assert list(frame["seed"]) == [4, 1] and frame["seed"].dtype == "Int64"


def test_a_file_that_cannot_be_written_leaves_the_old_one(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = load_sweep(known)
    before = write_parquet(sweep, known)[0].read_bytes()

    def full(table: pyarrow.Table, stream: object, **_: object) -> None:
        stream.write(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write_parquet(sweep, known)
    assert (known / "results.parquet").read_bytes() == before
    assert not list(known.glob(".*.tmp"))


def test_whoever_reads_a_file_while_it_is_replaced_reads_the_old_one(known: Path) -> None:
    sweep = load_sweep(known)
    paths = [*write_parquet(sweep, known), write_results_csv(sweep, known / "results.csv")]
    before = [path.read_bytes() for path in paths]
    streams = [path.open("rb") for path in paths]
    sweep.runs.pop()
    sweep.curves.clear()
    write_parquet(sweep, known)
    write_results_csv(sweep, known / "results.csv")
    assert [stream.read() for stream in streams] == before  # a file written in place would have changed under them
    assert not [path for path, old in zip(paths, before, strict=True) if path.read_bytes() == old]
    for stream in streams:
        stream.close()


def test_many_runs_are_written_quickly(plant: Callable) -> None:
    sweep = plant()
    header = "epoch,train/loss,train/accuracy,val/loss,val/accuracy,lr,seconds,images_per_second\n"
    text = header + "".join(f"{epoch},0.5,0.5,0.5,0.{epoch:03d},0.1,1.0,100\n" for epoch in range(1, 101))
    for seed in range(300):
        (sweep.run({"optimizer.lr": 0.1}, seed, 0.5, 0.5) / "metrics.csv").write_text(text)
    folder = sweep.finish()
    loaded = load_sweep(folder)
    started = time.perf_counter()
    _, curves = write_parquet(loaded, folder)
    assert time.perf_counter() - started < 10  # 0.6 s on two cores
    assert parquet.read_metadata(curves).num_rows == 30_000
    assert curves.stat().st_size < 100_000

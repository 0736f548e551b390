"""The event file of a run, read with TensorBoard's own reader, and the picture of the confusion matrix."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import new_run, plan
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from resweep.record import METRICS_FILE, Record
from resweep.rows import read_rows
from resweep.sweep.ledger import write_run
from resweep.tensorboard import confusion_picture, hyperparameters
from resweep.train import execute

EPOCHS = 3
COLUMN_OF = {"time/epoch_seconds": "seconds", "time/images_per_second": "images_per_second"}
PER_EPOCH = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", *COLUMN_OF}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One run on its own and two of a sweep."""
    folder = tmp_path_factory.mktemp("runs")
    single = new_run(folder / "single", f"trainer.max_epochs={EPOCHS}")
    swept = plan(f"trainer.max_epochs={EPOCHS}", "optimizer=adam,sgd", "model.dropout=0.3", "seed=1")
    for number, run in enumerate(swept.runs):
        write_run(run, folder / str(number))
    made = [single, folder / "0", folder / "1"]
    assert [execute(run_dir).status for run_dir in made] == ["completed"] * 3
    return made


def events(run_dir: Path) -> EventAccumulator:
    return EventAccumulator(str(run_dir), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_scalars_are_the_rows_of_the_epochs(runs: list[Path]) -> None:
    for run_dir in runs:
        found, rows = events(run_dir), read_rows(run_dir / METRICS_FILE)
        for tag in PER_EPOCH:
            points = found.Scalars(tag)
            assert [point.step for point in points] == [1, 2, 3], tag
            column = [row[COLUMN_OF.get(tag, tag)] for row in rows]
            assert [point.value for point in points] == pytest.approx(column, rel=1e-6), tag


def test_final_metrics_stand_at_the_best_epoch(runs: list[Path]) -> None:
    for run_dir in runs:
        record, found = Record.read(run_dir), events(run_dir)
        final = {name: value for name, value in record.metrics.items() if name.startswith("test/")}
        final |= {f"best/{name.replace('/', '_')}": record.metrics[name] for name in ("val/accuracy", "val/loss")}
        assert set(found.Tags()["scalars"]) == PER_EPOCH | set(final)
        for tag, value in final.items():
            (point,) = found.Scalars(tag)
            assert (point.step, point.value) == (record.best_epoch, pytest.approx(value, rel=1e-6)), tag


def session(run_dir: Path) -> dict[str, Any]:
    """Hyperparameters of the one session in a run's event file, and the metrics that its experiment announces."""
    found = events(run_dir).summary_metadata
    contents = {tag: HParamsPluginData.FromString(metadata.plugin_data.content) for tag, metadata in found.items()
                if metadata.plugin_data.plugin_name == "hparams"}  # fmt: skip
    assert set(contents) == {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"}
    started = contents["_hparams_/session_start_info"].session_start_info.hparams
    values = {key: getattr(value, value.WhichOneof("kind")) for key, value in started.items()}
    metrics = [info.name.tag for info in contents["_hparams_/experiment"].experiment.metric_infos]
    return {"values": values, "metrics": metrics}


def test_hyperparameters_have_the_same_keys_and_types_in_every_run(runs: list[Path]) -> None:
    single, adam, sgd = (session(run_dir)["values"] for run_dir in runs)
    for one in (adam, sgd):
        assert {key: type(value) for key, value in one.items()} == {key: type(value) for key, value in single.items()}
    assert single["optimizer"] == "momentum" and single["optimizer.lr"] == pytest.approx(0.1)
    assert adam["optimizer"] == "adam" and sgd["optimizer"] == "sgd"
    assert (single["seed"], adam["seed"], adam["model.dropout"]) == (0.0, 1.0, 0.3)


def test_the_metrics_that_the_page_announces_are_in_the_file(runs: list[Path]) -> None:
    for run_dir in runs:
        announced = session(run_dir)["metrics"]
        assert {"test/accuracy", "best/val_accuracy"} <= set(announced) <= set(events(run_dir).Tags()["scalars"])


def test_hyperparameters_are_numbers_or_text() -> None:
    config = {"choices": {"model": "resnet8", "data": None}, "optimizer": {"lr": 1}, "seed": 0}
    swept = {"channels_last": True, "data.subset": None, "loss.label_smoothing": 0}
    assert hyperparameters(config, swept) == {
        "model": "resnet8", "optimizer.lr": 1.0, "seed": 0.0,
        "channels_last": "True", "data.subset": "None", "loss.label_smoothing": 0.0,
    }  # fmt: skip


def test_the_confusion_matrix_is_one_picture(runs: list[Path]) -> None:
    for run_dir in runs:
        (stored,) = events(run_dir).Images("test/confusion_matrix")
        picture = Image.open(io.BytesIO(stored.encoded_image_string))
        counts = torch.from_numpy(np.genfromtxt(run_dir / "confusion.csv", delimiter=",", skip_header=1)[:, 1:]).long()
        expected = confusion_picture(counts, tuple(events_classes(run_dir)))
        assert picture.size == (stored.width, stored.height) == expected.shape[1::-1]
        assert np.array_equal(np.asarray(picture), expected)


def events_classes(run_dir: Path) -> list[str]:
    return (run_dir / "confusion.csv").read_text().splitlines()[0].split(",")[1:]


def test_tensorboard_leaves_one_file_in_the_run(runs: list[Path]) -> None:
    for run_dir in runs:
        names = [str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()]
        assert sum("tfevents" in name for name in names) == 1
        assert not [name for name in names if "hparams" in name or "lightning_logs" in name]


def cells(picture: np.ndarray, count: int) -> np.ndarray:
    """Colour of each cell, taken beside its number: (count, count, 3)."""
    left = picture.shape[1] - 8 - count * 30
    corners = [[picture[24 + row * 30 + 2, left + column * 30 + 2] for column in range(count)] for row in range(count)]
    return np.array(corners)


def test_cells_are_as_dark_as_their_share_of_the_true_class() -> None:
    matrix = torch.tensor([[8, 0, 0], [2, 1, 1], [0, 0, 0]])
    picture = confusion_picture(matrix, ("cat", "dog", "never"))
    assert picture.dtype == np.uint8
    share = np.array([[1, 0, 0], [0.5, 0.25, 0.25], [0, 0, 0]])
    expected = 255 + share[..., None] * (np.array([8, 48, 107]) - 255)
    assert np.abs(cells(picture, 3) - expected).max() <= 0.5


@pytest.mark.parametrize("count", [2, 10, 60, 200, 1000])
def test_many_classes_still_make_a_picture(count: int) -> None:
    picture = confusion_picture(torch.eye(count, dtype=torch.int64) * 3, tuple(f"class {i}" for i in range(count)))
    assert picture.ndim == 3 and picture.shape[2] == 3
    assert count * 4 <= picture.shape[0] <= max(1100, count * 4 + 200)
    assert (picture.reshape(-1, 3) == (8, 48, 107)).all(1).sum() >= count * 2  # the diagonal


def test_long_names_are_cut_and_names_make_a_difference() -> None:
    matrix = torch.eye(2, dtype=torch.int64)
    short = confusion_picture(matrix, ("a", "b"))
    assert confusion_picture(matrix, ("x" * 13, "y")).shape[1] > short.shape[1]
    assert confusion_picture(matrix, ("x" * 500, "y")).shape[1] < short.shape[1] + 200

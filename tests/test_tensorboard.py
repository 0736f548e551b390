"""The event file of a run, read with TensorBoard's own reader."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import STEPS, assert_same_bits, faulty, new_run, plan, weights
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray
from torch import Tensor, nn

from resweep.build import build_data, build_net
from resweep.config import read_frozen
from resweep.diagnostics import layer_groups
from resweep.pictures import confusion_picture, image_grid
from resweep.record import LAST, METRICS_FILE, MISTAKES_FILE, Record
from resweep.rows import read_rows
from resweep.seeding import derive_seed
from resweep.sweep.ledger import write_run
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
    return EventAccumulator(str(run_dir), size_guidance={"images": 0, "scalars": 0, "histograms": 0}).Reload()


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
        final["time/fit_seconds"] = record.fit_seconds
        assert set(found.Tags()["scalars"]) == PER_EPOCH | set(final)
        for tag, value in final.items():
            (point,) = found.Scalars(tag)
            assert (point.step, point.value) == (record.best_epoch, pytest.approx(value, rel=1e-6)), tag


def session(run_dir: Path) -> dict[str, Any]:
    """Hyperparameters of the one session in a run's event file, its group, and the metrics that are announced."""
    found = events(run_dir).summary_metadata
    contents = {tag: HParamsPluginData.FromString(metadata.plugin_data.content) for tag, metadata in found.items()
                if metadata.plugin_data.plugin_name == "hparams"}  # fmt: skip
    assert set(contents) == {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"}
    started = contents["_hparams_/session_start_info"].session_start_info
    values = {key: getattr(value, value.WhichOneof("kind")) for key, value in started.hparams.items()}
    metrics = [info.name.tag for info in contents["_hparams_/experiment"].experiment.metric_infos]
    status = contents["_hparams_/session_end_info"].session_end_info.status
    return {"values": values, "metrics": metrics, "group": started.group_name, "status": status}


def test_hyperparameters_have_the_same_keys_and_types_in_every_run(runs: list[Path]) -> None:
    single, adam, sgd = (session(run_dir)["values"] for run_dir in runs)
    for one in (adam, sgd):
        assert {key: type(value) for key, value in one.items()} == {key: type(value) for key, value in single.items()}
    assert single["optimizer"] == "momentum" and single["optimizer.lr"] == pytest.approx(0.1)
    assert adam["optimizer"] == "adam" and sgd["optimizer"] == "sgd"
    assert (single["model.dropout"], adam["model.dropout"]) == (0.0, 0.3)
    assert "seed" not in single  # a line of the page stands for all seeds


def test_the_metrics_that_the_page_announces_are_in_the_file(runs: list[Path]) -> None:
    for run_dir in runs:
        announced = session(run_dir)["metrics"]
        assert {"test/accuracy", "best/val_accuracy", "val/accuracy"} <= set(announced)
        assert set(announced) <= set(events(run_dir).Tags()["scalars"])


def test_a_diverged_run_ends_as_a_failure_and_keeps_what_it_has(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=3", *faulty(fault="diverge", after=STEPS + 1))
    assert execute(run_dir).status == "diverged"
    found = session(run_dir)
    assert found["status"] == STATUS_FAILURE
    tags = events(run_dir).Tags()
    assert "best/val_accuracy" in tags["scalars"] and "test/accuracy" not in tags["scalars"]
    assert tags["images"] == ["train/samples"]


def test_event_files_are_small(runs: list[Path]) -> None:
    for run_dir in runs:
        (path,) = run_dir.glob("events*")
        assert path.stat().st_size < 60_000  # 200 kB are allowed, for longer runs and larger images


def test_the_confusion_matrix_is_one_picture(runs: list[Path]) -> None:
    for run_dir in runs:
        (stored,) = events(run_dir).Images("test/confusion_matrix")
        picture = Image.open(io.BytesIO(stored.encoded_image_string))
        counts = torch.from_numpy(np.genfromtxt(run_dir / "confusion.csv", delimiter=",", skip_header=1)[:, 1:]).long()
        expected = confusion_picture(counts, tuple(events_classes(run_dir)))
        assert picture.size == (stored.width, stored.height) == expected.shape[1::-1]
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - expected).max() <= 16  # by a palette


def events_classes(run_dir: Path) -> list[str]:
    return (run_dir / "confusion.csv").read_text().splitlines()[0].split(",")[1:]


def test_the_mistakes_are_the_picture_of_the_folder(runs: list[Path]) -> None:
    for run_dir in runs:
        (stored,) = events(run_dir).Images("test/mistakes")
        assert stored.encoded_image_string == (run_dir / MISTAKES_FILE).read_bytes()
        assert stored.step == Record.read(run_dir).best_epoch


def test_the_samples_are_the_first_images_as_they_were_trained(tmp_path: Path) -> None:
    settings = ["data.flip=0.5", "data.crop_padding=2", "seed=3"]
    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=1", *settings)
    execute(run_dir)
    (stored,) = events(run_dir).Images("train/samples")
    data = build_data(read_frozen(run_dir))
    generator = torch.Generator().manual_seed(derive_seed(3, "order", 0))
    positions = torch.randperm(len(data.train), generator=generator)[: data.batch_size]
    images, labels = data.train.batch(positions)
    scale = data.std.float().view(-1, 1, 1), data.mean.float().view(-1, 1, 1)
    pixels = (data.augmented(images, 0, 0, positions) * scale[0] + scale[1]).mul(255).round().clamp(0, 255).byte()
    assert not torch.equal(pixels[:16], images[:16])
    captions = [(data.classes[label],) for label in labels[:16].tolist()]
    assert stored.encoded_image_string == image_grid(pixels[:16], captions)


def test_nothing_is_drawn_where_it_is_not_wanted(tmp_path: Path) -> None:
    off = ["logger.samples=false", "logger.mistakes=false", "logger.confusion=false"]
    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=1", *off)
    execute(run_dir)
    tags = events(run_dir).Tags()
    assert tags["images"] == tags["histograms"] == [] and tags["tensors"] == ["custom_scalars__config__"]


@pytest.fixture(scope="module")
def requested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything on."""
    run_dir = new_run(
        tmp_path_factory.mktemp("runs") / "all", f"trainer.max_epochs={EPOCHS + 1}", "logger.pr_curves=true",
        "logger.histograms_every=2",
    )  # fmt: skip
    assert execute(run_dir).status == "completed"
    return run_dir


def test_histograms_of_weights_and_gradients_on_request(requested: Path) -> None:
    found = events(requested)
    names = {tag.split("/", 1)[1] for tag in found.Tags()["histograms"]}
    assert names == {name for name, _ in layer_groups(net_of(requested))}
    for kind in ("weights", "gradients"):
        assert all([entry.step for entry in found.Histograms(f"{kind}/{name}")] == [2, 4] for name in names)
    state = weights(requested, LAST)
    for name, parameters in layer_groups(net_of(requested, state)):
        values = torch.cat([parameter.detach().flatten() for parameter in parameters]).double()
        last = found.Histograms(f"weights/{name}")[-1].histogram_value
        assert (last.num, last.min, last.max) == (len(values), values.min().item(), values.max().item())
        assert last.sum_squares == pytest.approx(values.square().sum().item(), rel=1e-6)
        assert sum(last.bucket) == len(values)
    assert all(found.Histograms(f"gradients/{name}")[-1].histogram_value.sum_squares > 0 for name in names)


def net_of(run_dir: Path, state: dict[str, Tensor] | None = None) -> nn.Module:
    config = read_frozen(run_dir)
    net = build_net(config, build_data(config))
    if state is not None:
        net.load_state_dict({key[4:]: value for key, value in state.items() if key.startswith("net.")})
    return net


def test_curves_of_precision_and_recall_on_request(requested: Path) -> None:
    found = events(requested)
    classes = events_classes(requested)
    assert {tag for tag in found.Tags()["tensors"] if "/pr/" in tag} == {f"test/pr/{name}" for name in classes}
    with open(requested / "classes.csv", newline="") as stream:
        support = {row["class"]: int(row["support"]) for row in csv.DictReader(stream)}
    for name in classes:
        tp, fp, tn, fn, _, recall = make_ndarray(found.Tensors(f"test/pr/{name}")[0].tensor_proto)
        assert tp[0] == support[name] == 4 and fp[0] == 36 and recall[0] == 1  # everything is positive at 0
        assert ((tp + fn) == 4).all() and ((fp + tn) == 36).all()


def test_what_is_shown_changes_nothing_in_training(requested: Path, tmp_path: Path) -> None:
    plain = new_run(tmp_path / "plain", f"trainer.max_epochs={EPOCHS + 1}", "logger=none")
    assert execute(plain).status == "completed"
    assert_same_bits(weights(plain), weights(requested))
    assert Record.read(plain).metrics == Record.read(requested).metrics


def test_a_run_with_several_labels_an_image_shows_what_it_has(tmp_path: Path) -> None:
    labels = ["data.multilabel=true", "loss=bce", "monitor=val/map"]
    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=1", "logger.pr_curves=true", *labels)
    record = execute(run_dir)
    found = events(run_dir)
    announced = session(run_dir)["metrics"]
    assert {"test/map", "best/val_map"} <= set(announced) <= set(found.Tags()["scalars"])
    assert found.Scalars("best/val_map")[0].value == pytest.approx(record.metrics["val/map"], rel=1e-6)
    assert set(found.Tags()["images"]) == {"train/samples", "test/mistakes"}
    with open(run_dir / "classes.csv", newline="") as stream:
        rows = {row["class"]: row for row in csv.DictReader(stream)}
    for name, row in rows.items():
        tp, _, _, fn, _, _ = make_ndarray(found.Tensors(f"test/pr/{name}")[0].tensor_proto)
        assert tp[0] == int(row["support"]) and tp[63] == int(row["tp"]) and fn[63] == int(row["fn"])  # 63/126 = 0.5
    with open(run_dir / "calibration.csv", newline="") as stream:
        bins = list(csv.DictReader(stream))
    assert sum(int(row["count"]) for row in bins) == 40 * 10  # every label of every test image
    present = sum(int(row["count"]) * float(row["accuracy"]) for row in bins if row["accuracy"])
    assert present == pytest.approx(sum(int(row["support"]) for row in rows.values()))


def test_a_continued_run_shows_its_samples_once_and_has_one_session(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=3", *faulty(fault="raise", after=2 * STEPS))
    assert [execute(run_dir).status for _ in range(2)] == ["failed", "completed"]
    assert len(list(run_dir.glob("events*"))) == 2
    assert len(events(run_dir).Images("train/samples")) == 1
    # Files of one second are read by the order of their names, in which a tenth file comes before a ninth.
    assert sorted(point.step for point in events(run_dir).Scalars("val/loss")) == [1, 2, 3]
    assert session(run_dir)["status"] == STATUS_SUCCESS


def test_tensorboard_leaves_one_file_in_the_run(runs: list[Path]) -> None:
    for run_dir in runs:
        names = [str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()]
        assert sum("tfevents" in name for name in names) == 1
        assert not [name for name in names if "hparams" in name or "lightning_logs" in name]

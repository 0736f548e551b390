"""A sweep as TensorBoard's own server shows it: asked over HTTP, as its pages ask."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import plan

from resweep.record import METRICS_FILE, Record
from resweep.rows import read_rows
from resweep.sweep.ledger import prepare
from resweep.train import execute

STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
AXES = ["trainer.gradient_clip_val=null,0.5", "model.dropout=0,0.3", "seed=1,2"]


class Server:
    """Asks a server that runs at an address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, path: str, body: object = None, **query: str) -> Any:
        """Get, or post where there is a body, and read the answer as JSON."""
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.url}/data/{path}?{urllib.parse.urlencode(query)}"
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=60) as answer:
            return json.load(answer)

    def groups(self, **columns: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the lines of the HParams page; a column may have a filter."""
        asked = [{"hparam": name, **settings} for name, settings in columns.items()]
        body = {"experimentName": "", "allowedStatuses": STATUSES, "colParams": asked, "startIndex": 0, "sliceSize": 99}
        return self("plugin/hparams/session_groups", body)["sessionGroups"]


@contextmanager
def tensorboard(logdir: Path, runs: int) -> Iterator[Server]:
    """Start the server on a free port and wait until it has found all runs."""
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stderr], daemon=True)
        reader.start()
        try:
            said, found = "", None
            while found is None:
                said += lines.get(timeout=90)
                found = re.search(r"http://127\.0\.0\.1:\d+", said)
            server, end = Server(found[0]), time.monotonic() + 60
            while len(server("runs")) < runs or len(server("plugin/scalars/tags")) < runs:
                assert time.monotonic() < end, server("runs")
                time.sleep(0.2)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)
            reader.join(timeout=30)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs: two limits of the gradient, one of them none, two dropouts, two seeds."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    planned = plan(*AXES, "logger.pr_curves=true", "logger.histograms_every=2")
    prepare(planned, folder)
    for run in planned.runs:
        assert execute(folder / run.folder).status == "completed"
    return folder


@pytest.fixture(scope="module")
def server(sweep: Path) -> Iterator[Server]:
    with tensorboard(sweep, 8) as started:
        yield started


def folders(sweep: Path) -> list[Path]:
    return sorted(path for path in sweep.iterdir() if path.is_dir())


def test_the_runs_are_the_folders(server: Server, sweep: Path) -> None:
    assert sorted(server("runs")) == [path.name for path in folders(sweep)]


def test_scalars_have_readable_names_and_the_values_of_the_rows(server: Server, sweep: Path) -> None:
    tags = server("plugin/scalars/tags")
    for path in folders(sweep):
        assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "test/accuracy"} <= set(
            tags[path.name]
        )
        assert not [tag for tag in tags[path.name] if "hp_metric" in tag or tag.endswith(("_step", "_epoch"))]
    path = folders(sweep)[0]
    points = server("plugin/scalars/scalars", run=path.name, tag="val/loss")
    rows = read_rows(path / METRICS_FILE)
    assert [(step, value) for _, step, value in points] == [
        (row["epoch"], pytest.approx(row["val/loss"], rel=1e-6)) for row in rows
    ]


def test_hparams_declares_keys_types_and_domains_of_the_whole_sweep(server: Server) -> None:
    found = server("plugin/hparams/experiment", {"experimentName": ""})
    infos = {info["name"]: info for info in found["hparamInfos"]}
    swept = {name: (info["type"], info["domainDiscrete"]) for name, info in infos.items() if info["differs"]}
    assert swept == {
        "trainer.gradient_clip_val": ("DATA_TYPE_STRING", ["null", "0.5"]),
        "model.dropout": ("DATA_TYPE_FLOAT64", [0, 0.3]),
    }
    assert {"data", "model", "optimizer", "scheduler", "augment", "data.batch_size", "optimizer.lr"} <= set(infos)
    assert "seed" not in infos
    metrics = {info["name"]["tag"]: info["displayName"] for info in found["metricInfos"]}
    assert metrics["test/accuracy"] == "test accuracy"
    assert metrics["best/val_accuracy"] == "validation accuracy, best epoch"
    assert metrics["val/loss"] == "validation loss, last epoch"
    assert not [tag for tag in metrics if "hp_metric" in tag]


def test_a_line_of_hparams_is_a_setting_with_the_mean_of_its_seeds(server: Server, sweep: Path) -> None:
    groups = server.groups(**{"model.dropout": {}})
    settings = [(group["hparams"]["model.dropout"], group["hparams"]["trainer.gradient_clip_val"]) for group in groups]
    assert sorted(settings) == [(dropout, clip) for dropout in (0, 0.3) for clip in ("0.5", "null")]
    for group in groups:
        assert {name: type(value) for name, value in group["hparams"].items()} == {
            "model.dropout": float, "trainer.gradient_clip_val": str, "optimizer.lr": float, "data.batch_size": float,
            "optimizer.weight_decay": float, "trainer.max_epochs": float, "data": str, "augment": str, "model": str,
            "optimizer": str, "scheduler": str,
        }  # fmt: skip
        records = [Record.read(sweep / session["name"]) for session in group["sessions"]]
        assert [session["status"] for session in group["sessions"]] == ["STATUS_SUCCESS"] * 2
        assert sorted(record.seed for record in records) == [1, 2]
        shown = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        for tag, name in {"test/accuracy": "test/accuracy", "best/val_loss": "val/loss"}.items():
            mean = sum(record.metrics[name] for record in records) / 2
            assert shown[tag] == pytest.approx(mean, rel=1e-6)


def test_lines_can_be_filtered_by_a_declared_value(server: Server) -> None:
    found = server.groups(**{"trainer.gradient_clip_val": {"filterDiscrete": ["null"]}, "model.dropout": {}})
    assert [group["hparams"]["trainer.gradient_clip_val"] for group in found] == ["null", "null"]
    (found,) = server.groups(
        **{"trainer.gradient_clip_val": {"filterDiscrete": ["0.5"]}, "model.dropout": {"filterDiscrete": [0.3]}}
    )
    assert (found["hparams"]["model.dropout"], found["hparams"]["trainer.gradient_clip_val"]) == (0.3, "0.5")


def test_a_chart_holds_training_and_validation(server: Server, sweep: Path) -> None:
    layout = server("plugin/custom_scalars/layout")
    charts = {chart["title"]: chart["multiline"]["tag"] for part in layout["category"] for chart in part["chart"]}
    assert list(charts) == ["loss", "accuracy", "learning rate", "seconds per epoch"]  # once, not once a run
    run = folders(sweep)[0].name
    expected = {
        "loss": ["train/loss", "val/loss"], "accuracy": ["train/accuracy", "val/accuracy"], "learning rate": ["lr"],
        "seconds per epoch": ["time/epoch_seconds"],
    }  # fmt: skip
    for title, patterns in charts.items():
        drawn = [tag for pattern in patterns for tag in curves(server, run, pattern)]
        assert drawn == expected[title]
        assert all(len(points) == 2 for pattern in patterns for points in curves(server, run, pattern).values())


def curves(server: Server, run: str, pattern: str) -> dict[str, list]:
    return server("plugin/custom_scalars/scalars", run=run, tag=pattern)["tag_to_events"]


def test_pictures_curves_and_histograms_are_served(server: Server, sweep: Path) -> None:
    run = folders(sweep)[0].name
    assert set(server("plugin/images/tags")[run]) == {"train/samples", "test/mistakes", "test/confusion_matrix"}
    (image,) = server("plugin/images/images", run=run, tag="test/mistakes", sample="0")
    with urllib.request.urlopen(f"{server.url}/data/plugin/images/individualImage?{image['query']}") as answer:
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.read() == (sweep / run / "mistakes.png").read_bytes()
    assert len(server("plugin/pr_curves/tags")[run]) == 10
    tag = sorted(server("plugin/pr_curves/tags")[run])[0]
    (curve,) = server("plugin/pr_curves/pr_curves", run=run, tag=tag)[run]
    assert len(curve["precision"]) == len(curve["thresholds"]) > 2 and max(curve["recall"]) == 1
    names = set(server("plugin/histograms/tags")[run])
    assert {name.split("/")[0] for name in names} == {"weights", "gradients"}
    assert [entry[1] for entry in server("plugin/histograms/histograms", run=run, tag=sorted(names)[0])] == [2]

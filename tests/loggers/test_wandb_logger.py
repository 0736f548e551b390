"""Runs of Weights & Biases without a connection: what stands in the file that ``wandb sync`` would send."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import wandb
from helpers import faulty, frozen, new_run
from wandb.proto.wandb_internal_pb2 import Record as WandbRecord

from resweep.build import component
from resweep.errors import RequestError
from resweep.loggers.wandb import RunWandbLogger, has_login
from resweep.record import METRICS_FILE, Record
from resweep.rows import read_rows
from resweep.tensorboard import hyperparameters
from resweep.train import execute

OFFLINE = ["logger=wandb", "logger.offline=true"]
BLOCK = 1 << 15


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No settings and no folders of the user's; an address at which nobody listens; its service ends with the tests."""
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
            patch.setenv(f"WANDB_{name}", str(folder))
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        wandb.teardown()  # of another test file, with the settings of then
        yield
        wandb.teardown()


@dataclass
class Stored:
    """Content of one offline run."""

    id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def records(data: bytes) -> Iterator[WandbRecord]:
    """Read LevelDB's log format behind the file's own header of 7 bytes.

    Blocks of 32 KiB hold pieces: checksum (4 bytes), size (2), kind (1: a whole record, 2 to 4: first, middle and last
    piece of one), content.
    """
    place, content = 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        content += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield WandbRecord.FromString(content)
            content = b""


def stored(run_dir: Path) -> list[Stored]:
    """The offline runs in a run's folder, in their order."""
    return [read(path) for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))]


def read(path: Path) -> Stored:
    found = Stored()
    for record in records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.id, found.project = record.run.run_id, record.run.project
            found.name, found.group = record.run.display_name, record.run.run_group
        for item in record.run.config.update if kind == "run" else record.config.update if kind == "config" else ():
            found.config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        if kind == "history":
            line = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found.history.append(line)
        if kind == "summary":
            for item in record.summary.update:
                found.summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        if kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_run(tmp_path_factory.mktemp("runs") / "sweep" / "run", *OFFLINE)
    assert execute(folder).status == "completed"
    return folder


def test_a_run_keeps_everything_in_a_file_without_a_connection(run_dir: Path, capfd: pytest.CaptureFixture) -> None:
    (kept,) = stored(run_dir)
    record = Record.read(run_dir)
    assert (kept.project, kept.name, kept.exit_code) == ("sweep", "run", 0)
    rows = read_rows(run_dir / METRICS_FILE)
    *epochs, final = kept.history
    assert [line["trainer/global_step"] for line in epochs] == [row["epoch"] for row in rows] == [1, 2]
    for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr"):
        assert [line[name] for line in epochs] == pytest.approx([row[name] for row in rows], rel=1e-6)
    tested = {name: value for name, value in record.metrics.items() if name.startswith("test/")}
    expected = tested | {"best/val_accuracy": record.metrics["val/accuracy"]}
    assert {name: final[name] for name in expected} == pytest.approx(expected)
    assert final["trainer/global_step"] == record.best_epoch
    assert kept.summary["status"] == "completed"
    assert kept.summary["test/accuracy"] == pytest.approx(record.metrics["test/accuracy"])


def test_the_config_has_the_hyperparameters_of_tensorboard(run_dir: Path) -> None:
    (kept,) = stored(run_dir)
    values = hyperparameters(frozen(*OFFLINE), {})
    assert {key: kept.config[key] for key in values} == values
    assert kept.config["resweep"]["config_digest"] == Record.read(run_dir).config_digest
    assert kept.group != ""


def test_a_continued_run_keeps_its_id(tmp_path: Path) -> None:
    repaired = tmp_path / "repaired"
    run_dir = new_run(tmp_path / "sweep" / "run", *OFFLINE, *faulty(fault="raise", unless=repaired))
    assert execute(run_dir).status == "failed"
    (first,) = stored(run_dir)
    assert first.exit_code == 1 and wandb.run is None
    assert execute(run_dir).status == "completed"
    ids = {one.id for one in stored(run_dir)}
    assert ids == {first.id} and stored(run_dir)[-1].exit_code == 0


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert execute(new_run(tmp_path / "sweep" / "run", "trainer.max_epochs=1", *OFFLINE)).status == "completed"
    printed = capfd.readouterr()
    assert "wandb" not in printed.out + printed.err
    assert "WANDB_MODE" not in os.environ


def test_without_a_login_the_run_fails_before_training_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    run_dir = new_run(tmp_path / "sweep" / "run", "logger=wandb")
    record = execute(run_dir)
    assert record.status == "failed" and record.epochs == 0
    for remedy in ("`wandb login`", "logger.offline=true"):
        assert remedy in record.error["message"]


def test_a_login_is_looked_for_when_the_logger_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RequestError, match=r"run `wandb login`, or set logger\.offline=true"):
        RunWandbLogger(str(tmp_path / "sweep" / "run"))
    RunWandbLogger(str(tmp_path / "sweep" / "run"), offline=True)
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {'a' * 40}\n")
    assert not has_login(), "this is the login of another server"
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {'a' * 40}\n")
    assert has_login()
    RunWandbLogger(str(tmp_path / "sweep" / "run"))
    (tmp_path / "netrc").unlink()
    monkeypatch.setattr(wandb.setup().settings, "mode", "offline")
    assert has_login()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "resweep.loggers.wandb")
    with pytest.raises(RequestError, match=r"pip install 'resweep\[wandb\]'"):
        component("logger", frozen("logger=wandb")["logger"])


def test_the_choice_of_the_config_is_this_logger() -> None:
    assert component("logger", frozen("logger=wandb")["logger"]).func is RunWandbLogger

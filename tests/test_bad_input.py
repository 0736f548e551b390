"""Every mistake ends with status 2, a message that helps, no traceback, and nothing written."""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resweep.cli import main

Refused = Callable[..., str]
Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command in an empty folder, checks what holds for every mistake, and returns the message."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("resweep.sweep.launch.start_server", lambda: None)
    monkeypatch.setattr("resweep.sweep.launch.call_in_worker", called_here)

    def run(*words: str) -> str:
        before = listing(tmp_path)
        try:
            status: Any = main(list(words))
        except SystemExit as stop:  # argparse: a wrong flag
            status = stop.code
        captured = capsys.readouterr()
        assert status == 2, captured
        assert captured.out == ""
        assert "Traceback" not in captured.err and "Error executing job" not in captured.err
        assert listing(tmp_path) == before
        return captured.err

    return run


def called_here(function: str, *args: Any) -> Any:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(*args)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def said(text: str, *parts: str) -> None:
    for part in parts:
        assert part in text, text


# command line after `resweep`; what the message has to say: the key with its value, what is allowed, the nearest name
LIGHT: dict[str, tuple[str, ...]] = {
    "train optimizer=adm": (
        "optimizer=adm", "allowed: adadelta, adagrad, adam, adamw, amsgrad, lbfgs", "did you mean  optimizer=adam ?",
        "corrected:  resweep train optimizer=adam",
    ),
    "train optmizer=adam": ("optmizer=adam", "it has data, augment", "did you mean  optimizer ?"),
    "train optimizer.weight_decy=1e-4": (
        "optimizer.weight_decy=1e-4", "it has lr, momentum, nesterov, weight_decay",
        "did you mean  optimizer.weight_decay ?",
        "corrected:  resweep train optimizer.weight_decay=1e-4",
    ),
    "train seed=abc": ("seed=abc", "must be a whole number, at least 0"),
    "train optimizer.lr=-0.1": ("optimizer.lr=-0.1", "must be a number, at least 0"),
    "train model.dropout=1.5": ("model.dropout=1.5", "at least 0 and below 1"),
    "train optimizer=adam optimizer.momentum=0.9": (
        "optimizer.momentum=0.9", "not a key of the chosen optimizer; it has lr, betas, eps, weight_decay",
    ),
    "train trainer.max_epochs=0": ("trainer.max_epochs=0", "at least 1"),
    "train data.val_size=1": ("data.val_size=1", "a share between 0 and 1, or a number of images of at least 2"),
    "train data.val_size=1.0": ("data.val_size=1.0", "a share between 0 and 1, or a number of images of at least 2"),
    "train data=image_folder": ("data.root=???", "data.root=VALUE"),
    "train model._target_=os.system": (
        "model._target_=os.system", "resweep.models.*", "+allowed_targets.NAME=os.system",
    ),
    "train optimizer=sgd,adam": ("optimizer=sgd,adam", "add -m for a sweep"),
    "train optimizer.lr=interval(0,1)": ("optimizer.lr=interval(0,1)", "KEY=1,2,3"),
    "train +seed=1": ("seed",),
    "train runs_dir=../file/runs": ("runs_dir=", "file/runs", "cannot be written", "is not a folder"),
    "train --config-dir nowhere": ("--config-dir=nowhere", "is not a folder"),
    "train --progress loud": ("--progress=loud", "auto, live, plain, off"),
    "train --nonsense": ("--nonsense",),
    "train -m optimizer=sgd,adm seed=0,1": (
        "optimizer=adm", "corrected:  resweep train -m optimizer=sgd,adam seed=0,1",
    ),
    "train -m optimizer=sgd,adm model.dropout=0,1.5 sed=0,1": (
        "3 problems", "optimizer=adm", "model.dropout=1.5", "sed=0,1", "did you mean  seed ?",
    ),
    "train -m optimizer.lr=interval(0,1) seed=0,1": ("optimizer.lr=interval(0,1)", "KEY=1,2,3"),
    "train -m seed=1,2,1": ("seed=1,2,1", "more than once"),
    "train -m threads=1,2": ("threads=2", "computes the same as threads=1"),
    "train -m sweep=optimizer": ("sweep=optimizer", "did you mean  sweep=optimizers ?"),
    "train -m --config-dir nowhere": ("--config-dir=nowhere", "is not a folder"),
    "tran seed=1": ("tran", "train, resume, retry", "did you mean  train ?", "corrected:  resweep train seed=1"),
    "list optimzer": ("optimzer", "augment, averaging, data, executor", "corrected:  resweep list optimizer"),
    "list --config-dir nowhere": ("--config-dir=nowhere", "is not a folder"),
    "resume nothing": ("nothing", "is neither a run (config.yaml) nor a sweep (sweep.yaml)"),
    "resume ../image": ("image", "is neither a run", "did you mean  ../images ?"),
    "resume ../images": ("images", "is neither a run"),
    "resume": ("usage: resweep resume",),
    "evaluate nothing": ("nothing", "is not a run"),
    "compare nothing": ("nothing",),
    "compare": ("usage: resweep compare",),
    "demo seed=x": ("seed=x", "whole number"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "parts"), LIGHT.items(), ids=list(LIGHT))
def test_mistakes_of_the_request(refused: Refused, images: Path, tmp_path: Path, line: str, parts: tuple) -> None:
    (tmp_path / "file").write_text("")
    said(refused(*line.split()), *parts)


@pytest.mark.parametrize("words", [["seed=x"], ["-m", "seed=0,x"]])
def test_the_whole_request_is_judged_before_training_code_is_loaded(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it would fail
    monkeypatch.delitem(sys.modules, "resweep.sweep.check", raising=False)
    said(refused("train", *words), "seed=x")


def test_all_mistakes_at_once(refused: Refused) -> None:
    text = refused("train", "optmizer=sgd", "optimizer.weight_decy=1e-4", "trainer.max_epochs=ten", "model=resnet9")
    said(text, "4 problems", "1  ", "2  ", "3  ", "4  ", "optmizer", "optimizer.weight_decy", "trainer.max_epochs=ten")
    said(text, "model=resnet9", "corrected:  resweep train optimizer=sgd optimizer.weight_decay=1e-4")
    assert "5  " not in text


# Mistakes that show when data and net are built: still before anything is written.


@pytest.fixture(params=["one run", "sweep"])
def request_of(request: pytest.FixtureRequest, refused: Refused) -> Refused:
    """As ``refused``, for ``train`` with and without ``-m``."""
    return lambda *words: refused("train", *(["-m", "seed=0,1"] if request.param == "sweep" else []), *words)


def test_missing_data(request_of: Refused) -> None:
    text = request_of("data=mnist", "data.root=nowhere")
    said(text, "data.root=", "nowhere", "MNIST/raw/train-images-idx3-ubyte", "data.download=true")
    assert text.count("nowhere: has no") == 1  # once, not per run


def test_a_missing_image_folder(refused: Refused) -> None:
    said(refused("train", "data=image_folder", "data.root=nowhere"), "data.root=", "nowhere")


def test_an_image_folder_with_one_class(request_of: Refused, images: Path) -> None:
    for path in (images / "dog").iterdir():
        path.unlink()
    (images / "dog").rmdir()
    said(request_of("data=image_folder", f"data.root={images}"), f"data.root={images}", "class")


def test_an_image_that_cannot_be_read(request_of: Refused, images: Path) -> None:
    (images / "dog" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    said(request_of("data=image_folder", f"data.root={images}"), str(Path("dog") / "3.png"))


def test_a_split_that_needs_more_images_than_there_are(refused: Refused, images: Path) -> None:
    said(refused("train", "data=image_folder", f"data.root={images}", "data.val_size=500"), "data", "500")


def test_arguments_that_a_component_does_not_have(request_of: Refused) -> None:
    text = request_of("+optimizer.dampning=0.1", "+trainer.max_step=3", "data=fake")
    said(text, "optimizer.dampning=0.1", "did you mean  optimizer.dampening ?", "++optimizer.dampening=0.1")


def test_an_argument_that_the_trainer_does_not_have(refused: Refused) -> None:
    said(refused("train", "+trainer.max_step=3"), "trainer.max_step=3", "trainer.max_steps ?", "++trainer.max_steps=3")


def test_a_warm_up_longer_than_the_training(refused: Refused) -> None:
    said(refused("train", "scheduler=warmup_cosine", "trainer.max_epochs=3"), "scheduler", "warmup")


def test_an_accelerator_that_is_not_there(refused: Refused) -> None:
    said(refused("train", "trainer.accelerator=warp"), "trainer", "warp")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sends every download to a local port on which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{bound.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("urllib.request._opener", None)
        yield


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_download_without_a_network(refused: Refused, no_network: None, name: str) -> None:
    text = refused("train", f"data={name}", "data.download=true", "data.root=sets")
    said(text, "data.root" if "data.root=" in text else "data.download", "download")


# The same in real processes


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("train optimizer=adm seed=x", "did you mean  optimizer=adam ?"),
        ("train -m optimizer=adm,sgd", "did you mean  optimizer=adam ?"),
        ("train runs_dir=../file/runs", "cannot be written"),
        ("tran", "did you mean  train ?"),
    ],
)
def test_a_mistake_ends_the_process_with_status_2(shell: Shell, tmp_path: Path, line: str, part: str) -> None:
    (tmp_path / "file").write_text("")
    before = listing(tmp_path)
    done = shell("import sys; from resweep.cli import main; sys.exit(main(sys.argv[1:]))", *line.split())
    assert done.returncode == 2 and done.stdout == ""
    said(done.stderr, part)
    assert "Traceback" not in done.stderr and listing(tmp_path) == before


@pytest.mark.slow
def test_a_sweeps_mistake_that_a_worker_finds(shell: Shell, images: Path, tmp_path: Path) -> None:
    (images / "dog" / "3.png").write_bytes(b"nothing")
    before = listing(tmp_path)
    words = ["train", "-m", "data=image_folder", f"data.root={images}", "seed=0,1", "+optimizer.foo=1"]
    done = shell("import sys; from resweep.cli import main; sys.exit(main(sys.argv[1:]))", *words)
    assert done.returncode == 2, done.stderr
    said(done.stderr, "3.png", "nothing was started")
    assert "Traceback" not in done.stderr and listing(tmp_path) == before

"""One run: what it leaves behind, how it ends, and that going on equals never having stopped."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import (
    SMALL,
    STEPS,
    TESTS,
    assert_same_bits,
    faulty,
    finished_epochs,
    new_run,
    snapshot,
    timeless_rows,
    wait_until,
    weights,
    write_images,
)

import resweep.sweep.executors.local as local
from resweep.callbacks import COLUMNS, Silent
from resweep.claim import Busy, claim, holder
from resweep.cli import main
from resweep.config import config_loader
from resweep.errors import Problem, RequestError
from resweep.evaluate import evaluate
from resweep.record import (
    BEST,
    CALIBRATION_FILE,
    CHECKPOINTS,
    CONFUSION_FILE,
    LAST,
    LOCK_FILE,
    LOG_FILE,
    METRICS_FILE,
    MISTAKES_FILE,
    RUN_FILE,
    WEIGHTS_FILE,
    Record,
)
from resweep.report.load import load_sweep
from resweep.rows import read_rows
from resweep.stopping import Interrupted
from resweep.sweep.ledger import write_run
from resweep.sweep.plan import make_plan
from resweep.tables import CLASSES_FILE
from resweep.tensorboard import RunLogger
from resweep.train import describe, execute

KEYS = {
    "id", "label", "status", "error", "attempts", "seed", "overrides", "swept", "config_digest", "metrics",
    "best_epoch", "epochs", "parameters", "fit_seconds", "images_per_second", "peak_memory_bytes", "environment",
    "data_digest", "split_sizes", "missing", "started_at", "finished_at",
}  # fmt: skip
OF_TEST = (CONFUSION_FILE, CLASSES_FILE, CALIBRATION_FILE, WEIGHTS_FILE, MISTAKES_FILE)
METRICS = {"val/loss", "val/accuracy"} | {
    f"test/{name}" for name in ("loss", "accuracy", "precision", "recall", "f1", "auroc", "brier", "ece", "top5")
}


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = new_run(tmp_path_factory.mktemp("runs") / "one", "trainer.max_epochs=4", "seed=5")
    execute(run_dir)
    return run_dir


def content(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / RUN_FILE).read_text())


def test_the_record_of_a_completed_run(completed: Path) -> None:
    found = content(completed)
    assert set(found) == KEYS
    assert (found["status"], found["error"], found["attempts"], found["seed"], found["epochs"]) == (
        "completed", None, 1, 5, 4,
    )  # fmt: skip
    assert set(found["metrics"]) == METRICS
    assert all(0 <= value <= 1 for name, value in found["metrics"].items() if not name.endswith("loss"))
    # Convolutions 3*4*9 + 2*4*4*9 + 4*8*9 + 8*8*9 + 8*16*9 + 16*16*9, norms 2*(3*4 + 2*8 + 2*16), linear 16*10 + 10.
    assert found["parameters"] == 5006
    assert found["config_digest"].startswith(found["id"])
    assert 0 < found["fit_seconds"] < 60 and found["images_per_second"] > 0
    assert found["peak_memory_bytes"] > 50e6  # torch alone is larger
    assert found["environment"]["threads"] == 1
    assert torch.__version__.startswith(found["environment"]["packages"]["torch"])
    times = [datetime.fromisoformat(found[key]) for key in ("started_at", "finished_at")]
    assert times[0] <= times[1] and all(time.utcoffset().total_seconds() == 0 for time in times)


def test_the_files_of_a_completed_run(completed: Path) -> None:
    names = {path.name for path in completed.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        "config.yaml", RUN_FILE, METRICS_FILE, CHECKPOINTS, LOG_FILE, LOCK_FILE, *OF_TEST,
    }  # fmt: skip
    assert {path.name for path in (completed / CHECKPOINTS).iterdir()} == {BEST, LAST}


def test_the_rows_of_a_completed_run(completed: Path) -> None:
    with open(completed / METRICS_FILE, newline="") as stream:
        lines = list(csv.reader(stream))
    assert tuple(lines[0]) == COLUMNS
    rows = read_rows(completed / METRICS_FILE)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert all(row["seconds"] > 0 and row["images_per_second"] > 0 for row in rows)
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    best = max(rows, key=lambda row: (row["val/accuracy"], -row["val/loss"]))
    found = content(completed)
    assert found["best_epoch"] == best["epoch"]
    assert found["metrics"]["val/accuracy"] == pytest.approx(best["val/accuracy"], rel=1e-9)
    assert found["metrics"]["val/loss"] == pytest.approx(best["val/loss"], rel=1e-9)


def test_the_confusion_matrix_counts_every_test_image_once(completed: Path) -> None:
    with open(completed / CONFUSION_FILE, newline="") as stream:
        header, *rows = list(csv.reader(stream))
    counts = torch.tensor([[int(cell) for cell in row[1:]] for row in rows])
    assert header[1:] == [row[0] for row in rows] and counts.shape == (10, 10)
    assert counts.sum(1).tolist() == [4] * 10  # 40 test images, equally many of each class
    accuracy = counts.diagonal().sum().item() / 40
    assert content(completed)["metrics"]["test/accuracy"] == pytest.approx(accuracy, abs=1e-7)


def test_the_bins_of_confidence_hold_every_test_image_and_make_the_error(completed: Path) -> None:
    rows = read_csv(completed / CALIBRATION_FILE)
    counts = [int(row["count"]) for row in rows]
    assert len(rows) == 15 and sum(counts) == 40
    metrics = content(completed)["metrics"]
    filled = [(int(row["count"]), float(row["accuracy"]), float(row["confidence"])) for row in rows if row["accuracy"]]
    assert sum(count * accuracy for count, accuracy, _ in filled) / 40 == pytest.approx(metrics["test/accuracy"])
    gaps = sum(count * abs(accuracy - confidence) for count, accuracy, confidence in filled) / 40
    assert gaps == pytest.approx(metrics["test/ece"], rel=1e-6)


@pytest.mark.parametrize("averaging", ["none", "ema", "lookahead"])
def test_the_listed_weights_are_those_that_were_tested(averaging: str, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "run", f"averaging={averaging}")
    assert execute(run_dir).status == "completed"
    state = weights(run_dir, BEST)
    if averaging == "ema":
        expected = {key: value for key, value in state.items() if key.startswith("average.module.")}
    elif averaging == "lookahead":
        slow = [value for key, value in state.items() if key.startswith("lookahead.") and not key.endswith("count")]
        expected = dict(enumerate(slow))
    else:
        expected = {key: value for key, value in state.items() if key.startswith("net.")}
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    tensors = [value for key, value in expected.items() if not str(key).endswith(buffers)]
    rows = read_csv(run_dir / WEIGHTS_FILE)
    assert [int(row["count"]) for row in rows] == [tensor.numel() for tensor in tensors]
    assert sum(int(row["count"]) for row in rows) == 5006
    assert [float(row["norm"]) for row in rows] == pytest.approx([tensor.norm().item() for tensor in tensors], rel=1e-6)
    assert [float(row["largest"]) for row in rows] == pytest.approx([tensor.abs().max().item() for tensor in tensors])


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_finished_run_is_left_alone(completed: Path) -> None:
    before = snapshot(completed)
    record = execute(completed)
    assert vars(record) == content(completed)
    assert main(["-q", "resume", str(completed)]) == 2  # flags stand behind the command
    assert main(["resume", "-q", str(completed)]) == 0
    assert snapshot(completed) == before


class Weights(Silent):
    """Keeps the weights at the end of each epoch, and plants the validation values of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, planted: list[tuple[float, float]]) -> None:
        from resweep.lit_module import LitClassifier

        self.states: list[dict[str, torch.Tensor]] = []
        original = LitClassifier.on_validation_epoch_end

        def end(module: LitClassifier) -> None:
            original(module)
            loss, accuracy = planted[len(self.states)]
            module.val_scores = {"val/loss": loss, "val/accuracy": accuracy}
            self.states.append({name: value.clone() for name, value in module.state_dict().items()})

        monkeypatch.setattr(LitClassifier, "on_validation_epoch_end", end)


@pytest.mark.parametrize(
    ("changes", "planted", "best"),
    [
        ([], [(1.0, 0.5), (0.9, 0.75), (0.5, 0.75), (0.25, 0.25)], 3),  # of equal accuracies the lower loss
        ([], [(1.0, 0.5), (0.5, 0.75), (0.75, 0.75), (0.25, 0.25)], 2),
        (["monitor=val/loss", "monitor_mode=min"], [(1.0, 0.5), (0.9, 0.75), (0.5, 0.75), (0.25, 0.25)], 4),
        (["checkpoint_every=3"], [(1.0, 0.5), (0.9, 0.75), (0.5, 0.25), (0.5, 0.25)], 2),
    ],
)
def test_the_best_checkpoint_has_the_weights_of_the_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], planted: list, best: int
) -> None:
    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=4", "logger=none", *changes)
    observer = Weights(monkeypatch, planted)
    assert execute(run_dir, observer).best_epoch == best
    assert_same_bits(weights(run_dir, BEST), observer.states[best - 1])
    assert_same_bits(weights(run_dir, LAST), observer.states[-1])
    assert not torch.equal(weights(run_dir, BEST)["net.classifier.weight"], observer.states[0]["net.classifier.weight"])


def test_a_failing_run_says_what_happened_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=3", *faulty(fault="raise", after=STEPS + 1))
    record = execute(run_dir)
    assert (record.status, record.epochs, record.attempts) == ("failed", 1, 1)
    assert record.error["type"] == "ArithmeticError" and record.error["message"] == "planted failure"
    assert record.error["where"].startswith("helpers.py:") and record.error["where"].endswith(" in fail")
    assert set(record.metrics) == {"val/loss", "val/accuracy"} and record.best_epoch == 1
    assert vars(record) == content(run_dir)
    log = (run_dir / LOG_FILE).read_text()
    assert "Traceback (most recent call last)" in log and "ArithmeticError: planted failure" in log
    assert [row["epoch"] for row in read_rows(run_dir / METRICS_FILE)] == [1]
    assert not any((run_dir / name).exists() for name in OF_TEST)
    again = execute(run_dir)  # the count of calls starts anew: epoch 2 succeeds, epoch 3 does not
    assert (again.status, again.epochs, again.attempts) == ("failed", 2, 2)
    done = execute(run_dir)
    assert (done.status, done.epochs, done.attempts, done.error) == ("completed", 3, 3, None)


def test_the_innermost_cause_and_the_users_file_are_named(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "run", *faulty(fault="exhaust", after=0))
    error = execute(run_dir).error
    assert (error["type"], error["message"]) == ("MemoryError", "no room left")
    try:
        json.loads("{")
    except ValueError as raised:
        described = describe(raised)
    assert described["where"].startswith("test_train.py:"), "a file of the standard library is nobody's place"


def test_a_picture_that_cannot_be_drawn_is_named_and_the_run_is_completed(
    tmp_path: Path, completed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> bytes:
        raise ArithmeticError("no such colour")

    monkeypatch.setattr("resweep.tables.image_grid", broken)
    run_dir = new_run(tmp_path / "sweep" / "run", "trainer.max_epochs=4", "seed=5", "logger=none")
    record = execute(run_dir)
    assert (record.status, record.error) == ("completed", None)
    assert record.metrics == content(completed)["metrics"] and content(completed)["missing"] == {}
    assert content(run_dir)["missing"] == {MISTAKES_FILE: "ArithmeticError: no such colour"}
    assert {name for name in OF_TEST if (run_dir / name).exists()} == {*OF_TEST} - {MISTAKES_FILE}
    log = (run_dir / LOG_FILE).read_text()
    assert "Traceback" in log and "test_train.py" in log and "ArithmeticError: no such colour" in log
    sweep = load_sweep(run_dir.parent)
    sweep.check_files()
    assert sweep.damaged == ["run/mistakes.png: could not be written (ArithmeticError: no such colour)"]


@pytest.mark.parametrize("moment", ["tested", "finish"])
def test_a_tracker_that_fails_at_the_end_takes_nothing_from_the_result(
    tmp_path: Path, completed: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = []

    def broken(*args: object) -> None:
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(RunLogger, "finish", lambda self, record: finished.append(record.status))
    monkeypatch.setattr(RunLogger, moment, broken)
    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=4", "seed=5")
    execute(run_dir)
    found = content(run_dir)
    assert found["status"] == "completed" and found["metrics"] == content(completed)["metrics"]
    assert found["error"]["message"] == "the server is gone"
    log = (run_dir / LOG_FILE).read_text()
    assert "Traceback" in log and "ConnectionError: the server is gone" in log
    assert finished == (["completed"] if moment == "tested" else []), "the end is told whatever the test's pictures do"


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_diverged_run_is_a_result(tmp_path: Path, epochs: int, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["optimizer=sgd", "optimizer.lr=1e30", "scheduler=none", f"trainer.max_epochs={epochs}"]
    run_dir = new_run(tmp_path / "run", *changes)
    assert main(["resume", "-q", str(run_dir)]) == 0
    assert "diverged" in capsys.readouterr().out
    found = content(run_dir)
    assert (found["status"], found["epochs"]) == ("diverged", 1)
    assert found["error"] == {"type": "Diverged", "message": "loss became NaN or infinite at epoch 1", "epoch": 1}
    assert not any(name.startswith("test/") for name in found["metrics"])
    row = read_rows(run_dir / METRICS_FILE)[0]
    assert not math.isfinite(row["train/loss"]) or not math.isfinite(row["val/loss"])
    before = snapshot(run_dir)
    execute(run_dir)
    assert snapshot(run_dir) == before


def test_a_diverged_run_that_was_killed_before_its_record_diverges_again(tmp_path: Path) -> None:
    changes = ["optimizer=sgd", "optimizer.lr=1e30", "scheduler=none"]
    run_dir = new_run(tmp_path / "run", *changes)
    first = execute(run_dir)
    rows = timeless_rows(run_dir)
    first.status = "lost"
    first.write(run_dir)
    second = execute(run_dir)
    assert (second.status, second.error, second.epochs) == ("diverged", first.error, first.epochs)
    assert repr(timeless_rows(run_dir)) == repr(rows)


@pytest.mark.parametrize(("scheduler", "accumulate"), [("cosine", 1), ("cosine", 2), ("cosine", 3), ("multistep", 2)])
def test_the_learning_rate_of_an_epoch_is_that_of_its_last_update(
    tmp_path: Path, scheduler: str, accumulate: int
) -> None:
    epochs = 4
    changes = [f"scheduler={scheduler}", f"trainer.accumulate_grad_batches={accumulate}", "logger=none"]
    run_dir = new_run(tmp_path / "run", f"trainer.max_epochs={epochs}", *changes)
    execute(run_dir)
    per_epoch = math.ceil(STEPS / accumulate)
    last_steps = [per_epoch * epoch - 1 for epoch in range(1, epochs + 1)]
    total = per_epoch * epochs
    closed_form = {
        "cosine": lambda t: 0.1 * (1 + math.cos(math.pi * t / total)) / 2,
        "multistep": lambda t: 0.1 * 0.1 ** ((t >= total / 2) + (t >= 3 * total / 4)),
    }[scheduler]
    found = [row["lr"] for row in read_rows(run_dir / METRICS_FILE)]
    assert found == pytest.approx([closed_form(step) for step in last_steps], rel=1e-6)
    state = torch.load(run_dir / CHECKPOINTS / LAST, weights_only=True)
    assert state["global_step"] == total and state["lr_schedulers"][0]["last_epoch"] == total


HARD = [
    "trainer.max_epochs=5", "scheduler=onecycle", "model.dropout=0.3", "augment=standard", "data.crop_padding=1",
    "data.flip=0.5",
]  # fmt: skip


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_killed_and_resumed_run_equals_an_undisturbed_one(tmp_path: Path, optimizer: str) -> None:
    hold = tmp_path / "hold"
    changes = [*HARD, f"optimizer={optimizer}", *faulty(slow_while=hold)]
    undisturbed = new_run(tmp_path / "undisturbed", *changes)
    expected = execute(undisturbed)
    killed = new_run(tmp_path / "killed", *changes)
    hold.touch()
    local.start_server()
    process = local.CONTEXT.Process(target=local._work, args=((killed,), {}))
    process.start()
    wait_until(lambda: finished_epochs(killed) >= 2)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    process.close()
    hold.unlink()
    assert 2 <= finished_epochs(killed) < 5 and Record.read(killed).status == "running"
    assert main(["resume", "-q", str(killed)]) == 0
    record = Record.read(killed)
    assert (record.status, record.attempts, record.epochs) == ("completed", 2, 5)
    for name in (LAST, BEST):
        assert_same_bits(weights(killed, name), weights(undisturbed, name))
    assert timeless_rows(killed) == timeless_rows(undisturbed)
    assert (record.metrics, record.best_epoch) == (expected.metrics, expected.best_epoch)


@pytest.mark.parametrize("lost", [[], [LAST, BEST]])
def test_a_run_killed_after_its_last_epoch(tmp_path: Path, completed: Path, lost: list[str]) -> None:
    """With its checkpoint only the test is left to do, without it everything."""
    run_dir = shutil.copytree(completed, tmp_path / "run")
    for name in OF_TEST:
        (run_dir / name).unlink()
    for name in lost:
        (run_dir / CHECKPOINTS / name).unlink()
    record = Record.read(run_dir)
    record.status, record.metrics, record.best_epoch = "running", {}, None
    record.write(run_dir)
    again = execute(run_dir)
    before = Record.read(completed)
    assert (again.status, again.metrics, again.best_epoch) == ("completed", before.metrics, before.best_epoch)
    assert timeless_rows(run_dir) == timeless_rows(completed)
    for name in OF_TEST:
        assert (run_dir / name).read_bytes() == (completed / name).read_bytes(), name


class Stopper(Silent):
    """Notes every step and asks for the end at some of them."""

    def __init__(self, at: Callable[[int, int], bool], number: signal.Signals = signal.SIGTERM) -> None:
        self.at = at
        self.number = number
        self.heard: list[tuple[int, int]] = []
        self.told = 0

    def on_step(self, epoch: int, step: int, steps: int) -> None:
        self.heard.append((epoch, step))
        if self.at(epoch, step):
            os.kill(os.getpid(), self.number)

    def on_stop(self) -> None:
        self.told += 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_within_the_epoch_and_the_run_goes_on_exactly(
    tmp_path: Path, completed: Path, number: signal.Signals, status: int
) -> None:
    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=4", "seed=5")
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    stopper = Stopper(lambda epoch, step: (epoch, step) == (2, 3), number)
    with pytest.raises(Interrupted) as stop:
        execute(run_dir, stopper)
    assert {one: signal.getsignal(one) for one in handlers} == handlers, "the process's own handlers are back"
    assert (stop.value.status, stopper.told, stopper.heard[-1]) == (status, 1, (2, 3))
    record = Record.read(run_dir)
    assert (record.status, record.epochs, record.error) == ("interrupted", 1, None)
    assert record.finished_at is not None and record.fit_seconds > 0
    rest = Stopper(lambda epoch, step: False)
    assert execute(run_dir, rest).status == "completed"
    assert rest.heard[0] == (2, 4), "no step is done twice"
    assert_same_bits(weights(run_dir), weights(completed))
    assert timeless_rows(run_dir) == timeless_rows(completed)


STATEFUL = {
    "momentum": ["optimizer=momentum"],
    "rare checkpoints": ["optimizer=adam", "checkpoint_every=3"],
    "accumulation": ["+trainer.accumulate_grad_batches=2"],
    "ema, rare checkpoints": ["averaging=ema", "averaging.ema_decay=0.9", "checkpoint_every=3"],
    "lookahead, max-norm": ["averaging=lookahead", "averaging.lookahead_steps=3", "regularizer.max_norm=1"],
    "sam, muon": ["regularizer=sam", "optimizer=muon"],
    "soap, layer rates": ["optimizer=soap", "optimizer.layer_decay=0.5", "optimizer.no_decay=[bias,norm]"],
    "shampoo": ["optimizer=shampoo"],
    "l-bfgs": ["optimizer=lbfgs", "optimizer.line_search_fn=null", "optimizer.max_iter=3", "optimizer.lr=0.01"],
    "plateau behind a warm-up": [
        "scheduler=plateau", "scheduler.patience=0", "scheduler.factor=0.5", "scheduler.threshold=0.5",
        "scheduler.warmup=2", "scheduler.warmup_unit=steps",
    ],
    "mixing, policy, alternating flips": [
        "augment=mixup", "augment.cutmix=1", "augment.policy=randaugment", "augment.flip=0.5",
        "augment.flip_mode=alternating", "augment.erasing=0.5", "augment.rotation=20",
    ],
    "drawn classes, noise, a fold": [
        "data.balance=sampling", "data.label_noise=0.2", "data.num_folds=3", "data.fold=1",
    ],
    "labels": ["data.multilabel=true", "loss=bce", "thresholds=validation", "monitor=val/map"],
}  # fmt: skip


@pytest.mark.parametrize("changes", STATEFUL.values(), ids=STATEFUL)
def test_a_run_interrupted_at_every_third_step_equals_an_undisturbed_one(tmp_path: Path, changes: list[str]) -> None:
    """Among these steps are the first one, the last one of an epoch, and one between two optimizer steps."""
    undisturbed = new_run(tmp_path / "undisturbed", *HARD, *changes)
    expected = execute(undisturbed)
    run_dir = new_run(tmp_path / "run", *HARD, *changes)
    heard: list[tuple[int, int]] = []
    for attempt in range(1, 20):  # noqa: B007
        stopper = Stopper(lambda epoch, step: len(stopper.heard) == 3 or (epoch, step) == (1, 1))  # noqa: B023
        try:
            record = execute(run_dir, stopper)
        except Interrupted:
            assert Record.read(run_dir).status == "interrupted"
            continue
        finally:
            heard += stopper.heard
        break
    assert record.status == "completed" and record.attempts == attempt > 5
    steps = max(step for _, step in heard)
    assert heard == [(epoch, step) for epoch in range(1, 6) for step in range(1, steps + 1)], "each step once"
    for name in (LAST, BEST):
        assert_same_bits(weights(run_dir, name), weights(undisturbed, name))
    assert timeless_rows(run_dir) == timeless_rows(undisturbed)
    assert (record.metrics, record.best_epoch) == (expected.metrics, expected.best_epoch)


def test_a_plateau_of_the_validation_lowers_the_learning_rate(tmp_path: Path) -> None:
    """Progress by a factor of a thousand is asked for, so every epoch but the first one counts as standing still."""
    run_dir = new_run(
        tmp_path / "run", "logger=none", "trainer.max_epochs=4", "optimizer.lr=0.08", "scheduler=plateau",
        "scheduler.monitor=val/loss", "scheduler.mode=min", "scheduler.patience=0", "scheduler.factor=0.5",
        "scheduler.threshold=0.999",
    )  # fmt: skip
    execute(run_dir)
    assert [row["lr"] for row in timeless_rows(run_dir)] == pytest.approx([0.08, 0.08, 0.04, 0.02])


def test_a_run_does_not_go_on_with_other_images(tmp_path: Path) -> None:
    """Two images change places between the classes: as many files as before, of the same sizes."""
    images = write_images(tmp_path / "images", count=20)
    changes = ["data=image_folder", f"data.root={images}", "data.val_size=8", "data.test_size=8"]
    small = [word for word in SMALL if not word.startswith("data")]
    with config_loader() as loader:
        planned = make_plan(loader, [*small, *changes, "data.batch_size=4", "trainer.max_epochs=3", "logger=none"])
    run_dir = tmp_path / "run"
    write_run(planned.runs[0], run_dir)
    with pytest.raises(Interrupted):
        execute(run_dir, Stopper(lambda epoch, step: (epoch, step) == (2, 1)))
    for number in range(10):
        cat, dog, spare = (images / name / f"{number}.png" for name in ("cat", "dog", "cat"))
        spare = spare.with_suffix(".spare")
        cat.rename(spare)
        dog.rename(cat)
        spare.rename(dog)
    record = execute(run_dir)
    assert record.status == "failed" and "no longer holds the images" in record.error["message"]
    assert finished_epochs(run_dir) == 1


def test_a_schedule_of_ones_own_may_keep_any_state(tmp_path: Path) -> None:
    """The state of the schedule is in the checkpoint from which the test takes the weights."""
    run_dir = new_run(
        tmp_path / "run", "logger=none", "scheduler=none", "scheduler._target_=helpers.OwnSchedule",
        "~scheduler.warmup", "~scheduler.warmup_unit", "~scheduler.warmup_start",
        "+allowed_targets.own=helpers.OwnSchedule", f"import_path={TESTS}",
    )  # fmt: skip
    assert execute(run_dir).status == "completed"
    assert evaluate(run_dir)[1]


def test_a_second_signal_stops_at_once(tmp_path: Path, completed: Path) -> None:
    class Twice(Stopper):
        def on_step(self, epoch: int, step: int, steps: int) -> None:
            super().on_step(epoch, step, steps)
            super().on_step(epoch, step, steps)

    run_dir = new_run(tmp_path / "run", "trainer.max_epochs=4", "seed=5")
    with pytest.raises(Interrupted):
        execute(run_dir, Twice(lambda epoch, step: (epoch, step) == (2, 3)))
    assert Record.read(run_dir).status == "interrupted"
    rest = Stopper(lambda epoch, step: False)
    execute(run_dir, rest)
    assert rest.heard[0] == (2, 1), "from the last epoch's checkpoint"
    assert_same_bits(weights(run_dir), weights(completed))


def test_a_net_that_ends_the_process_fails(tmp_path: Path) -> None:
    """Not to be taken for Ctrl-C, which Lightning turns into the same exception."""
    run_dir = new_run(tmp_path / "run", *faulty(fault="leave", after=1))
    record = execute(run_dir)
    assert (record.status, record.error["message"]) == ("failed", "sys.exit(3) was called")


def test_a_run_is_executed_by_one_process_at_a_time(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "run")
    before = snapshot(run_dir)
    with claim(run_dir), pytest.raises(Busy, match=f"process {os.getpid()} on "):
        execute(run_dir)
    assert {name: facts for name, facts in snapshot(run_dir).items() if name != LOCK_FILE} == before
    assert holder(run_dir) is None


def test_the_observer_hears_every_step_and_epoch(tmp_path: Path) -> None:
    heard: list[Any] = []

    class Listener(Silent):
        def on_start(self, facts: dict[str, Any]) -> None:
            heard.append({key: facts[key] for key in ("train", "val", "test", "classes", "shape", "steps_per_epoch")})

        def on_step(self, epoch: int, step: int, steps: int) -> None:
            heard.append((epoch, step, steps))

        def on_epoch(self, row: dict[str, float], best: bool) -> None:
            heard.append((row["epoch"], best))

    execute(new_run(tmp_path / "run", "logger=none"), Listener())
    facts = {"train": 80, "val": 20, "test": 40, "classes": 10, "shape": (3, 8, 8), "steps_per_epoch": 4}
    assert heard[0] == facts
    assert heard[1:6] == [(1, 1, 4), (1, 2, 4), (1, 3, 4), (1, 4, 4), (1, True)]
    assert len(heard) == 11


def test_seeds_give_different_weights_and_the_split_stays(tmp_path: Path, completed: Path) -> None:
    other = execute(new_run(tmp_path / "run", "trainer.max_epochs=4", "seed=6"))
    assert other.data_digest == Record.read(completed).data_digest
    assert not torch.equal(
        weights(tmp_path / "run")["net.classifier.weight"], weights(completed)["net.classifier.weight"]
    )


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises((RequestError, FileNotFoundError)):
        execute(tmp_path)
    error = RequestError(Problem("data.root", "x", "is not there"))
    assert describe(error)["message"] == "data.root=x: is not there"


def test_the_best_checkpoint_is_its_own_file_whatever_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning stages checkpoints there, and from another file system copies them over what has the target's name."""
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a temporary folder on another file system: /dev/shm")
    monkeypatch.setattr(tempfile, "tempdir", str(other))
    run_dir = new_run(tmp_path / "run", "monitor=val/loss", "monitor_mode=max", "trainer.max_epochs=3")
    record = execute(run_dir)
    assert record.best_epoch == 1  # the highest loss: an early epoch
    best = torch.load(run_dir / CHECKPOINTS / BEST, weights_only=False)
    assert best["epoch"] == 0
    assert (run_dir / CHECKPOINTS / BEST).stat().st_ino != (run_dir / CHECKPOINTS / LAST).stat().st_ino

"""One run, top to bottom: build, fit, test the best checkpoint once, write the record.

``execute`` is the only way to carry out a run, whoever calls it: the command line, a worker of a sweep, a cluster job.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from resweep import CallableModule
from resweep.build import (
    build_data,
    build_lit_module,
    build_loggers,
    build_net,
    build_trainer,
    prepare_imports,
    steps_per_epoch,
)
from resweep.callbacks import BestAndLast, EpochRecorder, Observer, Silent, StopBetweenSteps
from resweep.claim import claim
from resweep.code import code_digest, code_state
from resweep.config import read_frozen
from resweep.data.datamodule import ImageDataModule
from resweep.diagnostics import Diagnostics
from resweep.environment import environment, peak_memory_bytes
from resweep.lit_module import LitClassifier
from resweep.loggers import Tracker
from resweep.models.pretrained import structure_only
from resweep.pruning import PruningCallback, pruner_for
from resweep.record import (
    BEST,
    CHECKPOINTS,
    FINISHED,
    LAST,
    LOG_FILE,
    RESERVE_FILE,
    Record,
    tidy,
    utc_now,
)
from resweep.run_log import describe, log_to
from resweep.scores import TestResult
from resweep.seeding import derive_seed
from resweep.stopping import Interrupted, StopSignal
from resweep.tables import write_result

RESERVE_BYTES = 1 << 15


def execute(run_dir: Path, observer: Observer | None = None, data: ImageDataModule | None = None) -> Record:
    """Carry out the run whose frozen config lies in a folder, from the beginning or from its last checkpoint.

    Args:
        run_dir: folder with ``config.yaml`` and ``run.json``.
        observer: is told about steps and epochs; None for nobody.
        data: the run's data if it was built already.

    Returns:
        The final record, also when the run failed or diverged; that of a finished run is returned untouched.

    Raises:
        Busy: another process carries this run out.
        Interrupted: Ctrl-C or a termination signal; the run is saved and the record says ``interrupted``.
        RequestError: the folder is not a run.
    """
    observer = observer or Silent()
    record = Record.read(run_dir)
    if record.status in FINISHED:
        return record
    with claim(run_dir), StopSignal() as stop:
        record = Record.read(run_dir)  # again: its last owner may have finished it meanwhile
        return record if record.status in FINISHED else _attempt(run_dir, record, stop, observer, data)


def _attempt(
    run_dir: Path, record: Record, stop: StopSignal, observer: Observer, data: ImageDataModule | None
) -> Record:
    """Carry out a claimed run; whatever happens, its record says what."""
    tidy(run_dir)
    config = read_frozen(run_dir)
    reserve = run_dir / RESERVE_FILE
    try:
        _begin(run_dir, record, config)
        reserve.write_bytes(os.urandom(RESERVE_BYTES))  # given back at the end: a full disk has room for the record
        with log_to(run_dir):
            _train(config, run_dir, record, stop, observer, data)
    except Interrupted:
        _end(record, "interrupted")
        raise
    except (Exception, SystemExit) as error:  # one run's failure is a state of its record, whatever it was
        if stop.requested is not None:  # the same signal may have ended a process that the run relied on
            _end(record, "interrupted")
            raise Interrupted(stop.requested) from error
        _end(record, "failed")
        record.error = describe(error)
        with suppress(OSError), open(run_dir / LOG_FILE, "a", encoding="utf-8") as log:  # the record has the cause, too
            traceback.print_exception(error, file=log)
    finally:
        stop.finishing = True
        record.peak_memory_bytes = peak_memory_bytes()
        record.finished_at = utc_now()
        reserve.unlink(missing_ok=True)
        record.write(run_dir)
    return record


def _begin(run_dir: Path, record: Record, config: dict[str, Any]) -> None:
    record.status, record.error = "running", None
    record.attempts += 1
    record.started_at = record.started_at or utc_now()
    code = code_digest(code_state(config["import_path"], config["allowed_targets"]))
    record.environment = environment(config["threads"], config["import_path"], code)
    record.write(run_dir)


def _end(record: Record, status: str) -> None:
    """Set the state in which a run ended; what happens after its result was written does not undo that."""
    if record.status not in FINISHED:
        record.status = status


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a run is carried out with."""

    data: ImageDataModule
    lit_module: LitClassifier
    recorder: EpochRecorder
    pruner: PruningCallback | None
    trackers: list[Tracker]
    trainer: pl.Trainer


def _train(
    config: dict[str, Any],
    run_dir: Path,
    record: Record,
    stop: StopSignal,
    observer: Observer,
    data: ImageDataModule | None,
) -> None:
    """Build the parts, fit, test; fill the record. The function to read first."""
    parts = _build(config, run_dir, stop, observer, data)
    data, net = parts.data, parts.lit_module.net
    device = parts.trainer.strategy.root_device
    record.data_digest = data.digest
    record.split_sizes = {"train": len(data.train), "val": len(data.val), "test": len(data.test)}
    record.parameters = sum(parameter.numel() for parameter in net.parameters())
    record.environment["accelerator"] = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    for tracker in parts.trackers:
        tracker.begin(config, record, parts.lit_module.task.name)
    observer.on_start(start_facts(config, data, net, str(device)))
    _fit(parts, run_dir, record)
    result = _outcome(parts, run_dir, record)
    record.finished_at = utc_now()
    record.write(run_dir)  # the result is safe whatever a logger does
    _finish_trackers(parts.trackers, record, result, data.classes)


def _build(
    config: dict[str, Any], run_dir: Path, stop: StopSignal, observer: Observer, data: ImageDataModule | None
) -> _Parts:
    """Build the parts of a run, and those that are drawn at random from the run's seed."""
    torch.set_num_threads(config["threads"])
    prepare_imports(config)
    data = data or build_data(config)
    pl.seed_everything(derive_seed(config["seed"], "init") % 2**32, workers=False, verbose=False)
    with structure_only() if (run_dir / CHECKPOINTS / LAST).is_file() else nullcontext():
        net = build_net(config, data)
    lit_module = build_lit_module(config, net, data)
    recorder = EpochRecorder(run_dir, config["monitor"], config["monitor_mode"], observer, data.digest)
    saver = BestAndLast(run_dir, recorder, config["checkpoint_every"])
    pruner = pruner_for(config, run_dir, recorder)
    every = config.get("diagnostics_every")
    loggers = build_loggers(config, run_dir)
    trackers = [logger for logger in loggers if isinstance(logger, Tracker)]
    watchers = [callback for tracker in trackers for callback in tracker.callbacks(data)]
    further = [*([] if pruner is None else [pruner]), *([] if every is None else [Diagnostics(every)]), *watchers]
    callbacks = [recorder, saver, *further, StopBetweenSteps(stop, recorder, saver)]
    trainer = build_trainer(config, run_dir, callbacks, loggers)
    return _Parts(
        data=data, lit_module=lit_module, recorder=recorder, pruner=pruner, trackers=trackers, trainer=trainer
    )


def _fit(parts: _Parts, run_dir: Path, record: Record) -> None:
    """Train from the beginning or from the last checkpoint; the record gets what the epochs have shown."""
    last = run_dir / CHECKPOINTS / LAST
    checkpoint = last if last.is_file() else None
    started = time.perf_counter()
    try:
        parts.trainer.fit(parts.lit_module, datamodule=parts.data, ckpt_path=checkpoint, weights_only=False)
    finally:
        record.fit_seconds = (record.fit_seconds or 0.0) + time.perf_counter() - started
        summarize(parts.recorder, record)


def _outcome(parts: _Parts, run_dir: Path, record: Record) -> TestResult | None:
    """Say in the record how training has ended; a run that has reached its end is tested, and the files written."""
    data, lit_module, recorder, pruner = parts.data, parts.lit_module, parts.recorder, parts.pruner
    if recorder.diverged_at is not None:
        record.status = "diverged"
        message = f"loss became NaN or infinite at epoch {recorder.diverged_at}"
        record.error = {"type": "Diverged", "message": message, "epoch": recorder.diverged_at}
        return None
    if pruner is not None and pruner.pruned_at is not None:  # not among the best: its test says nothing
        record.status = "pruned"
        record.error = {"type": "Pruned", "message": pruner.message, "epoch": pruner.pruned_at}
        return None
    result = test(parts.trainer, lit_module, data, run_dir)
    record.metrics.update({f"test/{name}": value for name, value in result.scores.items()})
    with lit_module.judged_weights():
        record.missing = write_result(run_dir, result, lit_module.judged, data.test, data.classes)
    record.status = "completed"
    return result


def summarize(recorder: EpochRecorder, record: Record) -> None:
    """Put what the epochs have shown so far into the record."""
    record.epochs = len(recorder.rows)
    seconds = sum(row["seconds"] for row in recorder.rows)
    if seconds > 0:
        rates = [row["images_per_second"] for row in recorder.rows]
        record.images_per_second = sorted(rates)[len(rates) // 2]
    best = recorder.best_row
    if best is not None:
        record.best_epoch = int(best["epoch"])
        record.metrics = {name: value for name, value in best.items() if name.startswith("val/")}


def test(trainer: pl.Trainer, lit_module: LitClassifier, data: ImageDataModule, run_dir: Path) -> TestResult:
    """Measure the best checkpoint on the test split."""
    lit_module.load_state_dict(read_weights(run_dir / CHECKPOINTS / BEST))
    trainer.test(lit_module, datamodule=data, verbose=False)
    return lit_module.test_result


def read_weights(checkpoint: Path) -> dict[str, Any]:
    """Read the weights of a checkpoint, and objects of the user's own optimizer or schedule if there are any in it."""
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except pickle.UnpicklingError:
        return torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]


def _finish_trackers(
    trackers: Sequence[Tracker], record: Record, result: TestResult | None, classes: tuple[str, ...]
) -> None:
    for tracker in trackers:
        try:
            if result is not None:
                tracker.tested(record, result, classes)
        finally:
            tracker.finish(record)


def start_facts(config: dict[str, Any], data: ImageDataModule, net: torch.nn.Module, device: str) -> dict[str, Any]:
    """Return what a person wants to know before training starts, as plain values."""
    return {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "bytes": sum(parameter.numel() * parameter.element_size() for parameter in net.parameters()),
        "train": len(data.train),
        "val": len(data.val),
        "test": len(data.test),
        "classes": data.num_classes,
        "shape": tuple(data.image_shape),
        "steps_per_epoch": steps_per_epoch(config, data),
        "device": device,
    }


sys.modules[__name__].__class__ = CallableModule  # resweep.train([...]) trains a run

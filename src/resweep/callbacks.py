"""What happens between epochs and steps: a row in ``metrics.csv``, checkpoints, a word to the observer, the stop."""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from resweep.errors import Problem, RequestError
from resweep.record import BEST, CHECKPOINTS, COLUMNS, LAST, METRICS_FILE, columns, write_atomic
from resweep.rows import plain
from resweep.stopping import StopSignal


class Observer(Protocol):
    """Whoever watches a run: the terminal, or nobody."""

    def on_start(self, facts: dict[str, Any]) -> None:
        """The parts are built; training starts."""

    def on_step(self, epoch: int, step: int, steps: int) -> None:
        """A training step is done; called for every step, must be cheap."""

    def on_epoch(self, row: dict[str, float], best: bool) -> None:
        """An epoch is done; the row is that of ``metrics.csv``."""

    def on_stop(self) -> None:
        """Somebody has asked the run to stop; it is going to save and end."""


class Silent:
    """An observer that does nothing."""

    def on_start(self, facts: dict[str, Any]) -> None:
        """Nothing."""

    def on_step(self, epoch: int, step: int, steps: int) -> None:
        """Nothing."""

    def on_epoch(self, row: dict[str, float], best: bool) -> None:
        """Nothing."""

    def on_stop(self) -> None:
        """Nothing."""


class EpochRecorder(Callback):
    """Writes one row per epoch and stops a run whose loss is no longer finite.

    The rows travel in the checkpoints, so that a continued run goes on with exactly those of its checkpoint;
    ``metrics.csv`` is written anew from them.

    Args:
        run_dir: folder of the run.
        monitor: metric that selects the best epoch.
        mode: ``max`` or ``min``.
        observer: is told every step and every row.
        data_digest: fingerprint of the run's images; a checkpoint made with others is refused.
    """

    def __init__(
        self, run_dir: Path, monitor: str, mode: str, observer: Observer, data_digest: str | None = None
    ) -> None:
        self.path = run_dir / METRICS_FILE
        self.data_digest = data_digest
        self.monitor = monitor
        self.sign = 1.0 if mode == "max" else -1.0
        self.observer = observer
        self.rows: list[dict[str, float]] = []
        self.diverged_at: int | None = None
        self.partial: dict[str, Any] | None = None
        self.columns = COLUMNS

    @property
    def best_row(self) -> dict[str, float] | None:
        """Row of the best epoch by the monitored metric; of equal ones that with the lower validation loss.

        Small validation splits give equal accuracies often; the loss then tells a settled net from a lucky one.
        """
        finite = [row for row in self.rows if math.isfinite(row[self.monitor]) and math.isfinite(row["val/loss"])]
        return max(finite, key=lambda row: (self.sign * row[self.monitor], -row["val/loss"]), default=None)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the rows and, within an epoch, what its row is made from."""
        return {"rows": self.rows, "partial": self.partial, "data_digest": self.data_digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of the checkpoint from which a run is continued.

        Raises:
            RequestError: the checkpoint was made with other images.
        """
        if state_dict.get("data_digest") not in (None, self.data_digest):
            message = "no longer holds the images with which this run was begun; put them back, or begin a new run"
            raise RequestError(Problem("data", None, message))
        self.rows = list(state_dict["rows"])
        self.partial = state_dict.get("partial")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the rows of the checkpoint and no later ones; a run that had diverged by then stays so."""
        self.columns = columns(pl_module.further_metrics)
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain(row) for row in self.rows)
        write_atomic(self.path, text.getvalue())
        self._stop_if_diverged(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on within the epoch in which the run was stopped, if it was."""
        if self.partial is None:
            return
        partial, self.partial = self.partial, None
        pl_module.train_mean.restore(partial["train_mean"], pl_module.device)
        self.images, self.lr = partial["images"], partial["lr"]
        self.started = self.train_ended = time.perf_counter() - partial["seconds"]

    def keep_partial(self, pl_module: LightningModule) -> None:
        """Note what the row of the unfinished epoch needs, for the checkpoint that is written next."""
        self.partial = {
            "train_mean": pl_module.train_mean.state(),
            "images": self.images,
            "lr": self.lr,
            "seconds": time.perf_counter() - self.started,
        }

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self.images = 0
        self.lr = math.nan
        self.started = self.train_ended = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note the learning rate of the update; at the end of the epoch the schedule has moved on.

        Of several parameter groups the largest: that of the head where rates fall towards the stem.
        """
        self.lr = max(group["lr"] for group in optimizer.param_groups if group["params"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images."""
        self.images += len(batch[1])
        self.train_ended = time.perf_counter()
        self.observer.on_step(trainer.current_epoch + 1, batch_idx + 1, int(trainer.num_training_batches))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's row; validation is over by now."""
        loss, accuracy = pl_module.train_mean.compute()
        now = time.perf_counter()
        row = {
            "epoch": trainer.current_epoch + 1,
            "train/loss": loss,
            "train/accuracy": accuracy,
            **pl_module.val_scores,
            "lr": self.lr,
            "seconds": now - self.started,
            "images_per_second": self.images / max(self.train_ended - self.started, 1e-9),
        }
        self._publish(trainer, row)
        self._stop_if_diverged(trainer)

    def _stop_if_diverged(self, trainer: Trainer) -> None:
        row = self.rows[-1] if self.rows else None
        if row is not None and not (math.isfinite(row["train/loss"]) and math.isfinite(row["val/loss"])):
            self.diverged_at = row["epoch"]
            trainer.should_stop = True

    def _publish(self, trainer: Trainer, row: dict[str, float]) -> None:
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, self.columns, lineterminator="\n").writerow(plain(row))
        scalars = {
            **{name: value for name, value in row.items() if name.startswith(("train/", "val/"))},
            "lr": row["lr"],
            "time/epoch_seconds": row["seconds"],
            "time/images_per_second": row["images_per_second"],
        }
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=int(row["epoch"]))
        self.observer.on_epoch(row, best=self.best_row is row)


class BestAndLast(Checkpoint):
    """Writes ``last.ckpt`` and ``best.ckpt`` after an epoch's row is on disk.

    The state is serialized once: the best checkpoint is a second name of the file that was the last one then, which
    stays when the last one is replaced. Both are replaced atomically. (Lightning's own callback serializes twice, and
    keeps the earliest of equally accurate epochs.)

    Args:
        run_dir: folder of the run.
        recorder: knows the best epoch.
        every: epochs between two writes of ``last.ckpt``; the best and the final epoch are always written.
    """

    def __init__(self, run_dir: Path, recorder: EpochRecorder, every: int) -> None:
        self.folder = run_dir / CHECKPOINTS
        self.recorder = recorder
        self.every = every
        self.saved = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make up for a run that ended after its last checkpoint was written and before it became the best one."""
        rows = self.recorder.rows
        self.saved = len(rows)
        if rows and self.recorder.partial is None and self.recorder.best_row is rows[-1]:
            self._last_is_best()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the recorder's newest row deserves."""
        row = self.recorder.rows[-1]
        best = self.recorder.best_row is row
        final = trainer.should_stop or row["epoch"] == trainer.max_epochs
        if not (best or final or row["epoch"] % self.every == 0):
            return
        self.save(trainer)
        if best:
            self._last_is_best()

    def save(self, trainer: Trainer) -> None:
        """Replace ``last.ckpt`` by the present state.

        Raises:
            OSError: the file could not be written; the old one is untouched and nothing is left beside it.
        """
        # Lightning stages a checkpoint in the system's temporary folder and, from another file system, copies it onto
        # its target; best.ckpt may be that very file. So it writes beside, and the rename is done here.
        beside = self.folder / f".{LAST}.tmp"
        try:
            trainer.save_checkpoint(beside, weights_only=False)
            os.replace(beside, self.folder / LAST)
        finally:
            beside.unlink(missing_ok=True)
        self.saved = len(self.recorder.rows)

    def _last_is_best(self) -> None:
        last, beside = self.folder / LAST, self.folder / f".{BEST}.tmp"
        beside.unlink(missing_ok=True)
        try:
            os.link(last, beside)
        except OSError:  # a file system without hard links
            shutil.copyfile(last, beside)
        os.replace(beside, self.folder / BEST)
        beside.unlink(missing_ok=True)  # renaming one name of a file to another of the same file does nothing


class StopBetweenSteps(Callback):
    """Lets a run that was asked to stop save where it is: after a whole optimizer step, within its epoch.

    Lightning calls ``on_train_batch_start`` when the steps before are complete in every count that it keeps. A request
    during validation waits for the end of the epoch, whose checkpoint is written anyway.

    Args:
        stop: hears the signals.
        recorder: keeps what the row of the unfinished epoch needs.
        saver: writes the checkpoint.
    """

    def __init__(self, stop: StopSignal, recorder: EpochRecorder, saver: BestAndLast) -> None:
        self.stop = stop
        self.recorder = recorder
        self.saver = saver
        self.told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hear the signals from here on; Lightning has put handlers of its own in the place of ours."""
        self.stop.listen()
        self.stop.patient = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save and stop if somebody has asked."""
        self._tell()
        if self.stop.requested is None or batch_idx % trainer.accumulate_grad_batches:
            return
        if batch_idx > 0 or self.saver.saved < len(self.recorder.rows):
            self.recorder.keep_partial(pl_module)
            progress = trainer.fit_loop.epoch_loop.batch_progress  # this batch is counted again when it is trained
            progress.total.ready -= 1
            progress.current.ready -= 1
            self.saver.save(trainer)
        self.stop.check()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Say that a request was heard; it is followed when the epoch is complete."""
        self._tell()

    def _tell(self) -> None:
        """Tell the observer of a request once; not from the handler, which may interrupt a line being written."""
        if self.stop.requested is not None and not self.told:
            self.told = True
            self.recorder.observer.on_stop()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once from here on: everything is saved."""
        self.stop.patient = False
        self.stop.check()

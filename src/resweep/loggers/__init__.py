"""Loggers of tracking services, each a config choice with an extra of its own.

They get what TensorBoard gets: the metrics of every epoch from :class:`resweep.callbacks.EpochRecorder`, the
hyperparameters of :func:`resweep.tensorboard.hyperparameters`, and at the end :func:`final_metrics`. What a run shows
there can be made again from its folder; nothing reads it back.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resweep.config import read_frozen
from resweep.record import Record, write_atomic

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from resweep.data.datamodule import ImageDataModule
    from resweep.scores import TestResult

TRACKING_FILE = "tracking.json"
"""In a run's folder: under which name a service knows the run, so that a continued run goes on there."""


class Tracker:
    """A logger that knows its run's folder and is told beginning, test and end of the run."""

    def callbacks(self, data: ImageDataModule) -> list[Callback]:
        """Return what writes during training, besides the metrics of every epoch."""
        return []

    def begin(self, config: Mapping[str, Any], record: Record, task: str) -> None:
        """Take note of a run that is about to be trained or continued.

        Args:
            config: frozen config.
            record: of the run.
            task: ``multiclass`` or ``multilabel``.
        """

    def tested(self, record: Record, result: TestResult, classes: tuple[str, ...]) -> None:
        """Take note of the test; called before ``finish``, after all files of the test were written.

        Args:
            record: of the run.
            result: of the test.
            classes: names of the classes or labels.
        """

    def finish(self, record: Record) -> None:
        """Write the final metrics and the status, and close; called once, after the record was written.

        Args:
            record: the run's final record: completed, diverged or pruned.
        """
        raise NotImplementedError


def end_of(record: Record) -> dict[str, float]:
    """Return what services show of a run that has ended: :func:`final_metrics` and the seconds of training."""
    seconds = {} if record.fit_seconds is None else {"time/fit_seconds": record.fit_seconds}
    return final_metrics(record.metrics) | seconds


def final_metrics(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return a record's metrics under the names that services show; those that are not defined are left out.

    Example:
        >>> final_metrics({"val/accuracy": 0.9, "test/accuracy": 0.8, "test/auroc": None})
        {'best/val_accuracy': 0.9, 'test/accuracy': 0.8}
    """
    return {
        name if name.startswith("test/") else f"best/{name.replace('/', '_')}": value
        for name, value in metrics.items()
        if value is not None
    }


def described(run_dir: Path) -> tuple[dict[str, float | str], dict[str, str]]:
    """Return hyperparameters and tags of the run in a folder.

    Args:
        run_dir: folder with ``config.yaml`` and ``run.json``.

    Returns:
        The hyperparameters as TensorBoard has them; and ``id``, ``config_digest``, ``folder`` and ``setting``, which
        all runs that repeat a setting share.
    """
    from resweep.tensorboard.columns import hyperparameters, setting_name, sweep_axes

    record, config = Record.read(run_dir), read_frozen(run_dir)
    tags = {"id": record.id, "config_digest": record.config_digest or "", "folder": str(run_dir)}
    tags["setting"] = setting_name(config, record.swept)
    return hyperparameters(config, record.swept, sweep_axes(run_dir)), tags


def read_tracking(run_dir: Path, service: str) -> dict[str, Any]:
    """Return what was kept for a service, empty when there is nothing.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    path = run_dir / TRACKING_FILE
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get(service, {}))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); without it the run begins anew in {service}") from error


def keep_tracking(run_dir: Path, service: str, **facts: str) -> None:
    """Keep what a service calls the run, in the place of what was kept before."""
    write_atomic(run_dir / TRACKING_FILE, json.dumps({service: facts}, indent=1) + "\n")


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let only one process of a machine be in this block."""
    with open(path, "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield  # closing the file gives the lock back

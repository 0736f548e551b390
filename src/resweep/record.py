"""The record of one run: ``run.json``, always replaced atomically.

A run folder is the unit of everything: its ``config.yaml`` says what to do, its ``run.json`` says what has happened.
Readers never see half a file, because a new version is written beside the old one, forced to disk and renamed.

States: a run waits (``pending``), is carried out (``running``), and ends ``completed``, ``diverged``, ``pruned`` or
``failed``; one that was stopped is ``interrupted``, one whose process vanished is ``lost``. From the last three it can
be started again. Nothing leaves ``completed``, ``diverged`` and ``pruned``. Who changes a record holds the run's claim
(see :mod:`resweep.claim`): the process that carries it out, and after its end whoever finds ``running`` without one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

RUN_FILE = "run.json"
SWEEP_FILE = "sweep.yaml"
LOCK_FILE = ".lock"
CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.csv"
LOG_FILE = "run.log"
RESERVE_FILE = ".reserve"
CONFUSION_FILE = "confusion.csv"
CALIBRATION_FILE = "calibration.csv"
WEIGHTS_FILE = "weights.csv"
MISTAKES_FILE = "mistakes.png"
REPORT_FILE = "report.html"  # this and the next three are what a comparison writes into a sweep's folder
RESULTS_FILE = "results.csv"
RESULTS_PARQUET = "results.parquet"
CURVES_PARQUET = "curves.parquet"
CHECKPOINTS = "checkpoints"
BEST = "best.ckpt"
LAST = "last.ckpt"
COLUMNS = (  # of metrics.csv
    "epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "seconds", "images_per_second",
)  # fmt: skip
AFTER = "val/accuracy"  # further validation metrics of a task stand behind this column

TOO_LARGE = 2**63
"""The counts of a record are below it, as in every file that is made of them."""

LONGEST_INTEGER = 300
"""Digits of an integer that surely fits a float; what is longer is read as a text."""

REPEATS = ("seed", "data.fold")
"""Keys that repeat a setting: the runs of a setting differ in them only."""

FINISHED = frozenset({"completed", "diverged", "pruned"})
STATES = FINISHED | {"pending", "running", "failed", "lost", "interrupted"}


def columns(further: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the columns of ``metrics.csv`` for a task.

    Args:
        further: validation metrics besides loss and accuracy, as in ``val/map``.
    """
    place = COLUMNS.index(AFTER) + 1
    return (*COLUMNS[:place], *further, *COLUMNS[place:])


def utc_now() -> str:
    """Return the present time as ISO 8601 text in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_atomic(path: Path, text: str | bytes) -> None:
    """Replace a file so that a reader, or a machine that loses power, sees the old or the new text and no mixture.

    Args:
        path: the file; its folder must exist.
        text: the whole new content; text is written as UTF-8.

    Raises:
        OSError: the file could not be written; the old one is untouched and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(text.encode() if isinstance(text, str) else text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def tidy(run_dir: Path) -> None:
    """Remove what a process that was killed has left half written; only for whoever has claimed the run."""
    for place in (run_dir, run_dir / CHECKPOINTS):
        for pattern in (".*.tmp", RESERVE_FILE):
            for path in place.glob(pattern):
                path.unlink(missing_ok=True)


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping with numbers that JSON cannot hold (NaN, infinities) replaced by None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }


def parse_record(text: bytes) -> dict[str, Any]:
    """Return the fields of a ``run.json``, each of the right kind; unknown ones are left out.

    Numbers that are not finite are None, and an integer that no float can hold is a text.

    Raises:
        ValueError: the text is not JSON, or a field has the wrong kind; the message names it.
    """
    try:
        content = json.loads(
            text.decode("utf-8"), parse_constant=lambda _: None, parse_float=_finite_float, parse_int=_whole
        )
    except RecursionError as error:
        raise ValueError("its values are nested too deep") from error
    if not isinstance(content, dict):
        raise ValueError("not an object")
    given = {key: content[key] for key in _KINDS if content.get(key) is not None}
    for key, value in given.items():
        if not isinstance(value, _KINDS[key]) or (isinstance(value, bool) and bool not in _KINDS[key]):
            raise ValueError(f"{key} has the wrong type")
        if _KINDS[key] == (int,) and abs(value) >= TOO_LARGE:
            raise ValueError(f"{key} is too large")
    if not all(isinstance(text, str) for text in given.get("overrides", ())):
        raise ValueError("overrides holds something else than texts")
    for part, count in given.get("split_sizes", {}).items():
        if isinstance(count, bool) or not isinstance(count, int):
            raise ValueError(f"split_sizes: {part} is not a whole number")
    for key, value in given.get("metrics", {}).items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ValueError(f"metric {key} is not a number")
    for key in ("id", "status"):
        if key not in given:
            raise ValueError(f"{key} is missing")
    if given["status"] not in STATES:
        raise ValueError(f"status {given['status']!r} is not one of {', '.join(sorted(STATES))}")
    return given


def _finite_float(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int | str:
    return int(text) if len(text) <= LONGEST_INTEGER else text


_NUMBER = (int, float)
_KINDS: dict[str, tuple[type, ...]] = {
    "id": (str,), "label": (str,), "seed": (int,), "config_digest": (str,), "overrides": (list,), "swept": (dict,),
    "status": (str,), "error": (dict,), "attempts": (int,), "metrics": (dict,), "best_epoch": (int,), "epochs": (int,),
    "parameters": (int,), "fit_seconds": _NUMBER, "images_per_second": _NUMBER, "peak_memory_bytes": _NUMBER,
    "environment": (dict,), "data_digest": (str,), "split_sizes": (dict,), "missing": (dict,),
    "started_at": (str,), "finished_at": (str,),
}  # fmt: skip


@dataclass
class Record:
    """What is known about one run; field by field the content of ``run.json`` (see the design).

    Args:
        id: first characters of the digest of the resolved config.
        label: the swept values, cleaned for file systems.
        status: one of ``STATES``.
        error: None, or ``{"type", "message"}`` and where known ``"epoch"`` (1-based) and ``"where"``.
        swept: the value of each axis of the sweep for this run.
        metrics: flat, slash keys, of the best epoch (``val/…``) and of the final test (``test/…``).
        best_epoch: 1-based epoch of the best checkpoint.
        fit_seconds: wall seconds of the training loop, validation included, summed over attempts.
        split_sizes: images of ``train``, ``val`` and ``test``.
        missing: files about the test that could not be written, and why.
        images_per_second: training images over the seconds spent on training steps.
        peak_memory_bytes: largest resident size of the process, or of the accelerator's allocations.
    """

    id: str
    label: str = ""
    seed: int | None = None
    config_digest: str | None = None
    overrides: list[str] = field(default_factory=list)
    swept: dict[str, Any] = field(default_factory=dict)
    status: str = "pending"
    error: dict[str, Any] | None = None
    attempts: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)
    best_epoch: int | None = None
    epochs: int = 0
    parameters: int | None = None
    fit_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_bytes: int | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    data_digest: str | None = None
    split_sizes: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    started_at: str | None = None
    finished_at: str | None = None

    @classmethod
    def read(cls, run_dir: Path) -> Record:
        """Read a run's record.

        Raises:
            FileNotFoundError: the folder has no ``run.json``.
            ValueError: the file is damaged; the message names it.
        """
        path = run_dir / RUN_FILE
        text = path.read_bytes()
        try:
            return cls(**parse_record(text))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}") from error

    def write(self, run_dir: Path) -> None:
        """Replace the run's ``run.json`` atomically.

        Raises:
            ValueError: the status is not one of ``STATES``.
        """
        if self.status not in STATES:
            raise ValueError(f"status {self.status!r} is not one of {', '.join(sorted(STATES))}")
        content = {key: value for key, value in asdict(self).items() if key in _KINDS}
        content["metrics"] = finite(self.metrics)
        write_atomic(run_dir / RUN_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")

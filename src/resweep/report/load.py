"""Read a sweep's folder back: the request and a record per run, and the way to their curves and tables.

What is damaged is named in :attr:`Sweep.damaged` and the rest is still loaded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resweep.errors import Problem, RequestError, nearest_name
from resweep.record import FINISHED, RUN_FILE, SWEEP_FILE, Record, parse_record
from resweep.report.configs import checked_repeats, first_line, override_values, plain_values
from resweep.report.configs import load_config as load_config
from resweep.report.curves import load_curves as load_curves
from resweep.report.curves import name_faults, read_curves
from resweep.report.run_files import Confusion as Confusion
from resweep.report.run_files import damaged_files
from resweep.report.run_files import load_calibration as load_calibration
from resweep.report.run_files import load_confusion as load_confusion
from resweep.report.run_files import load_mistakes as load_mistakes
from resweep.report.run_files import load_weights as load_weights
from resweep.report.run_files import log_tail as log_tail
from resweep.sweep.trial_list import TRIALS_FILE, with_trials

if TYPE_CHECKING:
    import pandas


@dataclass(kw_only=True)
class RunRecord(Record):
    """One run as its ``run.json`` tells it, and where it lies.

    Args:
        dir: the run's folder.
    """

    dir: Path

    @property
    def folder(self) -> str:
        """Name of the run's folder; bytes in it that are no UTF-8 are question marks."""
        return _printable(self.dir.name if self.dir.name not in ("", "..") else self.dir.resolve().name)

    @property
    def error_text(self) -> str | None:
        """What went wrong as one line, None when nothing is recorded."""
        if self.error is None:
            return None
        parts = [str(self.error[key]) for key in ("type", "message") if self.error.get(key) not in (None, "")]
        return " ".join(": ".join(parts).split()) or None


@dataclass(frozen=True)
class Sweep:
    """The runs of one folder, in plan order.

    Args:
        dir: the sweep's folder as it was named by the caller.
        name: the sweep's name.
        request: the content of ``sweep.yaml``, and for a search ``trials.json``; empty for a folder of single runs.
        runs: every run whose record could be read.
        damaged: one line ``file or folder: reason`` for each record that could not be read and, after
            :meth:`check_files`, for each damaged file of the runs.
    """

    dir: Path
    name: str
    request: dict[str, Any]
    runs: list[RunRecord]
    damaged: list[str]

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """Folder and reason of each run whose record is damaged."""
        split = [line.partition(f": {RUN_FILE} is damaged") for line in self.damaged]
        return [(folder, f"{RUN_FILE} is damaged{reason}") for folder, found, reason in split if found]

    @cached_property
    def curves(self) -> Mapping[str, pandas.DataFrame]:
        """The curves of every run that has some, by the name of its folder; see :func:`load_curves`.

        Read once, when first asked for; damaged and missing files are then named in ``damaged``. The frames share their
        memory: copy one before changing it.
        """
        curves, faults = read_curves(self.runs)
        self._name([*faults, *name_faults(self.runs, curves)])
        return curves

    def check_files(self) -> None:
        """Read the curves, look through the other files of every run, and name in ``damaged`` what is damaged."""
        _ = self.curves, self._checked

    def config(self, run: RunRecord) -> dict[str, Any] | None:
        """Return a run's frozen config; None without a file, and where it is damaged, which ``damaged`` then names."""
        content, fault = load_config(run)
        self._name([] if fault is None else [fault])
        return content

    @cached_property
    def _checked(self) -> bool:
        self._name(damaged_files(self.runs))
        return True

    def _name(self, faults: list[str]) -> None:
        known = set(self.damaged)
        self.damaged.extend(line for line in faults if line not in known)

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs by status, adding up to all runs; a planned run without a record is pending."""
        counts = Counter(run.status for run in self.runs)
        counts["unreadable"] = len(self.unreadable)
        stated = (self.request.get("counts") or {}).get("runs")
        planned = max(len(self.request.get("runs") or ()), stated if isinstance(stated, int) else 0)
        counts["pending"] += max(0, planned - len(self.runs) - len(self.unreadable))
        return {status: number for status, number in counts.items() if number > 0}

    @property
    def base(self) -> dict[str, Any]:
        """The config values that the plan was made from, by dotted key."""
        base = self.request.get("base")
        return base if isinstance(base, dict) else {}


def load_sweep(path: str | os.PathLike[str]) -> Sweep:
    """Return the sweep in a folder.

    A folder without ``sweep.yaml`` counts as a sweep of the single runs below it, a run's own folder as a sweep of one.

    Args:
        path: the folder of a sweep, of single runs, or of one run.

    Returns:
        The sweep; damaged records are named in it and left out of its runs.

    Raises:
        RequestError: if the path is no folder or holds no run; names the closest folder beside it.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RequestError(_not_a_sweep(path, "is a file, not a folder" if folder.exists() else "no such folder"))
    damaged: list[str] = []
    if (folder / "run.json").exists() and not (folder / "sweep.yaml").exists():
        run = _read_run(folder, damaged)
        return Sweep(folder, folder.resolve().name, {}, [] if run is None else [run], damaged)
    if not (folder / "sweep.yaml").exists() and not folders_with(RUN_FILE, folder):
        raise RequestError(_not_a_sweep(path, "holds no sweep.yaml and no run.json"))
    request = _read_request(folder, damaged)
    runs = [_read_run(child, damaged) for child in _run_folders(folder, request)]
    name = str(request.get("name") or folder.resolve().name)
    return Sweep(folder, name, request, [run for run in runs if run is not None], damaged)


def folders_with(name: str, folder: Path) -> list[Path]:
    """Return the folders directly below a folder that hold a file, by name; links such as ``latest`` are left out."""
    return sorted(path.parent for path in folder.glob(f"*/{name}") if not path.parent.is_symlink())


def folders_of_runs(folder: Path) -> list[Path]:
    """Return the folders directly below a folder that hold runs and no ``sweep.yaml``, by name; links are left out."""
    found = {path.parent.parent for path in folder.glob(f"*/*/{RUN_FILE}") if not path.parent.is_symlink()}
    return sorted(path for path in found if not path.is_symlink() and not (path / SWEEP_FILE).exists())


def without_repeats(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the runs with one for each config digest, in the place of its first run.

    The same config with the same seed is no further sample. Of its runs the one that finished last counts, or, while
    none has finished, the one that was active last. Runs without a digest are all kept.
    """
    kept: dict[str | int, RunRecord] = {}
    for number, run in enumerate(runs):
        key = number if run.config_digest is None else run.config_digest
        if key not in kept or _age(run) >= _age(kept[key]):
            kept[key] = run
    return list(kept.values())


def _read_request(folder: Path, damaged: list[str]) -> dict[str, Any]:
    import yaml

    path = folder / "sweep.yaml"
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        request = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        damaged.append(f"sweep.yaml: cannot be read ({first_line(error)})")
        return {}
    if not isinstance(request, dict):
        damaged.append("sweep.yaml: is not a mapping")
        return {}
    request = _checked_request(plain_values(request), damaged)
    try:
        return with_trials(request, folder)
    except ValueError as error:
        damaged.append(f"{TRIALS_FILE}: {error}")
        return request


def _checked_request(request: dict[str, Any], damaged: list[str]) -> dict[str, Any]:
    """The request without the parts that are something else than what is written there, which are named."""
    wrong = [key for key, kind in _KINDS.items() if not isinstance(request.get(key), (kind, type(None)))]
    damaged.extend(f"sweep.yaml: {key} is no {'list' if _KINDS[key] is list else 'mapping'}" for key in wrong)
    return {key: value for key, value in request.items() if key not in wrong}


def _run_folders(folder: Path, request: dict[str, Any]) -> list[Path]:
    """Folders with a record, those of the plan first and in its order."""
    found = {path.name for path in folders_with(RUN_FILE, folder)}
    planned = [str(name) for name in request.get("runs") or () if str(name) in found]
    return [folder / name for name in dict.fromkeys([*planned, *sorted(found)])]


def _read_run(folder: Path, damaged: list[str]) -> RunRecord | None:
    try:
        data = (folder / RUN_FILE).read_bytes()
        given = parse_record(data)
        swept = given.get("swept") or override_values(given.get("overrides", ()))
        given["swept"] = checked_repeats(swept, ("seed", "data.fold"))
    except (OSError, ValueError) as error:
        damaged.append(_printable(f"{folder.resolve().name}: {RUN_FILE} is damaged ({first_line(error)})"))
        return None
    if b"\\u" in data:
        given = _printable(given)
    return RunRecord(dir=folder, **given)


def _not_a_sweep(path: str | os.PathLike[str], message: str) -> Problem:
    folder = Path(path)
    sweeps = folders_with(SWEEP_FILE, folder)
    inside = sweeps or folders_of_runs(folder)
    if inside:
        names = ", ".join(child.name for child in inside[:6])
        kind = "sweeps" if sweeps else "folders of runs"
        return Problem("SWEEP_DIR", str(path), f"{message}, but {kind} below it: {names}", str(inside[0]))
    parent = folder.parent
    siblings = [child.name for child in parent.iterdir() if child.is_dir()] if parent.is_dir() else []
    closest = nearest_name(folder.name, sorted(set(siblings) - {folder.name}))
    return Problem("SWEEP_DIR", str(path), message, None if closest is None else str(parent / closest))


def _printable(value: Any) -> Any:
    """The value with half characters in its texts, which no file can hold, replaced by question marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_printable(part) for part in value]
    return {_printable(key): _printable(part) for key, part in value.items()} if isinstance(value, dict) else value


_KINDS: dict[str, type] = {
    "runs": list, "counts": dict, "base": dict, "overrides": list, "axes": dict, "command": list, "changes": list,
}  # fmt: skip


def _age(run: RunRecord) -> tuple[bool, str]:
    """What is larger for the run that counts among repeats; ISO 8601 texts in UTC sort by time."""
    return run.status in FINISHED, run.finished_at or run.started_at or ""


def changes_since_planned(request: Mapping[str, Any]) -> list[str]:
    """Return in words what was accepted as changed while a sweep went on, a line for each time.

    Args:
        request: content of ``sweep.yaml``.
    """
    lines = []
    for change in request.get("changes") or ():
        if isinstance(change, Mapping):
            what = change.get("what")
            texts = what if isinstance(what, list) else [what] if what else []
            lines.append(f"went on at {change.get('at')} with changes: {', '.join(map(str, texts))}")
    return lines

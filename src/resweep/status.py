"""``resweep status``: what is done, running, failed and why, waiting. Reads files only, at any time, from anywhere."""

from __future__ import annotations

import fcntl
from collections import Counter
from pathlib import Path
from typing import Any

from resweep.console import command, duration, relative, value
from resweep.errors import Problem, RequestError
from resweep.record import FINISHED, LOCK_FILE, LOG_FILE, METRICS_FILE, RUN_FILE, SWEEP_FILE
from resweep.report.load import RunRecord, Sweep, folders_of_runs, folders_with, load_sweep

FAILED = ("failed", "lost")


def status(folder: Path | None) -> str:
    """Return the state of one sweep, or a line for each sweep below a folder of sweeps.

    Args:
        folder: a sweep, a run, or a folder that holds sweeps; None for ``runs``.

    Raises:
        RequestError: there is nothing of the kind in the folder.
    """
    folder = Path("runs") if folder is None else folder
    if not folder.is_dir():
        raise RequestError(Problem("SWEEP_DIR", str(folder), "no such folder"))
    if (folder / SWEEP_FILE).is_file() or (folder / RUN_FILE).is_file() or folders_with(RUN_FILE, folder):
        return _one_sweep(load_sweep(folder))
    sweeps = folders_with(SWEEP_FILE, folder)
    singles = [run for child in folders_of_runs(folder) for run in folders_with(RUN_FILE, child)]
    if not sweeps and not singles:
        raise RequestError(Problem("SWEEP_DIR", str(folder), "holds no sweep and no run"))
    titles = ["sweep", "runs", "done", "running", "failed", "waiting", "best"]
    lines = _table([_sweep_row(load_sweep(path)) for path in sweeps], titles)
    if singles:
        lines.append("1 single run" if len(singles) == 1 else f"{len(singles)} single runs")
    return "\n".join(lines)


def held(folder: Path) -> bool:
    """Whether a process is carrying out the sweep or run in a folder now."""
    lock = folder / LOCK_FILE
    if not lock.is_file():
        return False
    with open(lock, encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _state(run: RunRecord, alive: bool) -> str:
    """The recorded state; a run that says it is running although nobody carries it out is lost."""
    return "lost" if run.status == "running" and not alive else run.status


def _counts(sweep: Sweep, alive: bool) -> dict[str, int]:
    states = Counter(_state(run, alive) for run in sweep.runs)
    done = sum(states[state] for state in FINISHED)
    failed = sum(states[state] for state in FAILED) + len(sweep.unreadable)
    waiting = sum(sweep.counts.values()) - done - failed - states["running"]
    return {"done": done, "running": states["running"], "failed": failed, "waiting": waiting}


def _best(sweep: Sweep) -> float | None:
    scores = [run.metrics.get("val/accuracy") for run in sweep.runs]
    return max((score for score in scores if score is not None), default=None)


def _sweep_row(sweep: Sweep) -> list[str]:
    counts = _counts(sweep, held(sweep.dir))
    best = _best(sweep)
    return [sweep.name, str(sum(counts.values())), *map(str, counts.values()), "-" if best is None else f"{best:.4f}"]


def _one_sweep(sweep: Sweep) -> str:
    alive = held(sweep.dir) or any(held(run.dir) for run in sweep.runs)
    counts = _counts(sweep, alive)
    axes = list(dict.fromkeys(key for run in sweep.runs for key in run.swept))
    names = ["run", "id", *(axis.rsplit(".", 1)[-1] for axis in axes), "state", "epoch", "val acc", "time"]
    rows = [_run_row(number, run, axes, alive) for number, run in enumerate(sweep.runs)]
    text = "   ".join(f"{count} {state}" for state, count in counts.items())
    lines = [f"{sweep.name}: {text}", *_table(rows, names)]
    lines += [f"damaged  {line}" for line in sweep.damaged]
    for run in sweep.runs:
        state = _state(run, alive)
        again = command("resweep", "resume", relative(run.dir))
        if state in FAILED:
            reason = run.error_text or "the process is gone"
            lines.append(f"{state}  {run.folder}  {reason}   log {relative(run.dir / LOG_FILE)}")
            lines.append(f"        again:  {again}")
        elif not sweep.request and state not in FINISHED and state != "running":
            lines.append(f"next  {again}")
    if sweep.request and (counts["waiting"] or counts["failed"]):
        lines.append(f"next  {command('resweep', 'resume', relative(sweep.dir))}")
    return "\n".join(lines)


def _run_row(number: int, run: RunRecord, axes: list[str], alive: bool) -> list[str]:
    score = run.metrics.get("val/accuracy")
    epochs = run.epochs
    metrics = run.dir / METRICS_FILE
    if run.status == "running" and metrics.is_file():
        epochs = max(0, len(metrics.read_text(encoding="utf-8").splitlines()) - 1)
    swept: list[Any] = [value(run.swept.get(axis)) for axis in axes]
    shown = "-" if score is None else f"{score:.4f}"
    return [f"{number:03d}", run.id, *swept, _state(run, alive), str(epochs), shown, duration(run.fit_seconds)]


def _table(rows: list[list[str]], names: list[str]) -> list[str]:
    widths = [max(len(row[column]) for row in [names, *rows]) for column in range(len(names))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [names, *rows]
    ]

"""``resweep status``: what is done, running, failed and why, waiting. Reads files only, at any time, from anywhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from resweep.claim import holder
from resweep.console import command, duration, relative, value
from resweep.errors import Problem, RequestError
from resweep.record import FINISHED, LOG_FILE, METRICS_FILE, RUN_FILE, SWEEP_FILE
from resweep.report.load import RunRecord, Sweep, folders_of_runs, folders_with, load_sweep
from resweep.rows import read_rows

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


def _state(run: RunRecord) -> str:
    """The recorded state; a run that says it is running although nobody carries it out is lost."""
    return "lost" if run.status == "running" and holder(run.dir) is None else run.status


def _counts(sweep: Sweep, states: list[str]) -> dict[str, int]:
    counts = Counter(states)
    done = sum(counts[state] for state in FINISHED)
    failed = sum(counts[state] for state in FAILED) + len(sweep.unreadable)
    waiting = sum(sweep.counts.values()) - done - failed - counts["running"] + _not_asked_for(sweep)
    return {"done": done, "running": counts["running"], "failed": failed, "waiting": waiting}


def _not_asked_for(sweep: Sweep) -> int:
    """Return how many runs a search is still to propose, at most."""
    search = sweep.request.get("search")
    if not isinstance(search, dict):
        return 0
    left = search.get("trials", 0) - len(sweep.request.get("trials") or ())
    return max(0, left) * len(search.get("seeds") or [None])


def _best(sweep: Sweep) -> float | None:
    scores = [run.metrics.get("val/accuracy") for run in sweep.runs]
    return max((score for score in scores if score is not None), default=None)


def _sweep_row(sweep: Sweep) -> list[str]:
    counts = _counts(sweep, [_state(run) for run in sweep.runs])
    best = _best(sweep)
    return [sweep.name, str(sum(counts.values())), *map(str, counts.values()), "-" if best is None else f"{best:.4f}"]


def _one_sweep(sweep: Sweep) -> str:
    states = [_state(run) for run in sweep.runs]
    counts = _counts(sweep, states)
    axes = list(dict.fromkeys(key for run in sweep.runs for key in run.swept))
    names = ["run", "id", *(axis.rsplit(".", 1)[-1] for axis in axes), "state", "epoch", "val acc", "time", "s/epoch"]
    rows = [
        _run_row(number, run, axes, state) for number, (run, state) in enumerate(zip(sweep.runs, states, strict=True))
    ]
    text = "   ".join(f"{count} {state}" for state, count in counts.items())
    left = _left(sweep, states)
    lines = [f"{sweep.name}: {text}" + (f"   left about {left}" if left else ""), *_table(rows, names)]
    lines += [f"damaged  {line}" for line in sweep.damaged]
    for run, state in zip(sweep.runs, states, strict=True):
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


def _left(sweep: Sweep, states: list[str]) -> str | None:
    """Return the time that is left, judged by the finished runs; None while none is under way or none has finished."""
    running = states.count("running")
    seconds = [run.fit_seconds for run in sweep.runs if run.status in FINISHED and run.fit_seconds]
    if not running or not seconds:
        return None
    waiting = sum(state in ("pending", "interrupted") for state in states) + _not_asked_for(sweep)
    return duration(median(seconds) * (waiting + running / 2) / running)


def _run_row(number: int, run: RunRecord, axes: list[str], state: str) -> list[str]:
    score, epochs, pace = run.metrics.get("val/accuracy"), run.epochs, None
    if state in ("running", "lost", "interrupted"):
        rows = read_rows(run.dir / METRICS_FILE)
        epochs = len(rows)
        score = max((row["val/accuracy"] for row in rows), default=score)
        pace = median([row["seconds"] for row in rows]) if rows and state == "running" else None
    swept: list[Any] = [value(run.swept.get(axis)) for axis in axes]
    shown = "-" if score is None else f"{score:.4f}"
    return [f"{number:03d}", run.id, *swept, state, str(epochs), shown, duration(run.fit_seconds), duration(pace)]


def _table(rows: list[list[str]], names: list[str]) -> list[str]:
    widths = [max(len(row[column]) for row in [names, *rows]) for column in range(len(names))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [names, *rows]
    ]

"""One row per run: ``results.csv``, and the commands that repeat a run or a sweep."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resweep.record import write_atomic
from resweep.report.load import RunRecord, Sweep

RUN_COLUMNS = ("best_epoch", "epochs", "fit_seconds", "images_per_second", "parameters", "peak_memory_bytes")

FORMULA = ("=", "+", "-", "@")
"""What a cell begins with that a spreadsheet computes."""

ONLY_IN_SWEEPS = ("sweep_name", "runs_dir", "search", "executor", "hydra")


def results_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """Return one row per run: id, folder, status, swept values, metrics, times, memory and what went wrong.

    A run whose record is damaged has a row with status ``unreadable``. A value that was not recorded is None.
    """
    swept = list(dict.fromkeys(["seed", *(key for run in sweep.runs for key in run.swept)]))
    swept.append(swept.pop(0))
    metrics = sorted({key for run in sweep.runs for key in run.metrics}, key=lambda key: (key[:4] != "val/", key))
    columns = ["id", "folder", "status", *swept, *metrics, *RUN_COLUMNS, "error"]
    rows = []
    for run in sweep.runs:
        row = dict.fromkeys(columns)
        row |= {"id": run.id, "folder": run.folder, "status": run.status}
        row |= run.swept | run.metrics | {name: getattr(run, name) for name in RUN_COLUMNS}
        row["seed"] = row["seed"] if run.seed is None else run.seed
        row["error"] = run.error_text
        rows.append(row)
    unreadable = [{"folder": folder, "status": "unreadable", "error": why} for folder, why in sweep.unreadable]
    return rows + [dict.fromkeys(columns) | row for row in unreadable]


def write_results_csv(sweep: Sweep, path: str | os.PathLike[str]) -> Path:
    """Write :func:`results_rows` as a CSV file, replaced in one step; None becomes an empty cell."""
    rows = results_rows(sweep)
    columns = list(rows[0]) if rows else ["id", "folder", "status", "seed", *RUN_COLUMNS, "error"]
    write_atomic(Path(path), csv_text(columns, [row.values() for row in rows]))
    return Path(path)


def csv_text(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table as CSV; lists and mappings are written as JSON, None as an empty cell.

    A text that a spreadsheet would take for a formula (one that begins with ``=``, ``+``, ``-`` or ``@`` and is no
    number) gets an apostrophe in front, which a spreadsheet shows as text.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    for row in rows:
        writer.writerow(map(_cell, row))
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value):
        return f"'{value}"
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def run_command(sweep: Sweep, run: RunRecord) -> str:
    """Return the command that trains one run of the sweep on its own, quoted for the shell."""
    return shlex.join(["resweep", "train", *run_overrides(sweep, run)])


def run_overrides(sweep: Sweep, run: RunRecord) -> list[str]:
    """Return the overrides that ask for one run of the sweep on its own.

    The sweep's fixed overrides come first, then the run's own; keys that only steer a sweep are left out.
    """
    own = {override_key(text) for text in run.overrides}
    dropped = own | set(sweep.request.get("axes") or ())
    fixed = []
    for text in sweep.request.get("overrides") or ():
        key = override_key(str(text))
        if not str(text).startswith("-") and key not in dropped and key.split(".")[0] not in ONLY_IN_SWEEPS:
            fixed.append(str(text))
    return [*fixed, *run.overrides]


def sweep_command(sweep: Sweep) -> str | None:
    """Return the command that made the sweep, quoted for the shell, None when it is not recorded."""
    command = sweep.request.get("command")
    return shlex.join(str(word) for word in command) if isinstance(command, list) and command else None


def override_key(text: str) -> str:
    """Return the key of an override, signs and package left out."""
    return text.lstrip("+~").partition("=")[0].partition("@")[0]

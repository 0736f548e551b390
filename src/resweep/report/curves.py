"""The curves of many runs: ``metrics.csv`` files, one line per epoch, read with what is damaged in them named.

Most files are whole: they are cut at commas and line ends and turned into numbers in one go. A file with anything
unusual in it is read line by line instead, so that what can be saved is saved and the rest can be named.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING

from resweep.record import COLUMNS, CURVES_PARQUET, METRICS_FILE

if TYPE_CHECKING:
    import numpy
    import pandas

    from resweep.report.load import RunRecord

OF_RUNS = ("id", "folder", "seed")
"""Columns that stand before those of ``metrics.csv`` where the curves of many runs are one table, and swept keys."""

LARGEST_EPOCH = 2**53
"""Above it a float no longer tells whole numbers apart."""


def load_curves(run: RunRecord) -> pandas.DataFrame:
    """Return a run's ``metrics.csv``, one row per finished epoch.

    A line that was cut while it was written (no line end, or another number of fields than the header) is left out; of
    an epoch that was written twice the later line counts; a value that is no number becomes NaN, as do infinities.

    Args:
        run: a loaded run.

    Returns:
        A frame sorted by ``epoch`` (int, from 1) with the file's columns as floats; empty with the standard columns
        when the run has no such file.
    """
    curves, _ = read_curves([run])
    return next(iter(curves.values())) if curves else _frame(COLUMNS, [_no_rows(COLUMNS)])


def read_curves(runs: Sequence[RunRecord]) -> tuple[dict[str, pandas.DataFrame], list[str]]:
    """Return the curves of many runs, and what is damaged in their files.

    The frames of runs with the same columns share one block of memory.

    Args:
        runs: loaded runs.

    Returns:
        The frame of each run with at least one epoch, as of :func:`load_curves`, by the name of the run's folder; and
        a line ``folder/metrics.csv: reason`` for each damaged file, and for each missing one of a completed run.
    """
    faults: list[str] = []
    by_header: dict[tuple[str, ...], tuple[list[str], list[numpy.ndarray]]] = {}
    for run in runs:
        header, values, reasons = _read(run)
        if reasons:
            faults.append(f"{run.folder}/{METRICS_FILE}: {'; '.join(reasons)}")
        if len(values):
            folders, blocks = by_header.setdefault(header, ([], []))
            folders.append(run.folder)
            blocks.append(values)
    found: dict[str, pandas.DataFrame] = {}
    for header, (folders, blocks) in by_header.items():
        found |= _slices(_frame(header, blocks), folders, [len(block) for block in blocks])
    return {run.folder: found[run.folder] for run in runs if run.folder in found}, faults


def curve_column(name: str, taken: Collection[str]) -> str:
    """Return what a column of ``metrics.csv`` is called beside columns that already have the names ``taken``."""
    return f"{name} ({METRICS_FILE})" if name in taken else name


def name_faults(runs: Sequence[RunRecord], curves: Mapping[str, pandas.DataFrame]) -> list[str]:
    """Return a line for each file with a column that has the name of a swept key, or of another column of all curves.

    Args:
        runs: loaded runs.
        curves: their curves, as of :func:`read_curves`.
    """
    taken = {*OF_RUNS, *(key for run in runs for key in run.swept)}
    faults = []
    for folder, frame in curves.items():
        for name in [name for name in frame.columns if name in taken]:
            new = curve_column(name, taken)
            faults.append(f"{folder}/{METRICS_FILE}: has a column {name}, called {new} in {CURVES_PARQUET}")
    return faults


def _frame(header: tuple[str, ...], blocks: list[numpy.ndarray]) -> pandas.DataFrame:
    import numpy
    import pandas

    frame = pandas.DataFrame(numpy.concatenate(blocks), columns=list(header))
    frame["epoch"] = frame["epoch"].astype(int)
    return frame


def _slices(frame: pandas.DataFrame, folders: list[str], lengths: list[int]) -> dict[str, pandas.DataFrame]:
    import pandas

    found, start = {}, 0
    for folder, length in zip(folders, lengths, strict=True):
        part = frame.iloc[start : start + length]
        part.index = pandas.RangeIndex(length)
        found[folder] = part
        start += length
    return found


def _read(run: RunRecord) -> tuple[tuple[str, ...], numpy.ndarray, list[str]]:
    """Header, numbers (epochs x columns, sorted, each epoch once) and what is wrong with the file."""
    reasons: list[str] = []
    try:
        data = (run.dir / METRICS_FILE).read_bytes()
    except FileNotFoundError:
        reasons = ["is missing"] if run.status == "completed" and run.epochs > 0 else []
        return COLUMNS, _no_rows(COLUMNS), reasons
    except OSError as error:
        return COLUMNS, _no_rows(COLUMNS), [f"cannot be read ({error.strerror})"]
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data) and run.status != "running":
        reasons.append("its last line was cut")
    found = _whole_table(whole)
    if found is None:
        header, values, more = _line_by_line(whole)
        reasons += more
    else:
        header, values = found
    values = _one_row_per_epoch(values, header.index("epoch"), reasons)
    if not len(values) and not reasons and run.status == "completed":
        reasons.append("holds no epoch")
    return header, values, reasons


def _whole_table(data: bytes) -> tuple[tuple[str, ...], numpy.ndarray] | None:
    """Header and numbers of a file in which every line is whole and every cell a number, else None."""
    import numpy

    try:
        first, *lines = data.decode("ascii").split("\n")[:-1] or [""]
    except UnicodeDecodeError:
        return None
    header = tuple(first.rstrip("\r").split(","))
    commas = len(header) - 1
    if header.count("epoch") != 1 or len(set(header)) != len(header) or '"' in first:
        return None
    if not set(map(str.count, lines, repeat(","))) <= {commas}:
        return None
    text = ",".join(lines)
    if "_" in text:  # which float() would take
        return None
    cells = text.split(",") if lines else []
    try:
        numbers = numpy.fromiter(map(float, cells), float, len(cells))
    except ValueError:
        return None
    return header, numbers.reshape(-1, len(header))


def _line_by_line(data: bytes) -> tuple[tuple[str, ...], numpy.ndarray, list[str]]:
    """Header, the numbers of the lines that are whole, and what is wrong with the others."""
    import numpy

    lines = data.decode("utf-8", errors="replace").replace("\0", "�").splitlines()
    rows = [row for line in lines if line for row in _fields(line)]
    header = tuple(rows[0]) if rows else ()
    if header.count("epoch") != 1 or len(set(header)) != len(header):
        return COLUMNS, _no_rows(COLUMNS), ["has no header with a column epoch" if data else "is empty"]
    whole = [row for row in rows[1:] if len(row) == len(header)]
    numbers = [[_number(cell) for cell in row] for row in whole]
    cut, wrong = len(rows) - 1 - len(whole), sum(number is None for row in numbers for number in row)
    reasons = [f"{_several(cut, 'line')} with the wrong number of values"] if cut else []
    reasons += [f"{_several(wrong, 'value')} that {'are' if wrong > 1 else 'is'} no number"] if wrong else []
    values = [[math.nan if number is None else number for number in row] for row in numbers]
    return header, numpy.array(values, dtype=float).reshape(-1, len(header)), reasons


def _one_row_per_epoch(values: numpy.ndarray, column: int, reasons: list[str]) -> numpy.ndarray:
    """Rows sorted by epoch, the last one of each; lines without an epoch are left out and named, infinities are NaN."""
    import numpy

    values = numpy.where(numpy.isfinite(values), values, math.nan)
    epochs = values[:, column]
    if len(epochs) and epochs[0] == 1 and (numpy.diff(epochs) == 1).all():
        return values
    known = (epochs >= 1) & (epochs <= LARGEST_EPOCH) & (epochs == numpy.floor(epochs))
    if not known.all():
        reasons.append(f"{_several(int((~known).sum()), 'line')} without a whole number from 1 as the epoch")
    values = values[known][::-1]
    _, last = numpy.unique(values[:, column], return_index=True)
    return values[last]


def _fields(line: str) -> list[list[str]]:
    try:
        return list(csv.reader([line]))
    except csv.Error:
        return [[]]  # counts as a line with the wrong number of values


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _no_rows(header: tuple[str, ...]) -> numpy.ndarray:
    import numpy

    return numpy.empty((0, len(header)))


def _several(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

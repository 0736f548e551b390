"""Runs and curves as pandas frames, and the Parquet files made from them.

A column has the same type in every file that can be compared: metrics are floats, counts are integers, names are text.
A swept key is a column of booleans, integers or floats where all its values are, and of text where they are mixed.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resweep.record import COLUMNS, CURVES_PARQUET, RESULTS_PARQUET, TOO_LARGE, write_atomic
from resweep.report.curves import curve_column
from resweep.report.load import Sweep
from resweep.report.results import results_rows

if TYPE_CHECKING:
    import pandas

TEXTS = ("id", "folder", "status", "error")
COUNTS = ("seed", "best_epoch", "epochs", "parameters", "peak_memory_bytes")
NUMBERS = ("fit_seconds", "images_per_second")
NOT_OF_CURVES = ("status", *COUNTS[1:], *NUMBERS, "error")


def runs_frame(sweep: Sweep) -> pandas.DataFrame:
    """Return one row per run, as in ``results.csv``.

    Args:
        sweep: a loaded sweep.

    Returns:
        A frame with ``id``, ``folder``, ``status``, a column per swept key with ``seed`` last, the metrics, times
        (seconds), memory (bytes) and ``error``. A value that was not recorded is missing (NaN or NA); so is a swept
        value that is null. Runs whose record is damaged have the status ``unreadable``.
    """
    import pandas

    rows = results_rows(sweep)
    columns = list(rows[0]) if rows else [*TEXTS[:3], "seed", *COUNTS[1:], *NUMBERS, "error"]
    return pandas.DataFrame({name: _column(name, [row[name] for row in rows]) for name in columns})


def curves_frame(sweep: Sweep) -> pandas.DataFrame:
    """Return one row per run and epoch.

    Args:
        sweep: a loaded sweep; its curves are read if they have not been.

    Returns:
        A frame with the columns ``id``, ``folder`` and swept keys of :func:`runs_frame`, then ``epoch`` (from 1) and
        the columns of ``metrics.csv`` as floats; in plan order. Runs without an epoch have no row. A column of
        ``metrics.csv`` that has the name of one before it is called ``NAME (metrics.csv)``.
    """
    import numpy
    import pandas

    curves = sweep.curves
    runs = runs_frame(sweep)
    metrics = {name for run in sweep.runs for name in run.metrics}
    runs = runs[[name for name in runs.columns if name not in NOT_OF_CURVES and name not in metrics]]
    found = [(number, curves[run.folder]) for number, run in enumerate(sweep.runs) if run.folder in curves]
    rows = numpy.repeat([number for number, _ in found], [len(frame) for _, frame in found]).astype(int)
    values = pandas.concat([frame for _, frame in found], ignore_index=True) if found else _no_curves()
    values = values[["epoch", *(name for name in values.columns if name != "epoch")]]
    values = values.rename(columns={name: curve_column(name, runs.columns) for name in values.columns})
    return pandas.concat([runs.take(rows).reset_index(drop=True), values], axis="columns")


def write_parquet(sweep: Sweep, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write ``results.parquet`` (:func:`runs_frame`) and ``curves.parquet`` (:func:`curves_frame`).

    Each is replaced in one step. NaN is written as null.

    Args:
        sweep: a loaded sweep.
        folder: where the files go; it must exist.

    Returns:
        The two paths.

    Raises:
        OSError: a file could not be written; the old one is untouched and nothing is left beside it.
    """
    results, curves = Path(folder) / RESULTS_PARQUET, Path(folder) / CURVES_PARQUET
    _write(runs_frame(sweep), results)
    _write(curves_frame(sweep), curves)
    return results, curves


def _write(frame: pandas.DataFrame, path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pandas(frame, preserve_index=False), stream, compression="zstd")
    write_atomic(path, stream.getvalue())


def _no_curves() -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame({name: pandas.Series(dtype=int if name == "epoch" else float) for name in COLUMNS})


def _column(name: str, values: Sequence[Any]) -> pandas.api.extensions.ExtensionArray:
    """Return a column's values with the type that its name, or for a swept key its values, ask for."""
    if name in TEXTS:
        return _texts(values, str)
    if name in COUNTS and all(_fits(value) for value in values):
        return _whole([None if value is None else round(value) for value in values])
    if name in NUMBERS or "/" in name:
        return _floats(values)
    given = [value for value in values if value is not None]
    flags = sum(isinstance(value, bool) for value in given)
    if given and flags == len(given):
        return _flags(values)
    if given and not flags and all(isinstance(value, int) and abs(value) < TOO_LARGE for value in given):
        return _whole(values)
    if given and not flags and all(_is_number(value) for value in given):
        return _floats(values)
    return _texts(values, lambda value: value if isinstance(value, str) else json.dumps(value))


def _fits(value: Any) -> bool:
    """Whether a count is missing or fits a column of integers; a swept seed may be a text."""
    return value is None or (_is_number(value) and abs(value) < TOO_LARGE)


def _is_number(value: Any) -> bool:
    """Whether a value is an integer or a float that a column of floats can hold."""
    if not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _texts(values: Iterable[Any], text: Callable[[Any], str]) -> Any:
    import pandas

    return pandas.array([None if value is None else text(value) for value in values], pandas.StringDtype("pyarrow"))


def _whole(values: Sequence[int | None]) -> Any:
    import pandas

    return pandas.array(values, "Int64")


def _flags(values: Sequence[bool | None]) -> Any:
    import pandas

    return pandas.array(values, "boolean")


def _floats(values: Sequence[float | None]) -> Any:
    import numpy

    return numpy.array([numpy.nan if value is None else value for value in values], dtype=float)

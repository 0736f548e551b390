"""What a run's folder holds besides record and curves: tables and pictures of its test, and its log.

Each reader returns what can be used of a file, and :func:`damaged_files` says in a line each which ones are damaged.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resweep.record import CALIBRATION_FILE, CONFIG_FILE, CONFUSION_FILE, LOG_FILE, MISTAKES_FILE, WEIGHTS_FILE
from resweep.report.configs import config_bytes
from resweep.report.layout import printable

if TYPE_CHECKING:
    import pandas

    from resweep.report.load import RunRecord

CALIBRATION_COLUMNS = ("lower", "upper", "count", "confidence", "accuracy")
WEIGHTS_COLUMNS = ("name", "count", "norm", "largest")
LOG_BYTES = 64 * 1024
"""How much of a log's end is looked at."""

LOG_WIDTH = 400
"""Characters after which a line of a log is cut."""

LARGE = 100_000
"""Bytes from which a confusion matrix is looked through for damage before its numbers are read."""

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Confusion:
    """Counts of a test confusion matrix.

    Args:
        classes: K class names.
        counts: K rows of K numbers; a row is a true class, a column a predicted one.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def load_confusion(run: RunRecord) -> Confusion | None:
    """Return a run's test confusion matrix, None when it has none or the file is not a square table of counts.

    The header may have a cell above the column of class names or not.
    """
    return _or_none(_confusion, run.dir / CONFUSION_FILE)


def load_calibration(run: RunRecord) -> pandas.DataFrame | None:
    """Return how often a run's test predictions were right, by their confidence.

    Args:
        run: a loaded run.

    Returns:
        A frame with a row per bin: ``lower`` and ``upper`` end of the confidence, ``count`` of predictions, their mean
        ``confidence`` and their ``accuracy`` (NaN in an empty bin). Damaged lines are left out. None when the run has
        no such file, or nothing of it can be used.
    """
    return _load_table(run.dir / CALIBRATION_FILE, CALIBRATION_COLUMNS)


def load_weights(run: RunRecord) -> pandas.DataFrame | None:
    """Return the sizes of the weights that a run was tested with.

    Args:
        run: a loaded run.

    Returns:
        A frame with a row per parameter tensor: ``name``, ``count`` of numbers in it, their Euclidean ``norm`` and the
        ``largest`` absolute value. Damaged lines are left out. None when the run has no such file, or nothing of it can
        be used.
    """
    return _load_table(run.dir / WEIGHTS_FILE, WEIGHTS_COLUMNS)


def load_mistakes(run: RunRecord) -> bytes | None:
    """Return the PNG picture of a run's most confident mistakes, None when it has none or the file is no whole PNG."""
    return _or_none(_picture, run.dir / MISTAKES_FILE)


def log_tail(run: RunRecord, lines: int = 20) -> str:
    """Return the last lines of a run's log as plain text, empty without a log.

    Escape sequences and control characters of terminals are taken out, of a line that was written over again and again
    (a progress bar) the last state is kept, blank lines are left out, and lines longer than 400 characters are cut.

    Args:
        run: a loaded run.
        lines: how many at most.

    Returns:
        Text without a final line end. What cannot be read is said in the text's place.
    """
    try:
        with open(run.dir / LOG_FILE, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES))
            data = file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{LOG_FILE} cannot be read ({error.strerror})"
    if size > LOG_BYTES:
        data = data[data.find(b"\n") + 1 :]
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)", "", data.decode("utf-8", "replace"))
    states = [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n")]
    plain = [printable(line, keep="\t") for line in states if line]
    cut = [line if len(line) <= LOG_WIDTH else f"{line[:LOG_WIDTH]}…" for line in plain]
    return "\n".join(cut[max(0, len(cut) - lines) :])


def damaged_files(runs: Iterable[RunRecord]) -> list[str]:
    """Return a line ``folder/file: reason`` for each damaged table or picture of the runs' tests, and damaged config.

    A missing file is none, unless the run says that it could not be written: not every task has each of them, and
    earlier versions wrote fewer. Of a config only its
    encoding and its beginning are looked at, as parsing all of a large sweep would take half a minute.
    """
    faults = []
    for run in runs:
        faults += [f"{run.folder}/{name}: could not be written ({reason})" for name, reason in run.missing.items()]
        for name, read in _READERS.items():
            try:
                found = read(run.dir / name)
            except (OSError, ValueError) as error:
                faults.append(f"{run.folder}/{name}: {getattr(error, 'strerror', None) or error}")
                continue
            if isinstance(found, _Table) and found.left_out:
                plural = "" if found.left_out == 1 else "s"
                faults.append(f"{run.folder}/{name}: {found.left_out} damaged line{plural}")
    return faults


@dataclass(frozen=True)
class _Table:
    columns: list[list[Any]]
    left_out: int


def _confusion(path: Path) -> Confusion | None:
    """Read a confusion matrix; None when there is none, ValueError when it is none."""
    data = _bytes(path)
    if data is None:
        return None
    header, *rows = _csv_rows(data) or [[]]
    width = len(rows)
    classes = tuple(header[len(header) - width :])
    if width == 0 or len(header) not in (width, width + 1) or any(len(row) != width + 1 for row in rows):
        raise ValueError("is no square table with a header")
    return Confusion(classes, tuple(tuple(_counts(row[1:])) for row in rows))


def _check_confusion(path: Path) -> None:
    """Raise what :func:`_confusion` raises, for large matrices in a fraction of its time."""
    data = _bytes(path)
    if data is not None and (len(data) < LARGE or not _is_plain_square(data)):
        _confusion(path)


def _is_plain_square(data: bytes) -> bool:
    """Whether a matrix looks as it is written here: a name and K whole numbers in each of K lines, no quotes."""
    header, *lines = data.split(b"\n")
    if b'"' in data or lines[-1:] != [b""]:
        return False
    rows = [line.partition(b",")[1:] for line in lines[:-1]]
    size = len(rows)
    cells = [b"".join(row) + b"," for row in rows]
    return header.count(b",") in (size, size - 1) and all(
        row.count(b",") == size + 1 and b",," not in row and not row.translate(None, b"0123456789,") for row in cells
    )


def _counts(cells: list[str]) -> list[int]:
    if all(map(str.isdecimal, cells)):
        return list(map(int, cells))
    if not all(re.fullmatch(r"\s*\d+(\.0*)?\s*", cell) for cell in cells):
        raise ValueError("holds something else than counts")
    return [int(float(cell)) for cell in cells]


def _load_table(path: Path, columns: tuple[str, ...]) -> pandas.DataFrame | None:
    import pandas

    found = _or_none(lambda path: _table(path, columns), path)
    if found is None:
        return None
    frame = pandas.DataFrame(dict(zip(columns, found.columns, strict=True)))
    return frame.replace([math.inf, -math.inf], math.nan)


def _table(path: Path, columns: tuple[str, ...]) -> _Table | None:
    """Read a table's columns: ``name`` as text, the others as numbers (an empty cell is NaN)."""
    data = _bytes(path)
    if data is None:
        return None
    header, *rows = _csv_rows(data) or [[]]
    if any(header.count(name) != 1 for name in columns):
        raise ValueError(f"has no header with the columns {', '.join(columns)}")
    places = [(name, header.index(name)) for name in columns]
    whole = [row for row in rows if len(row) == len(header)]
    try:
        found = _numbers(whole, places)
    except ValueError:
        whole = [row for row in whole if _is_good(row, places)]
        found = _numbers(whole, places)
    if not whole:
        raise ValueError("has no line that can be used")
    return _Table(found, len(rows) - len(whole))


def _numbers(rows: list[list[str]], places: list[tuple[str, int]]) -> list[list[Any]]:
    cells = list(zip(*rows, strict=True)) if rows else [()] * (1 + max(place for _, place in places))
    return [list(cells[k]) if name == "name" else [float(cell or "nan") for cell in cells[k]] for name, k in places]


def _is_good(row: list[str], places: list[tuple[str, int]]) -> bool:
    try:
        _numbers([row], places)
    except ValueError:
        return False
    return True


def _picture(path: Path) -> bytes | None:
    data = _bytes(path)
    if data is not None and not (data.startswith(PNG_START) and data.endswith(PNG_END)):
        raise ValueError("is no whole PNG picture")
    return data


def _csv_rows(data: bytes) -> list[list[str]]:
    try:
        return [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")) if row]
    except csv.Error as error:
        raise ValueError(f"is no CSV file ({error})") from error
    except UnicodeDecodeError as error:
        raise ValueError("is no text in UTF-8") from error


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _or_none(read: Callable[[Path], Any], path: Path) -> Any:
    """What a reader returns, None for a file that :func:`damaged_files` names."""
    try:
        return read(path)
    except (OSError, ValueError):
        return None


_READERS: dict[str, Callable[[Path], Any]] = {
    CONFUSION_FILE: _check_confusion,
    CALIBRATION_FILE: lambda path: _table(path, CALIBRATION_COLUMNS),
    WEIGHTS_FILE: lambda path: _table(path, WEIGHTS_COLUMNS),
    MISTAKES_FILE: _picture,
    CONFIG_FILE: config_bytes,
}

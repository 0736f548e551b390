"""Tables of a test result as CSV files: one row per class or label, and who was taken for whom."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from resweep.record import CONFUSION_FILE, write_atomic
from resweep.scores import TestResult

CLASSES_FILE = "classes.csv"


def write_confusion(run_dir: Path, confusion: Tensor, classes: Sequence[str]) -> None:
    """Write the confusion matrix as ``confusion.csv``: a header of class names, then one row per true class.

    Args:
        run_dir: folder of the run.
        confusion: int64 (K, K), rows = true class.
        classes: K names.
    """
    rows = [[name, *row] for name, row in zip(classes, confusion.tolist(), strict=True)]
    _write(run_dir / CONFUSION_FILE, ["true \\ predicted", *classes], rows)


def write_classes(run_dir: Path, result: TestResult, classes: Sequence[str]) -> None:
    """Write ``classes.csv``: one row per class or label with what the test split has shown about it.

    Numbers have ten digits; an undefined one (nan) is an empty field.

    Args:
        run_dir: folder of the run.
        result: has the columns.
        classes: K names.
    """
    rows = zip(classes, *result.classes.values(), strict=True)
    _write(run_dir / CLASSES_FILE, ["class", *result.classes], [[_text(value) for value in row] for row in rows])


def _write(path: Path, header: list[str], rows: list[list]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def _text(value: str | float) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    return str(value)

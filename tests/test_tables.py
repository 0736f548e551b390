"""The tables of a test result as files."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch

from resweep.scores import TestResult
from resweep.tables import write_classes, write_confusion

CLASSES = ("cat", "dog, large", 'the "third"')


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def test_a_row_per_class(tmp_path: Path) -> None:
    columns = {"support": [3, 0, 1], "threshold": [0.3, 0.5, 1 / 3], "auroc": [1.0, math.nan, 0.25]}
    write_classes(tmp_path, TestResult({}, None, columns), CLASSES)
    assert read(tmp_path / "classes.csv") == [
        ["class", "support", "threshold", "auroc"],
        ["cat", "3", "0.3", "1"],
        ["dog, large", "0", "0.5", ""],
        ['the "third"', "1", "0.3333333333", "0.25"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["classes.csv"]


def test_a_row_per_true_class_of_the_confusion_matrix(tmp_path: Path) -> None:
    write_confusion(tmp_path, torch.arange(9).view(3, 3), CLASSES)
    header, *rows = read(tmp_path / "confusion.csv")
    assert header == ["true \\ predicted", *CLASSES]
    assert rows == [["cat", "0", "1", "2"], ["dog, large", "3", "4", "5"], ['the "third"', "6", "7", "8"]]


def test_a_wrong_number_of_names_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_classes(tmp_path, TestResult({}, None, {"support": [1, 2]}), CLASSES)
    with pytest.raises(ValueError):
        write_confusion(tmp_path, torch.zeros(2, 2), CLASSES)

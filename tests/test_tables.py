"""The tables of a test result as files."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from resweep.data.samples import InMemory
from resweep.mistakes import Mistake
from resweep.record import CALIBRATION_FILE, CONFUSION_FILE, MISTAKES_FILE, WEIGHTS_FILE
from resweep.scores import MulticlassTest, TestResult
from resweep.tables import (
    CLASSES_FILE,
    weight_rows,
    write_calibration,
    write_classes,
    write_confusion,
    write_mistakes,
    write_result,
    write_weights,
)

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


def test_a_row_per_bin_of_confidence(tmp_path: Path) -> None:
    metrics = MulticlassTest(2)
    metrics.update(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]]).log(), torch.tensor([0, 0, 1]))
    write_calibration(tmp_path, metrics.compute())
    header, *rows = read(tmp_path / "calibration.csv")
    assert header == ["lower", "upper", "count", "confidence", "accuracy"] and len(rows) == 15
    assert rows[0] == ["0", "0.06666666667", "0", "", ""]
    filled = [row for row in rows if row[2] != "0"]
    found = [(round(float(row[0]) * 15), int(row[2]), float(row[4])) for row in filled]
    assert found == [(11, 1, 0.0), (13, 2, 1.0)]  # 0.8 lies in (11/15, 12/15], 0.9 in (13/15, 14/15]
    assert [float(row[3]) for row in filled] == pytest.approx([0.8, 0.9])


def test_a_row_per_parameter_tensor(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ParameterList([torch.empty(0)]))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
        net[0].bias.copy_(torch.tensor([1.0, -1.0]))
    write_weights(tmp_path, net)
    assert read(tmp_path / "weights.csv") == [
        ["name", "count", "norm", "largest"],
        ["0.weight", "4", "5", "4"],
        ["0.bias", "2", "1.414213538", "1"],
        ["1.weight", "2", "1.414213538", "1"],
        ["1.bias", "2", "0", "0"],
    ]


def test_weights_of_half_precision_are_summed_in_single_precision() -> None:
    net = nn.Linear(10_000, 1, bias=False, dtype=torch.bfloat16)
    nn.init.ones_(net.weight)
    assert weight_rows(net) == [("weight", 10_000, 100.0, 1.0)]
    assert weight_rows(nn.ReLU()) == []


def test_a_picture_of_the_mistakes_and_none_without(tmp_path: Path) -> None:
    images = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
    images[4] = 255  # the only white one
    samples = InMemory(images, torch.zeros(6, dtype=torch.int64))
    write_mistakes(tmp_path, [Mistake(4, 0, 1, 0.97)], samples, CLASSES)
    with Image.open(tmp_path / "mistakes.png") as picture:
        assert picture.getpixel((picture.width // 2, 20)) == 255
    write_mistakes(tmp_path, [Mistake(3, 0, 1, 0.97)], samples, CLASSES)
    with Image.open(tmp_path / "mistakes.png") as picture:
        assert picture.getpixel((picture.width // 2, 20)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mistakes.png"]
    write_mistakes(tmp_path, [], samples, CLASSES)
    assert list(tmp_path.iterdir()) == []


class Gone(InMemory):
    """Images that can no longer be read."""

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise OSError("the images\nare gone")


def test_a_picture_that_cannot_be_drawn_takes_nothing_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = MulticlassTest(3)
    metrics.update(torch.eye(3) * 9, torch.tensor([0, 1, 0]))
    samples = Gone(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0]))
    (tmp_path / MISTAKES_FILE).write_text("of an earlier attempt")
    missing = write_result(tmp_path, metrics.compute(), nn.Linear(2, 2), samples, CLASSES)
    assert missing == {MISTAKES_FILE: "OSError: the images are gone"}
    written = {CLASSES_FILE, CONFUSION_FILE, CALIBRATION_FILE, WEIGHTS_FILE}
    assert {path.name for path in tmp_path.iterdir()} == written
    assert "mistakes.png could not be written" in caplog.text and "Traceback" in caplog.text


def test_the_counts_of_the_test_have_to_be_written(tmp_path: Path) -> None:
    metrics = MulticlassTest(3)
    metrics.update(torch.eye(3) * 9, torch.arange(3))
    (tmp_path / CONFUSION_FILE).mkdir()
    samples = InMemory(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3))
    with pytest.raises(OSError):
        write_result(tmp_path, metrics.compute(), nn.Linear(2, 2), samples, CLASSES)

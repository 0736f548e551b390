"""The bins of confidence against numpy, torchmetrics and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryCalibrationError

from resweep.calibration import BINS, Calibration


def filled(confidence: torch.Tensor, right: torch.Tensor, size: int = 10_000) -> Calibration:
    made = Calibration()
    for some in zip(confidence.split(size), right.split(size), strict=True):
        made.add(*some)
    return made


def random_answers(count: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    confidence = torch.rand(count, generator=generator)
    return confidence, torch.rand(count, generator=generator) < confidence**2


def test_a_table_by_hand() -> None:
    table = filled(torch.tensor([0.5, 0.52, 0.98, 0.96, 0.97]), torch.tensor([True, False, True, True, False])).table()
    assert table["lower"] == pytest.approx(np.arange(15) / 15) and table["upper"] == pytest.approx(
        np.arange(1, 16) / 15
    )
    assert table["count"] == [0] * 7 + [2] + [0] * 6 + [3]  # 0.5 and 0.52 lie in (7/15, 8/15]
    assert table["confidence"][7] == pytest.approx(0.51) and table["accuracy"][7] == 0.5
    assert table["confidence"][14] == pytest.approx(0.97) and table["accuracy"][14] == pytest.approx(2 / 3)
    assert all(math.isnan(table[name][0]) for name in ("confidence", "accuracy"))


def test_the_error_by_hand() -> None:
    found = filled(torch.tensor([0.5, 0.52, 0.98, 0.96, 0.97]), torch.tensor([True, False, True, True, False]))
    assert found.error() == pytest.approx(2 / 5 * 0.01 + 3 / 5 * (0.97 - 2 / 3), rel=1e-6)


def test_random_answers_agree_with_numpy_and_parts_with_the_whole() -> None:
    confidence, right = random_answers()
    table = filled(confidence, right, 77).table()
    places = np.ceil(confidence.double().numpy() * BINS).astype(int) - 1
    for index in range(BINS):
        inside = places == index
        assert table["count"][index] == inside.sum() > 0
        assert table["confidence"][index] == pytest.approx(confidence.numpy()[inside].mean(), rel=1e-6)
        assert table["accuracy"][index] == pytest.approx(right.numpy()[inside].mean(), rel=1e-12)


def test_the_error_is_that_of_torchmetrics() -> None:
    # Its binary form takes the probability of label 1 for the confidence, and label 1 for right.
    confidence, right = random_answers()
    theirs = BinaryCalibrationError(n_bins=BINS, norm="l1")(confidence, right.long()).item()
    assert filled(confidence, right).error() == pytest.approx(theirs, rel=1e-5)


def test_ends_and_edges_have_their_bins() -> None:
    edge = torch.linspace(0, 1, BINS + 1)[3].item()
    table = filled(torch.tensor([0.0, edge, 1.0]), torch.tensor([True, True, True])).table()
    assert [index for index, count in enumerate(table["count"]) if count] == [0, 2, 14]


def test_what_is_undefined_is_left_out() -> None:
    found = filled(torch.tensor([0.5, math.nan]), torch.tensor([True, True]))
    assert sum(found.table()["count"]) == 1
    assert math.isnan(Calibration().error())


def test_forgetting() -> None:
    found = filled(*random_answers())
    found.reset()
    found.add(torch.tensor([1.0]), torch.tensor([True]))
    assert found.table()["count"] == [0] * 14 + [1] and found.error() == 0

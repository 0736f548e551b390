"""Lengths in steps, and what is refused."""

from __future__ import annotations

import math

import pytest

from resweep.optim.lengths import check_choice, check_whole, described, exact_steps, to_steps


@pytest.mark.parametrize(
    ("length", "unit", "steps"),
    [
        (0, "epochs", 0),
        (3, "epochs", 21),
        (0.5, "epochs", 4),
        (13, "steps", 13),
        (13.0, "steps", 13),
        (0.07, "fraction", 7),
        (0.29, "fraction", 29),
        (0.995, "fraction", 100),
        (0, "fraction", 0),
    ],
)
def test_to_steps(length: float, unit: str, steps: int) -> None:
    converted = to_steps(length, unit, total_steps=100, steps_per_epoch=7)
    assert converted == steps
    assert isinstance(converted, int)


@pytest.mark.parametrize(
    ("length", "unit", "pattern"),
    [
        (-1, "epochs", "length=-1: must be at least 0"),
        (-0.1, "fraction", "length=-0.1: must be at least 0"),
        (math.nan, "steps", "length=nan: must be at least 0"),
        (10, "epochs", r"length=10 epochs: must be shorter than the training \(100 steps, 10 epochs\)"),
        (100, "steps", r"length=100 steps: must be shorter than the training \(100 steps, 10 epochs\)"),
        (1.0, "fraction", r"length=1.0: must be shorter than the training \(100 steps, 10 epochs\)"),
        (1.5, "steps", "length=1.5: must be a whole number of steps"),
        (1, "epoch", "unit=epoch: must be one of epochs, steps, fraction; did you mean epochs"),
        ("x", "steps", "length=x: must be a number"),
        (True, "steps", "length=True: must be a number"),
        (math.inf, "steps", "length=inf: must be a number"),
        (1, "xyz", "unit=xyz: must be one of epochs, steps, fraction$"),
    ],
)
def test_to_steps_refuses(length: float, unit: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        to_steps(length, unit, total_steps=100, steps_per_epoch=10)


def test_to_steps_up_to_the_whole_training_and_beyond() -> None:
    lengths = {"total_steps": 100, "steps_per_epoch": 10}
    assert to_steps(1.0, "fraction", limit="whole", **lengths) == 100
    assert to_steps(30, "epochs", limit="none", **lengths) == 300
    with pytest.raises(
        ValueError, match=r"length=11 epochs: must not be longer than the training \(100 steps, 10 epochs"
    ):
        to_steps(11, "epochs", limit="whole", **lengths)


def test_to_steps_says_the_names_that_it_is_given() -> None:
    lengths = {"total_steps": 100, "steps_per_epoch": 10}
    with pytest.raises(ValueError, match=r"^decay_unit=step: "):
        to_steps(1, "step", name="decay", unit_name="decay_unit", **lengths)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"^decay=2.0: must be shorter than what the warm-up leaves of the training \(100"
    ):
        to_steps(2.0, "fraction", name="decay", warmup_steps=5, **lengths)


def test_exact_steps_are_whole_up_to_rounding_noise() -> None:
    lengths = {"total_steps": 100, "steps_per_epoch": 7}
    assert exact_steps(0.07, "fraction", **lengths) == 7  # 0.07 * 100 is 7.000000000000001
    assert exact_steps(0.333, "fraction", **lengths) == pytest.approx(33.3)
    assert exact_steps(0.5, "epochs", **lengths) == 3.5


def test_one_step_is_no_plural() -> None:
    assert described(1, 1) == "the training (1 step, 1 epoch)"
    assert described(3, 2) == "the training (3 steps, 1.5 epochs)"


def test_checks() -> None:
    check_choice("mode", "min", ("min", "max"))
    check_whole("patience", 3, 0)
    with pytest.raises(ValueError, match="patience=-1: must be at least 0"):
        check_whole("patience", -1, 0)

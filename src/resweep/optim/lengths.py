"""Lengths of time in optimizer steps, and the checks that the schedules share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from resweep.errors import nearest_name

UNITS = ("epochs", "steps", "fraction")
Unit = Literal["epochs", "steps", "fraction"]
Limit = Literal["shorter", "whole", "none"]
NOISE = 5e-7  # steps


def to_steps(length: float, unit: Unit, *, total_steps: int, steps_per_epoch: int, **words: Any) -> int:
    """Return a length of time as a whole number of optimizer steps.

    Rounded up to a whole step, so that "from half of three steps on" begins at step 2.

    Args:
        length, unit, total_steps, steps_per_epoch: as for :func:`exact_steps`.
        words: further arguments of :func:`exact_steps`.

    Returns:
        A whole number; in [0, total_steps] unless the limit is "none".

    Raises:
        ValueError: as :func:`exact_steps`.

    Example:
        >>> to_steps(5, "epochs", total_steps=1000, steps_per_epoch=100)
        500
        >>> to_steps(0.75, "fraction", total_steps=1000, steps_per_epoch=100)
        750
    """
    return math.ceil(exact_steps(length, unit, total_steps=total_steps, steps_per_epoch=steps_per_epoch, **words))


def exact_steps(
    length: float,
    unit: Unit,
    *,
    total_steps: int,
    steps_per_epoch: int,
    name: str = "length",
    unit_name: str = "unit",
    limit: Limit = "shorter",
    warmup_steps: int = 0,
) -> float:
    """Return a length of time in optimizer steps, which need not be whole: for what is repeated within a training.

    Less than half a millionth of a step counts as rounding noise.

    Args:
        length: at least 0 and within the limit; a whole number where the unit is "steps".
        unit: "epochs", "steps" or "fraction" (of total_steps).
        total_steps: optimizer steps of the whole training, or of what a warm-up leaves of it.
        steps_per_epoch: optimizer steps of one epoch.
        name: what the length is called in error messages.
        unit_name: what the unit is called in error messages.
        limit: "shorter" than total_steps, at most the "whole" of them, or "none".
        warmup_steps: steps before total_steps begin; for error messages.

    Raises:
        ValueError: if the unit is unknown, or the length is no number, negative, not a whole number of steps, or
            beyond the limit.
    """
    check_choice(unit_name, unit, UNITS)
    check_at_least("total_steps", total_steps, 1)
    check_at_least("steps_per_epoch", steps_per_epoch, 1)
    check_at_least(name, length, 0)
    if unit == "steps" and length != int(length):
        raise ValueError(f"{name}={length}: must be a whole number of steps")
    steps = length * {"epochs": steps_per_epoch, "steps": 1, "fraction": total_steps}[unit]
    if (limit == "shorter" and steps >= total_steps) or (limit == "whole" and steps > total_steps):
        allowed = "must be shorter than" if limit == "shorter" else "must not be longer than"
        given = f"{name}={length}" if unit == "fraction" else f"{name}={length} {unit}"
        raise ValueError(f"{given}: {allowed} {described(total_steps, steps_per_epoch, warmup_steps)}")
    return round(steps) if abs(steps - round(steps)) < NOISE else steps


def described(total_steps: int, steps_per_epoch: int, warmup_steps: int = 0) -> str:
    """Return a training, or what a warm-up leaves of it, in words with its length in steps and epochs."""
    what = "what the warm-up leaves of the training" if warmup_steps else "the training"
    epochs = total_steps / steps_per_epoch
    return f"{what} ({total_steps} step{'s'[: total_steps != 1]}, {epochs:g} epoch{'s'[: epochs != 1]})"


def check_number(name: str, value: object) -> None:
    """Check that a value is a number and finite.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or math.isinf(value):
        raise ValueError(f"{name}={value}: must be a number")


def check_at_least(name: str, value: float, low: float) -> None:
    """Check that a value is a number and not below a limit.

    Raises:
        ValueError: it is not.
    """
    check_number(name, value)
    if not value >= low:
        raise ValueError(f"{name}={value}: must be at least {low}")


def check_positive(name: str, value: float) -> None:
    """Check that a value is a number above 0.

    Raises:
        ValueError: it is not.
    """
    check_number(name, value)
    if not value > 0:
        raise ValueError(f"{name}={value}: must be above 0")


def check_unit_interval(name: str, value: float) -> None:
    """Check that a value is a number in [0, 1].

    Raises:
        ValueError: it is not.
    """
    check_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value}: must be in [0, 1]")


def check_whole(name: str, value: int, low: int) -> None:
    """Check that a value is a whole number and not below a limit.

    Raises:
        ValueError: it is not.
    """
    check_at_least(name, value, low)
    if value != int(value):
        raise ValueError(f"{name}={value}: must be a whole number")


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Check that a value is one of some names.

    Raises:
        ValueError: it is not; the message has the nearest one.
    """
    names = tuple(allowed)
    if value not in names:
        nearest = nearest_name(str(value), names)
        hint = "" if nearest is None else f"; did you mean {nearest}?"
        raise ValueError(f"{name}={value}: must be one of {', '.join(names)}{hint}")

"""What the settings of :class:`resweep.data.augment.Augment` may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from resweep.data.augment.policies import AUGMIX_LEVELS, AUTO_POLICIES, POLICIES, RAND_LEVELS
from resweep.errors import nearest_name


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _range(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) == 2
        and all(map(_number, value))
        and 0 < value[0] <= value[1]
    )


_STRENGTH = (lambda value: _number(value) and value >= 0, "a number of at least 0 is needed")
_PROBABILITY = (lambda value: _number(value) and 0 <= value <= 1, "a probability between 0 and 1 is needed")
_PIXELS = (lambda value: _whole(value) and value >= 0, "a whole number of pixels of at least 0 is needed")
_SQUARE = (
    lambda value: _number(value) and (value == 0 or 0 < value < 1 or (_whole(value) and value >= 1)),
    "0 for off, a whole number of pixels, or a share of the shorter side above 0 and below 1 is needed",
)
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "padding": _PIXELS,
    "flip": _PROBABILITY,
    "rotation": (lambda value: _number(value) and 0 <= value <= 180, "degrees between 0 and 180 are needed"),
    "translate": (lambda value: _number(value) and 0 <= value <= 1, "a share of the side between 0 and 1 is needed"),
    "scale": (lambda value: value is None or _range(value), "two factors above 0, the smaller first, or null"),
    "shear": (lambda value: _number(value) and 0 <= value < 90, "degrees of at least 0 and below 90 are needed"),
    "resized_crop": (
        lambda value: value is None or (_range(value) and value[1] <= 1),
        "two shares of the area above 0 and up to 1, the smaller first, or null",
    ),
    "brightness": _STRENGTH,
    "contrast": _STRENGTH,
    "saturation": _STRENGTH,
    "hue": (lambda value: _number(value) and 0 <= value <= 0.5, "a share of the circle between 0 and 0.5 is needed"),
    "grayscale": _PROBABILITY,
    "policy_ops": (lambda value: _whole(value) and value >= 1, "a whole number of at least 1 is needed"),
    "erasing": _PROBABILITY,
    "cutout": _SQUARE,
    "mixup": _STRENGTH,
    "cutmix": _STRENGTH,
    "mix_probability": _PROBABILITY,
}
_NAMES = {
    "padding_mode": ("zero", "reflect"),
    "flip_mode": ("random", "alternating"),
    "policy": (None, *POLICIES),
    "policy_name": AUTO_POLICIES,
}


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse wrong values and combinations, all at once.

    Raises:
        ValueError: each wrong setting with its value and what is allowed.
    """
    problems = [
        f"{name}={settings[name]}: {text}" for name, (allows, text) in RULES.items() if not allows(settings[name])
    ]
    problems += [_name_problem(name, settings[name], names) for name, names in _NAMES.items()]
    problems = [problem for problem in problems if problem] or list(_wrong_together(**settings))
    if problems:
        raise ValueError("; ".join(problems))


def _name_problem(name: str, value: Any, names: tuple[str | None, ...]) -> str:
    if value in names:
        return ""
    shown = ["null" if known is None else known for known in names]
    near = nearest_name(str(value), shown)
    return f"{name}={value}: one of {', '.join(shown)} is needed" + ("" if near is None else f"; did you mean {near}?")


def _wrong_together(
    padding: int, resized_crop: Any, flip: float, flip_mode: str, policy: str | None, policy_magnitude: Any, **_: Any
) -> list[str]:
    problems = []
    if padding and resized_crop:
        problems.append(f"padding={padding}: resized_crop already chooses the window; set one of them to 0 or null")
    if flip_mode == "alternating" and flip not in (0, 0.5):
        problems.append(f"flip={flip}: flip_mode=alternating mirrors every image half of the time; 0.5, or 0 for off")
    low, high = {"randaugment": (0, RAND_LEVELS - 1), "augmix": (1, AUGMIX_LEVELS)}.get(policy, (0, math.inf))
    if not (_whole(policy_magnitude) and low <= policy_magnitude <= high):
        text = f"a whole number of at least {low}" + ("" if high == math.inf else f" and at most {high}")
        problems.append(f"policy_magnitude={policy_magnitude}: {text} is needed")
    return problems

"""Learning-rate schedules, stepped once per optimizer step.

Every schedule is a function ``(optimizer, *, total_steps, steps_per_epoch, ...) -> LRScheduler``. Step t counts from 0;
the updates of a training use the learning rates of t = 0, ..., T - 1 with T = total_steps. Factors multiply the
learning rate that each parameter group had when the schedule was made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, OneCycleLR

from resweep.errors import nearest_name

UNITS = ("epochs", "steps", "fraction")
Unit = Literal["epochs", "steps", "fraction"]


def to_steps(length: float, unit: Unit, *, total_steps: int, steps_per_epoch: int, name: str = "length") -> int:
    """Return a length of time as a number of optimizer steps.

    Rounded up to a whole step (less than a millionth of a step counts as rounding noise), so that "from half of three
    steps on" begins at step 2.

    Args:
        length: at least 0 and shorter than the training; a whole number where the unit is "steps".
        unit: "epochs", "steps" or "fraction" (of total_steps).
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        name: what the length is called in error messages.

    Returns:
        A whole number in [0, total_steps].

    Raises:
        ValueError: if the unit is unknown, or the length is negative, not a whole number of steps, or not shorter
            than the training.

    Example:
        >>> to_steps(5, "epochs", total_steps=1000, steps_per_epoch=100)
        500
        >>> to_steps(0.75, "fraction", total_steps=1000, steps_per_epoch=100)
        750
    """
    if unit not in UNITS:
        nearest = nearest_name(str(unit), UNITS)
        hint = "" if nearest is None else f"; did you mean {nearest}?"
        raise ValueError(f"unit={unit}: must be one of {', '.join(UNITS)}{hint}")
    _check_at_least("total_steps", total_steps, 1)
    _check_at_least("steps_per_epoch", steps_per_epoch, 1)
    _check_at_least(name, length, 0)
    if unit == "steps" and length != int(length):
        raise ValueError(f"{name}={length}: must be a whole number of steps")
    steps = length * {"epochs": steps_per_epoch, "steps": 1, "fraction": total_steps}[unit]
    if steps >= total_steps:
        raise ValueError(_too_long(name, length, unit, total_steps, steps_per_epoch))
    return math.ceil(round(steps, 6))


def constant(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> LRScheduler:
    """Return the schedule that leaves the learning rate as it is.

    Args:
        optimizer: the optimizer.
        total_steps: optimizer steps of the whole training; not used.
        steps_per_epoch: optimizer steps of one epoch; not used.
    """
    return LambdaLR(optimizer, lambda step: 1.0)


def multistep(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    milestones: Sequence[float] = (0.5, 0.75),
    gamma: float = 0.1,
    unit: Unit = "fraction",
) -> LRScheduler:
    """Return a step decay: factor ``gamma ** k`` where k is the number of milestones at or before step t.

    Args:
        optimizer: the optimizer.
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        milestones: when to decay, each before the end of training; none leaves the learning rate as it is.
        gamma: factor of one decay, above 0.
        unit: unit of the milestones: "epochs", "steps" or "fraction" (of total_steps).

    Raises:
        ValueError: if gamma is not above 0 or a milestone is not in the training (see :func:`to_steps`).

    Source: torch.optim.lr_scheduler.MultiStepLR; defaults of He et al. 2015 (arXiv 1512.03385, section 4.2), who divide
    by 10 at 32k and 48k of 64k iterations.
    """
    if not gamma > 0:
        raise ValueError(f"gamma={gamma}: must be above 0")
    steps = [
        to_steps(milestone, unit, total_steps=total_steps, steps_per_epoch=steps_per_epoch, name="milestones")
        for milestone in milestones
    ]
    return MultiStepLR(optimizer, steps, gamma=gamma)


def cosine(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, min_factor: float = 0.0) -> LRScheduler:
    """Return half a cosine from factor 1 at t = 0 to min_factor at t = T.

    Factor ``m + (1 - m) * (1 + cos(pi * t / T)) / 2`` with m = min_factor. Unlike torch's CosineAnnealingLR the lower
    end is a factor and not a learning rate, so that it follows a swept learning rate.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch; not used.
        min_factor: factor at the end, in [0, 1].

    Raises:
        ValueError: if min_factor is outside [0, 1] or total_steps below 1.

    Source: Loshchilov & Hutter 2016 (arXiv 1608.03983), equation 5, without restarts; checked against torch's
    CosineAnnealingLR.
    """
    return warmup_cosine(
        optimizer,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        warmup=0,
        unit="steps",
        min_factor=min_factor,
    )


def warmup_cosine(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 5,
    unit: Unit = "epochs",
    start_factor: float = 0.01,
    min_factor: float = 0.0,
) -> LRScheduler:
    """Return a linear warm-up over W steps, followed by half a cosine over the other T - W steps.

    Factor ``s + (1 - s) * t / W`` for t < W and ``m + (1 - m) * (1 + cos(pi * (t - W) / (T - W))) / 2`` from t = W on,
    with s = start_factor and m = min_factor.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        warmup: length of the warm-up, shorter than the training; 0 turns it off.
        unit: unit of the warm-up: "epochs", "steps" or "fraction" (of total_steps).
        start_factor: factor at t = 0, in [0, 1]; with 0 the first update changes nothing.
        min_factor: factor at t = T, in [0, 1].

    Raises:
        ValueError: if a factor is outside [0, 1] or the warm-up is not shorter than the training.

    Source: linear warm-up of Goyal et al. 2017 (arXiv 1706.02677, section 2.2); cosine as in :func:`cosine`.
    """
    _check_unit_interval("start_factor", start_factor)
    _check_unit_interval("min_factor", min_factor)
    warmup_steps = to_steps(warmup, unit, total_steps=total_steps, steps_per_epoch=steps_per_epoch, name="warmup")
    if warmup_steps >= total_steps:
        raise ValueError(_too_long("warmup", warmup, unit, total_steps, steps_per_epoch))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return start_factor + (1 - start_factor) * step / warmup_steps
        progress = (step - warmup_steps) / (total_steps - warmup_steps)
        return min_factor + (1 - min_factor) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def onecycle(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    cycle_momentum: bool = True,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> LRScheduler:
    """Return torch's one-cycle policy; the peak is the optimizer's learning rate.

    Cosine rise from ``lr / div_factor`` at t = 0 to lr at t = pct_start * T - 1, cosine fall to
    ``lr / (div_factor * final_div_factor)`` at t = T - 1. Momentum (Adam: beta1) moves the other way, from max_momentum
    to base_momentum and back, and takes the place of the optimizer's own value. Unlike torch, an optimizer whose
    momentum is 0 stays without momentum, so that plain SGD remains plain SGD.

    Args:
        optimizer: the optimizer; its learning rate is the peak.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch; not used.
        pct_start: fraction of the training that the rise takes, in (0, 1) and more than one step.
        div_factor: peak divided by the first learning rate, above 0.
        final_div_factor: first learning rate divided by the last one, above 0.
        cycle_momentum: whether to move the momentum of an optimizer that has one.
        base_momentum: momentum at the peak, in [0, 1).
        max_momentum: momentum at the beginning and the end, in [0, 1).

    Raises:
        ValueError: if an argument is outside its range.

    Source: Smith & Topin 2017 (arXiv 1708.07120); torch.optim.lr_scheduler.OneCycleLR and its defaults.
    """
    _check_at_least("total_steps", total_steps, 1)
    if not (0 < pct_start < 1 and pct_start * total_steps > 1):
        raise ValueError(
            f"pct_start={pct_start}: must be in (0, 1) and more than one step of {total_steps}; "
            f"here the rise takes {pct_start * total_steps:g} steps"
        )
    for name, value in {"div_factor": div_factor, "final_div_factor": final_div_factor}.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: must be above 0")
    for name, value in {"base_momentum": base_momentum, "max_momentum": max_momentum}.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value}: must be in [0, 1)")
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        cycle_momentum=cycle_momentum and _has_momentum(optimizer),
        base_momentum=base_momentum,
        max_momentum=max_momentum,
    )


def _has_momentum(optimizer: Optimizer) -> bool:
    """Whether a group of the optimizer has a momentum, or beta1, other than 0."""
    groups = optimizer.param_groups
    return any((group["betas"][0] if "betas" in group else group.get("momentum", 0)) != 0 for group in groups)


def _too_long(name: str, length: float, unit: str, total_steps: int, steps_per_epoch: int) -> str:
    """Message for a length that does not fit into the training."""
    given = {"epochs": f"{name}={length} epochs", "steps": f"{name}={length} steps"}.get(unit, f"{name}={length}")
    whole = f"{total_steps} steps, {total_steps / steps_per_epoch:g} epochs"
    return f"{given}: must be shorter than the training ({whole})"


def _check_at_least(name: str, value: float, low: float) -> None:
    """ValueError for a number below a limit, and for one that is no number."""
    if not value >= low:
        raise ValueError(f"{name}={value}: must be at least {low}")


def _check_unit_interval(name: str, value: float) -> None:
    """ValueError for a number outside [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value}: must be in [0, 1]")

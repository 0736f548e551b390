"""Schedules that lower the learning rate over the training: constant, step, multistep, exponential, ..., wsd."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from resweep.optim.lengths import NOISE, Unit, check_choice, check_positive, check_unit_interval, to_steps
from resweep.optim.warmup import make_warmup

# Share of a wsd decay that is done -> share of the learning rate that is left.
SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1 - done,
    "sqrt": lambda done: 1 - math.sqrt(done),
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


def constant(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return the schedule that leaves the learning rate as it is: factor 1.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Raises:
        ValueError: if the warm-up is not possible.
    """
    warm = make_warmup(total_steps, steps_per_epoch, warmup, warmup_unit, warmup_start)
    return warm.then(optimizer, lambda step: 1.0)


def step(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    step_size: float = 0.333333333333,
    unit: Unit = "fraction",
    gamma: float = 0.1,
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return a decay at regular intervals: factor ``gamma ** floor(t / S)``, t counted from the end of the warm-up.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        step_size: S, above 0 and shorter than what the warm-up leaves of the training.
        unit: unit of step_size: "epochs", "steps" or "fraction" (of the steps after the warm-up).
        gamma: factor of one decay, above 0.
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Raises:
        ValueError: if gamma or step_size is not above 0, or a length does not fit into the training.

    Source: torchvision's classification reference (``references/classification/train.py``), which divides by 10 every
    30 of 90 epochs, counted from the end of the warm-up; checked against torch.optim.lr_scheduler.StepLR.
    """
    check_positive("gamma", gamma)
    check_positive("step_size", step_size)
    warm = make_warmup(total_steps, steps_per_epoch, warmup, warmup_unit, warmup_start)
    size = warm.length(step_size, unit, "step_size")
    return warm.then(optimizer, lambda t: gamma ** ((t + NOISE) // size))


def multistep(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    milestones: Sequence[float] = (0.5, 0.75),
    gamma: float = 0.1,
    unit: Unit = "fraction",
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return a step decay: factor ``gamma ** k`` where k is the number of milestones at or before step t.

    Milestones are points in time: they count from the beginning of the training, warm-up included, as Goyal et al. 2017
    (arXiv 1706.02677, section 5.1) count theirs.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        milestones: when to decay, each after the warm-up and before the end of training; none leaves the learning
            rate as it is.
        gamma: factor of one decay, above 0.
        unit: unit of the milestones: "epochs", "steps" or "fraction" (of total_steps).
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Raises:
        ValueError: if gamma is not above 0, or a milestone is not in the training (see
            :func:`resweep.optim.lengths.to_steps`) or within the warm-up.

    Source: torch.optim.lr_scheduler.MultiStepLR; defaults of He et al. 2015 (arXiv 1512.03385, section 4.2), who divide
    by 10 at 32k and 48k of 64k iterations.
    """
    check_positive("gamma", gamma)
    steps = [
        to_steps(milestone, unit, total_steps=total_steps, steps_per_epoch=steps_per_epoch, name="milestones")
        for milestone in milestones
    ]
    warm = make_warmup(total_steps, steps_per_epoch, warmup, warmup_unit, warmup_start)
    if warm.steps == 0:
        return MultiStepLR(optimizer, steps, gamma=gamma)
    for milestone, at in zip(milestones, steps, strict=True):
        if at <= warm.steps:
            raise ValueError(f"milestones={milestone}: must be after the warm-up, which takes {warm.steps} steps")
    return warm.then(optimizer, lambda t: gamma ** sum(at <= t + warm.steps for at in steps))


def exponential(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    period: float = 1.0,
    unit: Unit = "fraction",
    gamma: float = 0.0118,
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return an exponential decay, smooth from step to step: factor ``gamma ** (t / P)``.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        period: P, above 0, of any length; t counts from the end of the warm-up.
        unit: unit of the period: "epochs", "steps" or "fraction" (of the steps after the warm-up).
        gamma: factor of one period, above 0.
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Raises:
        ValueError: if gamma or the period is not above 0, or the warm-up is not possible.

    Source: torch.optim.lr_scheduler.ExponentialLR has P = 1; the default is the whole decay of Tan & Le 2019 (arXiv
    1905.11946, section 5.2): by 0.97 every 2.4 of 350 epochs, ``0.97 ** (350 / 2.4) = 0.0118``.
    """
    check_positive("gamma", gamma)
    check_positive("period", period)
    warm = make_warmup(total_steps, steps_per_epoch, warmup, warmup_unit, warmup_start)
    steps = warm.length(period, unit, "period", limit="none")
    return warm.then(optimizer, lambda t: gamma ** (t / steps))


def polynomial(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    power: float = 2.0,
    min_factor: float = 0.0,
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return a polynomial decay from 1 to m: factor ``m + (1 - m) * (1 - t / R) ** power``.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        power: exponent, above 0; 1 is a straight line.
        min_factor: m, factor after R steps, in [0, 1]; R are the steps after the warm-up.
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Raises:
        ValueError: if an argument is outside its range or the warm-up is not possible.

    Source: torch.optim.lr_scheduler.PolynomialLR; power 2 as You et al. 2017 (arXiv 1708.03888) for image classifiers
    (0.9 is usual for segmentation: Chen et al. 2016, arXiv 1606.00915).
    """
    check_positive("power", power)
    check_unit_interval("min_factor", min_factor)
    warm = make_warmup(total_steps, steps_per_epoch, warmup, warmup_unit, warmup_start)
    return warm.then(optimizer, lambda t: min_factor + (1 - min_factor) * (1 - min(t, warm.rest) / warm.rest) ** power)


def linear(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    min_factor: float = 0.0,
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return a straight line from 1 to m: factor ``1 - (1 - m) * t / R``.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        min_factor: m, factor after R steps, in [0, 1]; R are the steps after the warm-up.
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Raises:
        ValueError: if min_factor is outside [0, 1] or the warm-up is not possible.

    Source: Li et al. 2020 (arXiv 1905.04753); checked against torch.optim.lr_scheduler.LinearLR.
    """
    return polynomial(
        optimizer,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        power=1.0,
        min_factor=min_factor,
        warmup=warmup,
        warmup_unit=warmup_unit,
        warmup_start=warmup_start,
    )


def wsd(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    decay: float = 0.2,
    unit: Unit = "fraction",
    shape: Literal["linear", "sqrt", "cosine"] = "sqrt",
    min_factor: float = 0.0,
    warmup: float = 0.05,
    warmup_unit: Unit = "fraction",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return warm-up, stable, decay: the full learning rate until a last part of D steps, in which it falls to m.

    Factor ``m + (1 - m) * f((t - (R - D)) / D)`` in the last D of the R steps after the warm-up, with f(x) = 1 - x
    (linear), 1 - sqrt(x) (sqrt) or (1 + cos(pi * x)) / 2 (cosine).

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        decay: D, at most R; 0 turns it off.
        unit: unit of decay: "epochs", "steps" or "fraction" (of the R steps after the warm-up).
        shape: f: "linear", "sqrt" or "cosine".
        min_factor: m, factor at the end, in [0, 1].
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Raises:
        ValueError: if an argument is outside its range or a length does not fit into the training.

    Source: Hu et al. 2024 (arXiv 2404.06395) for the name; 1 - sqrt over the last 20 % as Hägele et al. 2024
    (arXiv 2405.18392); with a linear decay the trapezoidal schedule of Xing et al. 2018 (arXiv 1802.08770).
    """
    check_choice("shape", shape, SHAPES)
    check_unit_interval("min_factor", min_factor)
    warm = make_warmup(total_steps, steps_per_epoch, warmup, warmup_unit, warmup_start)
    length = warm.length(decay, unit, "decay", limit="whole")
    stable, left = warm.rest - length, SHAPES[shape]

    def factor(t: int) -> float:
        fallen = min(t, warm.rest) - stable
        return 1.0 if fallen <= 0 else min_factor + (1 - min_factor) * left(fallen / length)

    return warm.then(optimizer, factor)

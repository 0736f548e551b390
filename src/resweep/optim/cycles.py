"""Schedules that begin with a rise of their own: one cycle (one-cycle policy) or many (cyclical learning rates)."""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from resweep.optim.lengths import Unit, check_at_least, check_choice, check_positive, check_unit_interval, exact_steps
from resweep.optim.warmup import refuse_warmup

MODES = ("triangular", "triangular2", "exp_range")


def triangular(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    step_size: float = 0.125,
    unit: Unit = "fraction",
    min_factor: float = 0.25,
    gamma: float = 0.99994,
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return cyclical learning rates; the peak is the optimizer's learning rate.

    Factor ``m + (1 - m) * a * (1 - |t / S - 2 * c - 1|)`` in cycle c = floor(t / 2S), with the amplitude a = 1
    (triangular), ``2 ** -c`` (triangular2) or ``gamma ** t`` (exp_range).

    Args:
        optimizer: the optimizer; its learning rate is the peak of the first cycle.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        mode: "triangular", "triangular2" or "exp_range".
        step_size: S, half a cycle, above 0 and shorter than the training.
        unit: unit of step_size: "epochs", "steps" or "fraction" (of total_steps).
        min_factor: m, factor at the beginning and the end of a cycle, in [0, 1].
        gamma: factor of the amplitude per step in mode exp_range, in (0, 1].
        warmup: must be 0: a cycle begins with a rise.
        warmup_unit: not used.
        warmup_start: not used.

    Raises:
        ValueError: if an argument is outside its range or the cycle does not fit into the training.

    Source: Smith 2017 (arXiv 1506.01186), section 3: a lower end of 1/4 of the peak (3.3), four cycles and the end of
    training at the end of one (3.2); checked against torch.optim.lr_scheduler.CyclicLR.
    """
    refuse_warmup(warmup, "triangular", "its length is scheduler.step_size")
    check_choice("mode", mode, MODES)
    check_positive("step_size", step_size)
    check_unit_interval("min_factor", min_factor)
    check_positive("gamma", gamma)
    check_unit_interval("gamma", gamma)
    half = exact_steps(step_size, unit, total_steps=total_steps, steps_per_epoch=steps_per_epoch, name="step_size")

    def factor(t: int) -> float:
        cycle = t // (2 * half)
        amplitude = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**t}[mode]
        return min_factor + (1 - min_factor) * amplitude * max(0.0, 1 - abs(t / half - 2 * cycle - 1))

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
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
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
        cycle_momentum: whether to move the momentum; needs an optimizer that has momentum or betas.
        base_momentum: momentum at the peak, in [0, 1).
        max_momentum: momentum at the beginning and the end, in [0, 1).
        warmup: must be 0: the cycle begins with a rise.
        warmup_unit: not used.
        warmup_start: not used.

    Raises:
        ValueError: if an argument is outside its range, or the momentum is to be moved and the optimizer has none.

    Source: Smith & Topin 2017 (arXiv 1708.07120); torch.optim.lr_scheduler.OneCycleLR and its defaults.
    """
    refuse_warmup(warmup, "onecycle", "its length is scheduler.pct_start")
    check_at_least("total_steps", total_steps, 1)
    if not 0 < pct_start < 1:
        raise ValueError(f"pct_start={pct_start}: must be in (0, 1)")
    if not pct_start * total_steps > 1:
        raise ValueError(
            f"pct_start={pct_start}: must be in (0, 1) and more than one step; here the rise takes "
            f"{pct_start * total_steps:g} steps; the training has {total_steps} step{'s' * (total_steps > 1)}: raise "
            "trainer.max_epochs, lower data.batch_size, or choose another scheduler (scheduler=cosine)"
        )
    check_positive("div_factor", div_factor)
    check_positive("final_div_factor", final_div_factor)
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
        cycle_momentum=cycle_momentum and _momentum_is_on(optimizer),
        base_momentum=base_momentum,
        max_momentum=max_momentum,
    )


def _momentum_is_on(optimizer: Optimizer) -> bool:
    """Whether a group has a momentum, or beta1, other than 0; ValueError where torch could not move it."""
    key = "betas" if "betas" in optimizer.defaults else "momentum"
    groups = optimizer.param_groups
    if key not in optimizer.defaults or not all(key in group for group in groups):
        raise ValueError(
            f"cycle_momentum=true: {type(optimizer).__name__} has neither momentum nor betas in every parameter group; "
            "set scheduler.cycle_momentum=false"
        )
    return any((group["betas"][0] if key == "betas" else group["momentum"]) != 0 for group in groups)

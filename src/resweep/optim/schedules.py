"""Learning-rate schedules, and how a schedule of any origin is made and stepped.

Every schedule here is a function ``(optimizer, *, total_steps, steps_per_epoch, ...) -> LRScheduler``, stepped once per
optimizer step (:func:`plateau`: see there). Step t counts from 0; the updates of a training use the learning rates of
t = 0, ..., T - 1 with T = total_steps. Factors multiply the learning rate that each parameter group had when the
schedule was made. With a warm-up of W steps the factor rises linearly to 1 at t = W, and t counts from there in the
formulas below, over the R = T - W steps that are left.

| name          | factor                                             | source (arXiv id)                     |
|---------------|----------------------------------------------------|---------------------------------------|
| constant      | 1                                                  |                                       |
| step          | gamma ** floor(t / S)                              | torchvision's reference               |
| multistep     | gamma ** (milestones passed)                       | He et al. 2015 (1512.03385)           |
| exponential   | gamma ** (t / P)                                   | Tan & Le 2019 (1905.11946)            |
| polynomial    | (1 - t / R) ** power                               | You et al. 2017 (1708.03888)          |
| linear        | 1 - t / R                                          | Li et al. 2020 (1905.04753)           |
| cosine        | (1 + cos(pi * t / R)) / 2                          | Loshchilov & Hutter 2016 (1608.03983) |
| warmup_cosine | the same, by default behind five epochs of warm-up | Goyal et al. 2017 (1706.02677)        |
| sgdr          | cosine, again and again                            | Loshchilov & Hutter 2016 (1608.03983) |
| onecycle      | a cosine up, a cosine down                         | Smith & Topin 2017 (1708.07120)       |
| triangular    | straight up and down, again and again              | Smith 2017 (1506.01186)               |
| wsd           | 1, then down in the last D steps                   | Hu et al. 2024 (2404.06395)           |
| plateau       | times factor whenever a metric stands still        | He et al. 2015 (1512.03385)           |
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from pytorch_lightning.utilities.types import LRSchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from resweep.config import best_direction
from resweep.optim.cosines import cosine as cosine
from resweep.optim.cosines import sgdr as sgdr
from resweep.optim.cosines import warmup_cosine as warmup_cosine
from resweep.optim.cycles import onecycle as onecycle
from resweep.optim.cycles import triangular as triangular
from resweep.optim.decays import constant as constant
from resweep.optim.decays import exponential as exponential
from resweep.optim.decays import linear as linear
from resweep.optim.decays import multistep as multistep
from resweep.optim.decays import polynomial as polynomial
from resweep.optim.decays import step as step
from resweep.optim.decays import wsd as wsd
from resweep.optim.lengths import UNITS as UNITS
from resweep.optim.lengths import Unit as Unit
from resweep.optim.lengths import check_choice
from resweep.optim.lengths import to_steps as to_steps
from resweep.optim.plateau import plateau as plateau

INTERVALS = ("step", "epoch")
Interval = Literal["step", "epoch"]
Made = LRScheduler | list[LRScheduler]


def make_scheduler(
    factory: Callable[..., Made],
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    interval: Interval = "step",
) -> Made:
    """Make a schedule, one of this package, of torch's or of the user's own.

    The lengths are passed as keywords to factories whose signature takes them, unless they are bound already.

    Args:
        factory: takes the optimizer; a class, a function or a partial of one.
        optimizer: the optimizer.
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        interval: what one step of the schedule is going to be.

    Returns:
        What the factory returns: a schedule, or a list of them.

    Raises:
        ValueError: if the interval is unknown, or is "epoch" for a factory that is told its length in optimizer steps;
            if the factory returns something else than torch's schedules; and whatever the factory refuses.
    """
    check_choice("interval", interval, INTERVALS)
    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    lengths = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    bound = getattr(factory, "keywords", {})
    passed = {name: value for name, value in lengths.items() if (takes_any or name in parameters) and name not in bound}
    if interval == "epoch" and "total_steps" in passed:
        raise ValueError(f"interval=epoch: {_name(factory)} counts optimizer steps; set scheduler.interval=step")
    made = factory(optimizer, **passed)
    each = made if isinstance(made, list) else [made]
    if not each or not all(isinstance(scheduler, LRScheduler) for scheduler in each):
        raise ValueError(f"{_name(factory)} returned {made!r}: must be an LRScheduler of torch, or a list of them")
    return made


def scheduler_configs(made: Made, interval: Interval, monitor: str) -> list[dict[str, Any]]:
    """Return schedules as Lightning's ``configure_optimizers`` wants them.

    Lightning keeps the state of reductions on a plateau in its checkpoints, but must not step them: it would do that
    after the checkpoint of an epoch has been written, and a run resumed from there would never make the step.
    :func:`step_plateaus` does it.

    Args:
        made: what :func:`make_scheduler` returned.
        interval: when a schedule is stepped that is no reduction on a plateau.
        monitor: metric for reductions on a plateau.

    Returns:
        One dictionary per schedule.

    Raises:
        ValueError: if the interval is unknown, or a reduction on a plateau takes the worse values of its metric for
            the better ones.
    """
    check_choice("interval", interval, INTERVALS)
    for scheduler in made if isinstance(made, list) else [made]:
        if isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode != best_direction(monitor):
            better = best_direction(monitor)
            raise ValueError(f"mode={scheduler.mode}: {monitor} is better the other way; set scheduler.mode={better}")
    return [
        {"scheduler": scheduler, "interval": "epoch", "frequency": sys.maxsize, "monitor": monitor}
        if isinstance(scheduler, ReduceLROnPlateau)
        else {"scheduler": scheduler, "interval": interval}
        for scheduler in (made if isinstance(made, list) else [made])
    ]


def step_plateaus(configs: Iterable[LRSchedulerConfig], scores: Mapping[str, Any]) -> None:
    """Step every reduction on a plateau with its metric; to be called once at the end of each validation.

    Args:
        configs: ``trainer.lr_scheduler_configs``, made from those of :func:`scheduler_configs`.
        scores: validation metrics by name.

    Raises:
        ValueError: if the validation has no metric of that name.
    """
    for config in configs:
        if isinstance(config.scheduler, ReduceLROnPlateau):
            if config.monitor not in scores:
                raise ValueError(f"scheduler.monitor={config.monitor}: the validation has only {', '.join(scores)}")
            config.scheduler.step(float(scores[config.monitor]))


def _name(factory: Callable[..., Any]) -> str:
    """Name of a factory, of the one inside for a partial."""
    target = getattr(factory, "func", factory)
    return getattr(target, "__name__", repr(target))

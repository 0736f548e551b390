"""Lower the learning rate when a validation metric no longer gets better."""

from __future__ import annotations

import math
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from resweep.config import best_direction
from resweep.optim.lengths import (
    Unit,
    check_at_least,
    check_choice,
    check_positive,
    check_unit_interval,
    check_whole,
)
from resweep.optim.warmup import WarmupLR, make_warmup


def plateau(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    monitor: str = "val/loss",
    mode: Literal["min", "max"] | None = None,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    min_factor: float = 0.0,
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> ReduceLROnPlateau | list[LRScheduler]:
    """Return torch's reduction on a plateau: times ``factor`` after more than ``patience`` epochs without progress.

    Progress is a value better than the best one so far by more than the share ``threshold`` of it; epochs are counted
    in a row. Epochs in which the warm-up has not ended are not counted.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        monitor: name of a validation metric: it begins with ``val/``.
        mode: "min" or "max", what is better; None: "min" for a loss, "max" for everything else.
        factor: factor of one reduction, in (0, 1).
        patience: epochs without progress that are borne, at least 0.
        threshold: least progress, as a share of the best value; at least 0.
        min_factor: share of the first learning rate at which the reductions end, in [0, 1].
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Returns:
        A schedule to be stepped once per epoch with the metric; behind a warm-up a list of two: the warm-up, stepped
        once per optimizer step, and that schedule.

    Raises:
        ValueError: if the metric is not one of the validation, an argument is outside its range or the warm-up is not
            possible.

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau and its defaults; division by 10 on a plateau as He et al. 2015
    (arXiv 1512.03385, section 3.4).
    """
    _check_monitor(monitor)
    if mode is not None:
        check_choice("mode", mode, ("min", "max"))
    check_positive("factor", factor)
    if factor >= 1:
        raise ValueError(f"factor={factor}: must be below 1")
    check_whole("patience", patience, 0)
    check_at_least("threshold", threshold, 0)
    check_unit_interval("min_factor", min_factor)
    warm = make_warmup(total_steps, steps_per_epoch, warmup, warmup_unit, warmup_start)
    reduction = ReduceLROnPlateau(
        optimizer,
        mode=mode or best_direction(monitor),  # type: ignore[arg-type]
        factor=factor,
        patience=patience,
        threshold=threshold,
        min_lr=[group["lr"] * min_factor for group in optimizer.param_groups],
        eps=0.0,  # an absolute limit would stop small learning rates
    )
    if warm.steps == 0:
        return reduction
    reduction.cooldown_counter = math.ceil(warm.steps / steps_per_epoch)
    return [WarmupLR(optimizer, warm), reduction]


def _check_monitor(monitor: str) -> None:
    """ValueError for a metric that is not measured on the validation split."""
    if not (isinstance(monitor, str) and monitor.startswith("val/")):
        split, _, metric = str(monitor).partition("/")
        hint = f"; did you mean val/{metric}?" if split in ("train", "test") and metric else ""
        raise ValueError(f"monitor={monitor}: must be a validation metric, such as val/loss or val/accuracy{hint}")

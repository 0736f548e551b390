"""Schedules made of half cosines: one, one behind a warm-up, one after the other (SGDR)."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from resweep.optim.lengths import NOISE, Unit, check_positive, check_unit_interval, check_whole
from resweep.optim.warmup import make_warmup


def cosine(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    min_factor: float = 0.0,
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return half a cosine from factor 1 to min_factor over the R steps after the warm-up.

    Factor ``m + (1 - m) * (1 + cos(pi * t / R)) / 2`` with m = min_factor. Unlike torch's CosineAnnealingLR the lower
    end is a factor and not a learning rate, so that it follows a swept learning rate.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        min_factor: factor at the end, in [0, 1].
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Raises:
        ValueError: if min_factor is outside [0, 1] or the warm-up is not possible.

    Source: Loshchilov & Hutter 2016 (arXiv 1608.03983), equation 5, without restarts; checked against torch's
    CosineAnnealingLR.
    """
    check_unit_interval("min_factor", min_factor)
    warm = make_warmup(total_steps, steps_per_epoch, warmup, warmup_unit, warmup_start)
    return warm.then(optimizer, lambda t: _half_cosine(t / warm.rest, min_factor))


def warmup_cosine(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 5,
    warmup_unit: Unit | None = None,
    warmup_start: float | None = None,
    min_factor: float = 0.0,
    unit: Unit | None = None,
    start_factor: float | None = None,
) -> LRScheduler:
    """Return :func:`cosine` behind a warm-up of five epochs.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        warmup: see :func:`resweep.optim.warmup.make_warmup`.
        warmup_unit: the same; None means "epochs".
        warmup_start: the same; None means 0.01.
        min_factor: factor at the end, in [0, 1].
        unit: earlier name of warmup_unit.
        start_factor: earlier name of warmup_start.

    Raises:
        ValueError: if a factor is outside [0, 1], the warm-up is not shorter than the training, or a setting is given
            by both of its names.

    Source: warm-up of Goyal et al. 2017 (arXiv 1706.02677, section 2.2); cosine as in :func:`cosine`.
    """
    for name, value, earlier, old in (
        ("warmup_unit", warmup_unit, "unit", unit),
        ("warmup_start", warmup_start, "start_factor", start_factor),
    ):
        if value is not None and old is not None:
            raise ValueError(f"{earlier}={old}: is the earlier name of {name}, which is given as {value}; give one")
    if start_factor is not None:
        check_unit_interval("start_factor", start_factor)
        warmup_start = start_factor
    return cosine(
        optimizer,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        min_factor=min_factor,
        warmup=warmup,
        warmup_unit=warmup_unit or unit or "epochs",
        warmup_start=0.01 if warmup_start is None else warmup_start,
    )


def sgdr(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    T_0: float = 0.066666666667,
    T_mult: int = 2,
    unit: Unit = "fraction",
    min_factor: float = 0.0,
    warmup: float = 0,
    warmup_unit: Unit = "epochs",
    warmup_start: float = 0.01,
) -> LRScheduler:
    """Return half cosines from 1 to m one after the other, each T_mult times as long as the one before.

    The learning rate is best at the end of a half cosine; the training ends with one if
    ``T_0 * (1 + T_mult + T_mult ** 2 + ...)`` adds up to it.

    Args:
        optimizer: the optimizer.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        T_0: length of the first half cosine, above 0 and at most what the warm-up leaves of the training.
        T_mult: whole number, at least 1.
        unit: unit of T_0: "epochs", "steps" or "fraction" (of the steps after the warm-up).
        min_factor: m, factor at the end of each half cosine, in [0, 1].
        warmup, warmup_unit, warmup_start: see :func:`resweep.optim.warmup.make_warmup`.

    Raises:
        ValueError: if an argument is outside its range or a length does not fit into the training.

    Source: Loshchilov & Hutter 2016 (arXiv 1608.03983), section 3; checked against torch's
    CosineAnnealingWarmRestarts. Default: their T_0 = 10, T_mult = 2, of which the fourth half cosine ends at 150.
    """
    check_positive("T_0", T_0)
    check_whole("T_mult", T_mult, 1)
    check_unit_interval("min_factor", min_factor)
    warm = make_warmup(total_steps, steps_per_epoch, warmup, warmup_unit, warmup_start)
    first = warm.length(T_0, unit, "T_0", limit="whole")

    def factor(t: int) -> float:
        if T_mult == 1:
            return _half_cosine(t / first - (t + NOISE) // first, min_factor)
        begin, period = 0.0, first
        while t + NOISE >= begin + period:
            begin, period = begin + period, period * T_mult
        return _half_cosine((t - begin) / period, min_factor)

    return warm.then(optimizer, factor)


def _half_cosine(done: float, low: float) -> float:
    """From 1 where nothing is done to ``low`` where all of it is."""
    return low + (1 - low) * (1 + math.cos(math.pi * done)) / 2

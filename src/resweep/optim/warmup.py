"""Linear warm-up, the same for every schedule.

The learning rate rises from a share of the full one to the full one over W steps; then the schedule begins, as in a
training of T - W steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from resweep.optim.lengths import Limit, Unit, check_unit_interval, described, exact_steps, to_steps

Factor = Callable[[int], float]


@dataclass(frozen=True)
class Warmup:
    """A training's first W steps with a rising learning rate, and the T - W steps that they leave.

    Args:
        steps: W, shorter than the training; 0 for none.
        start: factor at t = 0.
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
    """

    steps: int
    start: float
    total_steps: int
    steps_per_epoch: int

    @property
    def rest(self) -> int:
        """Steps after the warm-up, T - W."""
        return self.total_steps - self.steps

    def factor(self, step: int) -> float:
        """Return the factor at step t <= W: ``s + (1 - s) * t / W``, exactly 1 at t = W."""
        return 1.0 if step >= self.steps else self.start + (1 - self.start) * step / self.steps

    def length(self, length: float, unit: Unit, name: str, *, limit: Limit = "shorter") -> float:
        """Return a length within the steps after the warm-up (see :func:`resweep.optim.lengths.exact_steps`).

        Raises:
            ValueError: the length is not allowed.
        """
        return exact_steps(
            length,
            unit,
            total_steps=self.rest,
            steps_per_epoch=self.steps_per_epoch,
            name=name,
            limit=limit,
            warmup_steps=self.steps,
        )

    def then(self, optimizer: Optimizer, factor: Factor) -> LambdaLR:
        """Return the schedule that warms up and then follows a factor, whose steps count from the warm-up's end."""
        return LambdaLR(optimizer, lambda t: self.factor(t) if t < self.steps else factor(t - self.steps))


def make_warmup(
    total_steps: int,
    steps_per_epoch: int,
    warmup: float,
    warmup_unit: Unit,
    warmup_start: float,
) -> Warmup:
    """Return the warm-up that a config describes.

    Args:
        total_steps: T, optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        warmup: length of the warm-up, shorter than the training; 0 for none.
        warmup_unit: its unit: "epochs", "steps" or "fraction" (of total_steps).
        warmup_start: factor at t = 0, in [0, 1]; with 0 the first update changes nothing.

    Raises:
        ValueError: if warmup_start is outside [0, 1] or the warm-up is not shorter than the training.

    Source: Goyal et al. 2017 (arXiv 1706.02677, section 2.2, gradual warm-up).
    """
    check_unit_interval("warmup_start", warmup_start)
    steps = to_steps(
        warmup,
        warmup_unit,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        name="warmup",
        unit_name="warmup_unit",
    )
    if steps >= total_steps:
        raise ValueError(
            f"warmup={warmup}: must be shorter than {described(total_steps, steps_per_epoch)}; "
            "rounded up to whole steps it is not"
        )
    return Warmup(steps, warmup_start, total_steps, steps_per_epoch)


def refuse_warmup(warmup: float, schedule: str, instead: str) -> None:
    """Refuse a warm-up before a schedule that begins with a rise of its own.

    Args:
        warmup: length of the warm-up.
        schedule: name of the schedule.
        instead: what to set for another rise.

    Raises:
        ValueError: if the warm-up is not 0.
    """
    if warmup != 0:
        raise ValueError(f"warmup={warmup}: must be 0, {schedule} begins with a rise of its own; {instead}")


class WarmupLR(LambdaLR):
    """A warm-up that leaves the learning rate alone when it is over, for a schedule that then changes it in place.

    Args:
        optimizer: the optimizer.
        warmup: the warm-up, at least one step long.
    """

    def __init__(self, optimizer: Optimizer, warmup: Warmup) -> None:
        self.steps = warmup.steps
        super().__init__(optimizer, lambda step: warmup.factor(step))

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group: rising up to t = W, whatever it is behind."""
        if self.last_epoch > self.steps:
            return [group["lr"] for group in self.optimizer.param_groups]
        return super().get_lr()

"""What acts on the weights besides the loss and the optimizer: an L1 penalty, a limit, sharpness-aware steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Regularizer:
    """The choice of the group ``regularizer``.

    Args:
        l1: factor of the sum of absolute values of all parameters with two or more dimensions; unit: loss per unit of
            weight. Its subgradient is added to the gradient before each optimizer step; reported losses leave it out.
        max_norm: largest norm of the incoming weights of a unit, see :mod:`resweep.optim.max_norm`; None for no limit.
        sam_rho: radius of sharpness-aware minimization, see :mod:`resweep.optim.sam`; 0 turns it off.
        sam_adaptive: whether that radius scales with each weight.
    """

    l1: float = 0.0
    max_norm: float | None = None
    sam_rho: float = 0.0
    sam_adaptive: bool = False

    def penalize(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add the subgradient of the L1 penalty to the gradients; parameters without one are left alone."""
        if self.l1 > 0:
            used = [parameter for parameter in parameters if parameter.grad is not None]
            signs = torch._foreach_sign([parameter.detach() for parameter in used])
            torch._foreach_add_([parameter.grad for parameter in used], signs, alpha=self.l1)

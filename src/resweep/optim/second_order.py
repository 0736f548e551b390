"""Second-order methods of the package pytorch_optimizer, which the extra ``optimizers`` installs.

Where a decomposition fails since gradients or their sums are no longer finite, all parameters become NaN, as they do
with the optimizers of torch: the training has diverged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

Groups = Iterable[dict[str, Any]]


def shampoo(
    param_groups: Groups, *, lr: float = 0.1, matrix_eps: float = 1e-4, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Return Shampoo: one preconditioner for each dimension of each parameter.

    For a parameter of k dimensions, ``W = W - lr * G x_1 H_1^(-1/2k) ... x_k H_k^(-1/2k)``, where H_i is matrix_eps
    times the identity plus the sum over all steps of the gradient contracted with itself along all dimensions but i.
    Every step decomposes every H_i. The package's momentum and its rarer decompositions are not offered: the first
    mixes plain with preconditioned gradients, the second leaves the parameters where they are until the first one.

    Args:
        param_groups: groups with "params" and, optionally, "weight_decay" and "lr".
        lr: learning rate.
        matrix_eps: weight of the identity, above 0.
        weight_decay: L2, added to the gradient.

    Raises:
        ValueError: if the package is missing or a value is out of its range.

    Source: Gupta et al. 2018 (arXiv 1802.09568, algorithm 2), by pytorch_optimizer.Shampoo, with the defaults of
    torch_optimizer.Shampoo; checked against eigendecompositions in float64.
    """
    kind = _diverging(_package("shampoo").Shampoo)
    return kind(param_groups, lr=lr, matrix_eps=matrix_eps, weight_decay=weight_decay)


def soap(
    param_groups: Groups,
    *,
    lr: float = 3e-3,
    betas: Sequence[float] = (0.95, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    precondition_frequency: int = 10,
    max_precondition_dim: int = 10000,
    merge_dims: bool = False,
) -> torch.optim.Optimizer:
    """Return SOAP: Adam in the slowly changing eigenbases of Shampoo's preconditioners.

    The first step only starts the preconditioners and leaves the parameters as they are.

    Args:
        param_groups: groups with "params" and, optionally, "weight_decay" and "lr".
        lr: learning rate.
        betas: decay rates of the moments; the second is that of the preconditioners, too.
        eps: added to the denominator, above 0.
        weight_decay: decoupled.
        precondition_frequency: steps between two updates of the eigenbases.
        max_precondition_dim: larger dimensions have no preconditioner.
        merge_dims: whether the dimensions of a kernel are merged as long as their product is below the one before.

    Raises:
        ValueError: if the package is missing or a value is out of its range.

    Source: Vyas et al. 2024 (arXiv 2409.11321, algorithm 3), by pytorch_optimizer.SOAP and its defaults; checked
    against eigendecompositions in float64.
    """
    return _diverging(_package("soap").SOAP)(
        param_groups,
        lr=lr,
        betas=tuple(betas),
        eps=eps,
        weight_decay=weight_decay,
        precondition_frequency=precondition_frequency,
        max_precondition_dim=max_precondition_dim,
        merge_dims=merge_dims,
    )


def _diverging(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same class, whose step spreads NaN instead of raising an error of linear algebra."""

    class Diverging(kind):  # type: ignore[misc, valid-type]
        @torch.no_grad()
        def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
            try:
                return super().step(closure)
            except torch.linalg.LinAlgError:
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.fill_(math.nan)
                return torch.tensor(math.nan)

    Diverging.__name__ = Diverging.__qualname__ = kind.__name__
    return Diverging


def _package(choice: str) -> ModuleType:
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise ValueError(
            f"optimizer={choice}: needs the package pytorch_optimizer; pip install 'resweep[optimizers]'"
        ) from error
    return pytorch_optimizer

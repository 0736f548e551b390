"""L-BFGS for parameter groups, with weight decay as part of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class LBFGS(torch.optim.LBFGS):
    """Limited-memory BFGS with a strong Wolfe line search; one step runs up to max_iter iterations on its batch.

    Minimizes ``closure() + sum over groups of weight_decay / 2 * ||w||^2``: torch's L-BFGS has no weight decay, and a
    line search needs loss and gradient of the same function. The groups become one, since L-BFGS has one direction
    for all parameters.

    Args:
        params: parameters, or groups with "params" and, optionally, "weight_decay" and "lr".
        lr: length that the line search tries first, in units of the quasi-Newton direction; without a line search the
            length itself. 0 leaves the parameters as they are.
        max_iter: iterations of a step, at least 1.
        max_eval: evaluations of the loss in a step; None for 1.25 * max_iter.
        tolerance_grad: a step ends when no component of the gradient is larger.
        tolerance_change: a step ends when loss and parameters change by less.
        history_size: pairs of steps and gradient differences that are kept, each of the size of the net.
        line_search_fn: "strong_wolfe" or None.
        weight_decay: of the groups that do not say, at least 0.

    Raises:
        ValueError: if a value is out of its range or groups have different learning rates.

    Source: Liu & Nocedal 1989 (Mathematical Programming 45); line search of Nocedal & Wright 2006, algorithms 3.5 and
    3.6, by torch.optim.LBFGS; checked against scipy.optimize and a textbook BFGS.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 10,
        line_search_fn: str | None = "strong_wolfe",
        weight_decay: float = 0.0,
    ) -> None:
        if line_search_fn not in ("strong_wolfe", None):
            raise ValueError(f"line_search_fn={line_search_fn}: must be strong_wolfe or null")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay={weight_decay}: must be at least 0")
        groups = [entry if isinstance(entry, dict) else {"params": [entry]} for entry in params]
        rates = sorted({group.get("lr", lr) for group in groups})
        if len(rates) > 1:
            shown = ", ".join(f"{rate:g}" for rate in rates)
            raise ValueError(f"lr={shown}: L-BFGS makes one step for all layers; set optimizer.layer_decay=1.0")
        super().__init__(
            [parameter for group in groups for parameter in group["params"]],
            lr=rates[0],
            max_iter=max_iter,
            max_eval=max_eval,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            history_size=history_size,
            line_search_fn=line_search_fn,
        )
        self.decays = [float(group.get("weight_decay", weight_decay)) for group in groups for _ in group["params"]]

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Minimize on one batch, from the present parameters.

        Args:
            closure: clears the gradients, computes the loss of the batch, calls backward and returns the loss; called
                once per evaluation. It must give the same loss for the same parameters.

        Returns:
            Loss before the step, weight decay included.
        """

        def penalized() -> Tensor:
            loss = closure().detach()
            return loss + sum(self._penalties()).to(loss)

        if self.param_groups[0]["lr"] == 0:
            with torch.enable_grad():
                return penalized()
        return super().step(penalized)

    @torch.no_grad()
    def _penalties(self) -> list[Tensor]:
        """Add the gradients of the penalties to those of the parameters and return the penalties."""
        penalties = [torch.zeros((), device=self._params[0].device)]
        for parameter, decay in zip(self._params, self.decays, strict=True):
            if decay > 0:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.add_(parameter, alpha=decay)
                penalties.append(decay / 2 * parameter.square().sum())
        return penalties

    def _gather_flat_grad(self) -> Tensor:
        """All gradients in one vector; unlike torch's also for kernels in channels-last order."""
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self._params])

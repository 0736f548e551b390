"""Muon: orthogonalized momentum for the hidden layers of a net, AdamW for everything else, as one optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resweep.errors import nearest_name
from resweep.optim.param_groups import layers_of

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ADJUSTMENTS = ("original", "match_rms_adamw")
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
DTYPE_NAMES = ("auto", *DTYPES)


class Muon(torch.optim.Optimizer):
    """Muon for the weights of hidden layers, AdamW for the other parameters.

    A hidden weight W of n rows (kernels are flattened to (out, in * height * width)) has the update, at step t,
    ``B = m B + (1 - m) G``, ``U = (1 - m) G + m B`` (Nesterov; else U = B), ``W = (1 - lr * weight_decay) W -
    c * lr * NS(U)``, where NS brings the singular values of U near 1 (:func:`orthogonalized`) and c is
    sqrt(max(1, n / columns)) ("original") or 0.2 * sqrt(max(n, columns)) ("match_rms_adamw"). Which weights are
    hidden: :func:`hidden_weights`. Every group given becomes up to two; ``group["muon"]`` tells them apart.

    Args:
        param_groups: groups with "params" and, optionally, "weight_decay" and "lr" (of the Muon part).
        net: the net the parameters belong to; tells the first and the last layer from hidden ones.
        lr: learning rate of Muon.
        momentum: m, in [0, 1).
        nesterov: whether to look ahead.
        ns_steps: iterations of the orthogonalization, at least 1.
        ns_dtype: number format of the orthogonalization: "bfloat16" (as published), "float32", or "auto" (float32 for
            parameters on a processor, where bfloat16 is slow, bfloat16 for those on an accelerator).
        adjust_lr_fn: "original" or "match_rms_adamw" (gives updates the size of AdamW's, for one learning rate).
        adamw_lr: learning rate of the AdamW part; None for the same as Muon's. Where groups have learning rates of
            their own, both parts are scaled alike.
        betas: decay rates of the AdamW part.
        eps: added to the denominator of the AdamW part.
        weight_decay: decoupled, of both parts, for groups that do not say.

    Raises:
        ValueError: if a value is out of its range.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); "match_rms_adamw" of Liu et al. 2025 (arXiv
    2502.16982, section 2.2); checked against torch.optim.Muon and torch.optim.AdamW.
    """

    needs_net = True

    def __init__(
        self,
        param_groups: Sequence[dict[str, Any]],
        net: nn.Module,
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        ns_dtype: str = "auto",
        adjust_lr_fn: str = "original",
        adamw_lr: float | None = 3e-4,
        betas: Sequence[float] = (0.9, 0.95),
        eps: float = 1e-10,
        weight_decay: float = 0.01,
    ) -> None:
        _check_name("ns_dtype", ns_dtype, DTYPE_NAMES)
        _check_name("adjust_lr_fn", adjust_lr_fn, ADJUSTMENTS)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum}: must be at least 0 and below 1")
        if not (lr >= 0 and (adamw_lr is None or adamw_lr >= 0)):
            raise ValueError(f"lr={lr}, adamw_lr={adamw_lr}: must be at least 0")
        if not ns_steps >= 1:
            raise ValueError(f"ns_steps={ns_steps}: must be at least 1")
        own = {
            "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps, "ns_dtype": ns_dtype,
            "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        other = {"betas": tuple(betas), "eps": eps}
        adamw_share = 1.0 if adamw_lr is None or lr == 0 else adamw_lr / lr
        hidden = {id(parameter) for parameter in hidden_weights(net)}
        groups = []
        for group in param_groups:
            rest = {"weight_decay": weight_decay, "lr": lr} | {k: v for k, v in group.items() if k != "params"}
            inside = [parameter for parameter in group["params"] if id(parameter) in hidden]
            outside = [parameter for parameter in group["params"] if id(parameter) not in hidden]
            groups.append(rest | own | {"params": inside, "muon": True})
            groups.append(rest | other | {"params": outside, "muon": False, "lr": rest["lr"] * adamw_share})
        # Schedules that move the momentum find it in every group, and by this name.
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._share_with_adamw()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take groups and state from a checkpoint or a copy."""
        super().__setstate__(state)
        self._share_with_adamw()

    def _share_with_adamw(self) -> None:
        """Let torch's AdamW work on the same groups and the same state."""
        self._adamw = torch.optim.AdamW([group for group in self.param_groups if not group["muon"]])
        self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss anew; optional.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["muon"]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, parameter.grad, group)
        self._adamw.step()
        return loss

    def _update(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(average, group["momentum"]) if group["nesterov"] else average
        dtype = _number_format(group["ns_dtype"], weight.device)
        matrix = orthogonalized(update.flatten(1), group["ns_steps"], dtype)
        rows, columns = matrix.shape
        scale = math.sqrt(max(1, rows / columns))
        if group["adjust_lr_fn"] == "match_rms_adamw":
            scale = 0.2 * math.sqrt(max(rows, columns))
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(matrix.reshape(weight.shape), alpha=-group["lr"] * scale)


def orthogonalized(matrix: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return U S V^T for a matrix with the singular value decomposition U D V^T, where S is near the identity.

    Newton-Schulz iteration ``X = a X + (b X X^T + c (X X^T)^2) X`` from X = matrix / its Frobenius norm. The
    coefficients make it fast at small singular values; five steps bring most of them into [0.7, 1.2].

    Args:
        matrix: shape (R, C).
        steps: iterations.
        dtype: number format of the iteration.

    Returns:
        dtype, shape (R, C).

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon).

    Example:
        >>> orthogonalized(torch.tensor([[100.0, 0.0], [0.0, 60.0]]), dtype=torch.float32).diagonal() > 0.65
        tensor([True, True])
    """
    a, b, c = COEFFICIENTS
    result = matrix.to(dtype)
    flip = matrix.size(0) > matrix.size(1)
    if flip:
        result = result.T
    result = result / result.norm().clamp(min=1e-7)
    for _ in range(steps):
        square = result @ result.T
        polynomial = torch.addmm(square, square, square, beta=b, alpha=c)
        result = torch.addmm(result, polynomial, result, beta=a)
    return result.T if flip else result


def hidden_weights(net: nn.Module) -> list[nn.Parameter]:
    """Return the weights of the hidden layers of a net: what Muon is for.

    These are the weights of two and more dimensions, neither the first nor the last of the net (in the order of
    :func:`~resweep.optim.param_groups.layers_of`), whose own name ends with ``weight`` and that are not an
    embedding. Position codes and class tokens, which are no weights of a layer, are thereby left out.

    Args:
        net: the network.

    Returns:
        In the order of the layers; frozen weights included.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 2))
        >>> [parameter is net[1].weight for parameter in hidden_weights(net)]
        [True]
    """
    embeddings = {id(m.weight) for m in net.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    named = {id(parameter) for name, parameter in net.named_parameters() if name.endswith("weight")}
    weights = [
        parameter
        for layer in layers_of(net)
        for parameter in layer
        if parameter.dim() >= 2 and id(parameter) in named - embeddings
    ]
    return weights[1:-1]


def _check_name(key: str, value: str, allowed: Sequence[str]) -> None:
    """ValueError for a word that is not among the allowed ones."""
    if value not in allowed:
        nearest = nearest_name(str(value), allowed)
        hint = "" if nearest is None else f"; did you mean {nearest}?"
        raise ValueError(f"{key}={value}: must be one of {', '.join(allowed)}{hint}")


def _number_format(ns_dtype: str, device: torch.device) -> torch.dtype:
    if ns_dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return DTYPES[ns_dtype]

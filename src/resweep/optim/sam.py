"""Sharpness-aware minimization: the gradient of an update is taken where the loss nearby is worst."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_EPS = 1e-12  # keeps a gradient of zero from dividing by zero


@contextmanager
def ascended(parameters: Iterable[nn.Parameter], rho: float, adaptive: bool = False) -> Iterator[None]:
    """Move the parameters to ``w + e(w)`` inside the block, and back to exactly the same bits after it.

    With g the present gradient of all parameters together, ``e = rho * g / ||g||``, the first-order maximum of the
    loss in a ball of radius rho. Adaptive: ``e = rho * w^2 * g / || |w| * g ||``, a ball whose radius scales with each
    weight. Gradients are left as they are; the block computes them anew, at the worse place, for the optimizer's step.

    Args:
        parameters: those without a gradient stay where they are.
        rho: radius, at least 0; 0 moves nothing.
        adaptive: whether the radius scales with the weights.

    Raises:
        ValueError: if rho is negative.

    Source: Foret et al. 2020 (arXiv 2010.01412, equation 2, p = 2); adaptive: Kwon et al. 2021 (arXiv 2102.11600,
    equation 5); checked against pytorch_optimizer.SAM.

    Example:
        >>> weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> with ascended([weight], rho=0.5):
        ...     print(weight.data)
        tensor([1.3000, 2.4000])
        >>> weight.data
        tensor([1., 2.])
    """
    if not rho >= 0:
        raise ValueError(f"rho={rho}: must be at least 0")
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    if rho == 0 or not moved:
        yield
        return
    before = [parameter.detach().clone() for parameter in moved]
    with torch.no_grad():
        torch._foreach_add_(moved, _ascent(moved, rho, adaptive))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(moved, before)


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Let batch normalization use the statistics of its batch inside the block without adding them to the running ones.

    For a further evaluation of a batch in the same step (sharpness-aware steps, line searches): running statistics
    then count each batch once, at the weights that the step began with. In evaluation mode nothing changes.

    Args:
        net: the network.
    """
    layers = [module for module in net.modules() if isinstance(module, _NormBase) and module.track_running_stats]
    before = [(layer.running_mean, layer.running_var, layer.num_batches_tracked) for layer in layers]
    for layer, buffers in zip(layers, before, strict=True):
        layer.running_mean, layer.running_var, layer.num_batches_tracked = (buffer.clone() for buffer in buffers)
    try:
        yield
    finally:
        for layer, buffers in zip(layers, before, strict=True):
            layer.running_mean, layer.running_var, layer.num_batches_tracked = buffers


def _ascent(parameters: list[nn.Parameter], rho: float, adaptive: bool) -> list[torch.Tensor]:
    """The way to the worst place nearby, by the first-order estimate."""
    gradients = [parameter.grad for parameter in parameters]
    scaled = torch._foreach_mul(torch._foreach_abs(parameters), gradients) if adaptive else gradients
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(scaled)))
    way = torch._foreach_mul(scaled, rho / (norm + _EPS))
    if adaptive:
        torch._foreach_mul_(way, torch._foreach_abs(parameters))
    return list(way)

"""Max-norm: an upper limit for the incoming weights of every unit."""

from __future__ import annotations

import torch
from torch import nn

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def project_max_norm_(net: nn.Module, limit: float) -> None:
    """Scale the incoming weights of every unit down to a norm of at most limit, in place; call it after each step.

    The incoming weights of a unit are a row of a linear layer, or a filter of a convolution, without its bias. Units
    within the limit keep their bits; frozen weights are left alone. All linear and convolutional layers count, the
    last one included.

    Args:
        net: the network.
        limit: largest Euclidean norm, above 0.

    Raises:
        ValueError: if limit is not above 0.

    Source: Srivastava et al. 2014 (Journal of Machine Learning Research 15, section 5.1).

    Example:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
        >>> project_max_norm_(layer, 1.0)
        >>> layer.weight.data
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    if not limit > 0:
        raise ValueError(f"max_norm={limit}: must be above 0")
    for module in net.modules():
        if isinstance(module, _LAYERS) and module.weight.requires_grad:
            weight = module.weight
            norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
            factors = torch.where(norms > limit, limit / norms, 1.0)
            weight.mul_(factors.view(-1, *[1] * (weight.dim() - 1)))

"""What the families of networks share: initialization, drop rates by depth, and checks of arguments."""

from __future__ import annotations

import math

from torch import nn

from resweep.errors import nearest_name

INITS = ("he_fan_out", "he_fan_in", "glorot", "orthogonal", "torch")
_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def initialize(net: nn.Module, init: str, *, linear: bool = False) -> None:
    """Draw the weights of every convolution anew, in the order of ``net.modules()``, and set their biases to zero.

    With k = kernel height * kernel width, fan_in = k * input channels per group and fan_out = k * output channels:

    - ``he_fan_out``, ``he_fan_in``: N(0, 2 / fan). He et al. 2015 (arXiv 1502.01852), equations 14 and 10.
    - ``glorot``: uniform in [-a, a], a = sqrt(6 / (fan_in + fan_out)). Glorot & Bengio 2010 (AISTATS), equation 16.
    - ``orthogonal``: sqrt(2), the gain of a ReLU, times a random matrix (output channels, fan_in) whose rows, or
      columns where those are fewer, are orthonormal. Saxe et al. 2014 (arXiv 1312.6120).
    - ``torch``: leaves every weight and bias as torch has drawn it.

    Normalization layers keep weight 1 and bias 0.

    Args:
        net: the network, changed in place.
        init: one of INITS.
        linear: whether linear layers are drawn by the same rule; otherwise they keep torch's default. (For a linear
            layer, k is 1.)

    Raises:
        ValueError: if init is none of INITS; the message names the nearest one.

    Randomness: uses the global torch generator.

    Example:
        >>> layer = nn.Conv2d(3, 8, 3)
        >>> initialize(layer, "he_fan_in")
        >>> layer.bias.abs().sum().item()
        0.0
    """
    check_choice("init", init, INITS)
    if init == "torch":
        return
    for module in net.modules():
        if isinstance(module, _WEIGHTED) or (linear and isinstance(module, nn.Linear)):
            _draw(module.weight, init)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _draw(weight: nn.Parameter, init: str) -> None:
    if init == "glorot":
        nn.init.xavier_uniform_(weight)
    elif init == "orthogonal":
        nn.init.orthogonal_(weight, gain=math.sqrt(2))
    else:
        nn.init.kaiming_normal_(weight, mode=init.removeprefix("he_"), nonlinearity="relu")


def drop_rates(stochastic_depth: float, blocks: int) -> list[float]:
    """Return the probability with which each residual block is dropped in training: the linear rule.

    Block l of L (from 1) is dropped with probability ``stochastic_depth * l / L``.
    Source: Huang et al. 2016 (arXiv 1603.09382), equation 4, with stochastic_depth = 1 - p_L.

    Args:
        stochastic_depth: probability in [0, 1) for the last block; 0 turns it off.
        blocks: L, number of residual blocks.

    Raises:
        ValueError: if stochastic_depth is outside [0, 1).

    Example:
        >>> drop_rates(0.5, 4)
        [0.125, 0.25, 0.375, 0.5]
    """
    check_probability(stochastic_depth=stochastic_depth)
    return [stochastic_depth * block / blocks for block in range(1, blocks + 1)]


def check_positive(**counts: int) -> None:
    """Refuse counts that are not whole numbers of at least 1.

    Raises:
        ValueError: for the first such count, with its name and value.
    """
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name}={value}: must be a whole number, at least 1")
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")


def check_probability(**probabilities: float) -> None:
    """Refuse probabilities outside [0, 1); one that is always 1 would leave nothing to learn from.

    Raises:
        ValueError: for the first such probability, with its name and value.
    """
    for name, value in probabilities.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
            raise ValueError(f"{name}={value}: must be in [0, 1)")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is not among the allowed ones.

    Raises:
        ValueError: with the name, the value, the allowed words and the nearest of them.
    """
    if value not in allowed:
        nearest = nearest_name(str(value), allowed)
        hint = "" if nearest is None else f"; did you mean {nearest}?"
        raise ValueError(f"{name}={value}: must be one of {', '.join(allowed)}{hint}")

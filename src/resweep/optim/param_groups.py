"""Which parameters weight decay acts on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from resweep.errors import nearest_name

NO_DECAY = ("bias", "norm")
_NORM_MODULES = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def param_groups(net: nn.Module, weight_decay: float, no_decay: Sequence[str]) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimizer: those with weight decay first, those without second.

    A parameter with ``requires_grad`` is in exactly one group, also when several modules share it; then one exempt
    place is enough to exempt it. A "bias" is a parameter whose own name is ``bias`` or starts with ``bias_`` or ends
    with ``_bias`` (recurrent and attention layers of torch). "norm" is every parameter of a batch, instance, layer,
    group or RMS normalization, its bias included.

    Args:
        net: the network.
        weight_decay: at least 0; what it means (L2 or decoupled) is up to the optimizer.
        no_decay: which parameters are exempt, any of "bias" and "norm"; empty exempts none.

    Returns:
        One group ``{"params", "weight_decay"}`` when no_decay is empty, else two, the second with weight_decay 0.0.
        Parameters stand in the order of ``net.named_parameters()``. A group may be empty.

    Raises:
        ValueError: if weight_decay is negative, a word of no_decay is unknown, or nothing is trainable.

    Example:
        >>> groups = param_groups(nn.Linear(3, 2), 0.1, ["bias"])
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(1, 0.1), (1, 0.0)]
    """
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay={weight_decay}: must be at least 0")
    _check_no_decay(no_decay)
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("net: has no trainable parameter")
    if not no_decay:
        return [{"params": trainable, "weight_decay": weight_decay}]
    exempt = _exempt_ids(net, no_decay)
    return [
        {"params": [parameter for parameter in trainable if id(parameter) not in exempt], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if id(parameter) in exempt], "weight_decay": 0.0},
    ]


def _check_no_decay(no_decay: Sequence[str]) -> None:
    """ValueError unless no_decay is a list of known words."""
    if isinstance(no_decay, str):
        raise ValueError(f"no_decay={no_decay}: must be a list, for instance [{no_decay}]")
    for name in no_decay:
        if name not in NO_DECAY:
            nearest = nearest_name(str(name), NO_DECAY)
            hint = "" if nearest is None else f"; did you mean {nearest}?"
            raise ValueError(f"no_decay={name}: must be any of {', '.join(NO_DECAY)}{hint}")


def _exempt_ids(net: nn.Module, no_decay: Sequence[str]) -> set[int]:
    """Identities of the parameters that no_decay names, under any of their names."""
    exempt: set[int] = set()
    if "bias" in no_decay:
        for name, parameter in net.named_parameters(remove_duplicate=False):
            own_name = name.rsplit(".", 1)[-1]
            if own_name == "bias" or own_name.startswith("bias_") or own_name.endswith("_bias"):
                exempt.add(id(parameter))
    if "norm" in no_decay:
        for module in net.modules():
            if isinstance(module, _NORM_MODULES):
                exempt.update(id(parameter) for parameter in module.parameters())
    return exempt

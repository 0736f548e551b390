"""Which parameters weight decay acts on, and which learning rate each layer has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from resweep.errors import nearest_name

NO_DECAY = ("bias", "norm")
_NORM_MODULES = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def param_groups(
    net: nn.Module,
    weight_decay: float,
    no_decay: Sequence[str],
    lr: float | None = None,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimizer: those with weight decay first, those without second.

    A parameter with ``requires_grad`` is in exactly one group, also when several modules share it; then one exempt
    place is enough to exempt it. A "bias" is a parameter whose own name is ``bias`` or starts with ``bias_`` or ends
    with ``_bias`` (recurrent and attention layers of torch). "norm" is every parameter of a batch, instance, layer,
    group or RMS normalization, its bias included.

    With a layer_decay other than 1 the groups are formed for each of :func:`layers_of` (net), from the stem to the
    head, and carry a learning rate of their own: ``lr * layer_decay ** k``, where k counts the layers between a layer
    and the last one. Frozen layers count, so that freezing leaves the other rates as they are.

    Args:
        net: the network.
        weight_decay: at least 0; what it means (L2 or decoupled) is up to the optimizer.
        no_decay: which parameters are exempt, any of "bias" and "norm"; empty exempts none.
        lr: learning rate of the last layer; needed where layer_decay is not 1, and not used otherwise.
        layer_decay: factor of the learning rate per layer away from the head, above 0 and at most 1; 1 turns it off.

    Returns:
        Without layer_decay: one group ``{"params", "weight_decay"}`` when no_decay is empty, else two, the second with
        weight_decay 0.0; parameters stand in the order of ``net.named_parameters()``, and a group may be empty. With
        layer_decay: the same for each layer, with "lr" as third key; groups without a parameter are left out.

    Raises:
        ValueError: if weight_decay is negative, a word of no_decay is unknown, nothing is trainable, or layer_decay
            is out of its range or lacks the learning rate.

    Source: layer_decay is the discriminative fine-tuning of Howard & Ruder 2018 (arXiv 1801.06146, section 3.2), in
    the form of one factor for all layers of Clark et al. 2020 (arXiv 2003.10555, appendix A).

    Example:
        >>> groups = param_groups(nn.Linear(3, 2), 0.1, ["bias"])
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(1, 0.1), (1, 0.0)]
        >>> net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> [group["lr"] for group in param_groups(net, 0.0, [], lr=0.1, layer_decay=0.5)]
        [0.05, 0.1]
    """
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay={weight_decay}: must be at least 0")
    _check_no_decay(no_decay)
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay}: must be above 0 and at most 1")
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("net: has no trainable parameter")
    exempt = _exempt_ids(net, no_decay)
    if layer_decay == 1:
        return _by_decay(trainable, weight_decay, exempt if no_decay else None)
    if lr is None:
        raise ValueError(f"layer_decay={layer_decay}: needs the learning rate of the last layer, lr")
    layers = layers_of(net)
    return [
        group | {"lr": lr * layer_decay ** (len(layers) - 1 - index)}
        for index, layer in enumerate(layers)
        for group in _by_decay([p for p in layer if p.requires_grad], weight_decay, exempt if no_decay else None)
        if group["params"]
    ]


def layers_of(net: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of a net layer by layer, from the stem to the head, each exactly once.

    The layers are the modules of ``net.layer_groups()`` where the net has that method, else its direct children;
    those without a parameter (activations, pooling) are left out. A parameter that several layers share belongs to
    the first of them. Parameters that are in no layer (position codes, class tokens) belong to the first layer.

    Args:
        net: the network.

    Returns:
        At least one list for a net with parameters; frozen parameters included.

    Example:
        >>> [len(layer) for layer in layers_of(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2, bias=False)))]
        [2, 1]
    """
    modules = net.layer_groups() if hasattr(net, "layer_groups") else list(net.children())
    seen: set[int] = set()
    layers = [_unseen(module.parameters(), seen) for module in modules]
    layers = [layer for layer in layers if layer]
    rest = _unseen(net.parameters(), seen)
    if not rest:
        return layers
    return [rest + layers[0], *layers[1:]] if layers else [rest]


def _unseen(parameters: Iterable[nn.Parameter], seen: set[int]) -> list[nn.Parameter]:
    """The parameters that have not been seen; from now on they have."""
    new = [parameter for parameter in parameters if id(parameter) not in seen]
    seen.update(id(parameter) for parameter in new)
    return new


def _by_decay(parameters: list[nn.Parameter], weight_decay: float, exempt: set[int] | None) -> list[dict[str, Any]]:
    """The parameters with weight decay, then those without; all in one group where there are no exemptions."""
    if exempt is None:
        return [{"params": parameters, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in parameters if id(p) not in exempt], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) in exempt], "weight_decay": 0.0},
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

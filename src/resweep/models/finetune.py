"""Fine-tuning of any network: its head, its layer groups, and frozen groups.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from resweep.models.parts import check_probability
from resweep.models.pooling import AveragePool

LEAST_GROUPS = 5
# Sides that are tried for the smallest image that a network takes.
SIDES = (8, 16, 24, 32, 48, 64, 75, 96, 128, 160, 192, 224, 256, 288, 299, 320, 384, 448, 512)


class FineTuned(nn.Module):
    """A network with a head for the data's classes, its first layer groups frozen on request.

    Frozen parameters take no gradient, and batch normalizations of frozen groups stay in evaluation mode, so that
    their running statistics do not change either.

    Args:
        net: maps float images (B, C, H, W) to logits (B, K).
        heads: the modules of net that make logits from features: its last layer group.
        freeze: "none"; "features", every group but the head; or the number of groups to freeze, from the first.

    Raises:
        ValueError: if freeze is neither, or would leave nothing to train.
    """

    def __init__(self, net: nn.Module, heads: Sequence[nn.Module], freeze: str | int = "none") -> None:
        super().__init__()
        self.net = net
        self.head_names = tuple(name for name, module in net.named_modules() if any(module is head for head in heads))
        self.frozen = frozen_count(freeze, len(self.layer_groups()))
        for group in self.layer_groups()[: self.frozen]:
            group.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Return unnormalised logits (B, K) of normalised float images (B, C, H, W)."""
        return self.net(images)

    def layer_groups(self) -> list[nn.Module]:
        """Return the parts of the net in order of depth, see :func:`layer_groups`."""
        return layer_groups(self.net, [self.net.get_submodule(name) for name in self.head_names])

    def train(self, mode: bool = True) -> FineTuned:
        """Set training mode, but for the batch normalizations of frozen groups."""
        super().train(mode)
        for group in self.layer_groups()[: self.frozen] if self.frozen > 0 else []:
            for module in group.modules():
                if isinstance(module, _NormBase):
                    module.eval()
        return self


def layer_groups(net: nn.Module, heads: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the parts of any network in order of depth: stem, stages or blocks, head.

    The parts are the children of the network in order of registration; children are replaced by their own children
    where they contain the head, and as long as there are fewer than five parts. Parts that hold only vectors
    (normalizations) join the part before them; parameters that belong to no part join the first. Together the parts
    hold every parameter.

    Args:
        net: the network.
        heads: modules that make up the last part.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
        >>> [sum(p.numel() for p in group.parameters()) for group in layer_groups(net, [net[3]])]
        [240, 18]
    """
    parts, loose = [net], []
    while True:
        inner = [part for part in parts if _holds(part, heads)]
        if not inner:
            groups = _merged(parts, loose, heads)
            inner = [part for part in parts if any(list(child.parameters()) for child in part.children())]
            if len(groups) >= LEAST_GROUPS or not inner:
                return groups
        flat: list[nn.Module] = []
        for part in parts:
            if any(part is other for other in inner):
                loose += part.parameters(recurse=False)
                flat += [child for child in part.children() if list(child.parameters())]
            else:
                flat.append(part)
        parts = [part for part in flat if not any(part is head for head in heads)]


def frozen_count(freeze: str | int, groups: int) -> int:
    """Return how many of a net's layer groups are frozen, from the first.

    Args:
        freeze: "none", "features" (all groups but the last) or a number.
        groups: number of layer groups.

    Raises:
        ValueError: if freeze is none of these or leaves no group to train.

    Example:
        >>> [frozen_count(freeze, 6) for freeze in ("none", "features", 2)]
        [0, 5, 2]
    """
    words = {"none": 0, "features": groups - 1}
    if isinstance(freeze, str) and freeze in words:
        return words[freeze]
    if not isinstance(freeze, int) or isinstance(freeze, bool) or not 0 <= freeze < groups:
        allowed = f"none, features or a number of layer groups from 0 to {groups - 1}, as the net has {groups}"
        raise ValueError(f"freeze={freeze}: must be {allowed}")
    return freeze


def set_dropout(net: nn.Module, head: nn.Module, dropout: float) -> None:
    """Set the dropout in front of a head, in place.

    The dropout layers that stand beside the head, in the same module, get the probability; where there is none, one is
    put in front of the head.

    Args:
        net: a network with the head somewhere inside.
        head: its last layer.
        dropout: probability in [0, 1); 0 turns it off.
    """
    check_probability(dropout=dropout)
    parent, name = next(
        (module, name) for module in net.modules() for name, child in module.named_children() if child is head
    )
    beside = [child for child in parent.children() if isinstance(child, nn.Dropout)]
    for layer in beside:
        layer.p = float(dropout)
    if not beside and dropout > 0:
        setattr(parent, name, nn.Sequential(nn.Dropout(dropout), head))


def take_grey_images(net: nn.Module) -> None:
    """Replace the first convolution by one with a single input channel, in place; its weights are the first colour's.

    Args:
        net: a network whose first convolution takes the image.
    """
    name, old = next((n, module) for n, module in net.named_modules() if isinstance(module, nn.Conv2d))
    new = nn.Conv2d(1, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None)
    with torch.no_grad():
        new.weight.copy_(old.weight[:, :1])
        if old.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, new)


def deterministic_pools(net: nn.Module) -> None:
    """Replace adaptive average pools onto several pixels by equal ones with a deterministic backward pass, in place."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and _size(child) not in (None, (1, 1)):
                setattr(module, name, AveragePool(_size(child)))


def check_forward(net: nn.Module, name: str, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
    """Refuse a network that does not make logits of such images, before anything is trained.

    The network is tried without computing anything (on torch's meta device), twice with real numbers if that fails.

    Raises:
        ValueError: if the images are too small or of a size it does not take; the message has the smallest that it
            takes. Or if it gives something other than logits (B, num_classes).

    Randomness: leaves the global generator as it was.
    """
    failure = _failure(net, num_classes, in_channels, image_size, "meta")
    if failure is None or (failure := _failure(net, num_classes, in_channels, image_size, "cpu")) is None:
        return
    height, width = image_size
    if (side := _smallest(net, num_classes, in_channels)) is None:
        raise ValueError(f"name={name}: cannot be used for {in_channels}x{height}x{width} images: {failure}")
    need = f"at least {side}x{side}" if side > min(image_size) else f"another size, for instance {side}x{side}"
    advice = f"set data.image_size={side} or choose another model"
    raise ValueError(f"image_size={height}x{width}: {name} needs {need}; {advice}")


def _smallest(net: nn.Module, num_classes: int, in_channels: int) -> int | None:
    """Side of the smallest square images that a net takes; None when no side of a list is taken."""

    def fails(side: int) -> bool:
        return _failure(net, num_classes, in_channels, (side, side), "meta") is not None

    below = 0
    for side in SIDES:
        if not fails(side):
            break
        below = side
    else:
        return None
    while side - below > 1:
        middle = (side + below) // 2
        below, side = (middle, side) if fails(middle) else (below, middle)
    return side


def _failure(
    net: nn.Module, num_classes: int, in_channels: int, image_size: tuple[int, int], device: str
) -> str | None:
    """Why two images cannot be classified; None when they can."""
    state = {**dict(net.named_parameters(remove_duplicate=False)), **dict(net.named_buffers(remove_duplicate=False))}
    state = {name: tensor.detach().to(device, copy=True) for name, tensor in state.items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            logits = functional_call(net, state, torch.zeros(2, in_channels, *image_size, device=device))
        except (RuntimeError, ValueError, AssertionError, NotImplementedError, IndexError) as error:
            return str(error).strip().split("\n")[0] or type(error).__name__
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        return f"its output is {shape}, not logits (2, {num_classes}) for two images"
    return None


def _holds(part: nn.Module, heads: Sequence[nn.Module]) -> bool:
    """Whether a part has a head inside, without being one."""
    return any(module is head for module in part.modules() for head in heads)


def _merged(parts: list[nn.Module], loose: list[nn.Parameter], heads: Sequence[nn.Module]) -> list[nn.Module]:
    """Parts with vectors and loose parameters joined to their neighbours, the heads behind them as one."""
    groups: list[list[nn.Module]] = []
    waiting: list[nn.Module] = [nn.ParameterList(loose)] if loose else []
    for part in parts:
        if all(parameter.ndim <= 1 for parameter in part.parameters()):
            (groups[-1] if groups else waiting).append(part)
        else:
            groups.append([*waiting, part])
            waiting = []
    groups.append([*waiting, *heads])
    return [group[0] if len(group) == 1 else nn.ModuleList(group) for group in groups]


def _size(pool: nn.AdaptiveAvgPool2d) -> tuple[int, int] | None:
    """Output size of a pool; None when a side keeps its length."""
    size = pool.output_size
    pair = (size, size) if isinstance(size, int) or size is None else tuple(size)
    return None if None in pair else pair

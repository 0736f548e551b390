"""What the residual families share: stems, stages and the net around the blocks.

Shapes: B batch, C channels, H height, W width, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from resweep.models.parts import drop_rates

BLOCKS = ("basic", "bottleneck")
STEMS = ("cifar", "imagenet")
# Blocks per stage of He et al. 2015 (arXiv 1512.03385), Table 1; basic blocks below depth 50, bottlenecks from there.
IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ResidualNet(nn.Module):
    """Stem, stages of blocks, average over all pixels, dropout, linear classifier.

    The base class of the residual families; they differ in their blocks.

    Args:
        stem: layers between the image and the first stage.
        stages: the blocks of each stage, in order of depth.
        norm: layers between the last block and the average; None where there are none.
        channels: D, channels of the last block.
        dropout: probability in [0, 1) of zeroing a pooled feature in training.
        num_classes: K, number of classes.
    """

    def __init__(
        self,
        stem: nn.Sequential,
        stages: Sequence[Sequence[nn.Module]],
        norm: nn.Module | None,
        channels: int,
        dropout: float,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*(block for stage in stages for block in stage))
        self.norm = nn.Identity() if norm is None else norm
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        self.stage_sizes = tuple(len(stage) for stage in stages)

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features (B, D), D = channels of the last stage, of float images (B, C, H, W)."""
        return self.norm(self.blocks(self.stem(images))).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return unnormalised logits (B, K) of normalised float images (B, C, H, W)."""
        return self.classifier(self.dropout(self.features(images)))

    def layer_groups(self) -> list[nn.Module]:
        """Return the stem, each stage, and the head, in order of depth; every parameter is in exactly one of them.

        The head is the classifier with the normalization before it, where there is one.
        """
        groups: list[nn.Module] = [self.stem]
        start = 0
        for size in self.stage_sizes:
            groups.append(self.blocks[start : start + size])
            start += size
        return [*groups, nn.Sequential(self.norm, self.classifier)]


def image_stem(kind: str, in_channels: int, width: int) -> nn.Sequential:
    """Return the layers of a post-activation net between the image and its first stage.

    Args:
        kind: "cifar" (3x3 convolution, stride 1) or "imagenet" (7x7 convolution, stride 2; 3x3 max-pool, stride 2).
        in_channels: C, channels of the images.
        width: channels of the first stage.
    """
    if kind == "cifar":
        convolution = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    convolution = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True), pool)


def stages_of_blocks(
    make: Callable[..., nn.Module], blocks: Sequence[int], channels: int, widths: Sequence[int], stochastic_depth: float
) -> list[list[nn.Module]]:
    """Return the blocks of each stage; the first block of every stage but the first has stride 2.

    Args:
        make: gives a block for ``(in_channels, out_channels, stride, drop=probability)``.
        blocks: number of blocks of each stage.
        channels: channels in front of the first block.
        widths: output channels of the blocks of each stage.
        stochastic_depth: probability in [0, 1) of leaving out the last block; the others' grow linearly up to it.
    """
    drops = iter(drop_rates(stochastic_depth, sum(blocks)))
    stages: list[list[nn.Module]] = []
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        stages.append([])
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            stages[-1].append(make(channels, width, stride, drop=next(drops)))
            channels = width
    return stages


def check_depth(depth: int, allowed: tuple[int, ...]) -> None:
    """Refuse a depth for which no network was published.

    Raises:
        ValueError: with the depth and the allowed ones.
    """
    if depth not in allowed:
        raise ValueError(f"depth={depth}: must be one of {', '.join(map(str, allowed))}")


def blocks_of_depth(depth: int, unit: int, fixed: int) -> int:
    """Return the n of ``depth = unit * n + fixed``.

    Args:
        depth: number of layers with weights.
        unit: layers that one more block per stage adds.
        fixed: layers outside the blocks.

    Raises:
        ValueError: if there is no such n of at least 1; the message names the nearest allowed depths.

    Example:
        >>> blocks_of_depth(20, 6, 2)
        3
    """
    blocks, rest = divmod(depth - fixed, unit)
    if blocks >= 1 and rest == 0:
        return blocks
    below, above = blocks * unit + fixed, (blocks + 1) * unit + fixed
    nearest = f"{below} and {above}" if blocks >= 1 else f"{unit + fixed}"
    raise ValueError(f"depth={depth}: must be {unit}n+{fixed} with n of at least 1; nearest allowed: {nearest}")

"""Residual networks with basic blocks, for small images.

Shapes: B batch, C channels, H height, W width, K classes, D features.

Parameters for 3 input channels and 10 classes:

=====  =====  ======  ==========  ==========  =============================
depth  width  stages  shortcut    parameters  published
=====  =====  ======  ==========  ==========  =============================
8      16     3       identity        75,290  not in the paper
14     16     3       identity       172,506  not in the paper
20     16     3       identity       269,722  0.27M, He et al. 2015, Table 6
20     16     3       projection     272,474  not in the paper
32     16     3       identity       464,154  0.46M, the same
44     16     3       identity       658,586  0.66M, the same
56     16     3       identity       853,018  0.85M, the same
110    16     3       identity     1,727,962  1.7M, the same
18     64     4       projection  11,173,962  a CIFAR stem on ResNet-18
=====  =====  ======  ==========  ==========  =============================

The exact counts follow from the layer shapes of He et al. 2015 (arXiv 1512.03385), section 4.2 and Table 1.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from resweep.errors import nearest_name

SHORTCUTS = ("identity", "projection")
STEMS = ("cifar", "imagenet")


class SubsampleAndPad(nn.Module):
    """Shortcut without parameters: every stride-th pixel, new channels filled with zeros.

    Option A of He et al. 2015 (arXiv 1512.03385, section 3.3). The paper leaves open where the zero channels stand;
    here they follow the copied ones. The order only permutes channels.

    Args:
        stride: keep every stride-th row and column, from the first.
        extra_channels: number of zero channels to append.
    """

    def __init__(self, stride: int, extra_channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.extra_channels = extra_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C + extra_channels, ceil(H / stride), ceil(W / stride))."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization around a shortcut.

    ``relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))``. The shortcut is the input itself unless the shape changes.
    Source: He et al. 2015 (arXiv 1512.03385), Figure 2 and section 3.2.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; not fewer than in_channels.
        stride: stride of the first convolution and of the shortcut.
        shortcut: "identity" (option A) or "projection" (option B: 1x1 convolution and batch normalization).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        if stride == 1 and in_channels == out_channels:
            self.shortcut: nn.Module = nn.Identity()
        elif shortcut == "identity":
            self.shortcut = SubsampleAndPad(stride, out_channels - in_channels)
        else:
            convolution = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x), inplace=True)


class CifarResNet(nn.Module):
    """Residual network of depth ``2 * stages * n + 2`` with n basic blocks per stage.

    Stage i (from 0) has ``width * 2**i`` channels; every stage but the first halves height and width. Average over all
    pixels, dropout, linear classifier. Three stages of widths 16, 32, 64 with identity shortcuts are the CIFAR-10
    networks of the paper; dropout is an addition, the paper has none.

    Args:
        depth: number of layers with weights (shortcuts not counted): 8, 14, 20, ... for three stages.
        width: channels of the first stage.
        shortcut: "identity" (option A: subsampled input, zero channels) or "projection" (option B: 1x1 convolution
            and batch normalization), used where the shape changes.
        stem: "cifar" (3x3 convolution, stride 1) or "imagenet" (7x7 convolution, stride 2; 3x3 max-pool, stride 2).
        dropout: probability in [0, 1) of zeroing a pooled feature in training; 0 turns it off.
        stages: number of stages.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.

    Raises:
        ValueError: if an argument is outside its range; the message names it, its value and what is allowed.

    Randomness: initial weights and dropout use the global torch generator. Convolutions are drawn from
    N(0, 2 / fan_out), fan_out = kernel height * kernel width * output channels: He et al. 2015 (arXiv 1502.01852),
    equation 14, the initialization that the paper below refers to. The classifier keeps torch's default, which the
    paper leaves open.
    Source: He et al. 2015 (arXiv 1512.03385), section 4.2; checked against torchvision (outputs) and Table 6 (counts).

    Example:
        >>> net = CifarResNet(20, num_classes=10, in_channels=3)
        >>> sum(parameter.numel() for parameter in net.parameters())
        269722
    """

    def __init__(
        self,
        depth: int,
        width: int = 16,
        shortcut: Literal["identity", "projection"] = "identity",
        stem: Literal["cifar", "imagenet"] = "cifar",
        dropout: float = 0.0,
        stages: int = 3,
        *,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        _check_positive(width=width, stages=stages, num_classes=num_classes, in_channels=in_channels)
        _check_choice("shortcut", shortcut, SHORTCUTS)
        _check_choice("stem", stem, STEMS)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be in [0, 1)")
        blocks_per_stage = _blocks_per_stage(depth, stages)
        self.stem = _stem(stem, in_channels, width)
        blocks, channels = [], width
        for stage in range(stages):
            for index in range(blocks_per_stage):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(BasicBlock(channels, width * 2**stage, stride, shortcut))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features (B, D), D = channels of the last stage, of float images (B, C, H, W)."""
        return self.blocks(self.stem(images)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return unnormalised logits (B, K) of normalised float images (B, C, H, W)."""
        return self.classifier(self.dropout(self.features(images)))


def resnet18(
    stem: Literal["cifar", "imagenet"] = "cifar", dropout: float = 0.0, *, num_classes: int, in_channels: int
) -> CifarResNet:
    """Return ResNet-18: four stages of two basic blocks, widths 64 to 512, projection shortcuts.

    Args:
        stem: "imagenet" is the published network; "cifar" starts with a 3x3 convolution of stride 1 and has no
            max-pool, the usual form for images of 32x32 pixels.
        dropout: probability in [0, 1) of zeroing a pooled feature in training; 0 turns it off.
        num_classes: number of classes.
        in_channels: channels of the images.

    Returns:
        A network with freshly drawn weights; see :class:`CifarResNet` for shapes, errors and initialization.

    Source: He et al. 2015 (arXiv 1512.03385), Table 1; checked against torchvision.models.resnet18.
    """
    return CifarResNet(18, 64, "projection", stem, dropout, stages=4, num_classes=num_classes, in_channels=in_channels)


def _stem(kind: str, in_channels: int, width: int) -> nn.Sequential:
    """Layers between the image and the first stage."""
    if kind == "cifar":
        convolution = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    convolution = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True), pool)


def _blocks_per_stage(depth: int, stages: int) -> int:
    """The n of depth = 2 * stages * n + 2; ValueError with the nearest depths when there is none."""
    unit = 2 * stages
    blocks, rest = divmod(depth - 2, unit)
    if blocks >= 1 and rest == 0:
        return blocks
    below, above = blocks * unit + 2, (blocks + 1) * unit + 2
    nearest = f"{below} and {above}" if blocks >= 1 else f"{unit + 2}"
    raise ValueError(f"depth={depth}: must be {unit}n+2 with n of at least 1; nearest allowed: {nearest}")


def _check_positive(**counts: int) -> None:
    """ValueError for the first count below 1."""
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """ValueError when a word is not among the allowed ones."""
    if value not in allowed:
        nearest = nearest_name(str(value), allowed)
        hint = "" if nearest is None else f"; did you mean {nearest}?"
        raise ValueError(f"{name}={value}: must be one of {', '.join(allowed)}{hint}")

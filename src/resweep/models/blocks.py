"""Residual blocks, with the activation behind the sum (2015) and in front of each convolution (2016).

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth


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
        shortcut: "identity" (option A), "projection" (option B: 1x1 convolution and batch normalization), or "none",
            a plain block.
        drop: probability in [0, 1) of leaving out the convolutions in training, drawn for each image of a batch.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str, drop: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride, shortcut, norm=True)
        self.drop = StochasticDepth(drop, "row")

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalization in front of the sum."""
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.drop(self.bn2(self.conv2(out)))
        return F.relu(out if self.shortcut is None else out + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch normalization around a shortcut; the inner ones have a quarter width.

    Source: He et al. 2015 (arXiv 1512.03385), Figure 5 right and Table 1.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 4, not fewer than in_channels.
        stride: stride of the block.
        shortcut: as for :class:`BasicBlock`.
        drop: as for :class:`BasicBlock`.
        stride_first: whether the first 1x1 convolution has the stride, as in the paper, instead of the 3x3
            convolution, as in torchvision and in Goyal et al. 2017 (arXiv 1706.02677, section 5.1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str,
        drop: float = 0.0,
        stride_first: bool = False,
    ) -> None:
        super().__init__()
        inner = out_channels // 4
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride, shortcut, norm=True)
        self.drop = StochasticDepth(drop, "row")

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalization in front of the sum."""
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.drop(self.bn3(self.conv3(out)))
        return F.relu(out if self.shortcut is None else out + self.shortcut(x), inplace=True)


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each behind batch normalization and a ReLU, around a shortcut; nothing behind the sum.

    ``conv2(relu(bn2(conv1(a)))) + shortcut(x or a)`` with ``a = relu(bn1(x))``.
    Source: He et al. 2016 (arXiv 1603.05027), Figure 4(e); the dropout: Zagoruyko & Komodakis 2016 (arXiv 1605.07146),
    section 2.4.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; not fewer than in_channels.
        stride: stride of the first convolution and of the shortcut.
        shortcut: "identity" (option A) or "projection" (1x1 convolution without normalization).
        drop: as for :class:`BasicBlock`.
        activated: whether the shortcut starts from a instead of x; where the shape changes it always does.
        dropout: probability in [0, 1) of zeroing a value in front of the second convolution in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str,
        drop: float = 0.0,
        activated: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = _shortcut(in_channels, out_channels, stride, shortcut, norm=False)
        self.drop = StochasticDepth(drop, "row")
        self.activated = activated or stride > 1 or in_channels != out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        active = F.relu(self.bn1(x), inplace=True)
        out = F.relu(self.bn2(self.conv1(active)), inplace=True)
        out = self.conv2(self.dropout(out))
        return self.drop(out) + self.shortcut(active if self.activated else x)


class PreActBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each behind batch normalization and a ReLU, around a shortcut.

    Source: He et al. 2016 (arXiv 1603.05027), appendix.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 4, not fewer than in_channels.
        stride: stride of the block.
        shortcut: as for :class:`PreActBlock`.
        drop: as for :class:`BasicBlock`.
        activated: as for :class:`PreActBlock`.
        stride_first: whether the first 1x1 convolution has the stride, as in the paper, instead of the 3x3 one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str,
        drop: float = 0.0,
        activated: bool = False,
        stride_first: bool = False,
    ) -> None:
        super().__init__()
        inner = out_channels // 4
        first, second = (stride, 1) if stride_first else (1, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, stride=first, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=second, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.shortcut = _shortcut(in_channels, out_channels, stride, shortcut, norm=False)
        self.drop = StochasticDepth(drop, "row")
        self.activated = activated or stride > 1 or in_channels != out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        active = F.relu(self.bn1(x), inplace=True)
        out = F.relu(self.bn2(self.conv1(active)), inplace=True)
        out = F.relu(self.bn3(self.conv2(out)), inplace=True)
        return self.drop(self.conv3(out)) + self.shortcut(active if self.activated else x)


def _shortcut(in_channels: int, out_channels: int, stride: int, kind: str, *, norm: bool) -> nn.Module | None:
    """What is added to a block's convolutions; None for nothing."""
    if kind == "none":
        return None
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "identity":
        return SubsampleAndPad(stride, out_channels - in_channels)
    convolution = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels)) if norm else convolution

"""Residual networks and their plain counterparts, for small images and for ImageNet.

Shapes: B batch, C channels, H height, W width, K classes, D features.

Parameters of :class:`CifarResNet` for 3 input channels and 10 classes (basic blocks, width 16, 3 stages, unless said):

=====  ==================  ==========  ================================================================
depth  shortcut            parameters  published
=====  ==================  ==========  ================================================================
8      identity or none        75,290  not in the paper
14     identity or none       172,506  not in the paper
20     identity or none       269,722  0.27M, He et al. 2015, Table 6
20     projection             272,474  not in the paper
32     identity or none       464,154  0.46M, the same
44     identity or none       658,586  0.66M, the same
56     identity or none       853,018  0.85M, the same
110    identity or none     1,727,962  1.7M, the same
1202   identity            19,421,274  19.4M, the same
164    projection           1,704,154  1.7M, He et al. 2016, Table 4 (original unit; bottleneck blocks)
=====  ==================  ==========  ================================================================

Parameters of :class:`ResNet` with projection shortcuts for 3 input channels:

=====  ==========  ==========================  ============================  ==================
depth  block       CIFAR stem, 10 classes      ImageNet stem, 1000 classes   without shortcuts
=====  ==========  ==========================  ============================  ==================
18     basic       11,173,962                  11,689,512                    11,000,138 (CIFAR)
34     basic       21,282,122                  21,797,672                    21,108,298 (CIFAR)
50     bottleneck  23,520,842                  25,557,032                    not in the paper
101    bottleneck  42,512,970                  44,549,160                    not in the paper
152    bottleneck  58,156,618                  60,192,808                    not in the paper
=====  ==========  ==========================  ============================  ==================

The counts of the small family follow from the layer shapes of He et al. 2015 (arXiv 1512.03385), section 4.2, those of
the large one from Table 1; with the ImageNet stem they are torchvision's.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from resweep.models.blocks import BasicBlock, Bottleneck
from resweep.models.parts import INITS, check_choice, check_positive, check_probability, initialize
from resweep.models.residual import (
    BLOCKS,
    IMAGENET_BLOCKS,
    STEMS,
    ResidualNet,
    blocks_of_depth,
    check_depth,
    image_stem,
    stages_of_blocks,
)

SHORTCUTS = ("identity", "projection", "none")


class CifarResNet(ResidualNet):
    """Residual network of depth ``2 * stages * n + 2`` with n basic blocks per stage.

    Stage i (from 0) has ``width * 2**i`` channels; every stage but the first halves height and width. Average over all
    pixels, dropout, linear classifier. Three stages of widths 16, 32, 64 with identity shortcuts are the CIFAR-10
    networks of the paper, without shortcuts its plain networks; dropout and stochastic depth are additions, the paper
    has none. With bottleneck blocks the depth is ``3 * stages * n + 2`` and the stages have four times the channels.

    Args:
        depth: number of layers with weights (shortcuts not counted): 8, 14, 20, ... for three stages.
        width: channels of the first stage.
        shortcut: "identity" (option A: subsampled input, zero channels) or "projection" (option B: 1x1 convolution
            and batch normalization), used where the shape changes; "none" leaves out every shortcut: a plain network.
        stem: "cifar" (3x3 convolution, stride 1) or "imagenet" (7x7 convolution, stride 2; 3x3 max-pool, stride 2).
        dropout: probability in [0, 1) of zeroing a pooled feature in training; 0 turns it off.
        stages: number of stages.
        block: "basic" or "bottleneck" (its first 1x1 convolution has the stride, as in the paper).
        stochastic_depth: probability in [0, 1) of leaving out the last block, for each image and in training only; it
            grows linearly with depth from the first block on (Huang et al. 2016, arXiv 1603.09382); 0 turns it off.
        init: how convolutions are drawn, see :func:`resweep.models.parts.initialize`.
        zero_init_residual: whether the last normalization of each block starts with weight 0, so that the block starts
            as its shortcut (Goyal et al. 2017, arXiv 1706.02677, section 5.1).
        num_classes: K, number of classes.
        in_channels: C, channels of the images.

    Raises:
        ValueError: if an argument is outside its range; the message names it, its value and what is allowed.

    Randomness: initial weights, dropout and stochastic depth use the global torch generator. Convolutions are drawn
    from N(0, 2 / fan_out), fan_out = kernel height * kernel width * output channels: He et al. 2015 (arXiv 1502.01852),
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
        shortcut: Literal["identity", "projection", "none"] = "identity",
        stem: Literal["cifar", "imagenet"] = "cifar",
        dropout: float = 0.0,
        stages: int = 3,
        block: Literal["basic", "bottleneck"] = "basic",
        stochastic_depth: float = 0.0,
        init: Literal["he_fan_out", "he_fan_in", "glorot", "orthogonal", "torch"] = "he_fan_out",
        zero_init_residual: bool = False,
        *,
        num_classes: int,
        in_channels: int,
    ) -> None:
        check_positive(width=width, stages=stages, num_classes=num_classes, in_channels=in_channels)
        check_probability(dropout=dropout, stochastic_depth=stochastic_depth)
        _check_shortcut(shortcut, stochastic_depth, zero_init_residual)
        check_choice("stem", stem, STEMS)
        check_choice("block", block, BLOCKS)
        check_choice("init", init, INITS)
        layers, expansion = (2, 1) if block == "basic" else (3, 4)
        blocks = [blocks_of_depth(depth, layers * stages, 2)] * stages
        widths = [expansion * width * 2**stage for stage in range(stages)]
        make = BasicBlock if block == "basic" else partial(Bottleneck, stride_first=True)
        first = image_stem(stem, in_channels, width)
        made = stages_of_blocks(partial(make, shortcut=shortcut), blocks, width, widths, stochastic_depth)
        super().__init__(first, made, None, widths[-1], dropout, num_classes)
        _draw(self, init, zero_init_residual)


class ResNet(ResidualNet):
    """ResNet-18, 34, 50, 101 or 152: four stages of 64 to 512 channels, four times as many from depth 50 on.

    Basic blocks up to depth 34, bottleneck blocks from 50 on, whose 3x3 convolution has the stride: torchvision's form;
    in the paper the first 1x1 convolution has it. Average over all pixels, dropout, linear classifier. With the
    ImageNet stem, torchvision's weights fit in the order of their names.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem: "imagenet" is the published network; "cifar" starts with a 3x3 convolution of stride 1 and has no
            max-pool, the usual form for images of 32x32 pixels.
        dropout: probability in [0, 1) of zeroing a pooled feature in training; 0 turns it off.
        shortcut: as for :class:`CifarResNet`.
        stochastic_depth: as for :class:`CifarResNet`.
        init: as for :class:`CifarResNet`.
        zero_init_residual: as for :class:`CifarResNet`.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.

    Raises:
        ValueError: if an argument is outside its range; the message names it, its value and what is allowed.

    Randomness: as for :class:`CifarResNet`.
    Source: He et al. 2015 (arXiv 1512.03385), Table 1; checked against torchvision (counts of all, outputs of 18 to
    50).
    """

    def __init__(
        self,
        depth: int,
        stem: Literal["cifar", "imagenet"] = "cifar",
        dropout: float = 0.0,
        shortcut: Literal["identity", "projection", "none"] = "projection",
        stochastic_depth: float = 0.0,
        init: Literal["he_fan_out", "he_fan_in", "glorot", "orthogonal", "torch"] = "he_fan_out",
        zero_init_residual: bool = False,
        *,
        num_classes: int,
        in_channels: int,
    ) -> None:
        check_depth(depth, tuple(IMAGENET_BLOCKS))
        check_positive(num_classes=num_classes, in_channels=in_channels)
        check_probability(dropout=dropout, stochastic_depth=stochastic_depth)
        _check_shortcut(shortcut, stochastic_depth, zero_init_residual)
        check_choice("stem", stem, STEMS)
        check_choice("init", init, INITS)
        make, expansion = (BasicBlock, 1) if depth < 50 else (Bottleneck, 4)
        widths = [expansion * width for width in (64, 128, 256, 512)]
        first = image_stem(stem, in_channels, 64)
        blocks = IMAGENET_BLOCKS[depth]
        made = stages_of_blocks(partial(make, shortcut=shortcut), blocks, 64, widths, stochastic_depth)
        super().__init__(first, made, None, widths[-1], dropout, num_classes)
        _draw(self, init, zero_init_residual)


def resnet18(
    stem: Literal["cifar", "imagenet"] = "cifar", dropout: float = 0.0, *, num_classes: int, in_channels: int
) -> ResNet:
    """Return ResNet-18: four stages of two basic blocks, widths 64 to 512, projection shortcuts.

    Args:
        stem: as for :class:`ResNet`.
        dropout: as for :class:`ResNet`.
        num_classes: number of classes.
        in_channels: channels of the images.

    Returns:
        A network with freshly drawn weights; see :class:`ResNet` for shapes, errors and initialization.

    Source: He et al. 2015 (arXiv 1512.03385), Table 1; checked against torchvision.models.resnet18.
    """
    return ResNet(18, stem, dropout, num_classes=num_classes, in_channels=in_channels)


def _check_shortcut(shortcut: str, stochastic_depth: float, zero_init_residual: bool) -> None:
    """ValueError for an unknown shortcut, or for a setting that would leave a plain net without a signal."""
    check_choice("shortcut", shortcut, SHORTCUTS)
    if shortcut == "none" and stochastic_depth > 0:
        raise ValueError(
            f"stochastic_depth={stochastic_depth}: must be 0 with shortcut=none, where nothing would remain"
        )
    if shortcut == "none" and zero_init_residual:
        raise ValueError("zero_init_residual=True: must be false with shortcut=none, where nothing would remain")


def _draw(net: ResidualNet, init: str, zero_init_residual: bool) -> None:
    """Draw the convolutions; let every block start as its shortcut where that is wanted."""
    initialize(net, init)
    if zero_init_residual:
        for block in net.blocks:
            nn.init.zeros_(block.last_norm.weight)

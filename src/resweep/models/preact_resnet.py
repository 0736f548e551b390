"""Residual networks with the activation in front of each convolution.

Shapes: B batch, C channels, H height, W width, K classes, D features.

Parameters for 3 input channels and 10 classes:

=====================================  ===========  ==========  ==================================================
net                                    final norm   parameters  published
=====================================  ===========  ==========  ==================================================
depth 20, basic, identity              yes             269,722  the count of the original unit, as in the paper
depth 56, basic, identity              yes             853,018  the same
depth 110, basic, identity             yes           1,727,962  the same
depth 164, bottleneck, projection      yes           1,703,258  1.7M, He et al. 2016, Table 4
depth 1001, bottleneck, projection     yes          10,327,706  10.2M, the same table
PreActResNet-18                        no           11,171,146  the widely used form for CIFAR
PreActResNet-18                        yes          11,172,170  the form with a normalization before the average
PreActResNet-18, mixup's form          no           11,171,274  the code of Zhang et al. 2018 (arXiv 1710.09412)
=====================================  ===========  ==========  ==================================================

The counts follow from the layer shapes of He et al. 2016 (arXiv 1603.05027), appendix, and of the released code of
that paper (KaimingHe/resnet-1k-layers); imgclsmob counts 1,703,258 and 10,327,706 as well.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from resweep.models.blocks import PreActBlock, PreActBottleneck
from resweep.models.parts import INITS, check_choice, check_positive, check_probability, initialize
from resweep.models.residual import (
    BLOCKS,
    IMAGENET_BLOCKS,
    ResidualNet,
    blocks_of_depth,
    check_depth,
    stages_of_blocks,
)

SHORTCUTS = ("identity", "projection")
ACTIVATED = ("change", "first", "all")


class CifarPreActResNet(ResidualNet):
    """Pre-activation residual network of depth 6n+2 (basic blocks) or 9n+2 (bottleneck blocks), n blocks per stage.

    Three stages of width, 2 width and 4 width channels, four times as many with bottleneck blocks; the second and the
    third stage halve height and width. The shortcut of the first block, and of each block that changes the shape,
    starts from the activated input. Average over all pixels, dropout, linear classifier. Dropout and stochastic depth
    are additions, the paper has none.

    Args:
        depth: number of layers with weights (shortcuts not counted).
        width: channels of the first convolution.
        block: "basic" or "bottleneck" (its first 1x1 convolution has the stride, as in the released code).
        shortcut: "identity" (option A) or "projection" (1x1 convolution), used where the shape changes. The paper has
            projections in its bottleneck nets.
        final_norm: whether batch normalization and a ReLU stand between the last block and the average, as published.
        dropout: probability in [0, 1) of zeroing a pooled feature in training; 0 turns it off.
        stochastic_depth: probability in [0, 1) of leaving out the last block, for each image and in training only; it
            grows linearly with depth from the first block on (Huang et al. 2016, arXiv 1603.09382); 0 turns it off.
        init: how convolutions are drawn, see :func:`resweep.models.parts.initialize`; but for "torch" the bias of the
            classifier is zero, as in the released code.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.

    Raises:
        ValueError: if an argument is outside its range; the message names it, its value and what is allowed.

    Randomness: initial weights, dropout and stochastic depth use the global torch generator.
    Source: He et al. 2016 (arXiv 1603.05027), Figure 4(e) and appendix; checked against Table 4 (counts).

    Example:
        >>> net = CifarPreActResNet(20, num_classes=10, in_channels=3)
        >>> sum(parameter.numel() for parameter in net.parameters())
        269722
    """

    def __init__(
        self,
        depth: int,
        width: int = 16,
        block: Literal["basic", "bottleneck"] = "basic",
        shortcut: Literal["identity", "projection"] = "identity",
        final_norm: bool = True,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        init: Literal["he_fan_out", "he_fan_in", "glorot", "orthogonal", "torch"] = "he_fan_out",
        *,
        num_classes: int,
        in_channels: int,
    ) -> None:
        check_positive(width=width, num_classes=num_classes, in_channels=in_channels)
        check_probability(dropout=dropout, stochastic_depth=stochastic_depth)
        check_choice("block", block, BLOCKS)
        check_choice("shortcut", shortcut, SHORTCUTS)
        check_choice("init", init, INITS)
        layers, expansion = (2, 1) if block == "basic" else (3, 4)
        blocks = [blocks_of_depth(depth, 3 * layers, 2)] * 3
        widths = [expansion * width * 2**stage for stage in range(3)]
        kind = PreActBlock if block == "basic" else partial(PreActBottleneck, stride_first=True)
        stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1, bias=False))
        stages = stages_of_blocks(partial(kind, shortcut=shortcut), blocks, width, widths, stochastic_depth)
        stages[0][0].activated = True
        super().__init__(stem, stages, norm_and_relu(widths[-1], final_norm), widths[-1], dropout, num_classes)
        draw(self, init)


class PreActResNet(ResidualNet):
    """PreActResNet-18, 34, 50, 101 or 152 for small images: four stages, 3x3 first convolution, projection shortcuts.

    The stages have the blocks and widths of He et al. 2015 (arXiv 1512.03385), Table 1. The defaults are the form that
    the literature on mixup, adversarial training and label noise trains on CIFAR: no activation in front of the
    average. Bottleneck blocks, from depth 50 on, have the stride in the 3x3 convolution.

    Args:
        depth: 18, 34, 50, 101 or 152.
        final_norm: whether batch normalization and a ReLU stand between the last block and the average, as in
            He et al. 2016.
        stem_norm: whether batch normalization and a ReLU stand behind the first convolution.
        activated: which shortcuts start from the activated input: "change" those of blocks that change the shape,
            "first" these and that of the first block (He et al. 2016), "all" every one. The code of Zhang et al. 2018
            (arXiv 1710.09412) has stem_norm and "all".
        dropout: probability in [0, 1) of zeroing a pooled feature in training; 0 turns it off.
        stochastic_depth: as for :class:`CifarPreActResNet`.
        init: as for :class:`CifarPreActResNet`; the default is torch's, which that code keeps.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.

    Raises:
        ValueError: if an argument is outside its range; the message names it, its value and what is allowed.

    Randomness: as for :class:`CifarPreActResNet`.
    Source: He et al. 2016 (arXiv 1603.05027), Figure 4(e), in the form of kuangliu/pytorch-cifar; checked against its
    parameter count.
    """

    def __init__(
        self,
        depth: int = 18,
        final_norm: bool = False,
        stem_norm: bool = False,
        activated: Literal["change", "first", "all"] = "change",
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        init: Literal["he_fan_out", "he_fan_in", "glorot", "orthogonal", "torch"] = "torch",
        *,
        num_classes: int,
        in_channels: int,
    ) -> None:
        check_depth(depth, tuple(IMAGENET_BLOCKS))
        check_positive(num_classes=num_classes, in_channels=in_channels)
        check_probability(dropout=dropout, stochastic_depth=stochastic_depth)
        check_choice("activated", activated, ACTIVATED)
        check_choice("init", init, INITS)
        kind, expansion = (PreActBlock, 1) if depth < 50 else (PreActBottleneck, 4)
        widths = [expansion * width for width in (64, 128, 256, 512)]
        stem = nn.Sequential(nn.Conv2d(in_channels, 64, 3, padding=1, bias=False), *norm_and_relu(64, stem_norm))
        make = partial(kind, shortcut="projection", activated=activated == "all")
        stages = stages_of_blocks(make, IMAGENET_BLOCKS[depth], 64, widths, stochastic_depth)
        stages[0][0].activated |= activated == "first"
        super().__init__(stem, stages, norm_and_relu(widths[-1], final_norm), widths[-1], dropout, num_classes)
        draw(self, init)


def norm_and_relu(channels: int, wanted: bool = True) -> nn.Sequential:
    """Return batch normalization and a ReLU, or nothing at all."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)) if wanted else nn.Sequential()


def draw(net: ResidualNet, init: str) -> None:
    """Draw the convolutions and set the classifier's bias to zero; "torch" leaves everything as it is.

    Args:
        net: the network, changed in place.
        init: one of :data:`resweep.models.parts.INITS`.
    """
    initialize(net, init)
    if init != "torch":
        nn.init.zeros_(net.classifier.bias)

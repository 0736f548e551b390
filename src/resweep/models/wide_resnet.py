"""Wide residual networks: pre-activation blocks with many channels and dropout between their convolutions.

Shapes: B batch, C channels, H height, W width, K classes, D features.

Parameters for 3 input channels and 10 classes:

=========  ============  ==========  ==============================================
depth      widen factor  parameters  Zagoruyko & Komodakis 2016
=========  ============  ==========  ==============================================
16         1                175,066  not in the paper
16         2                691,674  not in the paper
16         4              2,748,890  Table 6, no count
16         8             10,961,370  11.0M, Tables 4 and 5
28         2              1,467,610  not in the paper
28         10            36,479,194  36.5M, Tables 4 and 5
40         1                563,930  0.6M, Table 4
40         2              2,243,546  2.2M, Table 4
40         4              8,949,210  8.9M, Tables 4 and 5
52         1                758,362  Table 6, no count
=========  ============  ==========  ==============================================

The exact counts follow from the layer shapes of the paper (arXiv 1605.07146), Table 1, and of its released code.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from resweep.models.blocks import PreActBlock
from resweep.models.parts import INITS, check_choice, check_positive, check_probability
from resweep.models.preact_resnet import draw, norm_and_relu
from resweep.models.residual import ResidualNet, blocks_of_depth, stages_of_blocks


class WideResNet(ResidualNet):
    """Wide residual network WRN-depth-k: depth ``6n + 4``, n blocks per stage, widths 16k, 32k and 64k.

    A 3x3 convolution to 16 channels, three stages of :class:`resweep.models.blocks.PreActBlock` of which the second and
    the third halve height and width, batch normalization and a ReLU, average over all pixels, linear classifier. The
    shortcut is a 1x1 convolution of the activated input where the number of channels changes, else the input itself.

    Args:
        depth: number of convolutions, those of the shortcuts included as one per stage: 10, 16, 22, 28, 34, 40, ...
        widen_factor: k, number by which the widths 16, 32 and 64 are multiplied.
        dropout: probability in [0, 1) of zeroing a value in front of the second convolution of each block in training;
            0 turns it off. The paper has 0.3 for CIFAR and 0.4 for SVHN.
        stochastic_depth: probability in [0, 1) of leaving out the last block, for each image and in training only; it
            grows linearly with depth from the first block on (Huang et al. 2016, arXiv 1603.09382); 0 turns it off.
            An addition, the paper has none.
        init: how convolutions are drawn, see :func:`resweep.models.parts.initialize`; but for "torch" the bias of the
            classifier is zero, as in the released code.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.

    Raises:
        ValueError: if an argument is outside its range; the message names it, its value and what is allowed.

    Randomness: initial weights, dropout and stochastic depth use the global torch generator. Convolutions are drawn
    from N(0, 2 / fan_out), as in the released code.
    Source: Zagoruyko & Komodakis 2016 (arXiv 1605.07146), Table 1 and section 2.4; checked against Tables 4 and 5
    (counts).

    Example:
        >>> net = WideResNet(16, 1, num_classes=10, in_channels=3)
        >>> sum(parameter.numel() for parameter in net.parameters())
        175066
    """

    def __init__(
        self,
        depth: int,
        widen_factor: int = 1,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        init: Literal["he_fan_out", "he_fan_in", "glorot", "orthogonal", "torch"] = "he_fan_out",
        *,
        num_classes: int,
        in_channels: int,
    ) -> None:
        check_positive(widen_factor=widen_factor, num_classes=num_classes, in_channels=in_channels)
        check_probability(dropout=dropout, stochastic_depth=stochastic_depth)
        check_choice("init", init, INITS)
        blocks = [blocks_of_depth(depth, 6, 4)] * 3
        widths = [widen_factor * width for width in (16, 32, 64)]
        stem = nn.Sequential(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False))
        make = partial(PreActBlock, shortcut="projection", dropout=dropout)
        stages = stages_of_blocks(make, blocks, 16, widths, stochastic_depth)
        super().__init__(stem, stages, norm_and_relu(widths[-1]), widths[-1], 0.0, num_classes)
        draw(self, init)

"""VGG networks: blocks of 3x3 convolutions with a max-pool behind each.

Shapes: B batch, C channels, H height, W width, K classes, D features.

Parameters for 3 input channels, without and with batch normalization:

=====  ========  ====  ===========  ===========  ==========================================================
depth  head      K     without      with         published
=====  ========  ====  ===========  ===========  ==========================================================
11     cifar     10     9,225,610    9,231,114   not in the paper
13     cifar     10     9,410,122    9,416,010   not in the paper
16     cifar     10    14,719,818   14,728,266   the layers of kuangliu/pytorch-cifar, models/vgg.py
19     cifar     10    20,029,514   20,040,522   the same
11     imagenet  1000  132,863,336  132,868,840  133M, Simonyan & Zisserman 2014, Table 2; torchvision
13     imagenet  1000  133,047,848  133,053,736  133M, the same
16     imagenet  1000  138,357,544  138,365,992  138M, the same
19     imagenet  1000  143,667,240  143,678,248  144M, the same
16     hidden    10    14,982,474   14,991,946   with: the layers of szagoruyko/cifar.torch, vgg_bn_drop.lua
=====  ========  ====  ===========  ===========  ==========================================================

The layers are columns A, B, D and E of Simonyan & Zisserman 2014 (arXiv 1409.1556), Table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from resweep.models.parts import check_choice, check_positive, check_probability, initialize
from resweep.models.pooling import AveragePool, check_image_size

# Convolutions of each block, by depth; all blocks have these output channels.
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
HEADS = ("cifar", "hidden", "imagenet")
SMALLEST = 32  # five halvings leave one pixel


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions with a ReLU behind each, a 2x2 max-pool behind every block, and a head.

    Heads, each ending with dropout and a linear classifier:

    - ``cifar``: average over all remaining pixels (one for 32x32 images).
    - ``imagenet``: average onto 7x7 pixels, two hidden layers of 4096 with ReLU, the first followed by dropout; the
      published network for 224x224 images.
    - ``hidden``: average over all remaining pixels, dropout, a hidden layer of 512 with batch normalization (where
      the net has it) and ReLU.

    Args:
        depth: number of layers with weights: 11, 13, 16 or 19 (counted with the three linear layers of "imagenet").
        batch_norm: whether a batch normalization stands behind every convolution.
        head: "cifar", "imagenet" or "hidden".
        dropout: probability in [0, 1) of every dropout of the head; None is what the head is published with: 0 for
            "cifar", 0.5 for the others.
        stage_dropout: for each of the five blocks, probability in [0, 1) of zeroing a value behind each of its
            convolutions but the last; None is no such dropout.
        init: how weights are drawn, see :func:`resweep.models.parts.initialize`; linear layers are N(0, 0.01**2) with
            bias 0 in the head "imagenet" and keep torch's default in the others. "torch" leaves all to torch.
        batch_norm_eps: added to the variance by every batch normalization.
        ceil_mode: whether a max-pool keeps an odd last row and column, which allows images of any size.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.
        image_size: (H, W) of the images.

    Raises:
        ValueError: if an argument is outside its range or the images are smaller than 32x32 without ceil_mode.

    Randomness: initial weights and dropout use the global torch generator.
    Source: Simonyan & Zisserman 2014 (arXiv 1409.1556), Table 1 and section 3.1 (dropout 0.5). The initialization
    "he_fan_out" is torchvision's; the paper starts the deeper nets from a shallow one and notes that the rule
    "glorot" works as well (section 3.1). Checked against torchvision.models.vgg (outputs and counts).

    Example:
        >>> net = VGG(16, batch_norm=True, head="cifar", num_classes=10, in_channels=3, image_size=(32, 32))
        >>> sum(parameter.numel() for parameter in net.parameters())
        14728266
    """

    def __init__(
        self,
        depth: int,
        batch_norm: bool = False,
        head: Literal["cifar", "imagenet", "hidden"] = "imagenet",
        dropout: float | None = None,
        stage_dropout: Sequence[float] | None = None,
        init: str = "he_fan_out",
        batch_norm_eps: float = 1e-5,
        ceil_mode: bool = False,
        *,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        if depth not in CONVOLUTIONS:
            raise ValueError(f"depth={depth}: must be one of {', '.join(map(str, CONVOLUTIONS))}")
        check_choice("head", head, HEADS)
        check_positive(num_classes=num_classes, in_channels=in_channels)
        dropout = {"cifar": 0.0}.get(head, 0.5) if dropout is None else dropout
        check_probability(dropout=dropout)
        check_image_size(image_size, 1 if ceil_mode else SMALLEST, f"VGG-{depth}", "resnet20")
        rates = _stage_rates(stage_dropout)
        norm = (lambda channels: [nn.BatchNorm2d(channels, batch_norm_eps)]) if batch_norm else (lambda channels: [])
        self.stages = nn.Sequential()
        channels = in_channels
        for width, convolutions, rate in zip(CHANNELS, CONVOLUTIONS[depth], rates, strict=True):
            layers: list[nn.Module] = []
            for index in range(convolutions):
                layers += [nn.Conv2d(channels, width, 3, padding=1), *norm(width), nn.ReLU(inplace=True)]
                layers += [nn.Dropout(rate)] if rate > 0 and index < convolutions - 1 else []
                channels = width
            self.stages.append(nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=ceil_mode)))
        self.pool = AveragePool(7 if head == "imagenet" else 1)
        self.hidden, width = _hidden(head, dropout, batch_norm, batch_norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)
        initialize(self, init)
        if head == "imagenet" and init != "torch":
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, 0, 0.01)
                    nn.init.zeros_(module.bias)

    def features(self, images: Tensor) -> Tensor:
        """Return what the classifier receives, before its dropout: (B, D), of float images (B, C, H, W)."""
        return self.hidden(self.pool(self.stages(images)).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Return unnormalised logits (B, K) of normalised float images (B, C, H, W)."""
        return self.classifier(self.dropout(self.features(images)))

    def layer_groups(self) -> list[nn.Module]:
        """Return the parts of the net in order of depth: five blocks, the hidden layers if any, the classifier."""
        hidden = [self.hidden] if len(self.hidden) > 0 else []
        return [*self.stages, *hidden, self.classifier]


def vgg16_bn_dropout(
    dropout: float = 0.5,
    stage_dropout: Sequence[float] = (0.3, 0.4, 0.4, 0.4, 0.4),
    init: str = "he_fan_out",
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
) -> VGG:
    """Return the VGG-16 with batch normalization and dropout of the literature on adaptive methods.

    Behind every convolution but the last of a block stands dropout: 0.3 in the first block, 0.4 in the others. The
    head has one hidden layer of 512 with dropout before and behind it. Batch normalizations add 0.001 to the variance;
    max-pools keep odd last rows, so that images of any size work.

    Args:
        dropout: probability in [0, 1) of both dropouts of the head.
        stage_dropout: probability in [0, 1) of each of the five blocks.
        init: how the convolutions are drawn; linear layers keep torch's default, as there.
        num_classes: number of classes.
        in_channels: channels of the images.
        image_size: (H, W) of the images.

    Returns:
        A network with freshly drawn weights; see :class:`VGG`.

    Source: S. Zagoruyko, github.com/szagoruyko/cifar.torch, models/vgg_bn_drop.lua; the net of Wilson et al. 2017
    (arXiv 1705.08292), section 4.2.
    """
    return VGG(
        16, True, "hidden", dropout, stage_dropout, init, batch_norm_eps=1e-3, ceil_mode=True,
        num_classes=num_classes, in_channels=in_channels, image_size=image_size,
    )  # fmt: skip


def _stage_rates(stage_dropout: Sequence[float] | None) -> list[float]:
    """One drop rate per block."""
    rates = [0.0] * len(CHANNELS) if stage_dropout is None else list(stage_dropout)
    if len(rates) != len(CHANNELS):
        raise ValueError(f"stage_dropout={rates}: must be {len(CHANNELS)} probabilities, one for each block")
    for rate in rates:
        check_probability(stage_dropout=rate)
    return rates


def _hidden(head: str, dropout: float, batch_norm: bool, eps: float) -> tuple[nn.Sequential, int]:
    """Hidden layers of a head, and the width behind them."""
    width = CHANNELS[-1]
    if head == "cifar":
        return nn.Sequential(), width
    if head == "hidden":
        norm = [nn.BatchNorm1d(width, eps)] if batch_norm else []
        layers = [nn.Dropout(dropout), nn.Linear(width, width), *norm, nn.ReLU(inplace=True)]
        return nn.Sequential(*layers), width
    first = [nn.Linear(width * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return nn.Sequential(*first, nn.Linear(4096, 4096), nn.ReLU(inplace=True)), 4096

"""AlexNet, for ImageNet and for small images.

Shapes: B batch, C channels, H height, W width, K classes, D features.

Parameters for 3 input channels:

========  =======  ====  ==========  ==================================================================
form      image    K     parameters  published
========  =======  ====  ==========  ==================================================================
AlexNet   224x224  1000  61,100,840  torchvision; 60M, Krizhevsky et al. 2012, the net on two processors
small     28x28    10     1,387,786  Zhang et al. 2017, Table 1
small     32x32    10     1,756,426  the same net on larger images
========  =======  ====  ==========  ==================================================================
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resweep.models.parts import check_positive, check_probability, initialize
from resweep.models.pooling import AveragePool, ResponseNorm, SamePad, check_image_size

SMALLEST = 63  # the third max-pool is left with one pixel


class AlexNet(nn.Module):
    """Five convolutions, three max-pools, two hidden layers of 4096 with dropout in front of each.

    The form for one processor, without local response normalization.

    Args:
        dropout: probability in [0, 1) of zeroing an input of a hidden layer in training; 0 turns it off.
        init: how the convolutions are drawn, see :func:`resweep.models.parts.initialize`; "torch", as in torchvision.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.
        image_size: (H, W) of the images, at least 63x63.

    Raises:
        ValueError: if an argument is outside its range or the images are too small.

    Randomness: initial weights and dropout use the global torch generator.
    Source: Krizhevsky 2014 (arXiv 1404.5997), section 5, after Krizhevsky et al. 2012 (NeurIPS); dropout 0.5 from
    section 4.2 of the latter. Checked against torchvision.models.alexnet (outputs and count).
    """

    def __init__(
        self,
        dropout: float = 0.5,
        init: str = "torch",
        *,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_channels=in_channels)
        check_probability(dropout=dropout)
        check_image_size(image_size, SMALLEST, "AlexNet", "alexnet_small")
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv2d(in_channels, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), _pool()),
            nn.Sequential(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), _pool()),
            nn.Sequential(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True)),
            nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True)),
            nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), _pool()),
        )
        self.pool = AveragePool(6)
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True),
            nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.classifier = nn.Linear(4096, num_classes)
        initialize(self, init)

    def features(self, images: Tensor) -> Tensor:
        """Return the last hidden layer (B, 4096) of float images (B, C, H, W)."""
        return self.hidden(self.pool(self.stages(images)).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Return unnormalised logits (B, K) of normalised float images (B, C, H, W)."""
        return self.classifier(self.features(images))

    def layer_groups(self) -> list[nn.Module]:
        """Return the parts of the net in order of depth: five convolutions, the two hidden layers, the classifier."""
        return [*self.stages, self.hidden[:3], self.hidden[3:], self.classifier]


class SmallAlexNet(nn.Module):
    """Two modules of 5x5 convolution, ReLU, 3x3 max-pool of stride 2 and response normalization; two hidden layers.

    The convolutions have 64 channels, the hidden layers 384 and 192 units. The paper leaves open the channels, which
    follow from its count of parameters, the constants of the normalization (here those of Krizhevsky et al. 2012) and
    the initialization (here torch's default). It trains on the central 28x28 pixels of CIFAR-10.

    Args:
        dropout: probability in [0, 1) of zeroing an input of a hidden layer in training; 0 is off, as in the paper.
        init: how convolutions and linear layers are drawn, see :func:`resweep.models.parts.initialize`.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.
        image_size: (H, W) of the images, any size; the first hidden layer has 16 H W inputs where 4 divides both.

    Raises:
        ValueError: if an argument is outside its range.

    Randomness: initial weights and dropout use the global torch generator.
    Source: Zhang et al. 2017 (arXiv 1611.03530), appendix A ("small Alexnet"); checked against its Table 1 (count).

    Example:
        >>> net = SmallAlexNet(num_classes=10, in_channels=3, image_size=(28, 28))
        >>> sum(parameter.numel() for parameter in net.parameters())
        1387786
    """

    def __init__(
        self,
        dropout: float = 0.0,
        init: str = "torch",
        *,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_channels=in_channels)
        check_probability(dropout=dropout)
        check_image_size(image_size, 1, "the small AlexNet", "alexnet_small")
        self.stages = nn.Sequential(_module(in_channels), _module(64))
        with torch.device("meta"):
            pixels = nn.Sequential(SamePad(3, 2), _pool(), SamePad(3, 2), _pool())(torch.empty(1, 1, *image_size))
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(64 * pixels.numel(), 384), nn.ReLU(inplace=True),
            nn.Dropout(dropout), nn.Linear(384, 192), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.classifier = nn.Linear(192, num_classes)
        initialize(self, init, linear=True)

    def features(self, images: Tensor) -> Tensor:
        """Return the last hidden layer (B, 192) of float images (B, C, H, W)."""
        return self.hidden(self.stages(images).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Return unnormalised logits (B, K) of normalised float images (B, C, H, W)."""
        return self.classifier(self.features(images))

    def layer_groups(self) -> list[nn.Module]:
        """Return the parts of the net in order of depth: two modules, two hidden layers, the classifier."""
        return [*self.stages, self.hidden[:3], self.hidden[3:], self.classifier]


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2)


def _module(in_channels: int) -> nn.Sequential:
    """Convolution, ReLU, max-pool, normalization; zeros around a pool change nothing behind a ReLU."""
    convolution = nn.Conv2d(in_channels, 64, 5, padding=2)
    return nn.Sequential(convolution, nn.ReLU(inplace=True), SamePad(3, 2), _pool(), ResponseNorm())

"""Small test problems of the optimizer benchmark DeepOBS, and the All-CNN it includes.

Shapes: B batch, C channels, H height, W width, K classes, D features.

========  ========  ====  ==========  ==================================================================
net       image     K     parameters  published
========  ========  ====  ==========  ==================================================================
2c2d      1x28x28   10     3,274,634  the layers of DeepOBS, fmnist_2c2d
3c3d      3x32x32   10       895,210  the layers of DeepOBS, cifar10_3c3d
All-CNN   3x32x32   10     1,369,738  1.4M, Springenberg et al. 2014, Table 1 and section 3 (network C)
All-CNN   3x32x32   100    1,387,108  the layers of DeepOBS, cifar100_allcnnc
========  ========  ====  ==========  ==================================================================

Schneider et al. 2019, "DeepOBS: A Deep Learning Optimizer Benchmark Suite" (arXiv 1903.05499); the layers are those of
github.com/fsschneider/DeepOBS, folder deepobs/tensorflow/testproblems. Its L2 term c * l2_loss(W) on the weights is
``optimizer.weight_decay=c optimizer.no_decay=[bias]``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from resweep.models.parts import INITS, check_choice, check_positive, check_probability, initialize
from resweep.models.pooling import SamePad, check_image_size

INIT_CHOICES = ("deepobs", *INITS)
SMALLEST = 9  # of 3c3d and All-CNN-C: a 3x3 window without padding stands behind the halvings


class Net2c2d(nn.Module):
    """Two 5x5 convolutions (32 and 64 channels), each with ReLU and a 2x2 max-pool; a hidden layer of 1024.

    Args:
        dropout: probability in [0, 1) of zeroing a hidden unit in training; 0 is off, as published.
        init: "deepobs": N(0, 0.05**2) cut at two standard deviations, biases 0.05; or a rule of
            :func:`resweep.models.parts.initialize` for convolutions and linear layers.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.
        image_size: (H, W) of the images, any size; the hidden layer has 64 ceil(H / 4) ceil(W / 4) inputs.

    Raises:
        ValueError: if an argument is outside its range.

    Randomness: initial weights and dropout use the global torch generator.
    Source: DeepOBS (arXiv 1903.05499), problem fmnist_2c2d.

    Example:
        >>> net = Net2c2d(num_classes=10, in_channels=1, image_size=(28, 28))
        >>> sum(parameter.numel() for parameter in net.parameters())
        3274634
    """

    def __init__(
        self,
        dropout: float = 0.0,
        init: str = "deepobs",
        *,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        _check(init, num_classes, in_channels, dropout=dropout)
        check_image_size(image_size, 1, "2c2d", "2c2d")
        self.stages = nn.Sequential(_layer(in_channels, 32, 5, pool=2), _layer(32, 64, 5, pool=2))
        self.hidden = nn.Sequential(nn.Linear(_outputs(self.stages, in_channels, image_size), 1024), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1024, num_classes)
        if init != "deepobs":
            initialize(self, init, linear=True)
            return
        for module in _weighted(self):
            nn.init.trunc_normal_(module.weight, std=0.05, a=-0.1, b=0.1)
            nn.init.constant_(module.bias, 0.05)

    def features(self, images: Tensor) -> Tensor:
        """Return the hidden layer (B, 1024) of float images (B, C, H, W)."""
        return self.hidden(self.stages(images).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Return unnormalised logits (B, K) of normalised float images (B, C, H, W)."""
        return self.classifier(self.dropout(self.features(images)))

    def layer_groups(self) -> list[nn.Module]:
        """Return the parts of the net in order of depth: two convolutions, the hidden layer, the classifier."""
        return [*self.stages, self.hidden, self.classifier]


class Net3c3d(nn.Module):
    """Three convolutions (64, 96, 128 channels), each with ReLU and a 3x3 max-pool of stride 2; 512 and 256 units.

    The first two convolutions, 5x5 and 3x3, have no padding; the third has, and so have the max-pools.

    Args:
        dropout: probability in [0, 1) of zeroing a hidden unit in training; 0 is off, as published.
        init: "deepobs": convolutions normal, cut at two standard deviations, with variance 2 / (fan_in + fan_out),
            linear layers uniform with that variance, biases 0; or a rule of
            :func:`resweep.models.parts.initialize` for convolutions and linear layers.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.
        image_size: (H, W) of the images, at least 9x9.

    Raises:
        ValueError: if an argument is outside its range or the images are too small.

    Randomness: initial weights and dropout use the global torch generator.
    Source: DeepOBS (arXiv 1903.05499), problem cifar10_3c3d.

    Example:
        >>> net = Net3c3d(num_classes=10, in_channels=3, image_size=(32, 32))
        >>> sum(parameter.numel() for parameter in net.parameters())
        895210
    """

    def __init__(
        self,
        dropout: float = 0.0,
        init: str = "deepobs",
        *,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        _check(init, num_classes, in_channels, dropout=dropout)
        check_image_size(image_size, SMALLEST, "3c3d", "2c2d")
        self.stages = nn.Sequential(
            _layer(in_channels, 64, 5, pool=3, same=False),
            _layer(64, 96, 3, pool=3, same=False),
            _layer(96, 128, 3, pool=3),
        )
        inputs = _outputs(self.stages, in_channels, image_size)
        self.hidden = nn.Sequential(
            nn.Sequential(nn.Linear(inputs, 512), nn.ReLU(), nn.Dropout(dropout)),
            nn.Sequential(nn.Linear(512, 256), nn.ReLU()),
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(256, num_classes)
        if init != "deepobs":
            initialize(self, init, linear=True)
            return
        for module in _weighted(self):
            _glorot_normal(module.weight) if isinstance(module, nn.Conv2d) else nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)

    def features(self, images: Tensor) -> Tensor:
        """Return the last hidden layer (B, 256) of float images (B, C, H, W)."""
        return self.hidden(self.stages(images).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Return unnormalised logits (B, K) of normalised float images (B, C, H, W)."""
        return self.classifier(self.dropout(self.features(images)))

    def layer_groups(self) -> list[nn.Module]:
        """Return the parts of the net in order of depth: three convolutions, two hidden layers, the classifier."""
        return [*self.stages, *self.hidden, self.classifier]


class AllCNNC(nn.Module):
    """Nine convolutions with ReLU and an average over all remaining pixels, no pooling in between.

    Three 3x3 convolutions of 96 channels, three of 192, the third of each with stride 2; then 192 channels without
    padding, and two 1x1 convolutions, the last with K channels. That one has a ReLU as well, so no logit is negative.

    Args:
        dropout: probability in [0, 1) of zeroing a value behind each convolution of stride 2; published: 0.5.
        input_dropout: probability in [0, 1) of zeroing a value of the image; published: 0.2.
        init: "deepobs": normal, cut at two standard deviations, with variance 2 / (fan_in + fan_out), biases 0.1
            (the paper leaves it open); or a rule of :func:`resweep.models.parts.initialize`.
        num_classes: K, number of classes.
        in_channels: C, channels of the images.
        image_size: (H, W) of the images, at least 9x9.

    Raises:
        ValueError: if an argument is outside its range or the images are too small.

    Randomness: initial weights and dropout use the global torch generator.
    Source: Springenberg et al. 2014 (arXiv 1412.6806), Tables 1 and 2, network All-CNN-C, and section 3.1 (dropout);
    padding and initialization as in DeepOBS (arXiv 1903.05499), problem cifar100_allcnnc.

    Example:
        >>> net = AllCNNC(num_classes=100, in_channels=3, image_size=(32, 32))
        >>> sum(parameter.numel() for parameter in net.parameters())
        1387108
    """

    def __init__(
        self,
        dropout: float = 0.5,
        input_dropout: float = 0.2,
        init: str = "deepobs",
        *,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        _check(init, num_classes, in_channels, dropout=dropout, input_dropout=input_dropout)
        check_image_size(image_size, SMALLEST, "All-CNN-C", "2c2d")
        stages: list[nn.Module] = [nn.Sequential(nn.Dropout(input_dropout), _layer(in_channels, 96, 3))]
        stages += [_layer(96, 96, 3), nn.Sequential(_layer(96, 96, 3, stride=2), nn.Dropout(dropout))]
        stages += [_layer(96, 192, 3), _layer(192, 192, 3)]
        stages += [nn.Sequential(_layer(192, 192, 3, stride=2), nn.Dropout(dropout))]
        self.stages = nn.Sequential(*stages, _layer(192, 192, 3, same=False), _layer(192, 192, 1))
        self.classifier = _layer(192, num_classes, 1)
        if init != "deepobs":
            initialize(self, init)
            return
        for module in _weighted(self):
            _glorot_normal(module.weight)
            nn.init.constant_(module.bias, 0.1)

    def features(self, images: Tensor) -> Tensor:
        """Return the averaged last hidden layer (B, 192) of float images (B, C, H, W)."""
        return self.stages(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K), none of them negative, of normalised float images (B, C, H, W)."""
        return self.classifier(self.stages(images)).mean((2, 3))

    def layer_groups(self) -> list[nn.Module]:
        """Return the nine convolutions in order of depth."""
        return [*self.stages, self.classifier]


def _check(init: str, num_classes: int, in_channels: int, **probabilities: float) -> None:
    check_choice("init", init, INIT_CHOICES)
    check_positive(num_classes=num_classes, in_channels=in_channels)
    check_probability(**probabilities)


def _layer(
    inputs: int, outputs: int, kernel: int, stride: int = 1, pool: int | None = None, same: bool = True
) -> nn.Sequential:
    """Convolution, ReLU and, where asked for, a max-pool of stride 2; zeros around it change nothing behind a ReLU."""
    layers: list[nn.Module] = [SamePad(kernel, stride)] if same and stride > 1 else []
    padding = kernel // 2 if same and stride == 1 else 0
    layers += [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True)]
    if pool is not None:
        layers += [SamePad(pool, 2), nn.MaxPool2d(pool, stride=2)]
    return nn.Sequential(*layers)


def _outputs(stages: nn.Module, in_channels: int, image_size: tuple[int, int]) -> int:
    """Values that leave the convolutions for one image."""
    with torch.no_grad():
        return stages(torch.zeros(1, in_channels, *image_size)).numel()


def _weighted(net: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in net.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def _glorot_normal(weight: nn.Parameter) -> None:
    """Normal, cut at two standard deviations, so widened that its variance is 2 / (fan_in + fan_out)."""
    window = math.prod(weight.shape[2:])
    std = math.sqrt(2 / (window * (weight.shape[0] + weight.shape[1]))) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

"""RandAugment, AutoAugment, TrivialAugment and AugMix for whole batches, each image with its own operations.

Shapes: B batch, C channels, H height, W width. Images are uint8; what a shear, shift or turn uncovers is filled with a
given colour. Strengths are those of torchvision's transforms of the same names, sizes relative to the image included.
All draws come from an explicit generator on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from resweep.data.augment.operations import GEOMETRIC, OPERATIONS, SIGNED, apply_operations

POLICIES = ("randaugment", "autoaugment", "trivialaugment", "augmix")
AUTO_POLICIES = ("cifar10", "imagenet", "svhn")
RAND_LEVELS, AUGMIX_LEVELS = 31, 10  # magnitudes 0..30 and severities 1..10
_TONE = ("Posterize", "Solarize", "AutoContrast", "Equalize")
_COLOUR = ("Brightness", "Color", "Contrast", "Sharpness")


@dataclass(frozen=True)
class Strengths:
    """The strength of each operation at full magnitude; it grows linearly from none.

    Args:
        shear: pixels per pixel.
        translate: pixels, from the side of the image.
        rotate: degrees.
        colour: factor less 1 of Brightness, Color, Contrast and Sharpness.
        bits: that Posterize keeps at magnitude 0 and at full magnitude.
    """

    shear: float
    translate: Callable[[int], float]
    rotate: float
    colour: float
    bits: tuple[int, int]


AUTO = Strengths(0.3, lambda side: 150 / 331 * side, 30, 0.9, (8, 4))
WIDE = Strengths(0.99, lambda side: 32, 135, 0.99, (8, 2))
AUGMIX = Strengths(0.3, lambda side: side / 3, 30, 0.9, (4, 0))


def rand_augment(images: Tensor, fill: Tensor, generator: Generator, *, ops: int, magnitude: int) -> Tensor:
    """Change each image by operations drawn uniformly from fourteen, all at one magnitude.

    Args:
        images: uint8, shape (B, C, H, W).
        fill: colour in 0..255, float32, shape (C,).
        generator: on the CPU.
        ops: N, operations one after another.
        magnitude: M, in 0..30.

    Source: Cubuk et al. 2019, arXiv 1909.13719, section 3.
    """
    names = ("Identity", *GEOMETRIC, *_COLOUR, *_TONE)
    full = torch.full((len(images),), magnitude / (RAND_LEVELS - 1), dtype=torch.float64)
    for _ in range(ops):
        chosen = _uniform(names, len(images), generator)
        values = strengths(AUTO, chosen, full, _signs(len(images), generator), images.shape)
        images = apply_operations(images, chosen, values, fill, "nearest")
    return images


def trivial_augment(images: Tensor, fill: Tensor, generator: Generator) -> Tensor:
    """Change each image by one operation drawn uniformly from fourteen, at a magnitude drawn from 31 levels.

    Args:
        images: uint8, shape (B, C, H, W).
        fill: colour in 0..255, float32, shape (C,).
        generator: on the CPU.

    Source: Müller and Hutter 2021, arXiv 2103.10158, section 3 (the wide space).
    """
    chosen = _uniform(("Identity", *GEOMETRIC, *_COLOUR, *_TONE), len(images), generator)
    levels = torch.randint(0, RAND_LEVELS, (len(images),), generator=generator) / (RAND_LEVELS - 1)
    values = strengths(WIDE, chosen, levels.double(), _signs(len(images), generator), images.shape)
    return apply_operations(images, chosen, values, fill, "nearest")


class AutoAugment:
    """Change each image by one of 25 learned pairs of operations, each carried out with its own probability.

    Args:
        name: cifar10, imagenet or svhn: the data on which the pairs were learned.

    Source: Cubuk et al. 2018, arXiv 1805.09501, tables 7 to 9; the pairs are read from torchvision.
    """

    def __init__(self, name: str) -> None:
        from torchvision.transforms import AutoAugment as Published
        from torchvision.transforms import AutoAugmentPolicy

        pairs = Published(AutoAugmentPolicy(name)).policies
        steps = [[(OPERATIONS.index(op), p, (level or 0) / 9) for op, p, level in pair] for pair in pairs]
        self.operations, self.probabilities, self.levels = torch.tensor(steps, dtype=torch.float64).unbind(-1)

    def __call__(self, images: Tensor, fill: Tensor, generator: Generator) -> Tensor:
        """Return changed images.

        Args:
            images: uint8, shape (B, C, H, W).
            fill: colour in 0..255, float32, shape (C,).
            generator: on the CPU.
        """
        pair = torch.randint(0, len(self.operations), (len(images),), generator=generator)
        for step in (0, 1):
            done = torch.rand(len(images), generator=generator) < self.probabilities[pair, step]
            chosen = self.operations[pair, step].long() * done
            signs = _signs(len(images), generator)
            values = strengths(AUTO, chosen, self.levels[pair, step], signs, images.shape)
            images = apply_operations(images, chosen, values, fill, "nearest")
        return images


def augmix(images: Tensor, fill: Tensor, generator: Generator, *, width: int, severity: int) -> Tensor:
    """Mix each image with an average of itself after several chains of one to three operations.

    Weights of the chains follow Dirichlet(1, ..., 1), the share of their average Beta(1, 1). Operations that the
    corrupted test sets use (brightness, contrast, colour, sharpness) are left out. The loss that compares several
    mixtures of one image (Jensen-Shannon) is not part of it.

    Args:
        images: uint8, shape (B, C, H, W).
        fill: colour in 0..255, float32, shape (C,).
        generator: on the CPU.
        width: number of chains.
        severity: in 1..10; each operation draws a magnitude below it.

    Source: Hendrycks et al. 2019, arXiv 1912.02781, section 3 and algorithm 1.
    """
    batch, count = len(images), width * len(images)
    depth = torch.randint(1, 4, (count,), generator=generator)
    share = torch.rand(batch, generator=generator)
    weights = -torch.rand(width, batch, generator=generator, dtype=torch.float64).clamp_(min=1e-300).log_()
    weights = (weights / weights.sum(0) * share).float()
    chains = images.repeat(width, 1, 1, 1)
    for step in range(3):
        chosen = _uniform((*GEOMETRIC, *_TONE), count, generator) * (depth > step)
        levels = torch.randint(0, severity, (count,), generator=generator) / (AUGMIX_LEVELS - 1)
        values = strengths(AUGMIX, chosen, levels.double(), _signs(count, generator), images.shape)
        chains = apply_operations(chains, chosen, values, fill, "bilinear")
    mixed = images.float().mul_((1 - share).view(-1, 1, 1, 1).to(images.device))
    for chain, weight in zip(chains.split(batch), weights, strict=True):
        mixed.addcmul_(chain, weight.view(-1, 1, 1, 1).to(images.device))
    return mixed.round_().clamp_(0, 255).to(torch.uint8)


def strengths(space: Strengths, chosen: Tensor, levels: Tensor, signs: Tensor, shape: torch.Size) -> Tensor:
    """Return the value of each image's operation, in the units of :func:`apply_operations`.

    Args:
        space: values at full magnitude.
        chosen: int64, shape (B,): positions in ``OPERATIONS``.
        levels: float64, shape (B,): magnitude as share of the full one.
        signs: float64, shape (B,), -1 or 1: used where an operation has two directions.
        shape: of the images; (..., H, W).
    """
    height, width = shape[-2:]
    full = dict.fromkeys(OPERATIONS, 0.0)
    full |= {"ShearX": space.shear, "ShearY": space.shear, "Rotate": space.rotate}
    full |= {"TranslateX": space.translate(width), "TranslateY": space.translate(height)}
    full |= dict.fromkeys(_COLOUR, space.colour)
    values = torch.tensor(list(full.values()), dtype=torch.float64)[chosen] * levels
    signed = torch.tensor([name in SIGNED for name in OPERATIONS])[chosen]
    values = torch.where(signed, values * signs, values)
    bits = (space.bits[0] - (space.bits[0] - space.bits[1]) * levels).round()
    values = torch.where(chosen == OPERATIONS.index("Posterize"), bits, values)
    return torch.where(chosen == OPERATIONS.index("Solarize"), 1 - levels, values)


def _uniform(names: tuple[str, ...], count: int, generator: Generator) -> Tensor:
    numbers = torch.tensor([OPERATIONS.index(name) for name in names])
    return numbers[torch.randint(0, len(names), (count,), generator=generator)]


def _signs(count: int, generator: Generator) -> Tensor:
    return torch.randint(0, 2, (count,), generator=generator).double().mul_(2).sub_(1)

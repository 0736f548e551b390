"""Mixtures of two images of a batch, with their labels.

Shapes: B batch, C channels, H height, W width, K classes. The partner of an image is the next one of the batch (of the
last, the first): batches are in random order already, and no image is mixed with itself.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resweep.data.augment.erase import boxes


def soft_targets(targets: Tensor, num_classes: int) -> Tensor:
    """Return labels as shares: one-hot float32 (B, K) of int64 (B,); float targets (B, K) stay as they are."""
    return targets if targets.is_floating_point() else F.one_hot(targets, num_classes).to(torch.float32)


def mixup(images: Tensor, targets: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return share * image + (1 - share) * partner, and the targets mixed alike.

    Args:
        images: float, shape (B, C, H, W).
        targets: float, shape (B, K).
        share: of each image itself, float, shape (B,), in [0, 1].

    Source: Zhang et al. 2017, arXiv 1710.09412, equation 1.
    """
    weight = share.to(images.dtype).to(images.device)
    mixed = torch.lerp(images.roll(-1, 0), images, weight.view(-1, 1, 1, 1))
    return mixed, _mixed_targets(targets, weight)


def cutmix(images: Tensor, targets: Tensor, share: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Replace a box of each image by that of its partner; the targets are mixed by the areas that are really seen.

    The box has the image's aspect and 1 - share of its area, and is cut at the border.

    Args:
        images: float, shape (B, C, H, W).
        targets: float, shape (B, K).
        share: of each image itself, float, shape (B,), in [0, 1].
        rows, columns: middle of the box, float, shape (B,), in [0, 1) of the height and the width.

    Source: Yun et al. 2019, arXiv 1905.04899, section 3.1 and its released code.
    """
    height, width = images.shape[-2:]
    half = (1 - share).sqrt() / 2
    edges = []
    for middle, size in ((rows, height), (columns, width)):
        pixel, reach = (middle * size).floor(), (half * size).floor()
        edges += [(pixel - reach).clamp(0, size), (pixel + reach).clamp(0, size)]
    top, bottom, left, right = edges
    mixed = torch.where(boxes(images, top, left, bottom, right), images.roll(-1, 0), images)
    seen = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, _mixed_targets(targets, seen.to(images.dtype).to(images.device))


def _mixed_targets(targets: Tensor, share: Tensor) -> Tensor:
    weight = share.to(targets.dtype).unsqueeze(1)
    return targets * weight + targets.roll(-1, 0) * (1 - weight)


def mix(
    images: Tensor,
    targets: Tensor,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    probability: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Mix the images of a batch by MixUp or CutMix, for each pair its own share.

    Where both are on, a batch gets one of them, each with probability 1/2.

    Args:
        images: float, shape (B, C, H, W), at least two.
        targets: float, shape (B, K).
        mixup_alpha, cutmix_alpha: the share of an image itself follows Beta(alpha, alpha); 0 is off.
        probability: that a batch is mixed at all.
        seed: decides everything.

    Returns:
        Mixed images and targets; rows of targets that summed to one still do.
    """
    draw = np.random.default_rng(seed)
    mixes, second = draw.random(2)
    if mixes >= probability:
        return images, targets
    cuts = cutmix_alpha > 0 and (mixup_alpha == 0 or second < 0.5)
    alpha = cutmix_alpha if cuts else mixup_alpha
    share = torch.from_numpy(draw.beta(alpha, alpha, len(images)))
    if not cuts:
        return mixup(images, targets, share)
    rows, columns = torch.from_numpy(draw.random((2, len(images))))
    return cutmix(images, targets, share, rows, columns)

"""Batches in another size or with other channels, on their own device.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from resweep.data.base import Samples
from resweep.data.samples import InMemory

_LUMA = (19595, 38470, 7471)  # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B in units of 2**-16, as Pillow rounds it
_CHUNK = 1024


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Convert grey to colour by repeating it, or colour to grey by ITU-R BT.601 luma.

    Args:
        images: uint8, shape (B, 1, H, W) or (B, 3, H, W), on any device.
        channels: 1 or 3.

    Returns:
        uint8, shape (B, channels, H, W); the given tensor, or a view of it, where no arithmetic is needed. Grey has the
        bits of Pillow's ``convert("L")``.
    """
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    red, green, blue = images.to(torch.int32).unbind(1)
    grey = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).add_(1 << 15)
    return (grey >> 16).to(torch.uint8).unsqueeze(1)


def to_size(images: Tensor, side: int) -> Tensor:
    """Scale the largest centred square of each image, bilinear with antialiasing, rounded.

    Args:
        images: uint8, shape (B, C, H, W), on any device.
        side: S in pixels.

    Returns:
        uint8, shape (B, C, S, S); the given tensor where it has that size.
    """
    height, width = images.shape[2:]
    if (height, width) == (side, side):
        return images
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    centre = images[:, :, top : top + square, left : left + square].to(torch.float32)
    scaled = F.interpolate(centre, (side, side), mode="bilinear", antialias=True)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def mean_std(samples: Samples, channels: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel as if the images had other channels.

    Args:
        samples: the images, at their own size.
        channels: 1 or 3, or their own number.

    Returns:
        Two float64 tensors of shape (channels,), see :meth:`resweep.data.samples.Samples.channel_mean_std`.
    """
    own = samples.shape[0]
    if own == channels:
        return samples.channel_mean_std()
    if channels == 3:
        mean, std = samples.channel_mean_std()
        return mean.expand(3).clone(), std.expand(3).clone()
    parts = torch.arange(len(samples)).split(_CHUNK)
    grey = torch.cat([to_channels(samples.batch(part)[0], 1) for part in parts])
    return InMemory(grey, torch.zeros(len(grey), dtype=torch.int64)).channel_mean_std()

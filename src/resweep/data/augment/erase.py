"""Boxes of zeros in whole batches, each image with its own box.

Shapes: B batch, C channels, H height, W width. The images are normalised, so that a box gets the training mean.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from resweep.data.augment.geometry import ATTEMPTS

AREA = (0.02, 0.4)  # share of an image that random erasing takes
ASPECT = (0.3, 1 / 0.3)  # height by width of its box


def erase_(images: Tensor, p: float, generator: Generator) -> Tensor:
    """Erase a box of random area, aspect and place from each image with a probability.

    Share of the area uniform in 0.02..0.4, logarithm of height / width uniform between those of 0.3 and 1 / 0.3 (the
    paper: the ratio itself uniform, which prefers high boxes). A box that does not fit is drawn again, up to ten
    times. Erased pixels become 0, the mean colour (the paper's RE-M), not noise.

    Args:
        images: float, shape (B, C, H, W), normalised; changed in place.
        p: probability in [0, 1]; 0 draws nothing.
        generator: on the CPU.

    Returns:
        The images.

    Source: Zhong et al. 2017, arXiv 1708.04896, section 3.2; aspect as in ``torchvision.transforms.RandomErasing``.
    """
    if p == 0:
        return images
    batch, _, height, width = images.shape
    chosen = torch.rand(batch, generator=generator) < p
    share, aspect, down, right = torch.rand(4, ATTEMPTS, batch, generator=generator, dtype=torch.float64)
    share = share.mul_(AREA[1] - AREA[0]).add_(AREA[0]).mul_(height * width)
    low, high = (math.log(ratio) for ratio in ASPECT)
    aspect = aspect.mul_(high - low).add_(low).exp_()
    heights, widths = share.mul(aspect).sqrt_().round_(), share.div(aspect).sqrt_().round_()
    fits = (heights < height) & (widths < width)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)
    heights, widths, down, right = (v.gather(0, first).squeeze(0) for v in (heights, widths, down, right))
    heights = heights.where(chosen & fits.any(0), torch.zeros(()).double())
    top = down.mul_(height - heights + 1).floor_()
    left = right.mul_(width - widths + 1).floor_()
    return images.masked_fill_(boxes(images, top, left, top + heights, left + widths), 0)


def cutout_(images: Tensor, side: int | float, generator: Generator) -> Tensor:
    """Erase a square from each image; its middle is any pixel, so that it may hang over the border.

    Args:
        images: float, shape (B, C, H, W), normalised; changed in place.
        side: of the square, in pixels or as share of the shorter side (see :func:`cutout_side`); 0 draws nothing.
        generator: on the CPU.

    Returns:
        The images.

    Source: DeVries and Taylor 2017, arXiv 1708.04552, section 3.2.
    """
    if side == 0:
        return images
    batch, _, height, width = images.shape
    side = cutout_side(side, height, width)
    top, left = (torch.randint(0, size, (batch,), generator=generator) - side // 2 for size in (height, width))
    return images.masked_fill_(boxes(images, top, left, top + side, left + side), 0)


def cutout_side(side: int | float, height: int, width: int) -> int:
    """Return the side of a cut-out square in pixels.

    Args:
        side: a whole number of pixels, or a share of the shorter side strictly between 0 and 1, which is rounded to at
            least one pixel and to fewer than the shorter side has.
        height, width: of the image in pixels.
    """
    if not 0 < side < 1:
        return int(side)
    shorter = min(height, width)
    return max(1, min(round(side * shorter), shorter - 1))


def boxes(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """Return where the boxes are.

    Args:
        images: shape (B, C, H, W); only shape and device are used.
        top, left: first row and column, shape (B,), on the CPU; may lie outside the image.
        bottom, right: row and column behind the last.

    Returns:
        bool, shape (B, 1, H, W).
    """
    inside = []
    for start, end, size in ((top, bottom, images.shape[-2]), (left, right, images.shape[-1])):
        place = torch.arange(size)
        inside.append(((place >= start.unsqueeze(1)) & (place < end.unsqueeze(1))).to(images.device))
    rows, columns = inside
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)

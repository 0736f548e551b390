"""Crops, flips and affine maps of whole batches, each image with its own draw.

Shapes: B batch, C channels, H height, W width. The images are normalised, so that 0 is the training mean: padding is
done after subtracting the mean, as He et al. 2015 (arXiv 1512.03385, section 4.2) pad CIFAR-10. All draws come from an
explicit generator on the CPU and only small tensors of positions and matrices travel to the images' device: the same
draws on every device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from resweep.seeding import derive_seed

ASPECT = (3 / 4, 4 / 3)  # width by height of a resized crop (Szegedy et al. 2014, arXiv 1409.4842, section 6)
ATTEMPTS = 10  # draws per image of a window that has to fit


def crop(images: Tensor, padding: int, generator: Generator, mode: str = "zero") -> Tensor:
    """Pad every side and cut a window of the old size at a random place, for each image its own.

    Each of the (2 * padding + 1)**2 windows is equally likely.

    Args:
        images: float, shape (B, C, H, W), normalised.
        padding: pixels added on each side; 0 returns the images unchanged and draws nothing.
        generator: on the CPU.
        mode: ``zero``, or ``reflect`` for the image mirrored at its border pixels (needs padding below H and W).

    Returns:
        Same shape and type; a new tensor unless padding is 0.
    """
    if padding == 0:
        return images
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4, mode="constant" if mode == "zero" else mode).contiguous()
    image_step, channel_step, row_step, _ = padded.stride()
    down, right = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator)
    starts = torch.arange(0, batch * image_step, image_step).add_(down, alpha=row_step).add_(right)
    # All windows of the buffer as one view, numbered by the position of their first pixel: picking B of them copies
    # each once. Windows that would reach over the border of an image are in the view, but no start points to them.
    last = (batch - 1) * image_step + 2 * padding * (row_step + 1)
    windows = padded.as_strided((last + 1, channels, height, width), (1, channel_step, row_step, 1))
    return windows.index_select(0, starts.to(images.device))


def flip_(images: Tensor, p: float, generator: Generator) -> Tensor:
    """Mirror each image left to right with a probability, in place; only the chosen images are touched.

    Args:
        images: float, shape (B, C, H, W).
        p: probability in [0, 1]; one number is drawn per image, whatever p is.
        generator: on the CPU.

    Returns:
        The images given.
    """
    chosen = (torch.rand(len(images), generator=generator) < p).nonzero().squeeze(1).to(images.device)
    return images.index_copy_(0, chosen, images.index_select(0, chosen).flip(-1))


def alternating_flip(images: Tensor, positions: Tensor, epoch: int, seed: int) -> Tensor:
    """Mirror each image in every second epoch; in which, even or odd ones, is random per image.

    Two successive epochs together show every image both ways. The choice is one bit of a hash of seed and position
    (SplitMix64), so it needs no memory and does not depend on the batch.

    Args:
        images: float, shape (B, C, H, W).
        positions: int64, shape (B,), of the images in the training split.
        epoch: from 0.
        seed: of the run.

    Returns:
        A new tensor of the same shape and type.

    Source: Jordan 2024, arXiv 2404.00498, section 3.6 (alternating flip); Steele et al. 2014 (SplitMix64).
    """
    mixed = (positions.to(images.device) + 1) * _signed(0x9E3779B97F4A7C15) + derive_seed(seed, "flip")
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ ((mixed >> shift) & (2 ** (64 - shift) - 1))) * _signed(factor)
    mirrored = (mixed < 0) ^ (epoch % 2 == 1)
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)


def _signed(value: int) -> int:
    """Read 64 bits as a signed number."""
    return value - 2**64 if value >= 2**63 else value


def resized_crop(images: Tensor, area: tuple[float, float], generator: Generator) -> Tensor:
    """Cut a window of random area and aspect from each image and scale it to the old size, bilinearly.

    Share of the area uniform in ``area``, logarithm of width / height uniform between those of 3/4 and 4/3, place
    uniform. A window that does not fit is drawn again; after ten draws the largest window of an allowed aspect in the
    middle is taken. Windows are never larger than the image, so no filter against aliasing is needed.

    Args:
        images: float, shape (B, C, H, W).
        area: smallest and largest share, in (0, 1].
        generator: on the CPU.

    Returns:
        A new tensor of the same shape and type.

    Source: Szegedy et al. 2014, arXiv 1409.4842, section 6; as ``torchvision.transforms.RandomResizedCrop``.
    """
    return cut_and_scale(images, *random_windows(images.shape, area, generator))


def random_windows(shape: torch.Size, area: tuple[float, float], generator: Generator) -> tuple[Tensor, ...]:
    """Draw the windows of :func:`resized_crop`: top, left, height and width, float64 whole numbers of shape (B,)."""
    batch, _, height, width = shape
    share, aspect, down, right = torch.rand(4, ATTEMPTS, batch, generator=generator, dtype=torch.float64)
    share = share.mul_(area[1] - area[0]).add_(area[0]).mul_(height * width)
    low, high = (math.log(ratio) for ratio in ASPECT)
    aspect = aspect.mul_(high - low).add_(low).exp_()
    heights, widths = share.div(aspect).sqrt_().round_(), share.mul(aspect).sqrt_().round_()
    fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)
    picked = [values.gather(0, first).squeeze(0) for values in (heights, widths, down, right)]
    largest_height, largest_width = min(height, round(width / ASPECT[0])), min(width, round(height * ASPECT[1]))
    none = ~fits.any(0)
    heights, widths = picked[0].masked_fill(none, largest_height), picked[1].masked_fill(none, largest_width)
    top = picked[2].mul(height - heights + 1).floor_().where(~none, (height - heights).div(2).round())
    left = picked[3].mul(width - widths + 1).floor_().where(~none, (width - widths).div(2).round())
    return top, left, heights, widths


def cut_and_scale(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Scale a window of each image to the size of the image, bilinearly; the window's border pixels go on outside.

    Args:
        images: float, shape (B, C, H, W).
        top, left, height, width: float64, shape (B,): the windows in pixels, within the image.

    Returns:
        A new tensor of the same shape and type.
    """
    axes = []
    for start, length, size in ((left, width, images.shape[-1]), (top, height, images.shape[-2])):
        inside = (torch.arange(size, dtype=torch.float64) + 0.5) * (length / size).unsqueeze(1) - 0.5
        pixels = torch.minimum(inside.clamp_(min=0), length.unsqueeze(1) - 1) + start.unsqueeze(1)
        axes.append(((2 * pixels + 1) / size - 1).to(images.dtype).to(images.device))
    x, y = axes
    grid = torch.stack(torch.broadcast_tensors(x.unsqueeze(1), y.unsqueeze(2)), dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


def random_affine(
    images: Tensor,
    generator: Generator,
    *,
    rotation: float = 0.0,
    translate: float = 0.0,
    scale: tuple[float, float] | None = None,
    shear: float = 0.0,
) -> Tensor:
    """Rotate, shift, scale and shear each image about its middle by its own draw, bilinearly, zeros outside.

    Every value is uniform; what is at zero strength draws nothing, and the images are returned unchanged when all is.

    Args:
        images: float, shape (B, C, H, W), normalised.
        generator: on the CPU.
        rotation: largest angle in degrees, both ways.
        translate: largest shift as share of the side, both ways and on both axes; shifts are whole pixels.
        scale: smallest and largest factor; None for 1.
        shear: largest angle in degrees, both ways, along the x axis.

    Returns:
        Same shape and type.

    Source: as ``torchvision.transforms.RandomAffine``.
    """
    batch, _, height, width = images.shape
    if not (rotation or translate or scale or shear):
        return images

    def uniform(low: float, high: float) -> Tensor:
        drawn = torch.rand(batch, generator=generator, dtype=torch.float64)
        return drawn.mul_(high - low).add_(low)

    given = {}
    if rotation:
        given["angle"] = uniform(-rotation, rotation)
    if translate:
        given["x"], given["y"] = (uniform(-translate * side, translate * side).round_() for side in (width, height))
    if scale:
        given["scale"] = uniform(*scale)
    if shear:
        given["shear_x"] = uniform(-shear, shear)
    return warp(images, affine_maps(batch, **given), "bilinear")


def affine_maps(
    batch: int,
    *,
    angle: Tensor | float = 0.0,
    x: Tensor | float = 0.0,
    y: Tensor | float = 0.0,
    scale: Tensor | float = 1.0,
    shear_x: Tensor | float = 0.0,
    shear_y: Tensor | float = 0.0,
    center_x: Tensor | float = 0.0,
    center_y: Tensor | float = 0.0,
) -> Tensor:
    """Return for each image the map from a pixel of the result to the place in the image that it shows.

    The image is sheared along x, then along y, scaled, turned clockwise and shifted.

    Args:
        batch: B.
        angle, shear_x, shear_y: degrees, float64 of shape (B,) or one number for all.
        x, y: shift in pixels.
        scale: factor above 0.
        center_x, center_y: the point that does not move (but for the shift), in pixels from the middle of the image.

    Returns:
        float64, shape (B, 2, 3): matrices on (x, y, 1) in pixels from the middle of the image.
    """

    def column(value: Tensor | float) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64).expand(batch)

    turn, lean_x, lean_y = (column(value).deg2rad() for value in (angle, shear_x, shear_y))
    x, y, scale, center_x, center_y = (column(value) for value in (x, y, scale, center_x, center_y))
    a, c = (turn - lean_y).cos() / lean_y.cos(), (turn - lean_y).sin() / lean_y.cos()
    b, d = -(a * lean_x.tan() + turn.sin()), turn.cos() - c * lean_x.tan()
    rows = []
    for along_x, along_y, center in ((d / scale, -b / scale, center_x), (-c / scale, a / scale, center_y)):
        rows.append(torch.stack((along_x, along_y, center - along_x * (center_x + x) - along_y * (center_y + y)), -1))
    return torch.stack(rows, dim=1)


def warp(images: Tensor, maps: Tensor, mode: str) -> Tensor:
    """Show each image through its own affine map; zeros outside.

    Args:
        images: float, shape (B, C, H, W).
        maps: float64, shape (B, 2, 3), see :func:`affine_maps`.
        mode: ``bilinear`` or ``nearest``.

    Returns:
        A new tensor of the same shape and type.
    """
    height, width = images.shape[-2:]
    x, y = (torch.arange(side, dtype=images.dtype, device=images.device) - (side - 1) / 2 for side in (width, height))
    halves = torch.tensor((width / 2, height / 2), dtype=images.dtype)
    # Written out, as a product of matrices would depend on the precision that is set for products of a net's.
    maps = (maps.to(images.dtype) / halves.view(2, 1)).to(images.device).view(-1, 2, 3, 1, 1)
    grid = torch.addcmul(maps[:, :, 1] * y.view(-1, 1) + maps[:, :, 2], maps[:, :, 0], x)
    return F.grid_sample(images, grid.permute(0, 2, 3, 1), mode=mode, padding_mode="zeros", align_corners=False)

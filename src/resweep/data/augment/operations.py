"""The operations that the policies choose from: each image of a batch gets its own.

Shapes: B batch, C channels, H height, W width. Images are uint8. Images with the same operation are changed together,
and all shears, shifts and turns together as one warp. Each operation does what torchvision's policies do by that name;
on grey images ``Color`` does nothing, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from resweep.data.augment.color import brightness_, contrast_, saturation_, sharpness_
from resweep.data.augment.geometry import affine_maps, warp

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_SCALED = {"Brightness": brightness_, "Color": saturation_, "Contrast": contrast_, "Sharpness": sharpness_}
OPERATIONS = (
    "Identity", *GEOMETRIC, *_SCALED, "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
SIGNED = (*GEOMETRIC, *_SCALED)  # strength counts both ways


def apply_operations(images: Tensor, chosen: Tensor, values: Tensor, fill: Tensor, mode: str) -> Tensor:
    """Change each image by one operation.

    Args:
        images: uint8, shape (B, C, H, W).
        chosen: int64, shape (B,), on the CPU: positions in ``OPERATIONS``.
        values: float64, shape (B,), on the CPU. Shears: pixels per pixel. Translations: pixels, cut to whole ones.
            Rotate: degrees counter-clockwise. Brightness, Color, Contrast, Sharpness: the factor less 1. Posterize:
            the number of upper bits that stay. Solarize: a share of 255; levels from there on are inverted. The
            others take none.
        fill: colour outside the image, float32 in 0..255, shape (C,).
        mode: ``nearest`` or ``bilinear``, for the geometric operations.

    Returns:
        uint8, same shape; a new tensor.
    """
    kind = torch.where((chosen > 0) & (chosen <= len(GEOMETRIC)), 1, chosen)
    order = kind.argsort(stable=True)
    groups = images.index_select(0, order.to(images.device))
    chosen, values, kind = chosen[order], values[order], kind[order]
    done, start = [], 0
    for number, count in zip(*(part.tolist() for part in kind.unique_consecutive(return_counts=True)), strict=True):
        members = slice(start, start + count)
        part, strength = groups[members], values[members]
        if number == 1:
            part = _moved(part, chosen[members], strength, fill, mode)
        elif number:
            part = _changed(OPERATIONS[number], part, strength)
        done.append(part)
        start += count
    return torch.cat(done).index_select(0, order.argsort().to(images.device))


def _moved(images: Tensor, chosen: Tensor, values: Tensor, fill: Tensor, mode: str) -> Tensor:
    """Shear about the upper left corner, shift or turn about the middle."""

    def of(name: str) -> Tensor:
        return values.where(chosen == OPERATIONS.index(name), torch.zeros(()).double())

    height, width = images.shape[-2:]
    shear_x, shear_y = of("ShearX").atan().rad2deg(), of("ShearY").atan().rad2deg()
    sheared = (chosen == OPERATIONS.index("ShearX")) | (chosen == OPERATIONS.index("ShearY"))
    maps = affine_maps(
        len(images),
        angle=-of("Rotate"),
        x=of("TranslateX").trunc(),
        y=of("TranslateY").trunc(),
        shear_x=shear_x,
        shear_y=shear_y,
        center_x=sheared * (-width / 2),
        center_y=sheared * (-height / 2),
    )
    fill = fill.view(-1, 1, 1)
    return warp(images.float().sub_(fill), maps, mode).add_(fill).round_().to(torch.uint8)


def _changed(name: str, images: Tensor, values: Tensor) -> Tensor:
    if name in _SCALED:
        return _SCALED[name](images.float(), 1 + values, whole=True).to(torch.uint8)
    if name == "AutoContrast":
        return auto_contrast(images)
    if name == "Equalize":
        return equalize(images)
    if name == "Invert":
        return 255 - images
    values = values.view(-1, 1, 1, 1)
    if name == "Posterize":
        lost = (8 - values.trunc()).clamp(0, 8).to(torch.int16).to(images.device)
        return images.to(torch.int16).bitwise_right_shift(lost).bitwise_left_shift_(lost).to(torch.uint8)
    return torch.where(images.float() >= (255 * values).float().to(images.device), 255 - images, images)  # Solarize


def auto_contrast(images: Tensor) -> Tensor:
    """Stretch each channel of uint8 images (B, C, H, W) to 0..255; a constant one stays."""
    levels = images.float()
    low, high = levels.amin((-2, -1), keepdim=True), levels.amax((-2, -1), keepdim=True)
    spread = (high - low).mul_(1 / 255)
    stretched = levels.sub_(low).div_(torch.where(spread == 0, 1, spread)).clamp_(0, 255)
    return torch.where(spread == 0, images, stretched.to(torch.uint8))


def equalize(images: Tensor) -> Tensor:
    """Spread the levels of each channel of uint8 images (B, C, H, W) evenly, by the rule of Pillow.

    With n(k) pixels below level k, m below the largest level and step = m // 255, level k becomes
    (n(k) + step // 2) // step; where step is 0 the channel stays. The counts of all channels are made at once, as
    whole numbers, which an accelerator adds up to the same bits every time.
    """
    rows = images.shape[0] * images.shape[1]
    places = images.reshape(rows, -1).long().add_(torch.arange(0, 256 * rows, 256, device=images.device).unsqueeze(1))
    counts = torch.bincount(places.view(-1), minlength=256 * rows).view(rows, 256)
    below = counts.cumsum(1).sub_(counts)
    step = torch.where(counts > 0, below, 0).amax(1, keepdim=True) // 255
    table = below.add_(step // 2).div_(step.clamp(min=1), rounding_mode="floor").clamp_(max=255).to(torch.uint8)
    spread = table.take(places).view_as(images)
    return torch.where((step == 0).view(*images.shape[:2], 1, 1), images, spread)

"""Changes of colour of whole batches, each image with its own strength.

Shapes: B batch, C channels (1 grey or 3 red, green, blue), H height, W width. The functions ending in an underscore
change float images in place; strengths are one number per image, on the CPU. Values are in 0..1; with ``whole=True``
they are whole numbers in 0..255 held as floats, and what torchvision rounds down for uint8 images is rounded down
here, so that the results agree. A grey image has no hue and no saturation: changing them leaves it as it is, as in
torchvision.

Source: the definitions of ``torchvision.transforms.ColorJitter`` and its functions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue (ITU-R 601)


def jitter_(
    images: Tensor,
    generator: Generator,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    grayscale: float = 0.0,
) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order, and make some images grey.

    Each factor is uniform in [max(0, 1 - strength), 1 + strength], the turn of the hue in [-hue, hue] of a full
    circle. What is at zero strength draws nothing. The order is fixed, where torchvision's ColorJitter draws one per
    image.

    Args:
        images: float in 0..1, shape (B, C, H, W); changed in place.
        generator: on the CPU.
        brightness, contrast, saturation: strengths, at least 0.
        hue: in [0, 0.5].
        grayscale: probability in [0, 1].

    Returns:
        The images, still in 0..1.
    """
    batch = len(images)

    def factors(strength: float) -> Tensor:
        low = max(0.0, 1 - strength)
        return torch.rand(batch, generator=generator).mul_(1 + strength - low).add_(low)

    if brightness:
        brightness_(images, factors(brightness))
    if contrast:
        contrast_(images, factors(contrast))
    if saturation:
        saturation_(images, factors(saturation))
    if hue:
        hue_(images, torch.rand(batch, generator=generator).mul_(2 * hue).sub_(hue))
    if grayscale:
        chosen = (torch.rand(batch, generator=generator) < grayscale).nonzero().squeeze(1).to(images.device)
        images.index_copy_(0, chosen, luma(images.index_select(0, chosen)).expand(-1, images.shape[1], -1, -1))
    return images


def luma(images: Tensor) -> Tensor:
    """Return the grey image of each colour image: shape (B, 1, H, W); a grey one as it is."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return red.mul(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(1)


def brightness_(images: Tensor, factor: Tensor, whole: bool = False) -> Tensor:
    """Multiply by a factor, shape (B,): 0 makes the image black."""
    return images.mul_(_spread(factor, images)).clamp_(0, 255 if whole else 1)


def contrast_(images: Tensor, factor: Tensor, whole: bool = False) -> Tensor:
    """Move away from the mean grey of the image by a factor, shape (B,): 0 leaves only that."""
    grey = luma(images)
    mean = (grey.floor() if whole and images.shape[1] == 3 else grey).mean(dim=(1, 2, 3), keepdim=True)
    return _away_from_(images, mean, factor, whole)


def saturation_(images: Tensor, factor: Tensor, whole: bool = False) -> Tensor:
    """Move away from the grey image by a factor, shape (B,): 0 leaves only that."""
    if images.shape[1] == 1:
        return images
    grey = luma(images)
    return _away_from_(images, grey.floor_() if whole else grey, factor, whole)


def _away_from_(images: Tensor, others: Tensor, factor: Tensor, whole: bool) -> Tensor:
    images.mul_(_spread(factor, images)).addcmul_(others, _spread(1 - factor, images))
    return images.clamp_(0, 255 if whole else 1)


def _spread(values: Tensor, images: Tensor) -> Tensor:
    """Bring one number per image to the device, in a shape that goes with the images."""
    return values.to(images.dtype).to(images.device).view(-1, 1, 1, 1)


def hue_(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by a share of a full circle, shape (B,); value and saturation (of HSV) stay.

    The hue h is counted in sixths of the circle: 0 red, 2 green, 4 blue. With low and high the smallest and largest
    channel, a channel is low + (high - low) * w, where w falls from 1 to 0 between one and two sixths from its colour.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    high, low = (pick(pick(red, green), blue) for pick in (torch.maximum, torch.minimum))
    chroma = high - low
    third = (red - green).add_(chroma, alpha=4)
    second = torch.where(high == green, (blue - red).add_(chroma, alpha=2), third)
    hue = torch.where(high == red, green - blue, second).div_(chroma.clamp(min=torch.finfo(images.dtype).tiny))
    hue.add_(_spread(6 * turn, images).squeeze(1))
    hue.sub_(hue.div(6).floor_(), alpha=6)
    torch.addcmul(low, chroma, (hue - 3).abs_().sub_(1).clamp_(0, 1), out=red)
    for plane, color in ((green, 2), (blue, 4)):
        torch.addcmul(low, chroma, (hue - color).abs_().neg_().add_(2).clamp_(0, 1), out=plane)
    return images


def sharpness_(images: Tensor, factor: Tensor, whole: bool = False) -> Tensor:
    """Move away from a smoothed image by a factor, shape (B,); border pixels stay, as does an image below 3x3.

    The smoothed pixel is the mean of its 3x3 neighbourhood in which it counts five times.
    """
    if min(images.shape[-2:]) < 3:
        return images
    inner = images[..., 1:-1, 1:-1]
    smooth = F.avg_pool2d(images, 3, stride=1).mul_(9 / 13).add_(inner, alpha=4 / 13)
    smooth = smooth.round_() if whole else smooth
    inner.addcmul_(smooth.sub_(inner), _spread(1 - factor, images))
    return images.clamp_(0, 255 if whole else 1)

"""Random crops and flips of whole batches, each image with its own draw.

Shapes: B batch, C channels, H height, W width. The images are normalised, so that 0 is the training mean: padding is
done after subtracting the mean, as He et al. 2015 (arXiv 1512.03385, section 4.2) pad CIFAR-10. All draws come from an
explicit generator on the CPU and only the small tensors of positions travel to the images' device: the same draws on
every device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def crop(images: Tensor, padding: int, generator: Generator) -> Tensor:
    """Pad every side with zeros and cut a window of the old size at a random place, for each image its own.

    Each of the (2 * padding + 1)**2 windows is equally likely.

    Args:
        images: float, shape (B, C, H, W), normalised.
        padding: pixels added on each side; 0 returns the images unchanged and draws nothing.
        generator: on the CPU.

    Returns:
        Same shape and type; a new tensor unless padding is 0.
    """
    if padding == 0:
        return images
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding)).contiguous()
    image_step, channel_step, row_step, _ = padded.stride()
    down, right = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator)
    starts = torch.arange(0, batch * image_step, image_step).add_(down, alpha=row_step).add_(right)
    # All windows of the buffer as one view, numbered by the position of their first pixel: picking B of them copies
    # each once. Windows that would reach over the border of an image are in the view, but no start points to them.
    last = (batch - 1) * image_step + 2 * padding * (row_step + 1)
    windows = padded.as_strided((last + 1, channels, height, width), (1, channel_step, row_step, 1))
    return windows.index_select(0, starts.to(images.device))


def flip(images: Tensor, p: float, generator: Generator) -> Tensor:
    """Mirror each image left to right with a probability.

    Args:
        images: float, shape (B, C, H, W).
        p: probability in [0, 1]; 0 returns the images unchanged and draws nothing.
        generator: on the CPU.

    Returns:
        Same shape and type; a new tensor unless p is 0.
    """
    return images if p == 0 else _flip_(images.clone(), p, generator)


def _flip_(images: Tensor, p: float, generator: Generator) -> Tensor:
    """Mirror in place: only the chosen images are touched."""
    chosen = (torch.rand(len(images), generator=generator) < p).nonzero().squeeze(1).to(images.device)
    return images.index_copy_(0, chosen, images.index_select(0, chosen).flip(-1))


class Augment:
    """A random crop followed by a random flip.

    Args:
        padding: pixels of zeros added on each side before the crop; 0 turns it off.
        flip: probability of a left-right flip, in [0, 1]; 0 turns it off.

    Raises:
        ValueError: if a value is outside its range; the message names it.

    Source: He et al. 2015, arXiv 1512.03385, section 4.2 (padding 4, flip 0.5).
    """

    def __init__(self, padding: int, flip: float) -> None:
        if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
            raise ValueError(f"padding={padding}: a whole number of pixels of at least 0 is needed")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip={flip}: a probability between 0 and 1 is needed")
        self.padding = padding
        self.flip = flip

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return augmented images; the given ones stay as they are.

        Args:
            images: float, shape (B, C, H, W), normalised.
            generator: on the CPU.
        """
        cropped = crop(images, self.padding, generator)
        if self.flip == 0:
            return cropped
        return _flip_(images.clone() if cropped is images else cropped, self.flip, generator)

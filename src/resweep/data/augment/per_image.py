"""The settings of an augmentation for one picture after the other, as loader workers decode them.

The batched form (:class:`resweep.data.augment.Augment`) needs images of one size in memory. Large pictures of any size
are cut, scaled and changed here, on the processor that has just decoded them, by the transforms of torchvision.

Shapes: B batch, C channels, H height, W width, S side of the square images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from resweep.data.augment import Augment
from resweep.data.augment.erase import AREA, ASPECT, boxes, cutout_side
from resweep.data.augment.geometry import alternating_flip, random_affine
from resweep.data.decode import centre_square
from resweep.seeding import derive_seed

NEAREST = v2.InterpolationMode.NEAREST


class PerImage:
    """An augmentation of single pictures, in the form of torchvision's v2 transforms.

    A picture is brought to its size (a random window of it, or its largest centred square, with a crop after padding),
    mirrored, and then goes through the policy, the changes of colour, loss of colour, the affine map, random erasing
    and cutout. What is uncovered gets one colour. MixUp and CutMix need a batch and are left out.

    Args:
        augment: the settings.
        image_size: S in pixels; None keeps a picture's own size.
        channels: C, 1 or 3: of the pictures.
        fill: the colour, C numbers in 0..255, for instance the training mean.
        crop_pct: share of the shorter side that the centred square keeps (see ``read_image``); a random window ignores
            it.

    Randomness: torch's global generator is seeded for each picture and put back afterwards, so that a result depends on
    the arguments of a call only.
    Source: ``torchvision.transforms.v2``; the settings' own sources are named in ``conf/augment``.
    """

    def __init__(
        self, augment: Augment, image_size: int | None, channels: int, fill: Sequence[float], crop_pct: float = 1.0
    ) -> None:
        if len(fill) != channels:
            raise ValueError(f"fill={list(fill)}: {channels} numbers are needed, one per channel")
        self.augment = augment
        self.image_size = image_size
        self.crop_pct = crop_pct
        colour = [round(float(value)) for value in fill]
        self._transforms = [*_crop_and_flip(augment, colour), *_changes(augment, colour, channels)]

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        """Return one augmented picture; alternating flips, which need the epoch, are left to :meth:`batch`.

        Args:
            picture: mode ``L`` for one channel, ``RGB`` for three.
            seed: decides all draws; in [0, 2**63).

        Returns:
            uint8, shape (C, S, S), or (C, H, W) where a picture keeps its size.
        """
        with _seeded(seed):
            image = v2.functional.pil_to_tensor(self._sized(picture))
            for transform in self._transforms:
                image = transform(image)
        return image

    def batch(self, pictures: Iterable[Image.Image], positions: Tensor, epoch: int, seed: int) -> Tensor:
        """Return the augmented pictures of a batch.

        Args:
            pictures: B pictures that end with the same size.
            positions: int64, shape (B,), of the pictures in the training split.
            epoch: from 0.
            seed: of the run.

        Returns:
            uint8, shape (B, C, S, S).

        Randomness: each picture has the seed ``derive_seed(seed, "augment", epoch, position)``.
        """
        seeds = (derive_seed(seed, "augment", epoch, position) for position in positions.tolist())
        images = torch.stack([self(picture, own) for picture, own in zip(pictures, seeds, strict=True)])
        if self.augment.flip and self.augment.flip_mode == "alternating":
            return alternating_flip(images, positions, epoch, seed)
        return images

    def _sized(self, picture: Image.Image) -> Image.Image:
        """Cut and scale a picture."""
        width, height = picture.size
        size = (height, width) if self.image_size is None else (self.image_size, self.image_size)
        if self.augment.resized_crop is not None:
            return v2.RandomResizedCrop(size, scale=self.augment.resized_crop, antialias=True)(picture)
        kept = (height, width) == size and self.crop_pct == 1
        return picture if kept else centre_square(picture, size[0], self.crop_pct)


def _crop_and_flip(augment: Augment, fill: list[int]) -> Iterator[Callable[[Tensor], Tensor]]:
    """Give the transforms that move whole images."""
    if augment.padding:
        zero = augment.padding_mode == "zero"
        yield _PaddedCrop(augment.padding, *(("constant", fill) if zero else (augment.padding_mode, None)))
    if augment.flip and augment.flip_mode == "random":
        yield v2.RandomHorizontalFlip(augment.flip)


def _changes(augment: Augment, fill: list[int], channels: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """Give the transforms that change colours and shapes."""
    if augment.policy is not None:
        yield _policy(augment, fill)
    strengths = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    if any(strengths):
        yield v2.ColorJitter(*strengths)
    if augment.grayscale and channels == 3:
        yield v2.RandomGrayscale(augment.grayscale)
    if augment.rotation or augment.translate or augment.scale or augment.shear:
        yield _Affine(augment, fill)
    if augment.erasing:
        yield v2.RandomErasing(augment.erasing, scale=AREA, ratio=ASPECT, value=fill)
    if augment.cutout:
        yield _Cutout(augment.cutout, fill)


def _policy(augment: Augment, fill: list[int]) -> Callable[[Tensor], Tensor]:
    """Give the policy with its strength."""
    if augment.policy == "randaugment":
        return v2.RandAugment(augment.policy_ops, augment.policy_magnitude, fill=fill)
    if augment.policy == "trivialaugment":
        return v2.TrivialAugmentWide(fill=fill)
    if augment.policy == "autoaugment":
        return v2.AutoAugment(v2.AutoAugmentPolicy(augment.policy_name), fill=fill)
    return v2.AugMix(augment.policy_magnitude, augment.policy_ops, all_ops=False, interpolation=NEAREST, fill=fill)


class _PaddedCrop:
    """Pad every side and cut a window of the old size at a random place."""

    def __init__(self, padding: int, mode: str, fill: list[int] | None) -> None:
        self.padding, self.mode, self.fill = padding, mode, fill

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = v2.functional.pad(image, self.padding, fill=self.fill, padding_mode=self.mode)
        top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
        return padded[:, top : top + height, left : left + width]


class _Affine:
    """Turn, shift, scale and shear around the colour of what is uncovered.

    torchvision's own bilinear transform multiplies the border by its mask twice where a fill is given, which leaves
    dark lines; the batched form does not.
    """

    def __init__(self, augment: Augment, fill: list[int]) -> None:
        self.augment, self.fill = augment, torch.tensor(fill, dtype=torch.float32).view(-1, 1, 1)

    def __call__(self, image: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, (1,))))
        settings = self.augment
        around = (image.float() - self.fill).unsqueeze(0)
        rotation, translate = settings.rotation, settings.translate
        moved = random_affine(
            around, generator, rotation=rotation, translate=translate, scale=settings.scale, shear=settings.shear
        )[0]
        return (moved + self.fill).round_().clamp_(0, 255).to(torch.uint8)


class _Cutout:
    """Give a square around a random pixel one colour; it may hang over the border (DeVries and Taylor 2017)."""

    def __init__(self, side: int | float, fill: list[int]) -> None:
        self.side, self.fill = side, torch.tensor(fill, dtype=torch.uint8).view(-1, 1, 1)

    def __call__(self, image: Tensor) -> Tensor:
        side = cutout_side(self.side, *image.shape[-2:])
        top, left = (torch.randint(0, size, (1,)) - side // 2 for size in image.shape[-2:])
        box = boxes(image.unsqueeze(0), top, left, top + side, left + side)[0]
        return torch.where(box, self.fill, image)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator on the CPU, and put it back; other devices are not touched."""
    before = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(before)

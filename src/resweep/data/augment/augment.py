"""All augmentation of a run: what is on, in which order, with which draws.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Generator, Tensor

from resweep.data.augment import color, erase, geometry, mix, policies
from resweep.data.augment.settings import check_settings
from resweep.errors import Problem, RequestError
from resweep.seeding import derive_seed


@dataclass(eq=False)
class Augment:
    """Everything that may happen to training images; each setting is off at 0 or null.

    A batch goes through the policy, the changes of colour, normalisation, the crop (padded or resized), the flip, the
    affine map, random erasing, cutout and, with its targets, MixUp or CutMix. Each image has its own draws. What is
    uncovered is filled with the training mean, which is 0 after normalisation.

    Args:
        padding: pixels added on each side before a random crop to the old size.
        flip: probability of mirroring left to right.
        padding_mode: ``zero`` (the training mean) or ``reflect``.
        flip_mode: ``random``, or ``alternating``: every image mirrored in every second epoch.
        rotation: largest angle in degrees, both ways.
        translate: largest shift as share of the side.
        scale: smallest and largest factor; None for no scaling.
        shear: largest angle in degrees, along the x axis.
        resized_crop: smallest and largest share of the area of a window that is scaled to the old size; None for none.
        brightness, contrast, saturation: the factor is uniform in [max(0, 1 - value), 1 + value].
        hue: largest turn as share of the colour circle, both ways, up to 0.5.
        grayscale: probability of losing the colour.
        policy: ``randaugment``, ``autoaugment``, ``trivialaugment``, ``augmix`` or None.
        policy_ops: randaugment: operations per image; augmix: chains.
        policy_magnitude: randaugment: 0 to 30; augmix: severity, 1 to 10.
        policy_name: autoaugment: ``cifar10``, ``imagenet`` or ``svhn``.
        erasing: probability of random erasing.
        cutout: side of the square: whole pixels, or a share of the shorter side of the image between 0 and 1.
        mixup, cutmix: alpha of the Beta distribution of an image's own share; with both on, each batch gets one.
        mix_probability: that a batch is mixed, where MixUp or CutMix is on.

    Raises:
        ValueError: if a value is outside its range or does not go with another; the message names it.

    Randomness: generators on the CPU with seeds made from the run's seed, the epoch and the batch, so the same call
    gives the same images; the global generator is untouched. What is off draws nothing.
    Source: see the functions, and the file of each choice in ``conf/augment``.
    """

    padding: int = 0
    flip: float = 0.0
    _: KW_ONLY
    padding_mode: str = "zero"
    flip_mode: str = "random"
    rotation: float = 0.0
    translate: float = 0.0
    scale: Sequence[float] | None = None
    shear: float = 0.0
    resized_crop: Sequence[float] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grayscale: float = 0.0
    policy: str | None = None
    policy_ops: int = 2
    policy_magnitude: int = 9
    policy_name: str = "cifar10"
    erasing: float = 0.0
    cutout: int | float = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0

    def __post_init__(self) -> None:
        check_settings(dict(vars(self)))
        for name in ("scale", "resized_crop"):
            if getattr(self, name) is not None:
                setattr(self, name, tuple(map(float, getattr(self, name))))
        self._auto_augment = policies.AutoAugment(self.policy_name) if self.policy == "autoaugment" else None

    @property
    def mixes(self) -> bool:
        """Whether :meth:`mix` may do anything, so that targets are shares and not labels."""
        return (self.mixup > 0 or self.cutmix > 0) and self.mix_probability > 0

    @property
    def colors(self) -> bool:
        """Whether colours are changed, the policy left aside."""
        return bool(self.brightness or self.contrast or self.saturation or self.hue or self.grayscale)

    def check(
        self,
        batch_size: int,
        train_count: int,
        image_shape: tuple[int, int, int] | None = None,
        drop_last: bool = False,
    ) -> None:
        """Refuse data that this augmentation cannot work with.

        Args:
            batch_size: images per training batch.
            train_count: images of the training split.
            image_shape: (C, H, W), where it is known.
            drop_last: whether a smaller last batch is left out.

        Raises:
            RequestError: a batch has one image and MixUp or CutMix is on, or the padding or the cut-out square is as
                large as an image.
        """
        if self.mixes and batch_size == 1:
            self._refuse(batch_size, "every batch has one image", 2)
        if self.mixes and not drop_last and train_count % batch_size == 1:
            sizes = (size for size in range(batch_size + 1, 2 * batch_size + 2) if train_count % size != 1)
            self._refuse(batch_size, f"the last batch of the {train_count} training images has one image", next(sizes))
        if image_shape is not None and (problems := list(self._too_large(*image_shape[1:]))):
            raise RequestError(problems)

    def _too_large(self, height: int, width: int) -> Iterator[Problem]:
        """Name the settings in pixels that leave nothing of an image of this size."""
        size, shorter, longer = f"{height}x{width}", min(height, width), max(height, width)
        if self.padding >= shorter:
            why = "reflection" if self.padding_mode == "reflect" else "a crop that shows some of the image"
            message = f"{why} needs fewer pixels than the side of an image, and the images are {size}"
            message += f"; usual is an eighth of the side: augment.padding={shorter // 8}"
            yield Problem("augment.padding", str(self.padding), message)
        if self.cutout >= 1 and self.cutout >= shorter:
            verb = "covers" if self.cutout >= 2 * longer - 1 else "can cover"
            what = "the whole" if self.cutout >= longer else "the shorter side of the"
            message = f"{verb} {what} {size} image; use fewer pixels, or a share of the shorter side as in 0.5"
            yield Problem("augment.cutout", str(self.cutout), message)

    def _refuse(self, batch_size: int, which: str, better: int) -> None:
        given = {"mixup": self.mixup, "cutmix": self.cutmix}
        names = " and ".join(f"augment.{name}={alpha}" for name, alpha in given.items() if alpha)
        message = f"{which}, and {names} mixes an image with another one; set data.batch_size={better}"
        raise RequestError(Problem("data.batch_size", str(batch_size), message))

    def images(
        self,
        images: Tensor,
        normalize: Callable[[Tensor], Tensor],
        *,
        positions: Tensor,
        epoch: int,
        seed: int,
        index: int,
    ) -> Tensor:
        """Return a batch augmented and normalised.

        Args:
            images: uint8, shape (B, C, H, W), on any device; not changed.
            normalize: makes a new normalised float32 batch of one in 0..255 (uint8, or float32 after changes of
                colour); per channel an increasing linear function.
            positions: int64, shape (B,), of the images in the training split.
            epoch: from 0.
            seed: of the run.
            index: of the batch in the epoch, from 0.

        Returns:
            float32, shape (B, C, H, W).

        Randomness: a generator seeded by ``derive_seed(seed, "augment", epoch, index)``.
        """
        generator = torch.Generator().manual_seed(derive_seed(seed, "augment", epoch, index))
        if self.policy is not None:
            images = self._by_policy(images, normalize, generator)
        if self.colors:
            images = self._recolored(images, generator)
        result = self._window(normalize(images), generator)
        if self.flip and self.flip_mode == "alternating":
            result = geometry.alternating_flip(result, positions, epoch, seed)
        elif self.flip:
            geometry.flip_(result, self.flip, generator)
        result = geometry.random_affine(
            result, generator, rotation=self.rotation, translate=self.translate, scale=self.scale, shear=self.shear
        )
        erase.erase_(result, self.erasing, generator)
        return erase.cutout_(result, self.cutout, generator)

    def mix(
        self, images: Tensor, targets: Tensor, num_classes: int, *, epoch: int, seed: int, index: int
    ) -> tuple[Tensor, Tensor]:
        """Mix the images of a batch and their targets, where MixUp or CutMix is on.

        Args:
            images: float, shape (B, C, H, W), normalised; not changed.
            targets: int64 labels (B,), or float (B, K), where several labels may hold.
            num_classes: K.
            epoch, seed, index: as in :meth:`images`.

        Returns:
            Images, and float32 targets (B, K); rows of targets sum to one where each image had one label. Without
            mixing both are returned as they are.

        Randomness: seeded by ``derive_seed(seed, "mix", epoch, index)``.
        """
        if not self.mixes:
            return images, targets
        return mix.mix(
            images,
            mix.soft_targets(targets, num_classes),
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            probability=self.mix_probability,
            seed=derive_seed(seed, "mix", epoch, index),
        )

    def _by_policy(self, images: Tensor, normalize: Callable[[Tensor], Tensor], generator: Generator) -> Tensor:
        fill = mean_color(normalize, images)
        if self.policy == "randaugment":
            ops, magnitude = self.policy_ops, self.policy_magnitude
            return policies.rand_augment(images, fill, generator, ops=ops, magnitude=magnitude)
        if self.policy == "trivialaugment":
            return policies.trivial_augment(images, fill, generator)
        if self._auto_augment is not None:
            return self._auto_augment(images, fill, generator)
        return policies.augmix(images, fill, generator, width=self.policy_ops, severity=self.policy_magnitude)

    def _recolored(self, images: Tensor, generator: Generator) -> Tensor:
        return color.jitter_(
            images.to(torch.float32).mul_(1 / 255),
            generator,
            brightness=self.brightness,
            contrast=self.contrast,
            saturation=self.saturation,
            hue=self.hue,
            grayscale=self.grayscale,
        ).mul_(255)

    def _window(self, images: Tensor, generator: Generator) -> Tensor:
        if self.resized_crop is not None:
            return geometry.resized_crop(images, self.resized_crop, generator)
        return geometry.crop(images, self.padding, generator, self.padding_mode)


def mean_color(normalize: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the colour that a normalisation makes 0, rounded to a whole level: float32 in 0..255, shape (C,)."""
    ends = torch.tensor((0, 255), dtype=torch.uint8, device=images.device).view(2, 1, 1, 1)
    black, white = normalize(ends.expand(-1, images.shape[1], -1, -1)).flatten(1)
    return (black / (black - white) * 255).round().clamp(0, 255)

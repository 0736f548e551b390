"""Three splits of a data set, served as normalised float batches.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import functools
import hashlib
import math

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from resweep.data.augment import Augment
from resweep.data.loader import BatchLoader
from resweep.data.samples import Samples, Source
from resweep.data.splits import SplitError, stratified_split, stratified_subset
from resweep.errors import Problem, RequestError
from resweep.seeding import derive_seed

_EVALUATION_BATCH = 512
_EVALUATION_BYTES = 64 * 2**20


class ImageDataModule(LightningDataModule):
    """Training, validation and test images of one run.

    The test images are the official ones, or are carved from the training images; so are the validation images, from
    what then remains; ``subset`` is taken from the training images that are left. All three steps keep the share of
    every class and depend on ``split_seed`` only, so that runs with different seeds see the same splits.

    Args:
        source: the data set.
        augment: applied to training batches only.
        batch_size: images per training batch.
        val_size: count or share of the validation images; not used where the source has its own.
        test_size: count or share of the test images; not used where the source has its own.
        split_seed: decides the carved splits and the subset; in [0, 2**32).
        subset: count or share of training images to use; None uses all.
        seed: the run's seed; decides the order and the augmentation of each epoch.
        num_workers: processes that decode images which do not fit into memory.
        drop_last: leave out a last training batch that is smaller.

    Attributes:
        train, val, test: the splits (Samples).
        classes, num_classes: names of the K classes, and K.
        in_channels, image_shape: C, and (C, H, W).
        mean, std: of the training split per channel, float64 of shape (C,), in units of uint8 / 255; computed when
            they are first wanted, as is ``digest``.

    Raises:
        RequestError: keys ``data.val_size``, ``data.test_size``, ``data.subset``, ``data.split_seed``,
            ``data.batch_size``, ``data.num_workers`` if a value cannot be used or leaves a split without a class.
    """

    def __init__(
        self,
        source: Source,
        augment: Augment,
        *,
        batch_size: int,
        val_size: int | float | None,
        test_size: int | float | None,
        split_seed: int,
        subset: int | float | None,
        seed: int,
        num_workers: int,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        _check_numbers(batch_size, split_seed, num_workers)
        self.train, self.val, self.test = three_splits(source, val_size, test_size, split_seed, subset)
        if drop_last and batch_size > len(self.train):
            message = f"larger than the training split of {len(self.train)} images, and smaller batches are left out"
            raise RequestError(Problem("data.batch_size", str(batch_size), message))
        self.augment = augment
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.drop_last = drop_last
        self.classes = source.classes
        self.num_classes = len(source.classes)
        self.image_shape = self.train.shape
        self.in_channels = self.image_shape[0]
        self._scale_shift: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @functools.cached_property
    def _mean_std(self) -> tuple[Tensor, Tensor]:
        return self.train.channel_mean_std()

    @property
    def mean(self) -> Tensor:
        """Mean of the training split per channel: float64, shape (C,), in units of uint8 / 255."""
        return self._mean_std[0]

    @property
    def std(self) -> Tensor:
        """Standard deviation of the training split per channel: float64, shape (C,); 1 for a constant channel."""
        return self._mean_std[1]

    @functools.cached_property
    def digest(self) -> str:
        """BLAKE2b hash of the contents of the three splits, as 32 hexadecimal characters."""
        text = " ".join(split.digest() for split in (self.train, self.val, self.test))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def train_dataloader(self) -> BatchLoader:
        """Return the training batches, in a new order each epoch.

        Raises:
            RequestError: key ``trainer.devices`` if the trainer has several processes, each of which would get all
                batches.
        """
        processes = 1 if self.trainer is None else self.trainer.world_size
        if processes > 1:
            message = "the batches are not divided between processes; train one run on one device"
            raise RequestError(Problem("trainer.devices", str(processes), message))
        return BatchLoader(
            self.train,
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            epoch=self._epoch,
            first=self._batches_done,
            drop_last=self.drop_last,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> BatchLoader:
        """Return the validation batches in fixed order."""
        return self._evaluation_loader(self.val)

    def test_dataloader(self) -> BatchLoader:
        """Return the test batches in fixed order."""
        return self._evaluation_loader(self.test)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor, int], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Normalise a batch on its device and, while training, augment it.

        Args:
            batch: uint8 images (B, C, H, W), int64 labels (B,), index of the batch in its epoch.
            dataloader_idx: not used.

        Returns:
            Float images (B, C, H, W) in the trainer's precision, and the labels.
        """
        images, labels, index = batch
        images = self.normalize(images)
        if self.trainer.training:
            images = self.augmented(images, self._epoch(), index)
        return self.trainer.precision_plugin.convert_input(images), labels

    def normalize(self, images: Tensor) -> Tensor:
        """Return (images / 255 - mean) / std.

        Args:
            images: uint8, shape (B, C, H, W), on any device.

        Returns:
            A new float32 tensor of the same shape.
        """
        if images.device not in self._scale_shift:
            scale, shift = 1 / (255 * self.std), -self.mean / self.std
            self._scale_shift[images.device] = tuple(
                value.to(images.device, torch.float32).view(-1, 1, 1) for value in (scale, shift)
            )
        scale, shift = self._scale_shift[images.device]
        return images.to(torch.float32, copy=True).mul_(scale).add_(shift)

    def augmented(self, images: Tensor, epoch: int, index: int) -> Tensor:
        """Return training images with the augmentation that belongs to a place in the run.

        Args:
            images: float, shape (B, C, H, W), normalised; not changed.
            epoch: from 0.
            index: of the batch in the epoch, from 0.

        Randomness: a generator seeded by ``derive_seed(seed, "augment", epoch, index)``.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "augment", epoch, index))
        return self.augment(images, generator)

    def _epoch(self) -> int:
        """Count the finished epochs; 0 without a trainer."""
        return 0 if self.trainer is None else self.trainer.current_epoch

    def _batches_done(self) -> int:
        """Count the batches of the present epoch that are done: more than 0 where a run is continued within one."""
        return 0 if self.trainer is None else self.trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def _evaluation_loader(self, samples: Samples) -> BatchLoader:
        """Use larger batches, as nothing is kept for a backward pass, but not much memory."""
        fitting = _EVALUATION_BYTES // (4 * math.prod(self.image_shape))
        batch_size = max(self.batch_size, min(_EVALUATION_BATCH, fitting))
        return BatchLoader(samples, batch_size, shuffle=False, seed=self.seed, num_workers=self.num_workers)


def three_splits(
    source: Source,
    val_size: int | float | None,
    test_size: int | float | None,
    split_seed: int,
    subset: int | float | None,
) -> tuple[Samples, Samples, Samples]:
    """Return the training, validation and test split (see :class:`ImageDataModule`).

    Raises:
        RequestError: if a size cannot be used or a split would lack a class; the key is that of the size.
    """
    labels, classes = source.train.labels, source.classes
    rest, val, test = torch.arange(len(labels)), source.val, source.test
    if test is None:
        rest, part = _carve("data.test_size", labels, rest, test_size, split_seed, classes)
        test = source.train.take(part)
    if val is None:
        rest, part = _carve("data.val_size", labels, rest, val_size, split_seed, classes)
        val = source.train.take(part)
    if subset is not None:
        try:
            rest = rest[stratified_subset(labels[rest], subset, split_seed, classes)]
        except SplitError as error:
            raise RequestError(Problem("data.subset", str(subset), error.reason)) from error
        _require_classes("data.subset", subset, "training", labels[rest], classes)
    return (source.train if len(rest) == len(labels) else source.train.take(rest)), val, test


def _carve(
    key: str, labels: Tensor, positions: Tensor, size: int | float | None, seed: int, classes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """Divide positions into rest and part, both with every class."""
    if size is None:
        message = "this data set has no split of its own for it: give a count of images or a share between 0 and 1"
        raise RequestError(Problem(key, "null", message))
    try:
        rest, part = stratified_split(labels[positions], size, seed, classes)
    except SplitError as error:
        raise RequestError(Problem(key, str(size), error.reason)) from error
    rest, part = positions[rest], positions[part]
    _require_classes(key, size, {"data.val_size": "validation", "data.test_size": "test"}[key], labels[part], classes)
    _require_classes(key, size, "training", labels[rest], classes)
    return rest, part


def _require_classes(key: str, size: int | float, split: str, labels: Tensor, classes: tuple[str, ...]) -> None:
    """Refuse a split without any image of some class."""
    absent = (torch.bincount(labels, minlength=len(classes)) == 0).nonzero().flatten().tolist()
    if absent:
        names = ", ".join(classes[label] for label in absent[:10])
        more = "" if len(absent) <= 10 else f" and {len(absent) - 10} more"
        message = f"leaves no image of these classes in the {split} split: {names}{more}; use another size"
        raise RequestError(Problem(key, str(size), message))


def _check_numbers(batch_size: int, split_seed: int, num_workers: int) -> None:
    """Refuse values outside their range, all at once."""
    ranges = {
        "data.batch_size": (batch_size, batch_size >= 1, "at least 1 is needed"),
        "data.split_seed": (split_seed, 0 <= split_seed < 2**32, "a whole number from 0 to 4294967295 is needed"),
        "data.num_workers": (num_workers, num_workers >= 0, "at least 0 is needed"),
    }
    problems = [Problem(key, str(value), message) for key, (value, fits, message) in ranges.items() if not fits]
    if problems:
        raise RequestError(problems)

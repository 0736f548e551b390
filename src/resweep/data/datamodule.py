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
from resweep.data.augment.per_image import PerImage
from resweep.data.balance import BALANCES, BalancedLoader, class_weights
from resweep.data.base import Samples, Source
from resweep.data.convert import mean_std, to_channels, to_size
from resweep.data.divide import Division, three_splits
from resweep.data.loader import BatchLoader
from resweep.data.samples import OnDisk
from resweep.errors import Problem, RequestError, nearest_name

_EVALUATION_BATCH = 512
_EVALUATION_BYTES = 64 * 2**20


class ImageDataModule(LightningDataModule):
    """Training, validation and test images of one run.

    How they are divided is said in :class:`resweep.data.divide.Division`; it depends on ``split_seed`` only, so that
    runs with different seeds see the same splits.

    Args:
        source: the data set.
        augment: applied to training batches only.
        batch_size: images per training batch.
        val_size, test_size, split_seed, subset, num_folds, fold, label_noise: see ``Division``.
        balance: None; ``sampling``: an epoch draws as many images as there are, with replacement, all classes equally
            likely; ``weights``: ``class_weights`` for the loss.
        image_size: side S in pixels; the largest centred square of every image is scaled to it on the device, before
            augmentation; None leaves the images' own size.
        channels: 1 (grey) or 3 (colour), converted likewise; None leaves the images' own.
        seed: the run's seed; decides the order and the augmentation of each epoch.
        num_workers: processes that decode images which do not fit into memory.
        drop_last: leave out a last training batch that is smaller.

    Attributes:
        train, val, test: the splits (Samples), before ``image_size`` and ``channels``.
        classes, num_classes: names of the K classes, and K.
        multilabel: whether an image may have several labels, which are then 0 and 1 of shape (N, K).
        in_channels, image_shape: C, and (C, H, W), of a batch.
        mean, std: of the training split per channel, at its own size; float64 of shape (C,), in units of uint8 / 255;
            computed when they are first wanted, as is ``digest``.
        class_weights: with ``balance="weights"`` float32 of shape (K,), see
            :func:`resweep.data.balance.class_weights`; else None.

    Raises:
        RequestError: the key ``data.…`` of every value that cannot be used or leaves a split without a class; keys of
            ``augment.check``.
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
        num_folds: int | None = None,
        fold: int | None = None,
        label_noise: float = 0.0,
        balance: str | None = None,
        image_size: int | None = None,
        channels: int | None = None,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        self.multilabel = source.multilabel
        _check_numbers(batch_size, split_seed, num_workers, image_size, channels)
        _check_balance(balance, self.multilabel)
        division = Division(val_size, test_size, split_seed, subset, num_folds, fold, label_noise)
        self.train, self.val, self.test = three_splits(source, division)
        if drop_last and batch_size > len(self.train):
            message = f"larger than the training split of {len(self.train)} images, and smaller batches are left out"
            raise RequestError(Problem("data.batch_size", str(batch_size), message))
        self.augment = augment
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.balance = balance
        self.drop_last = drop_last
        self.classes = source.classes
        self.num_classes = len(source.classes)
        own = self.train.shape
        self.image_shape = (channels or own[0], *((image_size, image_size) if image_size else own[1:]))
        self.in_channels = self.image_shape[0]
        self.class_weights = None
        if balance == "weights":
            _require_negatives(self.train.labels, self.classes)
            self.class_weights = class_weights(self.train.labels, self.num_classes)
        augment.check(batch_size, len(self.train), self.image_shape, drop_last)
        self._side = image_size
        self._converts = self.image_shape != own
        self._on_disk = isinstance(self.train, OnDisk)
        self._scale_shift: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @functools.cached_property
    def _mean_std(self) -> tuple[Tensor, Tensor]:
        return mean_std(self.train, self.in_channels)

    @functools.cached_property
    def _per_image(self) -> PerImage:
        """The augmentation in the form that changes pictures as they are decoded; what it uncovers gets the mean."""
        fill = 255 * self.train.channel_mean_std()[0]
        size, channels = self.train.image_size, self.train.shape[0]
        return PerImage(self.augment, size, channels, fill.tolist(), self.train.crop_pct)

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

    @property
    def train_batches(self) -> int:
        """Count the training batches of an epoch; unlike asking the loader this looks at no image."""
        return len(BatchLoader(self.train, self.batch_size, shuffle=False, seed=self.seed, drop_last=self.drop_last))

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
        return (BalancedLoader if self.balance == "sampling" else BatchLoader)(
            self.train,
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            epoch=self._epoch,
            first=self._batches_done,
            drop_last=self.drop_last,
            num_workers=self.num_workers,
            transform=self._per_image if self._on_disk else None,
        )

    def val_dataloader(self) -> BatchLoader:
        """Return the validation batches in fixed order."""
        return self.evaluation_loader(self.val)

    def test_dataloader(self) -> BatchLoader:
        """Return the test batches in fixed order."""
        return self.evaluation_loader(self.test)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, Tensor, Tensor, int], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Scale and normalise a batch on its device and, while training, augment it.

        Args:
            batch: uint8 images (B, C, H, W), labels, positions of the images in their split (B,), index of the batch in
                its epoch.
            dataloader_idx: not used.

        Returns:
            Float images (B, C, H, W) in the trainer's precision, and targets: int64 labels (B,), or float (B, K) where
            an image may have several labels or is a mixture.
        """
        images, targets, positions, index = batch
        if self._converts:
            images = to_channels(images, self.in_channels)
            images = images if self._side is None else to_size(images, self._side)
        if self.trainer.training:
            epoch = self._epoch()
            # Files were augmented where they were decoded.
            images = self.normalize(images) if self._on_disk else self.augmented(images, epoch, index, positions)
            if self.augment.mixes:
                images, targets = self.augment.mix(
                    images, targets, self.num_classes, epoch=epoch, seed=self.seed, index=index
                )
        else:
            images = self.normalize(images)
        convert = self.trainer.precision_plugin.convert_input
        return convert(images), convert(targets) if targets.is_floating_point() else targets

    def normalize(self, images: Tensor) -> Tensor:
        """Return (images / 255 - mean) / std.

        Args:
            images: uint8 or float in 0..255, shape (B, C, H, W), on any device.

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

    def augmented(self, images: Tensor, epoch: int, index: int, positions: Tensor) -> Tensor:
        """Return training images, normalised and with the augmentation that belongs to a place in the run.

        Args:
            images: uint8, shape (B, C, H, W); not changed.
            epoch: from 0.
            index: of the batch in the epoch, from 0.
            positions: int64, shape (B,), of the images in the training split.

        Randomness: see :meth:`resweep.data.augment.Augment.images`.
        """
        return self.augment.images(
            images, self.normalize, positions=positions, epoch=epoch, seed=self.seed, index=index
        )

    def _epoch(self) -> int:
        """Count the finished epochs; 0 without a trainer."""
        return 0 if self.trainer is None else self.trainer.current_epoch

    def _batches_done(self) -> int:
        """Count the batches of the present epoch that are done: more than 0 where a run is continued within one."""
        return 0 if self.trainer is None else self.trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def evaluation_loader(self, samples: Samples) -> BatchLoader:
        """Use larger batches, as nothing is kept for a backward pass, but not much memory."""
        fitting = _EVALUATION_BYTES // (4 * math.prod(self.image_shape))
        batch_size = max(self.batch_size, min(_EVALUATION_BATCH, fitting))
        return BatchLoader(samples, batch_size, shuffle=False, seed=self.seed, num_workers=self.num_workers)


def _check_numbers(
    batch_size: int, split_seed: int, num_workers: int, image_size: int | None, channels: int | None
) -> None:
    """Refuse values outside their range, all at once."""
    ranges = {
        "data.batch_size": (batch_size, batch_size >= 1, "at least 1 is needed"),
        "data.split_seed": (split_seed, 0 <= split_seed < 2**32, "a whole number from 0 to 4294967295 is needed"),
        "data.num_workers": (num_workers, num_workers >= 0, "at least 0 is needed"),
        "data.image_size": (image_size, image_size is None or image_size >= 1, "use null or a side in pixels"),
        "data.channels": (channels, channels in (None, 1, 3), "use 1 (grey), 3 (colour) or null"),
    }
    problems = [Problem(key, str(value), message) for key, (value, fits, message) in ranges.items() if not fits]
    if problems:
        raise RequestError(problems)


def _require_negatives(labels: Tensor, classes: tuple[str, ...]) -> None:
    """Refuse labels that all training images have: they have no negatives to be weighed against."""
    everywhere = [classes[k] for k in (labels == 1).all(0).nonzero().flatten().tolist()] if labels.ndim == 2 else []
    if everywhere:
        message = (
            f"every training image has the label {', '.join(everywhere)}, which leaves nothing to weigh it against"
        )
        raise RequestError(Problem("data.balance", "weights", f"{message}; set data.balance=null"))


def _check_balance(balance: str | None, multilabel: bool) -> None:
    """Refuse what is no way to balance classes."""
    if balance is not None and balance not in BALANCES:
        message = f"must be one of {', '.join(BALANCES)}, or null"
        raise RequestError(Problem("data.balance", str(balance), message, nearest_name(str(balance), BALANCES)))
    if balance == "sampling" and multilabel:
        message = "an image with several labels has no class to be drawn by; use data.balance=weights"
        raise RequestError(Problem("data.balance", "sampling", message))

"""Batches in an order that depends on the seed and the epoch only.

A loader with workers, or a generator that lives on, draws from a state that a continued run would have to restore.
Here the order of an epoch is a function of (seed, epoch), so there is nothing to restore, and images in memory are
picked by one indexing operation per batch. The augmentation of images that are decoded in workers is a function of
(seed, epoch, position), whoever decodes them.

Shapes: N images, B images of a batch, C channels, H height, W width, S side of a square image.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resweep.data.base import Samples
from resweep.data.decode import UnreadableImage
from resweep.data.samples import OnDisk
from resweep.seeding import derive_seed

DEAD_WORKER = "a process that loads data has died, perhaps for lack of memory"


class Transform(Protocol):
    """Makes a batch from pictures of any size, as :class:`resweep.data.augment.per_image.PerImage` does."""

    def batch(self, pictures: Iterable[Image.Image], positions: Tensor, epoch: int, seed: int) -> Tensor:
        """Return uint8 images (B, C, S, S) that depend on the arguments only.

        Args:
            pictures: B pictures of mode ``L`` or ``RGB``.
            positions: int64, shape (B,), of the pictures in the samples.
            epoch: from 0.
            seed: of the run.
        """


class BatchLoader:
    """Go through samples in batches.

    Yields tuples of uint8 images (B, C, H, W), labels (int64 (B,), or float32 (B, K) where an image may show several
    classes), int64 positions in the samples (B,) and the batch's index in the epoch (int). Positions and index travel
    with the batch, so that nobody has to count and a look-ahead cannot disturb the count.

    Args:
        samples: what to go through.
        batch_size: B; the last batch of an epoch may be smaller.
        shuffle: a new order each epoch; otherwise the order of the samples.
        seed: with the epoch it decides the order.
        epoch: asked at the first batch of each pass; needed when shuffling.
        first: asked at the first batch of each pass: index of the batch with which it begins; a run that is continued
            in the middle of an epoch leaves out those it has seen. None for 0.
        drop_last: leave a smaller last batch out.
        num_workers: processes that decode samples on disk; 0 decodes in this process. Samples in memory need none.
        transform: makes the images from the decoded files; for samples on disk only. None takes them as
            :meth:`OnDisk.batch` gives them.

    Raises:
        ValueError: if batch_size is below 1, shuffling or a transform has no epoch, or samples in memory have a
            transform.

    Randomness: ``torch.randperm`` seeded by ``derive_seed(seed, "order", epoch)``; the global generator is untouched.
    The bits of a batch do not depend on num_workers, nor on what was read before.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        shuffle: bool,
        seed: int,
        *,
        epoch: Callable[[], int] | None = None,
        first: Callable[[], int] | None = None,
        drop_last: bool = False,
        num_workers: int = 0,
        transform: Transform | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least 1 is needed")
        if (shuffle or transform is not None) and epoch is None:
            raise ValueError("epoch=None: shuffling and augmenting need to know the epoch")
        if transform is not None and not isinstance(samples, OnDisk):
            raise ValueError("transform: samples in memory are augmented as batches")
        self.samples = samples
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.first = first
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.transform = transform

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        whole, rest = divmod(len(self.samples), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
        """Go through the present epoch; which one that is, is asked when the first batch is wanted.

        Lightning makes iterators ahead of time, when a continued run does not know its epoch yet.
        """
        first = 0 if self.first is None else self.first()
        batches = self.order().split(self.batch_size)[first : len(self)]
        for index, (positions, (images, labels)) in enumerate(zip(batches, self._read(batches), strict=True), first):
            yield images, labels, positions, index

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: order and place are asked for, not kept. Tells Lightning that a pass can be continued."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing, see :meth:`state_dict`."""

    def order(self) -> Tensor:
        """Return the positions of the samples in the order of the present epoch: int64, shape (N,)."""
        if not self.shuffle:
            return torch.arange(len(self.samples))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch()))
        return torch.randperm(len(self.samples), generator=generator)

    def _read(self, batches: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        """Read the batches here, or in worker processes where that saves time."""
        if not isinstance(self.samples, OnDisk):
            return map(self.samples.batch, batches)
        epoch = 0 if self.epoch is None else self.epoch()
        source = _Batches(self.samples, self.transform, epoch, self.seed)
        return map(source.__getitem__, batches) if self.num_workers == 0 else self._read_in_workers(source, batches)

    def _read_in_workers(self, source: _Batches, batches: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        """Let torch's loader hand whole batches of positions to its processes."""
        try:
            yield from _started(source, batches, self.num_workers)
            return
        except UnreadableImage as error:
            # The same one line as without workers, where torch adds the worker's traceback. The frames are let go
            # because they would keep the processes waiting until the next garbage collection.
            message = str(error).strip().rsplit(f"{UnreadableImage.__name__}: ", 1)[-1]
            error.__traceback__ = None
        except (ConnectionError, EOFError):
            raise RuntimeError(DEAD_WORKER) from None
        except RuntimeError as error:  # torch's, when it looks at its processes after an error of its own
            if "exited unexpectedly" not in str(error):
                raise
            raise RuntimeError(DEAD_WORKER) from None
        raise UnreadableImage(message)


def _started(source: _Batches, batches: tuple[Tensor, ...], num_workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Start the processes, without a warning."""
    with warnings.catch_warnings():
        # The user has asked for as many workers; and torch's, once forked, use one thread and no lock of others.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        warnings.filterwarnings("ignore", ".* is multi-threaded, use of fork", DeprecationWarning)
        loader = DataLoader(
            source,
            sampler=batches,
            batch_size=None,
            num_workers=num_workers,
            collate_fn=_unchanged,
            worker_init_fn=_leave_signals,
            generator=torch.Generator(),  # otherwise the loader draws from the global one, depending on num_workers
        )
        return iter(loader)


def _leave_signals(_: int) -> None:
    """Leave Ctrl-C to the run's own process, which still needs its batches while it saves; end at SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Batches(Dataset):
    """Give a whole batch for each list of positions."""

    def __init__(self, samples: OnDisk, transform: Transform | None, epoch: int, seed: int) -> None:
        self.samples = samples
        self.transform = transform
        self.epoch = epoch
        self.seed = seed

    def __getitem__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        if self.transform is None:
            return self.samples.batch(positions)
        pictures = self.samples.pictures(positions)
        return self.transform.batch(pictures, positions, self.epoch, self.seed), self.samples.labels[positions]


def _unchanged(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Keep a batch as the worker made it."""
    return batch

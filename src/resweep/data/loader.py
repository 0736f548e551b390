"""Batches in an order that depends on the seed and the epoch only.

A loader with workers, or a generator that lives on, draws from a state that a continued run would have to restore.
Here the order of an epoch is a function of (seed, epoch), so there is nothing to restore, and images in memory are
picked by one indexing operation per batch.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resweep.data.samples import OnDisk, Samples, UnreadableImage
from resweep.seeding import derive_seed


class BatchLoader:
    """Go through samples in batches.

    Yields tuples of uint8 images (B, C, H, W), int64 labels (B,) and the batch's index in the epoch (int). The index
    travels with the batch, so that nobody has to count and a look-ahead cannot disturb the count.

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

    Raises:
        ValueError: if batch_size is below 1 or shuffling has no epoch.

    Randomness: ``torch.randperm`` seeded by ``derive_seed(seed, "order", epoch)``; the global generator is untouched.
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
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least 1 is needed")
        if shuffle and epoch is None:
            raise ValueError("epoch=None: shuffling needs to know the epoch")
        self.samples = samples
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.first = first
        self.drop_last = drop_last
        self.num_workers = num_workers

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        whole, rest = divmod(len(self.samples), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Go through the present epoch; which one that is, is asked when the first batch is wanted.

        Lightning makes iterators ahead of time, when a continued run does not know its epoch yet.
        """
        first = 0 if self.first is None else self.first()
        batches = self.order().split(self.batch_size)[first : len(self)]
        for index, (images, labels) in enumerate(self._read(batches), first):
            yield images, labels, index

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
        if self.num_workers == 0 or not isinstance(self.samples, OnDisk):
            return map(self.samples.batch, batches)
        return self._read_in_workers(batches)

    def _read_in_workers(self, batches: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        """Let torch's loader hand whole batches of positions to its processes."""
        loader = DataLoader(
            _Batches(self.samples),
            sampler=batches,
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=_unchanged,
            worker_init_fn=_leave_signals,
            generator=torch.Generator(),  # otherwise the loader draws from the global one, depending on num_workers
        )
        try:
            yield from loader
            return
        except UnreadableImage as error:
            # The same one line as without workers, where torch adds the worker's traceback. The frames are let go
            # because they would keep the processes waiting until the next garbage collection.
            message = str(error).strip().rsplit(f"{UnreadableImage.__name__}: ", 1)[-1]
            error.__traceback__ = None
        except (ConnectionError, EOFError):
            raise RuntimeError("a process that loads data has died, perhaps for lack of memory") from None
        raise UnreadableImage(message)


def _leave_signals(_: int) -> None:
    """Leave Ctrl-C to the run's own process, which still needs its batches while it saves; end at SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Batches(Dataset):
    """Give a whole batch for each list of positions."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.samples.batch(indices)


def _unchanged(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Keep a batch as the worker made it."""
    return batch

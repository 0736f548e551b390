"""What every set of images with labels can do, and what a data set is.

Shapes: N images, B images of a batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK_BYTES = 8 * 2**20


class Samples(ABC):
    """N images of one shape with their labels.

    Attributes:
        labels: int64, shape (N,), values in [0, K); or, where an image may show several classes, float32, shape (N, K),
            1 for each class that it shows and 0 for the others.
    """

    labels: Tensor

    def __len__(self) -> int:
        """Count the images: N."""
        return len(self.labels)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""

    @abstractmethod
    def take(self, indices: Tensor) -> Samples:
        """Return the samples at some positions, in that order; the images are shared, not copied.

        Args:
            indices: int64, shape (n,), positions in [0, N).
        """

    @abstractmethod
    def relabelled(self, labels: Tensor) -> Samples:
        """Return the same images with other labels; the images are shared.

        Args:
            labels: as ``labels`` of this class.
        """

    @abstractmethod
    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and the labels at some positions.

        Args:
            indices: int64, shape (B,), positions in [0, N).

        Returns:
            uint8 images, shape (B, C, H, W), and labels, int64 (B,) or float32 (B, K).
        """

    @abstractmethod
    def digest(self) -> str:
        """Return a fingerprint of the contents: 32 hexadecimal characters."""

    def channel_mean_std(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of each channel, in units of uint8 / 255.

        The population standard deviation (division by the number of pixels), from exact whole-number sums over the
        histogram of each channel. A channel that is constant has a standard deviation of 0 and gets 1 instead, so that
        dividing by it leaves zeros.

        Returns:
            Two float64 tensors of shape (C,).
        """
        means, stds = self._means_stds()
        return torch.tensor(means, dtype=torch.float64), torch.tensor(stds, dtype=torch.float64)

    def _means_stds(self) -> tuple[list[float], list[float]]:
        """Compute the C means and the C standard deviations."""
        means, stds = [], []
        for counts in self._histograms().tolist():
            pixels = sum(counts)
            total = sum(value * count for value, count in enumerate(counts))
            squares = sum(value * value * count for value, count in enumerate(counts))
            means.append(total / (255 * pixels))
            stds.append(math.sqrt(pixels * squares - total * total) / (255 * pixels) or 1.0)
        return means, stds

    def _histograms(self) -> Tensor:
        """Count the 256 values of each channel: int64, shape (C, 256)."""
        counts = torch.zeros(self.shape[0], 256, dtype=torch.int64)
        for images in self._image_chunks():
            for channel, row in enumerate(counts):
                row += torch.bincount(images[:, channel].reshape(-1), minlength=256)
        return counts

    @abstractmethod
    def _image_chunks(self) -> Iterator[Tensor]:
        """Go through all images in order, a bounded number at a time."""

    def _chunk_length(self) -> int:
        """Count the images that make about 8 MiB."""
        return max(1, _CHUNK_BYTES // math.prod(self.shape))


@dataclass(frozen=True)
class Source:
    """A data set as it was published.

    Args:
        train: the images to learn from; validation (and test) images are carved from them where there are no own ones.
        val: an official validation split, None when there is none.
        test: an official test split, None when there is none.
        classes: the names of the K classes in the order of the labels.
        mirror: whether a horizontally mirrored image still shows its class.
    """

    train: Samples
    val: Samples | None
    test: Samples | None
    classes: tuple[str, ...]
    mirror: bool

    @property
    def multilabel(self) -> bool:
        """Whether an image may show several classes or none."""
        return self.train.labels.ndim == 2


def check_labels(labels: Tensor, count: int) -> None:
    """Refuse labels of another type or number.

    Raises:
        ValueError: the message says what is expected.
    """
    single = labels.dtype == torch.int64 and labels.shape == (count,)
    several = labels.dtype == torch.float32 and labels.ndim == 2 and len(labels) == count
    if not (single or several):
        raise ValueError(
            f"labels: int64 of shape ({count},) or float32 of shape ({count}, K) expected, "
            f"got {labels.dtype} {tuple(labels.shape)}"
        )

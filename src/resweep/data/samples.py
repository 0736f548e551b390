"""Images with their labels: held in memory, or decoded from files when a batch asks for them.

Shapes: N images, B images of a batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import math
import os
import struct
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

_MODES = {1: "L", 3: "RGB"}
_CHUNK_BYTES = 8 * 2**20
Item = TypeVar("Item")
Result = TypeVar("Result")


class UnreadableImage(OSError):
    """A file that cannot be decoded as an image; the text names the file and the reason."""


class Samples(ABC):
    """N images of one shape with their labels.

    Attributes:
        labels: int64, shape (N,), values in [0, K).
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
        """Return the samples at some positions, in that order.

        Args:
            indices: int64, shape (n,), positions in [0, N).
        """

    @abstractmethod
    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and the labels at some positions.

        Args:
            indices: int64, shape (B,), positions in [0, N).

        Returns:
            uint8 images, shape (B, C, H, W), and int64 labels, shape (B,).
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
        means, stds = [], []
        for counts in self._histograms().tolist():
            pixels = sum(counts)
            total = sum(value * count for value, count in enumerate(counts))
            squares = sum(value * value * count for value, count in enumerate(counts))
            means.append(total / (255 * pixels))
            stds.append(math.sqrt(pixels * squares - total * total) / (255 * pixels) or 1.0)
        return torch.tensor(means, dtype=torch.float64), torch.tensor(stds, dtype=torch.float64)

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


class InMemory(Samples):
    """Images held as one tensor.

    Args:
        images: uint8, shape (N, C, H, W).
        labels: int64, shape (N,).

    Raises:
        ValueError: if a tensor has another type or shape; the message names it.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images: uint8 of shape (N, C, H, W) expected, got {images.dtype} {tuple(images.shape)}")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise ValueError(f"labels: int64 of shape ({len(images)},) expected, got {labels.dtype} {labels.shape}")
        self.images = images.contiguous()
        self.labels = labels.contiguous()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""
        return tuple(self.images.shape[1:])

    def take(self, indices: Tensor) -> InMemory:
        """Return a copy of the samples at some positions (see :meth:`Samples.take`)."""
        return InMemory(*self.batch(indices))

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and the labels at some positions (see :meth:`Samples.batch`)."""
        return self.images.index_select(0, indices), self.labels.index_select(0, indices)

    def digest(self) -> str:
        """Return the BLAKE2b hash of shape, labels and pixels."""
        digest = hashlib.blake2b(repr(tuple(self.images.shape)).encode(), digest_size=16)
        digest.update(self.labels.numpy().astype("<i8").tobytes())
        digest.update(memoryview(self.images.numpy()).cast("B"))
        return digest.hexdigest()

    def _image_chunks(self) -> Iterator[Tensor]:
        return iter(self.images.split(self._chunk_length()))


class OnDisk(Samples):
    """Image files that are decoded each time a batch asks for them.

    Gives the same bits as decoding all of them first (both use :func:`read_image`). A file that has become unreadable
    or has changed its size raises :class:`UnreadableImage` when it is met.

    Args:
        paths: one image file per sample.
        labels: int64, shape (N,).
        image_size: side S of the square images in pixels; None leaves every image at its own size, which must be the
            same for all.
        channels: 1 (grey) or 3 (colour).
        root: folder that the paths of the digest are relative to; None takes them as they are.
    """

    def __init__(
        self, paths: Sequence[Path], labels: Tensor, image_size: int | None, channels: int, root: Path | None = None
    ) -> None:
        self.paths = list(paths)
        self.labels = labels
        self.image_size = image_size
        self.channels = channels
        self.root = root

    @functools.cached_property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image; without image_size that of the first file."""
        if self.image_size is not None:
            return self.channels, self.image_size, self.image_size
        width, height = read_size(self.paths[0])
        return self.channels, height, width

    def take(self, indices: Tensor) -> OnDisk:
        """Return the samples at some positions (see :meth:`Samples.take`); no file is opened."""
        paths = [self.paths[index] for index in indices.tolist()]
        return OnDisk(paths, self.labels[indices], self.image_size, self.channels, self.root)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the images at some positions (see :meth:`Samples.batch`).

        Raises:
            UnreadableImage: if a file cannot be decoded or has another size than the first one.
        """
        images = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        for target, index in zip(images.numpy(), indices.tolist(), strict=True):
            pixels = read_image(self.paths[index], self.image_size, self.channels)
            if pixels.shape != target.shape:
                found, expected = (f"{height}x{width}" for _, height, width in (pixels.shape, target.shape))
                raise UnreadableImage(f"image {self.paths[index]} is {found} (height x width), the others {expected}")
            target[:] = pixels
        return images, self.labels[indices]

    def digest(self) -> str:
        """Return the BLAKE2b hash of labels, relative paths, file sizes and times of last change.

        The pixels are not read: a copy of the folder with other file times has another digest.
        """
        digest = hashlib.blake2b(f"{self.image_size} {self.channels}".encode(), digest_size=16)
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            name = path if self.root is None else path.relative_to(self.root)
            facts = path.stat()
            digest.update(f"\n{label} {facts.st_size} {facts.st_mtime_ns} {name.as_posix()}".encode())
        return digest.hexdigest()

    def _image_chunks(self) -> Iterator[Tensor]:
        chunks = torch.arange(len(self)).split(self._chunk_length())
        return (images for images, _ in in_threads(self.batch, chunks))


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


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to items in as many threads as there are processors.

    Results come in the order of the items, and only a few are ready ahead of the one being used, so that memory stays
    bounded. Useful where the work releases Python's lock, as Pillow's decoders do.
    """
    threads = os.cpu_count() or 1
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def read_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image file in pixels, from its header only.

    Raises:
        UnreadableImage: if the file is not an image.
    """
    with _reading(path), Image.open(path) as image:
        return image.size


def read_image(path: Path, image_size: int | None, channels: int) -> np.ndarray:
    """Decode an image file.

    With image_size S the largest centred square is scaled to S x S by Pillow's antialiased bilinear filter, that is
    the shorter side becomes S and the longer one is cropped on both sides. Grey is Pillow's ``L`` (ITU-R 601 luma);
    16-bit grey keeps its upper 8 bits; transparency is dropped; the rotation flag of a camera is not applied.

    Args:
        path: the file.
        image_size: side of the result in pixels, None for the file's own size.
        channels: 1 (grey) or 3 (colour).

    Returns:
        uint8 array of shape (C, H, W).

    Raises:
        UnreadableImage: if the file cannot be decoded; the message names it.
    """
    with _reading(path):
        # One read of the whole file: Pillow's own small reads would hand Python's lock from thread to thread.
        picture = _to_mode(Image.open(io.BytesIO(path.read_bytes())), _MODES[channels])
    if image_size is not None and picture.size != (image_size, image_size):
        picture = ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BILINEAR)
    width, height = picture.size
    return np.frombuffer(picture.tobytes(), np.uint8).reshape(height, width, channels).transpose(2, 0, 1)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert any 8-bit or 16-bit picture to 8-bit grey or colour."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode}) are not supported, 8 or 16 bits are")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    image.load()
    return image if image.mode == mode else image.convert(mode)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn everything that a broken file makes Pillow raise into one error that names the file."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"cannot read image {path}: not in a known format") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror is not None else str(error)
        raise UnreadableImage(f"cannot read image {path}: {reason or type(error).__name__}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"cannot read image {path}: {error}") from error

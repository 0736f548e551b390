"""Images with their labels: held in memory, or decoded from files when a batch asks for them.

Shapes: N images, B images of a batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resweep.data.base import Samples, Source, check_labels
from resweep.data.cache import facts_digest, file_facts, remembered
from resweep.data.decode import UnreadableImage, in_threads, read_image, read_pixels, read_size, to_picture
from resweep.progress import progress

__all__ = ["InMemory", "OnDisk", "Samples", "Source", "UnreadableImage", "in_threads", "read_image", "read_size"]


class InMemory(Samples):
    """Images held as one tensor, or chosen from one that others use as well.

    Args:
        images: uint8, shape (M, C, H, W), never written to; may be a mapped file (:func:`resweep.data.cache.cached`).
        labels: int64, shape (N,), or float32 of zeros and ones, shape (N, K).
        positions: int64, shape (N,), which of the M images belong to the samples, in order; None for all, N = M.
        origin: says where the images come from, so that what is computed from them can be kept for the next start
            (:func:`resweep.data.cache.facts_digest` of the facts of a cache entry); None keeps nothing.

    Raises:
        ValueError: if a tensor has another type or shape; the message names it.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, positions: Tensor | None = None, origin: str | None = None
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images: uint8 of shape (N, C, H, W) expected, got {images.dtype} {tuple(images.shape)}")
        count = len(images) if positions is None else len(positions)
        check_labels(labels, count)
        self._held = images.contiguous()
        self._positions = positions
        self._origin = origin
        self.labels = labels.contiguous()

    @property
    def images(self) -> Tensor:
        """All images: uint8, shape (N, C, H, W); a copy where they are chosen from others."""
        return self._held if self._positions is None else self._held.index_select(0, self._positions)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""
        return tuple(self._held.shape[1:])

    def take(self, indices: Tensor) -> InMemory:
        """Return the samples at some positions, with the same images in memory (see :meth:`Samples.take`)."""
        return InMemory(self._held, self.labels.index_select(0, indices), self._places(indices), self._origin)

    def relabelled(self, labels: Tensor) -> InMemory:
        """Return the same images with other labels (see :meth:`Samples.relabelled`)."""
        return InMemory(self._held, labels, self._positions, self._origin)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and the labels at some positions (see :meth:`Samples.batch`)."""
        return self._held.index_select(0, self._places(indices)), self.labels.index_select(0, indices)

    def digest(self) -> str:
        """Return the BLAKE2b hash of shape, labels and pixels."""
        return self._kept("digest", self._computed_digest, self.labels.numpy())

    def _computed_digest(self) -> str:
        digest = hashlib.blake2b(repr((len(self), *self.shape)).encode(), digest_size=16)
        if self.labels.ndim == 1:
            digest.update(self.labels.numpy().astype("<i8").tobytes())
        else:
            digest.update(f"{tuple(self.labels.shape)}".encode() + self.labels.numpy().astype("<f4").tobytes())
        for images in self._image_chunks():
            digest.update(memoryview(images.numpy()).cast("B"))
        return digest.hexdigest()

    def _means_stds(self) -> tuple[list[float], list[float]]:
        return self._kept("mean and std", super()._means_stds)

    def _kept(self, what: str, compute: Callable[[], object], *arrays: np.ndarray) -> object:
        """Compute something that depends on the images and on some arrays, or remember it from an earlier start."""
        if self._origin is None:
            return compute()
        key = hashlib.blake2b(f"{what} {self._origin} {tuple(self._held.shape)}".encode(), digest_size=16)
        for array in (self._positions_array(), *arrays):
            key.update(f"{array.shape} {array.dtype.str}".encode() + array.tobytes())
        return remembered(key.hexdigest(), compute)

    def _positions_array(self) -> np.ndarray:
        return np.empty(0, np.int64) if self._positions is None else self._positions.numpy()

    def _places(self, indices: Tensor) -> Tensor:
        """Positions of samples among all images in memory."""
        return indices if self._positions is None else self._positions.index_select(0, indices)

    def _image_chunks(self) -> Iterator[Tensor]:
        if self._positions is None:
            return iter(self._held.split(self._chunk_length()))
        return (self._held.index_select(0, part) for part in self._positions.split(self._chunk_length()))


class OnDisk(Samples):
    """Image files that are decoded each time a batch asks for them.

    Gives the same bits as decoding all of them first (both use :func:`resweep.data.decode.read_image`). A file that has
    become unreadable or has changed its size raises :class:`UnreadableImage` when it is met.

    Args:
        paths: one image file per sample.
        labels: int64, shape (N,), or float32 of zeros and ones, shape (N, K).
        image_size: side S of the square images in pixels; None leaves every image at its own size, which must be the
            same for all.
        channels: 1 (grey) or 3 (colour).
        root: folder that the paths of the digest are relative to; None takes them as they are.
        crop_pct: share of the shorter side that is kept when an image is scaled (see ``read_image``).
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        labels: Tensor,
        image_size: int | None,
        channels: int,
        root: Path | None = None,
        crop_pct: float = 1.0,
    ) -> None:
        check_labels(labels, len(paths))
        self.paths = list(paths)
        self.labels = labels
        self.image_size = image_size
        self.channels = channels
        self.root = root
        self.crop_pct = crop_pct

    @functools.cached_property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image; without image_size that of the first file."""
        if self.image_size is not None:
            return self.channels, self.image_size, self.image_size
        width, height = read_size(self.paths[0])
        return self.channels, height, width

    def take(self, indices: Tensor) -> OnDisk:
        """Return the samples at some positions (see :meth:`Samples.take`); no file is opened."""
        return self._with([self.paths[index] for index in indices.tolist()], self.labels[indices])

    def relabelled(self, labels: Tensor) -> OnDisk:
        """Return the same files with other labels (see :meth:`Samples.relabelled`)."""
        return self._with(self.paths, labels)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the images at some positions (see :meth:`Samples.batch`).

        Raises:
            UnreadableImage: if a file cannot be decoded or has another size than the first one.
        """
        images = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        for target, index in zip(images.numpy(), indices.tolist(), strict=True):
            pixels = read_image(self.paths[index], self.image_size, self.channels, self.crop_pct)
            if pixels.shape != target.shape:
                found, expected = (f"{height}x{width}" for _, height, width in (pixels.shape, target.shape))
                raise UnreadableImage(f"image {self.paths[index]} is {found} (height x width), the others {expected}")
            target[:] = pixels
        return images, self.labels[indices]

    def pictures(self, indices: Tensor) -> Iterator[Image.Image]:
        """Decode the images at some positions one after another, at their own sizes.

        Args:
            indices: int64, shape (B,), positions in [0, N).

        Yields:
            B pictures of mode ``L`` or ``RGB``.

        Raises:
            UnreadableImage: if a file cannot be decoded.
        """
        return (to_picture(read_pixels(self.paths[index], self.channels)) for index in indices.tolist())

    def digest(self) -> str:
        """Return the BLAKE2b hash of labels, relative paths, file sizes and times of last change.

        The pixels are not read: a copy of the folder with other file times has another digest.
        """
        crop = "" if self.crop_pct == 1 else f" {self.crop_pct}"
        digest = hashlib.blake2b(f"{self.image_size} {self.channels}{crop}".encode(), digest_size=16)
        start = "" if self.root is None else f"{self.root}/"
        for path, label in zip(map(str, self.paths), self.labels.tolist(), strict=True):
            name = path.removeprefix(start)
            digest.update(f"\n{label} {_size_and_time(path)} {name}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _with(self, paths: Sequence[Path | str], labels: Tensor) -> OnDisk:
        return OnDisk(paths, labels, self.image_size, self.channels, self.root, self.crop_pct)

    def _means_stds(self) -> tuple[list[float], list[float]]:
        facts = [f"{os.path.abspath(path)} {file_facts(path)}" for path in self.paths]
        settings = ["mean and std", self.image_size, self.channels, self.crop_pct]
        return remembered(facts_digest([*settings, *facts]), super()._means_stds)

    def _image_chunks(self) -> Iterator[Tensor]:
        chunks = torch.arange(len(self)).split(self._chunk_length())
        with progress("compute mean and std", len(self)) as advance:
            for images, _ in in_threads(self.batch, chunks):
                yield images
                advance(len(images))


def _size_and_time(path: Path | str) -> str:
    """Write down the size of a file in bytes and the time of its last change in nanoseconds, which copies share."""
    facts = os.stat(path)
    return f"{facts.st_size} {facts.st_mtime_ns}"

"""Lists of image files to samples: decoded once and kept in the cache, or decoded whenever a batch asks for them.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from resweep.data.base import Samples
from resweep.data.cache import cached, facts_digest, file_facts, remembered
from resweep.data.decode import UnreadableImage, in_threads, read_image, read_size
from resweep.data.samples import InMemory, OnDisk
from resweep.errors import Problem, RequestError
from resweep.progress import progress

_CHUNK = 64
_SHOWN = 10


@dataclass(frozen=True)
class Files:
    """The files of one split.

    Args:
        paths: one image file per sample.
        labels: int64, shape (N,), or float32 of zeros and ones, shape (N, K).
    """

    paths: Sequence[str]
    labels: Tensor


@dataclass(frozen=True)
class Decoding:
    """How files become images.

    Args:
        image_size: side S in pixels that every image is scaled and cropped to; None keeps the images' own size, which
            must be the same for all.
        channels: 1 (grey) or 3 (colour); images are converted.
        crop_pct: share of the shorter side that is kept when an image is scaled (see ``read_image``).
        memory_limit_mb: largest size in MiB of all decoded images together that is held in memory.
    """

    image_size: int | None = None
    channels: int = 3
    crop_pct: float = 1.0
    memory_limit_mb: int = 1024

    def check(self) -> None:
        """Refuse impossible values.

        Raises:
            RequestError: keys ``data.image_size``, ``data.channels``, ``data.crop_pct``, all at once.
        """
        problems = []
        if self.image_size is not None and self.image_size < 1:
            message = "use null or a side in pixels of at least 1"
            problems.append(Problem("data.image_size", str(self.image_size), message))
        if self.channels not in (1, 3):
            problems.append(Problem("data.channels", str(self.channels), "use 1 (grey) or 3 (colour)"))
        if not 0 < self.crop_pct <= 1:
            message = "use a share of the shorter side above 0 and up to 1"
            problems.append(Problem("data.crop_pct", str(self.crop_pct), message))
        elif self.crop_pct < 1 and self.image_size is None:
            message = "crops what is scaled to data.image_size: set that, too"
            problems.append(Problem("data.crop_pct", str(self.crop_pct), message))
        if problems:
            raise RequestError(problems)


def read_files(
    name: str,
    root: Path,
    splits: Mapping[str, Files],
    decoding: Decoding,
    key: str = "data.root",
    choice: Sequence[object] = (),
) -> dict[str, Samples]:
    """Return the samples of the splits of a data set.

    All images are decoded once and held in memory, mapped from the cache, when N * C * H * W bytes are within the
    limit; otherwise each is decoded whenever it is used. Both give the same pixels
    (:func:`resweep.data.decode.read_image`). The cache is made anew when the names of the files are others, or one has
    been written to or replaced (:func:`resweep.data.cache.file_facts`).

    Args:
        name: of the data set, for the name of its entry in the cache.
        root: folder that the files lie below; messages and digests name files relative to it.
        splits: the files of each split, at least one in all.
        decoding: size and channels of the images.
        key: config key that problems with the files belong to.
        choice: what else decides which files below the root these are; data sets of the same name and root need
            different ones to be in the cache side by side.

    Raises:
        RequestError: images cannot be read or differ in size, or a value of ``decoding`` is outside its range.
    """
    decoding.check()
    job = _Job(root, [path for files in splits.values() for path in files.paths], decoding, key)
    facts = job.facts()
    height, width = job.size()
    shape = (len(job.paths), decoding.channels, height, width)
    if shape[0] * shape[1] * height * width > decoding.memory_limit_mb * 2**20:
        remembered(facts_digest(["all readable", decoding.image_size, *facts]), job.check_headers)
        return {
            split: OnDisk(
                files.paths, files.labels, decoding.image_size, decoding.channels, root, crop_pct=decoding.crop_pct
            )
            for split, files in splits.items()
        }
    entry = _entry_name(name, root, decoding, choice)
    images = cached(entry, facts, shape, job.decode)
    samples: dict[str, Samples] = {}
    start = 0
    for split, files in splits.items():
        origin = facts_digest([entry, start, shape, *facts])
        samples[split] = InMemory(images[start : start + len(files.paths)], files.labels, origin=origin)
        start += len(files.paths)
    return samples


def _entry_name(name: str, root: Path, decoding: Decoding, choice: Sequence[object]) -> str:
    """Name the entry of a data set in the cache: one per place, choice of files, size and channels."""
    settings = [name, decoding.image_size, decoding.channels, decoding.crop_pct]
    digest = facts_digest([str(root.resolve()), *settings, *choice])[:12]
    return f"{name}-{'own-size' if decoding.image_size is None else decoding.image_size}-{digest}"


class _Job:
    """Reads a list of files, each time in all threads."""

    def __init__(self, root: Path, paths: Sequence[str], decoding: Decoding, key: str) -> None:
        self.root, self.paths, self.decoding, self.key = root, paths, decoding, key

    def facts(self) -> list[str]:
        """Say what the files are: names below the root, sizes, times and numbers, as one text."""
        start, lines = f"{self.root}/", []
        for path in self.paths:
            try:
                found = file_facts(path)
            except OSError as error:  # named with all others when they are read
                found = str(error.errno)
            lines.append(f"{path.removeprefix(start)} {found}")
        return ["\n".join(lines)]

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the images: as asked for, or that of the first one that can be read."""
        if self.decoding.image_size is not None:
            return self.decoding.image_size, self.decoding.image_size
        failed = []
        for path in self.paths:
            try:
                width, height = read_size(path)
            except UnreadableImage as error:
                failed.append(error)
            else:
                return height, width
        raise self._unreadable(failed)

    def decode(self, images: Tensor) -> None:
        """Decode all files into uint8 (N, C, H, W)."""
        pixels, decoding = images.numpy(), self.decoding

        def read(position: int) -> tuple[int, int]:
            decoded = read_image(self.paths[position], decoding.image_size, decoding.channels, decoding.crop_pct)
            if decoded.shape == pixels.shape[1:]:
                pixels[position] = decoded
            return decoded.shape[1:]

        self._read_all("decode images", read, pixels.shape[2:])

    def check_headers(self) -> bool:
        """Open every file without decoding it; without a size to scale to, all must have the same."""

        def read(position: int) -> tuple[int, int]:
            width, height = read_size(self.paths[position])
            return height, width

        self._read_all("look at images", read, self.size() if self.decoding.image_size is None else None)
        return True

    def _read_all(self, label: str, read: Callable[[int], tuple[int, int]], size: tuple[int, int] | None) -> None:
        """Read every file in threads, then raise what went wrong with all of them in one error.

        The function ``read`` returns the (height, width) that it found; None as the size to expect allows any.
        """
        failed: list[UnreadableImage] = []
        different: list[tuple[str, tuple[int, int]]] = []

        def read_chunk(positions: range) -> int:
            for position in positions:
                try:
                    found = read(position)
                except UnreadableImage as error:
                    failed.append(error)
                    continue
                if size is not None and found != size:
                    different.append((self.paths[position], found))
            return len(positions)

        starts = range(0, len(self.paths), _CHUNK)
        chunks = (range(start, min(start + _CHUNK, len(self.paths))) for start in starts)
        with progress(label, len(self.paths)) as advance:
            for count in in_threads(read_chunk, chunks):
                advance(count)
        if failed:
            raise self._unreadable(failed)
        if different:
            raise self._different_sizes(size, *min(different), len(different))

    def _unreadable(self, failed: Sequence[UnreadableImage]) -> RequestError:
        """Describe files that are no images, ten of them by name."""
        texts = sorted(str(error).replace("cannot read image ", "").replace(f"{self.root}/", "", 1) for error in failed)
        shown = texts[:_SHOWN] + ([f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else [])
        count = f"{len(failed)} of {len(self.paths)} images"
        message = f"{count} cannot be read, repair or remove them: {'; '.join(shown)}"
        return RequestError(Problem(self.key, str(self.root), message))

    def _different_sizes(
        self, size: tuple[int, int], other: str, other_size: tuple[int, int], count: int
    ) -> RequestError:
        """Describe images of different sizes by two examples."""
        first, other = (os.path.relpath(path, self.root) for path in (self.paths[0], other))
        shorter = min(*size, *other_size)
        message = (
            f"the images differ in size: {first} is {size[0]}x{size[1]} (height x width), "
            f"{other} is {other_size[0]}x{other_size[1]}, {count} of them unlike the first; "
            f"set data.image_size=… to scale and crop all to squares, for instance data.image_size={shorter}"
        )
        return RequestError(Problem(self.key, str(self.root), message))

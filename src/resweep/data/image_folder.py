"""Your own images: a folder with one folder of image files per class.

Either ``root/<class>/*``, from which validation and test images are carved, or ``root/train/<class>/*`` with
``root/val/<class>/*`` and ``root/test/<class>/*`` where they exist. Files and folders whose name starts with a dot are
ignored, and so are files without the extension of an image.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from resweep.data.samples import (
    InMemory,
    OnDisk,
    Samples,
    Source,
    UnreadableImage,
    in_threads,
    read_image,
    read_size,
)
from resweep.errors import Problem, RequestError, nearest_name

EXTENSIONS = (
    ".bmp",
    ".gif",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
_CHUNK = 64
_SHOWN = 10


@dataclass(frozen=True)
class _Listing:
    """The files of one split with their labels."""

    paths: list[Path]
    labels: Tensor


def image_folder(
    root: str | Path,
    image_size: int | None = None,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Read a folder of images, one folder per class.

    All images are decoded once and held in memory when N * C * H * W bytes are within the limit, otherwise each is
    decoded whenever it is used; both give the same pixels (see :func:`resweep.data.samples.read_image`).

    Args:
        root: the folder.
        image_size: side S in pixels that every image is scaled and cropped to; None keeps the images' own size, which
            must be the same for all.
        channels: 1 (grey) or 3 (colour); images are converted.
        memory_limit_mb: largest size of all decoded images together, in MiB.
        progress: told (files done, files in all) while the files are read; None for nobody.

    Returns:
        The splits that the folder has; classes sorted by name; mirror is True.

    Raises:
        RequestError: key ``data.root`` if the folder is missing or has no two classes, a class has no image, a split
            lacks a class, images cannot be read or differ in size; keys ``data.image_size`` and ``data.channels`` if
            the values are outside their range.
    """
    _check_numbers(image_size, channels)
    folder = existing_folder(root)
    listings, classes = _list_splits(folder)
    paths = [path for listing in listings.values() for path in listing.paths]
    height, width = (image_size, image_size) if image_size is not None else _first_size(folder, paths)
    if len(paths) * channels * height * width > memory_limit_mb * 2**20:
        _check_headers(folder, paths, None if image_size is not None else (height, width), progress)
        splits: dict[str, Samples] = {
            name: OnDisk(listing.paths, listing.labels, image_size, channels, folder)
            for name, listing in listings.items()
        }
    else:
        images = _decode(folder, paths, image_size, (channels, height, width), progress)
        parts = images.split([len(listing.paths) for listing in listings.values()])
        splits = {
            name: InMemory(part, listing.labels) for part, (name, listing) in zip(parts, listings.items(), strict=True)
        }
    return Source(splits["train"], splits.get("val"), splits.get("test"), classes, mirror=True)


def existing_folder(root: str | Path | None) -> Path:
    """Return a folder of the user's, with ``~`` expanded.

    Raises:
        RequestError: key ``data.root`` if there is no such folder; names the most similar one beside it.
    """
    if root is None or str(root) == "":
        raise RequestError(Problem("data.root", None, "the folder of the data must be given: data.root=…"))
    folder = Path(root).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise RequestError(Problem("data.root", str(root), "is a file, a folder is needed"))
    siblings = [entry.name for entry in _folders(folder.parent)] if folder.parent.is_dir() else []
    nearest = nearest_name(folder.name, siblings)
    hint = None if nearest is None else str(folder.parent / nearest)
    raise RequestError(Problem("data.root", str(root), "there is no such folder", hint))


def _check_numbers(image_size: int | None, channels: int) -> None:
    """Refuse impossible sizes and channels."""
    problems = []
    if image_size is not None and image_size < 1:
        problems.append(Problem("data.image_size", str(image_size), "use null or a side in pixels of at least 1"))
    if channels not in (1, 3):
        problems.append(Problem("data.channels", str(channels), "use 1 (grey) or 3 (colour)"))
    if problems:
        raise RequestError(problems)


def _list_splits(root: Path) -> tuple[dict[str, _Listing], tuple[str, ...]]:
    """Find the files of every split and the names of the classes, or raise all problems of the layout at once."""
    folders = {"train": root}
    problems = []
    if (root / "train").is_dir() and _folders(root / "train"):
        folders = {name: root / name for name in ("train", "val", "test") if (root / name).is_dir()}
        for entry in _folders(root):
            if entry.name not in folders and entry.name.lower().startswith(("val", "test")):
                nearest = "val" if entry.name.lower().startswith("val") else "test"
                message = f"the folder {entry.name}/ beside train/ would not be read: only train, val and test are"
                problems.append(Problem("data.root", str(root), message, nearest))
    classes = tuple(entry.name for entry in _folders(folders["train"]))
    if len(classes) < 2:
        found = "no class folders" if not classes else f"one class folder only ({classes[0]})"
        message = f"has {found}: expected <class>/*.jpg or train/<class>/*.jpg with two classes or more"
        raise RequestError([*problems, Problem("data.root", str(folders["train"]), message)])
    listings = {}
    for name, folder in folders.items():
        files = {entry.name: _images(entry) for entry in _folders(folder)}
        problems += _class_problems(root, "" if folder == root else f"{name}/", files, classes)
        found = [files.get(label, []) for label in classes]
        labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(paths) for paths in found]))
        listings[name] = _Listing([path for paths in found for path in paths], labels)
    if problems:
        raise RequestError(problems)
    return listings, classes


def _class_problems(
    root: Path, where: str, files: Mapping[str, Sequence[Path]], classes: Sequence[str]
) -> list[Problem]:
    """Name the classes that a split lacks, has too many of, or has no image of."""
    messages = [f"{where} has no folder for the class {name} of train/" for name in classes if name not in files]
    messages += [f"{where} has the class {name}, train/ does not" for name in sorted(set(files) - set(classes))]
    allowed = " ".join(EXTENSIONS)
    messages += [
        f"{where}{name}/ has no image (files that end with {allowed})"
        for name in classes
        if name in files and not files[name]
    ]
    return [Problem("data.root", str(root), message) for message in messages]


def _folders(folder: Path) -> list[Path]:
    """List the visible folders in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    return [folder / name for name in names]


def _images(folder: Path) -> list[Path]:
    """List the visible image files in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith(".") and entry.is_file()
        )
    return [folder / name for name in names]


def _first_size(root: Path, paths: Sequence[Path]) -> tuple[int, int]:
    """Return (height, width) of the first image that can be read."""
    failed = []
    for path in paths:
        try:
            width, height = read_size(path)
        except UnreadableImage as error:
            failed.append(error)
        else:
            return height, width
    raise _unreadable(root, failed, len(paths))


def _decode(
    root: Path,
    paths: Sequence[Path],
    image_size: int | None,
    shape: tuple[int, int, int],
    progress: Callable[[int, int], None] | None,
) -> Tensor:
    """Decode all files into one uint8 tensor (N, C, H, W)."""
    images = torch.empty((len(paths), *shape), dtype=torch.uint8)
    pixels = images.numpy()

    def read(position: int) -> tuple[int, int]:
        decoded = read_image(paths[position], image_size, shape[0])
        if decoded.shape == shape:
            pixels[position] = decoded
        return decoded.shape[1:]

    _read_all(root, paths, read, shape[1:], progress)
    return images


def _check_headers(
    root: Path,
    paths: Sequence[Path],
    size: tuple[int, int] | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Open every file without decoding it; with a size, (height, width), all must have it."""

    def read(position: int) -> tuple[int, int]:
        width, height = read_size(paths[position])
        return height, width

    _read_all(root, paths, read, size, progress)


def _read_all(
    root: Path,
    paths: Sequence[Path],
    read: Callable[[int], tuple[int, int]],
    size: tuple[int, int] | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Read every file in threads, then raise what went wrong with all of them in one error.

    The function ``read`` returns the (height, width) that it found; None as the size to expect allows any.
    """
    failed: list[UnreadableImage] = []
    different: list[tuple[Path, tuple[int, int]]] = []

    def read_chunk(positions: range) -> int:
        for position in positions:
            try:
                found = read(position)
            except UnreadableImage as error:
                failed.append(error)
                continue
            if size is not None and found != size:
                different.append((paths[position], found))
        return len(positions)

    done = 0
    starts = range(0, len(paths), _CHUNK)
    for count in in_threads(read_chunk, (range(start, min(start + _CHUNK, len(paths))) for start in starts)):
        done += count
        if progress is not None:
            progress(done, len(paths))
    if failed:
        raise _unreadable(root, failed, len(paths))
    if different:
        raise _different_sizes(root, paths[0], size, *min(different), len(different))


def _unreadable(root: Path, failed: Sequence[UnreadableImage], total: int) -> RequestError:
    """Describe files that are no images, ten of them by name."""
    texts = sorted(str(error).replace("cannot read image ", "").replace(f"{root}/", "", 1) for error in failed)
    shown = texts[:_SHOWN] + ([f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else [])
    message = f"{len(failed)} of {total} images cannot be read, repair or remove them: {'; '.join(shown)}"
    return RequestError(Problem("data.root", str(root), message))


def _different_sizes(
    root: Path, first: Path, size: tuple[int, int], other: Path, other_size: tuple[int, int], count: int
) -> RequestError:
    """Describe images of different sizes by two examples."""
    shorter = min(*size, *other_size)
    message = (
        f"the images differ in size: {first.relative_to(root)} is {size[0]}x{size[1]} (height x width), "
        f"{other.relative_to(root)} is {other_size[0]}x{other_size[1]}, {count} of them unlike the first; "
        f"set data.image_size=… to scale and crop all to squares, for instance data.image_size={shorter}"
    )
    return RequestError(Problem("data.root", str(root), message))

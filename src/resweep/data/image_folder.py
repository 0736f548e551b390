"""Your own images: a folder with one folder of image files per class.

Either ``root/<class>/*``, from which validation and test images are carved, or ``root/train/<class>/*`` with
``root/val/<class>/*`` and ``root/test/<class>/*`` where they exist. Files and folders whose name starts with a dot are
ignored, and so are files without the extension of an image.

Shapes: N images.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from resweep.data.base import Source
from resweep.data.files import Decoding, Files, read_files
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


def image_folder(
    root: str | Path,
    image_size: int | None = None,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 1.0,
) -> Source:
    """Read a folder of images, one folder per class.

    All images are decoded once and held in memory, where they fit, otherwise whenever they are used
    (see :func:`resweep.data.files.read_files`).

    Args:
        root: the folder.
        image_size: side S in pixels that every image is scaled and cropped to; None keeps the images' own size, which
            must be the same for all.
        channels: 1 (grey) or 3 (colour); images are converted.
        memory_limit_mb: largest size of all decoded images together that is held in memory, in MiB.
        crop_pct: share of the shorter side that is kept when an image is scaled, in (0, 1].

    Returns:
        The splits that the folder has; classes sorted by name; mirror is True.

    Raises:
        RequestError: key ``data.root`` if the folder is missing or has no two classes, a class has no image, a split
            lacks a class, images cannot be read or differ in size; keys ``data.image_size``, ``data.channels`` and
            ``data.crop_pct`` if the values are outside their range.
    """
    decoding = Decoding(image_size, channels, crop_pct, memory_limit_mb)
    decoding.check()
    folder = existing_folder(root)
    splits, classes = _list_splits(folder, ("train", "val", "test"))
    samples = read_files(folder.resolve().name, folder, splits, decoding)
    return Source(samples["train"], samples.get("val"), samples.get("test"), classes, mirror=True)


def imagenet(
    root: str | Path,
    image_size: int | None = 224,
    channels: int = 3,
    memory_limit_mb: int = 1024,
    crop_pct: float = 0.875,
) -> Source:
    """Read ImageNet 2012 from ``root/train/<wnid>/*`` and ``root/val/<wnid>/*``.

    The official validation images are the test split, since the labels of the official test images are not public;
    validation images are to be carved from the training images.

    Args:
        root: folder that holds ``train/`` and ``val/``.
        image_size, channels, memory_limit_mb, crop_pct: see :func:`image_folder`.

    Returns:
        Training and test split; classes are the WordNet ids (wnid), sorted.

    Raises:
        RequestError: as :func:`image_folder`, and key ``data.root`` if there is no ``train/`` or no ``val/``.

    Source: Russakovsky et al. 2014, arXiv 1409.0575.
    """
    decoding = Decoding(image_size, channels, crop_pct, memory_limit_mb)
    decoding.check()
    folder = existing_folder(root)
    missing = [name for name in ("train", "val") if not ((folder / name).is_dir() and _folders(folder / name))]
    if missing:
        message = f"has no classes in {'/ and '.join(missing)}/: expected train/<wnid>/*.JPEG and val/<wnid>/*.JPEG"
        raise RequestError(Problem("data.root", str(root), message))
    splits, classes = _list_splits(folder, ("train", "val"))
    samples = read_files("imagenet", folder, splits, decoding)
    return Source(samples["train"], None, samples["val"], classes, mirror=True)


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


def _list_splits(root: Path, names: Sequence[str]) -> tuple[dict[str, Files], tuple[str, ...]]:
    """Find the files of every split and the names of the classes, or raise all problems of the layout at once."""
    folders = {"train": root}
    problems = []
    if (root / "train").is_dir() and _folders(root / "train"):
        folders = {name: root / name for name in names if (root / name).is_dir()}
        for entry in _folders(root):
            if entry.name not in ("train", "val", "test") and entry.name.lower().startswith(("val", "test")):
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
        listings[name] = Files([path for paths in found for path in paths], labels)
    if problems:
        raise RequestError(problems)
    return listings, classes


def _class_problems(
    root: Path, where: str, files: Mapping[str, Sequence[str]], classes: Sequence[str]
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


def _images(folder: Path) -> list[str]:
    """List the visible image files in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith(".") and entry.is_file()
        )
    return [f"{folder}/{name}" for name in names]

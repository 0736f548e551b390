"""Small colour images of one size: CIFAR, SVHN and STL-10."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from resweep.data.base import Source
from resweep.data.sources.held import held
from resweep.data.sources.idx import DIGITS
from resweep.data.sources.published import Published, damaged, matlab_errors
from resweep.errors import Problem, RequestError, nearest_name

CIFAR100_LABELS = ("fine", "coarse")
_STL10_FILES = tuple(f"stl10_binary/{name}" for name in ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"))


def cifar10(root: str | Path, download: bool = False) -> Source:
    """Read CIFAR-10: 50,000 training and 10,000 test images, colour, 32 x 32, of 10 classes.

    Args:
        root: folder that holds ``cifar-10-batches-py/``.
        download: fetch the files if they are missing; existing files are never fetched again.

    Raises:
        RequestError: key ``data.root`` if files are missing or damaged (their checksums are compared when they are
            first read), ``data.download`` if fetching failed.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images; read and fetched by
    ``torchvision.datasets.CIFAR10``.
    """
    return _cifar("CIFAR10", "CIFAR-10", root, download, 0)


def cifar100(root: str | Path, labels: str = "fine", download: bool = False) -> Source:
    """Read CIFAR-100: 50,000 training and 10,000 test images, colour, 32 x 32, of 100 classes in 20 superclasses.

    Args:
        root: folder that holds ``cifar-100-python/``.
        labels: ``fine`` for the 100 classes, ``coarse`` for the 20 superclasses.
        download: fetch the files if they are missing; existing files are never fetched again.

    Raises:
        RequestError: keys of :func:`cifar10`, and ``data.labels`` if there are no such labels.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    return _cifar("CIFAR100", "CIFAR-100", root, download, choice("labels", labels, CIFAR100_LABELS))


def svhn(root: str | Path, extra: bool = False, download: bool = False) -> Source:
    """Read SVHN's cropped house numbers: 73,257 training and 26,032 test images, colour, 32 x 32, of 10 digits.

    Args:
        root: folder that holds ``train_32x32.mat`` and ``test_32x32.mat``.
        extra: add the 531,131 easier images of ``extra_32x32.mat`` to the training images.
        download: fetch the files if they are missing; existing files are never fetched again.

    Raises:
        RequestError: keys of :func:`cifar10`.

    Source: Netzer et al. 2011, Reading digits in natural images with unsupervised feature learning; read and fetched
    by ``torchvision.datasets.SVHN``.
    """
    from torchvision.datasets import SVHN

    parts = ("train", "test", "extra") if extra else ("train", "test")
    files = {part: f"{part}_32x32.mat" for part in parts}

    there = Path(root or "").expanduser()
    missing = [part for part in parts if not (there / files[part]).exists()]
    published = Published(
        "SVHN",
        tuple(files.values()),
        lambda where: [SVHN(where, part, download=True) for part in missing],
        tuple(files[part] for part in missing),
    )
    folder = published.found(root, download)

    def read(*names: str) -> tuple[np.ndarray, np.ndarray]:
        with damaged("SVHN", root), matlab_errors():
            found = [SVHN(folder, name) for name in names]
            return np.concatenate([part.data for part in found]), np.concatenate([part.labels for part in found])

    learned = ("train", "extra") if extra else ("train",)
    train = held("-".join(("svhn", *learned)), [folder / files[name] for name in learned], lambda: read(*learned))
    test = held("svhn-test", [folder / files["test"]], lambda: read("test"))
    return Source(train, None, test, DIGITS, mirror=False)


def stl10(root: str | Path, download: bool = False) -> Source:
    """Read the labelled part of STL-10: 5,000 training and 8,000 test images, colour, 96 x 96, of 10 classes.

    Args:
        root: folder that holds ``stl10_binary/``; the 2.6 GB of images without labels are not needed.
        download: fetch the files if they are missing; existing files are never fetched again.

    Raises:
        RequestError: keys of :func:`cifar10`.

    Source: Coates, Lee and Ng 2011, An analysis of single-layer networks in unsupervised feature learning; read and
    fetched by ``torchvision.datasets.STL10``.
    """
    from torchvision.datasets import STL10

    names = "stl10_binary/class_names.txt"
    published = Published("STL-10", (*_STL10_FILES, names), lambda folder: STL10(folder, download=True))
    folder = published.found(root, download)

    class Labelled(STL10):
        """Asks for the files with labels only."""

        train_list = STL10.train_list[:2]

    def read(split: str) -> tuple[np.ndarray, np.ndarray]:
        with damaged("STL-10", root):
            part = Labelled(folder, split)
            return part.data, part.labels

    files = [folder / name for name in _STL10_FILES]
    train = held("stl10-train", files[:2], lambda: read("train"))
    test = held("stl10-test", files[2:], lambda: read("test"))
    return Source(train, None, test, tuple((folder / names).read_text().split()), mirror=True)


def choice(key: str, value: str, allowed: tuple[str, ...]) -> int:
    """Return the position of a value among those allowed.

    Raises:
        RequestError: key ``data.<key>``.
    """
    if value not in allowed:
        message = f"must be one of {', '.join(allowed)}"
        raise RequestError(Problem(f"data.{key}", str(value), message, nearest_name(str(value), allowed)))
    return allowed.index(value)


def _cifar(name: str, title: str, root: str | Path, download: bool, kind: int) -> Source:
    """Read a set of pickled batches, each with the rows of its images and one or two kinds of labels."""
    from torchvision import datasets

    dataset = getattr(datasets, name)
    files = {"train": [file for file, _ in dataset.train_list], "test": [file for file, _ in dataset.test_list]}
    meta = dataset.meta["filename"]
    paths = {file: f"{dataset.base_folder}/{file}" for file in (meta, *files["train"], *files["test"])}
    published = Published(title, tuple(paths.values()), lambda where: dataset(where, download=True))
    folder = published.found(root, download)

    def read(part: str) -> tuple[np.ndarray, np.ndarray]:
        with damaged(title, root):
            found = dataset(folder, train=part == "train")  # compares the checksums
            batches = [_unpickled(folder / paths[file]) for file in files[part]] if name == "CIFAR100" else []
            labels = [found.targets, *(batch["coarse_labels"] for batch in batches)]
            return found.data.transpose(0, 3, 1, 2), np.stack(labels, axis=1)

    train, test = (
        held(f"{name.lower()}-{part}", [folder / paths[file] for file in files[part]], partial(read, part), kind)
        for part in files
    )
    with damaged(title, root):
        return Source(train, None, test, _class_names(folder / paths[meta], dataset, kind), mirror=True)


def _class_names(path: Path, dataset: Any, kind: int) -> tuple[str, ...]:
    """Read the names of the classes; no pickle is opened before its checksum is compared."""
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(path, dataset.meta["md5"]):
        raise ValueError(f"{path.name} has another checksum")
    return tuple(_unpickled(path)[(dataset.meta["key"], "coarse_label_names")[kind]])


def _unpickled(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return pickle.load(stream, encoding="latin1")

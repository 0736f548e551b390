"""The data sets in MNIST's file format (IDX): grey, 28 x 28."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from resweep.data.base import Source
from resweep.data.samples import InMemory
from resweep.data.sources.held import held
from resweep.data.sources.published import Published, damaged
from resweep.errors import Problem, RequestError, nearest_name

DIGITS = tuple(str(digit) for digit in range(10))
EMNIST_SPLITS = ("balanced", "byclass", "bymerge", "letters", "digits", "mnist")
_KINDS = ("images-idx3", "labels-idx1")


def mnist(root: str | Path, download: bool = False) -> Source:
    """Read MNIST: 60,000 training and 10,000 test images of 10 digits.

    Args:
        root: folder that holds ``MNIST/raw/`` with the four unpacked IDX files.
        download: fetch the files if they are missing; existing files are never fetched again.

    Raises:
        RequestError: key ``data.root`` if files are missing or damaged, ``data.download`` if fetching failed.

    Source: LeCun, Bottou, Bengio and Haffner 1998, Proc. IEEE 86(11); read and fetched by
    ``torchvision.datasets.MNIST``.
    """
    return _idx("MNIST", "MNIST", DIGITS, False, root, download)


def fashion_mnist(root: str | Path, download: bool = False) -> Source:
    """Read Fashion-MNIST: 60,000 training and 10,000 test images of 10 kinds of clothes.

    Args and errors are those of :func:`mnist`; the folder is ``FashionMNIST/raw/``.

    Source: Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747.
    """
    from torchvision.datasets import FashionMNIST

    return _idx("FashionMNIST", "Fashion-MNIST", tuple(FashionMNIST.classes), True, root, download)


def kmnist(root: str | Path, download: bool = False) -> Source:
    """Read Kuzushiji-MNIST: 60,000 training and 10,000 test images of 10 cursive Japanese characters.

    Args and errors are those of :func:`mnist`; the folder is ``KMNIST/raw/``.

    Source: Clanuwat et al. 2018, arXiv 1812.01718.
    """
    from torchvision.datasets import KMNIST

    return _idx("KMNIST", "KMNIST", tuple(KMNIST.classes), False, root, download)


def emnist(root: str | Path, split: str = "balanced", download: bool = False) -> Source:
    """Read EMNIST: hand-written digits and letters, turned upright like MNIST's (the files hold them transposed).

    ``balanced`` has 47 classes and 112,800 + 18,800 images, ``byclass`` 62 and 697,932 + 116,323, ``bymerge`` 47 of
    the same images, ``letters`` 26 and 124,800 + 20,800 (the paper has fewer), ``digits`` 10 and 240,000 + 40,000,
    ``mnist`` 10 and 60,000 + 10,000. The letters' labels 1 to 26 become 0 to 25.

    Args:
        root: folder that holds ``EMNIST/raw/`` with the unpacked IDX files of the split.
        split: one of the six above.
        download: fetch the files of all splits if they are missing.

    Raises:
        RequestError: keys of :func:`mnist`, and ``data.split`` if there is no such split.

    Source: Cohen, Afshar, Tapson and van Schaik 2017, arXiv 1702.05373, Table II.
    """
    from torchvision.datasets import EMNIST

    if split not in EMNIST_SPLITS:
        message = f"EMNIST has the splits {', '.join(EMNIST_SPLITS)}"
        raise RequestError(Problem("data.split", str(split), message, nearest_name(str(split), EMNIST_SPLITS)))
    files = {name: _emnist_files(name) for name in EMNIST_SPLITS}
    published = Published(
        "EMNIST",
        tuple(files[split]),
        lambda folder: EMNIST(folder, split, download=True),
        tuple(file for names in files.values() for file in names),
    )
    folder = published.found(root, download)
    first = 1 if split == "letters" else 0

    def read(train: bool) -> tuple[np.ndarray, np.ndarray]:
        with damaged("EMNIST", root):
            part = EMNIST(folder, split, train=train)
            return part.data.numpy()[:, None].transpose(0, 1, 3, 2), part.targets.numpy() - first

    splits = _both(f"emnist-{split}", [folder / name for name in files[split]], read)
    classes = tuple(EMNIST.classes_split_dict[split])[first:]
    return Source(splits[0], None, splits[1], classes, mirror=False)


def _emnist_files(split: str) -> list[str]:
    return [f"EMNIST/raw/emnist-{split}-{part}-{kind}-ubyte" for part in ("train", "test") for kind in _KINDS]


def _idx(name: str, title: str, classes: tuple[str, ...], mirror: bool, root: str | Path, download: bool) -> Source:
    """Read one of the sets that have MNIST's four files."""
    files = tuple(f"{name}/raw/{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in _KINDS)

    def dataset(folder: str | Path, **settings: bool):
        from torchvision import datasets

        return getattr(datasets, name)(folder, **settings)

    folder = Published(title, files, lambda where: dataset(where, download=True)).found(root, download)

    def read(train: bool) -> tuple[np.ndarray, np.ndarray]:
        with damaged(title, root):
            part = dataset(folder, train=train)
            return part.data.numpy()[:, None], part.targets.numpy()

    train, test = _both(name.lower(), [folder / file for file in files], read)
    return Source(train, None, test, classes, mirror=mirror)


def _both(
    name: str, files: list[Path], read: Callable[[bool], tuple[np.ndarray, np.ndarray]]
) -> tuple[InMemory, InMemory]:
    """Hold the training split, whose files come first, and the test split."""
    half = len(files) // 2
    train = held(f"{name}-train", files[:half], lambda: read(True))
    return train, held(f"{name}-test", files[half:], lambda: read(False))

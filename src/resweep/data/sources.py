"""The data sets of ``conf/data``: each function reads one and returns a :class:`Source`.

Shapes: N images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resweep.data.image_folder import existing_folder, image_folder
from resweep.data.samples import InMemory, Samples, Source
from resweep.errors import Problem, RequestError
from resweep.seeding import derive_seed

__all__ = ["Samples", "Source", "cifar10", "digits", "fake", "image_folder", "mnist"]

MNIST_FILES = tuple(
    f"MNIST/raw/{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
CIFAR10_FILES = tuple(
    f"cifar-10-batches-py/{name}"
    for name in ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
)
_DIGITS = tuple(str(digit) for digit in range(10))
_NETWORK_TIMEOUT_SECONDS = 30.0


def digits() -> Source:
    """Return the 1797 scanned digits that come with scikit-learn: grey, 8 x 8, no official test split.

    The 17 ink levels 0..16 are scaled to 0..255 and rounded.

    Source: ``sklearn.datasets.load_digits``, a copy of the test set of the UCI ML hand-written digits data sets.
    """
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = torch.from_numpy(np.rint(scans.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(scans.target.astype(np.int64))
    return Source(InMemory(images, labels), None, None, _DIGITS, mirror=False)


def mnist(root: str | Path, download: bool = False) -> Source:
    """Read MNIST: 60,000 training and 10,000 test images, grey, 28 x 28.

    Args:
        root: folder that holds ``MNIST/raw/`` with the four unpacked IDX files.
        download: fetch the files if they are missing; existing files are never fetched again.

    Raises:
        RequestError: key ``data.root`` if files are missing or damaged, ``data.download`` if fetching failed.

    Source: LeCun, Cortes and Burges; read and fetched by ``torchvision.datasets.MNIST``.
    """
    folder = _with_files(root, "MNIST", MNIST_FILES, download)
    from torchvision.datasets import MNIST

    with _damaged("MNIST", root):
        train, test = (MNIST(folder, train=part) for part in (True, False))
        splits = [InMemory(part.data.unsqueeze(1), part.targets) for part in (train, test)]
    return Source(splits[0], None, splits[1], _DIGITS, mirror=False)


def cifar10(root: str | Path, download: bool = False) -> Source:
    """Read CIFAR-10: 50,000 training and 10,000 test images, colour, 32 x 32.

    Args:
        root: folder that holds ``cifar-10-batches-py/``.
        download: fetch the files if they are missing; existing files are never fetched again.

    Raises:
        RequestError: key ``data.root`` if files are missing or damaged (their checksums are compared),
            ``data.download`` if fetching failed.

    Source: Krizhevsky 2009; read and fetched by ``torchvision.datasets.CIFAR10``.
    """
    folder = _with_files(root, "CIFAR-10", CIFAR10_FILES, download)
    from torchvision.datasets import CIFAR10

    with _damaged("CIFAR-10", root):
        train, test = (CIFAR10(folder, train=part) for part in (True, False))
        splits = [
            InMemory(torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets))
            for part in (train, test)
        ]
    return Source(splits[0], None, splits[1], tuple(train.classes), mirror=True)


def fake(
    num_classes: int = 10,
    image_size: int = 32,
    channels: int = 3,
    train_count: int = 512,
    test_count: int = 128,
    seed: int = 0,
) -> Source:
    """Make images that can be told apart, for tests and for trying a set-up.

    An image is the mean of its class's fixed random picture and of fresh noise, both uniform in 0..255 per pixel. The
    classes take turns.

    Args:
        num_classes: K, at least 2.
        image_size: side in pixels.
        channels: C.
        train_count: training images, at least K.
        test_count: test images, at least K.
        seed: decides all pixels.

    Raises:
        RequestError: keys ``data.num_classes``, ``data.image_size``, ``data.channels``, ``data.train_count``,
            ``data.test_count``.

    Randomness: generators seeded by ``derive_seed(seed, "fake", part)``; the global generator is untouched.
    """
    least = {
        "num_classes": (num_classes, 2),
        "image_size": (image_size, 1),
        "channels": (channels, 1),
        "train_count": (train_count, num_classes),
        "test_count": (test_count, num_classes),
    }
    problems = [
        Problem(f"data.{name}", str(value), f"at least {lowest} is needed")
        for name, (value, lowest) in least.items()
        if value < lowest
    ]
    if problems:
        raise RequestError(problems)
    pictures = _noise((num_classes, channels, image_size, image_size), derive_seed(seed, "fake", "classes"))
    splits = []
    for name, count in (("train", train_count), ("test", test_count)):
        labels = torch.arange(count) % num_classes
        noise = _noise((count, *pictures.shape[1:]), derive_seed(seed, "fake", name))
        splits.append(InMemory(((pictures[labels] + noise) // 2).to(torch.uint8), labels))
    return Source(splits[0], None, splits[1], tuple(f"class{label}" for label in range(num_classes)), mirror=False)


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw whole numbers in 0..255, as int16 so that two can be added."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int16)


def _with_files(root: str | Path, title: str, files: tuple[str, ...], download: bool) -> Path:
    """Return the folder if it holds all files; fetch them first where that is allowed."""
    if root is None or str(root) == "":
        return existing_folder(root)
    folder = Path(root).expanduser()
    missing = [file for file in files if not (folder / file).is_file()]
    if not missing:
        return folder
    if not download:
        more = "" if len(missing) == 1 else f" and {len(missing) - 1} more"
        message = (
            f"has no {title} files (expected {missing[0]}{more}); "
            "set data.download=true to fetch them or data.root=… to point at them"
        )
        raise RequestError(Problem("data.root", str(root), message))
    try:
        with _removed_if_empty(folder), _network_timeout():
            _download(folder, title, files)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        message = f"fetching {title} into {folder} failed: {_one_line(error)}"
        raise RequestError(Problem("data.download", "true", message)) from error
    return folder


def _download(folder: Path, title: str, files: tuple[str, ...]) -> None:
    """Fetch into a folder of its own and move each file into place when all are complete and checked."""
    from torchvision import datasets

    dataset = getattr(datasets, title.replace("-", ""))
    # Messages and progress bars go to stderr: stdout belongs to results.
    with (
        tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary,
        contextlib.redirect_stdout(sys.stderr),
    ):
        dataset(temporary, download=True)
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(temporary) / file, folder / file)


@contextlib.contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Make a folder with its parents, and take back those that were new when the work in it fails."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # somebody else has put something into it meanwhile: it stays
            for path in new:
                path.rmdir()
        raise


@contextlib.contextmanager
def _network_timeout() -> Iterator[None]:
    """Give up on a silent server, which torchvision alone would wait for without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _damaged(title: str, root: str | Path) -> Iterator[None]:
    """Turn what torchvision says about broken files into a problem of the request."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, EOFError, pickle.UnpicklingError) as error:
        message = (
            f"its {title} files are damaged ({_one_line(error)}); "
            "delete them and set data.download=true to fetch them again"
        )
        raise RequestError(Problem("data.root", str(root), message)) from error


def _one_line(error: BaseException) -> str:
    """Join the text of an error into one line; its type where there is no text."""
    return " ".join(str(error).split()) or type(error).__name__

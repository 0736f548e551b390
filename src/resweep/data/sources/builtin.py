"""Images that need no files: scikit-learn's digits, and made ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from resweep.data.base import Source
from resweep.data.samples import InMemory
from resweep.errors import Problem, RequestError
from resweep.seeding import derive_seed


def digits() -> Source:
    """Return the 1797 scanned digits that come with scikit-learn: grey, 8 x 8, no official test split.

    The 17 ink levels 0..16 are scaled to 0..255 and rounded.

    Source: ``sklearn.datasets.load_digits``, a copy of the test set of the UCI ML hand-written digits data sets.
    """
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = torch.from_numpy(np.rint(scans.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(scans.target.astype(np.int64))
    return Source(InMemory(images, labels), None, None, tuple(str(digit) for digit in range(10)), mirror=False)


def fake(
    num_classes: int = 10,
    image_size: int = 32,
    channels: int = 3,
    train_count: int = 512,
    test_count: int = 128,
    seed: int = 0,
    multilabel: bool = False,
) -> Source:
    """Make images that can be told apart, for tests and for trying a set-up.

    An image is the mean of its class's fixed random picture and of fresh noise, both uniform in 0..255 per pixel. The
    classes take turns. With several labels an image has each label with probability 1/2, one of them in turn for sure,
    and its picture is the mean of the pictures of its labels.

    Args:
        num_classes: K, at least 2.
        image_size: side in pixels.
        channels: C.
        train_count: training images, at least K.
        test_count: test images, at least K.
        seed: decides all pixels.
        multilabel: several labels an image.

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
        Problem(f"data.{name}", "null" if value is None else str(value), f"at least {lowest} is needed")
        for name, (value, lowest) in least.items()
        if value is None or value < lowest
    ]
    if problems:
        raise RequestError(problems)
    pictures = _noise((num_classes, channels, image_size, image_size), derive_seed(seed, "fake", "classes"))
    splits = []
    for name, count in (("train", train_count), ("test", test_count)):
        labels = torch.arange(count) % num_classes
        noise = _noise((count, *pictures.shape[1:]), derive_seed(seed, "fake", name))
        if multilabel:
            labels = _several(labels, num_classes, derive_seed(seed, "fake", name, "labels"))
            shown = torch.einsum("nk,kchw->nchw", labels / labels.sum(1, keepdim=True), pictures.float())
        else:
            shown = pictures[labels]
        splits.append(InMemory(((shown + noise) // 2).to(torch.uint8), labels))
    return Source(splits[0], None, splits[1], tuple(f"class{label}" for label in range(num_classes)), mirror=False)


def _several(labels: Tensor, num_classes: int, seed: int) -> Tensor:
    """Add each other label with probability 1/2: float32, shape (N, K)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand((len(labels), num_classes), generator=generator) < 0.5
    return chosen.scatter_(1, labels[:, None], True).to(torch.float32)


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw whole numbers in 0..255, as int16 so that two can be added."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int16)

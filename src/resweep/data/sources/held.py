"""Data sets of a fixed image size: read once, then mapped from the cache and shared by all processes.

Shapes: N images, C channels, H height, W width, L kinds of labels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resweep.data.cache import cached, facts_digest, remembered
from resweep.data.samples import InMemory
from resweep.data.sources.published import facts_of

Read = Callable[[], tuple[np.ndarray, np.ndarray]]


def held(name: str, files: Sequence[Path], read: Read, kind: int = 0) -> InMemory:
    """Return a split that is held in memory.

    Args:
        name: of the split in the cache, for instance ``"cifar10-train"``.
        files: what it is read from; it is read again when one of them has changed.
        read: returns uint8 images (N, C, H, W) and labels (N,) or (N, L) in [0, 256).
        kind: which of the L labels to use.

    Returns:
        Samples whose images are a mapped file.
    """
    facts = [name, *facts_of(files)]
    once = functools.cache(read)

    def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
        images, labels = once()
        return images, labels.reshape(len(images), -1)

    def sizes() -> list[list[int]]:
        images, labels = images_and_labels()
        return [list(images.shape), [*labels.shape, 1, 1]]

    def fill(position: int) -> Callable[[Tensor], None]:
        return lambda target: np.copyto(target.numpy(), images_and_labels()[position].reshape(target.shape), "unsafe")

    shape, label_shape = remembered(facts_digest(["sizes", *facts]), sizes)
    labels = cached(f"{name}-labels", facts, tuple(label_shape), fill(1))
    images = cached(name, facts, tuple(shape), fill(0))
    return InMemory(images, labels[:, kind, 0, 0].to(torch.int64), origin=facts_digest(facts))

"""Splits that keep the share of every class, as pure functions of the labels.

Images with several labels, float of shape (N, K), have no class whose share could be kept: they are divided at random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class SplitError(ValueError):
    """A part of this size cannot be taken.

    Args:
        size: the size that was asked for.
        reason: what is wrong with it and what is allowed.
    """

    def __init__(self, size: object, reason: str) -> None:
        super().__init__(size, reason)
        self.size = size
        self.reason = reason

    def __str__(self) -> str:
        """Put the size in front of the reason."""
        return f"size={self.size}: {self.reason}"


def stratified_split(
    labels: Tensor, size: int | float, seed: int, classes: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Divide positions into a rest and a part, each with the same share of every class up to rounding.

    Args:
        labels: int64, shape (N,), values in [0, K); or float, shape (N, K), several labels an image: not stratified.
        size: of the part; a whole number counts images, a number strictly between 0 and 1 is the share of all images,
            rounded up.
        seed: decides which images go to the part; in [0, 2**32).
        classes: names of the K classes for messages; None uses the numbers.

    Returns:
        The positions of the rest and of the part: two sorted int64 tensors that together hold each position once.

    Raises:
        SplitError: if the part or the rest would have fewer images than there are classes, or a class has one image
            only; the message says what is allowed.

    Source: ``sklearn.model_selection.train_test_split`` with ``stratify``.

    Example:
        >>> rest, part = stratified_split(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 0.5, seed=0)
        >>> len(rest), len(part)
        (4, 4)
    """
    from sklearn.model_selection import train_test_split

    count = part_count(labels, size)
    if labels.ndim == 1:
        _require_pairs(labels, size, classes)
    rest, part = train_test_split(
        torch.arange(len(labels)).numpy(),
        test_size=count,
        random_state=seed,
        stratify=labels.numpy() if labels.ndim == 1 else None,
    )
    return torch.from_numpy(rest).sort().values, torch.from_numpy(part).sort().values


def stratified_subset(labels: Tensor, size: int | float, seed: int, classes: Sequence[str] | None = None) -> Tensor:
    """Choose positions so that every class keeps its share; a size of N (the count) chooses all of them.

    Args and errors are those of :func:`stratified_split`.

    Returns:
        Sorted int64 positions.
    """
    if isinstance(size, int) and not isinstance(size, bool) and size == len(labels):
        return torch.arange(size)
    return stratified_split(labels, size, seed, classes)[1]


def part_count(labels: Tensor, size: int | float) -> int:
    """Return the number of images that a size means.

    Args:
        labels: int64, shape (N,); or float, shape (N, K).
        size: a count, or a share strictly between 0 and 1.

    Raises:
        SplitError: if there are fewer images than classes in the part or in what remains.
    """
    total, least = len(labels), len(labels.unique()) if labels.ndim == 1 else 1
    allowed = f"use a count from {least} to {total - least}, or a share between 0 and 1"
    needed = f"{least} classes need at least {least}" if labels.ndim == 1 else "at least 1 is needed"
    if total < 2 * least:
        of = f" of {least} classes" if labels.ndim == 1 else ""
        raise SplitError(size, f"{total} images{of} are too few to be divided in two")
    if isinstance(size, bool) or not isinstance(size, int | float):
        raise SplitError(size, f"not a number; {allowed}")
    if isinstance(size, float) and not 0 < size < 1:
        raise SplitError(size, f"not a share; {allowed}")
    count = math.ceil(size * total) if isinstance(size, float) else size
    if not least <= count <= total - least:
        raise SplitError(size, f"takes {count} of {total} images, but {needed} on both sides; {allowed}")
    return count


def _require_pairs(labels: Tensor, size: int | float, classes: Sequence[str] | None) -> None:
    """Refuse classes that cannot be on both sides."""
    counts = torch.bincount(labels)
    single = (counts == 1).nonzero().flatten().tolist()
    if single:
        names = ", ".join(str(label) if classes is None else classes[label] for label in single[:10])
        raise SplitError(size, f"every class needs at least 2 images to be divided; only 1 in: {names}")

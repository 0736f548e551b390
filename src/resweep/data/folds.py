"""K-fold cross-validation, as pure functions of the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from resweep.data.splits import SplitError


def stratified_folds(
    labels: Tensor, num_folds: int, seed: int, classes: Sequence[str] | None = None
) -> tuple[Tensor, ...]:
    """Divide positions into folds, each with the same share of every class up to rounding.

    Args:
        labels: int64, shape (N,), values in [0, K); or float, shape (N, K), several labels an image: not stratified.
        num_folds: at least 2.
        seed: decides which images go to which fold; in [0, 2**32).
        classes: names of the K classes for messages; None uses the numbers.

    Returns:
        The positions of each fold: sorted int64 tensors that together hold each position once, and whose lengths differ
        by one at most, as do the images of a class in them.

    Raises:
        SplitError: if there are more folds than images of the smallest class, or than images.

    Source: ``sklearn.model_selection.StratifiedKFold`` and, with several labels, ``KFold``, both shuffled.

    Example:
        >>> [len(fold) for fold in stratified_folds(torch.arange(10) % 2, 5, seed=0)]
        [2, 2, 2, 2, 2]
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    if isinstance(num_folds, bool) or not isinstance(num_folds, int) or num_folds < 2:
        raise SplitError(num_folds, "use a whole number of at least 2")
    if labels.ndim == 1:
        _require_images(labels, num_folds, classes)
    elif len(labels) < num_folds:
        raise SplitError(num_folds, f"more folds than images; there are {len(labels)}")
    kind = StratifiedKFold if labels.ndim == 1 else KFold
    known = labels.numpy() if labels.ndim == 1 else None
    divided = kind(num_folds, shuffle=True, random_state=seed).split(torch.zeros(len(labels), 1).numpy(), known)
    return tuple(torch.from_numpy(fold).sort().values for _, fold in divided)


def _require_images(labels: Tensor, num_folds: int, classes: Sequence[str] | None) -> None:
    """Refuse a class that cannot be in every fold."""
    counts = torch.bincount(labels, minlength=0 if classes is None else len(classes))
    fewest = int(counts.argmin())
    if counts[fewest] < num_folds:
        name = str(fewest) if classes is None else classes[fewest]
        raise SplitError(
            num_folds, f"more folds than images of the smallest class: {name} has {counts[fewest]}, so use at most that"
        )

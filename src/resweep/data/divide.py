"""A data set divided into training, validation and test images.

Shapes: N images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from resweep.data.base import Samples, Source
from resweep.data.folds import stratified_folds
from resweep.data.noise import noisy_labels
from resweep.data.splits import SplitError, stratified_split, stratified_subset
from resweep.errors import Problem, RequestError

_SPLITS = {"data.val_size": "validation", "data.test_size": "test"}
_SHOWN = 10


@dataclass(frozen=True)
class Division:
    """How a data set is divided; every step depends on the seed only and keeps the share of each class.

    The test images are the official ones, or carved from the training images by ``test_size``. With folds they are one
    fold of the training images, and an official test split is left out: over all folds every training image is tested
    once. The validation images are the official ones, or carved by ``val_size`` from the training images that are left;
    ``subset`` then chooses among the rest, and ``label_noise`` makes some of their labels wrong.

    Images with several labels are divided at random, since no class's share could be kept.

    Args:
        val_size: count or share; not used where the source has its own.
        test_size: count or share; not used where the source has its own, nor with folds.
        split_seed: in [0, 2**32).
        subset: count or share of the training images to use; None uses all.
        num_folds: folds of a cross-validation, at least 2; None for none.
        fold: the one that is tested, in [0, num_folds).
        label_noise: share of the training labels that are wrong (see :func:`resweep.data.noise.noisy_labels`).
    """

    val_size: int | float | None
    test_size: int | float | None
    split_seed: int
    subset: int | float | None = None
    num_folds: int | None = None
    fold: int | None = None
    label_noise: float = 0.0


def three_splits(source: Source, division: Division) -> tuple[Samples, Samples, Samples]:
    """Return the training, validation and test split.

    Raises:
        RequestError: if a size or a fold cannot be used, or a split would lack a class; the key is that of the value.
    """
    labels, classes, seed = source.train.labels, source.classes, division.split_seed
    rest, val, test = torch.arange(len(labels)), source.val, source.test
    for name, split in (("training", source.train), ("validation", val), ("test", test)):
        absent = "" if split is None else _absent(split.labels, classes)
        if absent:
            raise RequestError(Problem("data", None, f"its {name} images have none of these classes: {absent}"))
    if division.num_folds is not None or division.fold is not None:
        rest, part = _fold(source, division)
        test = source.train.take(part)
    elif test is None:
        rest, part = _carve("data.test_size", labels, rest, division.test_size, seed, classes)
        test = source.train.take(part)
    if val is None:
        rest, part = _carve("data.val_size", labels, rest, division.val_size, seed, classes)
        val = source.train.take(part)
    if division.subset is not None:
        rest = _subset(labels, rest, division, classes)
    train = source.train if len(rest) == len(labels) else source.train.take(rest)
    return _with_noise(train, division, classes), val, test


def _fold(source: Source, division: Division) -> tuple[Tensor, Tensor]:
    """Divide the positions of the training images into the other folds and the one that is tested."""
    num_folds, fold = division.num_folds, division.fold
    if num_folds is None:
        message = "needs data.num_folds, the number of folds, as in data.num_folds=5"
        raise RequestError(Problem("data.fold", str(fold), message))
    axis = f"data.fold=range(0,{num_folds}) with -m tests each of them once"
    if fold is None:
        raise RequestError(Problem("data.num_folds", str(num_folds), f"needs data.fold, the fold to test; {axis}"))
    try:
        folds = stratified_folds(source.train.labels, num_folds, division.split_seed, source.classes)
    except SplitError as error:
        raise RequestError(Problem("data.num_folds", str(num_folds), error.reason)) from error
    if isinstance(fold, bool) or fold not in range(num_folds):
        message = f"data.num_folds={num_folds} has the folds 0 to {num_folds - 1}; {axis}"
        raise RequestError(Problem("data.fold", str(fold), message))
    rest = torch.cat([part for number, part in enumerate(folds) if number != fold]).sort().values
    for name, part in (("test", folds[fold]), ("training", rest)):
        _require_classes("data.num_folds", num_folds, name, source.train.labels[part], source.classes)
    return rest, folds[fold]


def _carve(
    key: str, labels: Tensor, positions: Tensor, size: int | float | None, seed: int, classes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """Divide positions into rest and part, both with every class."""
    if size is None:
        message = "this data set has no split of its own for it: give a count of images or a share between 0 and 1"
        raise RequestError(Problem(key, "null", message))
    try:
        rest, part = stratified_split(labels[positions], size, seed, classes)
    except SplitError as error:
        raise RequestError(Problem(key, str(size), error.reason)) from error
    rest, part = positions[rest], positions[part]
    for name, side in ((_SPLITS[key], part), ("training", rest)):
        _require_classes(key, size, name, labels[side], classes)
    return rest, part


def _subset(labels: Tensor, positions: Tensor, division: Division, classes: tuple[str, ...]) -> Tensor:
    """Choose among positions, with every class."""
    try:
        chosen = positions[stratified_subset(labels[positions], division.subset, division.split_seed, classes)]
    except SplitError as error:
        raise RequestError(Problem("data.subset", str(division.subset), error.reason)) from error
    _require_classes("data.subset", division.subset, "training", labels[chosen], classes)
    return chosen


def _require_classes(key: str, value: float, split: str, labels: Tensor, classes: tuple[str, ...]) -> None:
    """Refuse a value that leaves a split without any image of some class."""
    absent = _absent(labels, classes)
    if absent:
        message = f"leaves no image of these classes in the {split} split: {absent}; use another value"
        raise RequestError(Problem(key, str(value), message))


def _absent(labels: Tensor, classes: tuple[str, ...]) -> str:
    """Name the classes that no image has; empty where all are there."""
    counts = labels.sum(0) if labels.ndim == 2 else torch.bincount(labels, minlength=len(classes))
    names = [classes[label] for label in (counts == 0).nonzero().flatten().tolist()]
    more = "" if len(names) <= _SHOWN else f" and {len(names) - _SHOWN} more"
    return ", ".join(names[:_SHOWN]) + more


def _with_noise(train: Samples, division: Division, classes: tuple[str, ...]) -> Samples:
    """Make the share of the labels wrong that is asked for."""
    share = division.label_noise
    if share == 0:
        return train
    if train.labels.ndim == 2:
        message = "wrong labels are defined for one label an image, and this data set has several; use 0.0"
        raise RequestError(Problem("data.label_noise", str(share), message))
    try:
        labels = noisy_labels(train.labels, share, len(classes), division.split_seed)
    except ValueError as error:
        raise RequestError(Problem("data.label_noise", str(share), str(error).split(": ", 1)[1])) from error
    _require_classes("data.label_noise", share, "training", labels, classes)
    return train.relabelled(labels)

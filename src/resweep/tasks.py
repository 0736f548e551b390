"""What is asked of a net: which one of K classes an image shows, or which of K labels it has.

Everything that differs between the two is here: how a prediction is judged, which loss is reported, what logits mean.

Shapes: B batch, N images, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resweep.ranking import UNDECIDED, best_thresholds

VALIDATION = "validation"


class Multiclass:
    """Every image shows exactly one of K classes.

    Args:
        num_classes: K, at least 2.

    Attributes:
        name: ``multiclass``.
        further_metrics: validation metrics besides loss and accuracy: none.
    """

    name = "multiclass"
    further_metrics: tuple[str, ...] = ()

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def hits(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return bool (B,): the class with the largest logit is the right one.

        Args:
            logits: (B, K).
            targets: int64 (B,), or shares of the classes (B, K) of mixed images, of which the largest counts.
        """
        return logits.argmax(1) == (targets if targets.dim() == 1 else targets.argmax(1))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the plain cross-entropy, the mean over the batch: scalar float32.

        Args:
            logits: (B, K), any float type.
            targets: int64 (B,), or shares of the classes (B, K).
        """
        return F.cross_entropy(logits.float(), targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax of the logits: float32 (B, K)."""
        return logits.float().softmax(1)

    def one_hot(self, targets: Tensor) -> Tensor:
        """Return int64 classes (B,) as float32 rows (B, K); rows are returned as they are."""
        return F.one_hot(targets, self.num_classes).float() if targets.dim() == 1 else targets.float()


class Multilabel(nn.Module):
    """Every image has any number of K labels, none included; each is a decision of its own.

    A label is given where its probability is at least its threshold. The thresholds are a buffer: they go with the
    weights into the checkpoint, and with the module to its device.

    Args:
        num_classes: K, the number of labels, at least 1.
        thresholds: one number above 0 and below 1 for all labels; or one per label; or ``validation``, which lets
            :meth:`choose` set them, and is 0.5 until then.

    Attributes:
        name: ``multilabel``.
        further_metrics: validation metrics besides loss and accuracy.
        thresholds: float32 (K,), whatever type the module is converted to.

    Raises:
        ValueError: ``thresholds`` is out of range, or a list of another length than K.
    """

    name = "multilabel"
    further_metrics: tuple[str, ...] = ("map", "f1")

    def __init__(self, num_classes: int, thresholds: float | Sequence[float] | str = 0.5) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.chooses = isinstance(thresholds, str) and thresholds == VALIDATION
        values = UNDECIDED if self.chooses else thresholds
        self.register_buffer("thresholds", _threshold_tensor(values, num_classes))

    def hits(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return float32 (B,): the share of an image's K decisions that are right.

        Args:
            logits: (B, K).
            targets: (B, K), above 0.5 where the image has the label.
        """
        return (self.decisions(logits) == (targets > 0.5)).float().mean(1)

    def decisions(self, logits: Tensor) -> Tensor:
        """Return bool (B, K): the labels that are given."""
        return self.probabilities(logits) >= self.thresholds.to(logits.device)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the plain binary cross-entropy, the mean over the batch and the labels: scalar float32."""
        return F.binary_cross_entropy_with_logits(logits.float(), targets.float())

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the sigmoid of the logits: float32 (B, K)."""
        return logits.float().sigmoid()

    def one_hot(self, targets: Tensor) -> Tensor:
        """Return the targets (B, K) as float32; they have one column per label already."""
        return targets.float()

    def choose(self, logits: Tensor, targets: Tensor) -> None:
        """Set the thresholds to those that maximise every label's F1 on a split (see :func:`best_thresholds`).

        Args:
            logits: (N, K) of the whole validation split.
            targets: (N, K).
        """
        self.thresholds.copy_(best_thresholds(self.probabilities(logits), targets))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Multilabel:
        """Move the thresholds as the module is moved, but keep their bits: rounded ones would decide otherwise."""
        kept = self.thresholds
        super()._apply(fn, recurse)
        self.thresholds = kept.to(self.thresholds.device)
        return self


Task = Multiclass | Multilabel


def task_for(labels: Tensor, num_classes: int, thresholds: float | Sequence[float] | str = 0.5) -> Task:
    """Return the task that the labels of a data set set.

    Args:
        labels: int64 (N,) for classes, or float (N, K) of 0 and 1 for labels.
        num_classes: K.
        thresholds: for labels only (see :class:`Multilabel`).

    Raises:
        ValueError: ``thresholds`` is not usable, or is given for classes; or ``labels`` do not fit ``num_classes``.
    """
    if labels.dim() == 1:
        if thresholds != UNDECIDED:
            message = "is for images with several labels each; this data has one class per image"
            raise ValueError(f"thresholds={thresholds}: {message}")
        return Multiclass(num_classes)
    if labels.shape[1:] != (num_classes,):
        raise ValueError(f"labels have the shape {tuple(labels.shape)}, which does not fit {num_classes} names")
    return Multilabel(num_classes, thresholds)


def _threshold_tensor(given: float | Sequence[float] | str, num_classes: int) -> Tensor:
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] * num_classes
    usable = all(isinstance(v, Real) and not isinstance(v, bool) and 0 < v < 1 for v in values)
    if not usable:
        message = f"must be above 0 and below 1: one number, a list of one per label, or the word {VALIDATION}"
        raise ValueError(f"thresholds={given}: {message}")
    if len(values) != num_classes:
        raise ValueError(f"thresholds={given}: has {len(values)} numbers, but there are {num_classes} labels")
    return torch.tensor(values, dtype=torch.float32)

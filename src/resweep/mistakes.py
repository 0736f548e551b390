"""The mistakes of which a net was most certain.

Shapes: N images, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from resweep.tasks import Multilabel

MOST = 16


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for something else.

    Attributes:
        position: of the image in its split.
        true, predicted: classes; None stands for the absence of the label that the other one names.
        confidence: probability of what was predicted.
    """

    position: int
    true: int | None
    predicted: int | None
    confidence: float

    def names(self, classes: Sequence[str]) -> tuple[str, str]:
        """Return what is true and what was predicted, in words."""
        true = f"no {classes[self.predicted]}" if self.true is None else classes[self.true]
        predicted = f"no {classes[self.true]}" if self.predicted is None else classes[self.predicted]
        return true, predicted


class WorstMistakes:
    """Keeps the 16 most confident mistakes of the images added so far, the most confident first.

    Of equally confident ones those of earlier images stand first. An image counts once: with several labels, by the
    label about which the net was most certain and wrong.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.seen = 0
        self.worst: list[Mistake] = []

    def add_classes(self, confidence: Tensor, predicted: Tensor, targets: Tensor) -> None:
        """Add images that show one class each.

        Args:
            confidence: float (N,), probability of the predicted class.
            predicted, targets: int64 (N,).
        """
        chosen = self._chosen(confidence, predicted != targets)
        found = [
            Mistake(self.seen + index, targets[index].item(), predicted[index].item(), confidence[index].item())
            for index in chosen
        ]
        self._keep(found, len(targets))

    def add_labels(self, task: Multilabel, logits: Tensor, targets: Tensor) -> None:
        """Add images that show any number of labels.

        Args:
            task: decides which labels are given.
            logits: float (N, K).
            targets: bool (N, K).
        """
        given, probabilities = task.decisions(logits), task.probabilities(logits)
        certainty = torch.where(given, probabilities, 1 - probabilities).masked_fill(given == targets, -1)
        confidence, labels = certainty.max(1)
        found = []
        for index in self._chosen(confidence, confidence >= 0):
            label, was_given = labels[index].item(), bool(given[index, labels[index]])
            names = (None, label) if was_given else (label, None)
            found.append(Mistake(self.seen + index, *names, confidence[index].item()))
        self._keep(found, len(targets))

    def _chosen(self, confidence: Tensor, wrong: Tensor) -> list[int]:
        """Places of the most confident wrong answers; what is nan is none."""
        places = (wrong & ~confidence.isnan()).nonzero().flatten()
        order = confidence[places].sort(descending=True, stable=True).indices[:MOST]
        return places[order].tolist()

    def _keep(self, found: list[Mistake], count: int) -> None:
        self.seen += count
        self.worst = sorted([*self.worst, *found], key=lambda mistake: -mistake.confidence)[:MOST]

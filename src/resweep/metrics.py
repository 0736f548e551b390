"""Metrics of an epoch: sums that cost next to nothing, and for labels what one validation shows.

Metric objects that are updated per batch cost more than the training step of a small net. Epoch means are therefore
plain sums. The full set, computed once for the test, is in :mod:`resweep.scores`.

Shapes: B batch, K classes or labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from resweep.scores import joined, label_table, macro
from resweep.tasks import Multiclass, Multilabel, Task


class RunningMean:
    """Mean loss and accuracy over the images of an epoch.

    Sums stay on the device of the batches until they are read, so that a step never waits for the accelerator.

    Args:
        task: says what a right prediction is: of the class, or the share of an image's labels.
    """

    def __init__(self, task: Task | None = None) -> None:
        self.hits = (task or Multiclass(2)).hits
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.loss: Tensor | None = None
        self.correct: Tensor | None = None
        self.count = 0

    def state(self) -> dict[str, Any]:
        """Return the sums so far, for a checkpoint in the middle of an epoch."""
        return {"loss": self.loss, "correct": self.correct, "count": self.count}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from the sums of a checkpoint."""
        self.loss, self.correct = (None if state[key] is None else state[key].to(device) for key in ("loss", "correct"))
        self.count = state["count"]

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            loss: mean over the batch, scalar.
            logits: (B, K).
            targets: as the task has them.
        """
        correct = self.hits(logits, targets).sum()
        weighted = loss.float() * len(targets)
        self.loss = weighted if self.loss is None else self.loss + weighted
        self.correct = correct if self.correct is None else self.correct + correct
        self.count += len(targets)

    def compute(self) -> tuple[float, float]:
        """Return (mean loss, accuracy) over all images added; waits for the accelerator.

        Raises:
            RuntimeError: nothing was added.
        """
        if self.loss is None or self.correct is None:
            raise RuntimeError("the mean of no batches was asked for")
        return self.loss.item() / self.count, self.correct.item() / self.count

    def values(self) -> dict[str, float]:
        """Return the same by name."""
        return dict(zip(("loss", "accuracy"), self.compute(), strict=True))


class MultilabelEpoch:
    """Metrics of one validation for labels: loss, accuracy, map and f1 (both macro), from the logits of all images.

    A task whose thresholds are to be chosen on the validation split gets them here, before anything is judged.

    Args:
        task: has the thresholds.
    """

    def __init__(self, task: Multilabel) -> None:
        self.task = task
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.found: dict[str, float] | None = None

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch; the loss is computed anew from all logits.

        Args:
            loss: not used.
            logits: (B, K).
            targets: (B, K).
        """
        self.batches.append((logits.detach().float(), targets > 0.5))
        self.found = None

    def compute(self) -> tuple[float, float]:
        """Return (mean loss, share of decisions that are right)."""
        values = self.values()
        return values["loss"], values["accuracy"]

    def values(self) -> dict[str, float]:
        """Return ``loss``, ``accuracy``, ``map`` and ``f1``; computed once.

        Raises:
            RuntimeError: nothing was added.
        """
        if self.found is None:
            logits, targets = joined(self.batches)
            if self.task.chooses:
                self.task.choose(logits, targets)
            table = label_table(self.task, logits, targets)
            loss, accuracy = self.task.loss(logits, targets), self.task.hits(logits, targets).double().mean()
            scores = {"map": macro(table["average_precision"]), "f1": macro(table["f1"])}
            self.found = {"loss": loss.item(), "accuracy": accuracy.item(), **scores}
        return self.found


def epoch_metrics(task: Task) -> RunningMean | MultilabelEpoch:
    """Return what measures a validation."""
    return MultilabelEpoch(task) if isinstance(task, Multilabel) else RunningMean(task)

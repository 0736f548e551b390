"""Metrics of a classifier: cheap running means for every epoch, the full set once for the test.

Metric objects that are updated per batch cost more than the training step of a small net. Epoch means are therefore
plain sums, and the full set is computed by torchmetrics on logits gathered into large chunks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

CHUNK = 8192  # images gathered before the metric objects are updated
CALIBRATION_BINS = 15
CERTAIN = 1 - 2.0**-24  # largest float32 below 1


class RunningMean:
    """Mean loss and accuracy over the images of an epoch.

    Sums stay on the device of the batches until they are read, so that a step never waits for the accelerator.
    """

    def __init__(self) -> None:
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
            targets: int64 (B,).
        """
        correct = (logits.argmax(1) == targets).sum()
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


class ClassifierMetrics:
    """The full set for one pass over a split, by torchmetrics.

    loss (cross-entropy), accuracy, precision, recall and f1 (macro: the mean over classes that occur among targets or
    predictions), ece (expected calibration error, 15 equal bins, L1 norm; Guo et al. 2017, arXiv 1706.04599), top5
    where there are more than five classes, and the confusion matrix.

    Args:
        num_classes: K, at least 2.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        k = num_classes
        metrics = {
            "accuracy": MulticlassAccuracy(k, average="micro", validate_args=False),
            "precision": MulticlassPrecision(k, average="macro", validate_args=False),
            "recall": MulticlassRecall(k, average="macro", validate_args=False),
            "f1": MulticlassF1Score(k, average="macro", validate_args=False),
            "ece": MulticlassCalibrationError(k, n_bins=CALIBRATION_BINS, norm="l1", validate_args=False),
            "confusion": MulticlassConfusionMatrix(k, validate_args=False),
        }
        if k > 5:
            metrics["top5"] = MulticlassAccuracy(k, top_k=5, average="micro", validate_args=False)
        self.metrics = MetricCollection(metrics)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.metrics.reset()
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.loss = 0.0
        self.count = 0

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            logits: (B, K), any float type.
            targets: int64 (B,).
        """
        self.pending.append((logits.detach().float(), targets))
        if sum(len(part) for _, part in self.pending) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        logits = torch.cat([part for part, _ in self.pending]).cpu()
        targets = torch.cat([part for _, part in self.pending]).cpu()
        self.pending = []
        self.loss += F.cross_entropy(logits, targets, reduction="sum").item()
        self.count += len(targets)
        # torchmetrics gives a probability of exactly 1 a bin of its own instead of a place in the last one.
        self.metrics.update(logits.softmax(1).clamp(max=CERTAIN), targets)

    def compute(self) -> tuple[dict[str, float], Tensor]:
        """Return (name to value, confusion matrix int64 (K, K) with rows = true class).

        Raises:
            RuntimeError: nothing was added.
        """
        if self.pending:
            self._flush()
        if self.count == 0:
            raise RuntimeError("metrics of no images were asked for")
        values = self.metrics.compute()
        confusion = values.pop("confusion")
        return {"loss": self.loss / self.count, **{name: value.item() for name, value in values.items()}}, confusion

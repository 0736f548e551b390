"""The full set of metrics, computed once for the test on logits gathered into large chunks.

What follows from the decisions on classes is computed by torchmetrics, what depends on the order of scores by
:mod:`resweep.ranking`.

What is undefined has one rule everywhere: precision, recall and F1 are 0 where their denominator is 0, but a class that
occurs neither among the targets nor among the predictions has none (nan) and is left out of a macro mean. The area
under the curve needs positive and negative images, average precision positive ones; a class without them is left out.

Shapes: B batch, N images, K classes or labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from resweep.calibration import Calibration
from resweep.mistakes import Mistake, WorstMistakes
from resweep.ranking import BLOCK, Ranking, rankings
from resweep.tasks import Multilabel, Task

CHUNK = 8192  # images gathered before the metric objects are updated
TOP = 5
RANKED = 10**8  # probabilities kept for the areas under the curves: 400 MB


@dataclass(frozen=True)
class TestResult:
    """What one pass over a split has shown.

    Attributes:
        scores: name to value; nan where a value is not defined.
        confusion: int64 (K, K), rows = true class; None for labels.
        classes: column name to K values, one per class or label; nan where a value is not defined.
        calibration: the table of :class:`resweep.calibration.Calibration`: of the probability of the predicted class,
            or of every probability of a label.
        mistakes: the most confident ones, see :class:`resweep.mistakes.WorstMistakes`.
        scored: parts of probabilities, float32 (n, K), and targets, int64 (n,) or bool (n, K); empty where they are
            too many to be kept.
    """

    __test__ = False  # pytest takes the name for a test's

    scores: dict[str, float]
    confusion: Tensor | None
    classes: dict[str, list[float]]
    calibration: dict[str, list[float]] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    scored: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class MulticlassTest:
    """The full set for one pass over a split of classes.

    - ``loss``: cross-entropy, which is the mean negative log-likelihood of the true class (natural logarithm).
    - ``accuracy``; there is no micro-averaged F1, precision or recall, since with one class per image all three equal
      the accuracy.
    - ``precision``, ``recall``, ``f1``: macro.
    - ``auroc``: area under the receiver operating characteristic of each class against the rest, macro. Exact. Above
      10**8 probabilities (images times classes) it is not computed: nan, with a warning.
    - ``brier``: the mean over images of the sum over classes of (probability - target)**2, from 0 to 2, as Brier 1950
      defined it; half of it is what others call by that name for two classes.
    - ``ece``: expected calibration error, 15 equal bins, L1 norm (Guo et al. 2017, arXiv 1706.04599, equation 3).
    - ``top5``: where there are more than five classes.

    The table of classes has support, precision, recall, f1, auroc and average_precision.

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
            "confusion": MulticlassConfusionMatrix(k, validate_args=False),
        }
        self.metrics = MetricCollection(metrics)
        self.calibration = Calibration()
        self.mistakes = WorstMistakes()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.metrics.reset()
        self.calibration.reset()
        self.mistakes.reset()
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.loss = self.brier = 0.0
        self.count = 0
        self.top5 = torch.zeros((), dtype=torch.int64)

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
        logits, targets = joined(self.pending)
        self.pending = []
        self.loss += F.cross_entropy(logits, targets, reduction="sum").item()
        self.count += len(targets)
        probabilities = logits.softmax(1)
        squares = probabilities.square().sum(1, dtype=torch.float64)
        self.brier += (squares - 2 * probabilities.gather(1, targets[:, None]).squeeze(1) + 1).sum().item()
        confidence, predicted = probabilities.max(1)
        self.metrics.update(predicted, targets)
        self.calibration.add(confidence, predicted == targets)
        self.mistakes.add_classes(confidence, predicted, targets)
        if self.num_classes > TOP:  # torchmetrics takes 13 s for it on 50,000 images of 1,000 classes, this 0.2 s
            self.top5 += (probabilities.topk(TOP, 1).indices == targets[:, None]).sum()
        fits = self.count * self.num_classes <= RANKED
        self.kept = [*self.kept, (probabilities, targets)] if fits else []

    def compute(self) -> TestResult:
        """Return the result over all images added.

        Raises:
            RuntimeError: nothing was added.
        """
        if self.pending:
            self._flush()
        if self.count == 0:
            raise RuntimeError("metrics of no images were asked for")
        values = self.metrics.compute()
        confusion = values.pop("confusion")
        table = self._class_table(confusion)
        scores = {"loss": self.loss / self.count, **{name: value.item() for name, value in values.items()}}
        if self.num_classes > TOP:
            scores["top5"] = (self.top5 / self.count).item()
        scores |= {"auroc": macro(table["auroc"]), "brier": self.brier / self.count, "ece": self.calibration.error()}
        classes = {name: column.tolist() for name, column in table.items()}
        return TestResult(scores, confusion, classes, self.calibration.table(), self.mistakes.worst, self.kept)

    def _class_table(self, confusion: Tensor) -> dict[str, Tensor]:
        tp, support, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        table = {"support": support, **_rates(tp, predicted - tp, support - tp)}
        if not self.kept:
            message = f"the areas under the curves are left out: {self.count} images of {self.num_classes} classes"
            warnings.warn(f"{message} are more than {RANKED:.0e} probabilities", stacklevel=3)
            missing = torch.full((self.num_classes,), torch.nan, dtype=torch.float64)
            return {**table, "auroc": missing, "average_precision": missing}
        return table | _areas(_class_rankings(self.kept, self.num_classes))


class MultilabelTest:
    """The full set for one pass over a split of labels.

    - ``loss``: binary cross-entropy, the mean over images and labels.
    - ``accuracy``: the share of all decisions that are right; ``exact_match``: the share of images of which all are.
    - ``map``: mean average precision, macro; ``auroc``: macro. Both are exact and independent of the thresholds.
    - ``precision``, ``recall``, ``f1_macro``: macro; ``f1_micro``: of the counts of all labels together.
    - ``brier``: the mean over images and labels of (probability - target)**2, from 0 to 1.

    The table of labels has support, threshold, tp, fp, fn, tn, precision, recall, f1, auroc and average_precision.
    There is no confusion matrix. All logits are kept until the end: 5 bytes per image and label.

    Args:
        task: has the thresholds, as they are when the result is computed.
    """

    def __init__(self, task: Multilabel) -> None:
        self.task = task
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.batches: list[tuple[Tensor, Tensor]] = []

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            logits: (B, K), any float type.
            targets: (B, K), above 0.5 where the image has the label.
        """
        self.batches.append((logits.detach().float(), targets > 0.5))

    def compute(self) -> TestResult:
        """Return the result over all images added.

        Raises:
            RuntimeError: nothing was added.
        """
        logits, targets = joined(self.batches)
        table = label_table(self.task, logits, targets)
        right = self.task.hits(logits, targets)
        tp, wrong = table["tp"].sum().item(), (table["fp"] + table["fn"]).sum().item()
        probabilities = self.task.probabilities(logits)
        squares = (probabilities - targets.float()).square()
        calibration, mistakes = Calibration(), WorstMistakes()
        calibration.add(probabilities.flatten(), targets.flatten())
        mistakes.add_labels(self.task, logits, targets)
        scores = {
            "loss": self.task.loss(logits, targets).item(),
            "accuracy": right.double().mean().item(),
            "exact_match": (right == 1).double().mean().item(),
            "map": macro(table["average_precision"]),
            "f1_micro": 2 * tp / (2 * tp + wrong) if tp + wrong else float("nan"),
            "f1_macro": macro(table["f1"]),
            "precision": macro(table["precision"]),
            "recall": macro(table["recall"]),
            "auroc": macro(table["auroc"]),
            "brier": squares.mean(dtype=torch.float64).item(),
        }
        classes = {name: column.tolist() for name, column in table.items()}
        return TestResult(scores, None, classes, calibration.table(), mistakes.worst, [(probabilities, targets)])


def full_metrics(task: Task) -> MulticlassTest | MultilabelTest:
    """Return what measures the test split."""
    return MultilabelTest(task) if isinstance(task, Multilabel) else MulticlassTest(task.num_classes)


def joined(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the logits and the targets of several batches as one of each, on the processor.

    Raises:
        RuntimeError: there are none.
    """
    if not batches:
        raise RuntimeError("metrics of no images were asked for")
    logits, targets = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    return logits, targets


def label_table(task: Multilabel, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return the table of labels: column name to K values.

    Args:
        task: has the thresholds.
        logits: float (N, K).
        targets: bool (N, K).
    """
    given = task.decisions(logits)
    tp, fp, fn = (given & targets).sum(0), (given & ~targets).sum(0), (~given & targets).sum(0)
    thresholds = task.thresholds.float().cpu().numpy()
    shown = torch.tensor([float(str(value)) for value in thresholds], dtype=torch.float64)  # 0.3 as 0.3
    counts = {"support": tp + fn, "threshold": shown, "tp": tp, "fp": fp, "fn": fn}
    areas = _areas(rankings(logits, targets))  # sigmoid keeps the order, but makes large logits equal
    return {**counts, "tn": len(targets) - tp - fp - fn, **_rates(tp, fp, fn), **areas}


def macro(values: Tensor) -> float:
    """Return the mean of the values (K,) that are defined; nan where none is."""
    return values.nanmean().item()


def _rates(tp: Tensor, fp: Tensor, fn: Tensor) -> dict[str, Tensor]:
    """Precision, recall and F1 per class, float64 (K,), from counts (K,)."""

    def share(part: Tensor, whole: Tensor) -> Tensor:
        return (part.double() / whole.clamp(min=1)).masked_fill(tp + fp + fn == 0, torch.nan)

    return {"precision": share(tp, tp + fp), "recall": share(tp, tp + fn), "f1": share(2 * tp, 2 * tp + fp + fn)}


def _areas(ranked: Iterable[Ranking]) -> dict[str, Tensor]:
    """Areas under the two curves per class, float64 (K,)."""
    pairs = [(ranking.auroc(), ranking.average_precision()) for ranking in ranked]
    return dict(zip(("auroc", "average_precision"), torch.tensor(pairs, dtype=torch.float64).unbind(1), strict=True))


def _class_rankings(parts: list[tuple[Tensor, Tensor]], num_classes: int) -> Iterator[Ranking]:
    """Rank every class against the rest, some columns at a time: one-hot rows of all would take eight times as much."""
    targets = torch.cat([part for _, part in parts])
    for first in range(0, num_classes, BLOCK):
        some = torch.cat([probabilities[:, first : first + BLOCK] for probabilities, _ in parts])
        yield from rankings(some, targets[:, None] == torch.arange(first, first + some.shape[1]))

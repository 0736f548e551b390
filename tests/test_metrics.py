"""The metrics of an epoch against scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torch.nn import functional as F

from resweep.metrics import MultilabelEpoch, RunningMean, epoch_metrics
from resweep.tasks import Multiclass, Multilabel

CLASSES = 8
SIZES = [7, 193, 300]


def made_up(count: int = 500) -> tuple[Tensor, Tensor]:
    """Random logits (N, K) that know a little about the random targets (N,)."""
    generator = torch.Generator().manual_seed(count)
    targets = torch.randint(0, CLASSES, (count,), generator=generator)
    logits = torch.randn(count, CLASSES, generator=generator) * 2
    logits[torch.arange(count), targets] += 2
    return logits, targets


def made_up_labels(count: int = 500) -> tuple[Tensor, Tensor]:
    """Random logits (N, K) and labels (N, K) that depend on them; the last label never occurs."""
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(count, CLASSES, generator=generator) * 2
    targets = (torch.rand(count, CLASSES, generator=generator) < (logits - 1).sigmoid()).float()
    targets[:, -1] = 0
    return logits, targets


def filled(mean: RunningMean | MultilabelEpoch, task: Multiclass | Multilabel, logits: Tensor, targets: Tensor) -> None:
    mean.reset()
    for part, labels in zip(logits.split(SIZES), targets.split(SIZES), strict=True):
        mean.update(task.loss(part, labels), part, labels)


def test_the_running_mean_weighs_batches_by_their_images() -> None:
    logits, targets = made_up()
    task, mean = Multiclass(CLASSES), RunningMean()
    for _ in range(2):  # the second pass shows that reset forgets the first
        filled(mean, task, logits, targets)
    loss, accuracy = mean.compute()
    probabilities = logits.double().softmax(1)
    assert loss == pytest.approx(sk.log_loss(targets, probabilities, labels=range(CLASSES)), rel=1e-6)
    assert accuracy == sk.accuracy_score(targets, logits.argmax(1))
    assert mean.values() == {"loss": loss, "accuracy": accuracy}


def test_the_running_mean_of_labels_counts_decisions() -> None:
    logits, targets = made_up_labels()
    task = Multilabel(CLASSES, 0.25)
    mean = RunningMean(task)
    filled(mean, task, logits, targets)
    expected = sk.hamming_loss(targets, logits.sigmoid() >= 0.25)
    assert mean.compute()[1] == pytest.approx(1 - expected, abs=1e-6)


@pytest.mark.parametrize("task", [Multiclass(CLASSES), Multilabel(CLASSES)])
def test_a_running_mean_goes_on_from_its_state(task: Multiclass | Multilabel) -> None:
    logits, targets = made_up() if isinstance(task, Multiclass) else made_up_labels()
    whole, first = RunningMean(task), RunningMean(task)
    filled(whole, task, logits, targets)
    half = [logits[:200], targets[:200]]
    for part, labels in zip(*(parts.split(SIZES[:2]) for parts in half), strict=True):
        first.update(task.loss(part, labels), part, labels)
    second = RunningMean(task)
    second.restore(first.state(), torch.device("cpu"))
    second.update(task.loss(logits[200:], targets[200:]), logits[200:], targets[200:])
    assert second.compute() == whole.compute()


def test_a_validation_of_labels_agrees_with_scikit_learn() -> None:
    logits, targets = made_up_labels()
    task = Multilabel(CLASSES, 0.4)
    metrics = epoch_metrics(task)
    filled(metrics, task, logits, targets)
    given, there = (logits.sigmoid() >= 0.4).numpy(), targets.numpy()
    occurs = list(range(CLASSES - 1))  # the last label has no average precision
    expected = {
        "loss": task.loss(logits, targets).item(),
        "accuracy": 1 - sk.hamming_loss(there, given),
        "map": sk.average_precision_score(there[:, occurs], logits[:, occurs], average="macro"),
        "f1": sk.f1_score(there, given, average="macro", zero_division=0),
    }
    assert metrics.values() == pytest.approx(expected, abs=1e-6)
    assert metrics.compute() == (metrics.values()["loss"], metrics.values()["accuracy"])


def test_a_validation_of_labels_chooses_thresholds_where_they_are_wanted() -> None:
    logits, targets = made_up_labels()
    chosen, fixed = Multilabel(CLASSES, "validation"), Multilabel(CLASSES)
    scores = []
    for task in (chosen, fixed):
        metrics = epoch_metrics(task)
        filled(metrics, task, logits, targets)
        scores.append(metrics.values())
    assert fixed.thresholds.tolist() == [0.5] * CLASSES
    assert chosen.thresholds[-1] == 0.5 and (chosen.thresholds[:-1] != 0.5).all()
    assert scores[0]["f1"] > scores[1]["f1"] and scores[0]["map"] == scores[1]["map"]
    assert scores[0]["f1"] == pytest.approx(
        sk.f1_score(targets, chosen.decisions(logits), average="macro", zero_division=0), abs=1e-6
    )


def test_new_batches_make_new_values() -> None:
    logits, targets = made_up_labels()
    metrics = MultilabelEpoch(Multilabel(CLASSES))
    metrics.update(torch.zeros(()), logits, targets)
    first = metrics.values()
    metrics.update(torch.zeros(()), -logits, targets)
    assert metrics.values()["accuracy"] != first["accuracy"]
    metrics.reset()
    metrics.update(torch.zeros(()), logits, targets)
    assert metrics.values() == first


def test_logits_that_are_not_finite_give_values_that_are_not() -> None:
    metrics = MultilabelEpoch(Multilabel(2, "validation"))
    metrics.update(torch.zeros(()), torch.full((4, 2), torch.nan), torch.eye(2).repeat(2, 1))
    assert metrics.values()["loss"] != metrics.values()["loss"]


def test_one_validation_metric_object_per_task() -> None:
    assert isinstance(epoch_metrics(Multiclass(3)), RunningMean)
    assert isinstance(epoch_metrics(Multilabel(3)), MultilabelEpoch)


@pytest.mark.parametrize("metrics", [RunningMean(), MultilabelEpoch(Multilabel(3))])
def test_values_of_nothing_are_an_error(metrics: RunningMean | MultilabelEpoch) -> None:
    with pytest.raises(RuntimeError, match="of no"):
        metrics.compute()


def test_soft_targets_count_by_their_largest_share() -> None:
    logits, targets = made_up(500)
    rows = F.one_hot(targets, CLASSES) * 0.6 + 0.4 / CLASSES
    mean, hard = RunningMean(Multiclass(CLASSES)), RunningMean()
    mean.update(torch.ones(()), logits, rows)
    hard.update(torch.ones(()), logits, targets)
    assert mean.compute() == hard.compute()

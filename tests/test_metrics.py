"""The metrics against scikit-learn and against a calibration error written from its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

import resweep.metrics
from resweep.metrics import ClassifierMetrics, RunningMean

CLASSES = 8


def made_up(count: int = 500, never_true: tuple[int, ...] = (), never_predicted: tuple[int, ...] = ()) -> tuple:
    """Random logits (N, K) that know a little about the random targets (N,)."""
    generator = torch.Generator().manual_seed(count + len(never_true))
    allowed = torch.tensor([k for k in range(CLASSES) if k not in never_true])
    targets = allowed[torch.randint(0, len(allowed), (count,), generator=generator)]
    logits = torch.randn(count, CLASSES, generator=generator) * 2
    logits[torch.arange(count), targets] += 2
    logits[:, list(never_predicted)] -= 20
    return logits, targets


def calibration_error(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Guo et al. 2017, equation 3: bins ((m - 1) / M, m / M], mean gap of accuracy and confidence, weighted."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    error = 0.0
    for index in range(bins):
        inside = (confidence > index / bins) & (confidence <= (index + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def measured(logits: Tensor, targets: Tensor, *sizes: int) -> tuple[dict[str, float], Tensor]:
    metrics = ClassifierMetrics(logits.shape[1])
    parts = zip(logits.split(sizes or len(logits)), targets.split(sizes or len(targets)), strict=True)
    for part in parts:
        metrics.update(*part)
    return metrics.compute()


@pytest.mark.parametrize(
    ("never_true", "never_predicted"), [((), ()), ((3,), ()), ((), (0, 5)), ((3,), (3,)), ((1, 3), (3, 4))]
)
def test_all_values_agree_with_scikit_learn(never_true: tuple[int, ...], never_predicted: tuple[int, ...]) -> None:
    logits, targets = made_up(never_true=never_true, never_predicted=never_predicted)
    predicted = logits.argmax(1)
    assert not set(predicted.tolist()) & set(never_predicted) and not set(targets.tolist()) & set(never_true)
    values, confusion = measured(logits, targets)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(targets, predicted, average="macro", zero_division=0)
    probabilities = logits.double().softmax(1).numpy()
    expected = {
        "loss": sk.log_loss(targets, probabilities, labels=range(CLASSES)),
        "accuracy": sk.accuracy_score(targets, predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "top5": sk.top_k_accuracy_score(targets, probabilities, k=5, labels=range(CLASSES)),
        "ece": calibration_error(logits.softmax(1).numpy(), targets.numpy()),
    }
    assert values == pytest.approx(expected, abs=2e-6)
    assert confusion.tolist() == sk.confusion_matrix(targets, predicted, labels=range(CLASSES)).tolist()


def test_five_classes_have_no_top5() -> None:
    logits, targets = made_up()
    values, _ = measured(logits[:, :5], targets % 5)
    assert set(values) == {"loss", "accuracy", "precision", "recall", "f1", "ece"}
    values, _ = measured(logits[:, :6], targets % 6)
    assert "top5" in values


def test_two_classes() -> None:
    logits, targets = made_up()
    logits, targets = logits[:, :2], targets % 2
    values, confusion = measured(logits, targets)
    expected = sk.precision_recall_fscore_support(targets, logits.argmax(1), average="macro")
    assert [values[name] for name in ("precision", "recall", "f1")] == pytest.approx(list(expected[:3]), abs=1e-6)
    assert confusion.tolist() == sk.confusion_matrix(targets, logits.argmax(1)).tolist()


def test_certain_predictions_share_the_last_bin() -> None:
    """Softmax gives exactly 1 for a net that is sure; such images belong into ((M - 1) / M, 1] with the others."""
    logits = torch.zeros(100, 4)
    logits[:60, 0] = 50.0  # confidence exactly 1
    logits[60:, 0] = 4.5  # about 0.968
    targets = torch.zeros(100, dtype=torch.int64)
    targets[:10] = 1  # the certain ones are less often right than they say, the others more often
    probabilities = logits.softmax(1)
    assert probabilities[:60].max() == 1.0 and 14 / 15 < probabilities[60:].max() < 1
    values, _ = measured(logits, targets)
    assert values["ece"] == pytest.approx(calibration_error(probabilities.numpy(), targets.numpy()), abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 64, 10_000])
def test_many_updates_equal_one(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = made_up()
    whole, whole_confusion = measured(logits, targets)
    monkeypatch.setattr(resweep.metrics, "CHUNK", chunk)
    values, confusion = measured(logits, targets, 1, 99, 100, 300)
    assert values == pytest.approx(whole, abs=1e-6)
    assert torch.equal(confusion, whole_confusion)


def test_reset_forgets_everything() -> None:
    logits, targets = made_up()
    metrics = ClassifierMetrics(CLASSES)
    metrics.update(-logits, targets)
    metrics.compute()
    metrics.update(-logits, targets)
    metrics.reset()
    metrics.update(logits, targets)
    values, confusion = metrics.compute()
    expected, expected_confusion = measured(logits, targets)
    assert values == expected and torch.equal(confusion, expected_confusion)


def test_values_of_nothing_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="no images"):
        ClassifierMetrics(3).compute()
    with pytest.raises(RuntimeError, match="no batches"):
        RunningMean().compute()


def test_the_running_mean_weighs_batches_by_their_images() -> None:
    logits, targets = made_up()
    mean = RunningMean()
    for _ in range(2):  # the second pass shows that reset forgets the first
        mean.reset()
        for part, labels in zip(logits.split([7, 193, 300]), targets.split([7, 193, 300]), strict=True):
            mean.update(torch.nn.functional.cross_entropy(part, labels), part, labels)
    probabilities = logits.double().softmax(1)
    loss, accuracy = mean.compute()
    assert loss == pytest.approx(sk.log_loss(targets, probabilities, labels=range(CLASSES)), rel=1e-6)
    assert accuracy == sk.accuracy_score(targets, logits.argmax(1))

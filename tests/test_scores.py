"""The metrics of the test against scikit-learn, also where classes are missing, and against the definitions."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

import resweep.scores
from resweep.scores import MulticlassTest, MultilabelTest, TestResult, full_metrics
from resweep.tasks import Multiclass, Multilabel

CLASSES = 8
MISSING = [((), ()), ((3,), ()), ((), (0, 5)), ((3,), (3,)), ((1, 3), (3, 4))]


def made_up(count: int = 500, never_true: tuple[int, ...] = (), never_predicted: tuple[int, ...] = ()) -> tuple:
    """Random logits (N, K) that know a little about the random targets (N,)."""
    generator = torch.Generator().manual_seed(count + len(never_true))
    allowed = torch.tensor([k for k in range(CLASSES) if k not in never_true])
    targets = allowed[torch.randint(0, len(allowed), (count,), generator=generator)]
    logits = torch.randn(count, CLASSES, generator=generator) * 2
    logits[torch.arange(count), targets] += 2
    logits[:, list(never_predicted)] -= 20
    return logits, targets


def made_up_labels(never_true: tuple[int, ...] = (), never_predicted: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Random logits (N, K) and labels (N, K) that depend on them."""
    generator = torch.Generator().manual_seed(len(never_true))
    logits = torch.randn(400, CLASSES, generator=generator) * 2
    targets = (torch.rand(400, CLASSES, generator=generator) < (logits - 1).sigmoid()).float()
    targets[:, list(never_true)] = 0
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


def measured(metrics: MulticlassTest | MultilabelTest, logits: Tensor, targets: Tensor, *sizes: int) -> TestResult:
    parts = zip(logits.split(sizes or len(logits)), targets.split(sizes or len(targets)), strict=True)
    for part in parts:
        metrics.update(*part)
    return metrics.compute()


def of_classes(logits: Tensor, targets: Tensor, *sizes: int) -> TestResult:
    return measured(MulticlassTest(logits.shape[1]), logits, targets, *sizes)


def areas(targets: np.ndarray, scores: np.ndarray) -> tuple[list[float], list[float]]:
    """Area under the curve and average precision per column by scikit-learn; nan where it is not defined."""
    both = [0 < column.sum() < len(column) for column in targets.T]
    auroc = [
        sk.roc_auc_score(column, score) if ok else math.nan
        for ok, column, score in zip(both, targets.T, scores.T, strict=True)
    ]
    precision = [
        sk.average_precision_score(column, score) if column.any() else math.nan
        for column, score in zip(targets.T, scores.T, strict=True)
    ]
    return auroc, precision


@pytest.mark.parametrize(("never_true", "never_predicted"), MISSING)
def test_classes_agree_with_scikit_learn(never_true: tuple[int, ...], never_predicted: tuple[int, ...]) -> None:
    logits, targets = made_up(never_true=never_true, never_predicted=never_predicted)
    predicted = logits.argmax(1)
    assert not set(predicted.tolist()) & set(never_predicted) and not set(targets.tolist()) & set(never_true)
    result = of_classes(logits, targets)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(targets, predicted, average="macro", zero_division=0)
    probabilities = logits.double().softmax(1).numpy()
    rows = np.eye(CLASSES)[targets]
    expected = {
        "loss": sk.log_loss(targets, probabilities, labels=range(CLASSES)),
        "accuracy": sk.accuracy_score(targets, predicted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "top5": sk.top_k_accuracy_score(targets, probabilities, k=5, labels=range(CLASSES)),
        "ece": calibration_error(logits.softmax(1).numpy(), targets.numpy()),
        "auroc": np.nanmean(areas(rows, probabilities)[0]),
        "brier": ((probabilities - rows) ** 2).sum(1).mean(),
    }
    assert result.scores == pytest.approx(expected, abs=2e-6)
    assert result.confusion.tolist() == sk.confusion_matrix(targets, predicted, labels=range(CLASSES)).tolist()


@pytest.mark.parametrize(("never_true", "never_predicted"), MISSING)
def test_the_table_of_classes(never_true: tuple[int, ...], never_predicted: tuple[int, ...]) -> None:
    logits, targets = made_up(never_true=never_true, never_predicted=never_predicted)
    result = of_classes(logits, targets)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        targets, logits.argmax(1), labels=range(CLASSES), zero_division=0
    )
    nothing = [k in never_true and k in never_predicted for k in range(CLASSES)]
    auroc, average_precision = areas(np.eye(CLASSES)[targets], logits.softmax(1).numpy())
    expected = {
        "support": support,
        **{
            name: np.where(nothing, np.nan, values)
            for name, values in (("precision", precision), ("recall", recall), ("f1", f1))
        },
        "auroc": auroc,
        "average_precision": average_precision,
    }
    assert list(result.classes) == list(expected)
    for name, values in expected.items():
        assert result.classes[name] == pytest.approx(list(values), abs=1e-9, nan_ok=True), name
    for name in ("precision", "recall", "f1", "auroc"):  # macro: the mean of what is defined
        assert result.scores[name] == pytest.approx(np.nanmean(result.classes[name]), abs=1e-6)


def test_five_classes_have_no_top5() -> None:
    logits, targets = made_up()
    scores = of_classes(logits[:, :5], targets % 5).scores
    assert set(scores) == {"loss", "accuracy", "precision", "recall", "f1", "ece", "auroc", "brier"}
    assert "top5" in of_classes(logits[:, :6], targets % 6).scores


def test_two_classes() -> None:
    logits, targets = made_up()
    logits, targets = logits[:, :2], targets % 2
    result = of_classes(logits, targets)
    scores = result.scores
    expected = sk.precision_recall_fscore_support(targets, logits.argmax(1), average="macro")
    assert [scores[name] for name in ("precision", "recall", "f1")] == pytest.approx(list(expected[:3]), abs=1e-6)
    assert result.confusion.tolist() == sk.confusion_matrix(targets, logits.argmax(1)).tolist()
    probability = logits.double().softmax(1)[:, 1]
    assert scores["brier"] == pytest.approx(2 * sk.brier_score_loss(targets, probability), abs=1e-6)
    assert scores["auroc"] == pytest.approx(sk.roc_auc_score(targets, probability), abs=1e-6)


def test_one_class_alone_has_no_area() -> None:
    scores = of_classes(made_up()[0], torch.zeros(500, dtype=torch.int64)).scores
    assert math.isnan(scores.pop("auroc")) and all(map(math.isfinite, scores.values()))


def test_certain_predictions_share_the_last_bin() -> None:
    """Softmax gives exactly 1 for a net that is sure; such images belong into ((M - 1) / M, 1] with the others."""
    logits = torch.zeros(100, 4)
    logits[:60, 0] = 50.0  # confidence exactly 1
    logits[60:, 0] = 4.5  # about 0.968
    targets = torch.zeros(100, dtype=torch.int64)
    targets[:10] = 1  # the certain ones are less often right than they say, the others more often
    probabilities = logits.softmax(1)
    assert probabilities[:60].max() == 1.0 and 14 / 15 < probabilities[60:].max() < 1
    scores = of_classes(logits, targets).scores
    assert scores["ece"] == pytest.approx(calibration_error(probabilities.numpy(), targets.numpy()), abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 64, 10_000])
def test_many_updates_equal_one(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = made_up()
    whole = of_classes(logits, targets)
    monkeypatch.setattr(resweep.scores, "CHUNK", chunk)
    monkeypatch.setattr(resweep.scores, "BLOCK", 3)
    result = of_classes(logits, targets, 1, 99, 100, 300)
    assert result.scores == pytest.approx(whole.scores, abs=1e-6)
    assert torch.equal(result.confusion, whole.confusion) and result.classes == whole.classes


def test_areas_of_too_many_probabilities_are_left_out_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = made_up()
    whole = of_classes(logits, targets)
    monkeypatch.setattr(resweep.scores, "CHUNK", 200)
    monkeypatch.setattr(resweep.scores, "RANKED", 399 * CLASSES)  # the first 200 images fit, 400 do not
    with pytest.warns(UserWarning, match="500 images of 8 classes"):
        result = of_classes(logits, targets, 200, 200, 100)
    assert math.isnan(result.scores.pop("auroc"))
    whole.scores.pop("auroc")
    assert result.scores == pytest.approx(whole.scores, abs=1e-6)
    assert np.isnan([result.classes["auroc"], result.classes["average_precision"]]).all()


@pytest.mark.parametrize("thresholds", [0.5, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]])
@pytest.mark.parametrize(("never_true", "never_predicted"), MISSING)
def test_labels_agree_with_scikit_learn(never_true: tuple, never_predicted: tuple, thresholds: Any) -> None:
    logits, targets = made_up_labels(never_true, never_predicted)
    result = measured(MultilabelTest(Multilabel(CLASSES, thresholds)), logits, targets, 150, 250)
    there, given = targets.numpy(), (logits.sigmoid() >= torch.tensor(thresholds)).numpy()
    judged = [k for k in range(CLASSES) if there[:, k].any() or given[:, k].any()]
    macro = sk.precision_recall_fscore_support(there, given, average="macro", labels=judged, zero_division=0)
    auroc, average_precision = areas(there, logits.double().numpy())
    probabilities = logits.double().sigmoid().numpy()
    expected = {
        "loss": np.mean([sk.log_loss(there[:, k], probabilities[:, k], labels=[0, 1]) for k in range(CLASSES)]),
        "accuracy": 1 - sk.hamming_loss(there, given),
        "exact_match": sk.accuracy_score(there, given),
        "map": np.nanmean(average_precision),
        "f1_micro": sk.f1_score(there, given, average="micro"),
        "f1_macro": macro[2],
        "precision": macro[0],
        "recall": macro[1],
        "auroc": np.nanmean(auroc),
        "brier": ((probabilities - there) ** 2).mean(),
    }
    assert list(result.scores) == list(expected)
    assert result.scores == pytest.approx(expected, abs=1e-6)
    counts = sk.multilabel_confusion_matrix(there, given)
    table = result.classes
    found = np.array([[table["tn"], table["fp"]], [table["fn"], table["tp"]]]).transpose(2, 0, 1)
    assert found.tolist() == counts.tolist() and result.confusion is None
    assert table["support"] == there.sum(0).tolist()
    assert table["auroc"] == pytest.approx(auroc, nan_ok=True, abs=1e-9)
    assert table["average_precision"] == pytest.approx(average_precision, nan_ok=True, abs=1e-9)
    assert [math.isnan(value) for value in table["f1"]] == [k not in judged for k in range(CLASSES)]


def test_thresholds_are_shown_as_they_were_given() -> None:
    logits, targets = made_up_labels()
    given = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert measured(MultilabelTest(Multilabel(CLASSES, given)), logits, targets).classes["threshold"] == given


def test_thresholds_of_any_float_type_are_shown() -> None:
    logits, targets = made_up_labels()
    task = Multilabel(CLASSES, 0.25)
    for dtype in (torch.bfloat16, torch.float64):
        task.thresholds = task.thresholds.to(dtype)
        assert measured(MultilabelTest(task), logits, targets).classes["threshold"] == [0.25] * CLASSES


def test_labels_of_which_none_occurs_have_nothing_but_losses() -> None:
    logits, targets = torch.full((10, 2), -5.0), torch.zeros(10, 2)
    scores = measured(MultilabelTest(Multilabel(2)), logits, targets).scores
    undefined = {name for name, value in scores.items() if math.isnan(value)}
    assert undefined == {"map", "f1_micro", "f1_macro", "precision", "recall", "auroc"}
    assert scores["accuracy"] == scores["exact_match"] == 1.0


def test_very_large_logits_keep_their_order() -> None:
    """Sigmoid gives 1 for all of them; the ranking must not make them equal."""
    logits = torch.tensor([[40.0], [30.0], [20.0], [-5.0]])
    scores = measured(MultilabelTest(Multilabel(1)), logits, torch.tensor([[1.0], [1.0], [0.0], [0.0]])).scores
    assert scores["map"] == scores["auroc"] == 1.0


@pytest.mark.parametrize("task", [Multiclass(CLASSES), Multilabel(CLASSES)])
def test_reset_forgets_everything(task: Multiclass | Multilabel) -> None:
    logits, targets = made_up() if isinstance(task, Multiclass) else made_up_labels()
    metrics = full_metrics(task)
    measured(metrics, -logits, targets)
    metrics.update(-logits, targets)
    metrics.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = measured(metrics, logits, targets)
    expected = measured(full_metrics(task), logits, targets)
    assert again.scores == expected.scores and again.classes == expected.classes


@pytest.mark.parametrize("task", [Multiclass(3), Multilabel(3)])
def test_values_of_nothing_are_an_error(task: Multiclass | Multilabel) -> None:
    with pytest.raises(RuntimeError, match="no images"):
        full_metrics(task).compute()

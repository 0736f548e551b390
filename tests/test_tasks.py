"""The two tasks: what is a hit, which loss is reported, what thresholds may be."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn import metrics as sk
from torch import nn
from torch.nn import functional as F

from resweep.ranking import best_thresholds
from resweep.tasks import Multiclass, Multilabel, task_for

LOGITS = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0], [-2.0, -3.0, -1.0]])


def test_a_class_is_hit_by_the_largest_logit() -> None:
    task = Multiclass(3)
    assert task.hits(LOGITS, torch.tensor([0, 2, 2])).tolist() == [True, False, True]
    mixed = torch.tensor([[0.75, 0.25, 0.0], [0.25, 0.0, 0.75], [0.0, 0.25, 0.75]])
    assert task.hits(LOGITS, mixed).tolist() == [True, False, True]


def test_the_loss_of_classes_is_the_cross_entropy_also_of_mixed_rows() -> None:
    task, targets = Multiclass(3), torch.tensor([0, 2, 2])
    expected = sk.log_loss(targets, LOGITS.double().softmax(1), labels=range(3))
    assert task.loss(LOGITS, targets).item() == pytest.approx(expected, rel=1e-6)
    assert task.loss(LOGITS, task.one_hot(targets)).item() == pytest.approx(expected, rel=1e-6)
    assert task.loss(LOGITS.bfloat16(), targets).dtype == torch.float32
    other = torch.tensor([1, 1, 0])
    mixed = 0.25 * task.one_hot(targets) + 0.75 * task.one_hot(other)
    parts = 0.25 * task.loss(LOGITS, targets) + 0.75 * task.loss(LOGITS, other)
    torch.testing.assert_close(task.loss(LOGITS, mixed), parts)


def test_one_hot_rows_and_probabilities_of_classes() -> None:
    task = Multiclass(3)
    rows = task.one_hot(torch.tensor([2, 0]))
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0]] and rows.dtype == torch.float32
    assert task.one_hot(rows) is rows
    assert task.probabilities(LOGITS).sum(1).tolist() == pytest.approx([1, 1, 1])


def test_a_label_is_given_from_its_threshold_on() -> None:
    quarter = math.log(0.25 / 0.75)  # its sigmoid is 0.25
    logits = torch.tensor([[quarter, quarter, 0.0], [0.0, quarter, -9.0]], dtype=torch.float64).float()
    task = Multilabel(3, [0.2, 0.3, 0.5])
    assert task.decisions(logits).tolist() == [[True, False, True], [True, False, False]]
    targets = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert task.hits(logits, targets).tolist() == pytest.approx([1 / 3, 1.0])
    assert Multilabel(3, 0.2).decisions(logits)[0].tolist() == [True, True, True]


def test_the_loss_of_labels_is_the_mean_binary_cross_entropy() -> None:
    targets = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    task = Multilabel(3)
    probabilities = LOGITS.double().sigmoid()
    parts = [sk.log_loss(targets[:, k], probabilities[:, k], labels=[0, 1]) for k in range(3)]
    assert task.loss(LOGITS, targets).item() == pytest.approx(sum(parts) / 3, rel=1e-6)
    torch.testing.assert_close(task.probabilities(LOGITS), LOGITS.sigmoid())
    assert task.one_hot(targets) is targets


def test_chosen_thresholds_travel_with_the_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 4, generator=generator)
    targets = (torch.rand(200, 4, generator=generator) < logits.sigmoid()).float()
    task = Multilabel(4, "validation")
    assert task.chooses and not Multilabel(4).chooses
    assert task.thresholds.tolist() == [0.5] * 4
    task.choose(logits, targets)
    assert torch.equal(task.thresholds, best_thresholds(logits.sigmoid(), targets))
    assert task.thresholds.unique().numel() == 4
    copy = Multilabel(4, "validation")
    copy.load_state_dict(task.state_dict())
    assert torch.equal(copy.thresholds, task.thresholds)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_thresholds_keep_their_bits_when_the_net_changes_its_type(dtype: torch.dtype) -> None:
    whole = nn.ModuleDict({"task": Multilabel(3, [0.1, 0.3, 0.7]), "net": nn.Linear(2, 3)}).to(dtype)
    thresholds = whole["task"].thresholds
    assert thresholds.dtype == torch.float32 and whole["net"].weight.dtype == dtype
    assert torch.equal(thresholds, torch.tensor([0.1, 0.3, 0.7])) and "task.thresholds" in whole.state_dict()
    assert whole.to("meta")["task"].thresholds.is_meta


@pytest.mark.parametrize(
    "value", [0, 1, 0.0, 1.0, -0.5, True, "test", None, math.nan, [0.5, 0.5, 1.0], [0.5, "0.5", 0]]
)
def test_thresholds_out_of_range_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^thresholds=.*above 0 and below 1"):
        Multilabel(3, value)


def test_thresholds_of_another_number_than_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^thresholds=\[0.5, 0.5\]: has 2 numbers, but there are 3 labels"):
        Multilabel(3, [0.5, 0.5])


def test_the_labels_of_the_data_decide_the_task() -> None:
    classes = task_for(torch.tensor([0, 1, 2]), 3)
    assert isinstance(classes, Multiclass) and classes.name == "multiclass" and classes.further_metrics == ()
    labels = task_for(torch.zeros(5, 3), 3, [0.1, 0.2, 0.3])
    assert isinstance(labels, Multilabel) and labels.name == "multilabel"
    assert labels.thresholds.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert labels.further_metrics == ("map", "f1")
    with pytest.raises(ValueError, match=r"thresholds=validation: .* one class per image"):
        task_for(torch.tensor([0, 1, 2]), 3, "validation")
    with pytest.raises(ValueError, match=r"\(5, 2\).* 3 names"):
        task_for(torch.zeros(5, 2), 3)


def test_gradients_reach_the_logits_through_both_losses() -> None:
    for task, targets in ((Multiclass(3), torch.tensor([0, 1, 2])), (Multilabel(3), F.one_hot(torch.arange(3)))):
        logits = LOGITS.clone().requires_grad_()
        task.loss(logits, targets).backward()
        sign = torch.sign(logits.grad)
        assert torch.equal(sign, 1 - 2 * torch.eye(3)), task.name  # up for what is true, down for the rest

"""The losses against torch, timm and the written formula; what a task refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from resweep.errors import RequestError
from resweep.losses import BinaryCrossEntropy, Focal, check_loss
from resweep.tasks import Multiclass, Multilabel

CONF = Path(__file__).parents[1] / "conf" / "loss"
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 4, generator=GENERATOR) * 3
CLASSES = torch.tensor([0, 1, 2, 3, 1, 0])
LABELS = torch.randint(0, 2, (6, 4), generator=GENERATOR).float()
MIXED = 0.3 * F.one_hot(CLASSES, 4) + 0.7 * F.one_hot(CLASSES.flip(0), 4)


def by_definition(logits: Tensor, targets: Tensor, weight: float | Tensor = 1.0) -> Tensor:
    p = logits.double().sigmoid()
    return -(weight * targets * p.log() + (1 - targets) * (1 - p).log()).mean().float()


@pytest.mark.parametrize("targets", [LABELS, MIXED])
def test_binary_cross_entropy_of_rows(targets: Tensor) -> None:
    torch.testing.assert_close(BinaryCrossEntropy()(LOGITS, targets), by_definition(LOGITS, targets))
    torch.testing.assert_close(BinaryCrossEntropy()(LOGITS, targets), nn.BCEWithLogitsLoss()(LOGITS, targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_of_classes_is_that_of_timm(smoothing: float) -> None:
    timm = pytest.importorskip("timm.loss")
    expected = timm.BinaryCrossEntropy(smoothing=smoothing)(LOGITS, CLASSES)
    torch.testing.assert_close(BinaryCrossEntropy(smoothing)(LOGITS, CLASSES), expected)
    torch.testing.assert_close(BinaryCrossEntropy(smoothing)(LOGITS, F.one_hot(CLASSES, 4).float()), expected)


def test_a_threshold_makes_both_mixed_classes_fully_present() -> None:
    timm = pytest.importorskip("timm.loss")
    expected = timm.BinaryCrossEntropy(smoothing=0.0, target_threshold=0.2)(LOGITS, MIXED)
    found = BinaryCrossEntropy(target_threshold=0.2)(LOGITS, MIXED)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, by_definition(LOGITS, (MIXED > 0.2).double()))
    smoothed = BinaryCrossEntropy(label_smoothing=0.1, target_threshold=0.2)(LOGITS, MIXED)
    torch.testing.assert_close(smoothed, by_definition(LOGITS, (MIXED > 0.2).double() * 0.9 + 0.1 / 4))


def test_labels_are_smoothed_towards_one_half() -> None:
    found = BinaryCrossEntropy(label_smoothing=0.1, multilabel=True)(LOGITS, LABELS)
    torch.testing.assert_close(found, by_definition(LOGITS, LABELS * 0.9 + 0.05))


def test_smoothing_keeps_the_sum_of_mixed_rows() -> None:
    """Of shares that sum to one: the mixture with the uniform distribution does, too."""
    found = BinaryCrossEntropy(label_smoothing=0.1)(LOGITS, MIXED)
    rows = MIXED * 0.9 + 0.1 / 4
    assert rows.sum(1).tolist() == pytest.approx([1] * 6)
    torch.testing.assert_close(found, by_definition(LOGITS, rows))


@pytest.mark.parametrize("weight", [3.0, [0.5, 1.0, 2.0, 4.0], torch.tensor([0.5, 1.0, 2.0, 4.0])])
def test_present_labels_can_weigh_more(weight: Any) -> None:
    loss = BinaryCrossEntropy(pos_weight=weight)
    torch.testing.assert_close(loss(LOGITS, LABELS), by_definition(LOGITS, LABELS, torch.as_tensor(weight)))
    assert loss.state_dict() == {}, "checkpoints stay readable when the weights change"


@pytest.mark.parametrize("targets", [LABELS, MIXED, CLASSES])
def test_focal_loss_is_its_formula(targets: Tensor) -> None:
    rows = F.one_hot(targets, 4).double() if targets.dim() == 1 else targets.double()
    p = LOGITS.double().sigmoid()
    right = p * rows + (1 - p) * (1 - rows)
    balance = 0.3 * rows + 0.7 * (1 - rows)
    entropy = -(rows * p.log() + (1 - rows) * (1 - p).log())
    expected = (balance * (1 - right) ** 1.5 * entropy).mean().float()
    torch.testing.assert_close(Focal(alpha=0.3, gamma=1.5)(LOGITS, targets), expected)


def test_focal_loss_without_focus_is_half_the_binary_cross_entropy() -> None:
    torch.testing.assert_close(Focal(0.5, 0.0)(LOGITS, LABELS), BinaryCrossEntropy()(LOGITS, LABELS) / 2)


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(0.1, target_threshold=0.2), Focal()])
def test_half_precision_logits_have_finite_losses_and_gradients(loss: nn.Module) -> None:
    logits = torch.tensor([[90.0, -90.0]], dtype=torch.bfloat16, requires_grad=True)
    value = loss(logits, torch.tensor([1]))
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), BinaryCrossEntropy(0.1, pos_weight=[0.3] * 4), Focal()])
def test_targets_are_not_rounded_to_the_type_of_the_logits(loss: nn.Module, dtype: torch.dtype) -> None:
    logits = LOGITS.to(dtype)
    assert not torch.equal(MIXED.to(dtype).float(), MIXED)
    found = loss(logits, MIXED)
    assert found.dtype == torch.float32 and found == loss(logits.float(), MIXED)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(loss(logits, MIXED), found, rtol=1e-6, atol=0)


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(0.1, pos_weight=[3.0] * 4), Focal()])
def test_double_precision_stays(loss: nn.Module) -> None:
    found = loss(LOGITS.double(), MIXED.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), loss(LOGITS, MIXED))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BinaryCrossEntropy(label_smoothing=1.0), "label_smoothing=1.0: must be at least 0 and below 1"),
        (lambda: BinaryCrossEntropy(target_threshold=-0.1), "target_threshold=-0.1"),
        (lambda: BinaryCrossEntropy(pos_weight=0), "pos_weight=0: must be a number above 0"),
        (lambda: BinaryCrossEntropy(pos_weight=[1.0, math.inf]), "pos_weight="),
        (lambda: BinaryCrossEntropy(pos_weight="3"), "pos_weight=3"),
        (lambda: BinaryCrossEntropy(pos_weight=[1.0, 2.0])(LOGITS, LABELS), "has 2 numbers, but there are 4 labels"),
        (lambda: Focal(alpha=1.5), "alpha=1.5"),
        (lambda: Focal(gamma=-1), "gamma=-1"),
    ],
)
def test_wrong_arguments_are_named(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("mixes", [False, True])
@pytest.mark.parametrize("task", [Multiclass(4), Multilabel(4)])
def test_a_fitting_loss_passes(task: Multiclass | Multilabel, mixes: bool) -> None:
    losses = [BinaryCrossEntropy(0.1, pos_weight=[1.0] * 4), Focal()]
    losses += [nn.CrossEntropyLoss(weight=torch.ones(4))] if task.name == "multiclass" else [nn.BCEWithLogitsLoss()]
    for loss in losses:
        check_loss(loss, task, mixes=mixes)


@pytest.mark.parametrize(
    ("loss", "task", "mixes", "words"),
    [
        (nn.CrossEntropyLoss(), Multilabel(4), False, "several labels per image; set loss=bce"),
        (nn.MultiMarginLoss(), Multilabel(4), False, "set loss=bce"),
        (nn.BCEWithLogitsLoss(), Multiclass(4), False, "loss=cross_entropy does"),
        (nn.MultiMarginLoss(), Multiclass(4), True, "does not take the mixed targets"),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), Multiclass(4), False, "weight tensor should be defined"),
        (BinaryCrossEntropy(pos_weight=[1.0, 2.0]), Multilabel(4), False, r"pos_weight.*2 numbers, .* 4 labels$"),
        (nn.CrossEntropyLoss(reduction="none"), Multiclass(4), False, r"one number per batch, got \(2,\)"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(loss: nn.Module, task: Any, mixes: bool, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        check_loss(loss, task, mixes=mixes)
    assert [problem.key for problem in caught.value.problems] == ["loss"]


@pytest.mark.parametrize(("name", "kind"), [("bce", BinaryCrossEntropy), ("focal", Focal)])
def test_the_files_have_the_arguments_and_their_defaults(name: str, kind: type) -> None:
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert values.pop("_target_") == f"resweep.losses.{kind.__name__}"
    made, default = kind(**values), kind()
    assert made(LOGITS, MIXED) == default(LOGITS, MIXED)
    assert {key: getattr(made, key) for key in values} == {key: getattr(default, key) for key in values}

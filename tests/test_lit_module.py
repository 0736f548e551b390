"""LitClassifier: the gradient that reaches the optimizer, where randomness comes from, who is exempt from decay."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from resweep.build import build_data, build_lit_module, build_net
from resweep.lit_module import LitClassifier
from resweep.losses import BinaryCrossEntropy
from resweep.optim.regularizer import Regularizer
from resweep.tasks import Multiclass, Multilabel

Batch = tuple[Tensor, Tensor]
L1 = 0.03


class Spy(torch.optim.SGD):
    """Keeps the gradients it is given."""

    def __init__(self, groups: Any, seen: list[list[Tensor]]) -> None:
        super().__init__(groups, lr=0.1)
        self.seen = seen

    def step(self, closure: Callable) -> Any:
        loss = closure()
        self.seen.append([p.grad.clone() for group in self.param_groups for p in group["params"]])
        super().step()
        return loss


def batches(count: int, size: int = 6) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 1, 4, 4, generator=generator), torch.randint(0, 3, (size,), generator=generator))
        for _ in range(count)
    ]


def small_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1)


def lit(net: nn.Module, optimizer: Callable = sgd, l1: float = 0.0, **settings: Any) -> Any:
    values = {"task": Multiclass(3), "seed": 0, "regularizer": Regularizer(l1=l1), **settings}
    return LitClassifier(net, nn.CrossEntropyLoss(), optimizer, lambda optimizer: [], **values)


def fit(
    module: LitClassifier,
    data: list[Batch],
    folder: Path,
    epochs: int = 1,
    validated: list[Batch] | None = None,
    **settings: Any,
) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=folder, **settings,
    )  # fmt: skip
    trainer.fit(module, Loader(data), Loader(batches(1) if validated is None else validated))
    return trainer


class Loader:
    """Batches as they are; not torch's loader, so that nothing is drawn from the global generator."""

    def __init__(self, data: list[Batch]) -> None:
        self.data = data

    def __iter__(self) -> Any:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


def penalized_gradient(data: list[Batch], l1: float) -> list[Tensor]:
    """The gradient of the mean loss plus l1 times the sum of absolute weights, by autograd."""
    net = small_net().train()
    loss = sum(F.cross_entropy(net(images), targets) for images, targets in data) / len(data)
    penalty = sum(p.abs().sum() for p in net.parameters() if p.dim() > 1)
    return list(torch.autograd.grad(loss + l1 * penalty, list(net.parameters())))


def first_gradient(folder: Path, data: list[Batch], l1: float, **settings: Any) -> list[Tensor]:
    seen: list[list[Tensor]] = []
    fit(lit(small_net(), lambda net: Spy(net.parameters(), seen), l1=l1), data, folder, **settings)
    assert len(seen) == 1
    return seen[0]


@pytest.mark.parametrize("l1", [0.0, L1])
@pytest.mark.parametrize("accumulated", [1, 3])
def test_the_optimizer_sees_the_gradient_of_loss_and_penalty(tmp_path: Path, l1: float, accumulated: int) -> None:
    data = batches(accumulated)
    found = first_gradient(tmp_path, data, l1, accumulate_grad_batches=accumulated)
    torch.testing.assert_close(found, penalized_gradient(data, l1), rtol=1e-5, atol=1e-7)
    if l1:  # the penalty is large enough to be seen, and biases and norms do not have it
        plain = penalized_gradient(data, 0.0)
        moved = [not torch.allclose(one, other, atol=1e-4) for one, other in zip(found, plain, strict=True)]
        assert moved == [p.dim() > 1 for p in small_net().parameters()]


def test_clipping_acts_on_loss_and_penalty_together(tmp_path: Path) -> None:
    data, limit = batches(1), 0.1
    found = first_gradient(tmp_path, data, L1, gradient_clip_val=limit)
    whole = penalized_gradient(data, L1)
    norm = torch.sqrt(sum(grad.square().sum() for grad in whole))
    assert norm > 2 * limit
    torch.testing.assert_close(found, [grad * limit / norm for grad in whole], rtol=1e-4, atol=1e-7)


def test_a_weight_that_took_no_part_has_no_penalty(tmp_path: Path) -> None:
    net = small_net()
    net[0].spare = nn.Linear(2, 2)
    fit(lit(net, l1=L1), batches(1), tmp_path)
    assert net[0].spare.weight.grad is None


def test_reported_losses_leave_the_penalty_out(tmp_path: Path) -> None:
    module = lit(small_net(), l1=100.0)
    data = batches(1)
    expected = F.cross_entropy(small_net().train()(data[0][0]), data[0][1]).item()
    fit(module, data, tmp_path)
    assert module.train_mean.compute()[0] == pytest.approx(expected, rel=1e-6)


class Dropped(nn.Module):
    """Records the dropout mask of every step; may draw further numbers, as other nets would."""

    def __init__(self, further: int = 0) -> None:
        super().__init__()
        self.classifier = nn.Linear(16, 3)
        self.further = further
        self.masks: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        mask = F.dropout(torch.ones(64), 0.5)
        if self.training:
            self.masks.append(mask)
        torch.rand(self.further)
        return self.classifier(images.flatten(1))


def masks(folder: Path, seed: int = 0, steps: int = 3, epochs: int = 2, further: int = 0) -> Tensor:
    net = Dropped(further)
    torch.manual_seed(further)
    fit(lit(net, seed=seed), batches(steps), folder, epochs)
    return torch.stack(net.masks).view(epochs, steps, 64)


def test_dropout_depends_on_seed_epoch_and_step_only(tmp_path: Path) -> None:
    drawn = masks(tmp_path)
    assert torch.equal(drawn, masks(tmp_path, further=5)), "numbers drawn before must not matter"
    assert torch.equal(drawn[:, :2], masks(tmp_path, steps=2)), "nor how many steps an epoch has"
    assert torch.equal(drawn[:1], masks(tmp_path, epochs=1))
    other = masks(tmp_path, seed=1)
    every = torch.cat([drawn, other]).view(-1, 64).tolist()
    assert len({tuple(mask) for mask in every}) == 12, "each seed, epoch and step has a mask of its own"


@pytest.mark.parametrize(
    ("no_decay", "exempt"),
    [
        ("[]", lambda name, p: False),
        ("[bias]", lambda name, p: name.endswith("bias")),
        ("[bias,norm]", lambda name, p: p.dim() == 1),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_exemption_from_weight_decay_reaches_the_optimizer(no_decay: str, exempt: Callable, optimizer: str) -> None:
    config = frozen(f"optimizer={optimizer}", "optimizer.weight_decay=0.25", f"optimizer.no_decay={no_decay}")
    data = build_data(config)
    net = build_net(config, data)
    (made,), _ = build_lit_module(config, net, data).configure_optimizers()
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert len(decay) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        assert decay[id(parameter)] == (0.0 if exempt(name, parameter) else 0.25), name


def test_steps_of_the_schedule_count_updates_not_batches() -> None:
    """80 training images in batches of 20: with 3 batches accumulated, an epoch has 2 updates (3 batches, 1 batch)."""
    changes = ["trainer.accumulate_grad_batches=3", "trainer.max_epochs=5", "scheduler=cosine"]
    config = frozen(*changes)
    data = build_data(config)
    (optimizer,), (schedule,) = build_lit_module(config, build_net(config, data), data).configure_optimizers()
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"] / config["optimizer"]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert rates == pytest.approx([(1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)])


def test_validation_and_test_report_the_plain_cross_entropy() -> None:
    module = lit(small_net().eval())
    module.loss = nn.CrossEntropyLoss(label_smoothing=0.5)
    (images, targets), *_ = batches(1)
    with torch.no_grad():
        module.validation_step((images, targets), 0)
        module.test_step((images, targets), 0)
        expected = F.cross_entropy(module(images), targets).item()
    module.on_test_epoch_end()
    assert module.val_metrics.compute()[0] == pytest.approx(expected, rel=1e-6)
    assert module.test_result.scores["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
@pytest.mark.parametrize("thresholds", [0.3, "validation"])
def test_labels_are_judged_by_their_thresholds_whatever_the_precision(
    tmp_path: Path, precision: str, thresholds: float | str
) -> None:
    module = lit(small_net(), task=Multilabel(3, thresholds))
    module.loss = BinaryCrossEntropy(multilabel=True)
    data = [(images, F.one_hot(targets, 3).float()) for images, targets in batches(3)]
    trainer = fit(module, data, tmp_path, validated=data, precision=precision)
    trainer.test(module, Loader(data), verbose=False)
    assert module.net[4].weight.dtype == (torch.bfloat16 if precision == "bf16-true" else torch.float64)
    kept = module.task.thresholds
    assert kept.dtype == torch.float32
    shown = module.test_result.classes["threshold"]
    assert torch.equal(torch.tensor(shown), kept)
    if thresholds == 0.3:
        assert shown == [0.3] * 3
    assert 0 < module.val_scores["val/map"] <= 1


def by_hand(data: list[Batch], step: Callable[[nn.Module, Batch], None]) -> nn.Module:
    net = small_net().train()
    for batch in data:
        step(net, batch)
    return net


def gradient(net: nn.Module, batch: Batch) -> None:
    net.zero_grad()
    F.cross_entropy(net(batch[0]), batch[1]).backward()


def test_sharpness_aware_steps_are_those_of_another_library(tmp_path: Path) -> None:
    from pytorch_optimizer import SAM

    data = batches(5)
    module = lit(small_net(), regularizer=Regularizer(sam_rho=0.1))
    fit(module, data, tmp_path)
    net = small_net().train()
    other = SAM(net.parameters(), torch.optim.SGD, rho=0.1, lr=0.1)
    first, losses = [], []
    for images, targets in data:
        loss = F.cross_entropy(net(images), targets)
        losses.append(loss.item())
        loss.backward()
        first.append({name: value.clone() for name, value in net.named_buffers()})
        other.first_step(zero_grad=True)
        F.cross_entropy(net(images), targets).backward()
        other.second_step(zero_grad=True)
        net.load_state_dict(first[-1], strict=False)  # running statistics without the second evaluation
    torch.testing.assert_close(dict(module.net.named_parameters()), dict(net.named_parameters()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dict(module.net.named_buffers()), first[-1], rtol=1e-5, atol=1e-6)
    assert module.train_mean.count == 30 and module.train_mean.compute()[0] == pytest.approx(sum(losses) / 5, rel=1e-5)


def test_an_optimizer_that_evaluates_often_meets_one_function(tmp_path: Path) -> None:
    module = lit(Dropped(), lambda net: torch.optim.LBFGS(net.parameters(), max_iter=4))
    fit(module, batches(2), tmp_path)
    drawn = torch.stack(module.net.masks)
    assert len(drawn) > 4 and len(drawn.unique(dim=0)) == 2, "one mask per batch, however often it is evaluated"
    assert module.train_mean.count == 12


def test_weights_stay_within_the_limit_after_each_step(tmp_path: Path) -> None:
    module = lit(small_net(), regularizer=Regularizer(max_norm=0.3))
    fit(module, batches(3), tmp_path)
    for weight in (module.net[0].weight, module.net[4].weight):
        norms = weight.detach().flatten(1).norm(dim=1)
        assert norms.max() <= 0.3 * (1 + 1e-6) and weight.abs().sum() > 0


@pytest.mark.parametrize("steps", [2, 9])  # of Lookahead: in the training and after its end
def test_lookaheads_slow_weights_stay_within_the_limit(tmp_path: Path, steps: int) -> None:
    net = small_net()
    net[4].weight.data.mul_(10)
    module = lit(net, regularizer=Regularizer(max_norm=0.3), lookahead_steps=steps)
    fit(module, batches(3), tmp_path)
    with module.lookahead.slow_weights(module.trained):
        for weight in (module.net[0].weight, module.net[4].weight):
            assert weight.detach().flatten(1).norm(dim=1).max() <= 0.3 * (1 + 1e-6)


def test_the_initial_weights_are_left_alone_without_lookahead() -> None:
    before = small_net().state_dict()
    after = lit(small_net(), regularizer=Regularizer(max_norm=0.1)).net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_validation_judges_the_average_of_the_weights(tmp_path: Path) -> None:
    data = batches(4)
    module = lit(small_net(), ema_decay=0.9)
    fit(module, data, tmp_path)
    average: dict[str, Tensor] = {}

    def step(net: nn.Module, batch: Batch) -> None:
        gradient(net, batch)
        sgd(net).step()
        count = len(average.setdefault("steps", torch.zeros(0)))
        average["steps"] = torch.zeros(count + 1)
        decay = min(0.9, (1 + count) / (10 + count)) if count else 0.0
        for name, value in net.named_parameters():
            average[name] = decay * average.get(name, torch.zeros(())) + (1 - decay) * value.detach()

    net = by_hand(data, step)
    torch.testing.assert_close(dict(module.net.named_parameters()), dict(net.named_parameters()), rtol=1e-5, atol=1e-6)
    kept = {name: average[name] for name, _ in net.named_parameters()}
    found = {name: value.detach() for name, value in module.average.module.named_parameters()}
    torch.testing.assert_close(found, kept, rtol=1e-5, atol=1e-6)
    (images, targets), *_ = batches(1)
    expected = F.cross_entropy(module.average.module.eval()(images), targets).item()
    assert module.val_scores["val/loss"] == pytest.approx(expected, rel=1e-6)


def test_validation_judges_lookaheads_slow_weights(tmp_path: Path) -> None:
    data = batches(5)
    module = lit(small_net(), lookahead_steps=3, lookahead_alpha=0.5)
    fit(module, data, tmp_path)
    slow = [p.detach().clone() for p in small_net().parameters()]
    counted = []

    def step(net: nn.Module, batch: Batch) -> None:
        gradient(net, batch)
        sgd(net).step()
        counted.append(batch)
        if len(counted) == 3:
            for index, p in enumerate(net.parameters()):
                slow[index] = slow[index] + 0.5 * (p.detach() - slow[index])
                p.data.copy_(slow[index])

    net = by_hand(data, step)
    torch.testing.assert_close(list(module.net.parameters()), list(net.parameters()), rtol=1e-5, atol=1e-6)
    for parameter, value in zip(net.parameters(), slow, strict=True):
        parameter.data.copy_(value)
    (images, targets), *_ = batches(1)
    expected = F.cross_entropy(net.eval()(images), targets).item()
    assert module.val_scores["val/loss"] == pytest.approx(expected, rel=1e-5)

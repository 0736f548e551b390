"""LitClassifier: the gradient that reaches the optimizer, where randomness comes from, who is exempt from decay."""

from __future__ import annotations

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
from resweep.optim.schedules import constant

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


def lit(net: nn.Module, optimizer: Callable = lambda groups: torch.optim.SGD(groups, lr=0.1), **settings: Any) -> Any:
    values = {"num_classes": 3, "total_steps": 9, "steps_per_epoch": 3, "seed": 0, **settings}
    return LitClassifier(net, nn.CrossEntropyLoss(), optimizer, constant, **values)


def fit(module: LitClassifier, data: list[Batch], folder: Path, epochs: int = 1, **settings: Any) -> None:
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=folder, **settings,
    )  # fmt: skip
    trainer.fit(module, Loader(data), Loader(batches(1)))


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
    fit(lit(small_net(), lambda groups: Spy(groups, seen), l1=l1), data, folder, **settings)
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
    made = build_lit_module(config, net, data).configure_optimizers()["optimizer"]
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert len(decay) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        assert decay[id(parameter)] == (0.0 if exempt(name, parameter) else 0.25), name


def test_steps_of_the_schedule_count_updates_not_batches() -> None:
    """80 training images in batches of 20: with 3 batches accumulated, an epoch has 2 updates (3 batches, 1 batch)."""
    changes = ["trainer.accumulate_grad_batches=3", "trainer.max_epochs=5", "scheduler=cosine"]
    config = frozen(*changes)
    data = build_data(config)
    module = build_lit_module(config, build_net(config, data), data)
    assert (module.steps_per_epoch, module.total_steps) == (2, 10)


def test_validation_and_test_report_the_plain_cross_entropy() -> None:
    module = lit(small_net().eval())
    module.loss = nn.CrossEntropyLoss(label_smoothing=0.5)
    (images, targets), *_ = batches(1)
    with torch.no_grad():
        module.validation_step((images, targets), 0)
        module.test_step((images, targets), 0)
        expected = F.cross_entropy(module(images), targets).item()
    module.on_test_epoch_end()
    assert module.val_mean.compute()[0] == pytest.approx(expected, rel=1e-6)
    assert module.test_result[0]["loss"] == pytest.approx(expected, rel=1e-6)

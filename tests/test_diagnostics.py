"""What the diagnostics write, against the same steps done by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.nn import functional as F

from resweep.diagnostics import MOST, Diagnostics, layer_groups, learning_rates

Batch = tuple[Tensor, Tensor]
LR, DECAY = 0.1, 0.8


class Kept(DummyLogger):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.entries.append((step, metrics))


class Lit(pl.LightningModule):
    """A net with an optimizer and a schedule whose learning rate decays after every step."""

    def __init__(self, net: nn.Module, optimizer: Callable = lambda p: torch.optim.SGD(p, lr=LR)) -> None:
        super().__init__()
        self.net = net
        self.make = optimizer

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = self.make(self.net.parameters())
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, DECAY)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def small_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def batches(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(6, 5, generator=generator), torch.randint(0, 3, (6,), generator=generator)) for _ in range(count)
    ]


def fit(module: Lit, data: list[Batch], folder: Path, every: int, **settings: Any) -> list[tuple[int, dict]]:
    logger = Kept()
    ckpt_path = settings.pop("ckpt_path", None)
    settings = {"max_epochs": 1, **settings}
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=logger, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, log_every_n_steps=0, callbacks=[Diagnostics(every)],
        **settings,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None), ckpt_path=ckpt_path)
    module.trainer = trainer
    return [(step, values) for step, values in logger.entries if "grad_norm/total" in values]


def norm(tensors: Any) -> float:
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


def by_hand(data: list[Batch], accumulated: int = 1, clip: float | None = None) -> list[tuple[int, dict[str, float]]]:
    """Gradient descent with a learning rate that decays after every step, written out."""
    net, lr, entries = small_net(), LR, []
    layers = {"00_0": list(net[0].parameters()), "01_2": list(net[2].parameters())}
    for start in range(0, len(data), accumulated):
        part = data[start : start + accumulated]
        loss = sum(F.cross_entropy(net(images), targets) for images, targets in part) / accumulated
        grads = dict(zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True))
        total = norm(grads.values())
        values = {"grad_norm/total": total, "lr/00_net": lr}
        factor = lr * (1.0 if clip is None else min(1.0, clip / total))
        for name, parameters in layers.items():
            size = norm([grads[p] for p in parameters])
            values |= {f"grad_norm/{name}": size, f"update_ratio/{name}": factor * size / norm(parameters)}
        with torch.no_grad():
            for parameter, grad in grads.items():
                parameter -= factor * grad
        lr *= DECAY
        entries.append((len(entries) + 1, values))
    return entries


def assert_same(found: list, expected: list) -> None:
    assert [step for step, _ in found] == [step for step, _ in expected]
    for (_, values), (_, wanted) in zip(found, expected, strict=True):
        assert values == pytest.approx(wanted, rel=1e-4)


def test_every_step_agrees_with_a_computation_by_hand(tmp_path: Path) -> None:
    data = batches(4)
    assert_same(fit(Lit(small_net()), data, tmp_path, every=1), by_hand(data))


def test_only_every_so_many_steps_are_written(tmp_path: Path) -> None:
    data = batches(7)
    assert_same(fit(Lit(small_net()), data, tmp_path, every=3), by_hand(data)[2::3])


def test_steps_are_counted_over_epochs(tmp_path: Path) -> None:
    data = batches(3)
    found = fit(Lit(small_net()), data, tmp_path, every=2, max_epochs=2)
    assert_same(found, by_hand(data * 2)[1::2])


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    data = batches(6)
    found = fit(Lit(small_net()), data, tmp_path, every=1, accumulate_grad_batches=3)
    assert_same(found, by_hand(data, accumulated=3))


def test_the_gradient_is_that_before_clipping_and_the_update_that_after(tmp_path: Path) -> None:
    data, limit = batches(2), 0.05
    expected = by_hand(data, clip=limit)
    assert expected[0][1]["grad_norm/total"] > 2 * limit
    assert_same(fit(Lit(small_net()), data, tmp_path, every=1, gradient_clip_val=limit), expected)


class Twice(torch.optim.SGD):
    """Computes the gradient at a place further on and steps with that, as sharpness-aware minimization does."""

    @torch.no_grad()
    def step(self, closure: Callable) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"]]
        with torch.enable_grad():
            closure()
        ahead = [p.grad.clone() for p in parameters]
        torch._foreach_add_(parameters, ahead, alpha=0.5)
        with torch.enable_grad():
            loss = closure()
        torch._foreach_sub_(parameters, ahead, alpha=0.5)
        super().step()
        return loss


@pytest.mark.parametrize(
    "make", [lambda p: Twice(p, lr=LR), lambda p: torch.optim.LBFGS(p, lr=LR, max_iter=4, history_size=3)]
)
def test_of_several_gradients_in_a_step_the_first_counts(tmp_path: Path, make: Callable) -> None:
    data, net = batches(2), small_net()
    found = fit(Lit(net, make), data, tmp_path, every=1)
    assert [step for step, _ in found] == [1, 2]
    start = small_net()
    grads = torch.autograd.grad(F.cross_entropy(start(data[0][0]), data[0][1]), list(start.parameters()))
    assert found[0][1]["grad_norm/total"] == pytest.approx(norm(grads), rel=1e-5)
    once = small_net()
    fit(Lit(once, make), data[:1], tmp_path, every=1)
    for values, before, after in ((found[0][1], start, once), (found[1][1], once, net)):
        for name, index in (("00_0", 0), ("01_2", 2)):
            pairs = zip(before[index].parameters(), after[index].parameters(), strict=True)
            ratio = norm([b - a for a, b in pairs]) / norm(before[index].parameters())
            assert values[f"update_ratio/{name}"] == pytest.approx(ratio, rel=1e-4)


def test_a_continued_run_writes_what_is_missing(tmp_path: Path) -> None:
    data = batches(4)
    module = Lit(small_net())
    first = fit(module, data, tmp_path, every=3, max_epochs=1)
    module.trainer.save_checkpoint(tmp_path / "last.ckpt")
    second = fit(Lit(small_net()), data, tmp_path, every=3, max_epochs=3, ckpt_path=tmp_path / "last.ckpt")
    assert_same(first + second, by_hand(data * 3)[2::3])


def test_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    nets = [small_net(), small_net()]
    for net, every in zip(nets, (1, 1000), strict=True):
        fit(Lit(net), batches(5), tmp_path, every)
    assert all(torch.equal(*pair) for pair in zip(*(net.parameters() for net in nets), strict=True))


def test_weights_that_are_zero_have_no_ratio_and_unused_ones_no_gradient(tmp_path: Path) -> None:
    net = small_net()
    net.append(nn.Linear(3, 3))
    for parameter in net[3].parameters():
        nn.init.zeros_(parameter)
    net[1].spare = nn.Linear(2, 2)
    ((_, values),) = fit(Lit(net), batches(1), tmp_path, every=1)
    assert {name for name in values if name.startswith("grad_norm")} == {
        "grad_norm/total", "grad_norm/00_0", "grad_norm/02_2", "grad_norm/03_3",
    }  # fmt: skip
    assert {name: value for name, value in values.items() if name.startswith("update_ratio")} == {
        "update_ratio/00_0": 0.0, "update_ratio/01_1.spare": 0.0, "update_ratio/02_2": 0.0,
    }  # fmt: skip


def test_nobody_to_write_to_is_an_error(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[Diagnostics(5)],
    )  # fmt: skip
    with pytest.raises(ValueError, match="diagnostics_every=5: there is no logger"):
        trainer.fit(Lit(small_net()), torch.utils.data.DataLoader(batches(1), batch_size=None))
    with pytest.raises(ValueError, match="diagnostics_every=0: must be at least 1"):
        Diagnostics(0)


class Grouped(nn.Module):
    """Says what its layers are; they are not its children."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.stages = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 4)])
        self.classifier = nn.Linear(4, 2)

    def layer_groups(self) -> list[nn.Module]:
        return [nn.ModuleList([self.conv, self.norm]), *self.stages, self.classifier]


def test_groups_are_the_layers_that_a_net_names() -> None:
    net = Grouped()
    groups = layer_groups(net)
    assert [(name, len(parameters)) for name, parameters in groups] == [
        ("00_conv", 4), ("01_stages.0", 4), ("02_stages.1", 2), ("03_classifier", 2),
    ]  # fmt: skip
    net.conv.requires_grad_(False)
    net.stages[1].requires_grad_(False)
    assert [(name, len(parameters)) for name, parameters in layer_groups(net)] == [
        ("00_norm", 2), ("01_stages.0", 4), ("02_classifier", 2),
    ]  # fmt: skip


def test_parameters_outside_all_layers_are_a_group_too() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net.scale = nn.Parameter(torch.ones(3))
    net[1].weight = net[0].weight  # shared: counted once
    assert [(name, len(parameters)) for name, parameters in layer_groups(net)] == [
        ("00_0", 2), ("01_1", 1), ("02_scale", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [MOST - 1, MOST, MOST + 1, 60, 110])
def test_many_layers_become_at_most_25_groups_of_neighbours(count: int) -> None:
    net = nn.Sequential(*[nn.Linear(1, 1) for _ in range(count)])
    groups = layer_groups(net)
    assert len(groups) == min(count, MOST)
    assert [id(p) for _, group in groups for p in group] == [id(p) for p in net.parameters()]
    sizes = [len(group) for _, group in groups]
    assert max(sizes) - min(sizes) <= 2


def test_every_parameter_group_has_its_learning_rate() -> None:
    net = small_net()
    groups = [{"params": list(net[0].parameters()), "lr": 0.25}, {"params": list(net[2].parameters())}]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    assert learning_rates(optimizer, net) == {"lr/00_0": 0.25, "lr/01_2": 0.5}
    split = [{"params": [net[0].weight, net[2].weight]}, {"params": [net[0].bias, net[2].bias], "lr": 0.125}]
    assert learning_rates(torch.optim.SGD(split, lr=0.5), net) == {"lr/00_net": 0.5, "lr/01_net": 0.125}


def test_of_many_learning_rates_some_are_shown_the_first_and_the_last_among_them() -> None:
    net = nn.Sequential(*[nn.Linear(1, 1) for _ in range(60)])
    groups = [{"params": list(layer.parameters()), "lr": index / 100} for index, layer in enumerate(net)]
    found = learning_rates(torch.optim.SGD(groups, lr=1.0), net)
    assert len(found) == MOST
    assert found["lr/00_0"] == 0.0 and found["lr/59_59"] == 0.59

"""Schedules of any origin: made with the keywords they take, stepped by Lightning when they should be."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.types import LRSchedulerConfig
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from resweep.optim.schedules import cosine, make_scheduler, plateau, scheduler_configs, step_plateaus


def make() -> Optimizer:
    return SGD([nn.Parameter(torch.zeros(1))], lr=1.0)


def test_a_schedule_of_this_package_is_told_both_lengths() -> None:
    made = make_scheduler(partial(cosine, min_factor=0.5), make(), 4, 2)
    for _ in range(4):
        made.optimizer.step()
        made.step()
    assert made.get_last_lr() == [0.5]


def test_a_schedule_of_torch_that_takes_no_length_gets_none() -> None:
    made = make_scheduler(partial(partial(StepLR, step_size=3), gamma=0.5), make(), 100, 10)
    assert type(made) is StepLR and (made.step_size, made.gamma) == (3, 0.5)


def test_a_schedule_of_torch_that_takes_the_length_gets_it() -> None:
    made = make_scheduler(partial(OneCycleLR, max_lr=1.0, cycle_momentum=False), make(), 100, 10)
    assert made.total_steps == 100


def test_a_length_that_is_bound_stays() -> None:
    made = make_scheduler(partial(OneCycleLR, max_lr=1.0, total_steps=7, cycle_momentum=False), make(), 100, 10)
    assert made.total_steps == 7


def test_functions_and_classes_of_the_users_own() -> None:
    told: dict[str, Any] = {}

    def one(optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
        told["one"] = steps_per_epoch
        return LambdaLR(optimizer, lambda t: 0.5)

    def anything(optimizer: Optimizer, **settings: Any) -> LRScheduler:
        told["anything"] = settings
        return LambdaLR(optimizer, lambda t: 0.5)

    class Own(LambdaLR):
        def __init__(self, optimizer: Optimizer, total_steps: int) -> None:
            super().__init__(optimizer, lambda t: t / total_steps)

    for factory in (one, partial(anything, a=1), Own, lambda optimizer: StepLR(optimizer, 1)):
        assert isinstance(make_scheduler(factory, make(), 100, 10), LRScheduler)
    assert told == {"one": 10, "anything": {"a": 1, "total_steps": 100, "steps_per_epoch": 10}}


def test_what_is_no_schedule_is_refused() -> None:
    def broken(optimizer: Optimizer, made: Any) -> Any:
        return made

    for made in (None, {"a": 1}, [], [StepLR(make(), 1), None]):
        with pytest.raises(ValueError, match=r"broken returned .*: must be an LRScheduler of torch, or a list of them"):
            make_scheduler(partial(broken, made=made), make(), 4, 2)


def test_intervals_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="interval=epochs: must be one of step, epoch; did you mean epoch"):
        make_scheduler(cosine, make(), 4, 2, interval="epochs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"interval=epoch: cosine counts optimizer steps; set scheduler.interval"):
        make_scheduler(partial(cosine, min_factor=0.5), make(), 4, 2, interval="epoch")
    with pytest.raises(ValueError, match="interval=batch: must be one of step, epoch"):
        scheduler_configs(StepLR(make(), 1), "batch", "val/loss")  # type: ignore[arg-type]


def test_the_form_that_lightning_wants() -> None:
    foreign = StepLR(make(), 1)
    assert scheduler_configs(foreign, "epoch", "val/loss") == [{"scheduler": foreign, "interval": "epoch"}]
    both = plateau(make(), total_steps=10, steps_per_epoch=5, warmup=1)
    assert isinstance(both, list)
    first, second = scheduler_configs(both, "step", "val/loss")
    assert first == {"scheduler": both[0], "interval": "step"}
    assert (second["scheduler"], second["monitor"]) == (both[1], "val/loss")


def test_only_reductions_on_a_plateau_are_stepped_with_their_metric() -> None:
    plateau = functools.partial(ReduceLROnPlateau, mode="max")
    made = [StepLR(make(), 1), make_scheduler(plateau, make(), 100, 10)]
    configs = [LRSchedulerConfig(**config) for config in scheduler_configs(made, "step", "val/f1")]
    step_plateaus(configs, {"val/loss": 3.0, "val/f1": torch.tensor(0.5)})
    assert (made[0].last_epoch, made[1].last_epoch, made[1].best) == (0, 1, 0.5)
    with pytest.raises(ValueError, match=r"scheduler.monitor=val/f1: the validation has only val/loss, val/accuracy"):
        step_plateaus(configs, {"val/loss": 3.0, "val/accuracy": 0.5})


class Resumable:
    """Five batches; a pass goes on where the trainer's count says, as those of this package do."""

    def __init__(self, module: LightningModule) -> None:
        self.module = module

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[Tensor]:
        done = self.module.trainer.fit_loop.epoch_loop.batch_progress.current.completed
        yield from torch.ones(5, 1)[done % 5 :]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class Small(LightningModule):
    """Three optimizer steps an epoch; the monitored value never gets better."""

    def __init__(self, factory: Any, interval: Any = "step") -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.factory, self.interval = factory, interval
        self.rates: list[float] = []

    def train_dataloader(self) -> Resumable:
        return Resumable(self)

    def val_dataloader(self) -> list[Tensor]:
        return [torch.ones(1)]

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.net(batch).mean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        step_plateaus(self.trainer.lr_scheduler_configs, {"val/loss": torch.tensor(1.0)})

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=1.0)
        made = make_scheduler(self.factory, optimizer, 12, 3, self.interval)
        return [optimizer], scheduler_configs(made, self.interval, "val/loss")


class Stopped(BaseException):
    """The run ends here."""


class StopAt(Checkpoint):
    """Saves when an epoch ends, or before one of its batches, as the checkpoints of a run are saved; then stops."""

    def __init__(self, file: Path, epoch: int, batch: int) -> None:
        self.file, self.epoch, self.batch = file, epoch, batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            progress = trainer.fit_loop.epoch_loop.batch_progress
            progress.total.ready -= 1
            progress.current.ready -= 1
            self.stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (trainer.current_epoch, 5) == (self.epoch, self.batch):
            self.stop(trainer)

    def stop(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.file, weights_only=False)
        raise Stopped


def fit(module: Small, stop: StopAt | None = None, start: Path | None = None) -> list[float]:
    trainer = Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, accumulate_grad_batches=2, enable_checkpointing=stop is not None,
        callbacks=[] if stop is None else [stop],
    )  # fmt: skip
    with suppress(Stopped):
        trainer.fit(module, ckpt_path=start, weights_only=False)
    return module.rates


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_run_resumed_anywhere_makes_every_reduction_once(tmp_path: Path, warmup: float) -> None:
    factory = partial(plateau, patience=0, factor=0.5, warmup=warmup, warmup_start=0.25)
    whole = fit(Small(factory))
    first = [0.25, 0.5, 0.75] if warmup else [1.0] * 3
    assert whole == [*first, *[1.0] * 3, *[0.5] * 3, *[0.25] * 3]
    for epoch in (0, 1, 2):
        for batch in (0, 2, 4, 5):
            before = fit(Small(factory), StopAt(tmp_path / "last.ckpt", epoch, batch))
            assert before + fit(Small(factory), start=tmp_path / "last.ckpt") == whole, (epoch, batch)


@pytest.mark.parametrize(
    ("interval", "expected"), [("epoch", [1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5]), ("step", [1, 1, 0.5, 0.5, 0.25, 0.25])]
)
def test_a_schedule_of_torch_steps_when_it_is_told(interval: str, expected: list[float]) -> None:
    found = fit(Small(partial(StepLR, step_size=2, gamma=0.5), interval))
    assert found[: len(expected)] == expected

"""Learning rates of every step of ten-step trainings, written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from resweep.optim.schedules import constant, cosine, multistep, onecycle, to_steps, warmup_cosine

FILES = sorted((Path(__file__).parents[2] / "conf" / "scheduler").glob("*.yaml"))
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "momentum": lambda groups, lr: SGD(groups, lr=lr, momentum=0.9),
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}
R2, R3 = math.sqrt(2), math.sqrt(3)
C5 = (1 + math.sqrt(5)) / 4  # cos(36 degrees)
S5 = (math.sqrt(5) - 1) / 4  # cos(72 degrees)
C10, S10 = math.sqrt((5 + math.sqrt(5)) / 8), math.sqrt((5 - math.sqrt(5)) / 8)  # cos(18 degrees), cos(54 degrees)


def make(kind: str = "sgd", lr: float = 1.0) -> Optimizer:
    return OPTIMIZERS[kind]([nn.Parameter(torch.zeros(1))], lr=lr)


def step(optimizer: Optimizer, scheduler: LRScheduler) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scheduler.step()


def rates(optimizer: Optimizer, scheduler: LRScheduler, steps: int = 10, key: str = "lr") -> list[Any]:
    """The value of a group's key in each update."""
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0][key])
        step(optimizer, scheduler)
    return seen


def half_cosine(value: float) -> float:
    return (1 + value) / 2


TABLES = {
    "constant": (constant, {}, [1.0] * 10),
    "multistep, fractions": (multistep, {}, [1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]),
    "multistep, steps": (
        multistep,
        {"milestones": [2, 6], "gamma": 0.5, "unit": "steps"},
        [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25],
    ),
    "multistep, epochs": (
        multistep,
        {"milestones": [1, 1.5], "gamma": 0.5, "unit": "epochs"},
        [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25],
    ),
    "multistep, none": (multistep, {"milestones": []}, [1.0] * 10),
    "cosine": (
        cosine,
        {},
        [half_cosine(value) for value in (1, C10, C5, S10, S5, 0, -S5, -S10, -C5, -C10)],
    ),
    "cosine, min_factor": (
        cosine,
        {"min_factor": 0.2},
        [0.2 + 0.8 * half_cosine(value) for value in (1, C10, C5, S10, S5, 0, -S5, -S10, -C5, -C10)],
    ),
    "warmup_cosine, steps": (
        warmup_cosine,
        {"warmup": 4, "unit": "steps", "start_factor": 0.2},
        [0.2, 0.4, 0.6, 0.8, *[half_cosine(value) for value in (1, R3 / 2, 0.5, 0, -0.5, -R3 / 2)]],
    ),
    "warmup_cosine, fraction": (
        warmup_cosine,
        {"warmup": 0.4, "unit": "fraction", "start_factor": 0.0, "min_factor": 0.5},
        [0, 0.25, 0.5, 0.75, *[0.5 + half_cosine(value) / 2 for value in (1, R3 / 2, 0.5, 0, -0.5, -R3 / 2)]],
    ),
    "warmup_cosine, epochs": (
        warmup_cosine,
        {"warmup": 1, "unit": "epochs", "start_factor": 0.5},
        [0.5, 0.6, 0.7, 0.8, 0.9, *[half_cosine(value) for value in (1, C5, S5, -S5, -C5)]],
    ),
    "warmup_cosine, none": (
        warmup_cosine,
        {"warmup": 0},
        [half_cosine(value) for value in (1, C10, C5, S10, S5, 0, -S5, -S10, -C5, -C10)],
    ),
    # rise over steps 0 to 4 (pct_start * T - 1 = 4), fall over the five steps to the last
    "onecycle": (
        onecycle,
        {"pct_start": 0.5, "div_factor": 4.0, "final_div_factor": 10.0},
        [
            *[1 - 0.75 * half_cosine(value) for value in (1, R2 / 2, 0, -R2 / 2, -1)],
            *[0.025 + 0.975 * half_cosine(value) for value in (C5, S5, -S5, -C5, -1)],
        ],
    ),
}


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
@pytest.mark.parametrize(("schedule", "own", "expected"), list(TABLES.values()), ids=list(TABLES))
def test_learning_rate_of_each_of_ten_steps(
    schedule: Callable[..., LRScheduler], own: dict[str, Any], expected: list[float], kind: str
) -> None:
    optimizer = make(kind, lr=0.3)
    scheduler = schedule(optimizer, total_steps=10, steps_per_epoch=5, **own)
    assert rates(optimizer, scheduler) == pytest.approx([0.3 * factor for factor in expected], abs=1e-12)


def test_onecycle_defaults_are_those_of_torch() -> None:
    optimizer = make("adam", lr=0.3)
    seen = rates(optimizer, onecycle(optimizer, total_steps=10, steps_per_epoch=5))
    assert seen[0] == pytest.approx(0.3 / 25)
    assert seen[2] == pytest.approx(0.3)
    assert seen[9] == pytest.approx(0.3 / 25 / 1e4)


def test_cosine_equals_torch() -> None:
    ours, theirs = make(lr=0.3), make(lr=0.3)
    expected = rates(theirs, CosineAnnealingLR(theirs, T_max=37, eta_min=0.03), 37)
    assert rates(ours, cosine(ours, total_steps=37, steps_per_epoch=5, min_factor=0.1), 37) == pytest.approx(expected)


MOMENTA = [
    *[0.85 + 0.1 * half_cosine(value) for value in (1, R2 / 2, 0, -R2 / 2, -1)],
    *[0.95 - 0.1 * half_cosine(value) for value in (C5, S5, -S5, -C5, -1)],
]


def test_onecycle_moves_the_momentum_against_the_learning_rate() -> None:
    optimizer = make("momentum")
    scheduler = onecycle(optimizer, total_steps=10, steps_per_epoch=5, pct_start=0.5)
    assert rates(optimizer, scheduler, key="momentum") == pytest.approx(MOMENTA, abs=1e-12)


def test_onecycle_moves_beta1_of_adam_and_leaves_beta2() -> None:
    optimizer = make("adam")
    betas = rates(optimizer, onecycle(optimizer, total_steps=10, steps_per_epoch=5, pct_start=0.5), key="betas")
    assert [first for first, _ in betas] == pytest.approx(MOMENTA, abs=1e-12)
    assert {second for _, second in betas} == {0.999}


@pytest.mark.parametrize(
    ("kind", "cycle_momentum", "momentum"), [("sgd", True, 0), ("rmsprop", True, 0), ("momentum", False, 0.9)]
)
def test_onecycle_leaves_the_momentum_alone(kind: str, cycle_momentum: bool, momentum: float) -> None:
    optimizer = make(kind)
    scheduler = onecycle(optimizer, total_steps=10, steps_per_epoch=5, cycle_momentum=cycle_momentum)
    assert rates(optimizer, scheduler, key="momentum") == [momentum] * 10


@pytest.mark.parametrize(("schedule", "own", "expected"), list(TABLES.values()), ids=list(TABLES))
def test_every_group_follows_its_own_learning_rate(
    schedule: Callable[..., LRScheduler], own: dict[str, Any], expected: list[float]
) -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.3, 0.7)]
    optimizer = SGD(groups, lr=1.0)
    scheduler = schedule(optimizer, total_steps=10, steps_per_epoch=5, **own)
    for factor in expected:
        seen = [group["lr"] for group in optimizer.param_groups]
        assert seen == pytest.approx([0.3 * factor, 0.7 * factor], abs=1e-12)
        step(optimizer, scheduler)


@pytest.mark.parametrize("kind", ["momentum", "adam"])
@pytest.mark.parametrize(("schedule", "own", "expected"), list(TABLES.values()), ids=list(TABLES))
def test_a_restored_schedule_continues(
    schedule: Callable[..., LRScheduler], own: dict[str, Any], expected: list[float], kind: str, tmp_path: Path
) -> None:
    first = make(kind)
    scheduler = schedule(first, total_steps=10, steps_per_epoch=5, **own)
    rates(first, scheduler, 4)
    torch.save([first.state_dict(), scheduler.state_dict()], tmp_path / "state.pt")
    second = make(kind)
    continued = schedule(second, total_steps=10, steps_per_epoch=5, **own)
    optimizer_state, schedule_state = torch.load(tmp_path / "state.pt", weights_only=True)
    second.load_state_dict(optimizer_state)
    continued.load_state_dict(schedule_state)
    assert rates(second, continued, 6) == rates(first, scheduler, 6)
    assert first.param_groups[0]["lr"] == second.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("length", "unit", "steps"),
    [
        (0, "epochs", 0),
        (3, "epochs", 21),
        (0.5, "epochs", 4),
        (13, "steps", 13),
        (13.0, "steps", 13),
        (0.07, "fraction", 7),
        (0.29, "fraction", 29),
        (0.995, "fraction", 100),
        (0, "fraction", 0),
    ],
)
def test_to_steps(length: float, unit: str, steps: int) -> None:
    converted = to_steps(length, unit, total_steps=100, steps_per_epoch=7)
    assert converted == steps
    assert isinstance(converted, int)


@pytest.mark.parametrize(
    ("length", "unit", "pattern"),
    [
        (-1, "epochs", "length=-1: must be at least 0"),
        (-0.1, "fraction", "length=-0.1: must be at least 0"),
        (math.nan, "steps", "length=nan: must be at least 0"),
        (10, "epochs", r"length=10 epochs: must be shorter than the training \(100 steps, 10 epochs\)"),
        (100, "steps", r"length=100 steps: must be shorter than the training \(100 steps, 10 epochs\)"),
        (1.0, "fraction", r"length=1.0: must be shorter than the training \(100 steps, 10 epochs\)"),
        (1.5, "steps", "length=1.5: must be a whole number of steps"),
        (1, "epoch", "unit=epoch: must be one of epochs, steps, fraction; did you mean epochs"),
        (1, "xyz", "unit=xyz: must be one of epochs, steps, fraction$"),
    ],
)
def test_to_steps_refuses(length: float, unit: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        to_steps(length, unit, total_steps=100, steps_per_epoch=10)


@pytest.mark.parametrize(
    ("schedule", "own", "pattern"),
    [
        (warmup_cosine, {"warmup": 5}, r"warmup=5 epochs: must be shorter than the training \(10 steps, 2 epochs\)"),
        (warmup_cosine, {"warmup": 0.95, "unit": "fraction"}, "warmup=0.95: must be shorter than the training"),
        (warmup_cosine, {"warmup": 1, "start_factor": 1.5}, r"start_factor=1.5: must be in \[0, 1\]"),
        (warmup_cosine, {"warmup": 1, "min_factor": -0.5}, r"min_factor=-0.5: must be in \[0, 1\]"),
        (warmup_cosine, {"warmup": 1, "unit": "step"}, "unit=step: .* did you mean steps"),
        (cosine, {"min_factor": 2}, r"min_factor=2: must be in \[0, 1\]"),
        (multistep, {"milestones": [0.5, 1.5]}, "milestones=1.5: must be shorter than the training"),
        (multistep, {"gamma": 0}, "gamma=0: must be above 0"),
        (onecycle, {"pct_start": 0.1}, "pct_start=0.1: .* here the rise takes 1 steps"),
        (onecycle, {"pct_start": 0.0}, r"pct_start=0.0: must be in \(0, 1\)"),
        (onecycle, {"pct_start": 1.0}, r"pct_start=1.0: must be in \(0, 1\)"),
        (onecycle, {"div_factor": 0}, "div_factor=0: must be above 0"),
        (onecycle, {"final_div_factor": -1}, "final_div_factor=-1: must be above 0"),
        (onecycle, {"max_momentum": 1.0}, r"max_momentum=1.0: must be in \[0, 1\)"),
    ],
)
def test_bad_schedules_are_refused(schedule: Callable[..., LRScheduler], own: dict[str, Any], pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        schedule(make("momentum"), total_steps=10, steps_per_epoch=5, **own)


@pytest.mark.parametrize("total_steps", [1, 2, 3])
@pytest.mark.parametrize("schedule", [constant, multistep, cosine])
def test_very_short_trainings_start_at_the_full_rate(schedule: Callable[..., LRScheduler], total_steps: int) -> None:
    optimizer = make()
    seen = rates(optimizer, schedule(optimizer, total_steps=total_steps, steps_per_epoch=1), total_steps)
    assert seen[0] == 1.0


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_drives_every_optimizer(file: Path, kind: str) -> None:
    expected = {  # at the first step, at step 50 and at step 99 of 100
        "none": (1.0, 1.0, 1.0),
        "multistep": (1.0, 0.1, 0.01),
        "cosine": (1.0, 0.5, half_cosine(math.cos(0.99 * math.pi))),
        "warmup_cosine": (0.01, 1.0, half_cosine(math.cos(0.98 * math.pi))),
        "onecycle": (1 / 25, 4e-6 + (1 - 4e-6) * half_cosine(math.cos(math.pi * 21 / 70)), 4e-6),
    }
    optimizer = make(kind)
    scheduler = instantiate(OmegaConf.load(file))(optimizer, total_steps=100, steps_per_epoch=10)
    seen = rates(optimizer, scheduler, 100)
    assert (seen[0], seen[50], seen[99]) == pytest.approx(expected[file.stem])
    assert file.read_text().startswith("# ")

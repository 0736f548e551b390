"""Learning rates of every step of ten-step trainings, written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ten_steps import C5, C8, C10, OPTIMIZERS, R2, R3, S5, S8, S10, half_cosine, make, rates, update
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from resweep.optim.schedules import (
    constant,
    cosine,
    exponential,
    linear,
    multistep,
    onecycle,
    polynomial,
    sgdr,
    step,
    triangular,
    warmup_cosine,
    wsd,
)

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
    "constant, warm-up": (
        constant,
        {"warmup": 0.4, "warmup_unit": "fraction", "warmup_start": 0.2},
        [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1],
    ),
    "step, steps": (
        step,
        {"step_size": 4, "unit": "steps", "gamma": 0.5},
        [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25],
    ),
    "step, epochs": (
        step,
        {"step_size": 0.6, "unit": "epochs", "gamma": 0.1},
        [*[1] * 3, *[0.1] * 3, *[0.01] * 3, 0.001],
    ),
    "step, third": (step, {}, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]),  # from 3.3 and 6.7 on
    # the warm-up takes one epoch of five steps, the interval is 0.4 * 5 steps and begins behind it
    "step, warm-up": (
        step,
        {"step_size": 0.4, "gamma": 0.5, "warmup": 1, "warmup_start": 0.0},
        [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 0.5, 0.5, 0.25],
    ),
    # milestones count from the beginning: steps 5 and 8
    "multistep, warm-up": (
        multistep,
        {"milestones": [0.5, 0.8], "gamma": 0.1, "warmup": 2, "warmup_unit": "steps", "warmup_start": 0.5},
        [0.5, 0.75, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01],
    ),
    "exponential, whole": (exponential, {"gamma": 1e-10}, [10.0**-t for t in range(10)]),
    "exponential, epochs": (
        exponential,
        {"gamma": 2**-5, "period": 1, "unit": "epochs"},
        [2.0**-t for t in range(10)],
    ),
    "exponential, longer than the training": (
        exponential,
        {"gamma": 2**-20, "period": 4, "unit": "epochs"},
        [2.0**-t for t in range(10)],
    ),
    "polynomial": (polynomial, {}, [1, 0.81, 0.64, 0.49, 0.36, 0.25, 0.16, 0.09, 0.04, 0.01]),
    "polynomial, min_factor": (
        polynomial,
        {"power": 3, "min_factor": 0.5},
        [0.5 + (10 - t) ** 3 / 2000 for t in range(10)],
    ),
    "linear": (linear, {}, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
    "linear, warm-up": (
        linear,
        {"warmup": 1, "warmup_start": 0.0, "min_factor": 0.5},
        [0, 0.2, 0.4, 0.6, 0.8, 1, 0.9, 0.8, 0.7, 0.6],
    ),
    "cosine, warm-up": (
        cosine,
        {"warmup": 4, "warmup_unit": "steps", "warmup_start": 0.2},
        [0.2, 0.4, 0.6, 0.8, *[half_cosine(value) for value in (1, R3 / 2, 0.5, 0, -0.5, -R3 / 2)]],
    ),
    "warmup_cosine, names of today": (
        warmup_cosine,
        {"warmup": 4, "warmup_unit": "steps", "warmup_start": 0.2},
        [0.2, 0.4, 0.6, 0.8, *[half_cosine(value) for value in (1, R3 / 2, 0.5, 0, -0.5, -R3 / 2)]],
    ),
    # half cosines of 2, 4 and 8 steps
    "sgdr": (
        sgdr,
        {"T_0": 2, "unit": "steps", "T_mult": 2},
        [
            1,
            0.5,
            *[half_cosine(value) for value in (1, R2 / 2, 0, -R2 / 2)],
            *[half_cosine(value) for value in (1, C8, R2 / 2, S8)],
        ],
    ),
    "sgdr, equal": (
        sgdr,
        {"T_0": 0.4, "T_mult": 1, "min_factor": 0.2},
        [0.2 + 0.8 * half_cosine(value) for value in (1, R2 / 2, 0, -R2 / 2, 1, R2 / 2, 0, -R2 / 2, 1, R2 / 2)],
    ),
    "triangular": (
        triangular,
        {"step_size": 0.2, "min_factor": 0.5},
        [0.5, 0.75, 1, 0.75, 0.5, 0.75, 1, 0.75, 0.5, 0.75],
    ),
    "triangular2": (
        triangular,
        {"step_size": 2, "unit": "steps", "min_factor": 0.5, "mode": "triangular2"},
        [0.5, 0.75, 1, 0.75, 0.5, 0.625, 0.75, 0.625, 0.5, 0.5625],
    ),
    "exp_range": (
        triangular,
        {"step_size": 0.6, "unit": "epochs", "min_factor": 0.0, "mode": "exp_range", "gamma": 0.5},
        [height / 3 * 0.5**t for t, height in enumerate([0, 1, 2, 3, 2, 1, 0, 1, 2, 3])],
    ),
    "wsd, linear": (
        wsd,
        {"decay": 0.5, "shape": "linear", "warmup": 2, "warmup_unit": "steps", "warmup_start": 0.0},
        [0, 0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25],
    ),
    "wsd, sqrt": (
        wsd,
        {"decay": 4, "unit": "steps", "warmup": 0, "min_factor": 0.2},
        [1, 1, 1, 1, 1, 1, 1, 0.6, 1 - 0.8 * R2 / 2, 1 - 0.8 * R3 / 2],
    ),
    "wsd, cosine": (
        wsd,
        {"decay": 0.8, "unit": "epochs", "shape": "cosine", "warmup": 0},
        [1, 1, 1, 1, 1, 1, 1, *[half_cosine(value) for value in (R2 / 2, 0, -R2 / 2)]],
    ),
    "wsd, never": (wsd, {"decay": 0, "warmup": 0}, [1.0] * 10),
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
    if schedule is onecycle and kind == "adagrad":  # which has no momentum to move
        own = {**own, "cycle_momentum": False}
    scheduler = schedule(optimizer, total_steps=10, steps_per_epoch=5, **own)
    assert rates(optimizer, scheduler) == pytest.approx([0.3 * factor for factor in expected], abs=1e-12)


def test_cosine_equals_torch() -> None:
    ours, theirs = make(lr=0.3), make(lr=0.3)
    expected = rates(theirs, CosineAnnealingLR(theirs, T_max=37, eta_min=0.03), 37)
    assert rates(ours, cosine(ours, total_steps=37, steps_per_epoch=5, min_factor=0.1), 37) == pytest.approx(expected)


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
        update(optimizer, scheduler)


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
    ("schedule", "own", "pattern"),
    [
        (warmup_cosine, {"warmup": 5, "unit": "steps", "warmup_unit": "steps"}, "unit=steps: is the earlier name of"),
        (
            warmup_cosine,
            {"start_factor": 0, "warmup_start": 0.1},
            "start_factor=0: is the earlier name of warmup_start",
        ),
        (step, {"step_size": 0}, "step_size=0: must be above 0"),
        (step, {"step_size": 2, "unit": "epochs"}, "step_size=2 epochs: must be shorter than the training"),
        (step, {"gamma": -1}, "gamma=-1: must be above 0"),
        (step, {"unit": "epoch"}, "unit=epoch: .* did you mean epochs"),
        (multistep, {"milestones": ["a"]}, "milestones=a: must be a number"),
        (exponential, {"period": 0}, "period=0: must be above 0"),
        (exponential, {"period": -1}, "period=-1: must be above 0"),
        (exponential, {"gamma": 0}, "gamma=0: must be above 0"),
        (polynomial, {"power": 0}, "power=0: must be above 0"),
        (polynomial, {"min_factor": 1.1}, r"min_factor=1.1: must be in \[0, 1\]"),
        (linear, {"min_factor": "x"}, "min_factor=x: must be a number"),
        (
            sgdr,
            {"T_0": 3, "unit": "epochs"},
            r"T_0=3 epochs: must not be longer than the training \(10 steps, 2 epochs\)",
        ),
        (sgdr, {"T_0": 0}, "T_0=0: must be above 0"),
        (sgdr, {"T_mult": 0}, "T_mult=0: must be at least 1"),
        (sgdr, {"T_mult": 1.5}, "T_mult=1.5: must be a whole number"),
        (sgdr, {"min_factor": -1}, r"min_factor=-1: must be in \[0, 1\]"),
        (triangular, {"mode": "triangle"}, "mode=triangle: must be one of .* did you mean triangular"),
        (triangular, {"step_size": 0}, "step_size=0: must be above 0"),
        (triangular, {"step_size": 10, "unit": "steps"}, "step_size=10 steps: must be shorter than the training"),
        (triangular, {"gamma": 1.1}, r"gamma=1.1: must be in \[0, 1\]"),
        (triangular, {"min_factor": 2}, r"min_factor=2: must be in \[0, 1\]"),
        (wsd, {"shape": "root"}, "shape=root: must be one of linear, sqrt, cosine"),
        (wsd, {"decay": 1.1}, "decay=1.1: must not be longer than what the warm-up leaves"),
        (wsd, {"decay": -0.1}, "decay=-0.1: must be at least 0"),
        (warmup_cosine, {"warmup": 5}, r"warmup=5 epochs: must be shorter than the training \(10 steps, 2 epochs\)"),
        (warmup_cosine, {"warmup": 0.95, "unit": "fraction"}, "warmup=0.95: must be shorter than the training"),
        (warmup_cosine, {"warmup": 1, "start_factor": 1.5}, r"start_factor=1.5: must be in \[0, 1\]"),
        (warmup_cosine, {"warmup": 1, "min_factor": -0.5}, r"min_factor=-0.5: must be in \[0, 1\]"),
        (warmup_cosine, {"warmup": 1, "unit": "step"}, "unit=step: .* did you mean steps"),
        (cosine, {"min_factor": 2}, r"min_factor=2: must be in \[0, 1\]"),
        (multistep, {"milestones": [0.5, 1.5]}, "milestones=1.5: must be shorter than the training"),
        (multistep, {"gamma": 0}, "gamma=0: must be above 0"),
        (
            onecycle,
            {"warmup": 1},
            "warmup=1: must be 0, onecycle begins with a rise of its own; .* scheduler.pct_start",
        ),
        (triangular, {"warmup": 2}, "warmup=2: must be 0, triangular begins .* scheduler.step_size"),
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

"""The one-cycle policy: its defaults, and the momentum that it moves."""

from __future__ import annotations

import re

import pytest
import torch
from ten_steps import C5, R2, S5, half_cosine, make, rates
from torch import nn
from torch.optim import LBFGS, Adadelta, Adagrad, Optimizer

from resweep.optim.schedules import onecycle


def test_onecycle_defaults_are_those_of_torch() -> None:
    optimizer = make("adam", lr=0.3)
    seen = rates(optimizer, onecycle(optimizer, total_steps=10, steps_per_epoch=5))
    assert seen[0] == pytest.approx(0.3 / 25)
    assert seen[2] == pytest.approx(0.3)
    assert seen[9] == pytest.approx(0.3 / 25 / 1e4)


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


@pytest.mark.parametrize("kind", [Adagrad, Adadelta, LBFGS])
def test_onecycle_refuses_to_move_a_momentum_that_is_not_there(kind: type[Optimizer]) -> None:
    optimizer = kind([nn.Parameter(torch.zeros(1))], lr=1.0)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"cycle_momentum=true: .* has neither.*; set scheduler.cycle_momentum=false"):
        onecycle(optimizer, total_steps=10, steps_per_epoch=5)
    assert "momentum" not in optimizer.param_groups[0]
    scheduler = onecycle(optimizer, total_steps=10, steps_per_epoch=5, cycle_momentum=False)
    assert scheduler.get_last_lr() == [pytest.approx(1 / 25)]


@pytest.mark.parametrize(("total_steps", "rise", "length"), [(1, "0.3", "1 step"), (2, "0.6", "2 steps")])
def test_onecycle_in_a_training_that_is_too_short_says_what_to_do(total_steps: int, rise: str, length: str) -> None:
    message = (
        f"pct_start=0.3: must be in (0, 1) and more than one step; here the rise takes {rise} steps; the training has "
        f"{length}: raise trainer.max_epochs, lower data.batch_size, or choose another scheduler (scheduler=cosine)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        onecycle(make("momentum"), total_steps=total_steps, steps_per_epoch=1)

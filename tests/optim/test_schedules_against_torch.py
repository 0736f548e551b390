"""Every schedule over a whole training, two parameter groups, against torch's own; and the warm-up before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)

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
    wsd,
)

RATES = (0.3, 0.07)
TOTAL, EPOCH = 60, 10
Factory = Callable[..., LRScheduler]


def two_groups() -> Optimizer:
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in RATES], lr=1.0, momentum=0.9)


def follow(optimizer: Optimizer, scheduler: LRScheduler, steps: int = TOTAL) -> list[list[float]]:
    """The learning rates of every group in each update."""
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


def ours(schedule: Factory, total: int = TOTAL, **own: Any) -> list[list[float]]:
    optimizer = two_groups()
    return follow(optimizer, schedule(optimizer, total_steps=total, steps_per_epoch=EPOCH, **own), total)


def lowest(share: float) -> list[float]:
    return [lr * share for lr in RATES]


TORCH: dict[str, tuple[Factory, dict[str, Any], Factory]] = {
    "constant": (constant, {}, lambda o: ConstantLR(o, factor=1.0)),
    "step": (step, {"step_size": 2, "unit": "epochs", "gamma": 0.3}, lambda o: StepLR(o, 20, gamma=0.3)),
    "multistep": (
        multistep,
        {"milestones": [1.5, 4], "unit": "epochs"},
        lambda o: MultiStepLR(o, [15, 40]),
    ),
    "exponential": (
        exponential,
        {"period": 1, "unit": "steps", "gamma": 0.97},
        lambda o: ExponentialLR(o, gamma=0.97),
    ),
    "polynomial": (polynomial, {"power": 2.5}, lambda o: PolynomialLR(o, total_iters=TOTAL, power=2.5)),
    "linear": (
        linear,
        {"min_factor": 0.1},
        lambda o: LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=TOTAL),
    ),
    "cosine": (cosine, {}, lambda o: CosineAnnealingLR(o, T_max=TOTAL)),
    "sgdr": (sgdr, {"T_0": 7, "unit": "steps", "T_mult": 2}, lambda o: CosineAnnealingWarmRestarts(o, 7, T_mult=2)),
    "sgdr, equal": (sgdr, {"T_0": 0.25, "T_mult": 1}, lambda o: CosineAnnealingWarmRestarts(o, 15)),
    "onecycle": (onecycle, {"pct_start": 0.4}, lambda o: OneCycleLR(o, list(RATES), total_steps=TOTAL, pct_start=0.4)),
    **{
        mode: (
            triangular,
            {"mode": mode, "step_size": 0.8, "unit": "epochs", "gamma": 0.98},
            lambda o, mode=mode: CyclicLR(
                o, lowest(0.25), list(RATES), step_size_up=8, mode=mode, gamma=0.98, cycle_momentum=False
            ),
        )
        for mode in ("triangular", "triangular2", "exp_range")
    },
}


@pytest.mark.parametrize(("schedule", "own", "theirs"), list(TORCH.values()), ids=list(TORCH))
def test_a_whole_training_equals_torch(schedule: Factory, own: dict[str, Any], theirs: Factory) -> None:
    optimizer = two_groups()
    expected = follow(optimizer, theirs(optimizer))
    assert torch.tensor(ours(schedule, **own)) == pytest.approx(torch.tensor(expected), abs=1e-12)


WARMUP = 12  # steps
AFTER: dict[str, tuple[Factory, dict[str, Any], Factory]] = {
    "constant": (constant, {}, lambda o: ConstantLR(o, factor=1.0)),
    "step": TORCH["step"],
    "exponential": TORCH["exponential"],
    "polynomial": (polynomial, {"power": 2.5}, lambda o: PolynomialLR(o, total_iters=TOTAL - WARMUP, power=2.5)),
    "linear": (
        linear,
        {"min_factor": 0.1},
        lambda o: LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=TOTAL - WARMUP),
    ),
    "cosine": (cosine, {}, lambda o: CosineAnnealingLR(o, T_max=TOTAL - WARMUP)),
}


@pytest.mark.parametrize(("schedule", "own", "theirs"), list(AFTER.values()), ids=list(AFTER))
def test_a_warm_up_equals_the_sequence_of_torchvisions_reference(
    schedule: Factory, own: dict[str, Any], theirs: Factory
) -> None:
    optimizer = two_groups()
    rise = LinearLR(optimizer, start_factor=0.01, total_iters=WARMUP)
    expected = follow(optimizer, SequentialLR(optimizer, [rise, theirs(optimizer)], [WARMUP]))
    found = ours(schedule, warmup=WARMUP, warmup_unit="steps", **own)
    assert torch.tensor(found) == pytest.approx(torch.tensor(expected), abs=1e-12)


def test_a_warm_up_before_milestones_equals_torchs_product_of_both() -> None:
    optimizer = two_groups()
    rise = LinearLR(optimizer, start_factor=0.01, total_iters=WARMUP)
    decay = MultiStepLR(optimizer, [15, 40])
    expected = []
    for _ in range(TOTAL):
        expected.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        rise.step()
        decay.step()
    found = ours(multistep, milestones=[1.5, 4], unit="epochs", warmup=WARMUP / EPOCH)
    assert torch.tensor(found) == pytest.approx(torch.tensor(expected), abs=1e-12)


WARMED: dict[str, tuple[Factory, dict[str, Any]]] = {
    **{name: (schedule, own) for name, (schedule, own, _) in AFTER.items()},
    "sgdr": (sgdr, {"T_0": 0.25}),
    "wsd": (wsd, {}),
}


@pytest.mark.parametrize("start", [0.0, 0.01, 1.0])
@pytest.mark.parametrize(("schedule", "own"), list(WARMED.values()), ids=list(WARMED))
def test_a_warm_up_rises_in_a_line_to_exactly_the_full_rate_and_the_schedule_follows(
    schedule: Factory, own: dict[str, Any], start: float
) -> None:
    found = ours(schedule, warmup=WARMUP, warmup_unit="steps", warmup_start=start, **own)
    assert found[0] == [lr * start for lr in RATES]
    assert found[WARMUP] == list(RATES)
    differences = torch.tensor(found, dtype=torch.float64)[: WARMUP + 1].diff(dim=0)
    slope = torch.tensor(RATES, dtype=torch.float64) * (1 - start) / WARMUP
    assert differences == pytest.approx(slope.expand_as(differences), abs=1e-12)
    assert found[WARMUP:] == ours(schedule, TOTAL - WARMUP, **{**own, "warmup": 0})


@pytest.mark.parametrize("length", [(1.2, "epochs"), (12, "steps"), (0.2, "fraction")])
def test_units_of_a_warm_up(length: tuple[float, str]) -> None:
    expected = ours(cosine, warmup=WARMUP, warmup_unit="steps")
    assert ours(cosine, warmup=length[0], warmup_unit=length[1]) == expected


@pytest.mark.parametrize(
    ("own", "pattern"),
    [
        ({"warmup": 6}, r"warmup=6 epochs: must be shorter than the training \(60 steps, 6 epochs\)"),
        ({"warmup": 0.99, "warmup_unit": "fraction"}, "warmup=0.99: must be shorter .* rounded up to whole steps"),
        ({"warmup": -1}, "warmup=-1: must be at least 0"),
        ({"warmup": 1.5, "warmup_unit": "steps"}, "warmup=1.5: must be a whole number of steps"),
        ({"warmup_unit": "epoch"}, "warmup_unit=epoch: must be one of .* did you mean epochs"),
        ({"warmup_start": 1.5}, r"warmup_start=1.5: must be in \[0, 1\]"),
        ({"warmup": "x"}, "warmup=x: must be a number"),
    ],
)
@pytest.mark.parametrize("schedule", [constant, step, multistep, exponential, polynomial, linear, cosine, sgdr, wsd])
def test_bad_warm_ups_are_refused(schedule: Factory, own: dict[str, Any], pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        schedule(two_groups(), total_steps=TOTAL, steps_per_epoch=EPOCH, **{"warmup_unit": "epochs", **own})


def test_milestones_within_the_warm_up_are_refused() -> None:
    with pytest.raises(ValueError, match="milestones=2: must be after the warm-up, which takes 20 steps"):
        ours(multistep, milestones=[2, 4], unit="epochs", warmup=2)


def test_lengths_after_a_warm_up_must_fit_into_what_it_leaves() -> None:
    left = r"must not be longer than what the warm-up leaves of the training \(10 steps, 1 epoch\)"
    with pytest.raises(ValueError, match=f"T_0=2 epochs: {left}"):
        ours(sgdr, T_0=2, unit="epochs", warmup=5)
    with pytest.raises(ValueError, match=f"decay=2 epochs: {left}"):
        ours(wsd, decay=2, unit="epochs", warmup=5, warmup_unit="epochs")

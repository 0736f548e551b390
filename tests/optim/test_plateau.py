"""The reduction on a plateau: what it does to the learning rate when validation says so, and behind a warm-up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from resweep.optim.schedules import plateau

FILE = Path(__file__).parents[2] / "conf" / "scheduler" / "plateau.yaml"
RATES = (0.3, 0.07)
EPOCH = 5  # steps
# The best value comes in epochs 0, 1, 4, 9; by less than a hundredth in epoch 5.
LOSSES = [1.0, 0.8, 0.8, 0.9, 0.7, 0.699, 0.75, 0.75, 0.8, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]


def two_groups() -> Optimizer:
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in RATES], lr=1.0)


def make(optimizer: Optimizer, **own: Any) -> list[LRScheduler]:
    made = plateau(optimizer, total_steps=len(LOSSES) * EPOCH, steps_per_epoch=EPOCH, **own)
    return made if isinstance(made, list) else [made]


def train(optimizer: Optimizer, schedulers: list[LRScheduler], losses: list[float]) -> list[list[float]]:
    """The learning rates of every group in each update; the last schedule is stepped once per epoch."""
    seen = []
    for loss in losses:
        for _ in range(EPOCH):
            seen.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            for scheduler in schedulers[:-1]:
                scheduler.step()
        schedulers[-1].step(loss)  # type: ignore[arg-type]
    return seen


def factors(seen: list[list[float]]) -> list[float]:
    """Those of the first group at the beginning of each epoch, which both groups share."""
    assert [first / RATES[0] for first, _ in seen] == pytest.approx([second / RATES[1] for _, second in seen])
    return [first / RATES[0] for first, _ in seen[::EPOCH]]


def test_it_equals_torch() -> None:
    optimizer, reference = two_groups(), two_groups()
    theirs = ReduceLROnPlateau(reference, mode="min", factor=0.5, patience=2, threshold=0.01, eps=0.0)
    found = train(optimizer, make(optimizer, factor=0.5, patience=2, threshold=0.01), LOSSES)
    assert found == train(reference, [theirs], LOSSES)


def test_it_reduces_after_more_epochs_without_progress_than_patience() -> None:
    optimizer = two_groups()
    found = factors(train(optimizer, make(optimizer, patience=2, threshold=0.01), LOSSES))
    # without progress: epochs 5, 6, 7, then 8; 10, 11, 12; 13, 14, 15; seen from the epoch after the third on
    expected = [*[1.0] * 8, *[0.1] * 5, *[0.01] * 3, *[0.001] * 2]
    assert found == pytest.approx(expected)


def test_an_accuracy_is_better_when_it_is_larger() -> None:
    accuracies = [1 - loss for loss in LOSSES]
    first, second = two_groups(), two_groups()
    rising = train(first, make(first, monitor="val/accuracy", patience=1), accuracies)
    assert rising == train(second, make(second, monitor="val/accuracy", mode="max", patience=1), accuracies)
    falling = two_groups()
    assert factors(train(falling, make(falling, mode="max", patience=1), accuracies)) == pytest.approx(
        [rate / RATES[0] for rate, _ in rising[::EPOCH]]
    )


def test_reductions_end_at_min_factor() -> None:
    optimizer = two_groups()
    found = factors(train(optimizer, make(optimizer, patience=0, factor=0.3, min_factor=0.2), [1.0] * 5))
    assert found == pytest.approx([1, 1, 0.3, 0.2, 0.2])


def test_small_learning_rates_are_reduced_too() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1e-9)
    found = train(optimizer, make(optimizer, patience=0), [1.0] * 3)
    assert [rate for (rate,) in found[::EPOCH]] == pytest.approx([1e-9, 1e-9, 1e-10])


def test_a_warm_up_rises_to_exactly_the_full_rate_and_then_leaves_it_alone() -> None:
    optimizer = two_groups()
    schedulers = make(optimizer, patience=0, factor=0.5, warmup=7, warmup_unit="steps", warmup_start=0.3)
    seen = train(optimizer, schedulers, [1.0] * 5)
    for group, lr in enumerate(RATES):
        rates = [row[group] for row in seen]
        assert rates[:7] == pytest.approx([lr * (0.3 + 0.1 * t) for t in range(7)])
        assert rates[7:15] == [lr] * 8  # exactly; epochs 0 and 1 have warm-up in them and are not counted
        assert rates[15:20] == [lr * 0.5] * 5
        assert rates[20:] == [lr * 0.25] * 5


def test_no_warm_up_is_torchs_own_schedule() -> None:
    (made,) = make(two_groups())
    assert type(made) is ReduceLROnPlateau


@pytest.mark.parametrize("epochs", [1, 2, 3, 7])
def test_a_restored_schedule_continues(epochs: int, tmp_path: Path) -> None:
    own = {"patience": 1, "warmup": 1.4, "min_factor": 0.01}
    first = two_groups()
    schedulers = make(first, **own)
    train(first, schedulers, LOSSES[:epochs])
    torch.save([first.state_dict(), [each.state_dict() for each in schedulers]], tmp_path / "state.pt")
    second = two_groups()
    continued = make(second, **own)
    optimizer_state, states = torch.load(tmp_path / "state.pt", weights_only=True)
    second.load_state_dict(optimizer_state)
    for scheduler, state in zip(continued, states, strict=True):
        scheduler.load_state_dict(state)
    assert train(second, continued, LOSSES[epochs:]) == train(first, schedulers, LOSSES[epochs:])
    assert second.param_groups[0]["lr"] == first.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("own", "pattern"),
    [
        ({"monitor": "train/loss"}, "monitor=train/loss: must be a validation metric, .*; did you mean val/loss"),
        ({"monitor": "test/accuracy"}, r"monitor=test/accuracy: .*; did you mean val/accuracy\?"),
        ({"monitor": "lr"}, "monitor=lr: must be a validation metric, such as val/loss or val/accuracy$"),
        ({"monitor": None}, "monitor=None: must be a validation metric"),
        ({"mode": "lower"}, "mode=lower: must be one of min, max"),
        ({"factor": 1.0}, "factor=1.0: must be below 1"),
        ({"factor": 0}, "factor=0: must be above 0"),
        ({"patience": -1}, "patience=-1: must be at least 0"),
        ({"patience": 1.5}, "patience=1.5: must be a whole number"),
        ({"threshold": -0.1}, "threshold=-0.1: must be at least 0"),
        ({"min_factor": 2}, r"min_factor=2: must be in \[0, 1\]"),
        ({"warmup": 18}, "warmup=18 epochs: must be shorter than the training"),
    ],
)
def test_bad_settings_are_refused(own: dict[str, Any], pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        make(two_groups(), **own)


@pytest.mark.parametrize(
    ("monitor", "given", "mode"),
    [("val/loss", None, "min"), ("val/accuracy", None, "max"), ("val/error", "min", "min")],
)
def test_the_config_follows_the_monitor_of_the_run(monitor: str, given: str | None, mode: str) -> None:
    whole = OmegaConf.create({"monitor": monitor, "monitor_mode": given, "scheduler": OmegaConf.load(FILE)})
    made = instantiate(whole.scheduler)(two_groups(), total_steps=10, steps_per_epoch=5)
    assert (made.mode, made.factor, made.patience, made.threshold, made.cooldown) == (mode, 0.1, 10, 1e-4, 0)
    assert made.best == (math.inf if mode == "min" else -math.inf) and made.min_lrs == [0.0, 0.0]

"""Every file of conf/scheduler: what it does in 100 steps, and in trainings of an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from ten_steps import OPTIMIZERS, half_cosine, make, rates

from resweep.optim import schedules

FILES = sorted((Path(__file__).parents[2] / "conf" / "scheduler").glob("*.yaml"))
SCHEDULES = (
    "constant", "step", "multistep", "exponential", "polynomial", "linear", "cosine", "warmup_cosine", "sgdr",
    "onecycle", "triangular", "wsd", "plateau",
)  # fmt: skip


def scheduler_of(file: Path) -> Callable[..., Any]:
    whole = OmegaConf.create({"monitor": "val/accuracy", "monitor_mode": None, "scheduler": OmegaConf.load(file)})
    return instantiate(whole.scheduler)


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
@pytest.mark.parametrize("file", [file for file in FILES if file.stem != "plateau"], ids=lambda file: file.stem)
def test_every_config_drives_every_optimizer(file: Path, kind: str) -> None:
    expected = {  # at the first step, at step 50 and at step 99 of 100
        "none": (1.0, 1.0, 1.0),
        "step": (1.0, 0.1, 0.01),
        "multistep": (1.0, 0.1, 0.01),
        "exponential": (1.0, math.sqrt(0.0118), math.exp(0.99 * math.log(0.0118))),
        "polynomial": (1.0, 0.25, 1e-4),
        "linear": (1.0, 0.5, 0.01),
        "cosine": (1.0, 0.5, half_cosine(math.cos(0.99 * math.pi))),
        "warmup_cosine": (0.01, 1.0, half_cosine(math.cos(0.98 * math.pi))),
        # half cosines of 100 / 15 times 1, 2, 4 and 8 steps; the last one begins after 46.7
        "sgdr": (1.0, half_cosine(math.cos(math.pi / 16)), half_cosine(math.cos(math.pi * 157 / 160))),
        "onecycle": (1 / 25, 4e-6 + (1 - 4e-6) * half_cosine(math.cos(math.pi * 21 / 70)), 4e-6),
        "triangular": (0.25, 0.25, 0.25 + 0.75 / 12.5),  # four cycles of 25 steps
        # 5 steps of warm-up; of the 95 others the last 19 fall
        "wsd": (0.01, 1.0, 1 - math.sqrt(18 / 19)),
    }
    optimizer = make(kind)
    scheduler = scheduler_of(file)(optimizer, total_steps=100, steps_per_epoch=10)
    seen = rates(optimizer, scheduler, 100)
    assert (seen[0], seen[50], seen[99]) == pytest.approx(expected[file.stem])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_says_what_it_is_and_has_a_warm_up(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")
    config = OmegaConf.load(file)
    warmup = {"warmup_cosine": (5, "epochs", 0.01), "wsd": (0.05, "fraction", 0.01)}.get(file.stem, (0, "epochs", 0.01))
    assert (config.warmup, config.warmup_unit, config.warmup_start) == warmup


@pytest.mark.parametrize(("total_steps", "steps_per_epoch"), [(1, 1), (2, 2), (3, 1), (4, 4), (10, 10), (23, 23)])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_trains_an_epoch_or_says_why_not(file: Path, total_steps: int, steps_per_epoch: int) -> None:
    refused = {
        "warmup_cosine": "warmup=5 epochs: must be shorter than the training",
        **({"wsd": "warmup=0.05: must be shorter than the training"} if total_steps == 1 else {}),
        **({"onecycle": "pct_start=0.3: must be .* more than one step"} if total_steps < 4 else {}),
    }
    optimizer = make("momentum")
    if file.stem in refused:
        with pytest.raises(ValueError, match=refused[file.stem]):
            scheduler_of(file)(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        return
    scheduler = scheduler_of(file)(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    if file.stem != "plateau":
        assert all(0 < rate <= 1 for rate in rates(optimizer, scheduler, total_steps))


def test_every_schedule_has_a_config() -> None:
    names = {OmegaConf.load(file)._target_.rpartition(".")[2] for file in FILES}
    assert names == set(SCHEDULES)
    assert all(callable(getattr(schedules, name)) for name in names)

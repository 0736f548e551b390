"""Planted sweeps: folders whose figures are known before anything reads them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

CURVE_HEADER = (
    "epoch",
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "lr",
    "seconds",
    "images_per_second",
)


class PlantedSweep:
    """Writes the files of a sweep, run by run."""

    def __init__(self, folder: Path, base: dict[str, Any] | None = None) -> None:
        self.dir = folder
        self.base = base if base is not None else {"monitor": "val/accuracy", "monitor_mode": "max"}
        self.names: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        swept: dict[str, Any],
        seed: int,
        val: float | None = None,
        test: float | None = None,
        status: str = "completed",
        **fields: Any,
    ) -> Path:
        """Add a run and return its folder; fields go into ``run.json`` as they are."""
        number = len(self.names)
        folder = self.dir / f"run-{number:03d}"
        folder.mkdir()
        values = swept | {"seed": seed}
        record = {"id": f"{number:05x}", "label": folder.name, "status": status, "error": None, "attempts": 1}
        record |= {"seed": seed, "swept": values, "overrides": [f"{key}={value}" for key, value in values.items()]}
        record["metrics"] = {} if val is None and test is None else {"val/accuracy": val, "test/accuracy": test}
        record |= {"best_epoch": 2, "epochs": 3, "fit_seconds": 10.0 + number, "data_digest": "d0"} | fields
        (folder / "run.json").write_text(json.dumps(record))
        self.names.append(folder.name)
        return folder

    def curves(self, folder: Path, accuracies: list[float]) -> None:
        """Write ``metrics.csv`` with one epoch per accuracy."""
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(CURVE_HEADER)
            for epoch, value in enumerate(accuracies, 1):
                writer.writerow([epoch, 1 - value, value, 1.1 - value, value, 0.1, 2.0, 500.0])

    def confusion(self, folder: Path, classes: list[str], counts: list[list[int]]) -> None:
        """Write ``confusion.csv``."""
        with (folder / "confusion.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["true", *classes])
            writer.writerows([name, *row] for name, row in zip(classes, counts, strict=True))

    def finish(self, planned: int | None = None, **request: Any) -> Path:
        """Write ``sweep.yaml`` and return the sweep's folder."""
        content = {"name": self.dir.name, "runs": self.names, "base": self.base, "created_at": "2026-01-02T03:04:05Z"}
        content["counts"] = {"runs": len(self.names) if planned is None else planned}
        (self.dir / "sweep.yaml").write_text(yaml.safe_dump(content | request))
        return self.dir


@pytest.fixture(scope="session")
def planter() -> type[PlantedSweep]:
    """The class itself, for fixtures that outlive a test."""
    return PlantedSweep


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., PlantedSweep]:
    """Make an empty planted sweep; ``plant("name")`` for more than one."""
    return lambda name="planted", base=None: PlantedSweep(tmp_path / name, base)


@pytest.fixture
def known(plant: Callable[..., PlantedSweep]) -> Path:
    """Two optimizers and three seeds with figures made for mental arithmetic, a failed and a diverged run beside them.

    sgd: validation 0.90, 0.92, 0.94 (mean 0.92, sd 0.02), test 0.80, 0.82, 0.84.
    adam: validation 0.80, 0.82 (mean 0.81), test 0.90, 0.92, although its test figures are the higher ones.
    """
    sweep = plant()
    for seed, (val, test) in enumerate([(0.80, 0.90), (0.82, 0.92)]):
        sweep.curves(sweep.run({"optimizer": "adam"}, seed, val, test), [0.5, 0.7, val])
    error = {"type": "NonFiniteLoss", "message": "loss became NaN", "epoch": 2}
    sweep.run({"optimizer": "adam"}, 2, 0.1, 0.1, status="diverged", error=error)
    for seed, (val, test) in enumerate([(0.90, 0.80), (0.92, 0.82), (0.94, 0.84)]):
        folder = sweep.run({"optimizer": "sgd"}, seed, val, test)
        sweep.curves(folder, [0.6, 0.8, val])
        sweep.confusion(folder, ["cat", "dog"], [[8, 2], [seed, 9]])
    error = {"type": "OutOfMemoryError", "message": "needed 1 GB more"}
    sweep.run({"optimizer": "rmsprop"}, 0, status="failed", error=error)
    command = ["resweep", "train", "-m", "optimizer=adam,sgd,rmsprop", "seed=0,1,2", "model.name=my net"]
    axes = {"optimizer": ["adam", "sgd", "rmsprop"], "seed": ["0", "1", "2"]}
    overrides = ["sweep_name=planted", *command[3:]]
    return sweep.finish(command=command, axes=axes, overrides=overrides)

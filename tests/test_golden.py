"""The loss of the first 20 steps on fixed random images, against files; any change of the training shows here.

``python -m tests.test_golden --write`` in the project's folder writes the files anew.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback

GOLDEN = Path(__file__).parent / "assets" / "golden"
EPOCHS = 5  # of 4 steps
SETTINGS = {
    "momentum": [],
    "adamw_augmented": [
        "optimizer=adamw", "optimizer.lr=0.01", "scheduler=warmup_cosine", "scheduler.warmup=1", "model.dropout=0.3",
        "data.crop_padding=1", "data.flip=0.5", "loss.label_smoothing=0.1",
    ],
    "rmsprop_l1": ["optimizer=rmsprop", "scheduler=multistep", "regularizer=l1", "regularizer.l1=1e-3", "seed=1"],
    "nesterov_projection": [
        "optimizer=nesterov", "scheduler=cosine", "model.shortcut=projection", "trainer.gradient_clip_val=1.0",
        "optimizer.weight_decay=1e-2", "optimizer.no_decay=[bias,norm]",
    ],
}  # fmt: skip


class Losses(Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(outputs["loss"].item())


def losses(run_dir: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Train a small run as the command line does and return the loss of every step."""
    import helpers

    import resweep.train

    kept = Losses()
    build = resweep.train.build_trainer
    monkeypatch.setattr(
        resweep.train, "build_trainer", lambda config, folder, own, logs: build(config, folder, [*own, kept], logs)
    )
    fixed = [f"trainer.max_epochs={EPOCHS}", "trainer=cpu", "threads=1", "logger=none"]
    assert resweep.train.execute(helpers.new_run(run_dir, *fixed, *overrides)).status == "completed"
    return kept.values


@pytest.mark.parametrize("name", SETTINGS)
def test_the_first_steps_are_as_ever(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = losses(tmp_path / "run", SETTINGS[name], monkeypatch)
    golden = [float(line) for line in (GOLDEN / f"{name}.txt").read_text().split()]
    assert len(golden) == 20
    assert found == pytest.approx(golden, rel=1e-4), "processors differ in the last digits only"


def test_every_file_has_a_setting() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SETTINGS)


def write() -> None:
    """Write the files anew."""
    sys.path.append(str(Path(__file__).parent))
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, overrides in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
            values = losses(Path(folder) / "run", overrides, monkeypatch)
        (GOLDEN / f"{name}.txt").write_text("".join(f"{value:.6g}\n" for value in values))


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: python -m {__spec__.name} --write")
    write()

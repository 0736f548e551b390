"""TensorBoard files of a run: readable scalars, one hparams session and the confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from resweep.config import flatten

# Asked for by everybody, swept or not; present in every run with one type, as TensorBoard's HParams page needs it.
FIXED = (
    "choices.data", "choices.augment", "choices.model", "choices.optimizer", "choices.scheduler", "data.batch_size",
    "optimizer.lr", "optimizer.weight_decay", "model.dropout", "trainer.max_epochs", "seed",
)  # fmt: skip
# Tags of the page's metric columns: the best epoch's validation metrics and the final test metrics.
METRICS = {"best/val_accuracy": "val/accuracy", "best/val_loss": "val/loss", "test/accuracy": "test/accuracy",
           "test/loss": "test/loss"}  # fmt: skip


class RunLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, writing events straight into the run's folder and nothing else."""

    def save(self) -> None:
        """Flush; the frozen config already lies beside the events, so no ``hparams.yaml`` is written."""
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        """Flush; the file stays open after fitting, since the final metrics come with the test."""
        self.experiment.flush()


def hyperparameters(config: Mapping[str, Any], swept: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the columns of the HParams page: fixed keys and swept ones, numbers as float, the rest as text."""
    flat = flatten(config)
    chosen = {key.removeprefix("choices."): flat.get(key) for key in FIXED if flat.get(key) is not None} | dict(swept)
    return {
        key: float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
        for key, value in chosen.items()
    }


def write_hparams(
    logger: TensorBoardLogger, values: Mapping[str, Any], metrics: Mapping[str, float | None], step: int
) -> None:
    """Write one hparams session with its final metrics into the run's own event file.

    Args:
        logger: the run's logger.
        values: columns of the HParams page.
        metrics: the record's metrics; missing ones are left empty.
        step: the best epoch, at which the final metrics are drawn.
    """
    experiment, start, end = hparams(dict(values), dict.fromkeys(METRICS, 0.0))
    writer = logger.experiment.file_writer
    for summary in (experiment, start, end):
        writer.add_summary(summary)
    shown = {tag: metrics.get(name) for tag, name in METRICS.items()}
    shown |= {name: value for name, value in metrics.items() if name.startswith("test/")}
    for tag, value in shown.items():
        if value is not None:
            logger.experiment.add_scalar(tag, value, step)


def confusion_picture(matrix: Tensor, classes: tuple[str, ...]) -> np.ndarray:
    """Return a confusion matrix as a picture, rows = true class, colour = share of the row.

    Args:
        matrix: int64 (K, K).
        classes: K names.

    Returns:
        uint8 (H, W, 3).
    """
    counts = matrix.numpy()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = min(4 + 0.25 * len(classes), 14)
    figure = Figure(figsize=(size, size), dpi=80, layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title="test split: images, colour = share of the true class")
    if len(classes) <= 30:
        names = [name.replace("$", r"\$") for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=90)
        axes.set_yticks(range(len(classes)), names)
    if len(classes) <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]

"""TensorBoard files of a run: readable scalars, one hparams session and the confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
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
    """Return a confusion matrix as a picture: rows = true class, columns = predicted, colour = share of the row.

    Drawn with Pillow: a plotting library takes 0.3 s for it, more than a training epoch of a small net.

    Args:
        matrix: int64 (K, K).
        classes: K names; long ones are cut.

    Returns:
        uint8 (H, W, 3).
    """
    counts = matrix.numpy()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    count = len(classes)
    cell = max(4, min(30, 900 // count))
    font = ImageFont.load_default(12)
    names = [name if len(name) <= 14 else f"{name[:13]}\u2026" for name in classes] if cell >= 14 else [""] * count
    left = 24 + max(round(font.getlength(name)) for name in names)
    colours = np.rint(255 + share[..., None] * (np.array((8, 48, 107)) - 255)).astype(np.uint8)
    squares = colours.repeat(cell, 0).repeat(cell, 1)
    squares[cell - 1 :: cell] = squares[:, cell - 1 :: cell] = 255  # a white line between two squares
    picture = Image.new("RGB", (left + count * cell + 8, count * cell + left + 24), "white")
    picture.paste(Image.fromarray(squares), (left, 24))
    draw = ImageDraw.Draw(picture)
    draw.text((left, 4), "test split: rows true class, columns predicted", "black", font)
    for row, column in np.argwhere(counts) if cell >= 24 else ():
        place = (left + (column + 0.5) * cell - 1, 24 + (row + 0.5) * cell - 1)
        draw.text(place, str(counts[row, column]), "white" if share[row, column] > 0.5 else "black", font, anchor="mm")
    for index, name in enumerate(names):
        draw.text((left - 6, 24 + (index + 0.5) * cell), name, "black", font, anchor="rm")
        _draw_upwards(picture, name, (round(left + (index + 0.5) * cell), 28 + count * cell), font)
    return np.asarray(picture)


def _draw_upwards(picture: Image.Image, text: str, place: tuple[int, int], font: ImageFont.FreeTypeFont) -> None:
    """Write a text turned by 90 degrees, its end at the given place from above."""
    if text:
        label = Image.new("RGB", (round(font.getlength(text)) + 2, 16), "white")
        ImageDraw.Draw(label).text((1, 8), text, "black", font, anchor="lm")
        picture.paste(label.rotate(90, expand=True), (place[0] - 8, place[1]))

"""The logger of a run: writes into the run's folder what TensorBoard's pages show."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from resweep.data.datamodule import ImageDataModule
from resweep.loggers import Tracker, final_metrics
from resweep.pictures import confusion_picture, encoded
from resweep.record import MISTAKES_FILE, REPEATS, Record
from resweep.scores import TestResult
from resweep.tensorboard import summaries
from resweep.tensorboard.columns import columns, setting_name, sweep_axes, values_shown
from resweep.tensorboard.watch import FirstBatch, Histograms

SECONDS = 10  # after which what was written is visible to readers

METRICS = {
    "test/accuracy": "test accuracy", "test/loss": "test loss",
    "best/val_accuracy": "validation accuracy, best epoch", "best/val_loss": "validation loss, best epoch",
    "val/accuracy": "validation accuracy, last epoch", "val/loss": "validation loss, last epoch",
    "time/fit_seconds": "seconds of training",
}  # fmt: skip
OF_TASK = {
    "multiclass": {"test/f1": "test F1 (macro)", "test/ece": "test calibration error"},
    "multilabel": {
        "test/map": "test mean average precision", "best/val_map": "validation mean average precision, best epoch",
    },
}  # fmt: skip


class RunLogger(TensorBoardLogger, Tracker):
    """Lightning's TensorBoard logger, writing events straight into the run's folder and nothing else.

    Args:
        save_dir: the run's folder.
        name, version, default_hp_metric: as Lightning has them.
        samples: show the first training images as the net gets them.
        confusion: show the confusion matrix of the test.
        mistakes: show the most confident mistakes of the test.
        pr_curves: write the precision-recall curve of every class or label on the test split; of more than 25, those of
            the smallest average precision. About 3 kB each.
        histograms_every: epochs between two histograms of weights and gradients; None for none. About 2 kB per group
            of layers.
    """

    def __init__(
        self,
        save_dir: str,
        name: str = "",
        version: str = "",
        default_hp_metric: bool = False,
        samples: bool = True,
        confusion: bool = True,
        mistakes: bool = True,
        pr_curves: bool = False,
        histograms_every: int | None = None,
    ) -> None:
        super().__init__(save_dir, name, version, False, default_hp_metric, flush_secs=SECONDS)
        self.run_dir = Path(save_dir)
        self.samples = samples
        self.confusion = confusion
        self.mistakes = mistakes
        self.pr_curves = pr_curves
        self.histograms_every = histograms_every

    def callbacks(self, data: ImageDataModule) -> list[Callback]:
        """Return what writes during training."""
        first = [FirstBatch(self, data)] if self.samples else []
        return [*first, *([] if self.histograms_every is None else [Histograms(self, self.histograms_every)])]

    def begin(self, config: Mapping[str, Any], record: Record, task: str) -> None:
        """Describe the columns of the HParams page and the charts, and begin the run's session.

        Args:
            config: frozen config.
            record: of the run.
            task: name of the task.
        """
        described = columns(config, record.swept, sweep_axes(self.run_dir))
        described = [column for column in described if column.key not in REPEATS]  # a line of the page has all of them
        shown = values_shown(config, record.swept)
        values = {column.key: column.typed(shown[column.key]) for column in described}
        group = setting_name(config, record.swept)
        self._add(summaries.experiment(described, METRICS | OF_TASK[task]))
        self._add(summaries.session_start(values, group, time.time()))
        self.experiment.add_custom_scalars(summaries.LAYOUT)
        self.experiment.flush()

    def tested(self, record: Record, result: TestResult, classes: tuple[str, ...]) -> None:
        """Show what the test has found; called once, after the files of the test were written.

        Args:
            record: of the run.
            result: of the test.
            classes: K names.
        """
        step = record.best_epoch or 0
        path = self.run_dir / MISTAKES_FILE
        if self.mistakes and path.is_file():
            self._add(summaries.picture("test/mistakes", path.read_bytes()), step)
        if self.confusion and result.confusion is not None:
            pixels = confusion_picture(result.confusion, classes)
            self._add(summaries.picture("test/confusion_matrix", encoded(Image.fromarray(pixels))), step)
        if self.pr_curves and result.scored:
            self._add_curves(result, classes, step)

    def _add_curves(self, result: TestResult, classes: tuple[str, ...], step: int) -> None:
        precisions = torch.tensor(result.classes["average_precision"])
        worst = precisions.nan_to_num(torch.inf).argsort(stable=True)[: summaries.MOST_CURVES].tolist()
        for index in sorted(worst):
            probabilities = torch.cat([part[:, index] for part, _ in result.scored])
            positive = torch.cat([_is_class(targets, index) for _, targets in result.scored])
            known = ~probabilities.isnan()
            points = summaries.curve_points(probabilities[known], positive[known]).numpy()
            self.experiment.add_pr_curve_raw(f"test/pr/{classes[index]}", *points, step, summaries.THRESHOLDS)

    def finish(self, record: Record) -> None:
        """Write the final metrics at the best epoch, end the session and close the file."""
        final = final_metrics(record.metrics) | {"time/fit_seconds": record.fit_seconds}
        for tag, value in final.items():
            if value is not None and math.isfinite(value):
                self.experiment.add_scalar(tag, value, record.best_epoch or 0)
        self._add(summaries.session_end(record.status != "diverged", time.time()))
        self.experiment.close()

    def save(self) -> None:
        """Flush; the frozen config already lies beside the events, so no ``hparams.yaml`` is written."""
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        """Flush; the file stays open after fitting, since the final metrics come with the test."""
        self.experiment.flush()

    def _add(self, summary: Any, step: int | None = None) -> None:
        self.experiment.file_writer.add_summary(summary, step)


def _is_class(targets: Tensor, index: int) -> Tensor:
    """Return bool (N,): whether an image shows a class or label."""
    return targets == index if targets.dim() == 1 else targets[:, index]

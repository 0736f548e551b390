"""What a run shows of itself while it is trained: the images of its first batch, and histograms on request."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from resweep.data.datamodule import ImageDataModule
from resweep.diagnostics import Group, layer_groups
from resweep.mistakes import MOST
from resweep.pictures import image_grid
from resweep.show import label_lines
from resweep.tensorboard.summaries import picture

BINS = 64  # of a histogram: about 1 kB


class FirstBatch(Callback):
    """Shows the first 16 images of a run's first batch as the net gets them: augmented, mixed, at the run's size.

    Nothing is read or drawn anew, so that training is not touched. A continued run has shown them before.

    Args:
        logger: TensorBoard's.
        data: has normalised the images.
    """

    def __init__(self, logger: TensorBoardLogger, data: ImageDataModule) -> None:
        self.logger = logger
        self.data = data

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Draw them."""
        if trainer.global_step == 0 and batch_idx == 0:
            images, targets = (part[:MOST].detach().cpu() for part in batch[:2])
            captions = [label_lines(target, self.data.classes)[:2] for target in targets]
            lines = max(map(len, captions))
            captions = [[*caption, *[""] * (lines - len(caption))] for caption in captions]
            png = image_grid(self._pixels(images), captions)
            self.logger.experiment.file_writer.add_summary(picture("train/samples", png), 0)

    def _pixels(self, images: Tensor) -> Tensor:
        """Return normalised images as uint8."""
        mean, std = (facts.float().view(-1, 1, 1) for facts in (self.data.mean, self.data.std))
        return images.float().mul(std).add(mean).mul(255).round().clamp(0, 255).to(torch.uint8)


class Histograms(Callback):
    """Writes histograms of weights and gradients of the layer groups, every so many epochs.

    - ``weights/GROUP``: the trained weights at the end of the epoch.
    - ``gradients/GROUP``: the gradient that the optimizer is given in the last step of the epoch, of all its batches,
      without the L1 penalty and before clipping. Of a step that asks for several (L-BFGS) it is the first; in a
      sharpness-aware step the one taken at the worse place. A group without gradients is left out.

    What is not finite is left out. The groups are those of :func:`resweep.diagnostics.layer_groups`.

    Args:
        logger: TensorBoard's.
        every: epochs between two entries, at least 1; the epochs written are ``every``, ``2 * every``, ...

    Raises:
        ValueError: ``every`` is below 1.
    """

    def __init__(self, logger: TensorBoardLogger, every: int) -> None:
        if every < 1:
            raise ValueError(f"histograms_every={every}: must be at least 1")
        self.logger = logger
        self.every = every
        self.groups: list[Group] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the groups."""
        self.groups = layer_groups(getattr(pl_module, "net", pl_module))
        self.noted = 0

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Write the gradients of the last step."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every or epoch == self.noted or not trainer.is_last_batch:
            return
        self.noted = epoch
        for name, parameters in self.groups:
            gradients = [parameter.grad.detach() for parameter in parameters if parameter.grad is not None]
            self._write(f"gradients/{name}", gradients, epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the weights."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every == 0:
            for name, parameters in self.groups:
                self._write(f"weights/{name}", [parameter.detach() for parameter in parameters], epoch)

    def _write(self, tag: str, tensors: list[Tensor], epoch: int) -> None:
        values = torch.cat([tensor.flatten().float() for tensor in tensors]) if tensors else torch.empty(0)
        values = values[values.isfinite()].cpu()
        if len(values):
            self.logger.experiment.add_histogram(tag, values.numpy(), epoch, max_bins=BINS)

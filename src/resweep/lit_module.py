"""LitClassifier: a net, its loss, its metrics, its optimizer and its schedule as one LightningModule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from resweep.metrics import ClassifierMetrics, RunningMean
from resweep.optim.param_groups import param_groups
from resweep.seeding import derive_seed

OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
SchedulerFactory = Callable[..., torch.optim.lr_scheduler.LRScheduler]


class LitClassifier(LightningModule):
    """Trains a net to tell K classes apart.

    The loss of training is the given one; validation and test report the plain cross-entropy, so that settings with
    different losses can be compared. Random layers (dropout) draw from a generator seeded anew at every step from the
    run's seed and the step's position, so that a continued run draws what an uninterrupted one draws.

    Args:
        net: images float32 (B, C, H, W) to logits float32 (B, K).
        loss: logits (B, K) and targets int64 (B,) to a scalar.
        optimizer: takes parameter groups.
        scheduler: takes the optimizer and the keywords ``total_steps`` and ``steps_per_epoch``; stepped once per
            optimizer step.
        num_classes: K, at least 2.
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        seed: the run's seed.
        weight_decay: as the optimizer takes it (L2 or decoupled).
        no_decay: which parameters are exempt from weight decay, a subset of ``bias`` and ``norm``.
        l1: factor of the sum of absolute values of all parameters with two or more dimensions; unit: loss per unit of
            weight. Its subgradient is added to the gradient before each optimizer step; reported losses leave it out.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        *,
        num_classes: int,
        total_steps: int,
        steps_per_epoch: int,
        seed: int,
        weight_decay: float = 0.0,
        no_decay: tuple[str, ...] = (),
        l1: float = 0.0,
    ) -> None:
        super().__init__()
        self.net = net
        self.loss = loss
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.weight_decay = weight_decay
        self.no_decay = no_decay
        self.l1 = l1
        self.penalized = [p for p in net.parameters() if p.requires_grad and p.dim() > 1]
        self.train_mean = RunningMean()
        self.val_mean = RunningMean()
        self.test_metrics = ClassifierMetrics(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K) of normalized images (B, C, H, W)."""
        return self.net(images)

    def on_train_epoch_start(self) -> None:
        """Forget the sums of the epoch before."""
        self.train_mean.reset()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the random layers by position."""
        seed = derive_seed(self.seed, "step", self.current_epoch, batch_idx)
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":  # torch.manual_seed costs 2 ms where an absent accelerator has to be noted
            torch.manual_seed(seed)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch and add it to the epoch's means."""
        images, targets = batch
        logits = self.net(images)
        loss = self.loss(logits, targets)
        self.train_mean.update(loss.detach(), logits.detach(), targets)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the subgradient of the L1 penalty."""
        if self.l1 > 0:
            used = [p for p in self.penalized if p.grad is not None]
            signs = torch._foreach_sign([p.detach() for p in used])
            torch._foreach_add_([p.grad for p in used], signs, alpha=self.l1)

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the validation before."""
        self.val_mean.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add one batch to the validation means."""
        images, targets = batch
        logits = self.net(images)
        self.val_mean.update(F.cross_entropy(logits.float(), targets), logits, targets)

    def on_validation_epoch_end(self) -> None:
        """Publish ``val/loss`` and ``val/accuracy`` to callbacks (checkpoints, early stopping)."""
        loss, accuracy = self.val_mean.compute()
        self.log_dict({"val/loss": loss, "val/accuracy": accuracy}, logger=False)

    def on_test_epoch_start(self) -> None:
        """Forget the test before."""
        self.test_metrics.reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add one batch to the test metrics."""
        images, targets = batch
        self.test_metrics.update(self.net(images), targets)

    def on_test_epoch_end(self) -> None:
        """Compute the full set; kept in ``test_result`` as (name to value, confusion matrix)."""
        self.test_result = self.test_metrics.compute()

    def configure_optimizers(self) -> Any:
        """Build the optimizer over the net's parameter groups and its per-step schedule."""
        optimizer = self.make_optimizer(param_groups(self.net, self.weight_decay, self.no_decay))
        scheduler = self.make_scheduler(optimizer, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

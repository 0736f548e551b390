"""LitClassifier: a net, its loss, its metrics, its optimizer and its schedule as one LightningModule."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from resweep.metrics import RunningMean, epoch_metrics
from resweep.optim.averaging import Lookahead, moving_average
from resweep.optim.max_norm import project_max_norm_
from resweep.optim.regularizer import Regularizer
from resweep.optim.sam import ascended, statistics_kept
from resweep.optim.schedules import step_plateaus
from resweep.scores import full_metrics
from resweep.seeding import derive_seed
from resweep.tasks import Task

OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]
SchedulesFactory = Callable[[torch.optim.Optimizer], list[dict[str, Any]]]


class LitClassifier(LightningModule):
    """Trains a net to tell K classes apart, or to give each image those of K labels that it has.

    The loss of training is the given one; validation and test report the plain loss of the task, so that settings with
    different losses can be compared. Random layers (dropout) draw from a generator seeded anew for every batch from
    the run's seed and the batch's position: a continued run draws what an uninterrupted one draws. An optimizer that
    evaluates a batch several times in a step (L-BFGS, sharpness-aware steps) meets the same draws each time; metrics
    and the running statistics of batch normalization count the first evaluation only.

    Args:
        net: images float32 (B, C, H, W) to logits float32 (B, K). With Lookahead and a max-norm, weights beyond the
            limit are scaled down to it before the slow weights are copied.
        loss: logits (B, K) and targets, as the task and the augmentation give them, to a scalar.
        optimizer: takes the net.
        scheduler: takes the optimizer and returns Lightning's descriptions of its schedules.
        task: what the labels mean.
        seed: the run's seed.
        regularizer: what else acts on the weights.
        ema_decay: decay of an exponential moving average of the weights, which then is what validation and test
            judge; None for none.
        lookahead_steps: steps between two moves of Lookahead's slow weights, which validation and test judge; 0 for
            no Lookahead.
        lookahead_alpha: share of the way that the slow weights move.

    Raises:
        ValueError: a decay, step or share is out of its range.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulesFactory,
        *,
        task: Task,
        seed: int,
        regularizer: Regularizer | None = None,
        ema_decay: float | None = None,
        lookahead_steps: int = 0,
        lookahead_alpha: float = 0.5,
    ) -> None:
        super().__init__()
        self.net = net
        self.loss = loss
        self.make_optimizer = optimizer
        self.make_schedules = scheduler
        self.task = task
        self.seed = seed
        self.regularizer = regularizer or Regularizer()
        self.trained = [p for p in net.parameters() if p.requires_grad]
        self.penalized = [p for p in self.trained if p.dim() > 1]
        if lookahead_steps and self.regularizer.max_norm is not None:
            project_max_norm_(net, self.regularizer.max_norm)  # else the slow weights would begin beyond the limit
        self.average = None if ema_decay is None else moving_average(net, ema_decay)
        self.lookahead = Lookahead(self.trained, lookahead_steps, lookahead_alpha) if lookahead_steps else None
        self.evaluations = 0
        self.train_mean = RunningMean(task)
        self.val_metrics = epoch_metrics(task)
        self.val_scores: dict[str, float] = {}
        self.further_metrics = tuple(f"val/{name}" for name in task.further_metrics)
        self.test_metrics = full_metrics(task)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K) of normalized images (B, C, H, W), by the averaged weights where there are any."""
        return self.judged(images)

    @property
    def judged(self) -> nn.Module:
        """The net that validation and test judge; with Lookahead within :meth:`judged_weights` only."""
        return self.net if self.average is None else self.average.module

    def on_train_epoch_start(self) -> None:
        """Forget the sums of the epoch before."""
        self.train_mean.reset()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Begin to count the evaluations of a batch."""
        self.evaluations = 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch; its first evaluation is added to the epoch's means."""
        images, targets = batch
        self._seed_random_layers(batch_idx)
        self.evaluations += 1
        if self.evaluations > 1:
            with statistics_kept(self.net):
                return self.loss(self.net(images), targets)
        logits = self.net(images)
        loss = self.loss(logits, targets)
        self.train_mean.update(loss.detach(), logits.detach(), targets)
        return loss

    def _seed_random_layers(self, batch_idx: int) -> None:
        """Seed by position."""
        seed = derive_seed(self.seed, "step", self.current_epoch, batch_idx)
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":  # torch.manual_seed costs 2 ms where an absent accelerator has to be noted
            torch.manual_seed(seed)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the subgradient of the L1 penalty."""
        self.regularizer.penalize(self.penalized)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Make one step, sharpness-aware if asked for; then limit and average the weights."""
        rules = self.regularizer
        optimizer.step(closure=optimizer_closure if rules.sam_rho == 0 else lambda: self._sharpened(optimizer_closure))
        if rules.max_norm is not None:
            project_max_norm_(self.net, rules.max_norm)
        if self.lookahead is not None:
            self.lookahead.update(self.trained)
        if self.average is not None:
            self.average.update_parameters(self.net)

    def _sharpened(self, closure: Callable[[], Any]) -> Any:
        """Leave the gradient of the worst place nearby; return the loss here."""
        loss = closure()
        with ascended(self.trained, self.regularizer.sam_rho, self.regularizer.sam_adaptive):
            closure()
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the validation before."""
        self.val_metrics.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add one batch to the validation's metrics."""
        images, targets = batch
        with self.judged_weights():
            logits = self(images)
        self.val_metrics.update(self.task.loss(logits, targets), logits, targets)

    def on_validation_epoch_end(self) -> None:
        """Publish ``val/loss``, ``val/accuracy`` and what else the task has, to callbacks and schedules."""
        self.val_scores = {f"val/{name}": value for name, value in self.val_metrics.values().items()}
        self.log_dict(self.val_scores, logger=False)
        step_plateaus(self.trainer.lr_scheduler_configs, self.val_scores)

    def on_test_epoch_start(self) -> None:
        """Forget the test before."""
        self.test_metrics.reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add one batch to the test metrics."""
        images, targets = batch
        with self.judged_weights():
            self.test_metrics.update(self(images), targets)

    def on_test_epoch_end(self) -> None:
        """Compute the full set; kept in ``test_result``."""
        self.test_result = self.test_metrics.compute()

    def judged_weights(self) -> AbstractContextManager[None]:
        """Put Lookahead's slow weights in place; an average is a net of its own."""
        if self.lookahead is None or self.average is not None:
            return nullcontext()
        return self.lookahead.slow_weights(self.trained)

    def configure_optimizers(self) -> Any:
        """Build the optimizer over the net's parameter groups and its schedules."""
        optimizer = self.make_optimizer(self.net)
        return [optimizer], self.make_schedules(optimizer)

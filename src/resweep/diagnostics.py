"""Gradient norms, update ratios and learning rates of a run in TensorBoard, on request only.

The horizontal axis is the number of optimizer steps since the beginning of the run, not the epoch as elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

MOST = 25  # layer groups, and learning rates, that are told apart

Group = tuple[str, list[nn.Parameter]]


class Diagnostics(Callback):
    """Writes what the optimizer does, every so many optimizer steps.

    - ``grad_norm/total`` and ``grad_norm/GROUP``: L2 norm of the gradient that the optimizer is given, of all
      accumulated batches, without the L1 penalty and before clipping. Of a step that asks for several (L-BFGS) it is
      the first; in a sharpness-aware step the one taken at the worse place. A group without gradients is left out.
    - ``update_ratio/GROUP``: L2 norm of the change of the weights by the whole step, limits on the weights included,
      divided by that of the weights before; left out while a group's weights are all zero.
    - ``lr/GROUP``: learning rate of each of the optimizer's parameter groups in that step.

    The groups are those of :func:`layer_groups`. A step that is not written costs a comparison; one that is copies the
    weights once and waits for the accelerator. Nothing is changed in training, and nothing needs to be in a checkpoint.

    Args:
        every: optimizer steps between two entries, at least 1; the steps written are ``every``, ``2 * every``, ...

    Raises:
        ValueError: ``every`` is below 1; or, when fitting starts, there is no logger to write to.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError(f"diagnostics_every={every}: must be at least 1")
        self.every = every
        self.groups: list[Group] = []
        self.before: list[list[Tensor]] | None = None
        self.values: dict[str, Tensor | float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the groups."""
        if not trainer.loggers:
            message = "there is no logger to write to; set logger=tensorboard"
            raise ValueError(f"diagnostics_every={self.every}: {message}")
        self.groups = layer_groups(getattr(pl_module, "net", pl_module))
        self.before = None

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note gradients, weights and learning rates when a step that is written begins."""
        if (trainer.global_step + 1) % self.every or self.before is not None:
            return
        grads = {name: [p.grad for p in parameters if p.grad is not None] for name, parameters in self.groups}
        norms = {f"grad_norm/{name}": _norm(own) for name, own in grads.items() if own}
        self.values = {**norms, "grad_norm/total": _norm(list(norms.values()))}
        self.values |= learning_rates(optimizer, getattr(pl_module, "net", pl_module))
        self.before = [[p.detach().clone() for p in parameters] for _, parameters in self.groups]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compare the weights with those before the step, and write."""
        if self.before is None:
            return
        for (name, parameters), before in zip(self.groups, self.before, strict=True):
            change = torch._foreach_sub([p.detach() for p in parameters], before)
            size = _norm(before).item()
            if size > 0:
                self.values[f"update_ratio/{name}"] = _norm(change).item() / size
        self.before = None
        scalars = {name: float(value) for name, value in self.values.items()}
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step)


def layer_groups(net: nn.Module) -> list[Group]:
    """Return a net's trained parameters in at most 25 groups of neighbouring layers, with a name each.

    The layers are those of ``net.layer_groups()`` where the net has it, else its children. A name starts with the
    group's number, so that TensorBoard shows the groups by depth.

    Args:
        net: the net; parameters that do not require a gradient are left out.

    Returns:
        Names such as ``03_stages.0.1``, and the parameters; each parameter stands in one group.
    """
    layers = net.layer_groups() if hasattr(net, "layer_groups") else list(net.children())
    names = {id(p): name for name, p in net.named_parameters() if p.requires_grad}
    seen: set[int] = set()
    groups = []
    for parameters in [*([*layer.parameters()] for layer in layers), list(net.parameters())]:
        own = {id(p): p for p in parameters if id(p) in names and id(p) not in seen}
        seen.update(own)
        if own:
            groups.append(list(own.values()))
    joined = [[p for group in some for p in group] for some in _parts(groups)]
    labels = [_label(index, [names[id(p)] for p in group], names[id(group[0])]) for index, group in enumerate(joined)]
    return list(zip(labels, joined, strict=True))


def learning_rates(optimizer: torch.optim.Optimizer, net: nn.Module) -> dict[str, float]:
    """Return ``lr/GROUP`` of an optimizer's parameter groups; of more than 25, as many that are evenly spaced.

    Args:
        optimizer: its groups may have any number of parameters.
        net: gives the parameters' names.
    """
    names = {id(p): name for name, p in net.named_parameters()}
    count = len(optimizer.param_groups)
    shown = range(count) if count <= MOST else [round(index * (count - 1) / (MOST - 1)) for index in range(MOST)]
    rates = {}
    for index in shown:
        group = optimizer.param_groups[index]
        label = _label(index, [names[id(p)] for p in group["params"] if id(p) in names], "net.weight")
        rates[f"lr/{label}"] = float(group["lr"])
    return rates


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of several tensors together."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))).float())


def _parts(groups: list[list[nn.Parameter]]) -> list[list[list[nn.Parameter]]]:
    """Put neighbouring groups together where there are too many."""
    count = min(MOST, len(groups))
    edges = [index * len(groups) // count for index in range(count + 1)] if count else [0]
    return [groups[first:last] for first, last in itertools.pairwise(edges)]


def _label(index: int, names: list[str], otherwise: str) -> str:
    """Number a group and name it by the module that all its parameters lie in; where there is none, by another's."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    common = [parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, levels)]
    return f"{index:02d}_{'.'.join(common or otherwise.split('.')[:-1]) or otherwise}"

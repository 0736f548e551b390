"""Averages of the weights over the steps: Lookahead and the exponential moving average."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class Lookahead(nn.Module):
    """Slow weights that follow the optimizer's: every k steps they move a share of the way, and the others join them.

    ``slow = slow + alpha * (fast - slow); fast = slow`` after each k-th step. The optimizer keeps its momentum. Slow
    weights and the step count are buffers, so that they belong to the ``state_dict`` of a module that contains this.

    Args:
        parameters: where the slow weights begin.
        steps: k, at least 1.
        alpha: share of the way, above 0 and at most 1; 1 leaves the optimizer's weights as they are.

    Raises:
        ValueError: if steps or alpha is out of its range.

    Source: Zhang et al. 2019 (arXiv 1907.08610, algorithm 1); checked against pytorch_optimizer.Lookahead.

    Example:
        >>> weight = nn.Parameter(torch.zeros(1))
        >>> lookahead = Lookahead([weight], steps=2, alpha=0.5)
        >>> for value in (1.0, 2.0):
        ...     weight.data.fill_(value)
        ...     lookahead.update([weight])
        tensor([1.])
        tensor([2.])
        >>> weight.item()
        1.0
    """

    def __init__(self, parameters: Iterable[nn.Parameter], steps: int = 5, alpha: float = 0.5) -> None:
        super().__init__()
        if not steps >= 1:
            raise ValueError(f"lookahead_steps={steps}: must be at least 1")
        if not 0 < alpha <= 1:
            raise ValueError(f"lookahead_alpha={alpha}: must be above 0 and at most 1")
        self.steps = steps
        self.alpha = alpha
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        for index, parameter in enumerate(parameters):
            self.register_buffer(f"slow_{index}", parameter.detach().clone())

    @torch.no_grad()
    def update(self, parameters: Iterable[nn.Parameter]) -> None:
        """Count a step of the optimizer; after each k-th one move slow and fast weights.

        Args:
            parameters: the same ones, in the same order, as at the beginning; changed in place.
        """
        self.count += 1
        if int(self.count) % self.steps == 0:
            fast, slow = list(parameters), self.slow()
            torch._foreach_lerp_(slow, fast, self.alpha)
            torch._foreach_copy_(fast, slow)

    @contextmanager
    def slow_weights(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        """Put the slow weights, the result of the algorithm, in the place of the others; undone after the block.

        Args:
            parameters: as in :meth:`update`.
        """
        fast = list(parameters)
        before = [parameter.detach().clone() for parameter in fast]
        with torch.no_grad():
            torch._foreach_copy_(fast, self.slow())
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(fast, before)

    def slow(self) -> list[Tensor]:
        """Return the slow weights, in the order of the parameters."""
        return [buffer for name, buffer in self.named_buffers() if name != "count"]


def moving_average(net: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a net whose weights are an exponential moving average of the net's.

    Call ``update_parameters(net)`` after each step t = 0, 1, ...: ``average = d * average + (1 - d) * weights``, where
    d = min(decay, (1 + t) / (10 + t)). The first update copies the weights (t = 0 counts as d = 0), and the growing d
    forgets them within the first steps: without it, a training shorter than 1 / (1 - decay) steps would be judged by
    its initial weights. The copy computes as ``average(images)``, or with ``average.module``.

    Running statistics of batch normalization are averaged like weights, as they describe the activations under the
    weights of those steps; whole numbers (their count of batches) are copied.

    Args:
        net: the network; the copy needs as much memory, and no gradients.
        decay: largest d, above 0 and below 1; 1 / (1 - decay) is about the number of steps averaged over.

    Raises:
        ValueError: if decay is out of its range.

    Source: Polyak & Juditsky 1992; growing d and its numbers: tf.train.ExponentialMovingAverage (num_updates);
    averaged running statistics: ExponentialMovingAverage of torchvision's training reference.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> average = moving_average(net, 0.999)
        >>> average.update_parameters(net)
        >>> torch.equal(average.module.weight, net.weight)
        True
    """
    if not 0 < decay < 1:
        raise ValueError(f"ema_decay={decay}: must be above 0 and below 1")

    @torch.no_grad()
    def blend(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        steps = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + steps) / (10 + steps)))

    return AveragedModel(net, multi_avg_fn=blend, use_buffers=True).requires_grad_(False)

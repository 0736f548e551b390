"""What the tests of the schedules share: optimizers of one parameter, and the values of a group over the updates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LRScheduler

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "momentum": lambda groups, lr: SGD(groups, lr=lr, momentum=0.9),
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}
R2, R3 = math.sqrt(2), math.sqrt(3)
C5 = (1 + math.sqrt(5)) / 4  # cos(36 degrees)
S5 = (math.sqrt(5) - 1) / 4  # cos(72 degrees)
C8, S8 = math.sqrt(2 + R2) / 2, math.sqrt(2 - R2) / 2  # cos(22.5 degrees), cos(67.5 degrees)
C10, S10 = math.sqrt((5 + math.sqrt(5)) / 8), math.sqrt((5 - math.sqrt(5)) / 8)  # cos(18 degrees), cos(54 degrees)


def make(kind: str = "sgd", lr: float = 1.0) -> Optimizer:
    return OPTIMIZERS[kind]([nn.Parameter(torch.zeros(1))], lr=lr)


def update(optimizer: Optimizer, scheduler: LRScheduler) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scheduler.step()


def rates(optimizer: Optimizer, scheduler: LRScheduler, steps: int = 10, key: str = "lr") -> list[Any]:
    """The value of a group's key in each update."""
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0][key])
        update(optimizer, scheduler)
    return seen


def half_cosine(value: float) -> float:
    return (1 + value) / 2

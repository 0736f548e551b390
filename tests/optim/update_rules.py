"""Update rules in float64, from the papers: x is a parameter, gradient a function of it, rates those of each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Gradient = Callable[[np.ndarray], np.ndarray]


def sgd(
    x: np.ndarray, gradient: Gradient, rates: Sequence[float], decay: float, *, momentum: float, nesterov: bool
) -> np.ndarray:
    velocity = np.zeros_like(x)
    for lr in rates:
        d = gradient(x) + decay * x
        velocity = momentum * velocity + d
        x = x - lr * (d + momentum * velocity if nesterov else velocity)
    return x


def adam(
    x: np.ndarray,
    gradient: Gradient,
    rates: Sequence[float],
    decay: float,
    *,
    betas: Sequence[float],
    eps: float,
    amsgrad: bool = False,
    decoupled: bool = False,
) -> np.ndarray:
    first, second, largest = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for t, lr in enumerate(rates, 1):
        d = gradient(x) + (0 if decoupled else decay * x)
        first = betas[0] * first + (1 - betas[0]) * d
        second = betas[1] * second + (1 - betas[1]) * d**2
        largest = np.maximum(largest, second) if amsgrad else second
        x = x * (1 - lr * decay if decoupled else 1.0)
        x = x - lr * (first / (1 - betas[0] ** t)) / (np.sqrt(largest / (1 - betas[1] ** t)) + eps)
    return x


def adamw(x: np.ndarray, gradient: Gradient, rates: Sequence[float], decay: float, **options: Any) -> np.ndarray:
    return adam(x, gradient, rates, decay, decoupled=True, **options)


def nadam(
    x: np.ndarray,
    gradient: Gradient,
    rates: Sequence[float],
    decay: float,
    *,
    betas: Sequence[float],
    eps: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
) -> np.ndarray:
    first, second, product = np.zeros_like(x), np.zeros_like(x), 1.0
    for t, lr in enumerate(rates, 1):
        now, after = (betas[0] * (1 - 0.5 * 0.96 ** (s * momentum_decay)) for s in (t, t + 1))
        product *= now
        d = gradient(x) + (0 if decoupled_weight_decay else decay * x)
        first = betas[0] * first + (1 - betas[0]) * d
        second = betas[1] * second + (1 - betas[1]) * d**2
        ahead = after * first / (1 - product * after) + (1 - now) * d / (1 - product)
        x = x * (1 - lr * decay if decoupled_weight_decay else 1.0)
        x = x - lr * ahead / (np.sqrt(second / (1 - betas[1] ** t)) + eps)
    return x


def radam(
    x: np.ndarray,
    gradient: Gradient,
    rates: Sequence[float],
    decay: float,
    *,
    betas: Sequence[float],
    eps: float,
    decoupled_weight_decay: bool,
) -> np.ndarray:
    first, second = np.zeros_like(x), np.zeros_like(x)
    longest = 2 / (1 - betas[1]) - 1
    for t, lr in enumerate(rates, 1):
        d = gradient(x) + (0 if decoupled_weight_decay else decay * x)
        first = betas[0] * first + (1 - betas[0]) * d
        second = betas[1] * second + (1 - betas[1]) * d**2
        x = x * (1 - lr * decay if decoupled_weight_decay else 1.0)
        step = first / (1 - betas[0] ** t)
        length = longest - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
        if length > 5:
            above = (length - 4) * (length - 2) * longest
            below = (longest - 4) * (longest - 2) * length
            step = step * np.sqrt(above / below) * np.sqrt(1 - betas[1] ** t) / (np.sqrt(second) + eps)
        x = x - lr * step
    return x


def rmsprop(
    x: np.ndarray,
    gradient: Gradient,
    rates: Sequence[float],
    decay: float,
    *,
    alpha: float,
    eps: float,
    momentum: float,
    centered: bool,
) -> np.ndarray:
    square, mean, velocity = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for lr in rates:
        d = gradient(x) + decay * x
        square = alpha * square + (1 - alpha) * d**2
        mean = alpha * mean + (1 - alpha) * d
        scale = np.sqrt(square - mean**2 if centered else square) + eps
        velocity = momentum * velocity + d / scale
        x = x - lr * velocity
    return x


def adagrad(
    x: np.ndarray,
    gradient: Gradient,
    rates: Sequence[float],
    decay: float,
    *,
    lr_decay: float,
    initial_accumulator_value: float,
    eps: float,
) -> np.ndarray:
    total = np.full_like(x, initial_accumulator_value)
    for t, lr in enumerate(rates):
        d = gradient(x) + decay * x
        total = total + d**2
        x = x - lr / (1 + t * lr_decay) * d / (np.sqrt(total) + eps)
    return x


def adadelta(
    x: np.ndarray, gradient: Gradient, rates: Sequence[float], decay: float, *, rho: float, eps: float
) -> np.ndarray:
    square, moved = np.zeros_like(x), np.zeros_like(x)
    for lr in rates:
        d = gradient(x) + decay * x
        square = rho * square + (1 - rho) * d**2
        step = np.sqrt(moved + eps) / np.sqrt(square + eps) * d
        moved = rho * moved + (1 - rho) * step**2
        x = x - lr * step
    return x


def along(tensor: np.ndarray, axis: int, matrix: np.ndarray) -> np.ndarray:
    """The product of a tensor and a matrix along one axis."""
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, axis)), 0, axis)


def contracted(tensor: np.ndarray, axis: int) -> np.ndarray:
    """The product of a tensor with itself over all axes but one."""
    others = [other for other in range(tensor.ndim) if other != axis]
    return np.tensordot(tensor, tensor, axes=(others, others))


def shampoo(
    x: np.ndarray, gradient: Gradient, rates: Sequence[float], decay: float, *, matrix_eps: float
) -> np.ndarray:
    sums = [matrix_eps * np.eye(size) for size in x.shape]
    for lr in rates:
        d = gradient(x) + decay * x
        step = d
        for axis, total in enumerate(sums):
            total += contracted(d, axis)
            values, vectors = np.linalg.eigh(total)
            step = along(step, axis, (vectors * values ** (-1 / (2 * x.ndim))) @ vectors.T)
        x = x - lr * step
    return x


def soap(
    x: np.ndarray,
    gradient: Gradient,
    rates: Sequence[float],
    decay: float,
    *,
    betas: Sequence[float],
    eps: float,
    precondition_frequency: int,
    max_precondition_dim: int,
    merge_dims: bool,
) -> np.ndarray:
    """Vectors have no preconditioner; the first step starts those of the others."""
    axes = range(x.ndim) if x.ndim > 1 else ()
    first, second = np.zeros_like(x), np.zeros_like(x)
    for t, lr in enumerate(rates):
        d = gradient(x)
        if t == 0:
            sums = [(1 - betas[1]) * contracted(d, axis) for axis in axes]
            bases = [np.linalg.eigh(total)[1][:, ::-1] for total in sums]
            continue
        first = betas[0] * first + (1 - betas[0]) * d
        turned, average = d, first
        for axis in axes:
            turned, average = along(turned, axis, bases[axis].T), along(average, axis, bases[axis].T)
        second = betas[1] * second + (1 - betas[1]) * turned**2
        step = average / (np.sqrt(second) + eps)
        for axis in axes:
            step = along(step, axis, bases[axis])
        x = (x - lr * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) * step) * (1 - lr * decay)
        for axis in axes:
            sums[axis] = betas[1] * sums[axis] + (1 - betas[1]) * contracted(d, axis)
            if t % precondition_frequency == 0:
                power = sums[axis] @ bases[axis]
                order = np.argsort(-np.sum(bases[axis] * power, axis=0))
                second = np.take(second, order, axis)
                bases[axis] = np.linalg.qr(power[:, order])[0]
    return x


def muon(
    x: np.ndarray, gradient: Gradient, rates: Sequence[float], decay: float, *, momentum: float, nesterov: bool
) -> np.ndarray:
    """For matrices, with five iterations and the published scale."""
    average = np.zeros_like(x)
    for lr in rates:
        d = gradient(x)
        average = momentum * average + (1 - momentum) * d
        step = (1 - momentum) * d + momentum * average if nesterov else average
        step = step / np.linalg.norm(step)
        left, values, right = np.linalg.svd(step, full_matrices=False)
        for _ in range(5):  # an odd polynomial of a matrix is the polynomial of its singular values
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        x = (1 - lr * decay) * x - lr * np.sqrt(max(1, x.shape[0] / x.shape[1])) * (left * values) @ right
    return x


def lbfgs(x: np.ndarray, gradient: Gradient, rates: Sequence[float], history: int) -> np.ndarray:
    """One iteration per step without line search; the inverse Hessian as a matrix, built anew from the last pairs."""
    steps: list[np.ndarray] = []
    changes: list[np.ndarray] = []
    before = None
    for lr in rates:
        g = gradient(x)
        if before is None:
            direction, length = -g, min(1.0, 1.0 / np.abs(g).sum()) * lr
        else:
            steps, changes = [*steps, x - before[0]][-history:], [*changes, g - before[1]][-history:]
            inverse = np.eye(len(x)) * (steps[-1] @ changes[-1]) / (changes[-1] @ changes[-1])
            for s, y in zip(steps, changes, strict=True):
                left = np.eye(len(x)) - np.outer(s, y) / (s @ y)
                inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
            direction, length = -inverse @ g, lr
        before = (x, g)
        x = x + length * direction
    return x

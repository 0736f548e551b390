"""Pooling and padding that torch's layers do not offer, or not with the same bits on every run.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AveragePool(nn.Module):
    """Average onto a fixed number of pixels, whatever the size of the input.

    Output pixel i of S along a side of length L is the mean of input pixels floor(i L / S) to ceil((i + 1) L / S) - 1,
    the rule of torch.nn.AdaptiveAvgPool2d, whose backward pass has no deterministic form on CUDA for S > 1. Here the
    average is a product with two matrices.

    Args:
        size: S, output height and width, or both.

    Example:
        >>> AveragePool(2)(torch.arange(16.0).reshape(1, 1, 4, 4)).flatten().tolist()
        [2.5, 4.5, 10.5, 12.5]
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, S, S)."""
        if self.size == (1, 1):
            return x.mean((2, 3), keepdim=True)
        if self.size == x.shape[2:]:
            return x
        rows, columns = (_averages(length, size, x) for length, size in zip(x.shape[2:], self.size, strict=True))
        return rows @ x @ columns.T

    def extra_repr(self) -> str:
        """Return the output size, for printing."""
        return f"size={self.size}"


class SamePad(nn.Module):
    """Zeros around an image so that a window of a stride gives ceil(length / stride) outputs, as TensorFlow's "same".

    Where the zeros cannot be even, the last row and column get one more.

    Args:
        kernel: side of the window.
        stride: its stride.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H + padding, W + padding)."""
        (top, bottom), (left, right) = (self._sides(length) for length in x.shape[2:])
        return F.pad(x, (left, right, top, bottom))

    def _sides(self, length: int) -> tuple[int, int]:
        outputs = -(-length // self.stride)
        total = max((outputs - 1) * self.stride + self.kernel - length, 0)
        return total // 2, total - total // 2

    def extra_repr(self) -> str:
        """Return the window, for printing."""
        return f"kernel={self.kernel}, stride={self.stride}"


class ResponseNorm(nn.Module):
    """Local response normalization across channels.

    ``x_c / (k + alpha * sum_j x_j**2)**beta``, the sum over the ``size`` channels around c. As torch.nn's, but alpha
    is not divided by size, and the backward pass has a deterministic form on CUDA.
    Source: Krizhevsky et al. 2012 (NeurIPS), section 3.3; the defaults are from there.

    Args:
        size: n, number of neighbouring channels.
        alpha: weight of the sum of squares.
        beta: exponent.
        k: offset.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        flat = x.flatten(2)  # torch averages over three dimensions by a two-dimensional pool, which is deterministic
        return F.local_response_norm(flat, self.size, self.alpha * self.size, self.beta, self.k).view(x.shape)


def check_image_size(image_size: tuple[int, int], smallest: int, name: str, instead: str) -> None:
    """Refuse images that a net cannot take.

    Args:
        image_size: (H, W) of the images.
        smallest: side of the smallest images that the net takes.
        name: the net, for the message.
        instead: a ``model`` choice that takes smaller images, for the message.

    Raises:
        ValueError: if a side is below the smallest.
    """
    height, width = image_size
    if min(height, width) < smallest:
        advice = f"set data.image_size={smallest} or choose model={instead}"
        raise ValueError(f"image_size={height}x{width}: {name} needs at least {smallest}x{smallest}; {advice}")


def _averages(length: int, size: int, like: Tensor) -> Tensor:
    """Matrix (size, length) whose rows average adaptive windows."""
    matrix = torch.zeros(size, length)
    for index in range(size):
        first, last = index * length // size, -(-(index + 1) * length // size)
        matrix[index, first:last] = 1 / (last - first)
    return matrix.to(like)

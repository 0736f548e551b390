"""Pooling and padding against torch's layers and written-out windows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resweep.models.pooling import AveragePool, ResponseNorm, SamePad, check_image_size


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 2, 6, 7, (3, 5)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 7), (13, 10), (14, 21)])
def test_averages_are_those_of_torch(size: int | tuple[int, int], shape: tuple[int, int]) -> None:
    mine, theirs = (images(2, 3, *shape).requires_grad_() for _ in range(2))
    ours, expected = AveragePool(size)(mine), F.adaptive_avg_pool2d(theirs, size)
    torch.testing.assert_close(ours, expected)
    (ours**2).sum().backward()
    (expected**2).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_averages_keep_the_type_of_the_images() -> None:
    assert AveragePool(2)(images(1, 2, 5, 5).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "before", "after"),
    [(28, 5, 1, 2, 2), (28, 2, 2, 0, 0), (7, 2, 2, 0, 1), (28, 3, 2, 0, 1), (7, 3, 2, 1, 1), (1, 3, 2, 1, 1)],
)  # fmt: skip
def test_zeros_stand_where_tensorflow_puts_them(length: int, kernel: int, stride: int, before: int, after: int) -> None:
    row = images(1, 1, length, length) + 10
    padded = SamePad(kernel, stride)(row)
    assert torch.equal(padded, F.pad(row, (before, after, before, after)))
    outputs = F.max_pool2d(padded, kernel, stride).shape
    assert outputs == (1, 1, math.ceil(length / stride), math.ceil(length / stride))


def test_response_norm_is_the_formula_and_torchs_layer() -> None:
    x, norm = images(2, 8, 3, 3) * 30, ResponseNorm()
    expected = torch.empty_like(x)
    for channel in range(8):
        near = x[:, max(0, channel - 2) : channel + 3]
        expected[:, channel] = x[:, channel] / (2 + 1e-4 * (near**2).sum(1)) ** 0.75
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm(x), nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)(x))


def test_too_small_images_are_refused_with_the_smallest_size() -> None:
    message = r"^image_size=8x40: VGG needs at least 32x32; set data.image_size=32 or choose model=resnet20$"
    with pytest.raises(ValueError, match=message):
        check_image_size((8, 40), 32, "VGG", "resnet20")
    check_image_size((32, 40), 32, "VGG", "resnet20")

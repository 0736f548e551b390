"""The wide networks against published counts and the structure of the paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resweep.models.wide_resnet import WideResNet


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("depth", "widen_factor", "parameters"),
    [
        (16, 1, 175_066),
        (16, 2, 691_674),
        (16, 4, 2_748_890),
        (16, 8, 10_961_370),
        (28, 2, 1_467_610),
        (28, 10, 36_479_194),
        (28, 20, 145_815_514),
        (40, 1, 563_930),
        (40, 2, 2_243_546),
        (40, 4, 8_949_210),
        (52, 1, 758_362),
    ],
)
def test_parameter_counts(depth: int, widen_factor: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(WideResNet(depth, widen_factor, num_classes=10, in_channels=3)) == parameters


@pytest.mark.parametrize(("widen_factor", "projections"), [(1, [2, 4]), (2, [0, 2, 4])])
def test_a_projection_stands_where_the_channels_change(widen_factor: int, projections: list[int]) -> None:
    net = WideResNet(16, widen_factor, num_classes=10, in_channels=3)
    with_weights = [index for index, block in enumerate(net.blocks) if list(block.shortcut.parameters())]
    assert with_weights == projections
    assert [index for index, block in enumerate(net.blocks) if block.activated] == projections
    assert [block.conv1.stride[0] for block in net.blocks] == [1, 1, 2, 1, 2, 1]
    assert [block.conv2.out_channels for block in net.blocks] == [
        factor * widen_factor for factor in (16, 16, 32, 32, 64, 64)
    ]


def test_dropout_is_inside_the_blocks_only() -> None:
    net = WideResNet(16, 2, 0.4, num_classes=10, in_channels=3)
    active = [name for name, module in net.named_modules() if isinstance(module, nn.Dropout) and module.p == 0.4]
    assert active == [f"blocks.{index}.dropout" for index in range(6)]
    assert net.dropout.p == 0.0


@pytest.mark.parametrize(("init", "zero"), [("he_fan_out", True), ("torch", False)])
def test_the_bias_of_the_classifier_starts_as_published(init: str, zero: bool) -> None:
    net = WideResNet(10, init=init, num_classes=5, in_channels=3)
    assert bool((net.classifier.bias == 0).all()) == zero


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"depth": 28, "widen_factor": 0}, "widen_factor=0: must be at least 1"),
        ({"depth": 28, "widen_factor": 2.5}, "widen_factor=2.5: must be a whole number, at least 1"),
        ({"depth": 20}, r"depth=20: must be 6n\+4 .* nearest allowed: 16 and 22"),
        ({"depth": 28, "dropout": 1.0}, r"dropout=1.0: must be in \[0, 1\)"),
    ],
)
def test_bad_arguments_are_named(settings: dict, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        WideResNet(**settings, num_classes=5, in_channels=3)

"""The pre-activation networks against published counts and the structure of the papers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resweep.models.preact_resnet import CifarPreActResNet, PreActResNet


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("depth", "block", "shortcut", "parameters"),
    [
        # With option A the count of the original unit: He et al. 2015, section 4.2.
        (20, "basic", "identity", 269_722),
        (56, "basic", "identity", 853_018),
        (110, "basic", "identity", 1_727_962),
        # With projections imgclsmob's counts for PreResNet-20 to PreResNet-164(BN).
        (20, "basic", "projection", 272_282),
        (56, "basic", "projection", 855_578),
        (110, "basic", "projection", 1_730_522),
        (164, "bottleneck", "projection", 1_703_258),
    ],
)
def test_parameter_counts_of_the_cifar_nets(depth: int, block: str, shortcut: str, parameters: int) -> None:
    with torch.device("meta"):
        net = CifarPreActResNet(depth, block=block, shortcut=shortcut, num_classes=10, in_channels=3)
    assert count(net) == parameters


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({}, 11_171_146),
        ({"final_norm": True}, 11_171_146 + 2 * 512),
        ({"stem_norm": True, "activated": "all"}, 11_171_146 + 2 * 64),
    ],
)
def test_parameter_counts_of_preact_resnet18(settings: dict, parameters: int) -> None:
    with torch.device("meta"):
        net = PreActResNet(**settings, num_classes=10, in_channels=3)
    assert count(net) == parameters


def test_which_shortcuts_start_behind_the_activation() -> None:
    def found(net: nn.Module) -> list[bool]:
        return [block.activated for block in net.blocks]

    settings = {"num_classes": 10, "in_channels": 3}
    with torch.device("meta"):
        changes = [False, False, True, False, True, False, True, False]
        assert found(PreActResNet(**settings)) == changes
        assert found(PreActResNet(activated="first", **settings)) == [True, *changes[1:]]
        assert found(PreActResNet(activated="all", **settings)) == [True] * 8
        assert found(CifarPreActResNet(14, **settings)) == [True, False, True, False, True, False]
        deep = CifarPreActResNet(20, block="bottleneck", shortcut="projection", **settings)
    assert found(deep) == [True, False, True, False, True, False]
    assert [block.conv1.stride[0] for block in deep.blocks] == [1, 1, 2, 1, 2, 1]
    assert not isinstance(deep.blocks[0].shortcut, nn.Identity)


@pytest.mark.parametrize("final_norm", [False, True])
def test_whether_the_pooled_features_are_activated(final_norm: bool) -> None:
    torch.manual_seed(0)
    net = CifarPreActResNet(8, 8, final_norm=final_norm, num_classes=5, in_channels=3)
    features = net.features(torch.randn(16, 3, 8, 8))
    assert features.shape == (16, 32)
    assert bool((features >= 0).all()) == final_norm


@pytest.mark.parametrize(("init", "zero"), [("he_fan_out", True), ("torch", False)])
def test_the_bias_of_the_classifier_starts_as_published(init: str, zero: bool) -> None:
    net = CifarPreActResNet(8, 4, init=init, num_classes=5, in_channels=3)
    assert bool((net.classifier.bias == 0).all()) == zero


@pytest.mark.parametrize(
    ("family", "settings", "pattern"),
    [
        (CifarPreActResNet, {"depth": 21}, r"depth=21: must be 6n\+2 .* nearest allowed: 20 and 26"),
        (CifarPreActResNet, {"depth": 12, "block": "bottleneck"}, r"depth=12: must be 9n\+2 .* 11 and 20"),
        (CifarPreActResNet, {"depth": 8, "block": "basc"}, "block=basc: .* did you mean basic"),
        (CifarPreActResNet, {"depth": 8, "shortcut": "none"}, "shortcut=none: must be one of identity, projection"),
        (CifarPreActResNet, {"depth": 8, "width": 0}, "width=0: must be at least 1"),
        (PreActResNet, {"depth": 20}, "depth=20: must be one of 18, 34, 50, 101, 152"),
        (PreActResNet, {"activated": "none"}, "activated=none: must be one of change, first, all"),
    ],
)
def test_bad_arguments_are_named(family: type[nn.Module], settings: dict, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        family(**settings, num_classes=5, in_channels=3)

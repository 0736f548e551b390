"""AlexNet against torchvision and published counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from resweep.models.alexnet import AlexNet, SmallAlexNet

CONF = Path(__file__).parents[2] / "conf" / "model"


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_imagenet_form_equals_torchvision_with_the_same_weights() -> None:
    numbers = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)) * 0.02

    def like(tensor: torch.Tensor) -> torch.Tensor:
        """Repeated random numbers: a hundred million of their own take long to draw."""
        return numbers.repeat(-(-tensor.numel() // len(numbers)))[: tensor.numel()].view(tensor.shape).clone()

    with torch.device("meta"):
        ours, theirs = (
            AlexNet(num_classes=7, in_channels=3, image_size=(224, 224)),
            torchvision.models.alexnet(num_classes=7),
        )
    state = {name: like(tensor) + ("running_var" in name) for name, tensor in theirs.state_dict().items()}
    theirs.load_state_dict(state, assign=True)
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)), assign=True)
    for size in ((63, 63), (100, 224)):
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_published_counts() -> None:
    with torch.device("meta"):
        assert count(AlexNet(num_classes=1000, in_channels=3, image_size=(224, 224))) == 61_100_840
    for size, parameters in ((28, 1_387_786), (32, 1_756_426)):
        assert count(SmallAlexNet(num_classes=10, in_channels=3, image_size=(size, size))) == parameters


def test_dropout_stands_before_each_hidden_layer() -> None:
    with torch.device("meta"):
        large = AlexNet(num_classes=10, in_channels=3, image_size=(64, 64))
    small = SmallAlexNet(dropout=0.3, num_classes=10, in_channels=3, image_size=(8, 8))
    for net, rate in ((large, 0.5), (small, 0.3)):
        assert [type(module).__name__ for module in net.hidden] == ["Dropout", "Linear", "ReLU"] * 2
        assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [rate, rate]


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 1), ((33, 30), 3), ((1, 2), 3)])
def test_the_small_form_takes_any_size(size: tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    net = SmallAlexNet(num_classes=4, in_channels=channels, image_size=size)
    images = torch.randn(2, channels, *size)
    net(images).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert (net(images).shape, net.features(images).shape) == ((2, 4), (2, 192))


@pytest.mark.parametrize(("make", "size", "groups"), [(AlexNet, 64, 8), (SmallAlexNet, 28, 5)])
def test_layer_groups_hold_every_parameter_once_in_order(make: type, size: int, groups: int) -> None:
    with torch.device("meta"):
        net = make(num_classes=10, in_channels=3, image_size=(size, size))
    parts = net.layer_groups()
    assert len(parts) == groups
    assert [id(p) for part in parts for p in part.parameters()] == [id(p) for p in net.parameters()]


def test_bad_arguments_are_named() -> None:
    sizes = {"num_classes": 10, "in_channels": 3, "image_size": (64, 64)}
    message = r"^image_size=32x32: AlexNet needs at least 63x63; set data.image_size=63 or choose model=alexnet_small$"
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        AlexNet(**sizes | {"image_size": (32, 32)})
    for make in (AlexNet, SmallAlexNet):
        for arguments, pattern in (
            ({"dropout": 1}, r"dropout=1: must be in"),
            ({"init": "he"}, "init=he: must be one"),
        ):
            with torch.device("meta"), pytest.raises(ValueError, match=pattern):
                make(**arguments, **sizes)


@pytest.mark.parametrize(("name", "size"), [("alexnet", 64), ("alexnet_small", 28)])
def test_every_config_builds(name: str, size: int) -> None:
    file = CONF / f"{name}.yaml"
    classes = 1000 if name == "alexnet" else 10
    with torch.device("meta"):
        net = instantiate(OmegaConf.load(file), num_classes=classes, in_channels=3, image_size=(size, size))
    assert f"({count(net):,} parameters" in file.read_text().splitlines()[0]

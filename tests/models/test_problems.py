"""The test problems against published counts, sizes and layers written out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from resweep.models.problems import AllCNNC, Net2c2d, Net3c3d

CONF = Path(__file__).parents[2] / "conf" / "model"
NETS = {"2c2d": (Net2c2d, 1, 28), "3c3d": (Net3c3d, 3, 32), "allcnnc": (AllCNNC, 3, 32)}


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def weighted(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


@pytest.mark.parametrize(
    ("name", "num_classes", "parameters"),
    [("2c2d", 10, 3_274_634), ("3c3d", 10, 895_210), ("allcnnc", 100, 1_387_108), ("allcnnc", 10, 1_369_738)],
)
def test_published_counts(name: str, num_classes: int, parameters: int) -> None:
    make, channels, size = NETS[name]
    net = make(num_classes=num_classes, in_channels=channels, image_size=(size, size))
    assert count(net) == parameters


def max_pool(x: Tensor, kernel: int, before: int, after: int) -> Tensor:
    return F.max_pool2d(F.pad(x, (before, after, before, after), value=-math.inf), kernel, 2)


def test_2c2d_is_its_layers() -> None:
    torch.manual_seed(0)
    net = Net2c2d(num_classes=10, in_channels=1, image_size=(28, 28))
    images = torch.randn(2, 1, 28, 28)
    c1, c2, d1, d2 = weighted(net)
    x = max_pool(F.conv2d(images, c1.weight, c1.bias, padding=2).relu(), 2, 0, 0)
    x = max_pool(F.conv2d(x, c2.weight, c2.bias, padding=2).relu(), 2, 0, 0)
    assert x.shape == (2, 64, 7, 7)
    expected = F.linear(F.linear(x.flatten(1), d1.weight, d1.bias).relu(), d2.weight, d2.bias)
    torch.testing.assert_close(net(images), expected)


def test_3c3d_is_its_layers() -> None:
    torch.manual_seed(0)
    net = Net3c3d(num_classes=10, in_channels=3, image_size=(32, 32))
    images = torch.randn(2, 3, 32, 32)
    c1, c2, c3, d1, d2, d3 = weighted(net)
    x = max_pool(F.conv2d(images, c1.weight, c1.bias).relu(), 3, 0, 1)
    assert x.shape == (2, 64, 14, 14)
    x = max_pool(F.conv2d(x, c2.weight, c2.bias).relu(), 3, 0, 1)
    assert x.shape == (2, 96, 6, 6)
    x = max_pool(F.conv2d(x, c3.weight, c3.bias, padding=1).relu(), 3, 0, 1)
    assert x.shape == (2, 128, 3, 3)
    x = F.linear(F.linear(x.flatten(1), d1.weight, d1.bias).relu(), d2.weight, d2.bias).relu()
    torch.testing.assert_close(net(images), F.linear(x, d3.weight, d3.bias))
    torch.testing.assert_close(net.features(images), x)


def test_allcnnc_is_its_layers() -> None:
    torch.manual_seed(0)
    net = AllCNNC(num_classes=10, in_channels=3, image_size=(32, 32)).eval()
    images = torch.randn(2, 3, 32, 32)
    x, sizes = images, []
    for index, layer in enumerate(weighted(net)):
        if index in (2, 5):  # stride 2: the zeros stand behind the last row and column
            x = F.conv2d(F.pad(x, (0, 1, 0, 1)), layer.weight, layer.bias, stride=2).relu()
        else:
            padding = 0 if index >= 6 else 1
            x = F.conv2d(x, layer.weight, layer.bias, padding=padding).relu()
        sizes.append(tuple(x.shape[1:]))
    assert sizes[2] == (96, 16, 16) and sizes[5] == (192, 8, 8) and sizes[6:] == [(192, 6, 6)] * 2 + [(10, 6, 6)]
    torch.testing.assert_close(net(images), x.mean((2, 3)))
    assert (net(images) >= 0).all()


def test_allcnnc_has_dropout_on_the_image_and_behind_each_stride() -> None:
    net = AllCNNC(num_classes=10, in_channels=3, image_size=(32, 32))
    order = [m for m in net.modules() if isinstance(m, (nn.Dropout, nn.Conv2d))]
    assert [m.p if isinstance(m, nn.Dropout) else m.stride[0] for m in order] == [
        0.2,
        1,
        1,
        2,
        0.5,
        1,
        1,
        2,
        0.5,
        1,
        1,
        1,
    ]


def test_2c2d_is_drawn_from_a_cut_normal_with_biases_of_005() -> None:
    torch.manual_seed(0)
    for layer in weighted(Net2c2d(num_classes=10, in_channels=1, image_size=(28, 28))):
        assert layer.weight.abs().max().item() <= 0.1
        # A normal cut at two standard deviations has 0.8796 of the deviation.
        assert layer.weight.std().item() == pytest.approx(0.05 * 0.87963, rel=4 / math.sqrt(2 * layer.weight.numel()))
        assert (layer.bias == 0.05).all()


@pytest.mark.parametrize(("name", "bias"), [("3c3d", 0.0), ("allcnnc", 0.1)])
def test_the_others_are_drawn_with_glorots_variance(name: str, bias: float) -> None:
    torch.manual_seed(0)
    make, channels, size = NETS[name]
    for layer in weighted(make(num_classes=10, in_channels=channels, image_size=(size, size))):
        window = layer.weight[0, 0].numel() if layer.weight.ndim == 4 else 1
        std = math.sqrt(2 / (window * (layer.weight.shape[0] + layer.weight.shape[1])))
        assert layer.weight.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * layer.weight.numel()))
        bound = std * (2 / 0.87962 if layer.weight.ndim == 4 else math.sqrt(3))
        assert 0.9 * bound < layer.weight.abs().max().item() <= bound * 1.0001
        assert (layer.bias == bias).all()


@pytest.mark.parametrize("init", ["he_fan_in", "torch"])
@pytest.mark.parametrize("name", NETS)
def test_other_initializations(name: str, init: str) -> None:
    make, channels, size = NETS[name]
    first = weighted(make(init=init, num_classes=10, in_channels=channels, image_size=(size, size)))[0]
    fan_in = first.weight[0].numel()
    expected = math.sqrt(2 / fan_in) if init == "he_fan_in" else 1 / math.sqrt(3 * fan_in)
    assert first.weight.std().item() == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(
    ("name", "size"), [("2c2d", (1, 3)), ("2c2d", (9, 8)), ("3c3d", (9, 12)), ("allcnnc", (9, 13))]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_other_sizes_and_channels(name: str, size: tuple[int, int], channels: int) -> None:
    torch.manual_seed(0)
    net = NETS[name][0](num_classes=4, in_channels=channels, image_size=size)
    images = torch.randn(2, channels, *size)
    net(images).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert net(images).shape == (2, 4)
    parts = net.layer_groups()
    assert [id(p) for part in parts for p in part.parameters()] == [id(p) for p in net.parameters()]
    assert len(parts) == {"2c2d": 4, "3c3d": 6, "allcnnc": 9}[name]


@pytest.mark.parametrize(("name", "label"), [("3c3d", "3c3d"), ("allcnnc", "All-CNN-C")])
def test_too_small_images_are_refused_with_the_smallest_size(name: str, label: str) -> None:
    message = f"^image_size=8x8: {label} needs at least 9x9; set data.image_size=9 or choose model=2c2d$"
    with pytest.raises(ValueError, match=message):
        NETS[name][0](num_classes=10, in_channels=3, image_size=(8, 8))


@pytest.mark.parametrize("name", NETS)
def test_bad_arguments_are_named(name: str) -> None:
    make, channels, size = NETS[name]
    sizes = {"num_classes": 10, "in_channels": channels, "image_size": (size, size)}
    bad = {"dropout": (1.0, r"dropout=1.0: must be in"), "init": ("deepob", "init=deepob: .* did you mean deepobs")}
    bad |= {"input_dropout": (-1, "input_dropout=-1: must be in")} if name == "allcnnc" else {}
    for argument, (value, pattern) in bad.items():
        with pytest.raises(ValueError, match=pattern):
            make(**{argument: value}, **sizes)


@pytest.mark.parametrize("name", NETS)
def test_every_config_is_the_net_of_its_name(name: str) -> None:
    file, (make, channels, size) = CONF / f"{name}.yaml", NETS[name]
    classes = 100 if name == "allcnnc" else 10
    net = instantiate(OmegaConf.load(file), num_classes=classes, in_channels=channels, image_size=(size, size))
    assert isinstance(net, make)
    assert f"({count(net):,} parameters" in file.read_text().splitlines()[0]

"""VGG networks against torchvision, published counts and the layers of the variant with dropout."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from resweep.models.vgg import VGG, vgg16_bn_dropout

FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("vgg*.yaml"))
CIFAR = {"num_classes": 10, "in_channels": 3, "image_size": (32, 32)}
IMAGENET = {"num_classes": 1000, "in_channels": 3, "image_size": (224, 224)}
PUBLISHED = {"vgg11": 132_863_336, "vgg13": 133_047_848, "vgg16": 138_357_544, "vgg19": 143_667_240}


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_imagenet_form_has_torchvisions_tensors(name: str, batch_norm: bool) -> None:
    with torch.device("meta"):
        ours = VGG(int(name[3:]), batch_norm, **IMAGENET)
        theirs = torchvision.models.get_model(name + "_bn" * batch_norm)
    assert [tensor.shape for tensor in ours.state_dict().values()] == [t.shape for t in theirs.state_dict().values()]
    norms = sum(2 * module.num_features for module in ours.modules() if isinstance(module, nn.BatchNorm2d))
    assert count(ours) == PUBLISHED[name] + norms
    assert [m.p for m in ours.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


def test_the_imagenet_form_equals_torchvision_with_the_same_weights() -> None:
    numbers = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)) * 0.02

    def like(tensor: torch.Tensor) -> torch.Tensor:
        """Repeated random numbers: a hundred million of their own take long to draw."""
        return numbers.repeat(-(-tensor.numel() // len(numbers)))[: tensor.numel()].view(tensor.shape).clone()

    with torch.device("meta"):
        ours, theirs = VGG(11, True, **IMAGENET | {"num_classes": 7}), torchvision.models.vgg11_bn(num_classes=7)
    state = {name: like(tensor) + ("running_var" in name) for name, tensor in theirs.state_dict().items()}
    theirs.load_state_dict(state, assign=True)
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)), assign=True)
    for size in ((32, 32), (70, 64)):
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_published_counts_of_the_small_forms() -> None:
    with torch.device("meta"):
        assert count(VGG(16, True, "cifar", **CIFAR)) == 14_728_266
        assert count(vgg16_bn_dropout(**CIFAR)) == 14_991_946


def test_the_dropout_variant_has_the_rates_of_its_blocks() -> None:
    with torch.device("meta"):
        net = vgg16_bn_dropout(**CIFAR)
    rates = [[m.p for m in stage if isinstance(m, nn.Dropout)] for stage in net.stages]
    assert rates == [[0.3], [0.4], [0.4, 0.4], [0.4, 0.4], [0.4, 0.4]]
    assert [type(module).__name__ for module in net.hidden] == ["Dropout", "Linear", "BatchNorm1d", "ReLU"]
    assert (net.hidden[0].p, net.dropout.p) == (0.5, 0.5)
    kinds = [type(module).__name__ for module in net.stages[0]]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Dropout", "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    assert {m.eps for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))} == {1e-3}


def test_convolutions_are_drawn_with_variance_two_over_fan_out() -> None:
    torch.manual_seed(0)
    net = VGG(11, head="cifar", **CIFAR)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (9 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * module.weight.numel()))
            assert not module.bias.any()


@pytest.mark.parametrize(("head", "groups"), [("cifar", 6), ("hidden", 7), ("imagenet", 7)])
def test_layer_groups_hold_every_parameter_once_in_order(head: str, groups: int) -> None:
    with torch.device("meta"):
        net = VGG(11, True, head, **CIFAR)
    parts = net.layer_groups()
    assert len(parts) == groups
    assert [id(p) for part in parts for p in part.parameters()] == [id(p) for p in net.parameters()]


def test_any_size_with_the_dropout_variant_and_from_32_pixels_otherwise() -> None:
    torch.manual_seed(0)
    small = {"num_classes": 4, "in_channels": 1}
    net = vgg16_bn_dropout(**small, image_size=(8, 9))
    net(torch.randn(2, 1, 8, 9)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    larger = VGG(11, True, "cifar", **small, image_size=(48, 40))
    assert larger(torch.randn(2, 1, 48, 40)).shape == (2, 4)
    assert larger.features(torch.randn(2, 1, 48, 40)).shape == (2, 512)
    with pytest.raises(ValueError, match=r"^image_size=28x28: VGG-11 needs at least 32x32; set data.image_size=32"):
        VGG(11, head="cifar", **small, image_size=(28, 28))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    net = VGG(11, head="cifar", dropout=0.5, stage_dropout=[0.5] * 5, **CIFAR)
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"depth": 12}, "depth=12: must be one of 11, 13, 16, 19"),
        ({"head": "imagnet"}, "head=imagnet: .* did you mean imagenet"),
        ({"dropout": 1.0}, r"dropout=1.0: must be in \[0, 1\)"),
        ({"stage_dropout": [0.3]}, r"stage_dropout=\[0.3\]: must be 5 probabilities"),
        ({"stage_dropout": [0, 0, 0, 0, 2]}, r"stage_dropout=2: must be in \[0, 1\)"),
        ({"init": "xavier"}, "init=xavier: must be one of"),
        ({"in_channels": 0}, "in_channels=0: must be at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, pattern: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=pattern):
        VGG(**({"depth": 11, "head": "cifar"} | CIFAR | arguments))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_is_the_net_of_its_name(file: Path) -> None:
    config = OmegaConf.load(file)
    with torch.device("meta"):
        net = instantiate(config, **CIFAR)
    assert f"({count(net):,} parameters" in file.read_text().splitlines()[0]
    if file.stem != "vgg16_bn_dropout":
        depth, batch_norm = int(file.stem[3:5]), file.stem.endswith("_bn")
        assert (config.depth, config.batch_norm) == (depth, batch_norm)
        assert not any(m.p for m in net.modules() if isinstance(m, nn.Dropout))
        with torch.device("meta"):
            published = instantiate(config, head="imagenet", **IMAGENET)
        assert f"{count(published) / 1e6:.1f}M with the published one" in file.read_text()

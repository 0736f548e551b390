"""The networks against published counts, torchvision and closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from resweep.models.resnet import BasicBlock, CifarResNet, resnet18

CONF = Path(__file__).parents[2] / "conf" / "model"


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("depth", "shortcut", "parameters"),
    [
        (8, "identity", 75_290),
        (14, "identity", 172_506),
        (20, "identity", 269_722),
        (20, "projection", 272_474),
        (32, "identity", 464_154),
        (44, "identity", 658_586),
        (56, "identity", 853_018),
        (110, "identity", 1_727_962),
    ],
)
def test_parameter_counts_of_the_small_family(depth: int, shortcut: str, parameters: int) -> None:
    assert count(CifarResNet(depth, 16, shortcut, num_classes=10, in_channels=3)) == parameters


@pytest.mark.parametrize(("num_classes", "parameters"), [(10, 11_173_962), (100, 11_220_132)])
def test_parameter_counts_of_resnet18(num_classes: int, parameters: int) -> None:
    assert count(resnet18(num_classes=num_classes, in_channels=3)) == parameters


@pytest.mark.parametrize(
    ("depth", "pattern"),
    [
        (21, r"depth=21: must be 6n\+2 .* nearest allowed: 20 and 26"),
        (7, r"depth=7: .* nearest allowed: 8$"),
        (2, r"depth=2: .* nearest allowed: 8$"),
        (-4, r"depth=-4: .* nearest allowed: 8$"),
    ],
)
def test_a_depth_outside_the_family_is_refused(depth: int, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        CifarResNet(depth, num_classes=10, in_channels=3)


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"width": 0}, "width=0: must be at least 1"),
        ({"num_classes": 0}, "num_classes=0: must be at least 1"),
        ({"in_channels": 0}, "in_channels=0: must be at least 1"),
        ({"dropout": 1.0}, r"dropout=1.0: must be in \[0, 1\)"),
        ({"dropout": -0.1}, r"dropout=-0.1: must be in \[0, 1\)"),
        ({"dropout": math.nan}, r"dropout=nan: must be in \[0, 1\)"),
        ({"shortcut": "projektion"}, "shortcut=projektion: .* did you mean projection"),
        ({"stem": "imgenet"}, "stem=imgenet: .* did you mean imagenet"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        CifarResNet(**({"depth": 8, "num_classes": 10, "in_channels": 3} | arguments))


@pytest.mark.parametrize(("stem", "size"), [("imagenet", 64), ("cifar", 16)])
def test_resnet18_equals_torchvision_with_the_same_weights(stem: str, size: int) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=7)
    if stem == "cifar":
        theirs.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        theirs.maxpool = nn.Identity()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    ours = resnet18(stem, num_classes=7, in_channels=3)
    source, names = theirs.state_dict(), list(ours.state_dict())
    ours.load_state_dict(dict(zip(names, source.values(), strict=True)))
    images = torch.randn(2, 3, size, size)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("size", [8, 7])
def test_option_a_copies_every_second_pixel_and_appends_zeros(size: int) -> None:
    block = BasicBlock(3, 8, stride=2, shortcut="identity")
    nn.init.zeros_(block.conv1.weight)
    nn.init.zeros_(block.conv2.weight)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    half = math.ceil(size / 2)
    expected = torch.zeros(2, 8, half, half)
    for row in range(half):
        for column in range(half):
            expected[:, :3, row, column] = images[:, :, 2 * row, 2 * column].clamp(min=0)
    assert torch.equal(block(images), expected)
    assert not list(block.shortcut.parameters())


@pytest.mark.parametrize("shortcut", ["identity", "projection"])
def test_a_block_that_keeps_the_shape_has_a_plain_shortcut(shortcut: str) -> None:
    block = BasicBlock(4, 4, stride=1, shortcut=shortcut)
    nn.init.zeros_(block.conv2.weight)
    images = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    assert torch.equal(block(images), before.clamp(min=0))
    assert torch.equal(images, before), "the input must not be changed in place"


@pytest.mark.parametrize(("size", "pixels"), [(8, 2), (32, 8), (7, 2)])
@pytest.mark.parametrize("in_channels", [1, 3, 5])
def test_any_channel_count_and_size_of_image(in_channels: int, size: int, pixels: int) -> None:
    torch.manual_seed(0)
    net = CifarResNet(8, 4, num_classes=6, in_channels=in_channels)
    images = torch.randn(3, in_channels, size, size)
    net(images).sum().backward()
    assert net.blocks(net.stem(images)).shape == (3, 16, pixels, pixels)
    assert net(images).shape == (3, 6)
    assert all(parameter.grad is not None for parameter in net.parameters())


def classifier_input(net: CifarResNet, images: Tensor) -> Tensor:
    """What the classifier receives in one forward pass."""
    seen: list[Tensor] = []
    handle = net.classifier.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    net(images)
    handle.remove()
    return seen[0]


def test_dropout_zeroes_or_scales_pooled_features_in_training_only() -> None:
    p = 0.3
    torch.manual_seed(0)
    net = CifarResNet(8, 16, dropout=p, num_classes=10, in_channels=1)
    images = torch.randn(64, 1, 8, 8)
    pooled = net.features(images)
    kept = classifier_input(net, images)
    zero = kept == 0
    torch.testing.assert_close(kept[~zero], (pooled / (1 - p))[~zero])
    assert zero.float().mean().item() == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / pooled.numel()))
    net.eval()
    assert torch.equal(classifier_input(net, images), net.features(images))


def test_dropout_zero_changes_nothing_in_training() -> None:
    torch.manual_seed(0)
    net = CifarResNet(8, 16, dropout=0.0, num_classes=10, in_channels=1)
    images = torch.randn(16, 1, 8, 8)
    assert torch.equal(classifier_input(net, images), net.features(images))


def test_convolutions_are_drawn_with_variance_two_over_fan_out() -> None:
    torch.manual_seed(0)
    net = resnet18(num_classes=10, in_channels=3)
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 20
    for convolution in convolutions:
        height, width = convolution.kernel_size
        expected = math.sqrt(2 / (height * width * convolution.out_channels))
        spread = 4 / math.sqrt(2 * convolution.weight.numel())  # four standard errors of an estimated deviation
        assert convolution.weight.std().item() == pytest.approx(expected, rel=spread)
        assert abs(convolution.weight.mean().item()) < 4 * expected / math.sqrt(convolution.weight.numel())
        assert convolution.bias is None


@pytest.mark.parametrize("file", sorted(CONF.glob("resnet*.yaml")), ids=lambda file: file.stem)
def test_every_config_builds_without_dropout(file: Path) -> None:
    expected = {"resnet8": 75_290, "resnet20": 269_722, "resnet18": 11_173_962}
    net = instantiate(OmegaConf.load(file), num_classes=10, in_channels=3)
    assert count(net) == expected[file.stem]
    assert net.dropout.p == 0.0
    assert file.read_text().startswith("# ")

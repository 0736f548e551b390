"""The networks against published counts, torchvision and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn

from resweep.models.resnet import CifarResNet, ResNet, resnet18


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
        (110, "none", 1_727_962),
    ],
)
def test_parameter_counts_of_the_small_family(depth: int, shortcut: str, parameters: int) -> None:
    assert count(CifarResNet(depth, 16, shortcut, num_classes=10, in_channels=3)) == parameters


def test_parameter_count_with_bottleneck_blocks() -> None:
    net = CifarResNet(164, 16, "projection", block="bottleneck", num_classes=10, in_channels=3)
    assert count(net) == 1_704_154  # imgclsmob's ResNet-164(BN); the paper says 1.7M
    assert [block.conv1.stride[0] for block in net.blocks if block.conv1.stride[0] > 1] == [2, 2]


@pytest.mark.parametrize("depth", [20, 17, 0, "18"])
def test_a_depth_without_a_published_net_is_refused(depth: object) -> None:
    with pytest.raises(ValueError, match=f"depth={depth}: must be one of 18, 34, 50, 101, 152"):
        ResNet(depth, num_classes=10, in_channels=3)


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
        ({"block": "bottle"}, "block=bottle: .* did you mean bottleneck"),
        ({"shortcut": "none", "stochastic_depth": 0.5}, "stochastic_depth=0.5: must be 0 with shortcut=none"),
        ({"shortcut": "none", "zero_init_residual": True}, "zero_init_residual=True: must be false with shortcut=none"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        CifarResNet(**({"depth": 8, "num_classes": 10, "in_channels": 3} | arguments))


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_parameter_counts_with_the_imagenet_stem_are_those_of_torchvision(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        ours = ResNet(depth, "imagenet", num_classes=1000, in_channels=3)
        theirs = getattr(torchvision.models, f"resnet{depth}")()
    assert count(ours) == count(theirs) == parameters
    assert [value.shape for value in ours.state_dict().values()] == [
        value.shape for value in theirs.state_dict().values()
    ]


@pytest.mark.parametrize(
    ("stem", "depth", "size"), [("imagenet", 18, 64), ("cifar", 18, 16), ("imagenet", 34, 40), ("imagenet", 50, 40)]
)
def test_outputs_equal_torchvision_with_the_same_weights(stem: str, depth: int, size: int) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"resnet{depth}")(num_classes=7)
    if stem == "cifar":
        theirs.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        theirs.maxpool = nn.Identity()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    with torch.device("meta"):
        ours = ResNet(depth, stem, num_classes=7, in_channels=3)
    source, names = theirs.state_dict(), list(ours.state_dict())
    ours.load_state_dict(dict(zip(names, source.values(), strict=True)), assign=True)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_the_short_name_is_the_same_net() -> None:
    torch.manual_seed(0)
    short = resnet18(num_classes=10, in_channels=3)
    torch.manual_seed(0)
    whole = ResNet(18, num_classes=10, in_channels=3).state_dict()
    assert list(short.state_dict()) == list(whole)
    assert all(torch.equal(value, whole[name]) for name, value in short.state_dict().items())


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_a_plain_net_has_the_parameters_of_option_a(depth: int) -> None:
    with torch.device("meta"):
        plain, residual = (
            CifarResNet(depth, shortcut=shortcut, num_classes=10, in_channels=3) for shortcut in ("none", "identity")
        )
    assert [(name, value.shape) for name, value in plain.state_dict().items()] == [
        (name, value.shape) for name, value in residual.state_dict().items()
    ]


def test_a_plain_net_is_a_chain() -> None:
    torch.manual_seed(0)
    net = CifarResNet(14, 4, "none", num_classes=10, in_channels=3).eval()
    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))]
    assert len(layers) == 2 * 13
    images = torch.randn(2, 3, 8, 8)
    out = images
    for convolution, norm in zip(layers[::2], layers[1::2], strict=True):
        out = norm(convolution(out)).clamp(min=0)
    torch.testing.assert_close(net(images), net.classifier(out.mean((2, 3))))


@pytest.mark.parametrize(("block", "depth"), [("basic", 14), ("bottleneck", 20)])
def test_zero_init_lets_every_block_start_as_its_shortcut(block: str, depth: int) -> None:
    torch.manual_seed(0)
    settings = {"block": block, "num_classes": 10, "in_channels": 3}
    net = CifarResNet(depth, zero_init_residual=True, **settings)
    images = torch.randn(2, 3, 8, 8)
    out = net.stem(images)
    for part in net.blocks:
        out = part.shortcut(out).clamp(min=0)
    torch.testing.assert_close(net.features(images), out.mean((2, 3)))
    assert all(bool((part.last_norm.weight == 1).all()) for part in CifarResNet(depth, **settings).blocks)


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

"""Every shipped residual network: the count its file names, its layer groups, its drop rates, its arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from torch import nn

from resweep.models.parts import drop_rates
from resweep.models.preact_resnet import CifarPreActResNet, PreActResNet
from resweep.models.residual import ResidualNet, blocks_of_depth
from resweep.models.resnet import CifarResNet, ResNet
from resweep.models.wide_resnet import WideResNet

CONF = Path(__file__).parents[2] / "conf" / "model"
PARTS = ("models.resnet.", "models.preact_resnet.", "models.wide_resnet.")
FILES = [file for file in sorted(CONF.glob("*.yaml")) if any(part in file.read_text() for part in PARTS)]
# imgclsmob's PreResNet-1001 (the paper says 10.2M); He et al. 2015, Table 6, says 19.4M.
DEEP = {"preresnet1001": 10_327_706, "resnet1202": 19_421_274}
TINY = {
    "resnet": lambda **settings: CifarResNet(8, 4, num_classes=5, in_channels=3, **settings),
    "preact": lambda **settings: CifarPreActResNet(8, 4, num_classes=5, in_channels=3, **settings),
    "wide": lambda **settings: WideResNet(10, 1, num_classes=5, in_channels=3, **settings),
}


def shipped_net(file: Path) -> ResidualNet:
    with torch.device("cpu" if file.stem in DEEP else "meta"):  # many small tensors are quicker with storage
        return instantiate(OmegaConf.load(file), num_classes=10, in_channels=3)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_there_is_a_file_for_every_published_net() -> None:
    assert len(FILES) >= 37


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_names_its_count_and_its_groups_cover_the_net(file: Path) -> None:
    net = shipped_net(file)
    named = re.search(r"\(([\d,]+) parameters", file.read_text())
    assert named is not None
    assert count(net) == int(named[1].replace(",", "")) == DEEP.get(file.stem, count(net))
    assert_groups_cover(net)
    rates = [module.p for name, module in net.named_modules() if name.endswith(("drop", "dropout"))]
    assert set(rates) == {0.0}


def assert_groups_cover(net: ResidualNet) -> None:
    """Every parameter is in exactly one group, and the groups stand in the order of the net."""
    groups = net.layer_groups()
    found = [parameter for group in groups for parameter in group.parameters()]
    assert len(groups) == 2 + len(net.stage_sizes)
    assert [id(parameter) for parameter in found] == [id(parameter) for parameter in net.parameters()]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_sets_only_arguments_with_their_published_values(file: Path) -> None:
    config = OmegaConf.to_container(OmegaConf.load(file))
    signature = inspect.signature(get_class(config.pop("_target_")).__init__).parameters
    assert set(config) <= set(signature)
    required = {"depth", "width", "block", "shortcut", "widen_factor", "stem_norm", "activated"}
    for name, value in config.items():
        assert name in required or value == signature[name].default, f"{name} differs from the class"


@pytest.mark.parametrize("family", TINY)
def test_layer_groups_are_stem_stages_and_head(family: str) -> None:
    torch.manual_seed(0)
    net = TINY[family]().eval()
    stem, *stages, head = net.layer_groups()
    assert stem is net.stem
    images = torch.randn(2, 3, 8, 8)
    out = stem(images)
    for stage in stages:
        out = stage(out)
    norm, classifier = head
    assert classifier is net.classifier
    torch.testing.assert_close(classifier(norm(out).mean((2, 3))), net(images))
    torch.testing.assert_close(classifier(net.features(images)), net(images))


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1)])
def test_every_parameter_learns_at_any_size(family: str, in_channels: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = type(TINY[family]())(10 if family == "wide" else 8, num_classes=5, in_channels=in_channels)
    logits = net(torch.randn(4, in_channels, *size))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("family", TINY)
def test_drop_rates_follow_the_linear_rule(family: str) -> None:
    net = TINY[family](stochastic_depth=0.5)
    assert [block.drop.p for block in net.blocks] == drop_rates(0.5, len(net.blocks))


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("settings", [{"stochastic_depth": 0.7}, {"dropout": 0.7}], ids=str)
def test_what_is_random_in_training_is_off_in_evaluation(family: str, settings: dict) -> None:
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    nets = []
    for given in ({}, settings):
        torch.manual_seed(0)
        nets.append(TINY[family](**given))
    plain, random = nets
    before = torch.get_rng_state()
    plain.train()(images)
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn at zero strength"
    random.train()(images)
    assert not torch.equal(torch.get_rng_state(), before)
    random.load_state_dict(plain.state_dict())
    assert torch.equal(random.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("family", TINY)
def test_an_init_reaches_the_convolutions(family: str) -> None:
    torch.manual_seed(0)
    net = TINY[family](init="orthogonal")
    weight = net.blocks[-1].conv2.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(len(weight)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "layers", "widths", "basic"),
    [
        (partial(PreActResNet, 18, final_norm=True), [2, 2, 2, 2], (64, 128, 256, 512), True),
        (partial(PreActResNet, 50, final_norm=True), [3, 4, 6, 3], (256, 512, 1024, 2048), False),
        (partial(WideResNet, 16, 2, dropout=0.3), [2, 2, 2], (32, 64, 128), True),
    ],
    ids=["preact18", "preact50", "wide"],
)
def test_pre_activation_nets_equal_timm_with_the_same_weights(
    make: Callable[..., ResidualNet], layers: list[int], widths: tuple[int, ...], basic: bool
) -> None:
    resnetv2 = pytest.importorskip("timm.models.resnetv2")
    timm_layers = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    with torch.device("meta"):
        ours = make(num_classes=7, in_channels=3).eval()
    theirs = resnetv2.ResNetV2(
        layers,
        widths,
        num_classes=0,
        stem_chs=ours.stem[0].out_channels,
        basic=basic,
        bottle_ratio=1.0 if basic else 0.25,
        norm_layer=partial(timm_layers.BatchNormAct2d, eps=1e-5),
        conv_layer=partial(timm_layers.create_conv2d, bias=False),
    ).eval()
    theirs.stem = nn.Conv2d(3, theirs.stem.conv.out_channels, 3, padding=1, bias=False)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    load_from_timm(ours, theirs)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = theirs.forward_features(images).mean((2, 3))
        torch.testing.assert_close(ours.features(images), expected, rtol=1e-4, atol=1e-4)


def load_from_timm(ours: ResidualNet, theirs: nn.Module) -> None:
    """Copy weights and statistics; both have the same order, but for the shortcuts."""
    source = theirs.state_dict()
    main = iter([value for name, value in source.items() if "downsample" not in name])
    shortcuts = iter([value for name, value in source.items() if "downsample" in name])
    names = [name for name in ours.state_dict() if not name.startswith("classifier")]
    state = {name: next(shortcuts if "shortcut" in name else main) for name in names}
    assert ours.load_state_dict(state, strict=False, assign=True).missing_keys == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert next(main, None) is next(shortcuts, None) is None


BAD = [
    ({"dropout": 1.0}, r"dropout=1.0: must be in \[0, 1\)"),
    ({"stochastic_depth": -0.5}, r"stochastic_depth=-0.5: must be in \[0, 1\)"),
    ({"init": "he"}, "init=he: must be one of he_fan_out"),
    ({"num_classes": 0}, "num_classes=0: must be at least 1"),
    ({"in_channels": 0}, "in_channels=0: must be at least 1"),
    ({"depth": 9}, "depth=9: must be "),
]


@pytest.mark.parametrize(("family", "depth"), [
    (CifarResNet, 8), (ResNet, 18), (CifarPreActResNet, 8), (PreActResNet, 18), (WideResNet, 10),
])  # fmt: skip
@pytest.mark.parametrize(("settings", "pattern"), BAD, ids=str)
def test_bad_arguments_of_every_family_are_named(
    family: type[ResidualNet], depth: int, settings: dict, pattern: str
) -> None:
    with pytest.raises(ValueError, match=pattern):
        family(**({"depth": depth, "num_classes": 5, "in_channels": 3} | settings))


@pytest.mark.parametrize(
    ("depth", "unit", "fixed", "pattern"),
    [
        (21, 6, 2, r"^depth=21: must be 6n\+2 .* nearest allowed: 20 and 26$"),
        (7, 6, 2, r"^depth=7: .* nearest allowed: 8$"),
        (-4, 6, 2, r"^depth=-4: .* nearest allowed: 8$"),
        (4, 6, 4, r"^depth=4: must be 6n\+4 .* nearest allowed: 10$"),
        (165, 9, 2, r"^depth=165: must be 9n\+2 .* nearest allowed: 164 and 173$"),
    ],
)
def test_a_depth_outside_a_family_is_refused(depth: int, unit: int, fixed: int, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        blocks_of_depth(depth, unit, fixed)

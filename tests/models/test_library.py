"""Networks of torchvision and timm: the libraries' own outputs, fine-tuning, weights from files, refusals."""

from __future__ import annotations

import copy
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from resweep.errors import RequestError
from resweep.models import library, pretrained
from resweep.models.finetune import FineTuned
from resweep.models.library import timm_model, torchvision_model
from resweep.models.pretrained import structure_only

CONF = Path(__file__).parents[2] / "conf" / "model"
TIMM = "test_resnet"  # 0.5M parameters


def sizes(num_classes: int = 7, in_channels: int = 3, side: int = 32) -> dict[str, Any]:
    return {"num_classes": num_classes, "in_channels": in_channels, "image_size": (side, side)}


def drawn(make: Any, *arguments: Any, seed: int = 0, **settings: Any) -> nn.Module:
    torch.manual_seed(seed)
    return make(*arguments, **settings)


def images(channels: int = 3, side: int = 32) -> Tensor:
    return torch.randn(4, channels, side, side, generator=torch.Generator().manual_seed(1))


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_a_drawn_net_is_torchvisions(name: str) -> None:
    ours = drawn(torchvision_model, name, **sizes()).eval()
    theirs = drawn(torchvision.models.get_model, name, num_classes=7).eval()
    assert torch.equal(ours(images()), theirs(images()))
    ids = [id(p) for group in ours.layer_groups() for p in group.parameters()]
    assert sorted(ids) == sorted(id(p) for p in ours.parameters())
    assert len(ours.layer_groups()) >= 5


def test_a_drawn_net_is_timms() -> None:
    timm = pytest.importorskip("timm")
    ours = drawn(timm_model, TIMM, **sizes()).eval()
    theirs = drawn(timm.create_model, TIMM, num_classes=7).eval()
    assert torch.equal(ours(images()), theirs(images()))
    assert [len(list(group.parameters())) > 0 for group in ours.layer_groups()] == [True] * 6


def test_nets_with_auxiliary_heads_give_plain_logits() -> None:
    net = drawn(torchvision_model, "googlenet", **sizes())
    with torch.device("meta"):
        plain = torchvision.models.googlenet(aux_logits=False, init_weights=False, num_classes=7)
    assert [tensor.shape for tensor in net.state_dict().values()] == [t.shape for t in plain.state_dict().values()]
    assert net.train()(images()).shape == (4, 7)


def test_vision_transformers_are_built_for_the_size_of_the_images() -> None:
    pytest.importorskip("timm")
    net = drawn(timm_model, "vit_tiny_patch16_224", **sizes(side=48))
    assert net(images(side=48)).shape == (4, 7)
    assert len(net.layer_groups()) == 14


def step(net: nn.Module, side: int = 32) -> None:
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    net.train()
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(net(images(side=side)), torch.arange(4)).backward()
        optimizer.step()


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_frozen_features_stay_and_the_head_trains(library: str) -> None:
    if library == "timm":
        pytest.importorskip("timm")
    make, name = (torchvision_model, "shufflenet_v2_x0_5") if library == "torchvision" else (timm_model, TIMM)
    net = drawn(make, name, freeze="features", dropout=0.2, **sizes())
    before = copy.deepcopy(net.state_dict())
    step(net)
    moved = changed(before, net.state_dict())
    assert {name.rpartition(".")[0] for name in moved} == {f"net.{head}" for head in net.head_names}


def test_an_integer_freezes_groups_from_the_first() -> None:
    net = drawn(torchvision_model, "resnet18", freeze=3, **sizes())
    before = copy.deepcopy(net.state_dict())
    step(net)
    moved = {name.split(".")[1] for name in changed(before, net.state_dict())}
    assert moved == {"layer3", "layer4", "fc"}


def test_dropout_is_put_or_set_in_front_of_the_head() -> None:
    def rates(name: str, dropout: float | None) -> list[float]:
        net = drawn(torchvision_model, name, dropout=dropout, **sizes())
        return [module.p for module in net.modules() if isinstance(module, nn.Dropout)]

    assert [rates("shufflenet_v2_x0_5", dropout) for dropout in (None, 0.0, 0.3)] == [[], [], [0.3]]
    assert [rates("squeezenet1_1", dropout) for dropout in (None, 0.0, 0.3)] == [[0.5], [0.0], [0.3]]


def test_grey_images_give_what_a_copy_in_three_colours_gives(tmp_path: Path) -> None:
    colour = drawn(torchvision.models.get_model, "squeezenet1_1", num_classes=7)
    torch.save(colour.state_dict(), tmp_path / "net.pth")
    grey = drawn(torchvision_model, "squeezenet1_1", str(tmp_path / "net.pth"), **sizes(in_channels=1), seed=1).eval()
    assert grey.net.features[0].weight.shape == (64, 1, 3, 3)
    torch.testing.assert_close(grey(images(1)), colour.eval()(images(1).expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="in_channels=2: torchvision's networks take 1 or 3"):
        torchvision_model("squeezenet1_1", **sizes(in_channels=2))


@pytest.mark.parametrize("num_classes", [7, 1000])
def test_torchvision_weights_from_a_file(tmp_path: Path, num_classes: int) -> None:
    source = drawn(torchvision.models.get_model, "squeezenet1_1")
    torch.save(source.state_dict(), tmp_path / "net.pth")
    net = drawn(torchvision_model, "squeezenet1_1", str(tmp_path / "net.pth"), **sizes(num_classes), seed=1)
    different = changed(source.state_dict(), net.net.state_dict()) if num_classes == 1000 else {
        name for name, tensor in net.net.state_dict().items()
        if tensor.shape != source.state_dict()[name].shape or not torch.equal(tensor, source.state_dict()[name])
    }  # fmt: skip
    assert different == (set() if num_classes == 1000 else {"classifier.1.weight", "classifier.1.bias"})


def test_older_names_in_published_files_are_understood() -> None:
    with torch.device("meta"):
        names = torchvision.models.get_model("densenet121").state_dict()
    old = {re.sub("(norm|conv)([12])[.]", r"\1.\2.", name): tensor for name, tensor in names.items()}
    assert len(set(old) - set(names)) == 58 * 12
    assert list(pretrained.densenet_names(old)) == list(names)


def test_timm_weights_from_a_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    source = drawn(timm.create_model, TIMM)
    torch.save(source.state_dict(), tmp_path / "net.pth")
    net = drawn(timm_model, TIMM, str(tmp_path / "net.pth"), **sizes(), seed=1)
    mine, theirs = net.net.state_dict(), source.state_dict()
    assert [n for n in mine if mine[n].shape != theirs[n].shape] == ["fc.weight", "fc.bias"]
    assert all(torch.equal(mine[n], theirs[n]) for n in mine if not n.startswith("fc."))
    assert "state_dict" not in net.net.pretrained_cfg

    torch.save({"state_dict": {f"net.{n}": tensor for n, tensor in net.state_dict().items()}}, tmp_path / "run.ckpt")
    again = drawn(timm_model, TIMM, str(tmp_path / "run.ckpt"), freeze="features", **sizes(5, 1), seed=2)
    torch.testing.assert_close(again.net.conv1[0].weight, mine["conv1.0.weight"].sum(1, keepdim=True))
    assert torch.equal(again.net.conv1[3].weight, mine["conv1.3.weight"])

    torch.save({"conv1.0.weight": theirs["conv1.0.weight"]}, tmp_path / "part.pth")
    with pytest.raises(RequestError, match=r"part.pth: does not fit timm's test_resnet: \d+ tensors are missing"):
        timm_model(TIMM, str(tmp_path / "part.pth"), **sizes())


def test_a_file_of_another_net_is_refused(tmp_path: Path) -> None:
    torch.save(drawn(torchvision.models.get_model, "squeezenet1_0").state_dict(), tmp_path / "net.pth")
    with pytest.raises(RequestError, match=r"net.pth: does not fit torchvision's squeezenet1_1: \d+ of 52 tensors"):
        torchvision_model("squeezenet1_1", str(tmp_path / "net.pth"), **sizes())


def refuse(*arguments: Any, **settings: Any) -> None:
    raise OSError(101, "Network is unreachable")


def test_weights_that_cannot_be_fetched_are_refused_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", refuse)
    start = time.monotonic()
    with pytest.raises(RequestError) as caught:
        torchvision_model("squeezenet1_1", "DEFAULT", **sizes())
    text = str(caught.value)
    assert text.startswith("model.weights=DEFAULT: the weights DEFAULT of torchvision's squeezenet1_1 are not on this")
    assert "(cannot reach download.pytorch.org: Network is unreachable)" in text
    assert f"put https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth into the folder {tmp_path}/ch" in text
    if pytest.importorskip("timm"):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(
            RequestError, match=r"model.pretrained=true: .*cannot reach huggingface.co.*hf download timm/"
        ):
            timm_model(TIMM, True, **sizes())
    assert time.monotonic() - start < 10
    assert list(tmp_path.iterdir()) == []


def test_only_the_structure_is_built_for_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", refuse)
    with structure_only():
        net = torchvision_model("squeezenet1_1", "DEFAULT", **sizes())
    assert isinstance(net, FineTuned)


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"name": "rsnet18"}, "model.name=rsnet18: torchvision has no such .* did you mean  resnet18"),
        ({"weights": "DEFALT"}, "model.weights=DEFALT: squeezenet1_1 has the weights IMAGENET1K_V1, DEFAULT"),
        ({"weights": "none.pth"}, "model.weights=none.pth: there is no such file"),
        ({"name": "fcn_resnet50"}, "model.name=fcn_resnet50: torchvision has no such classification network"),
    ],
)
def test_wrong_requests_of_torchvision_are_named(arguments: dict, pattern: str) -> None:
    with pytest.raises(RequestError, match=pattern):
        torchvision_model(**({"name": "squeezenet1_1"} | arguments), **sizes())


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"image_size": (16, 20)}, "^image_size=16x20: squeezenet1_1 needs at least 17x17; set data.image_size=17"),
        ({"freeze": "feature"}, "^freeze=feature: must be none, features or a number of layer groups from 0 to 9"),
        ({"dropout": 1.5}, r"^dropout=1.5: must be in \[0, 1\)"),
        ({"arguments": {"foo": 1}}, "^name=squeezenet1_1: cannot be built .* unexpected keyword argument 'foo'"),
        (
            {"name": "vit_b_32", "image_size": (40, 64)},
            "^image_size=40x64: vit_b_32 needs a multiple of 32x32; set data.image_size=64",
        ),
        ({"name": "inception_v3", "weights": "DEFAULT", "in_channels": 1}, "^in_channels=1: .* set data.channels=3"),
    ],
)  # fmt: skip
def test_bad_values_of_torchvision_are_named(arguments: dict, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        torchvision_model(**({"name": "squeezenet1_1"} | sizes() | arguments))


@pytest.mark.parametrize(
    ("name", "pretrained", "pattern"),
    [
        ("rsnet18", False, "model.name=rsnet18: timm has no such network; .* did you mean  resnet18"),
        ("resnet18.a1_in1", False, "timm has no weights a1_in1 of resnet18; .* did you mean  resnet18.a1_in1k"),
        ("mixer_s16_224", True, "model.pretrained=true: timm has no weights of mixer_s16_224"),
        (TIMM, "none.pth", "model.pretrained=none.pth: there is no such file"),
    ],
)
def test_wrong_requests_of_timm_are_named(name: str, pretrained: bool | str, pattern: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(RequestError, match=pattern):
        timm_model(name, pretrained, **sizes(side=224 if "224" in name else 32))


def test_a_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError, match=r'model=timm: needs the package timm .*; pip install "resweep\[timm\]"'):
        timm_model(TIMM, **sizes())


def test_timm_is_imported_only_when_it_is_used() -> None:
    assert not {"timm", "huggingface_hub"} & (set(vars(library)) | set(vars(pretrained)))


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_the_configs_build_a_resnet18(name: str) -> None:
    if name == "timm":
        pytest.importorskip("timm")
    net = instantiate(OmegaConf.load(CONF / f"{name}.yaml"), **sizes(1000))
    assert sum(p.numel() for p in net.parameters()) == 11_689_512

"""Which parameters weight decay acts on, and which learning rate each layer has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from resweep.models.resnet import CifarResNet
from resweep.optim.param_groups import layers_of, param_groups


def names_of(net: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    identities = {id(parameter) for parameter in parameters}
    return {name for name, parameter in net.named_parameters() if id(parameter) in identities}


def small_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("no_decay", "exempt"),
    [
        (["bias"], {"0.bias", "1.bias", "2.bias", "3.bias", "4.bias"}),
        (["norm"], {"1.weight", "1.bias", "2.weight", "2.bias", "3.weight", "3.bias"}),
        (["norm", "bias"], {"0.bias", "1.weight", "1.bias", "2.weight", "2.bias", "3.weight", "3.bias", "4.bias"}),
    ],
)
def test_two_groups_by_name(no_decay: list[str], exempt: set[str]) -> None:
    net = small_net()
    decayed, rest = param_groups(net, 0.1, no_decay)
    everything = {f"{layer}.{kind}" for layer in range(5) for kind in ("weight", "bias")}
    assert names_of(net, rest["params"]) == exempt
    assert names_of(net, decayed["params"]) == everything - exempt
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)


def test_without_exemptions_there_is_one_group_in_order() -> None:
    net = small_net()
    (group,) = param_groups(net, 0.1, [])
    assert group["weight_decay"] == 0.1
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in net.parameters()]


@pytest.mark.parametrize("no_decay", [[], ["bias"], ["norm"], ["bias", "norm"]])
def test_every_trainable_parameter_is_in_exactly_one_group(no_decay: list[str]) -> None:
    net = CifarResNet(8, 4, "projection", num_classes=10, in_channels=3)
    net.stem.requires_grad_(False)
    found = [id(parameter) for group in param_groups(net, 0.1, no_decay) for parameter in group["params"]]
    wanted = [id(parameter) for name, parameter in net.named_parameters() if not name.startswith("stem.")]
    assert sorted(found) == sorted(wanted)


def test_counts_of_resnet20() -> None:
    """19 convolutions and one linear layer; 19 normalizations of two parameters; one bias of the classifier."""
    net = CifarResNet(20, num_classes=10, in_channels=3)
    decayed, rest = param_groups(net, 0.1, ["bias", "norm"])
    assert (len(decayed["params"]), len(rest["params"])) == (20, 39)


class Tied(nn.Module):
    """A linear layer whose bias is also the weight of a normalization, and one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.other = nn.Linear(3, 3, bias=False)
        self.other.weight = self.first.weight
        self.norm = nn.LayerNorm(3)
        self.norm.weight = self.first.bias


def test_a_shared_parameter_counts_once_and_one_exempt_place_is_enough() -> None:
    net = Tied()
    decayed, rest = param_groups(net, 0.1, ["norm"])
    assert [id(parameter) for parameter in decayed["params"]] == [id(net.first.weight)]
    assert {id(parameter) for parameter in rest["params"]} == {id(net.first.bias), id(net.norm.bias)}
    assert len(rest["params"]) == 2


def test_a_bias_is_found_under_its_second_name() -> None:
    net = nn.ModuleDict({"norm": nn.LayerNorm(3), "linear": nn.Linear(3, 3)})
    net["linear"].bias = net["norm"].weight
    _, rest = param_groups(net, 0.1, ["bias"])
    assert names_of(net, rest["params"]) == {"norm.weight", "norm.bias"}


def test_biases_of_recurrent_and_attention_layers() -> None:
    net = nn.ModuleDict({"rnn": nn.LSTM(2, 3), "attention": nn.MultiheadAttention(4, 2)})
    _, rest = param_groups(net, 0.1, ["bias"])
    expected = {"rnn.bias_ih_l0", "rnn.bias_hh_l0", "attention.in_proj_bias", "attention.out_proj.bias"}
    assert names_of(net, rest["params"]) == expected


@pytest.mark.parametrize(
    ("no_decay", "pattern"),
    [
        (["bais"], "no_decay=bais: must be any of bias, norm; did you mean bias"),
        (["bias", "norms"], "no_decay=norms: .* did you mean norm"),
        (["xyz"], "no_decay=xyz: must be any of bias, norm$"),
        ("bias", r"no_decay=bias: must be a list, for instance \[bias\]"),
    ],
)
def test_unknown_exemptions_are_refused(no_decay: list[str], pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        param_groups(small_net(), 0.1, no_decay)


@pytest.mark.parametrize("weight_decay", [-1e-4, float("nan")])
def test_a_negative_weight_decay_is_refused(weight_decay: float) -> None:
    with pytest.raises(ValueError, match=f"weight_decay={weight_decay}: must be at least 0"):
        param_groups(small_net(), weight_decay, [])


def test_a_net_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no trainable parameter"):
        param_groups(small_net().requires_grad_(False), 0.1, [])


class Layered(nn.Module):
    """A net with a method for its layers, a token of its own, a frozen layer, and a weight shared by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.token = nn.Parameter(torch.zeros(4))
        self.stem = nn.Conv2d(1, 4, 3)
        self.act = nn.ReLU()
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.again = nn.Linear(4, 4)
        self.again.weight = self.body[0].weight

    def layer_groups(self) -> list[nn.Module]:
        return [self.stem, self.act, self.frozen, self.body, self.again, self.head]


def rates_of(net: nn.Module, groups: list[dict[str, Any]]) -> dict[str, float]:
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    return {name: rates[id(parameter)] for name, parameter in net.named_parameters() if id(parameter) in rates}


def test_layers_by_method_count_from_the_head_with_frozen_ones_and_without_empty_ones() -> None:
    net = Layered()
    groups = param_groups(net, 0.1, ["bias", "norm"], lr=0.8, layer_decay=0.5)
    assert rates_of(net, groups) == {
        "token": 0.05, "stem.weight": 0.05, "stem.bias": 0.05,
        "body.0.weight": 0.2, "body.0.bias": 0.2, "body.1.weight": 0.2, "body.1.bias": 0.2,
        "again.bias": 0.4, "head.weight": 0.8, "head.bias": 0.8,
    }  # fmt: skip
    exempt = {id(parameter) for group in groups if group["weight_decay"] == 0 for parameter in group["params"]}
    assert names_of(net, [p for p in net.parameters() if id(p) in exempt]) == {
        "stem.bias", "body.0.bias", "body.1.weight", "body.1.bias", "again.bias", "head.bias"
    }  # fmt: skip


def test_layers_are_children_where_the_net_does_not_say() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 2))
    assert [len(layer) for layer in layers_of(net)] == [2, 4, 2]
    rates = rates_of(net, param_groups(net, 0.0, [], lr=1.0, layer_decay=0.1))
    assert rates == pytest.approx({
        "0.weight": 0.01, "0.bias": 0.01, "2.0.weight": 0.1, "2.0.bias": 0.1, "2.1.weight": 0.1, "2.1.bias": 0.1,
        "3.weight": 1.0, "3.bias": 1.0,
    })  # fmt: skip


def test_a_net_that_is_one_layer_has_the_full_rate() -> None:
    (group,) = param_groups(nn.Linear(3, 2), 0.1, [], lr=0.3, layer_decay=0.5)
    assert (len(group["params"]), group["lr"]) == (2, 0.3)


NETS = [small_net, Layered, Tied, lambda: CifarResNet(8, 4, "projection", num_classes=10, in_channels=3)]


@pytest.mark.parametrize("make", NETS)
@pytest.mark.parametrize("no_decay", [[], ["bias"], ["norm"], ["bias", "norm"]])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_groups_hold_every_trainable_parameter_once_and_the_same_ones_exempt(
    make: Callable[[], nn.Module], no_decay: list[str], layer_decay: float
) -> None:
    net = make()
    groups = param_groups(net, 0.1, no_decay, lr=0.5, layer_decay=layer_decay)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in net.parameters() if parameter.requires_grad)
    plain = param_groups(net, 0.1, no_decay)
    for decay in (0.1, 0.0):
        chosen = [{id(p) for g in gs if g["weight_decay"] == decay for p in g["params"]} for gs in (groups, plain)]
        assert chosen[0] == chosen[1]
    if layer_decay == 1.0:
        assert all(set(group) == {"params", "weight_decay"} for group in groups)
    else:
        assert all(group["params"] and 0 < group["lr"] <= 0.5 for group in groups)
        assert [group["lr"] for group in groups] == sorted(group["lr"] for group in groups)
        assert groups[-1]["lr"] == 0.5


def test_freezing_leaves_the_rates_of_the_other_layers() -> None:
    net = small_net()
    before = rates_of(net, param_groups(net, 0.1, [], lr=1.0, layer_decay=0.5))
    net[1].requires_grad_(False)
    after = rates_of(net, param_groups(net, 0.1, [], lr=1.0, layer_decay=0.5))
    assert after == {name: rate for name, rate in before.items() if not name.startswith("1.")}


@pytest.mark.parametrize("layer_decay", [0.0, -0.5, 1.01, float("nan")])
def test_a_layer_decay_outside_its_range_is_refused(layer_decay: float) -> None:
    with pytest.raises(ValueError, match=f"layer_decay={layer_decay}: must be above 0 and at most 1"):
        param_groups(small_net(), 0.1, [], lr=0.1, layer_decay=layer_decay)


def test_a_layer_decay_needs_the_learning_rate() -> None:
    with pytest.raises(ValueError, match=r"layer_decay=0.5: needs the learning rate"):
        param_groups(small_net(), 0.1, [], layer_decay=0.5)

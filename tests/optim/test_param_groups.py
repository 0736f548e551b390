"""Which parameters weight decay acts on."""

from __future__ import annotations

import pytest
from torch import nn

from resweep.models.resnet import CifarResNet
from resweep.optim.param_groups import param_groups


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

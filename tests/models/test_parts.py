"""Initialization, drop rates and checks of arguments against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from resweep.models.parts import (
    INITS,
    check_choice,
    check_positive,
    check_probability,
    drop_rates,
    initialize,
)

IN, OUT, KERNEL, GROUPS = 32, 48, 3, 2
FAN_IN, FAN_OUT = KERNEL**2 * IN // GROUPS, KERNEL**2 * OUT


def drawn(init: str, module: nn.Module, **settings: bool) -> nn.Module:
    """The module with its weights drawn from a fixed seed."""
    torch.manual_seed(0)
    initialize(module, init, **settings)
    return module


def convolution(groups: int = GROUPS) -> nn.Conv2d:
    return nn.Conv2d(IN, OUT, KERNEL, groups=groups)


def assert_deviation(weight: Tensor, expected: float) -> None:
    """The spread is the expected one and the mean zero, both within four standard errors."""
    count = weight.numel()
    assert weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * count))
    assert abs(weight.mean().item()) < 4 * expected / math.sqrt(count)


@pytest.mark.parametrize(("init", "fan"), [("he_fan_in", FAN_IN), ("he_fan_out", FAN_OUT)])
def test_he_is_normal_with_variance_two_over_fan(init: str, fan: int) -> None:
    # torch counts the output channels of all groups, which is the published fan for one group.
    weight = drawn(init, convolution()).weight
    assert_deviation(weight, math.sqrt(2 / fan))
    within_one = (weight.abs() < math.sqrt(2 / fan)).float().mean().item()
    assert within_one == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.02)


def test_glorot_is_uniform_within_its_bound() -> None:
    weight = drawn("glorot", convolution(groups=1)).weight
    bound = math.sqrt(6 / (KERNEL**2 * (IN + OUT)))
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-2)
    assert weight.abs().max().item() <= bound
    assert_deviation(weight, bound / math.sqrt(3))
    assert (weight.abs() < bound / 2).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("rows", "columns"), [(48, 32), (16, 32)])
def test_orthogonal_has_orthogonal_rows_or_columns_of_squared_length_two(rows: int, columns: int) -> None:
    matrix = drawn("orthogonal", nn.Conv2d(columns // 4, rows, 2)).weight.flatten(1).double()
    assert matrix.shape == (rows, columns)
    gram = matrix @ matrix.T if rows < columns else matrix.T @ matrix
    torch.testing.assert_close(gram, 2 * torch.eye(min(rows, columns), dtype=torch.double), atol=1e-5, rtol=0)


@pytest.mark.parametrize("init", INITS)
def test_which_layers_are_drawn(init: str) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(convolution(), nn.BatchNorm2d(OUT), nn.Flatten(), nn.Linear(OUT, 7))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    drawn(init, net)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == (set() if init == "torch" else {"0.weight", "0.bias"})
    drawn(init, net, linear=True)
    if init != "torch":
        assert not torch.equal(net[3].weight, before["3.weight"])
        assert not net[0].bias.any()
        assert not net[3].bias.any()


def test_the_same_seed_draws_the_same_weights() -> None:
    first, second = drawn("orthogonal", convolution()), drawn("orthogonal", convolution())
    assert torch.equal(first.weight, second.weight)


def test_an_unknown_init_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"init=he_fanout: must be one of he_fan_out, .*; did you mean he_fan_out\?"):
        initialize(convolution(), "he_fanout")


def test_drop_rates_grow_linearly_to_the_last_block() -> None:
    assert drop_rates(0.0, 3) == [0.0, 0.0, 0.0]
    assert drop_rates(0.5, 54)[-1] == 0.5
    # Huang et al. 2016, section 3: with p_L = 0.5 the expected number of remaining blocks of L is (3L - 1) / 4.
    assert sum(1 - rate for rate in drop_rates(0.5, 54)) == pytest.approx((3 * 54 - 1) / 4)
    with pytest.raises(ValueError, match=r"stochastic_depth=1: must be in \[0, 1\)"):
        drop_rates(1, 3)


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_below_one_is_refused(value: int) -> None:
    check_positive(width=1, depth=10**6)
    with pytest.raises(ValueError, match=f"width={value}: must be at least 1"):
        check_positive(depth=1, width=value)


@pytest.mark.parametrize("value", [1.5, True, "3", None])
def test_a_count_that_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=f"width={value}: must be a whole number, at least 1"):
        check_positive(width=value)


@pytest.mark.parametrize("value", [1, 1.0, -0.1, math.nan, math.inf, "0.5", None, False])
def test_a_probability_outside_its_range_is_refused(value: object) -> None:
    check_probability(dropout=0, p=0.999)
    with pytest.raises(ValueError, match=rf"dropout={value}: must be in \[0, 1\)"):
        check_probability(dropout=value)


def test_an_unknown_word_is_refused() -> None:
    check_choice("stem", "cifar", ("cifar", "imagenet"))
    with pytest.raises(ValueError, match=r"^stem=zzz: must be one of cifar, imagenet$"):
        check_choice("stem", "zzz", ("cifar", "imagenet"))

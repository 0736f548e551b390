"""Max-norm: no unit's incoming weights are longer than the limit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resweep.optim.max_norm import project_max_norm_


def net_of() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(1, 3, 2), nn.Conv2d(2, 6, 3, groups=2), nn.Conv3d(1, 2, 2), nn.BatchNorm2d(6), nn.Linear(5, 4)
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=1.5)
    return net


def test_every_filter_equals_the_scaled_one_or_keeps_its_bits() -> None:
    net, before = net_of(), net_of()
    project_max_norm_(net, 2.0)
    scaled = kept = 0
    for (name, parameter), old in zip(net.named_parameters(), before.parameters(), strict=True):
        if name.endswith("bias") or name.startswith("3."):
            assert torch.equal(parameter, old)
            continue
        for unit, was in zip(parameter.detach(), old.detach(), strict=True):
            norm = was.norm()
            if norm > 2.0:
                torch.testing.assert_close(unit, was / norm * 2.0)
                scaled += 1
            else:
                assert torch.equal(unit, was)
                kept += 1
    assert scaled >= 3 and kept >= 3


def test_it_is_the_renorm_of_torch() -> None:
    net, other = nn.Conv2d(3, 16, 3), nn.Conv2d(3, 16, 3)
    other.load_state_dict(net.state_dict())
    project_max_norm_(net, 0.5)
    torch.testing.assert_close(net.weight.detach(), other.weight.detach().renorm(2, 0, 0.5))


def test_twice_is_as_good_as_once_and_zeros_stay() -> None:
    net = net_of()
    net[4].weight.data[1] = 0.0
    project_max_norm_(net, 1.0)
    once = [parameter.detach().clone() for parameter in net.parameters()]
    project_max_norm_(net, 1.0)
    for parameter, before in zip(net.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.detach(), before, rtol=1e-6, atol=0)
    assert torch.equal(net[4].weight[1], torch.zeros(5))


def test_frozen_weights_are_left_alone() -> None:
    net = nn.Linear(9, 2).requires_grad_(False)
    before = net.weight.clone()
    project_max_norm_(net, 1e-3)
    assert torch.equal(net.weight, before)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_not_above_zero_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match=f"max_norm={limit}: must be above 0"):
        project_max_norm_(nn.Linear(1, 1), limit)

"""Sharpness-aware minimization against pytorch_optimizer, and the weights it leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resweep.optim.sam import ascended, statistics_kept


def net_of(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def loss_of(net: nn.Module) -> Tensor:
    images = torch.linspace(-1, 1, 40).view(10, 4)
    return nn.functional.cross_entropy(net(images), torch.arange(10) % 3)


def closure_of(net: nn.Module) -> Tensor:
    net.zero_grad()
    loss = loss_of(net)
    loss.backward()
    return loss


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("rho", [0.05, 2.0])
def test_ten_steps_equal_pytorch_optimizer(rho: float, adaptive: bool) -> None:
    their_sam = pytest.importorskip("pytorch_optimizer").SAM
    ours, theirs = net_of(), net_of()
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    optimizer = torch.optim.SGD(ours.parameters(), **settings)
    reference = their_sam(theirs.parameters(), torch.optim.SGD, rho=rho, adaptive=adaptive, **settings)
    for _ in range(10):
        closure_of(ours)
        with ascended(ours.parameters(), rho, adaptive):
            closure_of(ours)
        optimizer.step()
        closure_of(theirs)
        reference.step(lambda: closure_of(theirs))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_the_way_is_the_gradient_scaled_to_the_radius() -> None:
    net = net_of()
    closure_of(net)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    gradient = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
    with ascended(net.parameters(), 0.1):
        moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(net.parameters(), before, strict=True)])
    torch.testing.assert_close(moved, 0.1 * gradient / gradient.norm(), rtol=0, atol=1e-6)
    assert float(moved.norm()) == pytest.approx(0.1, abs=1e-6)


def test_the_loss_at_the_worse_place_is_larger_by_the_radius_times_the_norm() -> None:
    net = net_of()
    here = float(closure_of(net).detach())
    norm = float(torch.cat([parameter.grad.flatten() for parameter in net.parameters()]).norm())
    with ascended(net.parameters(), 1e-2):
        there = float(loss_of(net).detach())
    assert there - here == pytest.approx(1e-2 * norm, rel=0.05)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_weights_have_their_bits_again_also_after_an_error(adaptive: bool) -> None:
    net = net_of()
    closure_of(net)
    bits = [parameter.detach().numpy().view(np.int32).copy() for parameter in net.parameters()]
    with pytest.raises(RuntimeError, match="planted"), ascended(net.parameters(), 1e3, adaptive):
        assert any(
            not np.array_equal(p.detach().numpy().view(np.int32), b)
            for p, b in zip(net.parameters(), bits, strict=True)
        )
        raise RuntimeError("planted")
    for parameter, before in zip(net.parameters(), bits, strict=True):
        np.testing.assert_array_equal(parameter.detach().numpy().view(np.int32), before)


def test_parameters_without_a_gradient_stay_and_zero_gradients_and_radii_move_nothing() -> None:
    net = net_of()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    with ascended(net.parameters(), 1.0):
        assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))
    net[0].weight.grad = torch.zeros_like(net[0].weight)
    with ascended(net.parameters(), 1.0):
        assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))
    closure_of(net)
    with ascended(net.parameters(), 0.0):
        assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


def test_a_negative_radius_is_refused() -> None:
    with pytest.raises(ValueError, match="rho=-1: must be at least 0"), ascended([], -1):
        pass


def test_running_statistics_are_kept_while_the_batch_is_normalized() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))
    images = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    net(images)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    identities = [id(buffer) for buffer in net.buffers()]
    with statistics_kept(net):
        inside = net(images)
        assert not torch.equal(net[1].running_mean, before["1.running_mean"])
    assert torch.equal(inside, net(images))
    with statistics_kept(net):
        pass
    assert identities == [id(buffer) for buffer in net.buffers()]
    assert int(net[1].num_batches_tracked) == 2

"""Lookahead against pytorch_optimizer; the exponential moving average against its formula."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resweep.optim.averaging import Lookahead, moving_average


def net_of(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))


def descend(net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    images = torch.randn(10, 4, generator=torch.Generator().manual_seed(step))
    nn.functional.cross_entropy(net(images), torch.arange(10) % 3).backward()
    optimizer.step()


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize(("steps", "alpha"), [(1, 0.5), (3, 0.8), (5, 0.5)])
def test_ten_steps_of_lookahead_equal_pytorch_optimizer(kind: str, steps: int, alpha: float) -> None:
    nets = net_of(), net_of()
    ours, theirs = (
        SGD(net.parameters(), lr=0.1, momentum=0.9) if kind == "sgd" else Adam(net.parameters(), lr=0.01)
        for net in nets
    )
    lookahead = Lookahead(nets[0].parameters(), steps, alpha)
    wrapped = pytest.importorskip("pytorch_optimizer").Lookahead(theirs, k=steps, alpha=alpha)
    for step in range(10):
        descend(nets[0], ours, step)
        lookahead.update(nets[0].parameters())
        descend(nets[1], wrapped, step)
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    wrapped.backup_and_load_cache()
    for one, other in zip(lookahead.slow(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=1e-6)


def test_a_share_of_one_leaves_the_optimizer_alone() -> None:
    nets = net_of(), net_of()
    lookahead = Lookahead(nets[0].parameters(), 2, 1.0)
    for net in nets:
        optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
        for step in range(4):
            descend(net, optimizer, step)
            if net is nets[0]:
                lookahead.update(net.parameters())
    assert same(*nets)


def test_a_saved_lookahead_continues_with_the_same_bits(tmp_path: Path) -> None:
    whole = net_of()
    optimizer, lookahead = SGD(whole.parameters(), lr=0.1), Lookahead(whole.parameters(), 3, 0.5)
    for step in range(10):
        descend(whole, optimizer, step)
        lookahead.update(whole.parameters())
        if step == 4:
            torch.save([whole.state_dict(), lookahead.state_dict()], tmp_path / "state.pt")
    other = net_of(1)
    continued = Lookahead(other.parameters(), 3, 0.5)
    for module, state in zip((other, continued), torch.load(tmp_path / "state.pt", weights_only=True), strict=True):
        module.load_state_dict(state)
    optimizer = SGD(other.parameters(), lr=0.1)
    for step in range(5, 10):
        descend(other, optimizer, step)
        continued.update(other.parameters())
    assert same(other, whole) and same(continued, lookahead)


def test_slow_weights_take_the_place_of_the_others_for_a_while() -> None:
    net = net_of()
    start = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer, lookahead = SGD(net.parameters(), lr=0.1), Lookahead(net.parameters(), 5, 0.5)
    descend(net, optimizer, 0)
    lookahead.update(net.parameters())
    fast = [parameter.detach().clone() for parameter in net.parameters()]
    with lookahead.slow_weights(net.parameters()):
        assert all(torch.equal(p, s) for p, s in zip(net.parameters(), start, strict=True))
    assert all(torch.equal(p, f) for p, f in zip(net.parameters(), fast, strict=True))


@pytest.mark.parametrize(
    ("steps", "alpha", "pattern"),
    [
        (0, 0.5, "lookahead_steps=0: must be at least 1"),
        (5, 0.0, "lookahead_alpha=0.0: must be above 0 and at most 1"),
        (5, 1.5, "lookahead_alpha=1.5"),
    ],
)
def test_bad_lookaheads_are_refused(steps: int, alpha: float, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        Lookahead([nn.Parameter(torch.zeros(1))], steps, alpha)


def constant(value: float) -> nn.Module:
    """A net of which every weight and running statistic is one number."""
    net = nn.BatchNorm1d(2)
    for tensor in (*net.parameters(), net.running_mean, net.running_var):
        tensor.detach().fill_(value)
    net.num_batches_tracked.fill_(int(value))
    return net


def test_the_average_follows_its_formula_and_counts_are_copied() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    average = moving_average(constant(100.0), 0.3)
    expected = values[0]
    for step, value in enumerate(values):
        average.update_parameters(constant(value))
        decay = min(0.3, (1 + step) / (10 + step)) if step > 0 else 0.0
        expected = decay * expected + (1 - decay) * value
        for tensor in (
            average.module.weight,
            average.module.bias,
            average.module.running_mean,
            average.module.running_var,
        ):
            torch.testing.assert_close(tensor.detach(), torch.full((2,), expected))
        assert int(average.module.num_batches_tracked) == int(value)


def test_after_many_steps_it_is_the_average_of_torch() -> None:
    """Both forget their beginning; decay 0.9 is reached at step 80."""
    ours, theirs = (
        moving_average(constant(0.0), 0.9),
        AveragedModel(constant(0.0), multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    )
    for step in range(300):
        net = constant(float(step % 7))
        ours.update_parameters(net)
        theirs.update_parameters(net)
    torch.testing.assert_close(ours.module.weight, theirs.module.weight.detach(), rtol=0, atol=1e-6)


def test_a_short_training_is_not_judged_by_its_beginning() -> None:
    average = moving_average(constant(100.0), 0.9999)
    for _ in range(20):
        average.update_parameters(constant(1.0))
    assert float(average.module.weight[0]) == 1.0


def test_the_average_needs_no_gradients_and_keeps_the_order_of_kernels() -> None:
    net = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    average = moving_average(net, 0.99)
    average.update_parameters(net)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert average.module.weight.is_contiguous(memory_format=torch.channels_last)
    assert average.module.weight.data_ptr() != net.weight.data_ptr()


def test_a_saved_average_continues_with_the_same_bits() -> None:
    net = net_of()
    optimizer, average = SGD(net.parameters(), lr=0.1), moving_average(net, 0.9)
    copy = moving_average(net_of(1), 0.9)
    for step in range(10):
        descend(net, optimizer, step)
        average.update_parameters(net)
        if step == 4:
            copy.load_state_dict(average.state_dict())
        elif step > 4:
            copy.update_parameters(net)
    assert same(copy, average)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_bad_decays_are_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"ema_decay={decay}: must be above 0 and below 1"):
        moving_average(nn.Linear(1, 1), decay)

"""L-BFGS with weight decay against closed forms and SciPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from resweep.optim.lbfgs import LBFGS
from resweep.optim.param_groups import param_groups


def data() -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(0)
    images = torch.tensor(random.standard_normal((40, 5)))
    return images, torch.tensor(random.integers(0, 3, 40))


def closure_of(net: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        net.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


@pytest.mark.parametrize("no_decay", [[], ["bias"]])
def test_logistic_regression_with_weight_decay_equals_scipy(no_decay: list[str]) -> None:
    images, labels = data()
    torch.manual_seed(0)
    net = nn.Linear(5, 3).double()
    optimizer = LBFGS(param_groups(net, 0.05, no_decay), tolerance_change=1e-15, tolerance_grad=1e-10)
    for _ in range(5):
        optimizer.step(closure_of(net, lambda: F.cross_entropy(net(images), labels)))

    def penalized(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = torch.tensor(flat[:15].reshape(3, 5), requires_grad=True)
        bias = torch.tensor(flat[15:], requires_grad=True)
        loss = F.cross_entropy(images @ weight.T + bias, labels) + 0.025 * weight.square().sum()
        if not no_decay:
            loss = loss + 0.025 * bias.square().sum()
        loss.backward()
        return loss.item(), np.concatenate([weight.grad.numpy().ravel(), bias.grad.numpy()])

    theirs = minimize(penalized, np.zeros(18), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    weight, bias = net.weight.detach().numpy().ravel(), net.bias.detach().numpy()
    np.testing.assert_allclose(weight, theirs.x[:15], rtol=0, atol=1e-6)
    expected = theirs.x[15:]  # without weight decay only their differences matter
    np.testing.assert_allclose(bias - bias.mean(), expected - expected.mean(), rtol=0, atol=1e-6)
    last = optimizer.step(closure_of(net, lambda: F.cross_entropy(net(images), labels)))
    assert float(last) == pytest.approx(theirs.fun, abs=1e-12)


def test_ridge_regression_has_a_closed_form() -> None:
    """(X^T X + decay I) w = X^T y, for the loss ||X w - y||^2 / 2."""
    images, _ = data()
    targets = images.sum(1, keepdim=True) + 1
    net = nn.Linear(5, 1, bias=False).double()
    optimizer = LBFGS(param_groups(net, 2.0, []), tolerance_change=1e-15)
    for _ in range(3):
        optimizer.step(closure_of(net, lambda: (net(images) - targets).square().sum() / 2))
    expected = torch.linalg.solve(images.T @ images + 2.0 * torch.eye(5, dtype=torch.float64), images.T @ targets)
    torch.testing.assert_close(net.weight.detach().T, expected, rtol=0, atol=1e-8)


def test_without_weight_decay_it_is_that_of_torch() -> None:
    images, labels = data()
    found = []
    for ours in (True, False):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        settings = {"history_size": 10, "line_search_fn": "strong_wolfe"}
        groups = param_groups(net, 0.0, ["bias"])
        optimizer = LBFGS(groups) if ours else torch.optim.LBFGS(net.parameters(), **settings)
        for _ in range(2):
            optimizer.step(closure_of(net, lambda net=net: F.cross_entropy(net(images), labels)))
        found.append({name: parameter.detach() for name, parameter in net.named_parameters()})
    for name, value in found[0].items():  # the groups change the order in which scalar products are summed up
        torch.testing.assert_close(value, found[1][name], rtol=0, atol=1e-6)


def test_parameters_without_a_gradient_decay_all_the_same() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))

    def closure() -> Tensor:
        used.grad = unused.grad = None
        loss = (used - 3).square().sum()
        loss.backward()
        return loss

    LBFGS([{"params": [used], "weight_decay": 0.0}, {"params": [unused], "weight_decay": 1.0}]).step(closure)
    torch.testing.assert_close(used.detach(), torch.full((2,), 3.0))
    torch.testing.assert_close(unused.detach(), torch.zeros(2))


def test_the_loss_of_a_step_does_not_grow() -> None:
    images, labels = data()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    optimizer = LBFGS(param_groups(net, 1e-3, []))
    losses = [float(optimizer.step(closure_of(net, lambda: F.cross_entropy(net(images), labels)))) for _ in range(3)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]


def test_a_learning_rate_of_zero_leaves_the_parameters_and_gives_the_loss() -> None:
    net = nn.Linear(2, 1, bias=False)
    before = net.weight.detach().clone()
    optimizer = LBFGS(net.parameters(), lr=0.0, weight_decay=2.0)
    loss = optimizer.step(closure_of(net, lambda: net.weight.sum()))
    assert torch.equal(net.weight, before)
    torch.testing.assert_close(loss, before.sum() + before.square().sum())


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"line_search_fn": "wolfe"}, "line_search_fn=wolfe: must be strong_wolfe or null"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0: must be at least 0"),
    ],
)
def test_bad_values_are_refused(options: dict[str, object], pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        LBFGS(nn.Linear(2, 1).parameters(), **options)


def test_groups_with_rates_of_their_own_are_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with pytest.raises(ValueError, match=r"lr=0.5, 1: .* set optimizer.layer_decay=1.0"):
        LBFGS(param_groups(net, 0.0, [], lr=1.0, layer_decay=0.5))

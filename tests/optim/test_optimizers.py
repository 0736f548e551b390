"""Every optimizer of conf/optimizer against rules in float64: two groups, weight decay, momentum, a schedule."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import update_rules as rules
from hydra.utils import get_class, get_object
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer

from resweep.optim.param_groups import param_groups
from resweep.optim.schedules import cosine, onecycle

FILES = sorted((Path(__file__).parents[2] / "conf" / "optimizer").glob("*.yaml"))
BY_NAME = {file.stem: file for file in FILES}
STEPS = 10
HIDDEN = "1.weight"  # of the net below
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


class Problem(nn.Sequential):
    """Three linear layers, whose parameters x each have the loss ||A x - B||^2 / 2; nothing else about them matters."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 3), nn.Linear(3, 4, bias=False), nn.Linear(4, 3))
        self.double()
        random = np.random.default_rng(0)
        self.targets = {}
        for name, parameter in self.named_parameters():
            rows = len(parameter)
            slope = np.eye(rows) + 0.3 * random.standard_normal((rows, rows))
            self.targets[name] = (slope, random.standard_normal(tuple(parameter.shape)))
            parameter.data = torch.tensor(random.standard_normal(tuple(parameter.shape)))

    def values(self) -> dict[str, np.ndarray]:
        return {name: parameter.detach().numpy().copy() for name, parameter in self.named_parameters()}

    def gradient(self, name: str) -> rules.Gradient:
        slope, target = self.targets[name]
        return lambda x: slope.T @ (slope @ x - target)

    def closure(self) -> Tensor:
        self.zero_grad()
        parts = [
            (slope.to(parameter) @ parameter - target.to(parameter)).square().sum() / 2
            for name, parameter in self.named_parameters()
            for slope, target in [map(torch.tensor, self.targets[name])]
        ]
        loss = torch.stack(parts).sum()
        loss.backward()
        return loss


def options_of(file: Path, **changes: Any) -> dict[str, Any]:
    """The options of a config file, without the keys that are not the optimizer's."""
    options = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    return {key: value for key, value in options.items() if key not in ("no_decay", "layer_decay")} | changes


def make(
    net: nn.Module, file: Path, no_decay: Sequence[str] = ("bias",), layer_decay: float = 1.0, **changes: Any
) -> Optimizer:
    options = options_of(file, **changes)
    if "second_order" in options["_target_"]:
        pytest.importorskip("pytorch_optimizer")
    factory: Callable[..., Optimizer] = get_object(options["_target_"])
    own = {key: value for key, value in options.items() if key[0] != "_"}
    if getattr(factory, "needs_net", False):
        own["net"] = net
    return factory(param_groups(net, own["weight_decay"], no_decay, own["lr"], layer_decay), **own)


def train(net: nn.Module, optimizer: Optimizer, steps: int = STEPS) -> None:
    for _ in range(steps):
        optimizer.step(net.closure)


RULES: dict[str, Callable[..., np.ndarray]] = {
    "torch.optim.SGD": rules.sgd,
    "torch.optim.Adam": rules.adam,
    "torch.optim.AdamW": rules.adamw,
    "torch.optim.NAdam": rules.nadam,
    "torch.optim.RAdam": rules.radam,
    "torch.optim.RMSprop": rules.rmsprop,
    "torch.optim.Adagrad": rules.adagrad,
    "torch.optim.Adadelta": rules.adadelta,
    "resweep.optim.second_order.shampoo": rules.shampoo,
    "resweep.optim.second_order.soap": rules.soap,
}
# In float32 are: SOAP's turning of the bases, Muon's orthogonalization, and the product of momenta of torch's NAdam.
TOLERANCES = {"soap": 1e-5, "muon": 1e-6, "nadam": 1e-7, "nadamw": 1e-7}
CHANGES = [
    *[(name, {}) for name in BY_NAME],
    *[(name, {"weight_decay": 0.1, "lr": 0.02}) for name in BY_NAME],
    ("momentum", {"momentum": 0.5}),
    ("nesterov", {"momentum": 0.5}),
    ("rmsprop", {"momentum": 0.5, "centered": True}),
    ("adam", {"betas": [0.5, 0.8]}),
    ("radam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("soap", {"precondition_frequency": 3, "weight_decay": 0.1}),
    ("muon", {"nesterov": False, "momentum": 0.5}),
]


@pytest.mark.parametrize(("name", "changes"), CHANGES, ids=str)
def test_ten_steps_equal_the_rule(name: str, changes: dict[str, Any]) -> None:
    changes = {
        "muon": {"ns_dtype": "float32"},
        "lbfgs": {"max_iter": 1, "line_search_fn": None, "history_size": 3},
    }.get(name, {}) | changes
    net = Problem()
    start = net.values()
    options = options_of(BY_NAME[name], **changes)
    optimizer = make(net, BY_NAME[name], **changes)
    scheduler = cosine(optimizer, total_steps=STEPS, steps_per_epoch=5)
    for _ in range(STEPS):
        optimizer.step(net.closure)
        scheduler.step()
    expected = expectation(net, start, options)
    for key, value in net.values().items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=TOLERANCES.get(name, 1e-10), err_msg=key)
        assert np.abs(value - start[key]).max() > 1e-4


def expectation(net: Problem, start: dict[str, np.ndarray], options: dict[str, Any]) -> dict[str, np.ndarray]:
    """The parameters after ten steps of half a cosine; weight decay on all but the biases."""
    target, lr, weight_decay = options["_target_"], options["lr"], options["weight_decay"]
    factors = [(1 + math.cos(math.pi * t / STEPS)) / 2 for t in range(STEPS)]
    if target.endswith("LBFGS"):
        return expected_of_lbfgs(net, start, [lr * factor for factor in factors], weight_decay, options["history_size"])
    own = {key: value for key, value in options.items() if key[0] != "_" and key not in ("lr", "weight_decay")}
    found = {}
    for name, x in start.items():
        rule, rate = RULES.get(target), lr
        decay = 0.0 if name.endswith("bias") else weight_decay
        if target.endswith("Muon") and name == HIDDEN:
            rule, own = rules.muon, {key: options[key] for key in ("momentum", "nesterov")}
        elif target.endswith("Muon"):
            rule, own, rate = rules.adamw, {key: options[key] for key in ("betas", "eps")}, options["adamw_lr"]
        found[name] = rule(x, net.gradient(name), [rate * factor for factor in factors], decay, **own)
    return found


def expected_of_lbfgs(
    net: Problem, start: dict[str, np.ndarray], rates: Sequence[float], weight_decay: float, history: int
) -> dict[str, np.ndarray]:
    def joined(values: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([value.ravel() for value in values.values()])

    def split(x: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum([value.size for value in start.values()])[:-1]
        return {n: part.reshape(start[n].shape) for n, part in zip(start, np.split(x, ends), strict=True)}

    def gradient(x: np.ndarray) -> np.ndarray:
        return joined({
            name: net.gradient(name)(value) + (0 if name.endswith("bias") else weight_decay) * value
            for name, value in split(x).items()
        })  # fmt: skip

    return split(rules.lbfgs(joined(start), gradient, rates, history))


def test_every_published_optimizer_is_there() -> None:
    assert set(BY_NAME) >= {
        "sgd", "momentum", "nesterov", "adam", "amsgrad", "adamw", "nadam", "nadamw", "radam", "rmsprop", "adagrad",
        "adadelta", "lbfgs", "muon", "shampoo", "soap",
    }  # fmt: skip


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="Nesterov momentum requires"):
        make(Problem(), BY_NAME["nesterov"], momentum=0.0)


def test_plain_sgd_with_l2_has_a_closed_form() -> None:
    """x_k = r^k x_0 - (g / w) (1 - r^k) with r = 1 - lr w, for a constant gradient g."""
    start, gradient = np.array([[1.5, -2.0, 0.25, 0.0]]), np.array([[0.3, -0.1, -0.7, 0.05]])
    net = nn.Linear(4, 1, bias=False).double()
    net.weight.data = torch.tensor(start)
    optimizer = make(net, BY_NAME["sgd"], lr=0.1, weight_decay=0.5)
    for _ in range(STEPS):
        net.weight.grad = torch.tensor(gradient)
        optimizer.step()
    shrink = (1 - 0.1 * 0.5) ** STEPS
    expected = shrink * start - gradient / 0.5 * (1 - shrink)
    np.testing.assert_allclose(net.weight.detach().numpy(), expected, rtol=0, atol=1e-12)


def still(net: nn.Module) -> Tensor:
    """The closure of a loss that is 0 everywhere."""
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize("name", ["adamw", "nadamw", "muon", "soap"])
def test_weight_decay_alone_shrinks_by_a_factor_where_it_is_decoupled(name: str) -> None:
    net = Problem()
    start = net.values()
    rates = {"lr": 0.01, **({"adamw_lr": None} if name == "muon" else {})}
    optimizer = make(net, BY_NAME[name], weight_decay=0.1, **rates)
    for _ in range(STEPS):
        optimizer.step(lambda: still(net))
    steps = STEPS - 1 if name == "soap" else STEPS  # SOAP's first step only starts its bases
    for key, value in net.values().items():
        shrink = 1.0 if key.endswith("bias") else (1 - 0.01 * 0.1) ** steps
        np.testing.assert_allclose(value, start[key] * shrink, rtol=0, atol=1e-12)


def test_weight_decay_alone_makes_steps_of_lr_where_it_is_l2_of_adam() -> None:
    net = Problem()
    start = net.values()
    optimizer = make(net, BY_NAME["adam"], lr=0.01, weight_decay=0.1)
    for _ in range(STEPS):
        optimizer.step(lambda: still(net))
    large = np.abs(start[HIDDEN]) > 0.3
    moved = (start[HIDDEN] - net.values()[HIDDEN])[large]
    np.testing.assert_allclose(moved, np.sign(start[HIDDEN][large]) * 0.01 * STEPS, rtol=0, atol=2e-2)


@each_file
def test_exempt_parameters_do_not_decay(file: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    optimizer = make(net, file, ("bias", "norm"), weight_decay=0.1)
    for _ in range(STEPS):
        optimizer.step(lambda: still(net))
    after = dict(net.named_parameters())
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"0.weight"}
    assert after["0.weight"].norm() < before["0.weight"].norm()


@each_file
def test_layers_learn_at_their_own_rates(file: Path) -> None:
    net = Problem()
    if file.stem == "lbfgs":
        with pytest.raises(ValueError, match=r"lr=.*set optimizer.layer_decay=1.0"):
            make(net, file, layer_decay=0.5)
        return
    lr = options_of(file)["lr"]
    optimizer = make(net, file, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert set(rates) == {id(parameter) for parameter in net.parameters()}
    for name, parameter in net.named_parameters():
        base = options_of(file)["adamw_lr"] if file.stem == "muon" and name != HIDDEN else lr
        assert rates[id(parameter)] == pytest.approx(base * 0.5 ** (2 - int(name[0])))


@each_file
def test_files_share_the_keys_that_are_swept_together(file: Path) -> None:
    text = file.read_text()
    options = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    assert text.startswith("# ")
    assert {"lr", "weight_decay", "no_decay", "layer_decay"} <= set(options)
    assert (options["no_decay"], options["layer_decay"]) == ([], 1.0)
    decoupled = file.stem in ("adamw", "nadamw", "muon", "soap")
    assert ("decoupled:" if decoupled else "L2:") in text


def test_adam_has_no_momentum_key() -> None:
    assert all("momentum" not in options_of(file) for file in FILES if file.stem in ("adam", "adamw"))


@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad", "nadam", "radam", "adagrad"])
def test_values_are_the_defaults_of_torch(name: str) -> None:
    options = options_of(BY_NAME[name])
    defaults = inspect.signature(get_class(options["_target_"])).parameters
    for key, value in options.items():
        if key[0] != "_" and key != "amsgrad":
            default = defaults[key].default
            assert value == (list(default) if isinstance(default, tuple) else default), key


@each_file
def test_a_saved_optimizer_continues_with_the_same_bits(file: Path, tmp_path: Path) -> None:
    whole, first, second = Problem().float(), Problem().float(), Problem().float()
    train(whole, make(whole, file, weight_decay=0.1))
    optimizer = make(first, file, weight_decay=0.1)
    train(first, optimizer, 4)
    torch.save([first.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["param_groups"] == optimizer.state_dict()["param_groups"]
    second.load_state_dict(weights)
    continued = make(second, file, weight_decay=0.1)
    continued.load_state_dict(state)
    train(second, continued, STEPS - 4)
    for name, value in whole.values().items():
        np.testing.assert_array_equal(second.values()[name], value)


@each_file
def test_kernels_in_channels_last_order_are_updated_alike(file: Path) -> None:
    """Up to rounding, which the orders sum up differently."""
    found = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        body = [nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        net = nn.Sequential(*body, nn.Linear(4, 4)).double().to(memory_format=memory_format)
        images = torch.randn(4, 2, 6, 6, dtype=torch.float64).to(memory_format=memory_format)
        optimizer = make(net, file, **{"muon": {"ns_dtype": "float32"}, "lbfgs": {"max_iter": 4}}.get(file.stem, {}))

        def closure(net: nn.Module = net, images: Tensor = images, optimizer: Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(images), torch.arange(4))
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)
        found.append([parameter.detach() for parameter in net.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_onecycle_moves_the_momentum_of_muon_and_leaves_the_betas_of_adamw() -> None:
    net = Problem()
    optimizer = make(net, BY_NAME["muon"])
    scheduler = onecycle(optimizer, total_steps=6, steps_per_epoch=3, pct_start=0.5, cycle_momentum=True)
    seen = []
    for _ in range(6):
        seen.append([group["momentum"] for group in optimizer.param_groups if group["muon"] and group["params"]])
        optimizer.step(net.closure)
        scheduler.step()
    assert seen[0] == [0.95] and seen[2] == [0.85] and seen[5] == [0.95]
    assert {group["betas"] for group in optimizer.param_groups if not group["muon"]} == {(0.9, 0.95)}


@each_file
@pytest.mark.parametrize("start", [0, 2])
def test_gradients_that_are_not_finite_end_in_parameters_that_are_not(file: Path, start: int) -> None:
    """So that every diverged training is seen as one."""
    net = Problem().float()
    optimizer = make(net, file)
    train(net, optimizer, start)

    def diverged() -> Tensor:
        net.closure()
        for parameter in net.parameters():
            parameter.grad.fill_(math.nan)
        return torch.tensor(math.nan)

    for _ in range(3):
        optimizer.step(diverged)
    assert not any(bool(parameter.isfinite().any()) for parameter in net.parameters())


@pytest.mark.parametrize("name", ["shampoo", "soap"])
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    factory = get_object(options_of(BY_NAME[name])["_target_"])
    with pytest.raises(
        ValueError, match=rf"optimizer={name}: needs the package pytorch_optimizer.*resweep\[optimizers\]"
    ):
        factory(param_groups(Problem(), 0.0, []))

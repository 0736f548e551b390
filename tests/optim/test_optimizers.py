"""Every optimizer of conf/optimizer against an independent implementation, weight decay included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.optim import Optimizer

from resweep.optim.param_groups import param_groups

FILES = sorted((Path(__file__).parents[2] / "conf" / "optimizer").glob("*.yaml"))
START = np.array([1.5, -2.0, 0.25, 0.0])
GRADIENT = np.array([0.3, -0.1, -0.7, 0.05])
STEPS = 10


def options_of(file: Path, **changes: Any) -> dict[str, Any]:
    """The options of a config file, without the key that is not the optimizer's."""
    options = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    options.pop("no_decay")
    return options | changes


def partial_of(file: Path, **changes: Any) -> Callable[..., Optimizer]:
    return instantiate(options_of(file, **changes))


def sgd(x: np.ndarray, g: np.ndarray, *, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> np.ndarray:
    velocity = np.zeros_like(x)
    for _ in range(STEPS):
        d = g + weight_decay * x
        velocity = momentum * velocity + d
        x = x - lr * (d + momentum * velocity if nesterov else velocity)
    return x


def adam(
    x: np.ndarray,
    g: np.ndarray,
    *,
    lr: float,
    betas: list[float],
    eps: float,
    weight_decay: float,
    decoupled: bool = False,
) -> np.ndarray:
    first, second = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, STEPS + 1):
        d = g if decoupled else g + weight_decay * x
        shrink = 1 - lr * weight_decay if decoupled else 1.0
        first = betas[0] * first + (1 - betas[0]) * d
        second = betas[1] * second + (1 - betas[1]) * d**2
        x = shrink * x - lr * (first / (1 - betas[0] ** t)) / (np.sqrt(second / (1 - betas[1] ** t)) + eps)
    return x


def adamw(x: np.ndarray, g: np.ndarray, **options: Any) -> np.ndarray:
    return adam(x, g, decoupled=True, **options)


def rmsprop(
    x: np.ndarray,
    g: np.ndarray,
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    centered: bool,
    weight_decay: float,
) -> np.ndarray:
    square, mean, velocity = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for _ in range(STEPS):
        d = g + weight_decay * x
        square = alpha * square + (1 - alpha) * d**2
        mean = alpha * mean + (1 - alpha) * d
        scale = np.sqrt(square - mean**2 if centered else square) + eps
        velocity = momentum * velocity + d / scale
        x = x - lr * velocity
    return x


REFERENCES = {
    "torch.optim.SGD": sgd,
    "torch.optim.Adam": adam,
    "torch.optim.AdamW": adamw,
    "torch.optim.RMSprop": rmsprop,
}


def train(optimizer: Optimizer, parameter: nn.Parameter, gradient: np.ndarray) -> np.ndarray:
    for _ in range(STEPS):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach().numpy()


def test_the_six_optimizers_are_there() -> None:
    assert {file.stem for file in FILES} >= {"sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"}


@pytest.mark.parametrize("changes", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "lr": 0.02}], ids=str)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_ten_steps_equal_the_reference(file: Path, changes: dict[str, float]) -> None:
    options = options_of(file, **changes)
    parameter = nn.Parameter(torch.tensor(START))
    trained = train(instantiate(options)([parameter]), parameter, GRADIENT)
    reference = REFERENCES[options["_target_"]]
    expected = reference(START, GRADIENT, **{key: value for key, value in options.items() if key[0] != "_"})
    np.testing.assert_allclose(trained, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("file", [file for file in FILES if "momentum" in options_of(file)], ids=lambda file: file.stem)
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_other_momenta_equal_the_reference(file: Path, momentum: float) -> None:
    if momentum == 0.0 and options_of(file).get("nesterov"):
        with pytest.raises(ValueError, match="Nesterov momentum requires"):
            partial_of(file, momentum=momentum)([nn.Parameter(torch.zeros(1))])
        return
    options = options_of(file, momentum=momentum, weight_decay=0.1)
    parameter = nn.Parameter(torch.tensor(START))
    trained = train(instantiate(options)([parameter]), parameter, GRADIENT)
    own = {key: value for key, value in options.items() if key[0] != "_"}
    np.testing.assert_allclose(trained, REFERENCES[options["_target_"]](START, GRADIENT, **own), rtol=0, atol=1e-12)


def test_plain_sgd_with_l2_has_a_closed_form() -> None:
    """x_k = r^k x_0 - (g / w) (1 - r^k) with r = 1 - lr w."""
    (file,) = [file for file in FILES if file.stem == "sgd"]
    parameter = nn.Parameter(torch.tensor(START))
    trained = train(partial_of(file, lr=0.1, weight_decay=0.5)([parameter]), parameter, GRADIENT)
    shrink = (1 - 0.1 * 0.5) ** STEPS
    np.testing.assert_allclose(trained, shrink * START - GRADIENT / 0.5 * (1 - shrink), rtol=0, atol=1e-12)


def test_weight_decay_alone_is_decoupled_for_adamw_and_l2_for_adam() -> None:
    """Without gradient AdamW shrinks by a factor; Adam makes steps of about lr, whatever the size of the decay."""
    files = {file.stem: file for file in FILES}
    shrunk, moved = nn.Parameter(torch.tensor(START)), nn.Parameter(torch.tensor(START))
    train(partial_of(files["adamw"], lr=0.01, weight_decay=0.1)([shrunk]), shrunk, np.zeros(4))
    train(partial_of(files["adam"], lr=0.01, weight_decay=0.1)([moved]), moved, np.zeros(4))
    np.testing.assert_allclose(shrunk.detach().numpy(), START * (1 - 0.01 * 0.1) ** STEPS, rtol=0, atol=1e-12)
    np.testing.assert_allclose(moved.detach().numpy(), START - np.sign(START) * 0.01 * STEPS, rtol=0, atol=2e-2)
    assert np.all(np.abs(moved.detach().numpy() - START)[:3] > 0.08)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_exempt_parameters_do_not_decay(file: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    optimizer = partial_of(file, weight_decay=0.1)(param_groups(net, 0.1, ["bias", "norm"]))
    for _ in range(STEPS):
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    after = dict(net.named_parameters())
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"0.weight"}
    assert torch.all(after["0.weight"] < before["0.weight"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_files_share_the_keys_that_are_swept_together(file: Path) -> None:
    text = file.read_text()
    options = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    assert text.startswith("# ")
    assert {"lr", "weight_decay", "no_decay"} <= set(options)
    assert options["no_decay"] == []
    assert ("decoupled:" if file.stem == "adamw" else "L2:") in text


def test_adam_has_no_momentum_key() -> None:
    assert all("momentum" not in options_of(file) for file in FILES if file.stem in ("adam", "adamw"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_saved_state_holds_plain_values_only(file: Path, tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.tensor(START))
    optimizer = partial_of(file)([parameter])
    train(optimizer, parameter, GRADIENT)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    restored = torch.load(tmp_path / "state.pt", weights_only=True)
    assert restored["param_groups"] == optimizer.state_dict()["param_groups"]

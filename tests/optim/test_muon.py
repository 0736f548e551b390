"""Muon against torch's Muon and AdamW, and which weights it is for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from resweep.config import shipped
from resweep.models.resnet import CifarResNet
from resweep.optim import muon
from resweep.optim.muon import Muon, hidden_weights, orthogonalized
from resweep.optim.param_groups import param_groups


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 5), nn.LayerNorm(5), nn.Linear(5, 7), nn.Linear(7, 3))


def hidden_names(net: nn.Module) -> list[str]:
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return [names[id(parameter)] for parameter in hidden_weights(net)]


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_ten_steps_equal_muon_and_adamw_of_torch_bit_for_bit(adjust: str, nesterov: bool) -> None:
    ours, theirs = perceptron(), perceptron()
    optimizer = Muon(param_groups(ours, 0.1, []), net=ours, nesterov=nesterov, adjust_lr_fn=adjust, ns_dtype="bfloat16")
    inside = [theirs[1].weight, theirs[3].weight]
    outside = [p for p in theirs.parameters() if all(p is not other for other in inside)]
    others: list[torch.optim.Optimizer] = [
        torch.optim.Muon(inside, lr=0.02, weight_decay=0.1, nesterov=nesterov, adjust_lr_fn=adjust),
        torch.optim.AdamW(outside, lr=3e-4, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.1),
    ]
    schedules = [LambdaLR(each, lambda step: 1 / (1 + step)) for each in (optimizer, *others)]
    images = torch.randn(16, 6)
    for _ in range(10):
        for net, steppers in ((ours, [optimizer]), (theirs, others)):
            net.zero_grad()
            net(images).square().mean().backward()
            for stepper in steppers:
                stepper.step()
        for schedule in schedules:
            schedule.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_kernels_are_matrices_of_their_filters() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 2, 1))
    flat = nn.Parameter(net[1].weight.detach().flatten(1).clone())
    optimizer = Muon(param_groups(net, 0.0, []), net=net, ns_dtype="bfloat16")
    reference = torch.optim.Muon([flat], lr=0.02, weight_decay=0.0)
    for _ in range(3):
        gradient = torch.randn(6, 4, 3, 3)
        net[1].weight.grad, flat.grad = gradient, gradient.flatten(1)
        optimizer.step()
        reference.step()
    assert torch.equal(net[1].weight.flatten(1), flat)


def test_which_weights_of_a_residual_net_are_hidden() -> None:
    net = CifarResNet(8, 4, "projection", num_classes=10, in_channels=3)
    kernels = [name for name, parameter in net.named_parameters() if parameter.dim() == 4]
    assert sorted(hidden_names(net)) == sorted(kernels[1:])


def test_embeddings_tokens_and_positions_are_not_hidden() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 4, 8))
            self.stem = nn.Conv2d(3, 8, 4)
            self.codes = nn.Embedding(10, 8)
            self.body = nn.TransformerEncoderLayer(8, 2, 16)
            self.head = nn.Linear(8, 2)

    inside = ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]
    assert hidden_names(Net()) == [f"body.{name}" for name in inside]


def test_freezing_the_stem_does_not_make_the_next_layer_the_first() -> None:
    net = perceptron()
    net[0].requires_grad_(False)
    assert hidden_names(net) == ["1.weight", "3.weight"]
    Muon(param_groups(net, 0.1, ["bias"]), net=net)


def test_an_orthogonalized_matrix_has_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((8, 30), (30, 8), (10, 10)):
        matrix = torch.randn(shape)
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        found = left.T @ orthogonalized(matrix, dtype=torch.float32) @ right.T
        assert (found - torch.diag(found.diagonal())).abs().max() < 1e-4
        assert found.diagonal().min() > 0.3 and found.diagonal().max() < 1.3


@pytest.mark.parametrize(
    ("ns_dtype", "device", "expected"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "meta", torch.bfloat16),  # stands for every device but the processor
        ("bfloat16", "cpu", torch.bfloat16),
        ("float32", "meta", torch.float32),
    ],
)
def test_the_number_format_goes_by_the_device_of_the_parameter_at_the_step(
    ns_dtype: str, device: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(matrix: torch.Tensor, steps: int, dtype: torch.dtype) -> torch.Tensor:
        seen.append((matrix.device.type, dtype))
        return orthogonalized(matrix, steps, dtype)

    monkeypatch.setattr(muon, "orthogonalized", spy)
    net = perceptron().to(device)
    optimizer = Muon(param_groups(net, 0.1, []), net=net, ns_dtype=ns_dtype)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert seen == [(device, expected)] * 2


def test_auto_is_the_default_and_on_a_processor_the_same_bits_as_float32() -> None:
    nets = [perceptron() for _ in range(3)]
    chosen: list[dict[str, Any]] = [{}, {"ns_dtype": "float32"}, {"ns_dtype": "bfloat16"}]
    for net, options in zip(nets, chosen, strict=True):
        optimizer = Muon(param_groups(net, 0.1, []), net=net, **options)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(4, 6)).square().mean().backward()
            optimizer.step()
    default, float32, bfloat16 = (net[1].weight for net in nets)
    assert torch.equal(default, float32) and not torch.equal(default, bfloat16)
    assert OmegaConf.load(shipped("conf") / "optimizer" / "muon.yaml").ns_dtype == "auto"


def test_a_net_without_hidden_layers_is_trained_by_adamw() -> None:
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(net.state_dict())
    optimizers = (
        Muon(param_groups(net, 0.1, []), net=net, adamw_lr=None, lr=0.01),
        torch.optim.AdamW(other.parameters(), lr=0.01, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.1),
    )
    for each, optimizer in zip((net, other), optimizers, strict=True):
        each(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert torch.equal(net.weight, other.weight)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"ns_dtype": "bfloat"}, "ns_dtype=bfloat: must be one of auto, bfloat16, float32; did you mean bfloat16"),
        ({"adjust_lr_fn": "rms"}, "adjust_lr_fn=rms: must be one of original, match_rms_adamw"),
        ({"momentum": 1.0}, "momentum=1.0: must be at least 0 and below 1"),
        ({"lr": -1.0}, "lr=-1.0, adamw_lr=0.0003: must be at least 0"),
        ({"ns_steps": 0}, "ns_steps=0: must be at least 1"),
    ],
)
def test_bad_values_are_refused(options: dict[str, Any], pattern: str) -> None:
    net = perceptron()
    with pytest.raises(ValueError, match=pattern):
        Muon(param_groups(net, 0.1, []), net=net, **options)

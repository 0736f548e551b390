"""The residual blocks against their formulas; what is dropped in training and how often."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resweep.models.blocks import BasicBlock, Bottleneck, PreActBlock, PreActBottleneck

POST, PRE = (BasicBlock, Bottleneck), (PreActBlock, PreActBottleneck)
ROWS = 4000


def random_images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def block_of(kind: type[nn.Module], *args: object, seed: int = 0, **settings: object) -> nn.Module:
    """A block with weights and statistics drawn at random."""
    torch.manual_seed(seed)
    block = kind(*args, **settings)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return block


def with_fixed_statistics(block: nn.Module) -> nn.Module:
    """The block in training, its normalizations in evaluation, so that only what is random differs."""
    block.train()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return block


@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize("kind", POST)
def test_option_a_copies_every_second_pixel_and_appends_zeros(kind: type[nn.Module], size: int) -> None:
    block = kind(3, 8, stride=2, shortcut="identity")
    nn.init.zeros_(block.last_norm.weight)
    images = random_images(2, 3, size, size)
    half = math.ceil(size / 2)
    expected = torch.zeros(2, 8, half, half)
    for row in range(half):
        for column in range(half):
            expected[:, :3, row, column] = images[:, :, 2 * row, 2 * column].clamp(min=0)
    assert torch.equal(block(images), expected)
    assert not list(block.shortcut.parameters())


@pytest.mark.parametrize("kind", POST)
@pytest.mark.parametrize("shortcut", ["identity", "projection"])
def test_a_block_that_keeps_the_shape_has_the_input_as_its_shortcut(kind: type[nn.Module], shortcut: str) -> None:
    block = kind(4, 4, stride=1, shortcut=shortcut)
    nn.init.zeros_(block.last_norm.weight)
    images = random_images(2, 4, 5, 5)
    before = images.clone()
    assert torch.equal(block(images), before.clamp(min=0))
    assert torch.equal(images, before), "the input must not be changed in place"


def test_a_plain_block_is_its_convolutions_one_after_another() -> None:
    block = block_of(BasicBlock, 4, 8, 2, "none").eval()
    chain = nn.Sequential(block.conv1, block.bn1, nn.ReLU(), block.conv2, block.bn2, nn.ReLU())
    images = random_images(2, 4, 6, 6)
    assert torch.equal(block(images), chain(images))
    assert [name for name, _ in block.named_children()] == ["conv1", "bn1", "conv2", "bn2", "drop"]


@pytest.mark.parametrize("kind", POST)
@pytest.mark.parametrize("before", [4, 8])
def test_a_plain_block_has_the_parameters_of_option_a(kind: type[nn.Module], before: int) -> None:
    shapes = [[p.shape for p in kind(before, 8, 1, shortcut).parameters()] for shortcut in ("none", "identity")]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("kind", PRE)
@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (8, 2), (4, 1)])
@pytest.mark.parametrize("activated", [False, True])
def test_pre_activation_follows_its_formula(kind: type[nn.Module], channels: int, stride: int, activated: bool) -> None:
    block = block_of(kind, channels, 8, stride, "projection", activated=activated).eval()
    images = random_images(2, channels, 6, 6)
    before = images.clone()
    active = block.bn1(images).clamp(min=0)
    changes = channels != 8 or stride > 1
    start = active if activated or changes else images
    expected = F.conv2d(start, block.shortcut.weight, stride=stride) if changes else start
    out = active
    convolutions = [block.conv1, block.conv2] + ([block.conv3] if kind is PreActBottleneck else [])
    norms = [None, block.bn2] + ([block.bn3] if kind is PreActBottleneck else [])
    for convolution, norm in zip(convolutions, norms, strict=True):
        out = convolution(out if norm is None else norm(out).clamp(min=0))
    torch.testing.assert_close(block(images), out + expected)
    assert torch.equal(images, before), "the input must not be changed in place"


@pytest.mark.parametrize("kind", [Bottleneck, PreActBottleneck])
def test_where_a_bottleneck_has_its_stride(kind: type[nn.Module]) -> None:
    usual, paper = (kind(4, 8, 2, "projection", stride_first=first) for first in (False, True))
    assert [usual.conv1.stride[0], usual.conv2.stride[0], usual.conv3.stride[0]] == [1, 2, 1]
    assert [paper.conv1.stride[0], paper.conv2.stride[0], paper.conv3.stride[0]] == [2, 1, 1]
    images = random_images(2, 4, 7, 7)
    assert usual(images).shape == paper(images).shape == (2, 8, 4, 4)


@pytest.mark.parametrize("kind", [*POST, *PRE])
@pytest.mark.parametrize("shortcut", ["identity", "projection"])
def test_stochastic_depth_drops_or_scales_the_branch_of_each_image(kind: type[nn.Module], shortcut: str) -> None:
    drop = 0.3
    block = with_fixed_statistics(block_of(kind, 4, 8, 2, shortcut, drop=drop))
    image = random_images(1, 4, 2, 2)
    with torch.no_grad():
        out = block(image.expand(ROWS, -1, -1, -1))
        block.drop.p = 0.0
        whole = block(image)
        branch = {"out": None}
        handle = block.drop.register_forward_hook(lambda module, inputs, output: branch.update(out=inputs[0]))
        block(image)
        handle.remove()
    residual = branch["out"]
    if kind in PRE:  # nothing behind the sum: the expectation is the block without dropping
        shortcut_alone = whole - residual
        spread = residual.abs().max().item() * math.sqrt(drop / (1 - drop) / ROWS)
        torch.testing.assert_close(out.mean(0, keepdim=True), whole, atol=4 * spread, rtol=0)
        kept = shortcut_alone + residual / (1 - drop)
    else:
        with torch.no_grad():
            start = block.shortcut(image)
        shortcut_alone, kept = start.clamp(min=0), (start + residual / (1 - drop)).clamp(min=0)
    is_dropped = (out - shortcut_alone).abs().amax((1, 2, 3)) < 1e-5
    is_kept = (out - kept).abs().amax((1, 2, 3)) < 1e-5
    assert bool((is_dropped ^ is_kept).all()), "each image of the batch is either dropped or kept"
    assert is_dropped.float().mean().item() == pytest.approx(drop, abs=4 * math.sqrt(drop * (1 - drop) / ROWS))


@pytest.mark.parametrize("kind", [*POST, *PRE])
def test_stochastic_depth_is_off_in_evaluation(kind: type[nn.Module]) -> None:
    dropping, whole = (block_of(kind, 4, 4, 1, "identity", drop=drop).eval() for drop in (0.9, 0.0))
    images = random_images(8, 4, 4, 4)
    assert torch.equal(dropping(images), whole(images))


@pytest.mark.parametrize("kind", [*POST, *PRE])
def test_stochastic_depth_zero_draws_nothing(kind: type[nn.Module]) -> None:
    block = block_of(kind, 4, 4, 1, "identity", drop=0.0)
    before = torch.get_rng_state()
    block(random_images(8, 4, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)


def seen_by_second_convolution(block: PreActBlock, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = block.conv2.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    block(images)
    handle.remove()
    return seen[0]


def test_dropout_stands_between_the_convolutions() -> None:
    p = 0.3
    block = with_fixed_statistics(block_of(PreActBlock, 4, 16, 1, "projection", dropout=p))
    nn.init.constant_(block.bn2.bias, 100.0)  # so that no value is zero before the dropout
    images = random_images(32, 4, 8, 8)
    with torch.no_grad():
        kept = seen_by_second_convolution(block, images)
        whole = seen_by_second_convolution(block.eval(), images)
    assert bool((whole > 0).all())
    zero = kept == 0
    torch.testing.assert_close(kept[~zero], (whole / (1 - p))[~zero])
    assert zero.float().mean().item() == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / zero.numel()))

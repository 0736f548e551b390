from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from resweep.data.augment import crop
from resweep.data.augment.geometry import (
    affine_maps,
    alternating_flip,
    cut_and_scale,
    flip_,
    random_affine,
    random_windows,
    resized_crop,
    warp,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distinct_images(batch: int, channels: int = 2, height: int = 5, width: int = 6) -> torch.Tensor:
    """Images whose pixels all differ and are never 0, so that every crop is recognisable."""
    return torch.arange(1.0, 1 + batch * channels * height * width).view(batch, channels, height, width)


def crop_offsets(image: torch.Tensor, cropped: torch.Tensor, padding: int) -> list[tuple[int, int]]:
    """All places at which the padded image shows exactly the crop."""
    padded = F.pad(image, (padding,) * 4)
    height, width = image.shape[-2:]
    places = range(2 * padding + 1)
    return [(y, x) for y in places for x in places if torch.equal(padded[:, y : y + height, x : x + width], cropped)]


@pytest.mark.parametrize("padding", [1, 2, 4])
def test_every_crop_is_a_window_of_the_padded_image(padding: int) -> None:
    images = distinct_images(64)
    result = crop(images, padding, seeded())
    assert result.shape == images.shape and result.dtype == images.dtype
    assert all(len(crop_offsets(*pair, padding)) == 1 for pair in zip(images, result, strict=True))


def test_all_offsets_are_equally_likely() -> None:
    padding, draws = 2, 5000
    image = distinct_images(1, channels=1, height=3, width=4)
    result = crop(image.expand(draws, -1, -1, -1), padding, seeded())
    counts = Counter(crop_offsets(image[0], cropped, padding)[0] for cropped in result)
    assert len(counts) == 25
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_images_of_a_batch_get_different_crops() -> None:
    image = distinct_images(1)
    result = crop(image.expand(32, -1, -1, -1), 2, seeded())
    assert len({tuple(crop_offsets(image[0], cropped, 2)) for cropped in result}) > 10


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_crop_does_not_depend_on_the_memory_layout(layout: torch.memory_format) -> None:
    images = distinct_images(8, channels=3)
    expected = crop(images, 2, seeded())
    assert torch.equal(crop(images.to(memory_format=layout), 2, seeded()), expected)
    spread = torch.stack([images, images], dim=-1)[..., 0]  # not contiguous
    assert torch.equal(crop(spread, 2, seeded()), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_crop_keeps_the_type(dtype: torch.dtype) -> None:
    images = torch.randint(0, 100, (4, 1, 4, 4), generator=seeded()).float()
    assert torch.equal(crop(images.to(dtype), 1, seeded()), crop(images, 1, seeded()).to(dtype))


def test_flip_with_probability_one_is_torch_flip() -> None:
    images = distinct_images(7)
    result = images.clone()
    assert flip_(result, 1.0, seeded()) is result
    assert torch.equal(result, images.flip(-1))


@pytest.mark.parametrize("p", [0.25, 0.5, 0.9])
def test_flip_mirrors_the_given_share(p: float) -> None:
    draws = 4000
    images = distinct_images(draws, channels=1, height=1, width=2)
    result = flip_(images.clone(), p, seeded())
    flipped = (result == images.flip(-1)).flatten(1).all(1)
    kept = (result == images).flatten(1).all(1)
    assert torch.equal(flipped, ~kept)
    assert stats.binomtest(int(flipped.sum()), draws, p).pvalue > 0.01


def test_the_mean_of_a_cropped_image_shrinks_by_the_share_that_is_padding() -> None:
    # A window moved by d pixels keeps 1 - |d| / side of each side; over d = -p..p the mean is 1 - p(p+1)/((2p+1) side).
    draws, side, padding = 20_000, 8, 2
    result = crop(torch.ones(draws, 1, side, side), padding, seeded())
    kept = (1 - padding * (padding + 1) / ((2 * padding + 1) * side)) ** 2
    assert result.mean().item() == pytest.approx(kept, abs=4 * result.mean((1, 2, 3)).std().item() / draws**0.5)


@pytest.mark.parametrize("padding", [1, 3])
def test_reflection_shows_windows_of_the_mirrored_image(padding: int) -> None:
    images = distinct_images(40)
    result = crop(images, padding, seeded(), "reflect")
    same_draws = crop(images, padding, seeded())
    places = range(2 * padding + 1)
    for image, reflected, zeros in zip(images, result, same_draws, strict=True):
        ((y, x),) = crop_offsets(image, zeros, padding)
        padded = np.pad(image.numpy(), ((0, 0), (padding, padding), (padding, padding)), mode="reflect")
        assert y in places and np.array_equal(reflected.numpy(), padded[:, y : y + 5, x : x + 6])
    assert result.min() >= 1, "no zeros come in"


def test_two_successive_epochs_show_every_image_both_ways() -> None:
    images, positions = distinct_images(400, 1, 1, 2), torch.arange(400)
    shown = [alternating_flip(images, positions, epoch, seed=3) for epoch in range(4)]
    mirrored = (shown[0] == images.flip(-1)).flatten(1).all(1)
    assert torch.equal(shown[1], shown[0].flip(-1))
    assert torch.equal(shown[2], shown[0]) and torch.equal(shown[3], shown[1])
    assert stats.binomtest(int(mirrored.sum()), 400, 0.5).pvalue > 0.01
    assert not torch.equal(alternating_flip(images, positions, 0, seed=4), shown[0])


def test_the_alternating_flip_belongs_to_the_position_not_to_the_batch() -> None:
    images, positions = distinct_images(64), torch.arange(64) * 12_345
    together, order = alternating_flip(images, positions, 0, seed=0), torch.randperm(64, generator=seeded())
    assert torch.equal(alternating_flip(images[order], positions[order], 0, seed=0), together[order])
    near = alternating_flip(images, torch.arange(64), 0, seed=0)
    runs = int(((near != images).flatten(1).any(1)).int().diff().abs().sum())
    assert 20 < runs < 44, "neighbours are independent: about every second one differs"


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_each_affine_map_is_torchvisions(mode: str) -> None:
    generator = seeded(4)
    images = torch.rand(30, 3, 9, 12, generator=generator)
    angle, shear_x, shear_y = torch.rand(3, 30, generator=generator, dtype=torch.float64) * 80 - 40
    x, y = torch.rand(2, 30, generator=generator, dtype=torch.float64) * 6 - 3
    scale = torch.rand(30, generator=generator, dtype=torch.float64) + 0.5
    maps = affine_maps(30, angle=angle, x=x, y=y, scale=scale, shear_x=shear_x, shear_y=shear_y)
    result, differing = warp(images, maps, mode), 0
    for index, image in enumerate(images):
        expected = TF.affine(image, angle[index].item(), [x[index].item(), y[index].item()], scale[index].item(),
                             [shear_x[index].item(), shear_y[index].item()], InterpolationMode(mode))  # fmt: skip
        differing += int(((result[index] - expected).abs() > 2e-5).any(0).sum())
    assert differing <= (0 if mode == "bilinear" else 3)  # nearest: a place halfway between two pixels


def test_a_shift_moves_whole_pixels_and_brings_in_zeros() -> None:
    images = distinct_images(1)
    moved = warp(images, affine_maps(1, x=2.0, y=-1.0), "bilinear")
    assert torch.allclose(moved[..., :-1, 2:], images[..., 1:, :-2], atol=1e-3)
    assert moved[..., -1, :].abs().max() < 1e-3 and moved[..., :2].abs().max() < 1e-3


def test_random_affine_draws_what_is_asked_for() -> None:
    seen = torch.zeros(3000, 1, 21, 21)
    seen[..., 10, 10] = 1.0
    shifted = random_affine(seen, seeded(), translate=0.2)
    rows, columns = (shifted.sum(axis).squeeze(1).argmax(1) - 10 for axis in (3, 2))
    for offsets in (rows, columns):
        counts = torch.bincount(offsets + 4, minlength=9).float() / 3000
        # round(uniform(-4.2, 4.2)): the whole numbers -3..3 have share 1 / 8.4, -4 and 4 have 0.7 / 8.4
        expected = torch.tensor([0.7, *[1.0] * 7, 0.7]) / 8.4
        assert (counts - expected).abs().max() < 4 * (0.12 * 0.88 / 3000) ** 0.5
    assert abs(float(torch.corrcoef(torch.stack((rows.float(), columns.float())))[0, 1])) < 0.08


@pytest.mark.parametrize(
    "settings", [{"rotation": 20.0}, {"translate": 0.3}, {"scale": (0.5, 1.5)}, {"shear": 20.0}]
)  # fmt: skip
def test_equal_images_are_mapped_differently_and_never_leave_their_range(settings: dict) -> None:
    images = torch.rand(1, 3, 9, 9, generator=seeded()).expand(40, -1, -1, -1)
    result = random_affine(images, seeded(), **settings)
    assert len({tuple(image.flatten().tolist()) for image in result}) > 15
    assert result.min() >= 0 and result.max() <= images.max() + 1e-6


def test_each_window_is_cut_and_scaled_as_by_torchvision() -> None:
    images = torch.rand(200, 3, 16, 20, generator=seeded())
    windows = random_windows(images.shape, (0.08, 1.0), seeded(2))
    result = cut_and_scale(images, *windows)
    for image, cut, top, left, height, width in zip(images, result, *(part.int().tolist() for part in windows),
                                                    strict=True):  # fmt: skip
        expected = TF.resized_crop(image, top, left, height, width, [16, 20], antialias=True)
        torch.testing.assert_close(cut, expected, atol=2e-5, rtol=0)


def test_windows_have_the_area_aspect_and_places_asked_for() -> None:
    top, left, height, width = random_windows(torch.Size((20_000, 3, 100, 100)), (0.08, 0.5), seeded())
    assert bool(((top >= 0) & (left >= 0) & (top + height <= 100) & (left + width <= 100)).all())
    assert bool((top == 0).any() and (left == 0).any() and (top + height == 100).any() and (left + width == 100).any())
    share, ratio = height * width / 10_000, (width / height).log() / math.log(4 / 3)
    # No window of at most half the area and this aspect fails to fit, so that both stay uniform.
    assert stats.kstest((share.numpy() - 0.08) / 0.42, "uniform").statistic < 0.02
    assert stats.kstest((ratio.numpy() + 1) / 2, "uniform").statistic < 0.02
    assert stats.kstest((left / (101 - width)).numpy(), "uniform").statistic < 0.03


def test_a_window_that_never_fits_is_the_largest_in_the_middle() -> None:
    top, left, height, width = random_windows(torch.Size((3, 1, 10, 100)), (0.9, 1.0), seeded())
    assert (height.tolist(), width.tolist()) == ([10.0] * 3, [13.0] * 3)
    assert top.tolist() == [0.0] * 3 and left.tolist() == [44.0] * 3


def test_the_whole_image_as_window_changes_nothing() -> None:
    images = torch.rand(5, 3, 9, 7, generator=seeded())
    whole = [torch.full((5,), value, dtype=torch.float64) for value in (0, 0, 9, 7)]
    torch.testing.assert_close(cut_and_scale(images, *whole), images, atol=1e-6, rtol=0)
    assert resized_crop(images, (0.3, 0.3), seeded()).shape == images.shape


def test_zero_strength_changes_and_draws_nothing() -> None:
    images = distinct_images(3)
    generator = seeded()
    before = generator.get_state()
    for result in (crop(images, 0, generator), random_affine(images, generator)):
        assert torch.equal(result, distinct_images(3))
    assert torch.equal(generator.get_state(), before)

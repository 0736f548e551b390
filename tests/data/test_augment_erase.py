from __future__ import annotations

import numpy as np
import pytest
import torch

from resweep.data.augment.erase import AREA, ASPECT, boxes, cutout_, cutout_side, erase_


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def erased(images: torch.Tensor) -> torch.Tensor:
    """bool (B, H, W), after checking that a pixel is erased in all channels or in none."""
    gone = images == 0
    assert torch.equal(gone.all(1), gone.any(1))
    return gone.all(1)


def test_boxes_are_slices() -> None:
    images = torch.zeros(3, 2, 5, 7)
    limits = [torch.tensor(values) for values in ([-2, 1, 0], [3, -1, 7], [2, 4, 0], [9, 3, 8])]
    expected = torch.zeros(3, 1, 5, 7, dtype=torch.bool)
    expected[0, :, 0:2, 3:7] = True
    expected[1, :, 1:4, 0:3] = True
    assert torch.equal(boxes(images, *limits), expected)


@pytest.mark.parametrize("side", [1, 2, 5, 16])
def test_cutout_takes_the_expected_share(side: int) -> None:
    draws, size = 20_000, 12
    gone = erased(cutout_(torch.ones(draws, 2, size, size), side, seeded())).float()
    # Along one axis: the mean overlap of the image with [m - side // 2, m - side // 2 + side) over all middles m.
    starts = np.arange(size) - side // 2
    overlap = (np.minimum(starts + side, size) - np.maximum(starts, 0)).mean() / size
    share = gone.mean((1, 2))
    assert share.mean().item() == pytest.approx(overlap**2, abs=max(4 * share.std().item() / draws**0.5, 1e-6))


def test_a_share_is_one_of_the_shorter_side() -> None:
    assert cutout_side(16, 8, 8) == 16 and cutout_side(0, 8, 8) == 0
    assert [cutout_side(0.5, *size) for size in ((32, 32), (8, 40), (40, 8))] == [16, 4, 4]
    assert cutout_side(0.01, 8, 8) == 1 and cutout_side(0.99, 8, 8) == 7 and cutout_side(0.5, 1, 1) == 1
    images = torch.ones(50, 1, 12, 20)
    assert torch.equal(cutout_(images.clone(), 0.25, seeded()), cutout_(images.clone(), 3, seeded()))


def test_a_cutout_is_one_square_cut_at_the_border_with_its_middle_anywhere() -> None:
    side, size = 4, 9
    gone = erased(cutout_(torch.ones(3000, 1, size, size), side, seeded()))
    heights, widths = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(gone.sum((1, 2)), heights * widths)
    assert set(heights.tolist()) == set(widths.tolist()) == {2, 3, 4}
    corners = {(int(rows), int(columns)) for rows, columns in zip(heights, widths, strict=True)}
    assert len(corners) == 9, "both axes are drawn on their own"


def test_random_erasing_takes_the_expected_share_of_the_expected_number() -> None:
    draws, size, p = 20_000, 40, 0.5
    gone = erased(erase_(torch.ones(draws, 2, size, size), p, seeded())).float().mean((1, 2))
    chosen = gone > 0
    assert chosen.float().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / draws) ** 0.5)
    # Mean area over a fine grid of the draws that fit.
    share = np.linspace(*AREA, 801)[:, None] * size * size
    aspect = np.exp(np.linspace(*np.log(ASPECT), 801))
    heights, widths = np.round(np.sqrt(share * aspect)), np.round(np.sqrt(share / aspect))
    fits = (heights < size) & (widths < size)
    expected = (heights * widths)[fits].mean() / size**2
    area = gone[chosen]
    assert area.mean().item() == pytest.approx(expected, abs=4 * area.std().item() / len(area) ** 0.5 + 2e-4)
    assert area.min() >= 0.015 and area.max() <= AREA[1] + 0.02


def test_erased_boxes_differ_and_lie_anywhere() -> None:
    gone = erased(erase_(torch.ones(2000, 1, 16, 16), 1.0, seeded())).float()
    assert len({tuple(mask.flatten().tolist()) for mask in gone}) > 1000
    assert gone.amax(2).sum(1).max() < 16 and gone.amax(1).sum(1).max() < 16, "never a whole side"
    for axis in ((0, 1), (0, 2)):
        profile = gone.mean(axis)
        assert torch.allclose(profile, profile.flip(0), atol=0.04), "left and right, top and bottom are alike"


def test_zero_strength_changes_and_draws_nothing() -> None:
    generator, images = seeded(), torch.ones(4, 1, 5, 5)
    before = generator.get_state()
    assert torch.equal(cutout_(erase_(images.clone(), 0.0, generator), 0, generator), images)
    assert torch.equal(generator.get_state(), before)

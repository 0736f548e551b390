from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from resweep.data.augment.mix import cutmix, mix, mixup, soft_targets


def constant_images(batch: int = 6, side: int = 8) -> torch.Tensor:
    """Image i is i everywhere, so that every pixel tells where it comes from."""
    return torch.arange(batch, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, side, side).contiguous()


def shares(mixed: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Share of each constant image in its mixture with the next one, from the mean pixel."""
    own, partner, mean = images[:, 0, 0, 0], images.roll(-1, 0)[:, 0, 0, 0], mixed.mean((1, 2, 3))
    return (mean - partner) / (own - partner)


def run(images: torch.Tensor, seed: int = 0, **settings: float) -> tuple[torch.Tensor, torch.Tensor]:
    settings = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "probability": 1.0, **settings}
    return mix(images, torch.eye(len(images)), seed=seed, **settings)


@pytest.mark.parametrize(
    "settings", [{"mixup_alpha": 0.3}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 1.0, "cutmix_alpha": 1.0}]
)
def test_targets_are_the_shares_of_the_pixels_and_sum_to_one(settings: dict) -> None:
    images = constant_images(64, 9)
    for seed in range(6):
        mixed, targets = run(images, seed, **settings)
        torch.testing.assert_close(targets.sum(1), torch.ones(64))
        torch.testing.assert_close(targets.diagonal(), shares(mixed, images), atol=1e-4, rtol=0)
        assert torch.count_nonzero(targets, 1).max() <= 2 and targets.min() >= 0
        assert len(set(targets.diagonal().tolist())) > 5, "each pair has its own share"
    assert torch.equal(images, constant_images(64, 9)), "the given images must not change"


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 5.0])
def test_mixup_shares_follow_the_beta_distribution(alpha: float) -> None:
    _, targets = run(torch.zeros(4000, 1, 1, 1), 3, mixup_alpha=alpha)
    share = targets.diagonal().double().numpy()
    assert np.isfinite(share).all()
    assert share.mean() == pytest.approx(0.5, abs=4 * (0.25 / (2 * alpha + 1) / 4000) ** 0.5)
    assert share.var() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.1)
    if alpha >= 1:
        assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_cutmix_boxes_have_the_expected_size() -> None:
    share = torch.full((4000,), 0.75, dtype=torch.float64)
    rows, columns = torch.from_numpy(np.random.default_rng(0).random((2, 4000)))
    images = constant_images(4000, 12)
    mixed, targets = cutmix(images, torch.eye(4000), share, rows, columns)
    other = (mixed[:, 0] != images[:, 0]).float()
    # Half the side is 3 pixels: middles 0..11 leave 3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 5, 4 rows of the box.
    expected = (np.array([3, 4, 5, *[6] * 7, 5, 4]).mean() / 12) ** 2
    assert other.mean().item() == pytest.approx(expected, abs=0.01)
    assert torch.equal(other.any(2).sum(1) * other.any(1).sum(1), other.sum((1, 2)).long()), "one box each"
    torch.testing.assert_close(targets.diagonal(), 1 - other.mean((1, 2)))


def test_cutmix_boxes_are_those_of_the_released_code() -> None:
    height, width, draw = 9, 14, np.random.default_rng(1)
    share, (rows, columns) = draw.random(300), draw.random((2, 300))
    images = torch.arange(300.0).view(-1, 1, 1, 1).repeat(1, 1, height, width)
    mixed, _ = cutmix(images, torch.eye(300), *(torch.from_numpy(values) for values in (share, rows, columns)))
    for index in range(300):
        high, wide = (int(side * np.sqrt(1 - share[index])) // 2 for side in (height, width))
        y, x = int(rows[index] * height), int(columns[index] * width)
        expected = np.zeros((height, width), dtype=bool)
        expected[max(y - high, 0) : y + high, max(x - wide, 0) : x + wide] = True
        assert np.array_equal((mixed[index] != images[index])[0].numpy(), expected)


def test_mixtures_are_torchvisions_for_the_same_share() -> None:
    images, labels = torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0])
    backwards = labels.flip(0)  # its partner is the image before, ours the next

    class Fixed(v2.MixUp):
        def make_params(self, flat_inputs: list) -> dict:
            return {"labels": backwards, "batch_size": 5, "lam": 0.7}

    theirs = Fixed(num_classes=3)(images.flip(0), backwards)
    ours = mixup(images, soft_targets(labels, 3), torch.full((5,), 0.7))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other.flip(0))


def test_several_labels_are_mixed_linearly() -> None:
    targets = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    _, mixed = mixup(torch.zeros(2, 1, 2, 2), soft_targets(targets, 3), torch.tensor([0.75, 0.5]))
    assert mixed.tolist() == [[0.75, 1.0, 0.25], [0.5, 1.0, 0.5]]


def test_no_image_is_mixed_with_itself() -> None:
    _, targets = mixup(torch.zeros(7, 1, 1, 1), torch.eye(7), torch.zeros(7))
    assert torch.equal(targets, torch.eye(7).roll(-1, 0))


def test_the_given_share_of_batches_is_mixed_and_both_ways_take_turns() -> None:
    images = constant_images(4, 4)
    changed = sum(
        not torch.equal(run(images, seed, mixup_alpha=1.0, probability=0.3)[0], images) for seed in range(600)
    )
    assert stats.binomtest(changed, 600, 0.3).pvalue > 0.01
    both = [run(images, seed, mixup_alpha=1.0, cutmix_alpha=1.0)[0] for seed in range(400)]
    cuts = sum(bool((mixed == mixed.round()).all()) for mixed in both)
    assert stats.binomtest(cuts, 400, 0.5).pvalue > 0.01


def test_the_seed_decides_and_the_global_generators_stay() -> None:
    images = constant_images()
    np_state, state = np.random.get_state()[1].copy(), torch.get_rng_state()
    first, again, other = (run(images, seed, cutmix_alpha=1.0)[1] for seed in (2**63 - 1, 2**63 - 1, 5))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert np.array_equal(np.random.get_state()[1], np_state) and torch.equal(torch.get_rng_state(), state)

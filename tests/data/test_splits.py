from __future__ import annotations

import pytest
import torch

from resweep.data.splits import SplitError, part_count, stratified_split, stratified_subset

LABELS = torch.arange(1000) % 4  # 250 of each class


@pytest.mark.parametrize(("size", "count"), [(0.2, 200), (200, 200), (0.1501, 151), (4, 4), (996, 996)])
def test_parts_are_complete_disjoint_sorted_and_balanced(size: int | float, count: int) -> None:
    rest, part = stratified_split(LABELS, size, seed=0)
    assert len(part) == count
    assert torch.equal(torch.cat([rest, part]).sort().values, torch.arange(1000))
    assert torch.equal(rest, rest.sort().values) and torch.equal(part, part.sort().values)
    counts = torch.bincount(LABELS[part], minlength=4)
    assert counts.max() - counts.min() <= 1


def test_unequal_classes_keep_their_shares() -> None:
    labels = torch.tensor([0] * 700 + [1] * 200 + [2] * 100)
    _, part = stratified_split(labels, 0.1, seed=5)
    assert torch.bincount(labels[part]).tolist() == [70, 20, 10]


def test_the_seed_decides() -> None:
    first, again, other = (stratified_split(LABELS, 0.2, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_part_is_spread_over_the_positions() -> None:
    _, part = stratified_split(LABELS, 0.5, seed=0)
    assert 200 < (part < 500).sum() < 300  # 250 expected, standard deviation 8


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0.0, "not a share"),
        (1.0, "not a share"),
        (1.5, "not a share"),
        (-0.1, "not a share"),
        (float("nan"), "not a share"),
        (0, "takes 0 of 1000"),
        (-3, "takes -3 of 1000"),
        (3, "takes 3 of 1000 images, but 4 classes need at least 4 on both sides"),
        (997, "takes 997 of 1000"),
        (0.001, "takes 1 of 1000"),
        (0.999, "takes 999 of 1000"),
        (True, "not a number"),
        ("half", "not a number"),
        (None, "not a number"),
    ],
)
def test_impossible_sizes_are_refused_with_what_is_allowed(size: object, text: str) -> None:
    with pytest.raises(SplitError) as caught:
        stratified_split(LABELS, size, seed=0)
    assert str(caught.value).startswith(f"size={size}: {text}")
    assert "use a count from 4 to 996, or a share between 0 and 1" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_classes_with_one_image_are_named() -> None:
    labels = torch.tensor([0] * 10 + [1] + [2] * 10)
    with pytest.raises(SplitError, match="only 1 in: rare"):
        stratified_split(labels, 0.5, seed=0, classes=("common", "rare", "other"))
    with pytest.raises(SplitError, match=r"only 1 in: 1$"):
        stratified_split(labels, 0.5, seed=0)


def test_too_few_images_for_two_parts() -> None:
    with pytest.raises(SplitError, match="3 images of 2 classes are too few"):
        part_count(torch.tensor([0, 0, 1]), 0.5)


def test_subset_is_a_balanced_choice() -> None:
    chosen = stratified_subset(LABELS, 40, seed=0)
    assert torch.bincount(LABELS[chosen]).tolist() == [10, 10, 10, 10]
    assert len(chosen.unique()) == 40
    assert torch.equal(stratified_subset(LABELS, 1000, seed=0), torch.arange(1000))
    with pytest.raises(SplitError, match="size=1001"):
        stratified_subset(LABELS, 1001, seed=0)
    with pytest.raises(SplitError, match="not a share"):
        stratified_subset(LABELS, 1.0, seed=0)

from __future__ import annotations

import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from resweep.data.folds import stratified_folds
from resweep.data.splits import SplitError

LABELS = torch.tensor([0] * 53 + [1] * 31 + [2] * 17)


@pytest.mark.parametrize("num_folds", [2, 5, 17])
def test_every_position_is_in_one_fold_and_classes_keep_their_shares(num_folds: int) -> None:
    folds = stratified_folds(LABELS, num_folds, seed=0)
    assert len(folds) == num_folds
    assert torch.equal(torch.cat(folds).sort().values, torch.arange(101))
    assert all(torch.equal(fold, fold.sort().values) for fold in folds)
    counts = torch.stack([torch.bincount(LABELS[fold], minlength=3) for fold in folds])
    assert (counts.amax(0) - counts.amin(0)).max() <= 1
    sizes = counts.sum(1)
    assert sizes.max() - sizes.min() <= 1


def test_folds_are_those_of_scikit_learn() -> None:
    reference = StratifiedKFold(5, shuffle=True, random_state=7).split(LABELS.numpy(), LABELS.numpy())
    for fold, (_, expected) in zip(stratified_folds(LABELS, 5, seed=7), reference, strict=True):
        assert fold.tolist() == sorted(expected)


def test_the_seed_decides() -> None:
    first, again, other = (stratified_folds(LABELS, 5, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_several_labels_are_divided_at_random() -> None:
    labels = torch.zeros(22, 3)
    folds = stratified_folds(labels, 4, seed=0)
    assert sorted(len(fold) for fold in folds) == [5, 5, 6, 6]
    assert torch.equal(torch.cat(folds).sort().values, torch.arange(22))
    assert folds[0].tolist() != list(range(6))


@pytest.mark.parametrize(
    ("labels", "num_folds", "text"),
    [
        (LABELS, 1, "use a whole number of at least 2"),
        (LABELS, True, "use a whole number of at least 2"),
        (LABELS, 2.0, "use a whole number of at least 2"),
        (LABELS, 18, "more folds than images of the smallest class: rare has 17, so use at most that"),
        (torch.zeros(3, 2), 4, "more folds than images; there are 3"),
    ],
)
def test_impossible_numbers_are_refused(labels: torch.Tensor, num_folds: int, text: str) -> None:
    with pytest.raises(SplitError) as caught:
        stratified_folds(labels, num_folds, 0, ("a", "b", "rare"))
    assert caught.value.reason == text

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from resweep.data.noise import noisy_labels

LABELS = torch.arange(5000) % 5


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.2, 1000), (0.6, 3000), (0.00051, 3), (0.9999, 5000)])
def test_exactly_the_share_of_the_labels_changes(share: float, count: int) -> None:
    noisy = noisy_labels(LABELS, share, 5, seed=0)
    assert int((noisy != LABELS).sum()) == count
    assert noisy.dtype == torch.int64 and noisy.min() >= 0 and noisy.max() < 5
    assert torch.equal(LABELS, torch.arange(5000) % 5)


def test_every_other_class_is_equally_likely() -> None:
    noisy = noisy_labels(LABELS, 0.6, 5, seed=0)
    changed = noisy != LABELS
    assert chisquare(torch.bincount(LABELS[changed])).pvalue > 0.01  # which images
    shifts = (noisy - LABELS)[changed] % 5
    assert chisquare(torch.bincount(shifts, minlength=5)[1:]).pvalue > 0.01  # which of the four others
    for label in range(5):
        assert chisquare(torch.bincount(shifts[LABELS[changed] == label], minlength=5)[1:]).pvalue > 0.001


def test_more_noise_keeps_what_is_wrong_already() -> None:
    little, much = (noisy_labels(LABELS, share, 5, seed=3) for share in (0.1, 0.4))
    wrong = little != LABELS
    assert torch.equal(much[wrong], little[wrong])


def test_the_seed_decides_and_the_global_one_does_not() -> None:
    results = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        results.append(noisy_labels(LABELS, 0.3, 5, seed))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_two_classes_are_swapped() -> None:
    labels = torch.arange(10) % 2
    noisy = noisy_labels(labels, 0.5, 2, seed=0)
    assert int((noisy == 1 - labels).sum()) == 5


@pytest.mark.parametrize("share", [-0.1, 1.0, True, "half", float("nan")])
def test_impossible_shares_are_refused(share: object) -> None:
    with pytest.raises(ValueError, match=r"^label_noise=.*: a share of at least 0 and below 1"):
        noisy_labels(LABELS, share, 5, seed=0)

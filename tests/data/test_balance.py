from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from resweep.data.balance import BalancedLoader, class_weights
from resweep.data.loader import BatchLoader
from resweep.data.samples import InMemory

LABELS = torch.tensor([0] * 700 + [1] * 250 + [2] * 50)


def loader(epoch: int = 0, seed: int = 0, **settings: object) -> BalancedLoader:
    samples = InMemory(torch.zeros(1000, 1, 1, 1, dtype=torch.uint8), LABELS)
    return BalancedLoader(samples, 100, shuffle=True, seed=seed, epoch=lambda: epoch, **settings)


def test_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    weights = class_weights(LABELS, 3)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.double(), torch.from_numpy(expected), rtol=1e-6, atol=0)
    assert float(weights[LABELS].mean()) == pytest.approx(1, rel=1e-6)


def test_weights_make_every_class_count_the_same() -> None:
    together = torch.bincount(LABELS, weights=class_weights(LABELS, 3)[LABELS].double())
    torch.testing.assert_close(together, torch.full_like(together, 1000 / 3), rtol=1e-6, atol=0)


def test_weights_of_several_labels_are_negatives_over_positives() -> None:
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    weights = class_weights(labels, 2)
    assert weights.tolist() == [pytest.approx(1 / 3), 3.0]
    # At logits of zero the gradients of positives and negatives cancel: the loss is balanced.
    logits = torch.zeros(4, 2, requires_grad=True)
    F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="sum").backward()
    torch.testing.assert_close(logits.grad.sum(0), torch.zeros(2), rtol=0, atol=1e-6)


def test_sampling_shows_every_class_equally_often() -> None:
    order = torch.cat([loader(epoch).order() for epoch in range(30)])
    assert len(order) == 30_000
    counts = torch.bincount(LABELS[order], minlength=3)
    deviation = (30_000 / 3 * 2 / 3) ** 0.5  # of a binomial count
    assert ((counts - 10_000).abs() < 4 * deviation).all()
    images = torch.bincount(order[LABELS[order] == 2] - 950, minlength=50)  # within the class all images alike
    assert images.min() > 200 - 5 * 200**0.5 and images.max() < 200 + 5 * 200**0.5
    assert order.min() == 0 and order.max() == 999


def test_epochs_differ_and_depend_on_the_seed_only() -> None:
    orders = []
    for number, (seed, epoch) in enumerate(((0, 0), (0, 0), (0, 1), (1, 0))):
        torch.manual_seed(number)
        orders.append(loader(epoch, seed).order())
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2]) and not torch.equal(orders[0], orders[3])


def test_a_continued_epoch_goes_on_where_it_was() -> None:
    whole = [(index, positions.tolist()) for _, _, positions, index in loader()]
    rest = [(index, positions.tolist()) for _, _, positions, index in loader(first=lambda: 4)]
    assert [index for index, _ in whole] == list(range(10)) and rest == whole[4:]


def test_balanced_classes_are_drawn_with_replacement() -> None:
    samples = InMemory(torch.zeros(1000, 1, 1, 1, dtype=torch.uint8), torch.arange(1000) % 4)
    order = BalancedLoader(samples, 100, shuffle=True, seed=0, epoch=lambda: 0).order()
    assert abs(len(order.unique()) / 1000 - (1 - np.exp(-1))) < 0.05  # 1 - 1/e of the images are expected to be seen
    plain = BatchLoader(samples, 100, shuffle=True, seed=0, epoch=lambda: 0).order()
    assert len(plain.unique()) == 1000

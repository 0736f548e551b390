"""Classes with few images: given more weight in the loss, or shown more often."""

from __future__ import annotations

import torch
from torch import Tensor

from resweep.data.loader import BatchLoader
from resweep.seeding import derive_seed

BALANCES = ("sampling", "weights")


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Return the weight of each class in the loss.

    One label an image: N / (K n_k), so that the mean weight of the images is 1. Several labels: negatives over
    positives of each label, the ``pos_weight`` of binary cross-entropy.

    Args:
        labels: int64, shape (N,), each class at least once; or float of 0 and 1, shape (N, K), likewise.
        num_classes: K.

    Returns:
        float32, shape (K,).

    Source: ``sklearn.utils.class_weight.compute_class_weight("balanced")``, after King and Zeng 2001, Logistic
    regression in rare events data; ``torch.nn.BCEWithLogitsLoss``.
    """
    if labels.ndim == 2:
        positives = labels.double().sum(0)
        return ((len(labels) - positives) / positives).float()
    counts = torch.bincount(labels, minlength=num_classes).double()
    return (len(labels) / (num_classes * counts)).float()


class BalancedLoader(BatchLoader):
    """Go through samples in batches in which every class is equally likely.

    An epoch draws N positions with replacement, each image with a probability inverse to the number of images of its
    class: K classes are expected N / K times each, some images come several times and some not at all. Everything else
    is that of :class:`BatchLoader`.

    Randomness: one draw per epoch, by a generator seeded by ``derive_seed(seed, "balance", epoch)``.
    """

    def order(self) -> Tensor:
        """Return the positions of the present epoch: int64, shape (N,)."""
        labels = self.samples.labels
        weights = 1 / torch.bincount(labels).double()[labels]
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "balance", self.epoch()))
        # By the cumulated weights and not by torch.multinomial, which takes no more than 2**24 images.
        ends = weights.cumsum(0)
        draws = torch.rand(len(labels), dtype=torch.float64, generator=generator) * ends[-1]
        return torch.searchsorted(ends, draws, right=True).clamp_(max=len(labels) - 1)

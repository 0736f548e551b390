"""What depends on the order of scores only: areas under curves, and the thresholds that separate best.

Every label is a ranking of its own. Equal scores share one place of it, so that the order of the images does not
matter, and nothing is binned. All three values follow from where the positive images stand among all images. NumPy
sorts here: on processors with vector instructions it is about twenty times as fast as torch.

Shapes: N images, P positive ones of a label, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

UNDECIDED = 0.5  # threshold of a label without positives
BLOCK = 64  # columns that are made contiguous at a time


@dataclass(frozen=True)
class Ranking:
    """Where the positive images of one label stand.

    Attributes:
        ordered: float (N,), all scores, upwards.
        found: float (P,), the scores of the positive images, upwards.
        below: int64 (P,), how many of all images score lower than each positive one.
        below_found: int64 (P,), how many of the positive images do.
        equal: int64 (P,), how many of all images have the same score, itself included.
        equal_found: int64 (P,), how many of the positive images have, itself included.
    """

    ordered: np.ndarray
    found: np.ndarray
    below: np.ndarray
    below_found: np.ndarray
    equal: np.ndarray
    equal_found: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, positives: np.ndarray) -> Ranking:
        """Rank the images of one label.

        Args:
            scores: float (N,), higher means more likely positive.
            positives: bool (N,).
        """
        ordered, found = np.sort(scores), np.sort(scores[positives])
        below, below_found = np.searchsorted(ordered, found), np.searchsorted(found, found)
        equal = np.searchsorted(ordered, found, side="right") - below
        equal_found = np.searchsorted(found, found, side="right") - below_found
        return cls(ordered, found, below, below_found, equal, equal_found)

    def auroc(self) -> float:
        """Return the area under the receiver operating characteristic; nan without positives or without negatives.

        The share of pairs of a positive and a negative image in which the positive one has the higher score; a pair
        with equal scores counts one half.

        Source: Fawcett 2006 ("An introduction to ROC analysis", section 7); checked against scikit-learn.
        """
        pairs = len(self.found) * (len(self.ordered) - len(self.found))
        twice = 2 * (self.below - self.below_found) + self.equal - self.equal_found
        return int(twice.sum()) / (2 * pairs) if pairs else float("nan")

    def average_precision(self) -> float:
        """Return the average precision; nan without positives.

        ``sum_n (R_n - R_(n-1)) P_n`` over the distinct scores, with recall and precision of all images that score at
        least as high. Nothing is interpolated. Checked against scikit-learn.
        """
        if len(self.found) == 0:
            return float("nan")
        precision = (len(self.found) - self.below_found) / (len(self.ordered) - self.below)
        return float(precision.mean())

    def best_threshold(self) -> float:
        """Return the threshold that maximises F1, where score >= threshold means positive.

        It lies halfway between the lowest score that is let in and the highest that is kept out (0 when none is). Of
        equally good ones the largest is returned, which gives the label least often; 0.5 without positives, where F1
        is 0 whatever the threshold.
        """
        count = len(self.found)
        if count == 0:
            return UNDECIDED
        given = len(self.ordered) - self.below
        f1 = 2 * (count - self.below_found) / (given + count)
        best = count - 1 - int(f1[::-1].argmax())  # the last of equal ones
        lowest_in, place = self.found[best], self.below[best]
        highest_out = self.ordered[place - 1] if place else self.found.dtype.type(0)
        halfway = (lowest_in + highest_out) / 2
        return float(halfway if halfway > highest_out else lowest_in)  # neighbours have no number between them


def rankings(scores: Tensor, positives: Tensor) -> Iterator[Ranking]:
    """Yield the ranking of every label.

    Args:
        scores: float (N, K), higher means more likely positive.
        positives: bool (N, K).
    """
    for some, hits in zip(scores.split(BLOCK, 1), positives.split(BLOCK, 1), strict=True):
        yield from map(Ranking.of, some.T.contiguous().cpu().numpy(), hits.T.contiguous().cpu().numpy())


def best_thresholds(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the threshold of every label that maximises its F1 (see :meth:`Ranking.best_threshold`).

    Args:
        probabilities: float (N, K) in [0, 1].
        targets: (N, K), above 0.5 where the image has the label.

    Returns:
        Like ``probabilities``, (K,), in [0, 1].
    """
    return probabilities.new_tensor([one.best_threshold() for one in rankings(probabilities, targets > 0.5)])

"""How far confidences can be believed: the share of right answers among those that were equally confident.

Shapes: N images or decisions.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15  # as Guo et al. 2017 have it


class Calibration:
    """Sums over 15 equal bins of confidence, bin m being ((m - 1) / 15, m / 15]; the first one has 0 as well.

    What has no confidence (nan) is left out.

    Source: Guo et al. 2017, arXiv 1706.04599, section 2.
    """

    def __init__(self) -> None:
        self.edges = torch.linspace(0, 1, BINS + 1)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.count = torch.zeros(BINS, dtype=torch.int64)
        self.confidence = torch.zeros(BINS, dtype=torch.float64)
        self.right = torch.zeros(BINS, dtype=torch.float64)

    def add(self, confidence: Tensor, right: Tensor) -> None:
        """Add some answers.

        Args:
            confidence: float32 (N,), probabilities.
            right: bool (N,), whether what was predicted with that probability came true.
        """
        known = ~confidence.isnan()
        if not known.all():
            confidence, right = confidence[known], right[known]
        places = torch.bucketize(confidence, self.edges[1:-1])
        self.count += torch.bincount(places, minlength=BINS)
        self.confidence += torch.bincount(places, confidence.double(), minlength=BINS)
        self.right += torch.bincount(places, right.double(), minlength=BINS)

    def error(self) -> float:
        """Return the expected calibration error: the bins' gaps |right - confidence|, weighted by their counts.

        nan where nothing was added.
        """
        return ((self.right - self.confidence).abs().sum() / self.count.sum()).item()

    def table(self) -> dict[str, list[float]]:
        """Return a row per bin: its edges, how many answers it has, their mean confidence and the share of right ones.

        The two means of an empty bin are nan.
        """
        edges = [index / BINS for index in range(BINS + 1)]
        means = {"confidence": self.confidence / self.count, "accuracy": self.right / self.count}
        columns = {name: values.tolist() for name, values in means.items()}
        return {"lower": edges[:-1], "upper": edges[1:], "count": self.count.tolist(), **columns}

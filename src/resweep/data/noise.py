"""Wrong labels on purpose."""

from __future__ import annotations

import torch
from torch import Tensor

from resweep.seeding import derive_seed


def noisy_labels(labels: Tensor, share: float, num_classes: int, seed: int) -> Tensor:
    """Replace the labels of some images by another class: symmetric label noise.

    Exactly ``round(share * N)`` images are chosen, each equally likely; every one gets one of the K - 1 classes that
    are not its own, each equally likely. (Where noise is defined as a class drawn from all K, a share p of it changes
    p (K - 1) / K of the labels.) Grows with the share: what is wrong at a smaller one is as wrong at a larger one.

    Args:
        labels: int64, shape (N,), values in [0, K).
        share: in [0, 1).
        num_classes: K, at least 2.
        seed: decides which labels become what.

    Returns:
        int64, shape (N,); the given tensor where nothing changes.

    Raises:
        ValueError: if the share is outside its range.

    Randomness: generators seeded by ``derive_seed(seed, "noise", part)``.

    Source: Zhang et al. 2017, arXiv 1611.03530, section 2.1 (partially corrupted labels, drawn from all K classes);
    Foret et al. 2021, arXiv 2010.01412, section 3.3 (training with randomly changed labels, clean test labels).
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise ValueError(f"label_noise={share}: a share of at least 0 and below 1 is needed")
    count = round(share * len(labels))
    if count == 0:
        return labels
    chosen = torch.randperm(len(labels), generator=_generator(seed, "images"))[:count]
    shift = torch.randint(1, num_classes, (len(labels),), generator=_generator(seed, "classes"))[:count]
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shift) % num_classes
    return noisy


def _generator(seed: int, part: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "noise", part))

"""Seeds that depend on a position, not on a history.

Every random decision of a run (order of an epoch, augmentation and dropout of a step) takes its seed from the run's
seed and from where it happens. No generator state has to be stored, and a run continued at step t draws what an
uninterrupted run draws at step t.
"""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *path: int | str) -> int:
    """Return the seed that belongs to a position below a run's seed.

    The first eight bytes of the BLAKE2b hash of the written path, without the sign bit: the same on every machine,
    processor and version of Python.

    Args:
        seed: the run's seed; 0 is a seed like any other.
        path: names and counters that say where, for instance ``"augment", epoch, step``.

    Returns:
        A whole number in [0, 2**63).

    Example:
        >>> derive_seed(0, "order", 1) == derive_seed(0, "order", 1)
        True
        >>> derive_seed(0, "order", 1) == derive_seed(0, "order", 2)
        False
    """
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

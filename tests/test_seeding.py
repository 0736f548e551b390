"""Seeds by position: stable, distinct, spread over the whole range."""

from __future__ import annotations

import hashlib

import pytest
import torch
from scipy import stats

from resweep.seeding import derive_seed


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((0,), "0"),
        ((0, "init"), "0/init"),
        ((3, "augment", 2, 17), "3/augment/2/17"),
        ((2**32 - 1, "x"), "4294967295/x"),
    ],
)
def test_the_seed_is_the_hash_of_the_written_path(path: tuple, text: str) -> None:
    expected = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") // 2
    assert derive_seed(*path) == expected


def test_positions_have_seeds_of_their_own() -> None:
    paths = [(seed, name, epoch, step) for seed in range(4) for name in ("augment", "step") for epoch in range(10)
             for step in range(100)]  # fmt: skip
    assert len({derive_seed(*path) for path in paths}) == len(paths)
    assert derive_seed(0, "step", 1, 23) != derive_seed(0, "step", 12, 3)


def test_seeds_are_spread_evenly_and_fit_a_generator() -> None:
    seeds = [derive_seed(0, "order", epoch) for epoch in range(2000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stats.kstest([seed / 2**63 for seed in seeds], "uniform").pvalue > 0.01
    torch.Generator().manual_seed(max(seeds))


def test_neighbouring_seeds_are_unrelated() -> None:
    pairs = [(derive_seed(seed, "init"), derive_seed(seed + 1, "init")) for seed in range(1000)]
    assert abs(stats.pearsonr(*zip(*pairs, strict=True)).statistic) < 0.1

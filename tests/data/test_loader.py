from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resweep.data.augment import Augment
from resweep.data.augment.per_image import PerImage
from resweep.data.loader import BatchLoader
from resweep.data.samples import InMemory, OnDisk, UnreadableImage


def numbered_samples(count: int = 23) -> InMemory:
    """Samples whose label is their position and whose pixels are the label."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return InMemory(images, torch.arange(count))


@pytest.fixture
def on_disk(tmp_path: Path) -> OnDisk:
    paths = [tmp_path / f"{number:02}.png" for number in range(23)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((2, 2, 3), number, dtype=np.uint8)).save(path)
    return OnDisk(paths, torch.arange(23), None, 3, tmp_path)


def orders(loader: BatchLoader) -> list[int]:
    return torch.cat([labels for _, labels, _, _ in loader]).tolist()


def test_without_shuffling_batches_follow_the_samples() -> None:
    loader = BatchLoader(numbered_samples(), 5, shuffle=False, seed=0)
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    assert [len(labels) for _, labels, _, _ in batches] == [5, 5, 5, 5, 3]
    assert [index for _, _, _, index in batches] == [0, 1, 2, 3, 4]
    assert orders(loader) == list(range(23))
    for images, labels, _, _ in batches:
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        assert torch.equal(images.long(), labels.view(-1, 1, 1, 1).expand(-1, 3, 2, 2))


@pytest.mark.parametrize(("count", "batch_size", "kept", "all_batches"), [(23, 5, 4, 5), (20, 5, 4, 4), (3, 5, 0, 1)])
def test_drop_last(count: int, batch_size: int, kept: int, all_batches: int) -> None:
    samples = numbered_samples(count)
    dropping = BatchLoader(samples, batch_size, shuffle=False, seed=0, drop_last=True)
    keeping = BatchLoader(samples, batch_size, shuffle=False, seed=0)
    assert len(dropping) == len(list(dropping)) == kept
    assert len(keeping) == len(list(keeping)) == all_batches


def test_every_epoch_has_each_sample_once_in_its_own_order() -> None:
    seen = []
    for epoch in range(4):
        loader = BatchLoader(numbered_samples(), 5, shuffle=True, seed=0, epoch=lambda epoch=epoch: epoch)
        seen.append(orders(loader))
        assert sorted(seen[-1]) == list(range(23))
        assert orders(loader) == seen[-1]
    assert len({tuple(order) for order in seen}) == 4
    other_seed = BatchLoader(numbered_samples(), 5, shuffle=True, seed=1, epoch=lambda: 0)
    assert orders(other_seed) != seen[0]


def test_the_global_generator_is_neither_used_nor_moved(on_disk: OnDisk) -> None:
    results = []
    for samples, workers in ((numbered_samples(), 0), (on_disk, 0), (on_disk, 2)):
        torch.manual_seed(len(results))
        before = torch.get_rng_state()
        results.append(orders(BatchLoader(samples, 5, shuffle=True, seed=7, epoch=lambda: 2, num_workers=workers)))
        assert torch.equal(torch.get_rng_state(), before)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_files_give_the_same_batches_as_memory(on_disk: OnDisk, workers: int) -> None:
    held = BatchLoader(numbered_samples(), 5, shuffle=True, seed=0, epoch=lambda: 1, drop_last=True)
    lazy = BatchLoader(on_disk, 5, shuffle=True, seed=0, epoch=lambda: 1, drop_last=True, num_workers=workers)
    for one, other in zip(held, lazy, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) and one[3] == other[3]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_file_is_named_with_and_without_workers(on_disk: OnDisk, workers: int) -> None:
    assert on_disk.shape == (3, 2, 2)
    on_disk.paths[4].write_bytes(b"")
    with pytest.raises(UnreadableImage) as caught:
        list(BatchLoader(on_disk, 5, shuffle=False, seed=0, num_workers=workers))
    assert str(caught.value) == f"cannot read image {on_disk.paths[4]}: not in a known format"


@pytest.mark.parametrize(
    ("torch_says", "message"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "a process that loads data has died"),
        (EOFError(), "a process that loads data has died"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "a process that loads data has died"),
        (RuntimeError("Caught RuntimeError in DataLoader worker process 0"), "Caught RuntimeError in"),
    ],
)
def test_a_dead_worker_is_said_in_one_way(
    on_disk: OnDisk, monkeypatch: pytest.MonkeyPatch, torch_says: Exception, message: str
) -> None:
    def dying(*_: object) -> Iterator[None]:
        raise torch_says
        yield

    monkeypatch.setattr("resweep.data.loader._started", dying)
    with pytest.raises(RuntimeError, match=message):
        list(BatchLoader(on_disk, 5, shuffle=False, seed=0, num_workers=1))


def test_the_epoch_is_asked_when_the_first_batch_is_wanted() -> None:
    epoch = 0
    loader = BatchLoader(numbered_samples(), 5, shuffle=True, seed=0, epoch=lambda: epoch)
    early = iter(loader)
    epoch = 3
    expected = orders(BatchLoader(numbered_samples(), 5, shuffle=True, seed=0, epoch=lambda: 3))
    assert torch.cat([labels for _, labels, _, _ in early]).tolist() == expected


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size=0"):
        BatchLoader(numbered_samples(), 0, shuffle=False, seed=0)
    with pytest.raises(ValueError, match="epoch=None"):
        BatchLoader(numbered_samples(), 1, shuffle=True, seed=0)
    with pytest.raises(ValueError, match=r"^transform: "):
        BatchLoader(numbered_samples(), 1, shuffle=True, seed=0, epoch=lambda: 0, transform=augmentation())


def test_positions_belong_to_the_images(on_disk: OnDisk) -> None:
    for samples in (numbered_samples(), on_disk):
        for images, labels, positions, _ in BatchLoader(samples, 5, shuffle=True, seed=0, epoch=lambda: 1):
            assert positions.dtype == torch.int64 and positions.tolist() == labels.tolist()
            assert images[:, 0, 0, 0].tolist() == positions.tolist()


def augmentation() -> PerImage:
    augment = Augment(flip=0.5, flip_mode="alternating", brightness=0.5, resized_crop=(0.3, 1.0))
    return PerImage(augment, 2, 3, (100, 100, 100))


def augmented(on_disk: OnDisk, workers: int = 0, epoch: int = 0, first: int = 0) -> list[torch.Tensor]:
    loader = BatchLoader(
        on_disk,
        5,
        shuffle=True,
        seed=3,
        epoch=lambda: epoch,
        first=lambda: first,
        num_workers=workers,
        transform=augmentation(),
    )
    return [images for images, _, _, _ in loader]


@pytest.fixture
def pictures(tmp_path: Path) -> OnDisk:
    """Files of different sizes."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"picture-{number}.png" for number in range(14)]
    for number, path in enumerate(paths):
        Image.fromarray(random.integers(0, 256, (5 + number, 9, 3), dtype=np.uint8)).save(path)
    return OnDisk(paths, torch.arange(14), 2, 3, tmp_path)


def test_augmentation_in_workers_does_not_depend_on_their_number(pictures: OnDisk) -> None:
    before = torch.get_rng_state()
    here, there = augmented(pictures), augmented(pictures, workers=2)
    assert len(here) == len(there) == 3 and all(map(torch.equal, here, there))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_continued_epoch_has_the_augmentation_of_a_whole_one(pictures: OnDisk) -> None:
    whole, rest = augmented(pictures, epoch=2), augmented(pictures, epoch=2, first=1)
    assert all(map(torch.equal, whole[1:], rest)) and len(rest) == 2
    assert not torch.equal(whole[0], augmented(pictures, epoch=3)[0])


def test_more_workers_than_processors_are_no_warning(on_disk: OnDisk) -> None:
    loader = BatchLoader(on_disk, 12, shuffle=False, seed=0, num_workers=(os.cpu_count() or 1) + 1)
    assert orders(loader) == list(range(23))

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resweep.data.decode import UnreadableImage, read_image
from resweep.data.samples import InMemory, OnDisk, Source


def random_picture(seed: int, width: int = 6, height: int = 4, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        random_picture(number).save(path)
    return paths


def random_samples(count: int = 50, channels: int = 3) -> InMemory:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 200, (count, channels, 5, 4), dtype=torch.uint8, generator=generator)
    return InMemory(images, torch.arange(count) % 4)


def test_mean_and_std_agree_with_numpy() -> None:
    samples = random_samples(5000)
    mean, std = samples.channel_mean_std()
    pixels = samples.images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean.numpy(), pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std.numpy(), pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_constant_channel_has_std_one() -> None:
    images = random_samples().images.clone()
    images[:, 1] = 51
    mean, std = InMemory(images, random_samples().labels).channel_mean_std()
    assert (mean[1].item(), std[1].item()) == (0.2, 1.0)
    assert 0 < std[0] < 1


def test_take_and_batch_follow_the_given_order() -> None:
    samples = random_samples()
    indices = torch.tensor([7, 3, 3, 49])
    images, labels = samples.batch(indices)
    assert labels.tolist() == [3, 3, 3, 1]
    assert all(torch.equal(image, samples.images[index]) for image, index in zip(images, indices, strict=True))
    taken = samples.take(indices)
    assert len(taken) == 4 and taken.shape == (3, 5, 4)
    assert torch.equal(taken.images, images)


def test_digest_changes_with_pixels_labels_and_order_only() -> None:
    samples = random_samples()
    assert InMemory(samples.images.clone(), samples.labels.clone()).digest() == samples.digest()
    changed = samples.images.clone()
    changed[-1, -1, -1, -1] += 1
    digests = {
        samples.digest(),
        InMemory(changed, samples.labels).digest(),
        InMemory(samples.images, samples.labels.flip(0)).digest(),
        samples.take(torch.arange(50).flip(0)).digest(),
    }
    assert len(digests) == 4
    assert all(len(digest) == 32 for digest in digests)


@pytest.mark.parametrize(
    ("images", "labels", "name"),
    [
        (torch.zeros(2, 1, 3, 3), torch.zeros(2, dtype=torch.int64), "images"),
        (torch.zeros(2, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "images"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "labels"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32), "labels"),
    ],
)
def test_wrong_tensors_are_refused(images: torch.Tensor, labels: torch.Tensor, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        InMemory(images, labels)


def test_on_disk_gives_the_pixels_of_the_files(files: list[Path], tmp_path: Path) -> None:
    samples = OnDisk(files, torch.arange(7), None, 3, tmp_path)
    assert samples.shape == (3, 4, 6)
    images, labels = samples.take(torch.tensor([5, 2, 6])).batch(torch.tensor([2, 0]))
    assert labels.tolist() == [6, 5]
    for image, number in zip(images, (6, 5), strict=True):
        np.testing.assert_array_equal(image.numpy().transpose(1, 2, 0), np.asarray(random_picture(number)))


def test_on_disk_statistics_equal_those_in_memory(files: list[Path]) -> None:
    lazy = OnDisk(files, torch.arange(7), None, 3)
    held = InMemory(*lazy.batch(torch.arange(7)))
    for one, other in zip(lazy.channel_mean_std(), held.channel_mean_std(), strict=True):
        assert torch.equal(one, other)


def test_on_disk_digest_sees_changed_files_and_not_the_place_of_the_root(files: list[Path], tmp_path: Path) -> None:
    before = OnDisk(files, torch.arange(7), None, 3, tmp_path).digest()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    paths = [moved / path.name for path in files]
    assert OnDisk(paths, torch.arange(7), None, 3, moved).digest() == before
    os.utime(paths[3], ns=(1, 1))
    assert OnDisk(paths, torch.arange(7), None, 3, moved).digest() != before
    assert OnDisk(paths, torch.arange(7).flip(0), None, 3, moved).digest() != before


def test_a_file_that_changed_later_is_named(files: list[Path]) -> None:
    samples = OnDisk(files, torch.arange(7), None, 3)
    assert samples.shape == (3, 4, 6)
    random_picture(0, width=9).save(files[4])
    with pytest.raises(UnreadableImage, match=r"4\.png is 4x9 .* the others 4x6"):
        samples.batch(torch.arange(7))
    files[4].write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=r"cannot read image .*4\.png: not in a known format"):
        samples.batch(torch.arange(7))


def test_a_selection_shares_the_images() -> None:
    samples = random_samples()
    first = samples.take(torch.tensor([9, 3, 7, 20]))
    second = first.take(torch.tensor([2, 0]))
    assert second.labels.tolist() == [7 % 4, 9 % 4]
    assert torch.equal(second.images, samples.images[[7, 9]])
    assert torch.equal(second.batch(torch.tensor([1]))[0], samples.images[[9]])
    samples.images[7] = 250  # seen by all, as there is one copy
    assert (second.batch(torch.tensor([0]))[0] == 250).all()
    assert len(second) == 2 and second.shape == samples.shape


def test_a_selection_has_the_digest_and_statistics_of_its_copy() -> None:
    samples = random_samples(5000)
    chosen = torch.randperm(5000, generator=torch.Generator().manual_seed(0))[:3000]
    view = samples.take(chosen)
    copy = InMemory(samples.images[chosen], samples.labels[chosen])
    assert view.digest() == copy.digest()
    for one, other in zip(view.channel_mean_std(), copy.channel_mean_std(), strict=True):
        assert torch.equal(one, other)


def test_the_digest_is_the_hash_of_shape_labels_and_pixels() -> None:
    samples = random_samples()
    text = repr(tuple(samples.images.shape)).encode()
    labels = np.asarray(samples.labels, "<i8").tobytes()
    expected = hashlib.blake2b(text + labels + samples.images.numpy().tobytes(), digest_size=16).hexdigest()
    assert samples.digest() == expected


def test_what_has_an_origin_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESWEEP_CACHE", str(tmp_path))
    plain = random_samples()
    chosen = torch.tensor([4, 40, 14])

    def results(samples: InMemory) -> list[object]:
        part = samples.take(chosen)
        return [part.digest(), part.channel_mean_std()[0].tolist(), part.channel_mean_std()[1].tolist()]

    assert results(InMemory(plain.images, plain.labels, origin="here")) == results(plain)
    other = InMemory(plain.images + 1, plain.labels, origin="here")
    assert results(other) == results(plain)  # not looked at again
    assert results(InMemory(plain.images + 1, plain.labels, origin="there")) != results(plain)
    assert other.take(chosen.flip(0)).digest() != plain.take(chosen.flip(0)).digest()
    assert other.relabelled(plain.labels.flip(0)).digest() != plain.digest()
    assert InMemory(plain.images, plain.labels, origin="here").digest() == plain.digest()


def test_other_labels_for_the_same_images(files: list[Path]) -> None:
    held, lazy = random_samples(7), OnDisk(files, torch.arange(7), None, 3)
    for samples in (held.take(torch.arange(6)), lazy.take(torch.arange(6))):
        changed = samples.relabelled(torch.tensor([1, 0, 0, 1, 1, 0]))
        assert changed.batch(torch.tensor([3, 1]))[1].tolist() == [1, 0]
        assert torch.equal(changed.batch(torch.arange(6))[0], samples.batch(torch.arange(6))[0])
        with pytest.raises(ValueError, match=r"^labels: "):
            samples.relabelled(torch.arange(5))


def test_several_labels_an_image(files: list[Path]) -> None:
    labels = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]).repeat(3, 1)[:7]
    held, lazy = InMemory(random_samples(7).images, labels), OnDisk(files, labels, None, 3)
    for samples in (held, lazy):
        assert torch.equal(samples.take(torch.tensor([1, 2])).batch(torch.tensor([1, 0]))[1], labels[[2, 1]])
        assert samples.digest() != samples.relabelled(labels.flip(0)).digest()
    assert Source(held, None, None, ("a", "b"), mirror=True).multilabel
    assert not Source(random_samples(), None, None, ("a", "b", "c", "d"), mirror=True).multilabel
    with pytest.raises(ValueError, match=r"^labels: "):
        InMemory(random_samples(7).images, labels.double())


def test_pictures_have_their_own_sizes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{width}.png" for width in (5, 9)]
    for path, width in zip(paths, (5, 9), strict=True):
        random_picture(width, width=width).save(path)
    samples = OnDisk(paths, torch.arange(2), 4, 3)
    pictures = list(samples.pictures(torch.tensor([1, 0])))
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (9, 4)), ("RGB", (5, 4))]
    np.testing.assert_array_equal(np.asarray(pictures[0]), np.asarray(random_picture(9, width=9)))
    grey = OnDisk(paths, torch.arange(2), 4, 1)
    assert [picture.mode for picture in grey.pictures(torch.arange(2))] == ["L", "L"]


def test_statistics_of_files_are_remembered_until_a_file_changes(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESWEEP_CACHE", str(tmp_path / "cache"))
    before = OnDisk(files, torch.arange(7), None, 3).channel_mean_std()[0]
    facts = files[2].stat()
    read = []
    monkeypatch.setattr(
        "resweep.data.samples.read_image", lambda path, *rest: read.append(path) or read_image(path, *rest)
    )
    assert torch.equal(OnDisk(files, torch.arange(7), None, 3).channel_mean_std()[0], before) and not read
    random_picture(50).save(files[2])
    os.utime(files[2], ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert not torch.equal(OnDisk(files, torch.arange(7), None, 3).channel_mean_std()[0], before) and len(read) == 7


def test_statistics_follow_a_file_of_the_same_size_and_time_and_the_digest_is_that_of_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESWEEP_CACHE", str(tmp_path / "cache"))
    path, found = tmp_path / "0.bmp", []
    for value in (51, 102):
        Image.new("RGB", (4, 4), (value,) * 3).save(path)
        os.utime(path, ns=(7, 7))
        samples = OnDisk([path], torch.tensor([3]), None, 3, tmp_path)
        found.append(samples.channel_mean_std()[0].tolist())
        text = f"None 3\n3 {path.stat().st_size} 7 0.bmp"  # nothing of this machine's own
        assert samples.digest() == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        time.sleep(0.02)  # the system's clock of files ticks every 10 ms at the slowest
    assert found == [[0.2] * 3, [0.4] * 3]

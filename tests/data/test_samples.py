from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from resweep.data.samples import InMemory, OnDisk, UnreadableImage, in_threads, read_image


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


@pytest.mark.parametrize("size", [(40, 20), (20, 60), (30, 30)])
def test_resize_equals_torchvision_where_sides_divide(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    picture = random_picture(1, *size)
    picture.save(path)
    reference = v2.Compose([v2.Resize(10, v2.InterpolationMode.BILINEAR), v2.CenterCrop(10)])(picture)
    np.testing.assert_array_equal(read_image(path, 10, 3).transpose(1, 2, 0), np.asarray(reference))


def test_an_image_of_the_right_size_is_not_filtered(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    random_picture(1, 8, 8).save(path)
    np.testing.assert_array_equal(read_image(path, 8, 3), read_image(path, None, 3))


def test_grey_and_colour_conversions(tmp_path: Path) -> None:
    red = tmp_path / "red.png"
    Image.new("RGB", (2, 2), (255, 0, 0)).save(red)
    assert read_image(red, None, 1).tolist() == [[[76, 76], [76, 76]]]  # 0.299 * 255
    grey = tmp_path / "grey.png"
    Image.new("L", (1, 1), 7).save(grey)
    assert read_image(grey, None, 3).tolist() == [[[7]], [[7]], [[7]]]
    deep = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 255, 256, 65535]], dtype=np.uint16)).save(deep)
    assert read_image(deep, None, 1).tolist() == [[[0, 0, 1, 255]]]
    palette = tmp_path / "palette.gif"
    Image.new("RGB", (1, 1), (0, 0, 255)).convert("P").save(palette, transparency=0)
    assert read_image(palette, None, 3).shape == (3, 1, 1)


def test_broken_files_are_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    random_picture(0, 64, 64).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UnreadableImage, match=r"cannot read image .*cut\.jpg: .*truncated"):
        read_image(path, None, 3)
    floats = tmp_path / "floats.tiff"
    Image.fromarray(np.zeros((2, 2), np.float32)).save(floats)
    with pytest.raises(UnreadableImage, match=r"32-bit pixels"):
        read_image(floats, None, 3)
    with pytest.raises(UnreadableImage, match=r"absent\.png: No such file"):
        read_image(tmp_path / "absent.png", None, 3)


def test_threads_keep_the_order() -> None:
    assert list(in_threads(lambda number: number * number, range(500))) == [number**2 for number in range(500)]

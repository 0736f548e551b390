from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resweep.data import files
from resweep.data.decode import read_image
from resweep.data.image_folder import image_folder, imagenet
from resweep.data.samples import InMemory, OnDisk
from resweep.errors import Problem, RequestError


def write_images(folder: Path, counts: Mapping[str, int], size: tuple[int, int] = (6, 4), start: int = 0) -> None:
    """Write random PNG files of (width, height) into one folder per class."""
    random = np.random.default_rng(start)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")


def problems_of(call: Callable[[], object]) -> list[Problem]:
    with pytest.raises(RequestError) as caught:
        call()
    return caught.value.problems


def only_problem(root: Path | str | None, **settings: object) -> Problem:
    problems = problems_of(lambda: image_folder(root, **settings))
    assert len(problems) == 1
    assert problems[0].key == "data.root"
    return problems[0]


def test_flat_folder_becomes_the_training_split(tmp_path: Path) -> None:
    write_images(tmp_path, {"dog": 3, "cat": 2, "ant": 4})
    source = image_folder(tmp_path)
    assert source.classes == ("ant", "cat", "dog")
    assert source.train.labels.tolist() == [0] * 4 + [1] * 2 + [2] * 3
    assert source.val is None and source.test is None and source.mirror
    expected = np.asarray(Image.open(tmp_path / "cat" / "001.png"))
    np.testing.assert_array_equal(source.train.batch(torch.tensor([5]))[0][0].numpy().transpose(1, 2, 0), expected)


def test_splits_of_their_own(tmp_path: Path) -> None:
    for start, (split, count) in enumerate({"train": 5, "val": 2, "test": 3}.items()):
        write_images(tmp_path / split, {"a": count, "b": count}, start=start)
    source = image_folder(str(tmp_path))
    assert [len(split) for split in (source.train, source.val, source.test)] == [10, 4, 6]
    assert source.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    expected = np.asarray(Image.open(tmp_path / "test" / "b" / "000.png"))
    np.testing.assert_array_equal(source.test.batch(torch.tensor([3]))[0][0].numpy().transpose(1, 2, 0), expected)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_images(tmp_path, {"train": 2, "plane": 3})
    assert image_folder(tmp_path).classes == ("plane", "train")


@pytest.mark.parametrize(("image_size", "channels"), [(None, 3), (3, 3), (5, 1), (9, 3)])
def test_lazy_reading_gives_the_same_bits(tmp_path: Path, image_size: int | None, channels: int) -> None:
    write_images(tmp_path / "train", {"a": 70, "b": 71})
    write_images(tmp_path / "test", {"a": 2, "b": 3}, start=1)
    held = image_folder(tmp_path, image_size, channels)
    lazy = image_folder(tmp_path, image_size, channels, memory_limit_mb=0)
    assert isinstance(held.train, InMemory) and isinstance(lazy.train, OnDisk)
    for one, other in ((held.train, lazy.train), (held.test, lazy.test)):
        assert (
            one.shape == other.shape == ((channels, 4, 6) if image_size is None else (channels, image_size, image_size))
        )
        indices = torch.randperm(len(one), generator=torch.Generator().manual_seed(0))
        for mine, yours in zip(one.batch(indices), other.batch(indices), strict=True):
            assert torch.equal(mine, yours)


def test_the_memory_limit_counts_all_decoded_bytes(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 2, "b": 2}, size=(512, 256))
    assert isinstance(image_folder(tmp_path, 512, 1, memory_limit_mb=1).train, InMemory)  # 4 * 512 * 512 = 2**20
    write_images(tmp_path / "val", {"a": 1, "b": 1}, size=(2, 2))
    assert isinstance(image_folder(tmp_path, 512, 1, memory_limit_mb=1).train, OnDisk)


def test_extensions_in_capitals_count_and_other_files_do_not(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "000.png").rename(tmp_path / "a" / "X.PNG")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.png").write_text("no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "labels.csv").write_text("")
    source = image_folder(tmp_path)
    assert source.classes == ("a", "b") and len(source.train) == 4


def test_missing_folder_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    problem = only_problem(tmp_path / "flowrs")
    assert problem.value == str(tmp_path / "flowrs")
    assert problem.message == "there is no such folder"
    assert problem.nearest == str(tmp_path / "flowers")
    assert only_problem(tmp_path / "nowhere" / "deep").nearest is None
    assert not (tmp_path / "flowrs").exists()


def test_a_file_or_nothing_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert only_problem(tmp_path / "file").message == "is a file, a folder is needed"
    assert "data.root=" in only_problem(None).message
    assert "data.root=" in only_problem("").message


def test_two_classes_are_needed(tmp_path: Path) -> None:
    assert "no class folders" in only_problem(tmp_path).message
    write_images(tmp_path, {"cat": 2})
    assert "one class folder only (cat)" in only_problem(tmp_path).message


def test_all_problems_of_the_layout_are_collected(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 2, "b": 2, "empty": 0})
    write_images(tmp_path / "test", {"a": 2, "empty": 1, "new": 1})
    write_images(tmp_path / "valid", {"a": 1})
    problems = problems_of(lambda: image_folder(tmp_path))
    assert {problem.key for problem in problems} == {"data.root"}
    assert problems[0].nearest == "val" and "folder valid/ beside train/" in problems[0].message
    texts = [problem.message for problem in problems[1:]]
    assert texts[0].startswith("train/empty/ has no image (files that end with .bmp")
    assert texts[1:] == ["test/ has no folder for the class b of train/", "test/ has the class new, train/ does not"]


@pytest.mark.parametrize(
    "settings", [{}, {"image_size": 4}, {"memory_limit_mb": 0}, {"image_size": 4, "memory_limit_mb": 0}]
)
def test_unreadable_images_are_counted_and_ten_are_named(tmp_path: Path, settings: dict[str, int]) -> None:
    write_images(tmp_path, {"a": 14, "b": 80})
    for number in range(12):
        (tmp_path / "a" / f"{number:03}.png").write_bytes(b"broken")
    message = only_problem(tmp_path, **settings).message
    assert message.startswith(
        "12 of 94 images cannot be read, repair or remove them: a/000.png: not in a known format; "
    )
    assert message.count("a/0") == 10 and "a/009.png" in message and "a/010.png" not in message
    assert message.endswith("; and 2 more")


def test_a_folder_of_broken_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(b"")
    assert only_problem(tmp_path).message.startswith("2 of 2 images cannot be read")


@pytest.mark.parametrize("memory_limit_mb", [0, 1024])
def test_different_sizes_need_an_image_size(tmp_path: Path, memory_limit_mb: int) -> None:
    write_images(tmp_path, {"a": 3, "b": 3})
    Image.new("RGB", (8, 3)).save(tmp_path / "b" / "001.png")
    message = only_problem(tmp_path, memory_limit_mb=memory_limit_mb).message
    assert "a/000.png is 4x6 (height x width), b/001.png is 3x8, 1 of them unlike the first" in message
    assert "set data.image_size=… to scale" in message
    assert image_folder(tmp_path, 3, memory_limit_mb=memory_limit_mb).train.shape == (3, 3, 3)


def test_sizes_and_channels_are_checked_together(tmp_path: Path) -> None:
    problems = problems_of(lambda: image_folder(tmp_path, image_size=0, channels=2))
    assert [problem.key for problem in problems] == ["data.image_size", "data.channels"]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files that are decoded from now on, with a cache that is empty."""
    names: list[str] = []

    def counted(path: str, *rest: object) -> np.ndarray:
        names.append(os.path.basename(path))
        return read_image(path, *rest)

    monkeypatch.setenv("RESWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(files, "read_image", counted)
    return names


def test_images_are_decoded_once(tmp_path: Path, decoded: list[str]) -> None:
    write_images(tmp_path / "train", {"a": 3, "b": 3})
    write_images(tmp_path / "test", {"a": 1, "b": 1}, start=1)
    first = image_folder(tmp_path)
    assert len(decoded) == 8
    again = image_folder(f"{tmp_path}/")
    assert len(decoded) == 8
    for one, other in ((first.train, again.train), (first.test, again.test)):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        assert one.digest() == other.digest() == InMemory(one.images.clone(), one.labels).digest()


def test_settings_side_by_side_have_entries_of_their_own(tmp_path: Path, decoded: list[str]) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    settings = [{}, {"image_size": 4}, {"image_size": 4, "crop_pct": 0.8}, {"image_size": 4, "channels": 1}]
    shapes = [image_folder(tmp_path, **each).train.shape for each in settings]
    assert shapes == [(3, 4, 6), (3, 4, 4), (3, 4, 4), (1, 4, 4)] and len(decoded) == 16
    pixels = [image_folder(tmp_path, **each).train.images for each in settings]
    assert len(decoded) == 16 and not torch.equal(pixels[1], pixels[2])


def replace(path: Path, later: int, size: tuple[int, int] = (6, 4)) -> None:
    """Write another picture with the same number of bytes where that is possible."""
    Image.new("RGB", size, (later, 0, 0)).save(path)


@pytest.mark.parametrize("change", ["content", "time", "added", "removed", "renamed", "moved", "swapped"])
def test_a_change_of_the_folder_is_noticed(tmp_path: Path, decoded: list[str], change: str) -> None:
    write_images(tmp_path, {"a": 3, "b": 3})
    before = image_folder(tmp_path).train
    file = tmp_path / "a" / "001.png"
    facts = file.stat()
    if change == "content":
        replace(file, 3)
    elif change == "time":  # the same size: another picture of as many bytes, for instance
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    elif change == "added":
        shutil.copy2(file, tmp_path / "a" / "005.png")
    elif change == "removed":
        file.unlink()
    elif change == "renamed":
        file.rename(tmp_path / "a" / "009.png")
    elif change == "moved":
        file.rename(tmp_path / "b" / "009.png")
    else:
        (tmp_path / "b" / "000.png").rename(tmp_path / "spare")
        file.rename(tmp_path / "b" / "000.png")
        (tmp_path / "spare").rename(file)
    count = len(decoded)
    after = image_folder(tmp_path).train
    assert len(decoded) == count + len(after)
    paths = sorted(tmp_path.glob("?/*.png"))
    for position, path in enumerate(paths):
        np.testing.assert_array_equal(after.images[position].numpy(), read_image(path, None, 3))
    assert after.labels.tolist() == [{"a": 0, "b": 1}[path.parent.name] for path in paths]
    assert len(before.images) == 6  # who holds the old ones keeps them


def write_bmps(folder: Path, value: int) -> None:
    """Write pictures of one colour, all of the same number of bytes and the same time of change."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            path = folder / name / f"{number}.bmp"
            Image.new("RGB", (4, 4), (value + number,) * 3).save(path)
            os.utime(path, (0, 0))


@pytest.mark.usefixtures("decoded")
@pytest.mark.parametrize("memory_limit_mb", [0, 1024])
def test_other_pictures_of_the_same_sizes_and_times_are_noticed(tmp_path: Path, memory_limit_mb: int) -> None:
    found = []
    for value in (10, 110):
        write_bmps(tmp_path, value)
        samples = image_folder(tmp_path, memory_limit_mb=memory_limit_mb).train
        found.append((255 * samples.channel_mean_std()[0][0].item(), samples.batch(torch.arange(4))[0][:, 0, 0, 0]))
        time.sleep(0.02)  # the system's clock of files ticks every 10 ms at the slowest
    for value, (mean, pixels) in zip((10, 110), found, strict=True):
        assert mean == pytest.approx(value + 0.5) and pixels.tolist() == [value, value + 1] * 2


@pytest.mark.usefixtures("decoded")
def test_a_picture_that_breaks_without_a_trace_is_noticed(tmp_path: Path) -> None:
    write_bmps(tmp_path, 10)
    image_folder(tmp_path, memory_limit_mb=0)
    time.sleep(0.02)
    path = tmp_path / "a" / "1.bmp"
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, (0, 0))
    assert "a/1.bmp: not in a known format" in only_problem(tmp_path, memory_limit_mb=0).message


def test_a_broken_file_leaves_no_entry(tmp_path: Path, decoded: list[str]) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    good = (tmp_path / "a" / "000.png").read_bytes()
    (tmp_path / "a" / "000.png").write_bytes(b"broken")
    assert only_problem(tmp_path).message.startswith("1 of 4 images")
    (tmp_path / "a" / "000.png").write_bytes(good)
    assert len(image_folder(tmp_path).train) == 4


def test_headers_of_files_on_disk_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESWEEP_CACHE", str(tmp_path / ".cache"))
    write_images(tmp_path, {"a": 2, "b": 2})
    assert len(image_folder(tmp_path, 4, memory_limit_mb=0).train) == 4

    def opened(path: str) -> tuple[int, int]:
        raise AssertionError(path)

    monkeypatch.setattr(files, "read_size", opened)
    assert len(image_folder(tmp_path, 4, memory_limit_mb=0).train) == 4
    replace(tmp_path / "a" / "000.png", 3, (9, 9))
    with pytest.raises(AssertionError, match=r"a/000\.png"):
        image_folder(tmp_path, 4, memory_limit_mb=0)


def test_imagenet_tests_on_its_validation_folder(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"n01440764": 3, "n01443537": 3})
    write_images(tmp_path / "val", {"n01440764": 1, "n01443537": 2}, start=1)
    (tmp_path / "test").mkdir()  # the official test images have no labels
    source = imagenet(tmp_path, 4)
    assert source.val is None and len(source.train) == 6
    assert source.test.labels.tolist() == [0, 1, 1] and source.classes == ("n01440764", "n01443537")
    expected = read_image(tmp_path / "val" / "n01443537" / "000.png", 4, 3, crop_pct=0.875)
    np.testing.assert_array_equal(source.test.images[1].numpy(), expected)
    shutil.rmtree(tmp_path / "val")
    message = problems_of(lambda: imagenet(tmp_path))[0].message
    assert "has no classes in val/" in message


def test_a_cropped_share_needs_a_size(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    for settings in ({"crop_pct": 0.5}, {"crop_pct": 0.0, "image_size": 4}, {"crop_pct": 1.5, "image_size": 4}):
        problems = problems_of(lambda settings=settings: image_folder(tmp_path, **settings))
        assert [problem.key for problem in problems] == ["data.crop_pct"]

"""Every published data set is read from files in its own format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from PIL import Image
from published import CLASSES, FILES, WRITERS
from torchvision import datasets

from resweep.data import sources
from resweep.data.samples import Samples, Source
from resweep.errors import Problem, RequestError

# Shape of an image, training, validation and test images, classes of what published.WRITERS write.
WRITTEN = {
    "cifar10": ((3, 32, 32), 50, 0, 10, 10),
    "cifar100": ((3, 32, 32), 40, 0, 20, 10),
    "dtd": ((3, 16, 16), 6, 6, 6, 3),
    "emnist": ((1, 28, 28), 188, 0, 94, 47),
    "eurosat": ((3, 16, 16), 24, 0, 0, 3),
    "fashion_mnist": ((1, 28, 28), 40, 0, 20, 10),
    "fgvc_aircraft": ((3, 16, 16), 6, 6, 6, 3),
    "flowers102": ((3, 16, 16), 204, 102, 102, 102),
    "food101": ((3, 16, 16), 12, 0, 6, 3),
    "kmnist": ((1, 28, 28), 40, 0, 20, 10),
    "mnist": ((1, 28, 28), 40, 0, 20, 10),
    "oxford_pets": ((3, 16, 16), 12, 0, 6, 3),
    "stanford_cars": ((3, 16, 16), 12, 0, 6, 3),
    "stl10": ((3, 96, 96), 40, 0, 20, 10),
    "svhn": ((3, 32, 32), 40, 0, 20, 10),
}


def read(name: str, root: Path, **settings: object) -> Source:
    sizes = {"image_size": 16} if name in FILES else {}
    return getattr(sources, name)(root, **{**sizes, **settings})


def problem_of(name: str, root: Path, **settings: object) -> Problem:
    with pytest.raises(RequestError) as caught:
        read(name, root, **settings)
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)
    return caught.value.problems[0]


def all_of(samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
    return samples.batch(torch.arange(len(samples)))


def test_every_set_has_a_writer() -> None:
    assert set(WRITTEN) == set(WRITERS)
    made = {"Samples", "Source", "digits", "fake", "image_folder"}
    assert set(WRITERS) == set(sources.__all__) - made


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_set_has_its_splits_shapes_and_classes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[name](tmp_path, monkeypatch)
    source = read(name, tmp_path)
    shape, *counts, classes = WRITTEN[name]
    splits = (source.train, source.val, source.test)
    assert [0 if split is None else len(split) for split in splits] == counts
    assert len(source.classes) == len(set(source.classes)) == classes
    for split in (split for split in splits if split is not None):
        images, labels = all_of(split)
        assert split.shape == shape and images.shape == (len(split), *shape) and images.dtype == torch.uint8
        assert labels.dtype == torch.int64 and labels.unique().tolist() == list(range(classes))


@pytest.mark.parametrize("name", ["emnist", "stl10", "svhn", "cifar100"])
def test_a_second_reading_comes_from_the_cache_until_a_file_changes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[name](tmp_path, monkeypatch)
    first = read(name, tmp_path)
    dataset = {"emnist": "EMNIST", "stl10": "STL10", "svhn": "SVHN", "cifar100": "CIFAR100"}[name]
    with monkeypatch.context() as patch:
        patch.setattr(getattr(datasets, dataset), "__init__", lambda *_, **__: pytest.fail("read again"))
        again = read(name, tmp_path)
    assert again.train.digest() == first.train.digest() and again.test.digest() == first.test.digest()
    shutil.rmtree(tmp_path)
    monkeypatch.setattr(published, "pixels", lambda *shape: np.full(shape, 7, dtype=np.uint8))
    WRITERS[name](tmp_path, monkeypatch)
    assert all_of(read(name, tmp_path).train)[0].unique().tolist() == [7]


def test_emnist_is_turned_upright_and_its_letters_start_at_a(tmp_path: Path) -> None:
    published.write_emnist(tmp_path)
    published.write_emnist(tmp_path, split="letters")
    raw = published.pixels(188, 28, 28)
    images, labels = all_of(read("emnist", tmp_path).train)
    np.testing.assert_array_equal(images[:, 0].numpy(), raw.transpose(0, 2, 1))
    assert labels.tolist() == list(range(47)) * 4
    letters = read("emnist", tmp_path, split="letters")
    assert (
        letters.classes == tuple("abcdefghijklmnopqrstuvwxyz") and letters.test.labels.tolist() == list(range(26)) * 2
    )
    problem = problem_of("emnist", tmp_path, split="leters")
    assert (problem.key, problem.nearest) == ("data.split", "letters")
    assert "emnist-digits-train-images-idx3-ubyte" in problem_of("emnist", tmp_path, split="digits").message


def test_cifar100_has_fine_and_coarse_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.write_cifar100(tmp_path, monkeypatch)
    fine, coarse = read("cifar100", tmp_path), read("cifar100", tmp_path, labels="coarse")
    assert fine.classes == tuple("abcdefghij") and coarse.classes == tuple("vwxyz")
    assert torch.equal(coarse.train.labels, fine.train.labels // 2)
    assert torch.equal(all_of(coarse.test)[0], all_of(fine.test)[0])
    problem = problem_of("cifar100", tmp_path, labels="course")
    assert (problem.key, problem.nearest) == ("data.labels", "coarse")


def test_svhn_counts_zero_as_zero_and_may_have_more_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.write_svhn(tmp_path, monkeypatch)
    source, more = read("svhn", tmp_path), read("svhn", tmp_path, extra=True)
    assert source.train.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] and source.classes[0] == "0"
    raw = published.pixels(32, 32, 3, 40)  # height, width, channels, images
    np.testing.assert_array_equal(all_of(source.train)[0].numpy(), raw.transpose(3, 2, 0, 1))
    assert len(more.train) == 70 and torch.equal(all_of(more.train)[0][:40], all_of(source.train)[0])
    assert len(read("svhn", tmp_path).train) == 40


def test_stl10_needs_no_unlabelled_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.write_stl10(tmp_path, monkeypatch)
    source = read("stl10", tmp_path)
    raw = published.pixels(40, 3, 96, 96)  # planes are stored by columns
    np.testing.assert_array_equal(all_of(source.train)[0].numpy(), raw.transpose(0, 1, 3, 2))
    assert source.classes == tuple("abcdefghij") and source.train.labels[:3].tolist() == [0, 1, 2]


def test_pets_have_breeds_and_species(tmp_path: Path) -> None:
    published.write_oxford_pets(tmp_path)
    assert read("oxford_pets", tmp_path).classes == ("Abyssinian", "Basset Hound", "Beagle")
    species = read("oxford_pets", tmp_path, labels="species")
    assert species.classes == ("Cat", "Dog") and species.test.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert problem_of("oxford_pets", tmp_path, labels="bread").nearest == "breed"


def test_aircraft_have_three_levels(tmp_path: Path) -> None:
    published.write_fgvc_aircraft(tmp_path)
    classes = {level: read("fgvc_aircraft", tmp_path, labels=level).classes for level in ("variant", "manufacturer")}
    assert classes == {"variant": ("707-320", "737-200", "A300B4"), "manufacturer": ("Airbus", "Boeing")}
    assert read("fgvc_aircraft", tmp_path, labels="manufacturer").val.labels.tolist() == [1, 1, 0] * 2


def test_dtd_has_partitions(tmp_path: Path) -> None:
    published.write_dtd(tmp_path)
    first, second = (read("dtd", tmp_path, partition=number) for number in (1, 2))
    assert first.val.digest() == second.train.digest() != first.train.digest()
    assert problem_of("dtd", tmp_path, partition=11).key == "data.partition"


def test_labels_of_files_follow_the_training_classes(tmp_path: Path) -> None:
    published.write_food101(tmp_path)
    path = tmp_path / "food-101" / "meta" / "test.json"
    path.write_text(json.dumps({"gamma": ["gamma/4", "gamma/5"]}))  # torchvision alone would call it class 0
    assert read("food101", tmp_path).test.labels.tolist() == [2, 2]


def test_pictures_are_decoded_like_those_of_a_folder(tmp_path: Path) -> None:
    published.write_food101(tmp_path)
    from resweep.data.samples import read_image

    source = read("food101", tmp_path, channels=1)
    path = tmp_path / "food-101" / "images" / "beta" / "1.jpg"
    np.testing.assert_array_equal(all_of(source.train)[0][5].numpy(), read_image(path, 16, 1))
    assert source.classes == CLASSES and source.mirror


@pytest.mark.parametrize("name", FILES)
def test_pictures_that_are_missing_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[name](tmp_path, monkeypatch)
    path = sorted(tmp_path.rglob("*.jpg"))[0]
    path.unlink()
    if name == "eurosat":  # no list says which there should be
        assert len(read(name, tmp_path).train) == 23
        return
    problem = problem_of(name, tmp_path)
    assert problem.key == "data.root" and problem.message.startswith("lacks 1 of the ")
    assert problem.message.endswith(path.relative_to(tmp_path).as_posix())


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fashion_mnist", "FashionMNIST/raw/t10k-labels-idx1-ubyte"),
        ("emnist", "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte"),
        ("cifar100", "cifar-100-python/meta"),
        ("svhn", "train_32x32.mat"),
        ("stl10", "stl10_binary/test_X.bin"),
        ("flowers102", "flowers-102/setid.mat"),
        ("oxford_pets", "oxford-iiit-pet/annotations/trainval.txt"),
        ("fgvc_aircraft", "fgvc-aircraft-2013b/data/images_variant_val.txt"),
        ("stanford_cars", "stanford_cars/devkit/cars_train_annos.mat"),
        ("dtd", "dtd/dtd/labels/test1.txt"),
        ("food101", "food-101/meta/train.json"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"nothing of the kind\n"])
def test_damaged_files_are_reported(
    name: str, file: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[name](tmp_path, monkeypatch)
    (tmp_path / file).write_bytes(content)
    problem = problem_of(name, tmp_path)
    assert problem.key == "data.root" and " files are damaged (" in problem.message
    assert problem.message.endswith(("delete them and set data.download=true to fetch them again", "; replace them"))


def test_a_download_of_folders_joins_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(dataset: datasets.FGVCAircraft) -> None:
        if not dataset._check_exists():
            published.write_fgvc_aircraft(Path(dataset.root))

    monkeypatch.setattr(datasets.FGVCAircraft, "_download", fetch)
    there = tmp_path / "fgvc-aircraft-2013b" / "data" / "notes.txt"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    assert len(read("fgvc_aircraft", tmp_path, download=True).test) == 6
    assert there.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["fgvc-aircraft-2013b"]


def test_only_the_missing_part_of_svhn_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.write_svhn(tmp_path / "all", monkeypatch)
    root, fetched = tmp_path / "root", []
    root.mkdir()
    for name in ("train", "test"):
        shutil.copy(tmp_path / "all" / f"{name}_32x32.mat", root)

    def fetch(dataset: datasets.SVHN) -> None:
        fetched.append(dataset.split)
        shutil.copy(tmp_path / "all" / dataset.filename, dataset.root)

    monkeypatch.setattr(datasets.SVHN, "download", fetch)
    assert len(read("svhn", root, extra=True, download=True).train) == 70
    assert fetched == ["extra"]


def test_pictures_may_be_grey_files(tmp_path: Path) -> None:
    published.write_eurosat(tmp_path)
    path = sorted(tmp_path.rglob("*.jpg"))[0]
    Image.fromarray(published.pixels(16, 16)).save(path)
    images, _ = read("eurosat", tmp_path).train.batch(torch.tensor([0]))
    assert torch.equal(images[:, 0], images[:, 2])

"""Tiny data sets on disk, each in the format of the published one that it stands for.

Every ``write_*`` is given the root and pytest's patch, by which torchvision is made to expect the checksums of what is
written. ``WRITERS`` names them like the files of ``conf/data``; ``tiny`` gives the overrides that suit so few images.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

Writer = Callable[[Path, pytest.MonkeyPatch], None]
CLASSES = ("alpha", "beta", "gamma")
SIZES = ((20, 16), (16, 24))  # width and height of pictures, in turn


def pixels(*shape: int) -> np.ndarray:
    """Return random bytes, always the same of a shape."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def write_idx(folder: Path, prefix: str, labels: Sequence[int]) -> np.ndarray:
    """Write one pair of IDX files with random 28 x 28 images: magic number, sizes, bytes; returns the images."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(labels)
    images = pixels(count, 28, 28)
    header = b"".join(number.to_bytes(4, "big") for number in (0x803, count, 28, 28))
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    header = b"".join(number.to_bytes(4, "big") for number in (0x801, count))
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + bytes(labels))
    return images


def in_turn(classes: int, count: int, first: int = 0) -> list[int]:
    """Return labels that take turns, ``count`` of each class."""
    return [first + label for _ in range(count) for label in range(classes)]


def write_mnist(root: Path, patch: pytest.MonkeyPatch | None = None, name: str = "MNIST") -> None:
    """Write 40 training and 20 test images of ten classes."""
    for part, count in (("train", 4), ("t10k", 2)):
        write_idx(root / name / "raw", part, in_turn(10, count))


def write_fashion_mnist(root: Path, patch: pytest.MonkeyPatch | None = None) -> None:
    """Write MNIST's files into Fashion-MNIST's folder."""
    write_mnist(root, name="FashionMNIST")


def write_kmnist(root: Path, patch: pytest.MonkeyPatch | None = None) -> None:
    """Write MNIST's files into KMNIST's folder."""
    write_mnist(root, name="KMNIST")


def write_emnist(root: Path, patch: pytest.MonkeyPatch | None = None, split: str = "balanced") -> None:
    """Write four training and two test images of each class of one split."""
    first, classes = (1, 26) if split == "letters" else (0, {"byclass": 62, "digits": 10, "mnist": 10}.get(split, 47))
    for part, count in (("train", 4), ("test", 2)):
        write_idx(root / "EMNIST" / "raw", f"emnist-{split}-{part}", in_turn(classes, count, first))


def md5(path: Path) -> str:
    """Return the checksum of a file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_pickle(path: Path, content: dict[str, object]) -> list[str]:
    """Write a pickle as Python 2 did; returns its name and checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return [path.name, md5(path)]


def write_cifar10(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    """Write 50 training and 10 test images of ten classes; returns the training rows."""
    folder = root / "cifar-10-batches-py"
    rows = pixels(60, 3072)
    batches = [
        write_pickle(folder / name, {"data": rows[10 * part : 10 * part + 10], "labels": list(range(10))})
        for part, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"])
    ]
    _, checksum = write_pickle(folder / "batches.meta", {"label_names": [f"name{label}" for label in range(10)]})
    patch.setattr(datasets.CIFAR10, "train_list", batches[:5])
    patch.setattr(datasets.CIFAR10, "test_list", batches[5:])
    patch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": checksum})
    return rows[:50]


def write_cifar100(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Write 40 training and 20 test images of ten classes in five superclasses, two in each."""
    folder = root / "cifar-100-python"
    lists = []
    for name, count in (("train", 4), ("test", 2)):
        fine = in_turn(10, count)
        content = {
            "data": pixels(len(fine), 3072),
            "fine_labels": fine,
            "coarse_labels": [label // 2 for label in fine],
        }
        lists.append([write_pickle(folder / name, content)])
    names = {"fine_label_names": list("abcdefghij"), "coarse_label_names": list("vwxyz")}
    _, checksum = write_pickle(folder / "meta", names)
    patch.setattr(datasets.CIFAR100, "train_list", lists[0])
    patch.setattr(datasets.CIFAR100, "test_list", lists[1])
    patch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": checksum})


def write_svhn(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Write 40 training, 20 test and 30 extra images; the digit 0 has the label 10, as published."""
    root.mkdir(parents=True, exist_ok=True)
    known = {}
    for name, count in (("train", 4), ("test", 2), ("extra", 3)):
        path = root / f"{name}_32x32.mat"
        labels = np.array(in_turn(10, count, 1), dtype=np.uint8)[:, None]
        savemat(path, {"X": pixels(32, 32, 3, len(labels)), "y": labels})
        known[name] = [datasets.SVHN.split_list[name][0], path.name, md5(path)]
    patch.setattr(datasets.SVHN, "split_list", known)


def write_stl10(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Write 40 training and 20 test images, without the file of images that have no label."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    lists = []
    for name, count in (("train", 4), ("test", 2)):
        labels = np.array(in_turn(10, count, 1), dtype=np.uint8)
        pixels(len(labels), 3, 96, 96).tofile(folder / f"{name}_X.bin")
        labels.tofile(folder / f"{name}_y.bin")
        lists.append([[path.name, md5(path)] for path in (folder / f"{name}_X.bin", folder / f"{name}_y.bin")])
    (folder / "class_names.txt").write_text("\n".join("abcdefghij") + "\n")
    patch.setattr(datasets.STL10, "train_list", [*lists[0], ["unlabeled_X.bin", "0" * 32]])
    patch.setattr(datasets.STL10, "test_list", lists[1])


def write_pictures(paths: Sequence[Path]) -> None:
    """Write colour pictures of two sizes in turn, no two alike."""
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = SIZES[number % 2]
        Image.fromarray(np.roll(pixels(height, width, 3), 3 * number)).save(path, quality=50)


def write_flowers102(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Write two training, one validation and one test picture of each of the 102 classes."""
    folder = root / "flowers-102"
    ids = np.arange(1, 409)
    write_pictures([folder / "jpg" / f"image_{number:05d}.jpg" for number in ids])
    savemat(folder / "imagelabels.mat", {"labels": np.array(in_turn(102, 4, 1))})
    savemat(folder / "setid.mat", {"trnid": ids[:204], "valid": ids[204:306], "tstid": ids[306:]})
    known = {key: (name, md5(folder / name)) for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))}
    patch.setattr(datasets.Flowers102, "_file_dict", {**datasets.Flowers102._file_dict, **known})


def write_oxford_pets(root: Path, patch: pytest.MonkeyPatch | None = None) -> None:
    """Write four training and two test pictures of three breeds: a cat's, two dogs'."""
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    breeds = (("Abyssinian", 1), ("basset_hound", 2), ("beagle", 2))
    for name, numbers in (("trainval", range(4)), ("test", range(4, 6))):
        lines = [f"{breed}_{number} {label} {species} 1\n"
                 for label, (breed, species) in enumerate(breeds, 1) for number in numbers]  # fmt: skip
        (folder / "annotations" / f"{name}.txt").write_text("".join(lines))
        write_pictures([folder / "images" / f"{line.split()[0]}.jpg" for line in lines])


def write_fgvc_aircraft(root: Path, patch: pytest.MonkeyPatch | None = None) -> None:
    """Write two training, validation and test pictures of three variants of two families of two manufacturers."""
    data = root / "fgvc-aircraft-2013b" / "data"
    data.mkdir(parents=True)
    names = {
        "variant": ("707-320", "737-200", "A300B4"),
        "family": ("Boeing 707", "Boeing 737", "A300"),
        "manufacturer": ("Boeing", "Boeing", "Airbus"),
    }
    files = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
    for level, classes in names.items():
        (data / files[level]).write_text("\n".join(sorted(set(classes))) + "\n")
        for start, split in enumerate(("train", "val", "test")):
            lines = [f"{1000 + 10 * start + number:07d} {classes[number % 3]}\n" for number in range(6)]
            (data / f"images_{level}_{split}.txt").write_text("".join(lines))
            write_pictures([data / "images" / f"{line.split()[0]}.jpg" for line in lines])


def write_stanford_cars(root: Path, patch: pytest.MonkeyPatch | None = None) -> None:
    """Write twelve training and six test pictures of three cars."""
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([CLASSES], dtype=object)})
    fields = [("fname", object), ("class", np.int64)]
    for name, count, path in (
        ("train", 12, folder / "devkit" / "cars_train_annos.mat"),
        ("test", 6, folder / "cars_test_annos_withlabels.mat"),
    ):
        rows = np.array([(f"{number:05d}.jpg", number % 3 + 1) for number in range(count)], dtype=fields)
        savemat(path, {"annotations": rows[None]})
        write_pictures([folder / f"cars_{name}" / file for file in rows["fname"]])


def write_dtd(root: Path, patch: pytest.MonkeyPatch | None = None) -> None:
    """Write two training, validation and test pictures of three textures, divided in two ways."""
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for partition in (1, 2):
        for place, split in enumerate(("train", "val", "test")):
            numbers = [(2 * (place + partition) + number) % 6 for number in range(2)]
            lines = [f"{name}/{name}_{number:04d}.jpg" for name in CLASSES for number in numbers]
            (folder / "labels" / f"{split}{partition}.txt").write_text("\n".join(lines) + "\n")
    write_pictures([folder / "images" / name / f"{name}_{number:04d}.jpg" for name in CLASSES for number in range(6)])


def write_eurosat(root: Path, patch: pytest.MonkeyPatch | None = None) -> None:
    """Write eight pictures of each of three kinds of land use."""
    folder = root / "eurosat" / "2750"
    write_pictures([folder / name / f"{name}_{number}.jpg" for name in CLASSES for number in range(1, 9)])


def write_food101(root: Path, patch: pytest.MonkeyPatch | None = None) -> None:
    """Write four training and two test pictures of three dishes."""
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    for name, numbers in (("train", range(4)), ("test", range(4, 6))):
        lists = {dish: [f"{dish}/{number}" for number in numbers] for dish in CLASSES}
        (folder / "meta" / f"{name}.json").write_text(json.dumps(lists))
        write_pictures([folder / "images" / f"{path}.jpg" for paths in lists.values() for path in paths])


WRITERS: dict[str, Writer] = {
    "cifar10": write_cifar10, "cifar100": write_cifar100, "dtd": write_dtd, "emnist": write_emnist,
    "eurosat": write_eurosat, "fashion_mnist": write_fashion_mnist, "fgvc_aircraft": write_fgvc_aircraft,
    "flowers102": write_flowers102, "food101": write_food101, "kmnist": write_kmnist, "mnist": write_mnist,
    "oxford_pets": write_oxford_pets, "stanford_cars": write_stanford_cars, "stl10": write_stl10, "svhn": write_svhn,
}  # fmt: skip
FILES = ("dtd", "eurosat", "fgvc_aircraft", "flowers102", "food101", "oxford_pets", "stanford_cars")


def tiny(name: str, root: Path, side: int = 16) -> Iterator[str]:
    """Give the overrides, besides data=NAME, with which a set that was written here builds and trains quickly."""
    yield from (f"data.root={root}", "data.val_size=0.5", "data.batch_size=10")
    if name in FILES:
        yield from (f"data.image_size={side}", "data.num_workers=0", "data.crop_padding=2")

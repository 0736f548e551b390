from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from published import WRITERS, write_cifar10, write_mnist
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torchvision import datasets

from resweep.data import sources
from resweep.errors import Problem, RequestError


def no_network(*args: object, **settings: object) -> None:
    raise URLError("Name or service not known")


def only_problem(name: str, root: object, download: bool = False) -> Problem:
    with pytest.raises(RequestError) as caught:
        getattr(sources, name)(root, download=download)
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
    return caught.value.problems[0]


def test_digits_are_the_scans_of_scikit_learn() -> None:
    source = sources.digits()
    assert len(source.train) == 1797 and source.train.shape == (1, 8, 8)
    assert source.val is None and source.test is None and not source.mirror
    assert source.classes == tuple("0123456789")
    images, labels = source.train.batch(torch.arange(1797))
    scans = load_digits()
    np.testing.assert_array_equal(labels.numpy(), scans.target)
    np.testing.assert_array_equal(np.rint(images[:, 0].numpy() / 255 * 16), scans.images)
    assert images.max() == 255 and len(images.unique()) == 17
    assert torch.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # published counts


def test_mnist_reads_idx_files(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    source = sources.mnist(tmp_path)
    assert [len(source.train), len(source.test)] == [40, 20] and source.val is None and not source.mirror
    assert source.train.shape == (1, 28, 28)
    images, labels = source.test.batch(torch.tensor([3, 9]))
    content = (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert images[0].numpy().tobytes() == content[3 * 784 : 4 * 784]
    assert labels.tolist() == [3, 9]


def test_existing_files_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    write_mnist(tmp_path)
    assert len(sources.mnist(str(tmp_path), download=True).train) == 40


def test_cifar10_reads_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = write_cifar10(tmp_path, monkeypatch)
    source = sources.cifar10(tmp_path)
    assert [len(source.train), len(source.test)] == [50, 10] and source.val is None and source.mirror
    assert source.classes == tuple(f"name{label}" for label in range(10))
    images, labels = source.train.batch(torch.arange(50))
    np.testing.assert_array_equal(images.numpy(), rows.reshape(50, 3, 32, 32))  # rows hold red, green, blue planes
    assert labels.tolist() == list(range(10)) * 5


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", "MNIST files (expected MNIST/raw/train-images-idx3-ubyte and 3 more)"),
        ("cifar10", "CIFAR-10 files (expected cifar-10-batches-py/batches.meta and 6 more)"),
        ("svhn", "SVHN files (expected train_32x32.mat and 1 more)"),
        ("flowers102", "Flowers-102 files (expected flowers-102/jpg and 2 more)"),
        ("eurosat", "EuroSAT files (expected eurosat/2750)"),
    ],
)
def test_missing_files_say_what_to_do(name: str, files: str, tmp_path: Path) -> None:
    problem = only_problem(name, tmp_path / "absent")
    assert problem.key == "data.root" and problem.value == str(tmp_path / "absent")
    remedy = "set data.download=true to fetch them or data.root=… to point at them"
    assert problem.message == f"has no {files}; {remedy}"
    assert not (tmp_path / "absent").exists()
    assert only_problem(name, None).key == "data.root"


def test_what_nobody_offers_any_more_is_not_promised(tmp_path: Path) -> None:
    problem = only_problem("stanford_cars", tmp_path)
    assert problem.key == "data.root" and "data.download=true" not in problem.message
    assert "no longer offer it for download: get it elsewhere and set data.root=…" in problem.message
    asked = only_problem("stanford_cars", tmp_path, download=True)
    assert (asked.key, asked.value) == ("data.download", "true") and "no longer offer it" in asked.message


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"stanford_cars"}))
def test_failed_download_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    problem = only_problem(name, tmp_path / "new" / "data", download=True)
    assert problem.key == "data.download" and problem.value == "true"
    assert "failed: " in problem.message and "Name or service not known" in problem.message
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine.txt").write_text("kept")
    only_problem(name, tmp_path, download=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert capsys.readouterr().out == ""


def test_finished_download_moves_the_files_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(dataset: datasets.MNIST) -> None:
        if not Path(dataset.raw_folder).exists():
            write_mnist(Path(dataset.root))
        print("progress of a library")

    monkeypatch.setattr(datasets.MNIST, "download", fetch)
    root = tmp_path / "data"
    assert len(sources.mnist(root, download=True).train) == 40
    names = [f"{part}-{kind}-ubyte" for part in ("t10k", "train") for kind in ("images-idx3", "labels-idx1")]
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*ubyte")) == [
        f"MNIST/raw/{name}" for name in names
    ]
    assert [path.name for path in root.iterdir()] == ["MNIST"]
    captured = capsys.readouterr()
    assert captured.out == "" and "progress of a library" in captured.err


def test_a_half_finished_download_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(dataset: datasets.MNIST) -> None:
        write_mnist(Path(dataset.root))
        (Path(dataset.raw_folder) / "t10k-labels-idx1-ubyte").unlink()
        raise RuntimeError("File not found or\ncorrupted.")

    monkeypatch.setattr(datasets.MNIST, "download", fetch)
    problem = only_problem("mnist", tmp_path / "data", download=True)
    assert problem.message.endswith("failed: File not found or corrupted.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x03\x00\x00", b"no idx file at all"])
def test_damaged_mnist_files_are_reported(content: bytes, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    problem = only_problem("mnist", tmp_path)
    assert problem.key == "data.root" and problem.message.startswith("its MNIST files are damaged (")


def test_cifar10_compares_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes() + b"x")
    problem = only_problem("cifar10", tmp_path)
    assert problem.key == "data.root" and problem.message.startswith("its CIFAR-10 files are damaged (")


def test_fake_images_are_reproducible_and_can_be_learned() -> None:
    source = sources.fake(num_classes=4, image_size=6, channels=3, train_count=80, test_count=40, seed=1)
    assert source.train.shape == (3, 6, 6) and source.classes == ("class0", "class1", "class2", "class3")
    assert torch.bincount(source.test.labels).tolist() == [10, 10, 10, 10]
    torch.manual_seed(0)
    again = sources.fake(num_classes=4, image_size=6, channels=3, train_count=80, test_count=40, seed=1)
    assert again.train.digest() == source.train.digest() and again.test.digest() == source.test.digest()
    other = sources.fake(num_classes=4, image_size=6, channels=3, train_count=80, test_count=40, seed=2)
    assert other.train.digest() != source.train.digest()
    train, test = ((part.images.flatten(1).numpy() / 255, part.labels.numpy()) for part in (source.train, source.test))
    assert LogisticRegression().fit(*train).score(*test) == 1.0


def test_fake_images_may_have_several_labels() -> None:
    source = sources.fake(num_classes=4, image_size=6, train_count=200, test_count=100, multilabel=True)
    labels = source.train.labels
    assert labels.dtype == torch.float32 and labels.shape == (200, 4) and set(labels.unique().tolist()) == {0.0, 1.0}
    assert labels.sum(1).min() == 1 and labels.sum(1).max() == 4
    assert abs(labels.mean() - 5 / 8) < 0.06  # one label in four for sure, the others with probability 1/2: 5/8
    train, test = ((part.images.flatten(1).numpy() / 255, part.labels.numpy()) for part in (source.train, source.test))
    for label in range(4):
        model = LogisticRegression().fit(train[0], train[1][:, label])
        assert model.score(test[0], test[1][:, label]) > 0.8
    again = sources.fake(num_classes=4, image_size=6, train_count=200, test_count=100, multilabel=True)
    assert again.train.digest() == source.train.digest()


def test_fake_refuses_impossible_numbers_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        sources.fake(num_classes=1, image_size=0, channels=0, train_count=0, test_count=0)
    names = ["num_classes", "image_size", "channels", "train_count", "test_count"]
    assert [problem.key for problem in caught.value.problems] == [f"data.{name}" for name in names]


def test_nothing_here_imports_a_data_library_before_it_is_needed(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from resweep.data import sources\n"
        "from resweep.errors import RequestError\n"
        "try: sources.mnist(sys.argv[1])\n"
        "except RequestError: print('refused', 'sklearn' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "refused False\n"

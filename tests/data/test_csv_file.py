from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resweep.data.csv_file import csv_file
from resweep.data.samples import InMemory, OnDisk
from resweep.errors import Problem, RequestError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with twelve pictures ``p/0.png`` ... whose pixels are their number."""
    (tmp_path / "p").mkdir()
    for number in range(12):
        Image.new("RGB", (4, 3), (number, number, number)).save(tmp_path / "p" / f"{number}.png")
    return tmp_path


def write(root: Path, *lines: str, header: str = "path,label", name: str = "list.csv") -> Path:
    path = root / name
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def problems(file: Path, root: Path | None = None, **settings: object) -> list[Problem]:
    with pytest.raises(RequestError) as caught:
        csv_file(root, file, **settings)
    return caught.value.problems


def messages(file: Path, **settings: object) -> list[str]:
    found = problems(file, **settings)
    assert {(problem.key, problem.value) for problem in found} == {("data.file", str(file))}
    return [problem.message for problem in found]


def numbers(samples: InMemory | OnDisk) -> list[int]:
    """Which pictures the samples are."""
    return samples.batch(torch.arange(len(samples)))[0][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("memory_limit_mb", [0, 1024])
def test_paths_and_labels(root: Path, memory_limit_mb: int) -> None:
    file = write(root, "p/3.png,dog", "p/1.png,cat", "p/2.png,dog")
    source = csv_file(None, file, memory_limit_mb=memory_limit_mb)
    assert isinstance(source.train, OnDisk if memory_limit_mb == 0 else InMemory)
    assert source.classes == ("cat", "dog") and not source.multilabel and source.mirror
    assert source.val is None and source.test is None
    assert numbers(source.train) == [3, 1, 2]
    assert source.train.labels.tolist() == [1, 0, 1] and source.train.labels.dtype == torch.int64
    assert len(source.train.digest()) == 32


def test_other_columns_quotes_and_a_root_of_its_own(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    file = write(folder, '1,"3.png", dog ', '2,"1.png","a ""b"", c"', header="\ufeffid,image,kind")
    source = csv_file(root / "p", file, path_column="image", label_column="kind")
    assert source.classes == ('a "b", c', "dog")
    assert numbers(source.train) == [3, 1]


def test_absolute_paths(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    file = write(other, f"{root}/p/1.png,a", f"{root}/p/2.png,b")
    assert numbers(csv_file(None, file).train) == [1, 2]
    assert len(csv_file(None, file, memory_limit_mb=0).train.digest()) == 32


def test_splits_by_a_column(root: Path) -> None:
    lines = ["p/0.png,a,test", "p/1.png,a,train", "p/2.png,b,val", "p/3.png,b,train", "p/4.png,b,test", "p/5.png,a,val"]
    source = csv_file(None, write(root, *lines, header="path,label,part"), split_column="part")
    assert [numbers(part) for part in (source.train, source.val, source.test)] == [[1, 3], [2, 5], [0, 4]]
    assert source.test.labels.tolist() == [0, 1]


def test_several_labels(root: Path) -> None:
    file = write(root, "p/0.png,cat;dog", "p/1.png,", "p/2.png,dog; bird;dog", "p/3.png,cat;")
    source = csv_file(None, file, label_separator=";")
    assert source.multilabel and source.classes == ("bird", "cat", "dog")
    assert source.train.labels.dtype == torch.float32
    assert source.train.labels.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_numbers_are_sorted_as_numbers(root: Path) -> None:
    assert csv_file(None, write(root, "p/0.png,10", "p/1.png,9", "p/2.png,0")).classes == ("0", "9", "10")


def test_given_classes_have_their_order(root: Path) -> None:
    file = write(root, "p/0.png,1", "p/1.png,2")
    source = csv_file(None, file, classes=[2, 1])
    assert source.classes == ("2", "1") and source.train.labels.tolist() == [1, 0]


def test_the_images_are_scaled_like_those_of_a_folder(root: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(root / "p" / "0.png")
    source = csv_file(None, write(root, "p/0.png,a", "p/1.png,b"), image_size=3, channels=1)
    assert source.train.shape == (1, 3, 3)


def test_every_wrong_line_is_named_as_an_editor_counts(root: Path) -> None:
    lines = [
        "p/0.png,cat,train",
        "p/99.png,cat,train",
        "",
        '"p/1.png","c\nat",train',
        "p/2.png,cat",
        "p/3.png,dog,train",
        "p/4.png,,train",
        ",dog,train",
        "p/5.png,dgo,val",
        "p/6.png,dog,valid",
        "p/0.png,dog,test",
        "  ",
    ]
    assert messages(write(root, *lines, header="path,label,split"), split_column="split") == [
        "line 3: there is no file p/99.png",
        "line 4: is empty",
        "line 7: has 2 fields, the first line has 3",
        "line 9: has no label",
        "line 10: has no path",
        "line 11: the label dgo is in no training line, did you mean dog?",
        "line 12: valid split: use one of train, val, test",
        "line 13: p/0.png is in line 2 already",
        "line 14: is empty",
    ]


def test_ten_problems_are_named(root: Path) -> None:
    found = messages(write(root, "p/0.png,a", *(f"no/{number}.png,b" for number in range(15))))
    assert len(found) == 11
    assert found[0] == "line 3: there is no file no/0.png" and found[-1] == "and 5 more"


def test_labels_outside_the_given_classes(root: Path) -> None:
    file = write(root, "p/0.png,cat", "p/1.png,dog", "p/2.png,rat;cat")
    assert messages(file, classes=["cat", "dog"])[0].startswith("line 4: the label rat;cat is not in data.classes")
    assert messages(file, classes=["cat", "dog"], label_separator=";") == [
        "line 4: the label rat is not in data.classes, did you mean cat?"
    ]


def test_classes_without_images(root: Path) -> None:
    lines = ["p/0.png,a,train", "p/1.png,b,train", "p/2.png,a,val"]
    file = write(root, *lines, header="path,label,split")
    assert messages(file, split_column="split") == ["has no val line with the label b"]
    assert messages(file, classes=["a", "b", "c"]) == ["has no training line with the label c"]
    assert messages(write(root, "p/0.png,a")) == ["has 1 classes in its training lines, at least 2 are needed"]
    assert messages(write(root)) == ["has 0 classes in its training lines, at least 2 are needed"]


def test_wrong_columns_are_named_with_the_nearest(root: Path) -> None:
    file = write(root, "p/0.png,a", header="paths,label")
    found = problems(file, split_column="fold")
    assert [(problem.key, problem.value, problem.nearest) for problem in found] == [
        ("data.path_column", "path", "paths"),
        ("data.split_column", "fold", None),
    ]
    assert "it has paths, label" in found[0].message


def test_files_that_are_no_csv(root: Path) -> None:
    file = write(root, "p/0.png,a", '"p/1.png,b')
    assert "behind line 2" in messages(file)[0]
    file.write_bytes(b"path,label\np/\xff.png,a\n")
    assert "UTF-8" in messages(file)[0]
    file.write_text("")
    assert {problem.key for problem in problems(file)} == {"data.path_column", "data.label_column"}
    found = problems(root / "lists.csv")
    assert (found[0].message, found[0].nearest) == ("there is no such file", str(file))
    assert "is a folder" in problems(root)[0].message


def test_unreadable_images_and_wrong_settings(root: Path) -> None:
    file = write(root, "p/0.png,a", "p/1.png,b")
    (root / "p" / "1.png").write_bytes(b"broken")
    found = problems(file)
    assert found[0].key == "data.root" and "p/1.png: not in a known format" in found[0].message
    assert problems(file, label_separator="")[0].key == "data.label_separator"
    assert [problem.key for problem in problems(file, channels=2, crop_pct=0.5)] == ["data.channels", "data.crop_pct"]
    assert problems(file, root / "nowhere")[0].key == "data.root"

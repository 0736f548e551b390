from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resweep.data import files
from resweep.data.csv_file import csv_file
from resweep.data.decode import read_image
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


def test_lists_of_one_root_are_cached_side_by_side(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(files, "read_image", lambda path, *rest: decoded.append(path) or read_image(path, *rest))
    lists = {}
    for name, chosen in (("one", [1, 2, 3]), ("two", [4, 5])):
        (root / name).mkdir()
        lists[write(root / name, *(f"p/{number}.png,{number}" for number in chosen))] = chosen
    for _ in range(2):
        for file, chosen in lists.items():
            assert numbers(csv_file(root, file).train) == chosen
    assert len(decoded) == 5


def test_splits_by_other_columns_are_cached_side_by_side(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(files, "read_image", lambda path, *rest: decoded.append(path) or read_image(path, *rest))
    lines = ["p/0.png,a,train,val", "p/1.png,b,train,val", "p/2.png,a,val,train", "p/3.png,b,val,train"]
    file = write(root, *lines, header="path,label,first,second")
    for _ in range(2):
        for column, expected in (("first", [0, 1]), ("second", [2, 3])):
            assert numbers(csv_file(None, file, split_column=column).train) == expected
    assert len(decoded) == 8


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
        "line 4 and 1 more: is empty",
        "line 7: has 2 fields, the first line has 3",
        "line 9: has no label",
        "line 10: has no path",
        "line 11: the label dgo is in no training line, did you mean dog?",
        "line 12: valid split: use one of train, val, test",
        "line 13: p/0.png is in line 2 already",
    ]


def test_ten_problems_are_named(root: Path) -> None:
    found = messages(write(root, "p/0.png,a", *(f"no/{number}.png,b" for number in range(15))))
    assert len(found) == 11
    assert found[0] == "line 3: there is no file no/0.png" and found[-1] == "and 5 more"


def test_a_repeated_mistake_is_said_once(root: Path) -> None:
    labels = ["cat", "dog", *["owl"] * 8, "rat", ""]
    lines = [f"p/{number}.png,{label}" for number, label in enumerate(labels)]
    assert messages(write(root, *lines, "p/0.png", "p/1.png"), classes=["cat", "dog"]) == [
        "line 4 and 7 more: the label owl is not in data.classes",
        "line 12: the label rat is not in data.classes, did you mean cat?",
        "line 13: has no label",
        "line 14 and 1 more: has 1 field, the first line has 2",
    ]
    numbers = [*range(11), *range(11)]
    many = messages(write(root, "p/0.png,a", *(f"no/{number},b" for number in numbers), "no/10,b"))
    assert many[0] == "line 3 and 1 more: there is no file no/0" and many[10:] == ["and 3 more"]


@pytest.mark.parametrize("sign", ["+", ";", "|", ",", "/"])
def test_a_separator_that_no_label_holds_is_refused_with_the_sign_that_is_there(root: Path, sign: str) -> None:
    file = write(root, f'p/0.png,"cat{sign}dog"', "p/1.png,dog", f'p/2.png,"dog{sign}owl"', "p/3.png,and/or")
    (found,) = problems(file, label_separator="&")
    assert (found.key, found.value, found.nearest) == ("data.label_separator", "&", sign)
    assert found.message.startswith(
        f"is in no label of list.csv, but {'and/or' if sign == '/' else f'cat{sign}dog'} has"
    )
    assert csv_file(None, file, label_separator=sign).multilabel
    single = csv_file(None, file, label_separator="&", classes=[f"cat{sign}dog", "dog", f"dog{sign}owl", "and/or"])
    assert len(single.classes) == 4


def test_a_separator_of_images_with_one_label_each_is_fine(root: Path) -> None:
    for labels in (["cat", "dog", ""], ["cat", "black dog", "C++"], ["cat", "dog;"], ["a+b", "a;b"]):
        lines = [f"p/{number}.png,{label}" for number, label in enumerate(labels)]
        assert csv_file(None, write(root, *lines), label_separator=";").multilabel


def test_a_wrong_separator_comes_with_what_else_is_wrong(root: Path) -> None:
    found = problems(write(root, "p/0.png,cat+dog", "p/1.png,dog", "p/99.png,dog"), label_separator=";")
    assert [problem.key for problem in found] == ["data.label_separator", "data.file"]
    assert found[1].message == "line 4: there is no file p/99.png"


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
    for text in ("", "\ufeff", " \n\n"):
        file.write_text(text, encoding="utf-8")
        assert messages(file) == ["is empty"]
    found = problems(root / "lists.csv")
    assert (found[0].message, found[0].nearest) == ("there is no such file", str(file))
    assert "is a folder" in problems(root)[0].message


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_file_in_latin_1_names_the_line(root: Path, newline: str, start: str) -> None:
    file = root / "list.csv"
    lines = ["path,label", *(f"p/{number}.png,Bär" for number in range(3000)), "p/4.png,"]
    file.write_bytes((start + newline.join(lines)).encode("utf-8") + "Käfer".encode("latin-1"))
    assert messages(file) == ["line 3002: the byte 0xe4 is no UTF-8; save the file in UTF-8"]


@pytest.mark.parametrize(("sign", "name"), [(";", ";"), ("\t", "tabs"), ("|", "|")])
def test_other_signs_between_fields_are_named(root: Path, sign: str, name: str) -> None:
    for quote in ("", '"'):
        header = sign.join(f"{quote}{column}{quote}" for column in ("path", "label"))
        file = write(root, f"p/0.png{sign}a", header=header)
        assert messages(file) == [f"fields are separated by commas, and the first line has {name} and no comma"]


@pytest.mark.parametrize("memory_limit_mb", [0, 1024])
def test_unreadable_images_name_their_lines(root: Path, memory_limit_mb: int) -> None:
    file = write(root, "p/0.png,a", "p/7.png,b", "p/1.png,b", "p/2.png,b")
    for number in (7, 2):
        (root / "p" / f"{number}.png").write_bytes(b"broken")
    (found,) = problems(file, memory_limit_mb=memory_limit_mb)
    assert found.key == "data.root" and found.message == (
        "2 of 4 images cannot be read, repair or remove them: "
        "line 5: p/2.png: not in a known format; line 3: p/7.png: not in a known format"
    )


def test_unreadable_images_and_wrong_settings(root: Path) -> None:
    file = write(root, "p/0.png,a", "p/1.png,b")
    (root / "p" / "1.png").write_bytes(b"broken")
    found = problems(file)
    assert found[0].key == "data.root" and "p/1.png: not in a known format" in found[0].message
    assert problems(file, label_separator="")[0].key == "data.label_separator"
    assert [problem.key for problem in problems(file, channels=2, crop_pct=0.5)] == ["data.channels", "data.crop_pct"]
    assert problems(file, root / "nowhere")[0].key == "data.root"

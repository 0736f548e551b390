from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resweep.cli import main
from resweep.data.augment import Augment
from resweep.errors import RequestError
from resweep.show import draw, label_lines, settings_on, show_augment

FAKE = ["data=fake", "data.image_size=8", "data.train_count=64"]
LEFT, STEP, SCALE = 56, 70, 8  # of the first image, from image to image, screen pixels per pixel of an 8x8 image


def opened(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def tile(picture: np.ndarray, top: int, column: int) -> np.ndarray:
    """The 8x8 image that a place of the picture shows."""
    left = LEFT + column * STEP
    return picture[top : top + 64, left : left + 64][SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]


def folder_of_pictures(root: Path) -> Path:
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(20):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


def test_the_first_row_is_the_data_and_a_picture_is_always_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        text = show_augment([*FAKE, "augment=none"], tmp_path / f"{name}.png", images=3, epochs=2)
        assert "3 training images before and in 2 epochs; augment=none" in text and f"{name}.png" in text
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    picture = opened(tmp_path / "one.png")
    rows = [19 + row * (64 + 13 + 6) for row in range(3)]
    assert picture.shape == (rows[2] + 64 + 13 + 6 + 6, LEFT + 3 * STEP, 3)
    for column in range(3):
        before = tile(picture, rows[0], column)
        assert all(np.array_equal(tile(picture, row, column), before) for row in rows[1:])
        assert len(np.unique(before)) > 20


def test_flips_are_seen(tmp_path: Path) -> None:
    show_augment([*FAKE, "augment=none", "augment.flip=1.0"], tmp_path / "a.png", images=2, epochs=1)
    picture = opened(tmp_path / "a.png")
    assert np.array_equal(tile(picture, 19 + 83, 1), tile(picture, 19, 1)[:, ::-1])


@pytest.mark.parametrize("memory", [1024, 0])
def test_images_on_disk_are_shown_as_workers_see_them(tmp_path: Path, memory: int) -> None:
    root = folder_of_pictures(tmp_path / "images")
    request = ["data=image_folder", f"data.root={root}", f"data.memory_limit_mb={memory}", "augment=none"]
    show_augment([*request, "augment.flip=1.0"], tmp_path / "a.png", images=4, epochs=1)
    picture = opened(tmp_path / "a.png")
    assert np.array_equal(tile(picture, 19 + 83, 3), tile(picture, 19, 3)[:, ::-1])


def test_only_what_does_something_is_named() -> None:
    assert settings_on(Augment()) == []
    assert settings_on(Augment(4, 0.5, policy_magnitude=3)) == ["padding=4", "flip=0.5"]
    assert settings_on(Augment(scale=[0.9, 1.1], cutmix=1.0)) == ["scale=[0.9,1.1]", "cutmix=1"]
    named = ["policy=randaugment", "policy_ops=2", "policy_magnitude=9"]
    assert settings_on(Augment(policy="randaugment")) == named
    assert settings_on(Augment(policy="autoaugment")) == ["policy=autoaugment", "policy_name=cifar10"]


def test_labels_are_shares() -> None:
    classes = ("cat", "dog", "horse", "ship")
    assert label_lines(torch.tensor(2), classes) == ["horse"]
    assert label_lines(torch.tensor([0.25, 0.0, 0.001, 0.75]), classes) == ["75% ship", "25% cat"]
    assert label_lines(torch.tensor([1.0, 0.0, 1.0, 0.0]), classes) == ["cat", "horse"]
    assert label_lines(torch.zeros(4), classes) == ["-"]


@pytest.mark.parametrize(("size", "shown"), [((8, 8), (64, 64)), ((28, 20), (112, 80)), ((300, 600), (80, 160))])
def test_images_of_any_size_fit(size: tuple[int, int], shown: tuple[int, int]) -> None:
    images, labels = torch.zeros(2, 3, *size), torch.tensor([0, 1])
    images[:, 0] = 1.0
    picture = np.asarray(draw(["augment=none"], [("before", images, labels)], ("a", "b" * 80)))
    red = (picture == (255, 0, 0)).all(2)
    assert (red.any(1).sum(), red.any(0).sum() / 2) == shown


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["augment", "augment=standrd"], "did you mean  augment=standard"),
        (["augment", *FAKE, "augment.mixup=-1"], "mixup=-1: a number of at least 0 is needed"),
        (["augment", *FAKE, "augment=none,standard"], "asks for 2 runs; one at a time"),
        (["augment", *FAKE, "-o", "picture.jpg"], "-o=picture.jpg: must end in .png"),
        (["augment", *FAKE, "-o", "nowhere/a.png"], "there is no folder nowhere"),
    ],
)
def test_wrong_requests_end_with_status_2_and_write_nothing(
    words: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", *words]) == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", "augment", *FAKE, "augment=mixup", "--images", "4", "--epochs", "1"]) == 0
    assert capsys.readouterr().out.startswith("augment.png: 4 training images before and in 1 epoch; augment=mixup")
    assert opened(tmp_path / "augment.png").shape[1] == LEFT + 4 * STEP
    with pytest.raises(SystemExit) as stop:
        main(["show", "augment", "--images", "0"])
    assert stop.value.code == 2


def test_a_file_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(RequestError, match="cannot be written"):
        show_augment(FAKE, tmp_path / "a.png", images=2, epochs=1)

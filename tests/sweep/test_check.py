"""The last check of a plan: what it loads and builds, and how often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resweep.build import build_data, build_source
from resweep.data import image_folder
from resweep.errors import RequestError
from resweep.sweep.check import check_buildable
from resweep.sweep.plan import Plan

Planner = Callable[..., Plan]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are read from now on."""
    folders: list[Path] = []
    real = image_folder.read_files

    def counted(name: str, root: Path, *rest: Any) -> Any:
        folders.append(root)
        return real(name, root, *rest)

    monkeypatch.setattr(image_folder, "read_files", counted)
    return folders


def configs(plan: Planner, images: Path, *overrides: str) -> list[dict[str, Any]]:
    small = ["data=image_folder", f"data.root={images}", "data.image_size=8", "model=resnet8", "model.width=4"]
    return [run.config for run in plan(*small, *overrides).runs]


def test_the_images_are_read_once_whatever_is_done_with_them(plan: Planner, images: Path, read: list[Path]) -> None:
    planned = configs(plan, images, "augment=none,standard", "data.label_noise=0,0.5", "data.batch_size=4,8")
    assert len(planned) == 8
    facts = check_buildable(planned)
    assert read == [images]
    assert facts["train"] + facts["val"] + facts["test"] == 24 and facts["classes"] == 2


def test_other_images_are_read_for_themselves(plan: Planner, images: Path, read: list[Path]) -> None:
    planned = configs(plan, images, "augment=none,standard", "data.image_size=8,12")
    check_buildable(planned)
    assert len(read) == 2


def test_a_folder_that_cannot_be_read_is_one_problem(plan: Planner, images: Path, read: list[Path]) -> None:
    planned = configs(plan, images, "augment=none,standard", "data.label_noise=0,0.5")
    next(images.glob("*/*.*")).write_bytes(b"broken")
    with pytest.raises(RequestError) as caught:
        check_buildable(planned)
    assert [problem.key for problem in caught.value.problems] == ["data.root"] and len(read) == 1


def test_each_use_of_the_images_is_checked(plan: Planner, images: Path) -> None:
    planned = configs(plan, images, "data.label_noise=0,0.5", "data.val_size=4,99", "data.test_size=4")
    with pytest.raises(RequestError) as caught:
        check_buildable(planned)
    assert [(problem.key, problem.value) for problem in caught.value.problems] == [("data.val_size", "99")]


def test_data_of_a_loaded_source_is_the_same(plan: Planner, images: Path, read: list[Path]) -> None:
    (config,) = configs(plan, images, "data.label_noise=0.5")
    source = build_source(config)
    one, other, alone = build_data(config, source), build_data(config, source), build_data(config)
    assert one.digest == other.digest == alone.digest and len(read) == 2

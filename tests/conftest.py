"""Fixtures that several files use: plans, tiny data on disk, and the command line in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resweep.config import config_loader
from resweep.errors import Problem, RequestError
from resweep.sweep.plan import Plan, make_plan

Planner = Callable[..., Plan]


@pytest.fixture
def plan() -> Planner:
    """Plans the overrides it is given, with further config folders as ``config_dirs``."""

    def planned(*overrides: str, config_dirs: tuple[str, ...] = ()) -> Plan:
        with config_loader(config_dirs) as loader:
            return make_plan(loader, list(overrides))

    return planned


@pytest.fixture
def problems(plan: Planner) -> Callable[..., list[Problem]]:
    """Returns the problems of overrides that must be refused."""

    def found(*overrides: str) -> list[Problem]:
        with pytest.raises(RequestError) as caught:
            plan(*overrides)
        return caught.value.problems

    return found


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python code in a process of its own, in an empty folder ``work``, with words as its arguments."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(code: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=folder,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def write_images(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 12, side: int = 8) -> Path:
    """Write a folder per class with random colour images, always the same ones."""
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An image folder of two classes with twelve images each."""
    return write_images(tmp_path / "images")

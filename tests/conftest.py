"""Fixtures that several files use: plans, tiny data on disk, and the command line in this process."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra.core.config_loader import ConfigLoader

from resweep.config import config_loader
from resweep.errors import Problem, RequestError
from resweep.sweep.plan import Plan, make_plan

Planner = Callable[..., Plan]


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C be heard also where the tests run in the background of a shell, which ignores it for its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Several libraries keep the stderr that they were first imported with. That must not be the one of a single test,
    # which is closed after it; whatever they say later would then be an error of logging in another test.
    importlib.import_module("pytorch_lightning")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the tests cache out of the user's own cache; processes that they start see the variable, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def root_logger_as_it_was() -> Iterator[None]:
    """Take back what a test has done to the root logger: a stream that is closed with it would harm later ones."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers and "pytest" not in type(handler).__module__:
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def loader() -> ConfigLoader:
    """Hydra's loader for the shipped configs; it goes on working when its Hydra is closed."""
    with config_loader() as made:
        return made


@pytest.fixture
def plan(loader: ConfigLoader) -> Planner:
    """Plans the overrides it is given."""
    return lambda *overrides: make_plan(loader, list(overrides))


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
        out, err = tmp_path / "stdout", tmp_path / "stderr"  # files: a pipe would be held open by a fork server
        with out.open("w") as stdout, err.open("w") as stderr:
            done = subprocess.run(
                [sys.executable, "-c", code, *words],
                cwd=folder,
                env={**os.environ, **variables},
                stdout=stdout,
                stderr=stderr,
                timeout=120,
                check=False,
            )
        done.stdout, done.stderr = out.read_text(), err.read_text()
        out.unlink()
        err.unlink()
        return done

    return run


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An image folder of two classes with twelve images each."""
    from helpers import write_images

    return write_images(tmp_path / "images")

"""What a record says about the machine, against git and the package metadata themselves."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch

import resweep.environment
from resweep.environment import environment, package_versions, peak_memory_bytes, processor

git_state = resweep.environment.git_state.__wrapped__  # asked anew each time, where a process asks once


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def test_the_commit_and_whether_files_differ_from_it(checkout: Path) -> None:
    assert git_state(str(checkout)) is None, "no commit yet"
    (checkout / "a.txt").write_text("1")
    git(checkout, "add", "a.txt")
    git(checkout, "commit", "-q", "-m", "one")
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state(str(checkout)) == {"commit": commit, "dirty": False}
    (checkout / "untracked.txt").write_text("runs, notes")
    assert git_state(str(checkout)) == {"commit": commit, "dirty": False}
    (checkout / "sub").mkdir()
    (checkout / "a.txt").write_text("2")
    assert git_state(str(checkout / "sub")) == {"commit": commit, "dirty": True}
    git(checkout, "add", "a.txt")
    assert git_state(str(checkout)) == {"commit": commit, "dirty": True}


def test_no_checkout_no_folder_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(str(tmp_path)) is None
    assert git_state(str(tmp_path / "missing")) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(str(Path(__file__).parent)) is None


def test_versions_are_those_that_are_installed() -> None:
    versions = package_versions()
    assert versions == {name: importlib.metadata.version(name) for name in versions}
    assert {"resweep", "torch", "pytorch-lightning", "numpy"} <= set(versions)


def test_the_facts_fit_into_a_record(tmp_path: Path) -> None:
    facts = environment(3, str(tmp_path), "0123")
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) == {
        "python", "platform", "processor", "cores", "threads", "accelerator", "packages", "git", "code",
    }  # fmt: skip
    assert (facts["python"], facts["cores"], facts["threads"]) == (platform.python_version(), os.cpu_count(), 3)
    assert (facts["accelerator"] is None) is not torch.cuda.is_available()
    assert processor() == facts["processor"] != ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the accelerator where there is one")
def test_peak_memory_grows_with_what_is_used() -> None:
    before = peak_memory_bytes()
    used = bytearray(before + 64_000_000)  # more than ever before
    used[::4096] = b"x" * len(range(0, len(used), 4096))  # touched page by page
    after = peak_memory_bytes()
    assert len(used) < after < len(used) + 2 * before

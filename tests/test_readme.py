"""Every command of the README and of its further pages is run, with fewer epochs and images."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resweep.data.sources
from resweep.cli import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))
SMALL = ["trainer.max_epochs=1", "data.batch_size=16", "data.subset=64"]


def commands(text: str = TEXT) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def shrunk(words: list[str]) -> list[str]:
    if words[0] != "train" or "--cfg" in words or "--info" in words:
        return words
    own_split = ["data.val_size=0.2"] if "data=mnist" in words else []
    return [*words, *SMALL, *own_split]


def write_files(text: str, folder: Path) -> None:
    """Write the files that a page shows with their names."""
    for name, body in re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    write_files(TEXT, folder)
    rng = np.random.default_rng(0)
    for number in range(120):
        path = folder / "photos" / ("cats", "dogs")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (70, 80, 3), np.uint8)).save(path)
    return folder


def tiny(classes: int, channels: int):
    def source(root, download):
        return resweep.data.sources.fake(classes, 32, channels, 400, 50)

    source.__module__ = resweep.data.sources.__name__  # a target has to be at home in the package
    return source


@pytest.mark.slow
def test_every_command_runs_as_written(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(resweep.data.sources, "mnist", tiny(10, 1))  # nothing is downloaded in tests
    monkeypatch.setattr(resweep.data.sources, "cifar10", tiny(10, 3))
    ran = []
    for line in commands():
        words = shlex.split(line)
        if words[0] == "resweep":
            extra = ["data.val_size=0.2"] if "data=cifar10" in words else []
            assert main([*shrunk(words[1:]), *extra]) == 0, line
            ran.append(line)
    printed = capsys.readouterr().out
    assert len(ran) == len([line for line in commands() if line.startswith("resweep")]) >= 18
    assert "agrees with run.json" in printed
    assert (place / "runs" / "first" / "report.html").is_file()
    records = [json.loads(path.read_text()) for path in (place / "runs" / "first").glob("*/run.json")]
    assert [record["status"] for record in records] == ["completed"] * 36
    assert {record["attempts"] for record in records} == {1}


@pytest.mark.slow
def test_tensorboard_serves_what_the_readme_says(place):
    sweep = place / "runs" / "first"
    if not sweep.is_dir():
        pytest.fail("the README's sweep has to run before it can be shown")
    words = [str(Path(sys.executable).with_name("tensorboard")), "--logdir", str(sweep), "--port", "0"]
    server = subprocess.Popen([*words, "--load_fast=false"], stderr=subprocess.PIPE, text=True)
    try:
        address = None
        for line in server.stderr:
            found = re.search(r"http://\S+?:(\d+)/", line)
            if found:
                address = f"http://localhost:{found[1]}"
                break
        assert address is not None
        until, runs = time.monotonic() + 60, []
        while len(runs) < 36 and time.monotonic() < until:
            with urllib.request.urlopen(f"{address}/data/runs") as answer:
                runs = json.load(answer)
            time.sleep(0.2)
        assert len(runs) == 36
        assert all(
            re.fullmatch(r"optimizer=\w+,dropout=[\d.]+,weight_decay=[\d.]+,seed=\d-[0-9a-f]{5}", r) for r in runs
        )
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs_as_written(page, tmp_path, monkeypatch, capsys):
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    write_files(text, tmp_path)
    lines = commands(text)
    for line in lines:
        words = shlex.split(line)
        if words[0] == "python":
            subprocess.run([sys.executable, *words[1:]], check=True)
        else:
            assert words[0] == "resweep" and main(shrunk(words[1:])) == 0, line
    assert lines, page
    for path in tmp_path.glob("runs/*/*/run.json"):
        assert json.loads(path.read_text())["status"] == "completed", path


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_to_files():
    for page in [ROOT / "README.md", *PAGES]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), (page, link)

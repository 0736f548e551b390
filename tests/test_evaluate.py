"""Measuring a trained run again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers import new_run, snapshot

import resweep.evaluate as evaluation
from resweep.cli import main
from resweep.evaluate import evaluate
from resweep.record import BEST, CHECKPOINTS, LOG_FILE, RUN_FILE
from resweep.train import execute


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = new_run(tmp_path_factory.mktemp("runs") / "one", "trainer.max_epochs=3", "model.dropout=0.3")
    assert execute(run_dir).status == "completed"
    return run_dir


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def change(run_dir: Path, **changes: object) -> None:
    content = json.loads((run_dir / RUN_FILE).read_text())
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (run_dir / RUN_FILE).write_text(json.dumps(content))


def test_a_run_agrees_with_its_record_and_stays_as_it_is(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(run_dir)
    assert main(["evaluate", "--check", str(run_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    recorded = json.loads((run_dir / RUN_FILE).read_text())
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("test/")}
    expected = {name: value for name, value in recorded["metrics"].items() if name.startswith("test/")}
    assert {name: [f"{value:.6f}"] * 2 for name, value in expected.items()} == rows
    assert lines[-1] == "agrees with run.json"
    assert f"epoch {recorded['best_epoch']}, test split, 40 images" in lines[0]
    before.pop(LOG_FILE)
    assert {name: facts for name, facts in snapshot(run_dir).items() if name != LOG_FILE} == before


@pytest.mark.parametrize("words", [["--check"], []])
def test_a_changed_metric_is_found(run_dir: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    recorded = json.loads((run_dir / RUN_FILE).read_text())["metrics"]["test/accuracy"]
    change(run_dir, metrics={"test/accuracy": recorded + 2e-6})
    assert main(["evaluate", *words, str(run_dir)]) == (3 if words else 0)
    assert capsys.readouterr().out.splitlines()[-1] == "DIFFERS from run.json"


@pytest.mark.parametrize("value", [None, 0.0])
def test_a_metric_that_was_not_recorded_differs(run_dir: Path, value: float | None) -> None:
    change(run_dir, metrics={"test/f1": value})
    text, agrees = evaluate(run_dir)
    assert not agrees
    assert next(line for line in text.splitlines() if "f1" in line).split()[2] == ("-" if value is None else "0.000000")


def test_other_weights_are_found(run_dir: Path) -> None:
    other = new_run(run_dir.parent / "other", "trainer.max_epochs=3", "model.dropout=0.3", "seed=1", "logger=none")
    execute(other)
    shutil.copyfile(other / CHECKPOINTS / BEST, run_dir / CHECKPOINTS / BEST)
    assert not evaluate(run_dir)[1]


def refused(run_dir: Path, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_dir)]) == 2
    shown = capsys.readouterr()
    assert words in shown.err and shown.out == "" and "Traceback" not in shown.err


def test_what_cannot_be_measured_is_refused(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(run_dir.parent / "missing", "config.yaml", capsys)
    change(run_dir, data_digest="0" * 32)
    refused(run_dir, "no longer holds the images the run was made with", capsys)
    (run_dir / RUN_FILE).write_text("{")
    refused(run_dir, "is damaged", capsys)
    (run_dir / CHECKPOINTS / BEST).unlink()
    refused(run_dir, f"has no {CHECKPOINTS}/{BEST}", capsys)


@pytest.mark.parametrize(
    ("measured", "recorded", "agree"),
    [(0.5, 0.5, True), (0.5, 0.5000001, True), (0.5, 0.51, False), (0.5, None, False), (float("nan"), None, True),
     (float("nan"), 0.5, False)],
)  # fmt: skip
def test_a_value_that_is_not_defined_agrees_with_none(measured: float, recorded: float | None, agree: bool) -> None:
    assert evaluation._agree(measured, recorded) is agree

"""Whole sweeps through the command line: what survives what, what is repeated, what is said where."""

from __future__ import annotations

import csv
import re
import signal
from pathlib import Path

import pytest
from helpers import (
    SMALL,
    STEPS,
    assert_same_bits,
    faulty,
    finished_epochs,
    snapshot,
    started,
    timeless_rows,
    wait_until,
    weights,
)

from resweep.cli import main
from resweep.record import CHECKPOINTS, LAST, LOCK_FILE, Record
from resweep.sweep.ledger import run_folders

FAULTS = ["none", "raise", "exit", "segfault", "kill", "diverge"]
STATUS = ["completed", "failed", "lost", "lost", "lost", "diverged"]
EVENT = re.compile(r"\d\d:\d\d:\d\d (start|done|FAILED|diverged|interrupted|status) .*\S")


def sweep(folder: Path, *overrides: str) -> list[str]:
    return ["train", "-m", "--progress", "plain", *SMALL, f"runs_dir={folder / 'runs'}", "sweep_name=s", *overrides]


def records(folder: Path) -> list[Record]:
    return [Record.read(run_dir) for run_dir in run_folders(folder / "runs" / "s")]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("mixed")
    return folder, sweep(folder, *faulty(after=STEPS), f"+model.fault={','.join(FAULTS)}", "executor.retries=0")


def test_one_runs_end_does_not_stop_the_others(
    mixed: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, words = mixed
    assert main(words) == 1
    found = records(folder)
    assert [record.swept["model.fault"] for record in found] == FAULTS
    assert [record.status for record in found] == STATUS
    reasons = ["planted failure", "exit status 3", "signal SIGSEGV", "signal SIGKILL"]
    for record, reason in zip(found[1:5], reasons, strict=True):
        assert reason in record.error["message"]
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == "6 runs: 1 completed, 1 diverged, 1 failed, 3 lost"
    assert "\r" not in out + err and "\x1b" not in out + err and "Traceback" not in out + err
    for reason in reasons:
        assert sum(reason in line and "FAILED" in line for line in err.splitlines()) == 1
    assert "FAILED  4 runs, 4 reasons" in err.splitlines(), "grouped at the end"
    events = [line for line in err.splitlines() if re.match(r"\d\d:", line)]
    assert all(EVENT.fullmatch(line) for line in events)
    assert len(events) == 12, "a start and an end of every run"
    assert not [line for line in out.splitlines() if re.match(r"\d\d:", line)]


def test_there_is_one_row_per_run(mixed: tuple[Path, list[str]]) -> None:
    folder, _ = mixed
    with open(folder / "runs" / "s" / "results.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["fault"] if "fault" in row else row["model.fault"], row["status"]) for row in rows] == list(
        zip(FAULTS, STATUS, strict=True)
    )
    assert [row["id"] for row in rows] == [record.id for record in records(folder)]


def test_the_same_command_repeats_no_finished_run(
    mixed: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, words = mixed
    sweep_dir = folder / "runs" / "s"
    finished = [run_dir for run_dir in run_folders(sweep_dir) if Record.read(run_dir).status in STATUS[::5]]
    assert len(finished) == 2
    before = [snapshot(run_dir) for run_dir in finished]
    request = (sweep_dir / "sweep.yaml").read_text()
    assert main(words) == 0
    assert [snapshot(run_dir) for run_dir in finished] == before
    assert (sweep_dir / "sweep.yaml").read_text() == request
    found = records(folder)
    assert [(record.status, record.attempts) for record in found[:5]] == [("completed", n) for n in (1, 2, 2, 2, 2)]
    whole, *broken = run_folders(sweep_dir)[:5]
    for run_dir in broken:  # each went on from its first epoch, however its process had ended
        assert_same_bits(weights(run_dir), weights(whole))
    assert {"  skip      2 done", "  again     4 failed/lost   001, 002, 003, 004"} <= set(
        capfd.readouterr().err.splitlines()
    )


def test_a_finished_sweep_is_only_summed_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = sweep(tmp_path, "seed=0,1", "logger=none")
    assert main(words) == 0
    first = capfd.readouterr().out
    sweep_dir = tmp_path / "runs" / "s"
    changing = {"results.csv", "results.parquet", "curves.parquet", "report.html"}

    def kept() -> dict[str, tuple[int, int]]:
        files = snapshot(sweep_dir).items()
        return {name: facts for name, facts in files if name not in changing and not name.startswith(LOCK_FILE)}

    before = kept()
    for again in (words, ["resume", "--progress", "plain", str(sweep_dir)]):
        assert main(again) == 0
        assert capfd.readouterr().out == first
        assert kept() == before


def test_a_run_that_says_running_without_a_process_is_finished_by_resume(tmp_path: Path) -> None:
    words = sweep(tmp_path, "seed=0,1", "logger=none")
    assert main(words) == 0
    run_dir = run_folders(tmp_path / "runs" / "s")[1]
    expected = weights(run_dir)
    record = Record.read(run_dir)
    record.status = "running"
    record.write(run_dir)
    (run_dir / CHECKPOINTS / LAST).unlink()
    assert main(["resume", str(tmp_path / "runs" / "s")]) == 0
    assert [(one.status, one.attempts) for one in records(tmp_path)] == [("completed", 1), ("completed", 2)]
    assert_same_bits(weights(run_dir), expected)


@pytest.mark.slow
def test_the_numbers_do_not_depend_on_how_a_run_is_carried_out(tmp_path: Path) -> None:
    """One run alone, a sweep with one worker and one with two: the same weights, bit for bit."""
    changes = ["optimizer=adam", "model.dropout=0.3", "data.crop_padding=1", "trainer.max_epochs=3"]
    folders = {workers: tmp_path / str(workers) for workers in (1, 2)}
    with started(
        *((sweep(folder, *changes, "seed=0,1", f"executor.workers={n}"), folder) for n, folder in folders.items())
    ) as processes:
        for process in processes:
            _, err = process.communicate(timeout=150)
            assert process.returncode == 0, err
    for seed in (0, 1):
        place = [f"runs_dir={tmp_path / 'alone'}", f"sweep_name=seed{seed}"]
        assert main(["train", "-q", *SMALL, *changes, f"seed={seed}", *place]) == 0
        (alone,) = (tmp_path / "alone" / f"seed{seed}").iterdir()
        for folder in folders.values():
            run_dir = run_folders(folder / "runs" / "s")[seed]
            assert_same_bits(weights(run_dir), weights(alone))
            assert timeless_rows(run_dir) == timeless_rows(alone)
            one, other = Record.read(run_dir), Record.read(alone)
            assert (one.metrics, one.config_digest, one.id) == (other.metrics, other.config_digest, other.id)


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.slow
def test_signals_to_the_sweep_save_what_there_is_and_resume_finishes(tmp_path: Path) -> None:
    """Two runs are done and two are under way when the signal comes; only those two go on afterwards."""
    commands = []
    for number in SIGNALS:
        folder = tmp_path / number.name
        folder.mkdir()
        (folder / "hold").touch()
        changes = [*faulty(), "+model.slow_while=null,hold", "seed=0,1", "trainer.max_epochs=40", "logger=none"]
        commands.append((sweep(folder, *changes, "executor.workers=2"), folder))
    folders = [tmp_path / number.name for number in SIGNALS]
    with started(*commands) as processes:
        for folder in folders:
            wait_until(lambda folder=folder: (folder / "runs" / "s" / "sweep.yaml").exists())
        slow_runs = [run_dir for folder in folders for run_dir in run_folders(folder / "runs" / "s")[2:]]
        wait_until(lambda: min(map(finished_epochs, slow_runs)) >= 2)
        for number, process in zip(SIGNALS, processes, strict=True):
            process.send_signal(number)
        for status, process in zip(SIGNALS.values(), processes, strict=True):
            out, err = process.communicate(timeout=90)
            assert process.returncode == status, err
            assert out.splitlines()[-1] == "4 runs: 2 completed, 2 interrupted"
            assert "resweep resume" in err.splitlines()[-1] and "Traceback" not in err
    for folder in folders:
        check_resume(folder)


def check_resume(folder: Path) -> None:
    """Finish the two slow runs; they end where the undisturbed ones of the same seeds did."""
    run_dirs = run_folders(folder / "runs" / "s")
    assert [(record.status, record.attempts) for record in records(folder)] == [
        ("completed", 1), ("completed", 1), ("interrupted", 1), ("interrupted", 1),
    ]  # fmt: skip
    (folder / "hold").unlink()
    before = [snapshot(run_dir) for run_dir in run_dirs[:2]]
    assert main(["resume", "-q", str(folder / "runs" / "s")]) == 0
    assert [(record.status, record.attempts) for record in records(folder)] == [
        ("completed", 1), ("completed", 1), ("completed", 2), ("completed", 2),
    ]  # fmt: skip
    assert [snapshot(run_dir) for run_dir in run_dirs[:2]] == before
    for undisturbed, resumed in zip(run_dirs[:2], run_dirs[2:], strict=True):
        assert_same_bits(weights(resumed), weights(undisturbed))
        assert timeless_rows(resumed) == timeless_rows(undisturbed)

"""The executor of this machine: order, events, and a record for every run, however its process ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import STEPS, faulty, new_run, plan, snapshot

from resweep.errors import RequestError
from resweep.record import LOG_FILE, Record
from resweep.stopping import StopSignal
from resweep.sweep import supervise as supervise_module
from resweep.sweep.executors import local
from resweep.sweep.executors.local import LocalExecutor, call_in_worker, cores
from resweep.sweep.ledger import write_run
from resweep.sweep.supervise import Event, supervise
from resweep.sweep.work import Work


def runs(folder: Path, *overrides: str) -> list[Path]:
    made = [(run, folder / f"{number}") for number, run in enumerate(plan("trainer.max_epochs=2", *overrides).runs)]
    for run, run_dir in made:
        write_run(run, run_dir)
    return [run_dir for _, run_dir in made]


def carry_out(run_dirs: list[Path], workers: int, **limits: Any) -> list[tuple[str, str]]:
    heard: list[tuple[str, str]] = []
    supervised(run_dirs, workers, lambda kind, path: heard.append((kind, path.name)), StopSignal(), **limits)
    return [event for event in heard if event[0] != "tick"]


def supervised(
    run_dirs: list[Path], workers: int, on_event: Event, stop: StopSignal, timeout: float | None = None, **limits: Any
) -> Work:
    executor = LocalExecutor(workers)
    work = Work(run_dirs, executor.units, **limits)
    supervise(executor, work, on_event, stop, timeout)
    return work


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_start_in_order_and_never_more_than_there_are_workers(tmp_path: Path, workers: int) -> None:
    run_dirs = runs(tmp_path, "seed=0,1,2", "logger=none")
    heard = carry_out(run_dirs, workers)
    assert [name for kind, name in heard if kind == "start"] == ["0", "1", "2"]
    assert sorted(name for kind, name in heard if kind == "end") == ["0", "1", "2"]
    under_way = 0
    for kind, _ in heard:
        under_way += 1 if kind == "start" else -1
        assert 0 <= under_way <= workers
    assert [Record.read(run_dir).status for run_dir in run_dirs] == ["completed"] * 3


def test_a_process_that_ends_without_a_word_is_lost_and_named(tmp_path: Path) -> None:
    faults = "+model.fault=exit,segfault,kill"
    run_dirs = runs(tmp_path, *faulty(after=STEPS), faults)
    carry_out(run_dirs, 2)
    records = [Record.read(run_dir) for run_dir in run_dirs]
    assert [record.status for record in records] == ["lost"] * 3
    reasons = ["exit status 3", "signal SIGSEGV", "signal SIGKILL"]
    for record, reason in zip(records, reasons, strict=True):
        assert record.error["type"] == "Lost" and reason in record.error["message"]
        assert record.finished_at is not None and record.attempts == 1


def test_what_a_run_prints_is_in_its_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (run_dir,) = runs(tmp_path, *faulty(fault="raise", after=0))
    carry_out([run_dir], 1)
    assert Record.read(run_dir).status == "failed"
    assert "ArithmeticError: planted failure" in (run_dir / LOG_FILE).read_text()
    assert capfd.readouterr() == ("", "")


def test_a_run_is_the_same_in_a_worker(tmp_path: Path) -> None:
    """The executor leaves nothing in a run's folder that one process alone does not."""
    from resweep.train import execute

    execute(new_run(tmp_path / "alone", "logger=none"))
    (run_dir,) = runs(tmp_path, "logger=none")
    carry_out([run_dir], 1)
    assert set(snapshot(run_dir)) == set(snapshot(tmp_path / "alone"))


def test_a_stop_ends_the_processes_under_way(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    run_dirs = runs(tmp_path, *faulty(slow_while=hold), "trainer.max_epochs=60", "seed=0,1,2")

    stop = StopSignal()

    def when_under_way(kind: str, run_dir: Path) -> None:
        if kind == "tick" and all((one / "metrics.csv").exists() for one in run_dirs[:2]):
            stop.count = 1

    supervised(run_dirs, 2, when_under_way, stop)
    assert [Record.read(run_dir).status for run_dir in run_dirs] == ["interrupted", "interrupted", "pending"]
    assert not local.multiprocessing.active_children()


def test_a_run_that_does_not_stop_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A net that hangs hears no signal; the grace period is followed by SIGKILL."""
    monkeypatch.setattr(supervise_module, "GRACE_SECONDS", 1.0)
    hung = tmp_path / "hung"
    (run_dir,) = runs(tmp_path, *faulty(fault="hang", hung=hung), "logger=none")
    stop = StopSignal()

    def when_it_hangs(kind: str, run_dir: Path) -> None:
        stop.count = int(hung.exists())

    supervised([run_dir], 1, when_it_hangs, stop)
    assert "signal SIGKILL" in Record.read(run_dir).error["message"]


def test_values_and_errors_come_back_from_a_worker() -> None:
    assert call_in_worker("math:hypot", 3, 4) == 5.0
    with pytest.raises(RuntimeError, match="math:sqrt: ValueError"):
        call_in_worker("math:sqrt", -1)
    with pytest.raises(RuntimeError, match="exit status 3"):
        call_in_worker("os:_exit", 3)


def test_problems_found_in_a_worker_are_the_users_mistake() -> None:
    config = plan().runs[0].config
    config["optimizer"]["momentun"] = 1
    with pytest.raises(RequestError) as caught:
        call_in_worker("resweep.sweep.check:check_buildable", [config])
    (problem,) = caught.value.problems
    assert (problem.key, problem.nearest) == ("optimizer.momentun", "optimizer.momentum")


def test_the_number_of_workers() -> None:
    assert cores() >= 1
    assert LocalExecutor(None).slots == cores() and LocalExecutor(5).slots == 5
    assert LocalExecutor(None, threads=10_000).slots == 1
    assert LocalExecutor(None, devices=["0", "1"], runs_per_device=3).slots == 6
    assert LocalExecutor(4, devices=["0", "1"], runs_per_device=3).slots == 4

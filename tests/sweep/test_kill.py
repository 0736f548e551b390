"""What is left when a process is killed, in any phase and at any file operation, or the disk is full; and going on."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from helpers import SMALL, STEPS, assert_same_bits, new_run, snapshot, timeless_rows, weights
from torch import Tensor

from resweep.config import config_loader
from resweep.models.resnet import CifarResNet
from resweep.record import BEST, CHECKPOINTS, FINISHED, LAST, RESERVE_FILE, Record
from resweep.stopping import StopSignal
from resweep.sweep.executors.local import CONTEXT, LocalExecutor, start_server
from resweep.sweep.executors.worker import carry_out
from resweep.sweep.ledger import prepare, run_folders
from resweep.sweep.plan import make_plan
from resweep.sweep.stock import take_stock
from resweep.sweep.supervise import supervise
from resweep.sweep.work import Work
from resweep.train import execute

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.truncate"}
TOGETHER = 4  # processes at a time


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The long form of this test, from which the parts are taken."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("kill")


@pytest.mark.slow
def test_a_sweep_that_is_killed_in_every_phase_ends_as_if_nothing_had_happened(
    kill: ModuleType, tmp_path: Path
) -> None:
    """The real command line with six runs; what it was doing when it was killed is what its processes have noted."""
    undisturbed = kill.Sweep(tmp_path / "undisturbed", 6, 3)
    undisturbed.finish()
    sweep = kill.Sweep(tmp_path / "killed", 6, 3)
    kills = [
        kill.Kill("supervisor", "planning", command="train"),
        kill.Kill("worker", "checkpoint", command="train"),
        kill.Kill("worker", "set-up", after=2),
        kill.Kill("worker", "record", after=4),
        kill.Kill("both", "training", after=6, at_once=True),
        kill.Kill("worker", "validation", after=8),
        kill.Kill("supervisor", "supervising", after=10, at_once=True),
    ]
    table: list[str] = []
    kill.kill_and_resume(sweep, kills, table.append)
    problems = [*undisturbed.problems, *sweep.problems]
    problems = problems or [*kill.same_results(sweep, undisturbed), *kill.nothing_twice(sweep)]
    assert not problems, "\n".join([*table, *problems])


def dies(work: Callable[[], object], folder: Path, number: int, counted: Path, by: int = signal.SIGKILL) -> None:
    """Do something and get a signal just before a file below a folder is made, renamed or removed for the n-th time.

    Body of a process; where it lives on it writes how often that was.
    """
    count = 0

    def look(event: str, args: tuple) -> None:
        nonlocal count
        changes = event in CHANGES or (event == "open" and bool(args[2] & (os.O_WRONLY | os.O_RDWR)))
        if changes and str(args[0]).startswith(str(folder)):
            count += 1
            if count == number:
                os.kill(os.getpid(), by)

    sys.addaudithook(look)
    work()
    counted.write_text(str(count))


def in_processes(*work: tuple) -> list[int]:
    """Do things in processes of their own, some at a time, and return their exit codes."""
    start_server()
    codes = []
    for first in range(0, len(work), TOGETHER):
        processes = [CONTEXT.Process(target=dies, args=args) for args in work[first : first + TOGETHER]]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            codes.append(process.exitcode)
    return codes


@pytest.mark.slow
def test_a_run_that_is_killed_before_any_of_its_file_operations_is_continued(tmp_path: Path) -> None:
    """Between every two of them: with half a checkpoint, a checkpoint that is not yet the best one, no record..."""
    counted = tmp_path / "counted"
    fresh = new_run(tmp_path / "fresh", "model.dropout=0.2")
    undisturbed = shutil.copytree(fresh, tmp_path / "undisturbed")
    assert in_processes((partial(carry_out, undisturbed), undisturbed, 0, counted)) == [0]
    numbers = range(1, int(counted.read_text()) + 1)
    run_dirs = [shutil.copytree(fresh, tmp_path / f"{number:03d}") for number in numbers]
    todo = [(partial(carry_out, d), d, n, counted) for n, d in zip(numbers, run_dirs, strict=True)]
    assert set(in_processes(*todo)) == {-signal.SIGKILL}
    before = [Record.read(run_dir) for run_dir in run_dirs]
    assert {record.status for record in before} == {"pending", "running", "completed"}
    for run_dir in run_dirs:
        for checkpoint in (run_dir / CHECKPOINTS).glob("[!.]*"):
            assert weights(run_dir, checkpoint.name), "a checkpoint that is there can be read"
    finished = [d for d, record in zip(run_dirs, before, strict=True) if record.status in FINISHED]
    kept = [snapshot(run_dir) for run_dir in finished]
    assert set(in_processes(*((partial(execute, d), d, 0, counted) for d in run_dirs))) == {0}
    assert [snapshot(run_dir) for run_dir in finished] == kept
    whole = Record.read(undisturbed)
    for run_dir, record in zip(run_dirs, before, strict=True):
        after = Record.read(run_dir)
        assert (after.status, after.metrics, after.best_epoch) == ("completed", whole.metrics, whole.best_epoch)
        assert after.attempts == record.attempts + (record.status not in FINISHED)
        assert timeless_rows(run_dir) == timeless_rows(undisturbed)
        assert record.status in FINISHED or not list(run_dir.rglob(".*.tmp")), "nothing half written stays"
        for name in (LAST, BEST):
            assert_same_bits(weights(run_dir, name), weights(undisturbed, name))


@pytest.mark.slow
def test_a_run_that_is_terminated_before_any_of_its_file_operations_says_so(tmp_path: Path) -> None:
    counted = tmp_path / "counted"
    fresh = new_run(tmp_path / "fresh", "model.dropout=0.2")
    whole = shutil.copytree(fresh, tmp_path / "whole")
    assert in_processes((partial(carry_out, whole), whole, 0, counted)) == [0]
    numbers = range(1, int(counted.read_text()) + 1)
    run_dirs = [shutil.copytree(fresh, tmp_path / f"{number:03d}") for number in numbers]
    todo = [(partial(carry_out, d), d, number, counted, signal.SIGTERM) for number, d in enumerate(run_dirs, 1)]
    in_processes(*todo)
    assert {Record.read(d).status for d in run_dirs} == {"pending", "interrupted", "completed"}
    assert not [path for d in run_dirs for path in (*d.rglob(".*.tmp"), *d.rglob(RESERVE_FILE))]


def test_a_plan_that_is_killed_while_it_is_frozen_is_not_there_or_complete(tmp_path: Path) -> None:
    counted = tmp_path / "counted"
    with config_loader() as loader:
        made = make_plan(loader, [*SMALL, "seed=0,1", f"runs_dir={tmp_path}"])
    whole = tmp_path / "whole" / "s"
    whole.parent.mkdir()
    assert in_processes((partial(prepare, made, whole), whole.parent, 0, counted)) == [0]
    count = int(counted.read_text())
    assert count > 2 * len(made.runs)
    sweep_dirs = [tmp_path / str(number) / "s" for number in range(1, count + 1)]
    for sweep_dir in sweep_dirs:
        sweep_dir.parent.mkdir()
    todo = [(partial(prepare, made, d), d.parent, n, counted) for n, d in enumerate(sweep_dirs, 1)]
    assert set(in_processes(*todo)) == {-signal.SIGKILL}
    for sweep_dir in sweep_dirs:
        there = prepare(made, sweep_dir)
        assert not there or sweep_dir.exists()
        assert {d.name for d in run_folders(sweep_dir)} == {d.name for d in run_folders(whole)}
        assert {Record.read(run_dir).status for run_dir in run_folders(sweep_dir)} == {"pending"}


class Greedy(CifarResNet):
    """A ResNet that once, after some training steps, takes the last byte of a disk, the room kept for the record too.

    Args:
        filler: the file that takes it.
        after: steps that still go well.
    """

    def __init__(self, filler: str, after: int, **settings: object) -> None:
        super().__init__(**settings)
        self.filler, self.left = Path(filler), after

    def forward(self, images: Tensor) -> Tensor:
        self.left -= self.training
        if self.left < 0 and not self.filler.exists():
            for reserve in self.filler.parent.rglob(RESERVE_FILE):
                reserve.unlink()
            fill(self.filler)
        return super().forward(images)


def fill(path: Path) -> None:
    with suppress(OSError), open(path, "wb", buffering=0) as stream:
        while stream.write(bytes(1 << 12)):
            pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be made here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def supervised(*run_dirs: Path) -> list[tuple[str, Path]]:
    """Carry runs out and return what was heard of them."""
    executor, heard = LocalExecutor(2), []
    work = Work(run_dirs, executor.units, retries=2)
    supervise(executor, work, lambda *event: heard.append(event), StopSignal())
    return [event for event in heard if event[0] != "tick"]


@pytest.mark.parametrize("after", [None, STEPS + 1])
def test_a_record_that_cannot_be_written_leaves_the_one_before(
    small_disk: Path, tmp_path: Path, after: int | None
) -> None:
    """The disk is full before the run starts, or in its second epoch to the last byte; the other run has a disk."""
    filler = small_disk / "filler"
    net = [f"import_path={Path(__file__).parent}", "+allowed_targets.own=test_kill.Greedy",
           "model._target_=test_kill.Greedy", f"+model.filler={filler}", f"+model.after={after or 0}",
           "logger=none", "trainer.max_epochs=3"]  # fmt: skip
    full, whole = new_run(small_disk / "run", *net), new_run(tmp_path / "whole", "logger=none", "trainer.max_epochs=3")
    if after is None:
        fill(filler)
    heard = supervised(full, whole)
    assert {("end", full), ("end", whole)} <= set(heard)
    assert Record.read(whole).status == "completed", "the supervisor goes on with the others"
    record = Record.read(full)
    assert record.status == "pending" if after is None else record.status == "running"
    assert not list(full.rglob(".*.tmp"))
    if after is not None:
        rows = timeless_rows(full)
        assert weights(full, LAST) and rows and rows == timeless_rows(whole)[: len(rows)]
    filler.write_bytes(b"")
    assert take_stock([full]).records[full].status == ("pending" if after is None else "lost")
    supervised(full)
    assert Record.read(full).status == "completed"
    assert_same_bits(weights(full), weights(whole))
    assert timeless_rows(full) == timeless_rows(whole)

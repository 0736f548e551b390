"""What the loop over an executor does with runs that vanish, hang, fail alike, or are somebody else's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    SMALL,
    STEPS,
    assert_same_bits,
    faulty,
    finished_epochs,
    new_run,
    plan,
    started,
    timeless_rows,
    wait_until,
    weights,
    write_images,
)

from resweep.claim import claim
from resweep.config import config_loader
from resweep.record import CHECKPOINTS, LAST, Record
from resweep.stopping import StopSignal
from resweep.sweep import supervise as supervise_module
from resweep.sweep.executors.local import LocalExecutor, oom_kills
from resweep.sweep.ledger import run_folders, write_run
from resweep.sweep.plan import make_plan
from resweep.sweep.supervise import settle, supervise
from resweep.sweep.work import Work
from resweep.train import execute


def runs(folder: Path, *overrides: str) -> list[Path]:
    made = [(run, folder / f"{number}") for number, run in enumerate(plan("logger=none", *overrides).runs)]
    for run, run_dir in made:
        write_run(run, run_dir)
    return [run_dir for _, run_dir in made]


def carry_out(
    run_dirs: list[Path], executor: LocalExecutor | None = None, timeout: float | None = None, **limits: Any
) -> tuple[Work, list[tuple[str, str]]]:
    """Supervise runs to the end; return what is left and the events but the ticks."""
    executor = executor or LocalExecutor(2)
    work, heard = Work(run_dirs, executor.units, **limits), []
    supervise(executor, work, lambda kind, path: heard.append((kind, path.name)), StopSignal(), timeout)
    return work, [event for event in heard if event[0] != "tick"]


def test_a_lost_run_is_continued_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    net = faulty(fault="kill", after=STEPS + 2, unless=tmp_path / "killed")
    (run_dir,) = runs(tmp_path, *net, "trainer.max_epochs=3")
    _, heard = carry_out([run_dir], retries=1)
    assert heard == [(kind, "0") for kind in ("start", "again", "start", "end")]
    record = Record.read(run_dir)
    assert (record.status, record.attempts, record.error) == ("completed", 2, None)
    undisturbed = new_run(tmp_path / "undisturbed", *net, "logger=none", "trainer.max_epochs=3")
    execute(undisturbed)
    assert_same_bits(weights(run_dir), weights(undisturbed))
    assert timeless_rows(run_dir) == timeless_rows(undisturbed)


@pytest.mark.parametrize(("after", "retries", "attempts"), [(0, 0, 1), (0, 5, 2), (STEPS, 1, 2), (STEPS, 5, 3)])
def test_retries_end_with_their_number_or_when_a_run_gets_no_further(
    tmp_path: Path, after: int, retries: int, attempts: int
) -> None:
    """A net that dies in every second epoch: with after=0 at once; with after=STEPS one epoch further each time."""
    (run_dir,) = runs(tmp_path, *faulty(fault="kill", after=after), "trainer.max_epochs=3")
    carry_out([run_dir], retries=retries)
    record = Record.read(run_dir)
    assert (record.status, record.attempts) == ("completed" if attempts == 3 else "lost", attempts)


def test_a_failure_is_not_repeated(tmp_path: Path) -> None:
    (run_dir,) = runs(tmp_path, *faulty(fault="raise", after=0))
    carry_out([run_dir], retries=5)
    assert (Record.read(run_dir).status, Record.read(run_dir).attempts) == ("failed", 1)


def test_a_hanging_run_is_ended_and_the_others_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise_module, "GRACE_SECONDS", 1.0)
    run_dirs = runs(tmp_path, *faulty(hung=tmp_path / "hung"), "+model.fault=hang,none")
    carry_out(run_dirs, timeout=10)
    hung, whole = map(Record.read, run_dirs)
    assert (hung.status, hung.error["message"]) == ("lost", "took longer than executor.timeout=10 seconds")
    assert (tmp_path / "hung").exists() and whole.status == "completed"


def test_a_slow_run_is_saved_at_the_timeout_and_continued(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    (run_dir,) = runs(tmp_path, *faulty(slow_while=hold), "trainer.max_epochs=25")  # 100 steps, 5 s at least
    _, heard = carry_out([run_dir], timeout=3, retries=1)
    record = Record.read(run_dir)
    assert ("again", "0") in heard and record.attempts == 2
    assert record.error is None or "executor.timeout=3" in record.error["message"]
    assert finished_epochs(run_dir) > 5, "it went on where it was saved"


def test_a_sweep_without_hope_stops(tmp_path: Path) -> None:
    run_dirs = runs(tmp_path, *faulty(fault="raise", after=0), "seed=0,1,2,3,4,5")
    work, _ = carry_out(run_dirs, LocalExecutor(1), fail_fast=3)
    states = Counter(Record.read(run_dir).status for run_dir in run_dirs)
    assert states == {"failed": 3, "pending": 3}
    assert work.hopeless == "the first 3 runs have all failed with the same error: planted failure"


def test_different_failures_are_no_reason_to_stop(tmp_path: Path) -> None:
    run_dirs = runs(tmp_path, *faulty(after=0), "+model.fault=raise,exhaust,leave", "seed=0,1")
    work, _ = carry_out(run_dirs, LocalExecutor(1), fail_fast=3)
    assert work.hopeless is None
    assert {Record.read(run_dir).status for run_dir in run_dirs} == {"failed"}


def test_one_good_run_is_a_reason_to_go_on(tmp_path: Path) -> None:
    run_dirs = runs(tmp_path, *faulty(after=0), "+model.fault=none,raise", "seed=0,1,2")
    work, _ = carry_out(run_dirs, LocalExecutor(1), fail_fast=2)
    assert work.hopeless is None
    assert Counter(Record.read(run_dir).status for run_dir in run_dirs) == {"completed": 3, "failed": 3}


def test_accelerators_are_handed_out_as_slots(tmp_path: Path) -> None:
    run_dirs = runs(tmp_path, *faulty(visible=tmp_path), "seed=0,1,2,3")
    executor = LocalExecutor(devices=["3", "GPU-7"], runs_per_device=1)
    assert executor.slots == 2
    carry_out(run_dirs, executor)
    seen = Counter(path.read_text() for path in tmp_path.iterdir() if path.name.isdigit() and path.is_file())
    assert set(seen) == {"3", "GPU-7"} and seen.total() == 4
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None, "of the runs alone"


def test_a_dead_data_worker_fails_its_run_alone(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", count=40)
    data = ["data=image_folder", f"data.root={root}", "data.memory_limit_mb=0", "data.num_workers=1",
            "data.batch_size=4", "model.width=4", "trainer.max_epochs=1", "logger=none"]  # fmt: skip
    with config_loader() as loader:
        made = make_plan(loader, [*data, *faulty(after=1), "+model.fault=orphan,none"])
    run_dirs = [tmp_path / run.id for run in made.runs]
    for run in made.runs:
        write_run(run, tmp_path / run.id)
    carry_out(run_dirs)
    dead, whole = map(Record.read, run_dirs)
    said = ("is killed by signal: Killed", "a process that loads data has died")  # whichever is noticed first
    assert dead.status == "failed" and any(words in dead.error["message"] for words in said)
    assert whole.status == "completed"


def test_memory_that_ran_out_is_counted_where_linux_counts_it(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 3\n")
    (tmp_path / "memory.events").write_text("low 0\noom 9\noom_kill 2\noom_group_kill 1\n")
    names = [str(tmp_path / name) for name in ("vmstat", "memory.events", "absent")]
    assert oom_kills(names) == 5


CGROUP = Path("/sys/fs/cgroup/memory")


def test_the_out_of_memory_killer_is_named(tmp_path: Path) -> None:
    """A real one: the net of one run moves into a group with little memory, and takes more."""
    group = CGROUP / f"resweep-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
    except OSError as error:
        pytest.skip(f"no memory group can be made here: {error}")
    try:
        run_dirs = runs(tmp_path, *faulty(after=0), f"+model.hung={group}", "+model.fault=devour,none")
        carry_out(run_dirs)
        devoured, whole = map(Record.read, run_dirs)
        assert (devoured.status, whole.status) == ("lost", "completed")
        assert "signal SIGKILL, memory having run out" in devoured.error["message"]
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@pytest.mark.parametrize("status", ["completed", "diverged", "pruned", "failed", "interrupted"])
def test_a_final_record_is_left_as_it_is(tmp_path: Path, status: str) -> None:
    (run_dir,) = runs(tmp_path)
    record = Record.read(run_dir)
    record.status = status
    record.write(run_dir)
    assert settle(run_dir, "exit status 3", record.attempts - 1).status == status
    assert Record.read(run_dir) == record


@pytest.mark.parametrize(("status", "stopping", "after"), [
    ("running", False, "lost"), ("running", True, "interrupted"), ("pending", False, "lost"),
    ("pending", True, "pending"), ("failed", False, "lost"), ("failed", True, "failed"),
])  # fmt: skip
def test_a_run_without_a_process_is_lost(tmp_path: Path, status: str, stopping: bool, after: str) -> None:
    (run_dir,) = runs(tmp_path)
    record = Record.read(run_dir)
    record.status = status
    record.write(run_dir)
    assert settle(run_dir, "signal SIGKILL", 0, stopping).status == after == Record.read(run_dir).status


@pytest.mark.parametrize("harm", ["waiting deleted", "running deleted", "waiting damaged"])
def test_a_folder_that_is_taken_away_or_damaged_stops_no_other_run(tmp_path: Path, harm: str) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    run_dirs = runs(tmp_path, *faulty(slow_while=hold), "seed=0,1,2", "trainer.max_epochs=6")
    victim = run_dirs[2] if harm.startswith("waiting") else run_dirs[0]
    executor, heard = LocalExecutor(2), []
    work = Work(run_dirs, executor.units)

    def on_event(kind: str, run_dir: Path) -> None:
        if kind != "tick":
            heard.append((kind, run_dir.name))
        elif hold.exists() and all(finished_epochs(run_dir) for run_dir in run_dirs[:2]):
            if harm.endswith("deleted"):
                shutil.rmtree(victim)
            else:
                (victim / "run.json").write_text("")
            hold.unlink()

    supervise(executor, work, on_event, StopSignal())
    others = [run_dir for run_dir in run_dirs if run_dir != victim]
    assert [Record.read(run_dir).status for run_dir in others] == ["completed"] * 2
    assert (("gone", "0") in heard) == (harm == "running deleted")


def test_somebody_elses_run_is_left_alone(tmp_path: Path) -> None:
    (run_dir,) = runs(tmp_path)
    with claim(run_dir):
        assert settle(run_dir, "exit status 75", 0) is None
    assert Record.read(run_dir).status == "pending"


def test_a_full_disk_fails_the_run_and_keeps_what_was_saved(tmp_path: Path) -> None:
    """On a real file system of 3 MB, which the net fills after its first epoch."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be made here: {mounted.stderr.decode().strip()}")
    try:
        filler = small / "filler"
        net = [*faulty(fault="fill", after=STEPS + 1, hung=filler, unless=tmp_path / "full"), "trainer.max_epochs=3"]
        (run_dir,) = runs(small, *net)
        carry_out([run_dir])
        record = Record.read(run_dir)
        assert record.status == "failed" and "No space left on device" in record.error["message"]
        assert weights(run_dir, LAST), "the checkpoint before can be read"
        assert not list((run_dir / CHECKPOINTS).glob(".*")) and not list(run_dir.glob("*.tmp"))
        filler.unlink()
        carry_out([run_dir])
        assert Record.read(run_dir).status == "completed"
        whole = new_run(tmp_path / "whole", "logger=none", *faulty(), "trainer.max_epochs=3")
        execute(whole)
        assert_same_bits(weights(run_dir), weights(whole))
    finally:
        subprocess.run(["umount", str(small)], check=True)


HOST = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"']


@pytest.mark.slow
def test_two_machines_share_a_sweep_and_one_takes_over_when_the_other_dies(tmp_path: Path) -> None:
    """The machines are two names of this one, which is all that the framework can tell them apart by."""
    if subprocess.run([*HOST, "probe", "true"], capture_output=True).returncode:
        pytest.skip("no process can be given another host name here (unshare --uts)")
    hold = tmp_path / "hold"
    hold.touch()
    words = ["-m", *SMALL, "logger=none", *faulty(slow_while=hold), "seed=0,1,2,3,4,5", "trainer.max_epochs=30",
             f"runs_dir={tmp_path / 'runs'}", "sweep_name=s", "executor.workers=1"]  # fmt: skip
    sweep_dir = tmp_path / "runs" / "s"
    with started((["train", *words], tmp_path)) as (first,):
        wait_until(lambda: sweep_dir.exists() and any(finished_epochs(d) for d in run_folders(sweep_dir)))
        command = [*HOST, "other", sys.executable, "-m", "resweep.cli", "resume", str(sweep_dir)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: [Record.read(d).status for d in run_folders(sweep_dir)].count("running") == 2)
            first.send_signal(signal.SIGKILL)  # its run saves itself when its parent is gone
            hold.unlink()
            out, err = other.communicate(timeout=200)
        finally:
            other.kill()
    assert other.returncode == 0, err
    assert out.splitlines()[-1] == "6 runs: 6 completed"
    attempts = sorted(Record.read(run_dir).attempts for run_dir in run_folders(sweep_dir))
    assert attempts == [1, 1, 1, 1, 1, 2], "no run was carried out twice; the one of the dead machine was continued"

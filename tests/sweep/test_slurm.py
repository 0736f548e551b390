"""The executor of SLURM, on a real SLURM of this machine: results, causes, signals, refusals."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import (
    assert_same_bits,
    faulty,
    finished_epochs,
    new_run,
    timeless_rows,
    wait_until,
    weights,
)  # fmt: skip
from omegaconf import OmegaConf
from slurm_cluster import Cluster, cluster

from resweep.claim import claim, holder
from resweep.errors import Problem, RequestError
from resweep.record import CHECKPOINTS, LAST, Record
from resweep.sweep.executors import slurm, slurm_commands
from resweep.sweep.executors.base import End
from resweep.sweep.executors.slurm import SlurmExecutor
from resweep.sweep.executors.slurm_commands import cause_of_end, exit_of

CONF = Path(__file__).parents[2] / "conf"
EPOCHS = 20  # of a run that is held: 4 s and more while it is


def section(**changes: object) -> dict[str, object]:
    """Return the shipped keys, some of them changed."""
    return {**OmegaConf.to_container(OmegaConf.load(CONF / "executor" / "slurm.yaml")), **changes}


@pytest.fixture(scope="session")
def machine() -> Iterator[Cluster]:
    """A SLURM with two processors for all tests of this file."""
    with cluster() as made:
        yield made


@pytest.fixture
def executor(machine: Cluster) -> Iterator[SlurmExecutor]:
    """An executor that looks often, and leaves no job behind."""
    made = SlurmExecutor(section(workers=4, poll_seconds=0.2))
    yield made
    for unit in list(made._jobs.values()):
        made.kill(unit)
    ends(made, len(made._jobs))
    made.close()


def ends(executor: SlurmExecutor, count: int, seconds: float = 120.0) -> dict[str, str]:
    """Wait for units to end; return their causes by the name of the run."""
    found: list[End] = []
    until = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < until, f"waited in vain, ended: {found}"
        found += executor.wait(0.5)
    return {end.unit[0].name: end.cause for end in found}


def wait_for(executor: SlurmExecutor, condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Drive the executor until something holds; no unit may end meanwhile."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        assert executor.wait(0.1) == []


def held(tmp_path: Path, *overrides: str) -> tuple[Path, list[str]]:
    """Return a file that slows runs down while it is there, and the overrides of such runs."""
    hold = tmp_path / "hold"
    hold.touch()
    return hold, [*faulty(slow_while=hold), "logger=none", f"trainer.max_epochs={EPOCHS}", *overrides]


def job_of(executor: SlurmExecutor, run_dir: Path) -> str:
    return next(job_id for job_id, unit in executor._jobs.items() if unit == (run_dir,))


def process_of(run_dir: Path) -> int:
    """Return the process that carries a run out."""
    return int(holder(run_dir).split()[1])


@pytest.mark.slow
def test_runs_end_as_in_a_process_of_this_machine_and_a_killed_one_is_named(
    executor: SlurmExecutor, tmp_path: Path
) -> None:
    from resweep.train import execute

    _, slow = held(tmp_path)
    sweep = tmp_path / "a sweep"  # nor does a space or a comma in a path matter
    good, bad, busy = (new_run(sweep / name, *words) for name, words in {
        "seed=1,fault=none": ["logger=none", "seed=1"], "bad": [*slow, "trainer.max_epochs=500"], "busy": slow,
    }.items())  # fmt: skip
    with claim(busy):
        executor.start((busy, good))  # a job's first run does not keep it from the second
        executor.start((bad,))
        wait_until(lambda: finished_epochs(bad) >= 1 and Record.read(good).status == "completed")
    os.kill(process_of(bad), signal.SIGKILL)
    assert ends(executor, 2) == {"busy": "exit status 75", "bad": "signal SIGKILL"}
    assert Record.read(bad).status == "running"  # the supervisor's to settle
    record = Record.read(good)
    assert (record.status, record.attempts) == ("completed", 1)
    alone = execute(new_run(tmp_path / "alone", "logger=none", "seed=1"))
    assert record.metrics == alone.metrics
    assert_same_bits(weights(good), weights(tmp_path / "alone"))
    assert timeless_rows(good) == timeless_rows(tmp_path / "alone")
    assert {path.name for path in sweep.iterdir()} == {".slurm", "bad", "busy", "seed=1,fault=none"}


@pytest.mark.slow
def test_a_run_that_is_stopped_or_has_to_make_room_saves_itself_and_goes_on(
    executor: SlurmExecutor, tmp_path: Path
) -> None:
    """A job under way is warned by us, or by SLURM when a partition of higher priority takes its processor."""
    from resweep.train import execute

    hold, slow = held(tmp_path)
    names = ("stopped", "ousted", "waiting")
    stopped, ousted, waiting = run_dirs = [new_run(tmp_path / "sweep" / name, *slow) for name in names]
    for run_dir in run_dirs:
        executor.start((run_dir,))
    wait_for(executor, lambda: finished_epochs(stopped) >= 1 and finished_epochs(ousted) >= 1)
    assert executor.began((stopped,)) is not None and executor.began((waiting,)) is None
    executor.stop((waiting,))
    executor.stop((stopped,))
    assert ends(executor, 2) == {"waiting": "its cancellation", "stopped": "signal SIGTERM"}
    assert Record.read(waiting).status == "pending"
    urgent = ["--partition=urgent", "--cpus-per-task=2", "--output=/dev/null", "--wrap=true"]
    subprocess.run(["sbatch", *urgent], check=True)
    assert ends(executor, 1)["ousted"] in ("signal SIGTERM", "preemption")
    for run_dir in (stopped, ousted):
        assert Record.read(run_dir).status == "interrupted"
        assert (run_dir / CHECKPOINTS / LAST).is_file() and finished_epochs(run_dir) < EPOCHS
    hold.unlink()
    executor.start((stopped,))
    executor.start((ousted,))
    assert set(ends(executor, 2).values()) == {"exit status 0"}
    execute(new_run(tmp_path / "alone", *slow))
    for run_dir in (stopped, ousted):
        assert (Record.read(run_dir).status, Record.read(run_dir).attempts) == ("completed", 2)
        assert_same_bits(weights(run_dir), weights(tmp_path / "alone"))
        assert timeless_rows(run_dir) == timeless_rows(tmp_path / "alone")


def running(executor: SlurmExecutor, run_dir: Path) -> str:
    """Start a run, wait until SLURM has begun its job, and return that."""
    executor.start((run_dir,))
    wait_for(executor, lambda: executor.began((run_dir,)) is not None)
    return job_of(executor, run_dir)


def test_a_job_that_is_stopped_before_its_process_can_hear(executor: SlurmExecutor, tmp_path: Path) -> None:
    executor.setup = ["sleep 3"]  # there is nobody to signal yet
    run_dir = new_run(tmp_path / "sweep" / "run")
    running(executor, run_dir)
    executor.stop((run_dir,))
    wait_for(executor, lambda: not executor._to_stop)
    executor.stop((run_dir,))
    assert not executor._to_stop  # a second signal would end a run before it is saved
    assert ends(executor, 1) == {"run": "signal SIGTERM"}
    assert Record.read(run_dir).status == "pending"
    assert not list((tmp_path / "sweep" / slurm.FOLDER).glob("*.stop"))


def test_a_job_is_ended_whatever_it_does(executor: SlurmExecutor, tmp_path: Path) -> None:
    executor.setup = ["trap '' TERM", "sleep 60"]
    run_dir = new_run(tmp_path / "sweep" / "run")
    running(executor, run_dir)
    executor.kill((run_dir,))
    found = executor.wait(0.2)
    while executor._to_kill:
        found += executor.wait(0.2)
    executor.kill((run_dir,))
    assert not executor._to_kill  # SLURM needs to be told once
    cause = found[0].cause if found else ends(executor, 1, seconds=20)["run"]
    assert cause in ("signal SIGKILL", "its cancellation")


def test_the_cancellation_by_somebody_else_is_named(executor: SlurmExecutor, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "sweep" / "run")
    subprocess.run(["scancel", running(executor, run_dir)], check=True)
    assert ends(executor, 1) == {"run": "its cancellation"}


def test_the_loss_of_a_node_is_named(executor: SlurmExecutor, machine: Cluster, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "sweep" / "run")
    running(executor, run_dir)
    node = f"nodename={machine.ask('sinfo', '--noheader', '--format=%N').split()[0]}"
    try:
        subprocess.run(["scontrol", "update", node, "state=down", "reason=test"], check=True)
        assert ends(executor, 1) == {"run": "the loss of its node"}
    finally:
        machine.ask("scontrol", "update", node, "state=resume")  # unless it has come back by itself
        wait_until(lambda: "idle" in machine.ask("sinfo", "--noheader", "--format=%t"), 20)


def test_a_job_that_cannot_work_is_named_with_the_place_of_its_words(executor: SlurmExecutor, tmp_path: Path) -> None:
    executor.setup = ["no-such-module load python", "exit 7"]
    run_dir = new_run(tmp_path / "sweep" / "run")
    executor.start((run_dir,))
    cause = ends(executor, 1)["run"]
    assert cause.startswith("exit status 7 (see .slurm/")
    words = (tmp_path / "sweep" / cause.split()[-1].rstrip(")")).read_text()
    assert "no-such-module" in words


def test_a_job_that_can_never_start_is_over(machine: Cluster, tmp_path: Path) -> None:
    """Partition brief takes jobs of more than its minute and lets them wait for ever."""
    made = SlurmExecutor(section(partition="brief", time=5, poll_seconds=0.2))
    run_dir = new_run(tmp_path / "sweep" / "run")
    made.start((run_dir,))
    assert ends(made, 1) == {"run": "SLURM, which cannot start its job (PartitionTimeLimit)"}
    made.close()
    wait_until(lambda: machine.ask("squeue", "--noheader", "--partition=brief") == "", 10)


def test_a_slurm_that_does_not_answer_is_waited_for(
    executor: SlurmExecutor,
    machine: Cluster,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slurm_commands, "ANSWER_SECONDS", 1.0)
    executor.setup = ["sleep 1", "exit 7"]
    run_dir = new_run(tmp_path / "sweep" / "run")
    running(executor, run_dir)
    controller = machine.processes["slurmctld"].pid
    os.kill(controller, signal.SIGSTOP)
    try:
        wait_for(executor, lambda: bool(caplog.records), 10)
        assert executor.wait(2.0) == []  # the second silence is not worth a word
    finally:
        os.kill(controller, signal.SIGCONT)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["SLURM does not answer, waiting for it"]
    assert ends(executor, 1)["run"].startswith("exit status 7")


def unreachable(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "sbatch") -> Path:
    """Put a command in front of SLURM's own that says what that says, after some seconds, of a dead controller."""
    words = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
    (folder / "bin").mkdir()
    command = folder / "bin" / name
    command.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return command


def test_a_job_that_slurm_cannot_take_now_is_submitted_later(
    executor: SlurmExecutor, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "RETRY_SECONDS", 0.2)
    executor.setup = ["exit 7"]
    command = unreachable(tmp_path, monkeypatch)
    first, second = ((new_run(tmp_path / "sweep" / name),) for name in ("first", "second"))
    executor.start(first)
    executor.start(second)
    assert executor.wait(1.0) == []
    assert len(caplog.records) == 1 and "does not take a job now, asking again: Batch job" in caplog.text
    executor.stop(first)
    assert executor.wait(5) == [End(first, "its cancellation")]
    command.unlink()
    assert ends(executor, 1)["second"].startswith("exit status 7")


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({"partition": "mian"}, "executor.partition", "invalid partition specified: mian"),
        ({"cpus_per_task": 99}, "executor", "Requested node configuration is not available"),
        ({"memory": "much"}, "executor.memory", "Invalid --mem specification"),
        ({"gpus_per_node": 1}, "executor.gpus_per_node", "Invalid generic resource"),
        ({"additional_parameters": {"colour": "red"}}, "executor.additional_parameters", "option '--colour=red'"),
        ({"additional_parameters": {"nodelist": "moon"}}, "executor.additional_parameters", "Invalid node name"),
        ({"time": 2}, "executor.time", "leaves no time to train"),
    ],
)
def test_what_slurm_refuses_is_said_before_anything_starts(
    machine: Cluster, keys: dict[str, object], key: str, words: str
) -> None:
    problem = refused(**keys)
    assert problem.key == key and words in problem.message
    assert problem.nearest == ("main" if key == "executor.partition" else None)


def test_what_slurm_refuses_later_is_said_by_start(executor: SlurmExecutor, tmp_path: Path) -> None:
    executor.section["partition"] = executor.options["partition"] = "closed"
    with pytest.raises(RequestError, match=r"executor.partition=closed: sbatch refuses such jobs: .*partition"):
        executor.start((new_run(tmp_path / "sweep" / "run"),))
    assert executor.wait(0.1) == []


def refused(**keys: object) -> Problem:
    with pytest.raises(RequestError) as caught:
        SlurmExecutor(section(**keys))
    (problem,) = caught.value.problems
    return problem


def test_no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    problem = refused()
    assert (problem.key, problem.value) == ("executor", "slurm")
    assert problem.message.startswith("SLURM is not installed here: there is no sbatch command")


def test_a_slurm_that_is_not_there(machine: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unreachable(tmp_path, monkeypatch)
    assert refused().message.startswith("SLURM does not answer: Batch job submission failed: Unable to contact")
    monkeypatch.setattr(slurm_commands, "ANSWER_SECONDS", 0.5)
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\nexec sleep 60\n")
    assert refused().message == "SLURM does not answer within 0.5 s"


def test_no_submitit(machine: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refused().message == "needs submitit, which is not installed: pip install 'resweep[slurm]'"


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("TIMEOUT", "the time limit of the job"),
        ("OUT_OF_MEMORY", "out of memory (SLURM ended it)"),
        ("PREEMPTED", "preemption"),
        ("BOOT_FAIL", "the loss of its node"),
        ("GONE", "a cause that SLURM has forgotten"),
        ("COMPLETING", None),
        ("SUSPENDED", None),
        ("A_STATE_OF_TOMORROW", None),
    ],
)
def test_states_that_cannot_be_had_here(state: str, cause: str | None) -> None:
    assert cause_of_end("1", state, "None") == cause


def test_exit_statuses_that_cannot_be_had_here() -> None:
    assert exit_of("ExitCode=0:53", "1") == "signal 53"
    assert exit_of("", "1") == "a cause that SLURM has forgotten"


def test_ones_own_filters_do_not_hide_jobs(
    executor: SlurmExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_PARTITION", "urgent")
    executor.setup = ["sleep 1", "exit 7"]
    run_dir = new_run(tmp_path / "sweep" / "run")
    running(executor, run_dir)
    assert ends(executor, 1)["run"].startswith("exit status 7")

"""Runs as jobs of SLURM: one job per unit, submitted through submitit, watched with ``squeue``.

SLURM only lends the time. A job that it warns, preempts or stops saves its run and ends, and the supervisor submits the
run again; so nothing here needs accounting (``sacct``) or SLURM's own requeueing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

from resweep.errors import Problem, RequestError, nearest_name
from resweep.sweep.executors.base import End, Executor, Unit
from resweep.sweep.executors.worker import BUSY, DONE, STOPPED, carry_out

FOLDER = ".slurm"  # of a sweep: submitit's files and the jobs' own words
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
ANSWER_SECONDS = 30.0  # after which a command of SLURM is taken for failed
WORKERS = 50  # jobs at a time where the config says null
RETRY_SECONDS = 10.0  # between two attempts to submit a job that SLURM could not take
LOG = logging.getLogger(__name__)

# States (``squeue``, long form) that a job does not leave, with the cause of its end where the state alone says it.
FINAL = {
    "COMPLETED": None, "FAILED": None, "CANCELLED": "its cancellation", "TIMEOUT": "the time limit of the job",
    "OUT_OF_MEMORY": "out of memory (SLURM ended it)", "PREEMPTED": "preemption", "NODE_FAIL": "the loss of its node",
    "BOOT_FAIL": "the loss of its node", "DEADLINE": "the deadline of the job", "REVOKED": "its cancellation",
}  # fmt: skip
# What keeps a job waiting until a person does something about it.
STUCK = frozenset({
    "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "JobHoldMaxRequeue",
    "PartitionNodeLimit", "PartitionTimeLimit", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT",
})  # fmt: skip
# What SLURM's commands say: it is busy or away; there is room later; the job that a command was about has ended.
BUSY_WORDS = re.compile(
    r"unable to contact|timed out|temporarily|connection|standby|configuration source|communication", re.IGNORECASE
)  # fmt: skip
LATER_WORDS = re.compile(r"job submit limit|(node|partition) not available", re.IGNORECASE)
ENDED_WORDS = re.compile(r"invalid job id|kill job error", re.IGNORECASE)
# Which key a refusal is about, by sbatch's words.
REFUSED_KEYS = (
    ("account", re.compile(r"invalid account", re.IGNORECASE)),
    ("partition", re.compile(r"partition", re.IGNORECASE)),
    ("memory", re.compile(r"--mem\b|memory", re.IGNORECASE)),
    ("gpus_per_node", re.compile(r"gres|gpu", re.IGNORECASE)),
    ("time", re.compile(r"--time\b|time limit", re.IGNORECASE)),
    ("additional_parameters", re.compile(r"option|invalid", re.IGNORECASE)),
)


class Silence(Exception):
    """SLURM did not answer; nothing is known about the jobs."""


class SlurmExecutor(Executor):
    """Each unit in a job of its own.

    Args:
        section: the keys of ``conf/executor/slurm.yaml``, which says what each is for.

    Raises:
        RequestError: SLURM or submitit is missing, or sbatch refuses such jobs; no job was submitted.
    """

    def __init__(self, section: Mapping[str, Any]) -> None:
        super().__init__(section["workers"] or WORKERS)
        check_available(section)
        self.section = section
        self.options = sbatch_options(section)
        self.poll_seconds: float = section["poll_seconds"]
        self.setup = list(section["setup"])
        self._jobs: dict[str, Unit] = {}
        self._began: dict[Unit, float] = {}
        self._unsubmitted: list[Unit] = []
        self._ends: list[End] = []
        self._to_stop: set[str] = set()
        self._to_kill: set[str] = set()
        self._killed: set[str] = set()
        self._submitters: dict[Path, Any] = {}
        self._talk: Future | None = None  # with SLURM, under way
        self._thread = ThreadPoolExecutor(1, "slurm")
        self._next_talk = self._next_submission = 0.0
        self._quiet = True  # whether there is nothing to complain about

    def start(self, unit: Unit) -> None:
        """See :class:`Executor`.

        Raises:
            RequestError: sbatch refuses the job.
        """
        self._unsubmitted.append(unit)
        self._submit()

    def wait(self, seconds: float) -> list[End]:
        """See :class:`Executor`.

        Raises:
            RequestError: sbatch refuses a job that SLURM could not take when it was started.
        """
        until = clock.monotonic() + seconds
        while True:
            self._submit()
            if not self._ends:
                self._look(max(0.0, until - clock.monotonic()))
            if self._ends or clock.monotonic() >= until:
                ends, self._ends = self._ends, []
                return ends

    def stop(self, unit: Unit) -> None:
        """See :class:`Executor`; the next :meth:`wait` tells SLURM, once for all units.

        A unit is told once: a second signal would end it before it is saved.
        """
        job_id = self._job_of(unit)
        if job_id is not None and not stop_file(unit, job_id).exists():
            stop_file(unit, job_id).touch()
            self._to_stop.add(job_id)
            self._next_talk = 0.0

    def kill(self, unit: Unit) -> None:
        """See :class:`Executor`; the next :meth:`wait` tells SLURM, once for all units."""
        job_id = self._job_of(unit)
        if job_id is not None and job_id not in self._killed:
            self._to_kill.add(job_id)
            self._next_talk = 0.0

    def close(self) -> None:
        """Tell SLURM what it has not been told yet, and end the conversation."""
        if self._to_stop or self._to_kill:
            try:
                self._thread.submit(talk, list(self._jobs), set(self._to_stop), set(self._to_kill)).result()
            except Silence as silence:
                left = ", ".join(sorted(self._to_stop | self._to_kill))
                LOG.warning(f"SLURM could not be told to end its jobs {left}: {silence}")
        self._thread.shutdown(wait=True)

    def began(self, unit: Unit) -> float | None:
        """Return when a unit's job was first seen to run (monotonic clock); None while it waits in SLURM's queue."""
        return self._began.get(unit)

    def _job_of(self, unit: Unit) -> str | None:
        """Return the job of a unit under way; one that SLURM has never got is over."""
        if unit in self._unsubmitted:
            self._unsubmitted.remove(unit)
            self._ends.append(End(unit, FINAL["CANCELLED"]))
        return next((job_id for job_id, one in self._jobs.items() if one == unit), None)

    def _submit(self) -> None:
        """Submit what has not been; while SLURM cannot take it, now and then."""
        while self._unsubmitted and clock.monotonic() >= self._next_submission:
            unit = self._unsubmitted[0]
            words = self._submit_one(unit)
            if words is None:
                self._unsubmitted.pop(0)
            elif BUSY_WORDS.search(words) or (LATER_WORDS.search(words) and self._jobs):
                self._complain(f"SLURM does not take a job now, asking again: {gist(words)}")
                self._next_submission = clock.monotonic() + RETRY_SECONDS
            else:
                self._unsubmitted.pop(0)
                raise RequestError(refusal(words, self.section))

    def _submit_one(self, unit: Unit) -> str | None:
        """Submit a job; return sbatch's words where it did not take it."""
        import submitit

        folder = unit[0].parent.absolute() / FOLDER
        if folder not in self._submitters:
            self._submitters[folder] = submitit.SlurmExecutor(folder)
        submitter = self._submitters[folder]
        submitter.update_parameters(
            job_name=unit[0].name, time=None, wckey=None, setup=self.setup or None,
            signal_delay_s=self.section["signal_delay_s"],
            srun_args=[f"--cpus-per-task={self.options.get('cpus-per-task', 1)}"],  # srun does not take it from sbatch
            additional_parameters=self.options,
        )  # fmt: skip
        try:
            # stderr: submitit prints what it also raises.
            with undisturbed(), contextlib.redirect_stderr(io.StringIO()):
                job = submitter.submit(work, tuple(run_dir.absolute() for run_dir in unit))
        except submitit.core.utils.FailedJobError as error:
            return str(error)
        self._jobs[job.job_id] = unit
        return None

    def _look(self, seconds: float) -> None:
        """Look at the queue if it is time to; return when something is known, at the latest after the given time."""
        if self._talk is None:
            pause = self._next_talk - clock.monotonic() if self._jobs else seconds
            if pause > 0:
                clock.sleep(min(pause, seconds))
                return
            self._next_talk = clock.monotonic() + self.poll_seconds
            self._talk = self._thread.submit(talk, list(self._jobs), set(self._to_stop), set(self._to_kill))
        try:
            stopped, killed, states = self._talk.result(timeout=seconds)
        except NotYet:
            return
        except Silence as silence:
            self._complain(f"SLURM does not answer, waiting for it: {silence}")
            self._talk = None
            return
        self._talk = None
        self._quiet = self._quiet or not self._unsubmitted  # well again
        self._to_stop -= stopped
        self._to_kill -= killed
        self._killed |= killed
        for job_id, (state, cause) in states.items():
            self._take_note(job_id, state, cause)

    def _take_note(self, job_id: str, state: str, cause: str | None) -> None:
        unit = self._jobs[job_id]
        if cause is None:
            if state not in ("PENDING", "CONFIGURING"):
                self._began.setdefault(unit, clock.monotonic())
            return
        del self._jobs[job_id]
        self._began.pop(unit, None)
        self._to_stop.discard(job_id)
        self._to_kill.discard(job_id)
        self._killed.discard(job_id)
        stop_file(unit, job_id).unlink(missing_ok=True)
        self._ends.append(End(unit, cause))

    def _complain(self, message: str) -> None:
        """Warn, once until all is well again."""
        if self._quiet:
            LOG.warning(message)
        self._quiet = False


def work(run_dirs: Sequence[Path]) -> None:
    """Carry runs out, one after the other; the body of a job.

    Raises:
        SystemExit: with the exit status of the job, see :func:`carry_out`, unless all runs are done.
    """
    hear_slurm()
    if stop_file(run_dirs, os.environ["SLURM_JOB_ID"]).exists():
        sys.exit(STOPPED)
    status = DONE
    for run_dir in run_dirs:
        status = carry_out(run_dir) or status
        if status == STOPPED:
            break
    if status != DONE:
        sys.exit(status)


def hear_slurm() -> None:
    """Take SLURM's warning for SIGTERM, and both from submitit, which would requeue the job or take no notice.

    SLURM signals every process of a job; those that load data for the run have not to stop before it has.
    """
    process = os.getpid()

    def warned(*_: object) -> None:
        if os.getpid() == process:
            os.kill(process, signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))  # until a run listens
    signal.signal(signal.SIGUSR2, warned)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)


def stop_file(unit: Sequence[Path], job_id: str) -> Path:
    """Return the file that tells a job which has not begun to work, and so hears no signal, to end."""
    return unit[0].parent / FOLDER / f"{job_id}.stop"


def talk(
    job_ids: Sequence[str], stop: set[str], kill: set[str]
) -> tuple[set[str], set[str], dict[str, tuple[str, str | None]]]:
    """Tell SLURM which jobs are to end, and ask how all are.

    Returns:
        The jobs that were told to stop, those that were ended, and for each job its state and, where it is over, the
        cause of its end.

    Raises:
        Silence: SLURM did not answer.
    """
    if stop:
        ask("scancel", "--state=PENDING", *stop)
        ask("scancel", "--signal=USR2", "--state=RUNNING", *stop)  # to the processes of srun, not to the shell
    if kill:
        ask("scancel", "--signal=KILL", "--full", "--state=RUNNING", *kill)
        ask("scancel", *kill)
    lines = ask("squeue", "--noheader", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(job_ids)}")
    known = {job_id: (state, reason) for job_id, state, reason in (line.split("|", 2) for line in lines.splitlines())}
    states = {job_id: known.get(job_id, ("GONE", "")) for job_id in job_ids}
    return stop, kill, {one: (state, cause_of_end(one, state, reason)) for one, (state, reason) in states.items()}


def cause_of_end(job_id: str, state: str, reason: str) -> str | None:
    """Return why a job is over, None while it is not; one that cannot start any more is taken from the queue.

    Raises:
        Silence: SLURM did not answer.
    """
    if state == "GONE":
        return "a cause that SLURM has forgotten"
    if state in FINAL:
        return FINAL[state] or exit_of(ask("scontrol", "show", "job", "--oneliner", job_id), job_id)
    if state in STUCK or (state == "PENDING" and reason in STUCK):
        ask("scancel", job_id)
        return f"SLURM, which cannot start its job ({reason})"
    return None


def exit_of(description: str, job_id: str) -> str:
    """Return how a job's process ended, from the words of ``scontrol show job``.

    Example:
        >>> exit_of("JobId=7 JobState=FAILED ExitCode=3:0", "7")
        'exit status 3 (see .slurm/7_0_log.err)'
        >>> exit_of("JobId=7 JobState=FAILED ExitCode=137:0", "7"), exit_of("ExitCode=0:9", "7")
        ('signal SIGKILL', 'signal SIGKILL')
    """
    found = re.search(r"\bExitCode=(\d+):(\d+)", description)
    if found is None:
        return "a cause that SLURM has forgotten"
    status, number = int(found[1]), int(found[2])
    number = number or max(0, status - 128)  # a shell's way to say that a signal ended its command
    if number:
        named = number in set(signal.Signals)
        return f"signal {signal.Signals(number).name if named else number}"
    return f"exit status {status}" + ("" if status in (DONE, BUSY) else f" (see {FOLDER}/{job_id}_0_log.err)")


def ask(*words: str) -> str:
    """Return what a command of SLURM says; nothing where it fails because a job has ended.

    Raises:
        Silence: it failed otherwise, or took too long.
    """
    try:
        done = run(*words)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Silence(str(error)) from error
    if done.returncode != 0 and (BUSY_WORDS.search(done.stderr) or not ENDED_WORDS.search(done.stderr)):
        raise Silence(gist(done.stderr))
    return done.stdout


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM away from the terminal's Ctrl-C and from the user's filters for their own looks."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SQUEUE_", "SCANCEL_"))}
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=ANSWER_SECONDS,
        start_new_session=True, check=False,
    )  # fmt: skip


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep a terminal's Ctrl-C from commands that are started meanwhile: a job is submitted and known, or neither."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def gist(words: str) -> str:
    """Return the first thing a command of SLURM says, without its name.

    Example:
        >>> gist("sbatch: error: invalid partition specified: gpu\\nallocation failure: Invalid partition name")
        'invalid partition specified: gpu'
    """
    lines = [line for line in words.splitlines() if line.strip() and "warning:" not in line]
    return re.sub(r"^(\w+: )?((error|fatal): )?", "", lines[0]) if lines else "no reason given"


def sbatch_options(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of sbatch that the keys of the section stand for, without dashes; True for a mere flag."""
    more = section["additional_parameters"] or {}
    options = {
        "no-requeue": True, "cpus-per-task": section["cpus_per_task"], "partition": section["partition"],
        "account": section["account"], "time": section["time"], "mem": section["memory"],
        "gpus-per-node": section["gpus_per_node"], **{str(key).replace("_", "-"): value for key, value in more.items()},
    }  # fmt: skip
    return {key: value for key, value in options.items() if value is not None and value is not False}


def check_available(section: Mapping[str, Any]) -> None:
    """Make sure that jobs can be submitted: have sbatch look at one without taking it.

    Args:
        section: the keys of ``conf/executor/slurm.yaml``.

    Raises:
        RequestError: SLURM or submitit is missing, SLURM does not answer, or sbatch refuses such jobs.
    """
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise RequestError(_problem(f"SLURM is not installed here: there is no {missing[0]} command; executor=local"
                                    " runs on this machine"))  # fmt: skip
    if importlib.util.find_spec("submitit") is None:
        raise RequestError(_problem("needs submitit, which is not installed: pip install 'resweep[slurm]'"))
    minutes, delay = section["time"], section["signal_delay_s"]
    if minutes is not None and minutes * 60 <= delay + 60:  # SLURM may warn a minute early
        message = f"leaves no time to train: runs save themselves up to {delay} + 60 seconds before the limit"
        raise RequestError(Problem("executor.time", str(minutes), f"{message} (executor.signal_delay_s)"))
    options = [f"--{key}" if value is True else f"--{key}={value}" for key, value in sbatch_options(section).items()]
    try:
        done = run("sbatch", "--test-only", "--wrap=true", *options)
    except subprocess.TimeoutExpired as error:
        raise RequestError(_problem(f"SLURM does not answer within {ANSWER_SECONDS:g} s")) from error
    if done.returncode != 0 and not LATER_WORDS.search(done.stderr):
        silent = BUSY_WORDS.search(done.stderr)
        raise RequestError(
            _problem(f"SLURM does not answer: {gist(done.stderr)}") if silent else refusal(done.stderr, section)
        )


def refusal(words: str, section: Mapping[str, Any]) -> Problem:
    """Return sbatch's refusal as a problem of the key that it is about."""
    message = f"sbatch refuses such jobs: {gist(words)}"
    for key, pattern in REFUSED_KEYS:
        if section[key] and pattern.search(words):
            if key == "additional_parameters":
                return Problem(f"executor.{key}", None, message)
            partitions = re.findall(r"PartitionName=(\S+)", run("scontrol", "show", "partition", "--oneliner").stdout)
            nearest = nearest_name(str(section[key]), partitions) if key == "partition" else None
            return Problem(f"executor.{key}", str(section[key]), message, nearest)
    return _problem(message)


def _problem(message: str) -> Problem:
    return Problem("executor", "slurm", message)

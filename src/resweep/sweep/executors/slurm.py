"""Runs as jobs of SLURM: one job per unit, submitted through submitit, watched with ``squeue``.

SLURM only lends the time. A job that it warns, preempts or stops saves its run and ends, and the supervisor submits the
run again; so nothing here needs accounting (``sacct``) or SLURM's own requeueing.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

from resweep.errors import RequestError
from resweep.sweep.executors.base import End, Executor, Unit
from resweep.sweep.executors.slurm_commands import (
    BUSY_WORDS,
    FINAL,
    FOLDER,
    LATER_WORDS,
    Silence,
    check_available,
    gist,
    refusal,
    sbatch_options,
    talk,
)
from resweep.sweep.executors.worker import DONE, STOPPED, carry_out

WORKERS = 50  # jobs at a time where the config says null
RETRY_SECONDS = 10.0  # between two attempts to submit a job that SLURM could not take
LOG = logging.getLogger(__name__)


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


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep a terminal's Ctrl-C from commands that are started meanwhile: a job is submitted and known, or neither."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

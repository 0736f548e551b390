"""SLURM's own commands: what they are asked, what their answers mean, and what of it is the user's to mend."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from resweep.errors import Problem, RequestError, nearest_name
from resweep.sweep.executors.worker import BUSY, DONE

FOLDER = ".slurm"  # of a sweep: submitit's files and the jobs' own words
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
ANSWER_SECONDS = 30.0  # after which a command of SLURM is taken for failed
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

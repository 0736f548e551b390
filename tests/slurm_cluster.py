"""A real SLURM on this machine alone: its four files, its three daemons, and their end."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from helpers import skip_or_fail

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "squeue")
CPUS = 2
# One node with two processors, whatever the machine has; nothing that needs cgroups, accounting or another user.
CONFIG = """
ClusterName=resweep
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
KillWait=2
MessageTimeout=3
MinJobAge=2
SlurmctldTimeout=30
SlurmdTimeout=30
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=30
PartitionName=brief Nodes={host} MaxTime=1 PriorityTier=1
PartitionName=urgent Nodes={host} PriorityTier=2 PreemptMode=OFF
"""


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A SLURM controller and node of this machine, started and ended by their process ids.

    Args:
        folder: an own folder with a short name (a socket lies in it).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.config = folder / "slurm.conf"

    def start(self) -> None:
        """Write the configuration, start the daemons and wait until the node takes jobs."""
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        ports = {"controller_port": free_port(), "node_port": free_port()}
        self.config.write_text(CONFIG.format(host=host, folder=self.folder, cpus=CPUS, **ports))
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"key-file": key, "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log",
                 "seed-file": "munge.seed"}  # fmt: skip
        words = [f"--{option}={self.folder / name}" for option, name in files.items()]
        self.run("munged", "--foreground", "--force", *words)
        self.wait_for((self.folder / "munge.socket").exists)
        self.run("slurmctld", "-D")
        self.run("slurmd", "-D", "-N", host)
        self.wait_for(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%t"))

    def run(self, program: str, *words: str) -> None:
        """Start a daemon in the foreground, its words in a file of its name."""
        with open(self.folder / f"{program}.out", "wb") as output:
            self.processes[program] = subprocess.Popen(
                [program, *words], env={**os.environ, "SLURM_CONF": str(self.config)}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=self.folder,
            )  # fmt: skip

    def ask(self, *words: str) -> str:
        """Return what a SLURM command says; nothing where it fails."""
        environment = {**os.environ, "SLURM_CONF": str(self.config)}
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60).stdout

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait until the daemons have done something; fail with their words when one has ended or it takes too long."""
        until = time.monotonic() + seconds
        while not condition():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended or time.monotonic() > until:
                words = {name: (self.folder / f"{name}.out").read_text()[-2000:] for name in self.processes}
                raise RuntimeError(f"SLURM did not start; ended: {ended}; last words: {words}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the jobs, then the daemons, the last one first."""
        jobs = self.ask("squeue", "--noheader", "--format=%i").split()
        if jobs:
            self.ask("scancel", "--signal=KILL", "--full", "--state=RUNNING", *jobs)
            self.ask("scancel", *jobs)
            self.wait_for(lambda: not self.ask("squeue", "--noheader", "--format=%i").strip())
        for process in reversed(self.processes.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a SLURM of this machine while the block lasts; its commands find it by the environment.

    Skips the test, with the reason, where SLURM or submitit is missing or the user is not root.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        skip_or_fail(f"SLURM is not installed here: no {', '.join(missing)}")
    if importlib.util.find_spec("submitit") is None:
        skip_or_fail("submitit is not installed here")
    if os.geteuid() != 0:
        skip_or_fail("a SLURM of one's own needs to be started by root")
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # not pytest's: a socket's name has to be short
    made = Cluster(folder)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        stack.callback(made.stop)
        made.start()
        patch.setenv("SLURM_CONF", str(made.config))
        yield made

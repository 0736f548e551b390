"""One sweep that can be killed: its command lines, its processes, what they note, what they leave behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from resweep.claim import holder
from resweep.record import FINISHED, LOCK_FILE, METRICS_FILE, SWEEP_FILE, Record
from resweep.rows import read_rows
from resweep.sweep.ledger import run_folders

MARKS = Path(__file__).parent / "marks"
PATIENCE = 180.0  # seconds for anything to happen
START = ("starting", "planning", "checking", "freezing", "taking stock")  # what a supervisor does before it supervises


@dataclass
class Kill:
    """One kill: what is aimed at and, afterwards, what was hit.

    Args:
        victim: ``supervisor``, ``worker`` (one that is in the phase) or ``both`` (the supervisor and all its workers).
        phase: of the supervisor if it is the victim, otherwise of a worker; None for whatever it does then.
        after: epochs of the whole sweep that must be done before.
        delay: seconds between the phase being seen and the kill.
        at_once: the next command does not wait for workers that have outlived their supervisor.
        command: ``train`` or ``resume``, if there is one to be started.
    """

    victim: str
    phase: str | None
    after: int = 0
    delay: float = 0.0
    at_once: bool = True
    command: str = "resume"
    hit: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    epochs: int = 0
    over: bool = False
    survivors: int = 0


class Sweep:
    """One sweep through the command line, its processes, and what they note.

    Args:
        folder: everything is written here.
        runs: how many runs, half with each of two optimizers.
        epochs: of every run.
    """

    def __init__(self, folder: Path, runs: int, epochs: int = 4) -> None:
        self.folder, self.dir, self.marks = folder, folder / "runs" / "sweep", folder / "marks"
        self.marks.mkdir(parents=True)
        seeds = ",".join(str(seed) for seed in range(runs // 2))
        self.request = [
            "train", "-m", "data=digits", "model.width=4", "model.dropout=0.2", f"trainer.max_epochs={epochs}",
            "optimizer=momentum,adam", f"seed={seeds}", "executor.workers=2", f"runs_dir={folder / 'runs'}",
            "sweep_name=sweep",
        ]  # fmt: skip
        self.process: subprocess.Popen | None = None
        self.commands = 0
        self.problems: list[str] = []
        self.finished: dict[Path, dict[str, tuple]] = {}
        self.killed: set[int] = set()
        self.gone: set[int] = set()
        self.left: set[Path] = set()
        self.planned: list[Path] = []
        self.longest = 0.0  # seconds that workers have outlived their supervisor

    def start(self, command: str) -> None:
        """Start the real command line; its words go to files, since the fork server would hold a pipe open."""
        known = (self.dir / SWEEP_FILE).is_file()
        words = ["resume", str(self.dir)] if command == "resume" and known else self.request
        path = os.pathsep.join(filter(None, (str(MARKS), os.environ.get("PYTHONPATH"))))
        self.commands += 1
        with contextlib.ExitStack() as stack:
            out, err = (
                stack.enter_context(open(self.folder / f"{self.commands}.{name}", "w")) for name in ("out", "err")
            )
            self.process = subprocess.Popen(
                [sys.executable, "-m", "resweep.cli", *words], cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, env={**os.environ, "PYTHONPATH": path, "KILL_MARKS": str(self.marks)},
            )  # fmt: skip

    def words(self, stream: str) -> str:
        return (self.folder / f"{self.commands}.{stream}").read_text()

    def ended(self) -> int | None:
        """Return how the command has ended by itself, None while it runs; a word it should not say is a problem."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            return None
        self.process = None
        if code not in (0, 1) or "Traceback" in self.words("err"):
            self.problems.append(f"command {self.commands} ended with {code}: {self.words('err')[-2000:]}")
        return code

    def workers(self, phase: str | None = None) -> list[int]:
        """Return the living workers, all or those in a phase."""
        found = []
        for name in os.listdir(self.marks):
            pid = int(name.removesuffix(".mark")) if name.endswith(".mark") else 0
            if not pid or pid in self.gone:
                continue
            role, now, run = read_mark(self.marks / name)
            if not alive(pid):
                self.gone.add(pid)
            elif role == "worker" and run and phase in (None, now):
                found.append(pid)
        return found

    def mark(self, pid: int) -> str:
        path = self.marks / f"{pid}.mark"
        return read_mark(path)[1] if path.exists() else "starting"

    def epochs(self) -> int:
        """Return how many epochs all runs have done."""
        return sum(len(read_rows(run_dir / METRICS_FILE)) for run_dir in self.runs())

    def runs(self) -> list[Path]:
        """Return the folders of the runs, none before they are planned."""
        if not self.planned and (self.dir / SWEEP_FILE).is_file():
            self.planned = run_folders(self.dir)
        return self.planned

    def look_at_finished(self) -> None:
        """Remember how a run's folder looks when the run is finished and its process gone; it must never change."""
        busy = {read_mark(self.marks / f"{pid}.mark")[2] for pid in self.workers()}
        for run_dir in self.runs():
            if run_dir.name in busy or run_dir in self.finished or holder(run_dir) is not None:
                continue  # its process may still be writing: nobody has waited for it
            if Record.read(run_dir).status in FINISHED:
                self.finished[run_dir] = contents(run_dir)

    def aim(self, kill: Kill) -> list[int] | None:
        """Wait for the moment and return the victims; None when the command has ended before it came."""
        until, armed, looked = time.monotonic() + PATIENCE, False, 0.0
        while time.monotonic() < until:
            if not armed and time.monotonic() - looked > 0.05:
                looked, armed = time.monotonic(), self.epochs() >= kill.after
            if self.process.poll() is not None:
                return None
            seen = armed and self.victims(kill)
            if seen:
                pause = time.perf_counter() + kill.delay
                while time.perf_counter() < pause:
                    time.sleep(min(0.0005, kill.delay))
                return self.victims(kill, any_phase=True) if kill.phase is None else seen
            time.sleep(0.0003)
        raise TimeoutError(f"{kill} did not come about; {self.words('err')[-2000:]}")

    def victims(self, kill: Kill, any_phase: bool = False) -> list[int]:
        pid = self.process.pid
        if kill.victim == "supervisor":
            return [pid] if kill.phase in (None, self.mark(pid)) or any_phase else []
        if self.mark(pid) in (*START, "summing up"):
            return []
        chosen = self.workers(None if any_phase else kill.phase)
        if not chosen or kill.victim == "worker":
            return chosen[:1]
        return [*chosen, pid, *(other for other in self.workers() if other not in chosen)]

    def strike(self, kill: Kill) -> bool:
        """Carry a kill out; False when the command ended by itself before."""
        victims = self.aim(kill)
        if not victims:
            self.ended()
            return False
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        kill.epochs = self.epochs()
        wait_for(lambda: not any(map(alive, victims)))
        kill.hit = [self.mark(pid) for pid in victims]
        busy = {self.dir / read_mark(self.marks / f"{pid}.mark")[2] for pid in self.workers()}
        there = {path for path in leftovers(self.folder / "runs") if not busy & set(path.parents)}
        kill.left, self.left = sorted(path.name for path in there - self.left), there
        self.killed.update(victims)
        self.look_at_finished()
        kill.over = self.process.pid in victims
        if kill.over:
            code = self.process.wait()
            if code != -signal.SIGKILL:
                self.problems.append(f"command {self.commands} ended with {code}, not by the kill")
            self.process = None
            kill.survivors = len(self.workers())
            if not kill.at_once:
                started = time.monotonic()
                wait_for(lambda: not self.workers())
                self.longest = max(self.longest, time.monotonic() - started)
        return True

    def finish(self) -> None:
        """Let the command that is under way end, and give it again as long as there is something left to do."""
        for _ in range(10):
            if self.process is None:
                self.start("resume")
            wait_for(lambda: self.process.poll() is not None)
            if self.ended() == 0:
                wait_for(lambda: not self.workers())
                return
            self.look_at_finished()
        self.problems.append(f"not complete after 10 more commands: {self.words('err')[-2000:]}")


def read_mark(path: Path) -> tuple[str, str, str]:
    role, phase, run = (path.read_text().strip() or "||").split("|")
    return role, phase, run


def alive(pid: int) -> bool:
    """Whether a process is there and not only waiting to be noticed as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("waited in vain")
        time.sleep(0.005)


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield what a process that was killed has left behind."""
    for pattern in (".*.tmp", ".reserve"):
        yield from folder.rglob(pattern)


def contents(run_dir: Path) -> dict[str, tuple]:
    """Return inode, time of change and hash of every file of a run but its lock."""
    files = [path for path in run_dir.rglob("*") if path.is_file() and path.name != LOCK_FILE]
    facts = [(path, path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return {str(path.relative_to(run_dir)): (stat.st_ino, stat.st_mtime_ns, hashed) for path, stat, hashed in facts}

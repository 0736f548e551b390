"""Runs in processes of this machine, forked from a server that has loaded torch and Lightning once."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType
from typing import Any

from resweep.errors import Problem, RequestError
from resweep.sweep.executors.base import End, Executor, Unit
from resweep.sweep.executors.worker import STOPPED, carry_out

GRACE_SECONDS = 30.0  # for a run to save itself when it was told to stop
CONTEXT = multiprocessing.get_context("forkserver")
# Where Linux counts the processes that were ended because memory ran out: the machine, and a container's own limit.
OOM_COUNTERS = ("/proc/vmstat", "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def start_server() -> None:
    """Start, if there is none, the fork server that loads the training code; a process from it starts in about 40 ms.

    Returns at once; the server loads while the caller goes on.
    """
    # One thread per process unless the run's config says otherwise; also silences OpenMP's own spinning threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    CONTEXT.set_forkserver_preload(["resweep.sweep.executors.preload"])
    forkserver.ensure_running()


def start_process(target: Callable[..., None], args: tuple, name: str) -> Any:
    """Start a process from the fork server.

    Args:
        target: a function of a module; multiprocessing would otherwise run the caller's own program once more in each
            process, to find what it may define.
        args: for the function.
        name: of the process.
    """
    process = CONTEXT.Process(target=target, args=args, name=name)
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        process.start()
    except EOFError as error:
        message = "the process that starts workers has died, most likely while it loaded the training code; see above"
        raise RuntimeError(message) from error
    finally:
        sys.modules["__main__"] = main
    return process


def cores() -> int:
    """Return the number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Underway:
    """A process that carries a unit out.

    Args:
        process: as multiprocessing gives it.
        slot: the environment variables of its place.
        oom_kills: of the machine when it was started.
    """

    process: Any
    unit: Unit
    slot: dict[str, str]
    oom_kills: int


class LocalExecutor(Executor):
    """Each unit in a process of its own; a free slot takes the next one at once.

    Args:
        workers: units at a time; None for one per core, or for what the devices have room for.
        devices: accelerators that are handed out, as ``CUDA_VISIBLE_DEVICES`` names them; None hands out none.
        runs_per_device: units at a time on one accelerator.
        threads: processor threads of a run, which share the cores.
    """

    def __init__(
        self,
        workers: int | None = None,
        devices: Sequence[str] | None = None,
        runs_per_device: int = 1,
        threads: int = 1,
    ) -> None:
        places: list[dict[str, str]] = [
            {"CUDA_VISIBLE_DEVICES": str(device)} for _ in range(runs_per_device) for device in devices or ()
        ]
        super().__init__(workers or len(places) or max(1, cores() // threads))
        if devices is not None:
            self.slots = min(self.slots, len(places))
        self.free = places[: self.slots] or [{}] * self.slots
        self.running: dict[int, Underway] = {}
        start_server()

    def start(self, unit: Unit) -> None:
        """See :class:`Executor`."""
        slot = self.free.pop(0)
        process = start_process(_work, (unit, slot), unit[0].name)
        self.running[process.sentinel] = Underway(process, unit, slot, oom_kills())

    def wait(self, seconds: float) -> list[End]:
        """See :class:`Executor`."""
        if not self.running:
            time.sleep(seconds)
        ended = [self.running.pop(sentinel) for sentinel in wait(list(self.running), timeout=seconds)]
        self.free += [one.slot for one in ended]
        return [End(one.unit, cause_of_end(one.process, one.oom_kills)) for one in ended]

    def stop(self, unit: Unit) -> None:
        """See :class:`Executor`."""
        for one in self.running.values():
            if one.unit == unit:
                one.process.terminate()

    def kill(self, unit: Unit) -> None:
        """See :class:`Executor`."""
        for one in self.running.values():
            if one.unit == unit:
                one.process.kill()


def cause_of_end(process: Any, oom_kills_before: int) -> str:
    """Wait for a process that has ended, end what it has left behind, and say in words how it ended."""
    end_group(process.pid)
    process.join()
    code = process.exitcode
    process.close()
    if code >= 0:
        return f"exit status {code}"
    name = f"signal {signal.Signals(-code).name}"
    if code == -signal.SIGKILL and oom_kills() > oom_kills_before:
        return f"{name}, memory having run out (fewer executor.workers or a smaller data.batch_size need less)"
    return name


def end_group(pid: int) -> None:
    """End the processes that a worker has started and that have outlived it, such as those that load data."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # none left


def oom_kills(counters: Sequence[str] = OOM_COUNTERS) -> int:
    """Return how often the kernel has ended a process because memory ran out, as far as this process may know."""
    count = 0
    for path in counters:
        if os.access(path, os.R_OK):
            lines = Path(path).read_text(encoding="utf-8").splitlines()
            count += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return count


def _work(unit: Unit, slot: dict[str, str]) -> None:
    """Body of a worker process: its output goes to the run's log, its end is in the run's record."""
    enter_worker()
    os.environ.update(slot)
    for run_dir in unit:
        status = carry_out(run_dir)
        if status:
            sys.exit(status)


def enter_worker() -> None:
    """Make this process one that its parent can stop, that its parent's end ends, and that a terminal leaves alone."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os.killpg(0, signal.SIGKILL)


def call_in_worker(function: str, *args: Any) -> Any:
    """Call a function in a fresh process that has torch loaded and return its result.

    Args:
        function: ``module:name``, so that the caller need not import the module.
        args: plain values.

    Raises:
        RequestError: as raised by the function.
        RuntimeError: the process died or raised anything else; the message has its words.
    """
    start_server()
    receive, send = CONTEXT.Pipe(duplex=False)
    process = start_process(_answer, (send, function, args), function)
    send.close()
    try:
        kind, value = receive.recv()
    except EOFError:
        process.join()
        kind, value = "error", f"the process ended with exit status {process.exitcode}"
    except BaseException:  # Ctrl-C: do not wait for what nobody wants any more
        process.kill()
        raise
    process.join()
    if kind == "problems":
        raise RequestError([Problem(**problem) for problem in value])
    if kind == "error":
        raise RuntimeError(f"{function}: {value}")
    return value


def _answer(send: Any, function: str, args: tuple) -> None:
    enter_worker()
    module, name = function.split(":")
    try:
        send.send(("value", getattr(importlib.import_module(module), name)(*args)))
    except RequestError as error:
        send.send(("problems", [vars(problem) for problem in error.problems]))
    except Exception as error:  # told to the caller, which raises it
        send.send(("error", f"{type(error).__name__}: {error}"))

"""Runs in processes of this machine, forked from a server that has loaded torch and Lightning once."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from resweep.errors import Problem, RequestError
from resweep.record import LOG_FILE, Record, utc_now
from resweep.sweep.executors.base import Event, Executor, Unit

TICK_SECONDS = 0.5
GRACE_SECONDS = 20.0
CONTEXT = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start, if there is none, the fork server that loads the training code; a process from it starts in about 40 ms.

    Returns at once; the server loads while the caller goes on.
    """
    # One thread per process unless the run's config says otherwise; also silences OpenMP's own spinning threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    CONTEXT.set_forkserver_preload(["resweep.sweep.executors.preload"])
    forkserver.ensure_running()


def default_workers() -> int:
    """Return the number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalExecutor(Executor):
    """Each run in a process of its own; a free slot takes the next run at once.

    Args:
        workers: runs at a time; None for one per processor core.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or default_workers()

    def run(self, units: Sequence[Unit], on_event: Event) -> None:
        """See :class:`Executor`."""
        start_server()
        waiting = [run_dir for unit in units for run_dir in unit]
        running: dict[int, tuple[Any, Path]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    run_dir = waiting.pop(0)
                    process = CONTEXT.Process(target=_work, args=(run_dir,), name=run_dir.name)
                    process.start()
                    running[process.sentinel] = (process, run_dir)
                    on_event("start", run_dir)
                for sentinel in wait(list(running), timeout=TICK_SECONDS):
                    process, run_dir = running.pop(sentinel)
                    _close(process, run_dir)
                    on_event("end", run_dir)
                on_event("tick", Path())
        except BaseException:
            _stop(running, on_event)
            raise


def _stop(running: dict[int, tuple[Any, Path]], on_event: Event) -> None:
    """Tell the runs under way to stop; those that do not within the grace period, or at a second signal, are ended."""
    for process, _ in running.values():
        process.terminate()
    until = time.monotonic() + GRACE_SECONDS
    try:
        for process, _ in running.values():
            process.join(max(0.0, until - time.monotonic()))
    finally:
        for process, run_dir in running.values():
            if process.is_alive():
                process.kill()
                process.join()
            _close(process, run_dir)
            on_event("end", run_dir)


def _close(process: Any, run_dir: Path) -> None:
    """Give a run whose process ended without a word a record that says so."""
    process.join()
    code = process.exitcode
    process.close()
    record = Record.read(run_dir)
    if record.status not in ("running", "pending"):
        return
    reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    record.status = "lost"
    record.error = {"type": "Lost", "message": f"the run's process ended by {reason} before its record was written"}
    record.finished_at = utc_now()
    record.write(run_dir)


def _work(run_dir: Path) -> None:
    """Body of a worker process: its output goes to the run's log, its end is in the run's record."""
    _enter_worker()
    log = os.open(run_dir / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    from resweep.train import Interrupted, execute

    try:
        execute(run_dir)
    except Interrupted:
        sys.exit(143)


def _enter_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides; a terminal sends Ctrl-C to everybody
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


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
    process = CONTEXT.Process(target=_answer, args=(send, function, args))
    process.start()
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
    _enter_worker()
    module, name = function.split(":")
    try:
        send.send(("value", getattr(importlib.import_module(module), name)(*args)))
    except RequestError as error:
        send.send(("problems", [vars(problem) for problem in error.problems]))
    except Exception as error:  # told to the caller, which raises it
        send.send(("error", f"{type(error).__name__}: {error}"))

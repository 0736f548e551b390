"""Runs as tasks of a Ray cluster; what a task does on its node is in :mod:`resweep.sweep.executors.ray_task`.

A task hears a cancellation as a call of its SIGINT handler: the first one becomes SIGTERM for the run (save and end),
the second SIGKILL. A task that is not scheduled yet is cancelled by Ray itself.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from resweep.errors import Problem, RequestError
from resweep.sweep.executors.base import End, Executor, Unit
from resweep.sweep.executors.ray_task import POLL_SECONDS, carry_out_unit

FORCE_SECONDS = 10.0  # for a Ray worker to end its run before it is ended itself
CLUSTER_SECONDS = 10.0  # between two looks at the nodes
CONNECT_SECONDS = 5.0
HEALTH_SECONDS = 15.0
OBJECT_STORE_BYTES = 100 << 20  # of a Ray of our own: only words travel through it
LOST_NODE = "the loss of its node"
OUT_OF_MEMORY = "out of memory (Ray ended it)"
NEVER_BEGAN = "a stop before it began"
KILLED = "signal SIGKILL"


class RayExecutor(Executor):
    """Each run is a Ray task; Ray says on which node and, where runs need one, on which accelerator.

    Args:
        section: the config section ``executor``; ``conf/executor/ray.yaml`` says what its keys mean. The address is not
            used where the caller has connected to Ray already.

    Raises:
        RequestError: Ray is not installed, its address cannot be reached, or no node has room for a run.
    """

    def __init__(self, section: Mapping[str, Any]) -> None:
        resources = dict(section.get("resources") or {})
        needs = {"CPU": section.get("cpus_per_run", 1), "GPU": _gpus(section), **resources}
        self._needs = {name: amount for name, amount in needs.items() if amount}
        self._ray = _import_ray()
        self._connected = not self._ray.is_initialized()
        if self._connected:
            _connect(self._ray, section.get("address"))
        self._fixed = section.get("workers")
        self._seen = -math.inf
        super().__init__(self._fixed or 0)
        try:
            self._look_at_nodes()
            if self.slots < 1:
                raise RequestError(_no_room(self._needs))
        except BaseException:
            self.close()
            raise
        # max_calls: by default Ray ends the worker, and the fork server with it, after every task with an accelerator.
        self._task = self._ray.remote(
            max_retries=0, max_calls=0, scheduling_strategy="SPREAD", num_cpus=needs["CPU"], num_gpus=needs["GPU"],
            resources=resources,
        )(carry_out_unit)  # fmt: skip
        self._refs: dict[Unit, Any] = {}
        self._stopped: set[Unit] = set()
        self._killed: dict[Unit, float] = {}

    def start(self, unit: Unit) -> None:
        """See :class:`Executor`."""
        folders = [str(run_dir.absolute()) for run_dir in unit]
        self._refs[unit] = self._task.options(name=unit[0].name).remote(folders, os.getcwd())

    def wait(self, seconds: float) -> list[End]:
        """See :class:`Executor`."""
        until = time.monotonic() + seconds
        self._look_at_nodes()
        if not self._refs:
            time.sleep(seconds)
        ready: list[Any] = []
        while self._refs and not ready:
            self._insist()
            left = max(0.0, until - time.monotonic())
            refs = list(self._refs.values())
            ready, _ = self._ray.wait(refs, timeout=min(left, 2 * POLL_SECONDS) if self._killed else left)
            if left == 0:
                break
        if ready:
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        ended = set(ready)
        return [self._end(unit) for unit, ref in list(self._refs.items()) if ref in ended]

    def stop(self, unit: Unit) -> None:
        """See :class:`Executor`."""
        if unit in self._refs and unit not in self._stopped:
            self._stopped.add(unit)
            self._ray.cancel(self._refs[unit], recursive=False)

    def kill(self, unit: Unit) -> None:
        """See :class:`Executor`."""
        if unit in self._refs and unit not in self._killed:
            self._killed[unit] = time.monotonic() + FORCE_SECONDS
            self._ray.cancel(self._refs[unit], recursive=False)

    def close(self) -> None:
        """See :class:`Executor`; a Ray that the caller has connected to stays connected."""
        if self._connected:
            self._connected = False
            self._ray.shutdown()

    def _insist(self) -> None:
        """Cancel again what is to end now: a task counts its cancellations, and two quick ones may count as one."""
        for unit, until in self._killed.items():
            self._ray.cancel(self._refs[unit], force=time.monotonic() > until, recursive=False)

    def _end(self, unit: Unit) -> End:
        """Take a finished task's answer."""
        ref = self._refs.pop(unit)
        self._stopped.discard(unit)
        killed = self._killed.pop(unit, None) is not None
        try:
            cause = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            cause = _in_words(self._ray.exceptions, error)
        return End(unit, KILLED if killed and cause == LOST_NODE else cause)

    def _look_at_nodes(self) -> None:
        """Bring the number of slots up to date, not more often than necessary; with all nodes gone it stays 1."""
        now = time.monotonic()
        if self._fixed is not None or now < self._seen + CLUSTER_SECONDS:
            return
        first, self._seen = self._seen < 0, now
        room = sum(_room(node["Resources"], self._needs) for node in self._ray.nodes() if node["Alive"])
        self.slots = room if first else max(1, room)


def _gpus(section: Mapping[str, Any]) -> float:
    """Return the share of an accelerator that a run gets."""
    devices, gpus, sharing = section.get("devices"), section.get("gpus_per_run"), section.get("runs_per_device", 1)
    if devices is not None:
        message = "must be null: Ray chooses the devices, and executor.gpus_per_run says how many a run gets"
        raise RequestError(Problem("executor.devices", str(devices), message, "executor.gpus_per_run"))
    share = 1 / sharing if sharing > 1 else 0.0
    if share and gpus not in (None, share):
        message = f"does not fit executor.runs_per_device={sharing}; set one of the two"
        raise RequestError(Problem("executor.gpus_per_run", str(gpus), message))
    return share if gpus is None else gpus


def _room(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """Return how many runs a node has room for."""
    return int(min(node.get(name, 0.0) / amount + 1e-9 for name, amount in needs.items()) if needs else 1)


def _no_room(needs: Mapping[str, float]) -> Problem:
    words = ", ".join(f"{name} {amount:g}" for name, amount in needs.items())
    message = f"no node of the Ray cluster has room for a run ({words}); for one that grows on demand, set it"
    return Problem("executor.workers", None, message)


def _in_words(exceptions: Any, error: Exception) -> str:
    """Return why a task gave no answer, in words that go behind "the run ended by"."""
    if isinstance(error, exceptions.TaskCancelledError):
        return NEVER_BEGAN
    if isinstance(error, exceptions.OutOfMemoryError):
        return OUT_OF_MEMORY
    gone = exceptions.NodeDiedError, exceptions.WorkerCrashedError, exceptions.ObjectLostError
    if isinstance(error, gone):
        return LOST_NODE
    inner = getattr(error, "cause", None) or error
    return f"{type(inner).__name__}: {(str(inner).strip() or 'no words').splitlines()[0]}"


def _import_ray() -> Any:
    # Nobody's use of this package is reported to anybody unless they want it; set before Ray looks.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        message = "needs Ray, which is not installed: pip install 'resweep[ray]'"
        raise RequestError(Problem("executor.name", "ray", message)) from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster that answers, or start one on this machine.

    Raises:
        RequestError: there is none at the address, or it is not one for this Python and Ray.
    """
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"address": wanted, "log_to_driver": False, "logging_level": logging.ERROR}
    if wanted == "local":
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    elif wanted != "auto":
        _must_answer(wanted)
    try:
        with _own_handlers():
            ray.init(**options)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RequestError(Problem("executor.address", wanted, f"Ray does not connect: {words}")) from error


def _must_answer(address: str) -> None:
    """Make sure that Ray answers; Ray itself would try for two minutes and then end the process.

    Raises:
        RequestError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        message = "must be host:port, ray://host:port, auto, or null for RAY_ADDRESS or a new Ray on this machine"
        raise RequestError(Problem("executor.address", address, message))
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        message = f"cannot be reached ({getattr(error, 'strerror', None) or error})"
        raise RequestError(Problem("executor.address", address, message)) from error
    if not address.startswith("ray://") and not _healthy(address):
        message = f"has no Ray cluster: what listens there did not answer as one within {HEALTH_SECONDS:g} s"
        raise RequestError(Problem("executor.address", address, message))


def _healthy(address: str) -> bool:
    """Ask ``ray health-check`` in a process that can be given up."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(command, capture_output=True, timeout=HEALTH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep the handling of signals as it is: Ray would make SIGTERM end this process on the spot."""
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) is not None}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

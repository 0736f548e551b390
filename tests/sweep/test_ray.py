"""The Ray executor on a real cluster of two nodes, both on this machine."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import assert_same_bits, faulty, finished_epochs, new_run, plan, skip_or_fail, wait_until, weights

from resweep.claim import holder
from resweep.errors import Problem, RequestError
from resweep.record import CHECKPOINTS, LAST, METRICS_FILE, Record
from resweep.rows import read_rows
from resweep.sweep.executors import ray_cluster
from resweep.sweep.executors.base import Unit
from resweep.sweep.executors.ray_cluster import LOST_NODE, NEVER_BEGAN, OUT_OF_MEMORY, RayExecutor
from resweep.sweep.ledger import write_run
from resweep.train import execute

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
EPOCHS = "trainer.max_epochs=4"


def ray() -> Any:
    """Return Ray, or skip the test where it is not installed."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        skip_or_fail("Ray is not installed: pip install 'resweep[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with room for one run each."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray()
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray")  # short: sockets with long names lie in it
    made = Cluster(initialize_head=True, head_node_args={**NODE, "temp_dir": folder})
    try:
        made.add_node(**NODE)
        yield made
    finally:
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def connection(cluster: Any) -> Iterator[RayExecutor]:
    """One connection for all tests: its Ray workers have torch loaded after the first one."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    made = RayExecutor({"address": cluster.address})
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    yield made
    made.close()


@pytest.fixture
def executor(connection: RayExecutor) -> Iterator[RayExecutor]:
    with ending(connection) as made:
        yield made


@contextmanager
def ending(executor: RayExecutor) -> Iterator[RayExecutor]:
    """Let no run outlive the block."""
    try:
        yield executor
    finally:
        for unit in list(executor._refs):
            executor.kill(unit)
        drive(executor, [])


def runs(folder: Path, *overrides: str) -> list[Unit]:
    made = [(run, folder / f"{number}") for number, run in enumerate(plan(EPOCHS, "logger=none", *overrides).runs)]
    for run, run_dir in made:
        write_run(run, run_dir)
    return [(run_dir,) for _, run_dir in made]


def drive(executor: RayExecutor, units: list[Unit], seconds: float = 60.0) -> dict[Unit, str]:
    """Start units, never more than there are slots, until all have ended; return how."""
    waiting, causes, until = list(units), {}, time.monotonic() + seconds
    while waiting or executor._refs:
        assert time.monotonic() < until, "the units did not end"
        while waiting and len(executor._refs) < executor.slots:
            executor.start(waiting.pop(0))
        causes.update({end.unit: end.cause for end in executor.wait(0.5)})
    return causes


def ends(executor: RayExecutor, seconds: float = 60.0) -> dict[Unit, str]:
    """Return the next units that end, and how."""
    until = time.monotonic() + seconds
    while not (found := executor.wait(0.5)):
        assert time.monotonic() < until, "no unit ended"
    return {end.unit: end.cause for end in found}


def statuses(units: list[Unit]) -> list[str]:
    return [Record.read(run_dir).status for (run_dir,) in units]


def assert_as_alone(units: list[Unit], folder: Path, *overrides: str) -> None:
    """Fail unless every run has the weights that it gets in this process without a disturbance."""
    for (run_dir,), (alone,) in zip(units, runs(folder, *overrides), strict=True):
        assert execute(alone).status == "completed"
        assert_same_bits(weights(run_dir), weights(alone))


# First what needs that this process is not connected to a cluster.


@pytest.mark.slow
def test_an_executor_of_our_own_ray_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ray().is_initialized()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    executor = RayExecutor({"workers": 1})
    try:
        unit = (new_run(tmp_path / "run", "logger=none"),)
        assert drive(executor, [unit]) == {unit: "exit status 0"}
    finally:
        executor.close()
    assert not ray().is_initialized()


def refusal(**settings: Any) -> Problem:
    with pytest.raises(RequestError) as caught:
        RayExecutor(settings)
    (problem,) = caught.value.problems
    return problem


@pytest.fixture
def dumb_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_an_address_without_ray_is_refused_soon(dumb_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ray().is_initialized()
    monkeypatch.setattr(ray_cluster, "HEALTH_SECONDS", 3.0)
    begun = time.monotonic()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{unused.getsockname()[1]}"
        for address in (closed, f"ray://{closed}"):
            problem = refusal(address=address)
            assert (problem.key, problem.value) == ("executor.address", address)
            assert "Connection refused" in problem.message
    assert "no Ray cluster" in refusal(address=f"127.0.0.1:{dumb_port}").message
    assert "host:port" in refusal(address="head").message
    monkeypatch.setenv("RAY_ADDRESS", closed)
    assert refusal().value == closed
    assert time.monotonic() - begun < 15.0


@pytest.mark.slow
def test_two_nodes_train_at_a_time_and_give_the_same_weights_as_one_process(
    executor: RayExecutor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    drive(executor, runs(tmp_path / "first", "seed=8,9"))  # afterwards both nodes have loaded the training code
    overrides = (*faulty(slow_while=hold), "seed=0,1,2", "trainer.max_epochs=20")
    units = runs(tmp_path, *overrides)
    assert executor.slots == 2
    for unit in units[:2]:
        executor.start(unit)
    wait_until(lambda: all(finished_epochs(run_dir) for (run_dir,) in units[:2]))
    assert statuses(units) == ["running", "running", "pending"]
    hold.unlink()
    assert drive(executor, units[2:]) == dict.fromkeys(units, "exit status 0")
    assert statuses(units) == ["completed"] * 3
    assert capfd.readouterr() == ("", "")
    assert_as_alone(units, tmp_path / "alone", *overrides)


def test_a_process_that_ends_without_a_word_is_named_and_the_others_go_on(
    executor: RayExecutor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    units = runs(tmp_path, *faulty(), "+model.fault=kill,none,exit")
    causes = drive(executor, units)
    assert [causes[unit] for unit in units] == ["signal SIGKILL", "exit status 0", "exit status 3"]
    assert statuses(units) == ["running", "completed", "running"]
    assert capfd.readouterr() == ("", "")


def test_a_stop_saves_what_runs_and_takes_back_what_waits(executor: RayExecutor, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    overrides = (*faulty(slow_while=hold), "seed=0,1,2")
    units = runs(tmp_path, *overrides)
    for unit in units:
        executor.start(unit)
    begun = []

    def two_train() -> bool:
        begun[:] = [unit for unit in units if finished_epochs(unit[0])]
        return len(begun) == 2

    wait_until(two_train)
    (waiting,) = set(units) - set(begun)
    executor.stop(waiting)
    assert ends(executor) == {waiting: NEVER_BEGAN}
    executor.stop(begun[0])
    executor.stop(begun[0])  # asking twice is not more than asking
    assert ends(executor) == {begun[0]: "exit status 143"}
    executor.stop(begun[0])  # it has ended
    assert Record.read(begun[0][0]).status == "interrupted"
    assert (begun[0][0] / CHECKPOINTS / LAST).is_file()
    assert Record.read(waiting[0]).status == "pending" and Record.read(waiting[0]).attempts == 0
    hold.unlink()
    assert set(drive(executor, [waiting, begun[0]]).values()) == {"exit status 0"}
    assert_as_alone(units, tmp_path / "alone", *overrides)


def test_a_run_that_does_not_stop_is_killed(executor: RayExecutor, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    units = runs(tmp_path, *faulty(slow_while=hold), "seed=0,1")
    for unit in units:
        executor.start(unit)
    wait_until(lambda: all(finished_epochs(run_dir) for (run_dir,) in units))
    for (run_dir,) in units:
        os.kill(process_of(run_dir), signal.SIGSTOP)
    executor.stop(units[0])
    assert executor.wait(1.0) == []
    executor.kill(units[0])
    assert ends(executor, 5.0) == {units[0]: "signal SIGKILL"}
    executor.kill(units[1])
    assert ends(executor, 5.0) == {units[1]: "signal SIGKILL"}


def process_of(run_dir: Path) -> int:
    found = re.match(r"process (\d+)", holder(run_dir) or "")
    assert found is not None
    return int(found.group(1))


def test_a_folder_that_a_node_does_not_see_is_named(executor: RayExecutor, tmp_path: Path) -> None:
    (cause,) = drive(executor, [(tmp_path / "elsewhere",)]).values()
    assert cause.startswith("the lack of its folder on node") and "share" in cause


def test_what_does_not_fit_is_refused(executor: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(devices=[0]).key == "executor.devices"
    assert refusal(gpus_per_run=1, runs_per_device=2).key == "executor.gpus_per_run"
    assert "CPU 8" in refusal(cpus_per_run=8).message
    monkeypatch.setitem(sys.modules, "ray", None)
    problem = refusal()
    assert problem.key == "executor.name" and "pip install 'resweep[ray]'" in problem.message


def test_what_ray_says_of_a_task_becomes_words() -> None:
    errors = ray().exceptions
    task_error = errors.RayTaskError("carry_out_unit", "a traceback", ModuleNotFoundError("No module\nnamed so"))
    assert [ray_cluster._in_words(errors, error) for error in (
        errors.TaskCancelledError(), errors.OutOfMemoryError("no room"), errors.NodeDiedError("gone"),
        errors.WorkerCrashedError(), errors.OwnerDiedError("ff", None, ""), task_error,
        errors.RuntimeEnvSetupError("bad"),
    )] == [
        NEVER_BEGAN, OUT_OF_MEMORY, LOST_NODE, LOST_NODE, LOST_NODE, "ModuleNotFoundError: No module",
        "RuntimeEnvSetupError: Failed to set up runtime environment.",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_gets_its_share_of_a_device_and_slots_follow_the_cluster(
    cluster: Any, executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "CLUSTER_SECONDS", 0.0)
    (tmp_path / "telling.py").write_text(
        "import os\nfrom pathlib import Path\nfrom resweep.models.resnet import CifarResNet\n\n"
        "class Telling(CifarResNet):\n    def __init__(self, tell, **settings):\n"
        "        super().__init__(**settings)\n"
        "        Path(tell).write_text(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + os.getcwd())\n"
    )
    tell = tmp_path / "told"
    telling = [
        "model._target_=telling.Telling", "+allowed_targets.own=telling.Telling", f"import_path={tmp_path}",
        f"+model.tell={tell}",
    ]  # fmt: skip
    node = cluster.add_node(**{**NODE, "num_cpus": 4, "num_gpus": 1})
    try:
        with ending(RayExecutor({"runs_per_device": 2})) as sharing:
            assert sharing.slots == 2
            units = runs(tmp_path / "runs", *telling)
            assert drive(sharing, units) == {units[0]: "exit status 0"}
        assert tell.read_text() == f"0 {os.getcwd()}"
        wait_until(lambda: executor.wait(0.2) == [] and executor.slots == 6, 30.0)
        cluster.remove_node(node)
        node = None
        wait_until(lambda: executor.wait(0.2) == [] and executor.slots == 2, 30.0)
    finally:
        if node is not None:
            cluster.remove_node(node)


@pytest.mark.slow
def test_the_run_of_a_lost_node_is_saved_and_continues_on_another(
    cluster: Any, executor: RayExecutor, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    overrides = (*faulty(slow_while=hold), "seed=0,1", "trainer.max_epochs=12")
    units = runs(tmp_path, *overrides)
    for unit in units:
        executor.start(unit)
    wait_until(lambda: all(finished_epochs(run_dir) for (run_dir,) in units))
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    try:
        (lost, cause), *others = ends(executor).items()
        assert (cause, others) == (LOST_NODE, [])
        wait_until(lambda: holder(lost[0]) is None)
        assert Record.read(lost[0]).status == "interrupted"
        (other,) = set(units) - {lost}
        assert Record.read(other[0]).status == "running"
        rows = read_rows(lost[0] / METRICS_FILE)
        assert 0 < len(rows) < 12
        executor.start(lost)
        hold.unlink()
        assert drive(executor, []) == dict.fromkeys(units, "exit status 0")
    finally:
        cluster.add_node(**NODE)
    assert read_rows(lost[0] / METRICS_FILE)[: len(rows)] == rows  # continued, not begun anew
    assert Record.read(lost[0]).attempts == 2
    assert_as_alone([lost], tmp_path / "alone", *overrides[:-2], overrides[-1], f"seed={Record.read(lost[0]).seed}")


@pytest.mark.slow
def test_a_run_whose_ray_worker_dies_saves_itself(executor: RayExecutor, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    ((run_dir,),) = units = runs(tmp_path, *faulty(slow_while=hold))
    executor.start(units[0])
    wait_until(lambda: finished_epochs(run_dir) > 0)
    os.kill(ray_worker(process_of(run_dir)), signal.SIGKILL)
    assert ends(executor) == {units[0]: LOST_NODE}
    hold.unlink()
    wait_until(lambda: holder(run_dir) is None)
    assert Record.read(run_dir).status == "interrupted"
    assert drive(executor, units) == {units[0]: "exit status 0"}
    assert (Record.read(run_dir).status, Record.read(run_dir).attempts) == ("completed", 2)


def ray_worker(process: int) -> int:
    """Return the parent of the parent: a run comes from its Ray worker's fork server."""
    for _ in range(2):
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"ray::" in Path(f"/proc/{process}/cmdline").read_bytes()
    return process

"""What a sweep costs besides its runs: idle slots, and the time and memory per run when runs do next to nothing.

python benchmarks/throughput.py [--runs 300] [--workers 2]
python benchmarks/throughput.py --demo

Without ``--demo``: a sweep of runs with a few steps of a tiny net, no logger, against the same runs one after another
in one process per worker, without a supervisor. With ``--demo``: the demo's 36 runs against their fit times.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resweep.config import config_loader
from resweep.record import Record
from resweep.stopping import StopSignal
from resweep.sweep.executors.local import CONTEXT, LocalExecutor, call_in_worker, cores
from resweep.sweep.executors.worker import carry_out
from resweep.sweep.ledger import prepare, run_folders
from resweep.sweep.plan import make_plan
from resweep.sweep.supervise import supervise
from resweep.sweep.work import Work

STUB = ["data=fake", "data.image_size=8", "data.train_count=30", "data.test_count=10", "data.num_classes=2",
        "data.batch_size=32", "model.width=1", "trainer.max_epochs=1", "logger=none", "augment=none"]  # fmt: skip


def stub_sweep(folder: Path, count: int) -> list[Path]:
    """Freeze a sweep of runs that do next to nothing."""
    with config_loader() as loader:
        plan = make_plan(loader, [*STUB, f"seed=range({count})", f"runs_dir={folder}"])
    prepare(plan, folder / "sweep")
    return run_folders(folder / "sweep")


def bare(run_dirs: list[Path], workers: int) -> float:
    """Seconds for the same processes, started by the simplest loop there is: a fixed share for each slot."""
    started = time.perf_counter()
    slots = [CONTEXT.Process(target=_share, args=(run_dirs[slot::workers],)) for slot in range(workers)]
    for slot in slots:
        slot.start()
    for slot in slots:
        slot.join()
    return time.perf_counter() - started


def _share(run_dirs: list[Path]) -> None:
    for run_dir in run_dirs:
        carry_out(run_dir)


def supervised(run_dirs: list[Path], workers: int) -> tuple[float, list[float], list[int]]:
    """Seconds for the sweep, seconds between an end and the next start of a slot, and kB of memory every 100 runs."""
    executor = LocalExecutor(workers)
    work, gaps, memory, ended = Work(run_dirs, executor.units), [], [], []

    def on_event(kind: str, _: Path) -> None:
        if kind == "end":
            ended.append(time.perf_counter())
            if len(memory) < len(run_dirs) // 100 * 100 and len(gaps) % 100 == 0:
                memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        elif kind == "start" and ended:
            gaps.append(time.perf_counter() - ended.pop(0))

    started = time.perf_counter()
    with StopSignal() as stop:
        stop.finishing = True
        supervise(executor, work, on_event, stop)
    return time.perf_counter() - started, gaps, memory


def demo() -> None:
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        command = [sys.executable, "-m", "resweep.cli", "demo", "-qq", f"runs_dir={place}"]
        subprocess.run(command, check=True)
        wall = time.perf_counter() - started
        fits = [Record.read(run_dir).fit_seconds for run_dir in run_folders(Path(place) / "demo")]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import resweep.sweep.executors.preload"], check=True)
    loading = time.perf_counter() - started
    ideal = sum(fits) / cores()
    print(f"{len(fits)} runs in {wall:.1f} s: {wall / ideal:.2f} x (fit times / cores = {ideal:.1f} s), "
          f"{(wall - loading) / ideal:.2f} x without one import of {loading:.1f} s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--demo", action="store_true")
    options = parser.parse_args()
    if options.demo:
        return demo()
    os.environ["OMP_NUM_THREADS"] = "1"
    call_in_worker("math:sqrt", 2)  # the server has loaded everything
    with tempfile.TemporaryDirectory() as place:
        run_dirs = stub_sweep(Path(place) / "a", options.runs)
        before = time.process_time()
        seconds, gaps, memory = supervised(run_dirs, options.workers)
        own = 1e3 * (time.process_time() - before) / options.runs
        plain = bare(stub_sweep(Path(place) / "b", min(options.runs, 300)), options.workers)
    each, alone = 1e3 * seconds / options.runs, 1e3 * plain / min(options.runs, 300)
    gaps.sort()
    print(f"{options.runs} runs: {each:.1f} ms each with {options.workers} at a time; without processes of their own "
          f"and supervision {alone:.1f} ms; added {each - alone:.1f} ms")  # fmt: skip
    print(f"a free slot takes the next run after {1e3 * gaps[len(gaps) // 2]:.2f} ms (median), "
          f"{1e3 * gaps[int(0.99 * len(gaps))]:.2f} ms (99 %)")  # fmt: skip
    print(f"of that the supervisor's own processor time: {own:.1f} ms a run")
    print(f"supervisor's memory: {memory[0] // 1024} MB after the first run, {memory[-1] // 1024} MB at the end")


if __name__ == "__main__":
    main()

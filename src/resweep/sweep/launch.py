"""Carrying a sweep out: plan, check, freeze, execute, sum up. ``resume`` enters at the third step."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader

from resweep import console
from resweep.config import read_frozen
from resweep.console import Output
from resweep.errors import Problem, RequestError, Terminated
from resweep.record import FINISHED, Record
from resweep.sweep.executors.local import LocalExecutor, call_in_worker, start_server
from resweep.sweep.ledger import check_writable, locked, prepare, read_request, run_folders, sweep_name
from resweep.sweep.plan import Plan, distinct_requests, make_plan

INTERRUPTED, TERMINATED = 130, 143


def launch(loader: ConfigLoader, overrides: Sequence[str], output: Output) -> int:
    """Plan, check and carry out a sweep.

    Args:
        loader: Hydra's config loader.
        overrides: the request in Hydra's grammar.
        output: where progress goes.

    Returns:
        Exit status: 0 all runs have a result, 1 a run failed, 130 or 143 interrupted.

    Raises:
        RequestError: something is wrong with the request; nothing was written.
    """
    plan = make_plan(loader, overrides)
    start_server()  # not before: it holds the output streams open until it has loaded, and a typo should end at once
    first = plan.runs[0].config
    runs_dir = Path(first["runs_dir"])
    check_writable(runs_dir)
    sweep_dir = runs_dir / (first["sweep_name"] or sweep_name(plan))
    output.note(plan_text(plan, sweep_dir))
    facts = call_in_worker("resweep.sweep.check:check_buildable", distinct_requests([run.config for run in plan.runs]))
    output.note(facts_text(facts))
    runs_dir.mkdir(parents=True, exist_ok=True)
    prepare(plan, sweep_dir)
    return carry_out(sweep_dir, output)


def plan_text(plan: Plan, sweep_dir: Path) -> str:
    """Return what a sweep is going to do, in at most eight lines."""
    sizes = " x ".join(f"{len(values)} {key.rsplit('.', 1)[-1]}" for key, values in plan.axes.items())
    fixed = [text for text in plan.overrides if text.split("=", 1)[0].lstrip("+~") not in plan.axes]
    lines = [
        f"sweep {sweep_dir.name}: {sizes or '1 run'} = {len(plan.runs)} runs",
        *(f"  {key}={','.join(values)}" for key, values in plan.axes.items()),
        *([f"fixed {' '.join(fixed)}"] if fixed else []),
        "goal  ranked by the best epoch's validation metric, grouped over seeds; test is measured once per run",
        f"dir   {console.relative(sweep_dir)}       stop and go on: Ctrl-C, then  "
        f"{console.command('resweep', 'resume', console.relative(sweep_dir))}",
    ]
    return "\n".join(lines)


def facts_text(facts: dict[str, Any]) -> str:
    """Return the line about data and net that the check of the plan has found out."""
    return (
        f"data  train {facts['train']}, val {facts['val']}, test {facts['test']} images, {facts['classes']} classes; "
        f"net {facts['parameters'] / 1e6:.2f} M parameters"
    )


def carry_out(sweep_dir: Path, output: Output) -> int:
    """Execute every run of a sweep that has no result yet, then write its table and report.

    Returns:
        Exit status, see :func:`launch`.

    Raises:
        RequestError: the folder is not a sweep, or another process carries it out.
    """
    with locked(sweep_dir), _terminable():
        run_dirs = run_folders(sweep_dir)
        _recover(run_dirs)
        configs = {run_dir: read_frozen(run_dir) for run_dir in run_dirs}
        units = [[run_dir] for run_dir in run_dirs if Record.read(run_dir).status not in FINISHED]
        skipped = len(run_dirs) - len(units)
        if skipped:
            output.note(f"skip  {skipped} finished runs, {len(units)} to do")
        status = _execute(units, run_dirs, configs, output) if units else 0
        return _sum_up(sweep_dir, run_dirs, status, output)


def _execute(units: list[list[Path]], run_dirs: list[Path], configs: dict[Path, dict[str, Any]], output: Output) -> int:
    from resweep.display import SweepDisplay

    epochs = {run_dir: config["trainer"]["max_epochs"] for run_dir, config in configs.items()}
    display = SweepDisplay(output, run_dirs, epochs)
    executor = LocalExecutor(configs[run_dirs[0]]["executor"]["workers"])
    display.open()
    try:
        executor.run(units, display.on_event)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    finally:
        display.close()
    return 0


def _recover(run_dirs: list[Path]) -> None:
    """Mark runs as lost that say they are running although nobody carries the sweep out (this process has the lock)."""
    for run_dir in run_dirs:
        try:
            record = Record.read(run_dir)
        except FileNotFoundError as error:
            message = "has no record any more; give the sweep's own command again to have the run made anew"
            raise RequestError(Problem("RUN", str(run_dir), message)) from error
        except ValueError as error:
            raise RequestError(Problem("RUN", str(run_dir), str(error))) from error
        if record.status == "running":
            record.status = "lost"
            record.error = {"type": "Lost", "message": "the process of the run ended before its record was written"}
            record.write(run_dir)


def _sum_up(sweep_dir: Path, run_dirs: list[Path], status: int, output: Output) -> int:
    from resweep.report.compare import compare

    output.result(compare([console.relative(sweep_dir)], width=console.terminal_width(sys.stdout)))
    states = Counter(Record.read(run_dir).status for run_dir in run_dirs)
    order = ("completed", "diverged", "pruned", "failed", "lost", "interrupted", "pending")
    counts = ", ".join(f"{states[state]} {state}" for state in order if states[state])
    output.result(f"{len(run_dirs)} runs: {counts}")
    if status:
        output.note(f"stopped; go on with:  {console.command('resweep', 'resume', console.relative(sweep_dir))}")
        return status
    return 0 if all(state in FINISHED for state in states) else 1


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that it stops a sweep as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def resume(folder: Path, output: Output) -> int:
    """Finish what is missing of a sweep; finished runs are never repeated.

    Raises:
        RequestError: the folder is not a sweep.
    """
    read_request(folder)
    start_server()
    return carry_out(folder, output)

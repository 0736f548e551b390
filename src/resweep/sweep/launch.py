"""Carrying a sweep out: plan, check, freeze, execute, sum up. ``resume`` enters at the third step."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader

from resweep import console
from resweep.config import nested, read_frozen
from resweep.console import Output
from resweep.errors import Terminated
from resweep.record import FINISHED, SWEEP_FILE
from resweep.stopping import StopSignal
from resweep.sweep.executors import make_executor
from resweep.sweep.executors.base import Executor
from resweep.sweep.executors.local import call_in_worker, start_server
from resweep.sweep.ledger import check_writable, locked, point_latest, prepare, read_request, run_folders, sweep_name
from resweep.sweep.plan import distinct_requests, make_plan
from resweep.sweep.stock import Stock, check_unchanged, chosen, take_stock
from resweep.sweep.supervise import supervise
from resweep.sweep.texts import (
    counts_text,
    estimate_text,
    facts_text,
    failures_text,
    plan_text,
    planned_count,
    resume_text,
)
from resweep.sweep.work import Proposals, Work

if TYPE_CHECKING:
    from resweep.sweep.search import Search

UNFINISHED = ("pending", "interrupted", "lost", "failed")
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Wish:
    """Which runs of a sweep are to be carried out, and what is accepted.

    Args:
        statuses: states of the runs to do.
        names: folder names, ids or numbers of runs, instead of the states.
        accept_changes: go on with other code or configs than those of the plan.
        settings: sections ``executor``, ``trainer`` and ``threads``; None for those of the plan.
    """

    statuses: tuple[str, ...] = UNFINISHED
    names: tuple[str, ...] = ()
    accept_changes: bool = False
    settings: Settings | None = None


def launch(loader: ConfigLoader, overrides: Sequence[str], output: Output, dry_run: bool = False) -> int:
    """Plan, check and carry out a sweep.

    Args:
        loader: Hydra's config loader.
        overrides: the request in Hydra's grammar.
        output: where progress goes.
        dry_run: print the plan and stop.

    Returns:
        Exit status: 0 all runs have a result, 1 a run failed, 130 or 143 interrupted.

    Raises:
        RequestError: something is wrong with the request; nothing was written.
    """
    plan = make_plan(loader, overrides, sweep=True)
    start_server()  # not before: it holds the output streams open until it has loaded, and a typo should end at once
    settings = nested(plan.base)
    runs_dir = Path(settings["runs_dir"])
    check_writable(runs_dir)
    sweep_dir = runs_dir / (settings["sweep_name"] or sweep_name(plan))
    output.note(plan_text(plan, sweep_dir))
    with contextlib.closing(make_executor(settings)) as executor:  # refuses before anything is written
        facts = call_in_worker("resweep.sweep.check:check_buildable", distinct_requests(plan.configs))
        output.note(facts_text(facts))
        stock = take_stock(run_folders(sweep_dir)) if (sweep_dir / SWEEP_FILE).is_file() else Stock()
        left = planned_count(plan) - len(stock.with_status(*FINISHED))
        output.note(estimate_text(stock, left, executor.slots))
        if dry_run:
            return 0
        runs_dir.mkdir(parents=True, exist_ok=True)
        there = prepare(plan, sweep_dir)
        point_latest(runs_dir, sweep_dir)
        return carry_out(sweep_dir, output, Wish(settings=settings), executor, there)


def resume(sweep_dir: Path, output: Output, wish: Wish) -> int:
    """Finish what is missing of a sweep; finished runs are never repeated.

    Returns:
        Exit status, see :func:`launch`.

    Raises:
        RequestError: the folder is not a sweep, another process of this machine carries it out, or it has changed.
    """
    read_request(sweep_dir)
    start_server()
    settings = wish.settings or planned_settings(sweep_dir)
    with contextlib.closing(make_executor(settings)) as executor:
        return carry_out(sweep_dir, output, dataclasses.replace(wish, settings=settings), executor, planned_before=True)


def planned_settings(sweep_dir: Path) -> Settings:
    """Return the settings with which a sweep was planned: what all its runs have in common."""
    return nested(read_request(sweep_dir)["base"])


def carry_out(sweep_dir: Path, output: Output, wish: Wish, executor: Executor, planned_before: bool) -> int:
    """Execute the runs of a sweep that have no result yet, then write its table and report.

    Args:
        sweep_dir: the sweep.
        output: where progress goes.
        wish: which runs, with its settings.
        executor: carries them out.
        planned_before: the runs were frozen by an earlier command; see whether they still are what was planned.
    """
    with locked(sweep_dir), _terminable():
        search = _search(sweep_dir)
        goes_on = "pending" in wish.statuses and not wish.names
        proposed = search.pending(again="failed" in wish.statuses) if search and goes_on else []
        stock = take_stock(run_folders(sweep_dir))
        todo = proposed if search and goes_on else chosen(stock, wish.statuses, wish.names)
        if search is not None and not goes_on:
            search = search.without_proposals()
        changes = check_unchanged(sweep_dir, todo, planned_before, wish.accept_changes) if todo else []
        if planned_before:
            output.note(resume_text(sweep_dir, stock, todo, changes))
        others = [] if wish.names else list(stock.elsewhere)
        status, hopeless = 0, None
        if todo or others or (search is not None and goes_on):
            todo = list(dict.fromkeys([*todo, *others]))
            status, hopeless = _execute(todo, stock, executor, wish.settings["executor"], search, output)
        return _sum_up(sweep_dir, status, hopeless, output)


def _search(sweep_dir: Path) -> Search | None:
    """Return the search of a sweep that is one."""
    if read_request(sweep_dir).get("search") is None:
        return None
    from resweep.sweep.search import Search  # loads Optuna

    return Search.open(sweep_dir)


def _execute(
    todo: list[Path], stock: Stock, executor: Executor, section: Settings, search: Proposals | None, output: Output
) -> tuple[int, str | None]:
    """Supervise the runs; return the exit status of a signal, and why it was hopeless to go on, if it was."""
    from resweep.display import SweepDisplay

    work = Work(todo, executor.units, retries=section["retries"], fail_fast=section["fail_fast"], search=search)
    total = getattr(search, "total", None)  # a search says how many runs there are to be
    display = SweepDisplay(output, dict(stock.records), _planned_epochs, total)
    display.open()
    try:
        with StopSignal() as stop:
            stop.finishing = True
            supervise(executor, work, display.on_event, stop, section["timeout"])
    finally:
        display.close()
    return stop.requested or 0, work.hopeless


def _planned_epochs(run_dir: Path) -> int:
    return read_frozen(run_dir)["trainer"]["max_epochs"]


def _sum_up(sweep_dir: Path, status: int, hopeless: str | None, output: Output) -> int:
    from resweep.report.compare import compare

    stock = take_stock(run_folders(sweep_dir))
    go_on = console.command("resweep", "resume", console.relative(sweep_dir))
    if failures := failures_text(stock.records):
        output.note(failures)
        output.note(f"  again  {go_on}      (--no-failed leaves them)")
    output.result(compare([console.relative(sweep_dir)], width=console.terminal_width(sys.stdout)))
    output.result(counts_text(stock))
    if hopeless is not None:
        output.note(f"stopped: {hopeless}; executor.fail_fast=null goes on nevertheless")
        return status or 1
    if status:
        output.note(f"stopped; go on with:  {go_on}")
        return status
    return 0 if not stock.damaged and all(r.status in FINISHED for r in stock.records.values()) else 1


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

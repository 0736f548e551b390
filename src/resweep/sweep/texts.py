"""What a sweep says on the terminal: its plan, what a resumed one does with each run, why runs have failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resweep.console import command, duration, relative, value
from resweep.record import LOG_FILE, Record
from resweep.sweep.plan import Plan, SearchPlan
from resweep.sweep.stock import Stock, epochs_done, planned_seconds
from resweep.sweep.work import same_reason

SHOWN = 6
ORDER = ("completed", "diverged", "pruned", "failed", "lost", "interrupted", "running", "pending")


def plan_text(plan: Plan, sweep_dir: Path) -> str:
    """Return what a sweep is going to do, in at most eight lines."""
    swept = {key.lstrip("+") for key in plan.axes}
    fixed = [text for text in plan.overrides if text.split("=", 1)[0].lstrip("+~") not in swept]
    go_on = command("resweep", "resume", relative(sweep_dir))
    lines = [
        f"sweep {sweep_dir.name}: {_size(plan)}",
        *(f"  {key}={','.join(values)}" for key, values in plan.axes.items()),
        *([f"fixed {' '.join(fixed)}"] if fixed else []),
        "goal  ranked by the best epoch's validation metric, grouped over seeds; test is measured once per run",
        f"dir   {relative(sweep_dir)}       stop and go on: Ctrl-C, then  {go_on}",
    ]
    return "\n".join(lines)


def _size(plan: Plan) -> str:
    """Return how many runs there are to be, and why."""
    if isinstance(plan, SearchPlan):
        search = plan.search
        seeds = f" x {len(search['seeds'])} seeds" if search["seeds"] else ""
        pruner = f", bad ones stopped early by {search['pruner']}" if search["pruner"] else ""
        return f"{search['trials']} settings{seeds}, proposed by {search['name']} (seed {search['seed']}){pruner}"
    sizes = " x ".join(f"{len(values)} {key.rsplit('.', 1)[-1]}" for key, values in plan.axes.items())
    return f"{sizes or '1 run'} = {len(plan.runs)} runs"


def planned_count(plan: Plan) -> int:
    """Return the number of runs of a plan; of a search the most that there can be."""
    return (
        plan.search["trials"] * len(plan.search["seeds"] or [None]) if isinstance(plan, SearchPlan) else len(plan.runs)
    )


def estimate_text(stock: Stock, left: int, slots: int) -> str:
    """Return how long the rest takes, judged by the runs of the sweep that have been timed."""
    timed = planned_seconds(stock)
    if timed is None:
        return "est.  how long it takes is known once one run has been timed"
    seconds, count = timed
    runs = "1 timed run" if count == 1 else f"{count} timed runs"
    return f"est.  about {duration(seconds * left / min(slots, max(1, left)))} with {slots} at a time (from {runs})"


def facts_text(facts: Mapping[str, Any]) -> str:
    """Return the line about data and net that the check of the plan has found out."""
    return (
        f"data  train {facts['train']}, val {facts['val']}, test {facts['test']} images, {facts['classes']} classes; "
        f"net {facts['parameters'] / 1e6:.2f} M parameters"
    )


def resume_text(sweep_dir: Path, stock: Stock, todo: Sequence[Path], changes: Sequence[str]) -> str:
    """Return what a sweep that goes on does with its runs, a line per kind."""
    chosen, numbers = set(todo), {run_dir: number for number, run_dir in enumerate(stock.records)}

    def line(word: str, statuses: tuple[str, ...], detail: bool = False) -> list[str]:
        runs = [run_dir for run_dir in stock.with_status(*statuses) if run_dir in chosen]
        shown = [f"{numbers[d]:03d}" + (f" after epoch {epochs_done(d)}" if detail else "") for d in runs[:SHOWN]]
        more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
        return [f"  {word:<9} {len(runs)} {'/'.join(statuses)}   {', '.join(shown)}{more}"] if runs else []

    left_alone = [d for d in stock.with_status("failed", "lost", "interrupted", "pending") if d not in chosen]
    done = len(stock.with_status("completed", "diverged", "pruned"))
    lines = [
        f"resume {sweep_dir.name} ({len(stock.records)} runs)",
        *([f"  skip      {done} done"] if done else []),
        *line("continue", ("interrupted",), detail=True),
        *line("again", ("failed", "lost")),
        *line("start", ("pending",)),
        *(f"  elsewhere {relative(run_dir)} by {who}" for run_dir, who in list(stock.elsewhere.items())[:SHOWN]),
        *([f"  leave     {len(left_alone)} not asked for"] if left_alone else []),
        *(f"  changed   {change}" for change in changes[:SHOWN]),
        *(f"  damaged   {text}" for text in stock.damaged),
    ]
    return "\n".join(lines)


def failures_text(records: Mapping[Path, Record]) -> str:
    """Return the failed runs grouped by reason, each with its cause in full and the runs it has hit."""
    numbers = {run_dir: number for number, run_dir in enumerate(records)}
    groups: dict[str, list[Path]] = {}
    for run_dir, record in records.items():
        if record.status in ("failed", "lost"):
            groups.setdefault(f"{record.status} {same_reason(_cause(record))}", []).append(run_dir)
    if not groups:
        return ""
    count = sum(map(len, groups.values()))
    reasons = "1 reason" if len(groups) == 1 else f"{len(groups)} reasons"
    lines = [f"FAILED  {count} {'run' if count == 1 else 'runs'}, {reasons}"]
    for run_dirs in groups.values():
        first = records[run_dirs[0]]
        where = f"   at {first.error['where']}" if first.error and "where" in first.error else ""
        lines.append(f"  {first.status}: {_cause(first)}{where}")
        for run_dir in run_dirs[:SHOWN]:
            swept = " ".join(f"{key}={value(given)}" for key, given in records[run_dir].swept.items())
            lines.append(f"    {numbers[run_dir]:03d} {swept}   {relative(run_dir / LOG_FILE)}")
        if len(run_dirs) > SHOWN:
            lines.append(f"    and {len(run_dirs) - SHOWN} more")
    return "\n".join(lines)


def _cause(record: Record) -> str:
    return str(record.error["message"]) if record.error else "the process is gone"


def counts_text(stock: Stock) -> str:
    """Return the line that ends a sweep: how many runs are in each state."""
    states = {state: sum(r.status == state for r in stock.records.values()) for state in ORDER}
    counts = [f"{states[state]} {state}" for state in ORDER if states[state]]
    counts += [f"{len(stock.damaged)} damaged"] if stock.damaged else []
    count = len(stock.records) + len(stock.damaged)
    return f"{count} {'run' if count == 1 else 'runs'}: {', '.join(counts)}"

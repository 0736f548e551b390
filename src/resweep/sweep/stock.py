"""What there is of a sweep before it goes on: the state of every run, what is to be done, what no longer matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resweep.claim import Busy, claim
from resweep.code import code_state, differences, in_words
from resweep.config import digest, read_frozen
from resweep.console import command, relative
from resweep.errors import Problem, RequestError, nearest_name
from resweep.record import FINISHED, METRICS_FILE, Record
from resweep.sweep.ledger import accept_code, planned_code, read_request
from resweep.sweep.supervise import mark_lost

Choice = Callable[[str], bool]


@dataclass
class Stock:
    """The runs of a sweep by what is to become of them; every list is in plan order.

    Args:
        records: of every run whose record can be read.
        elsewhere: runs that another process carries out now.
        damaged: what is wrong with the folders of runs that cannot be used, a line each.
    """

    records: dict[Path, Record] = field(default_factory=dict)
    elsewhere: dict[Path, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    def with_status(self, *statuses: str) -> list[Path]:
        """Return the runs in one of some states, without those that are under way elsewhere."""
        return [d for d, record in self.records.items() if record.status in statuses and d not in self.elsewhere]


def take_stock(run_dirs: Iterable[Path]) -> Stock:
    """Look at every run; one that says it is running although nobody holds it is marked as lost."""
    stock = Stock()
    for run_dir in run_dirs:
        try:
            record = stock.records[run_dir] = Record.read(run_dir)
        except FileNotFoundError:
            again = "give the sweep's own command again to have the run made anew"
            stock.damaged.append(f"{relative(run_dir)} has no record any more; {again}")
        except ValueError as error:
            stock.damaged.append(f"{error}; delete the folder and give the sweep's own command again")
        else:
            if record.status == "running":
                _look_closer(run_dir, record, stock)
    return stock


def _look_closer(run_dir: Path, record: Record, stock: Stock) -> None:
    try:
        with claim(run_dir):
            record = stock.records[run_dir] = Record.read(run_dir)  # it may have ended since
            if record.status == "running":
                mark_lost(run_dir, record, "the process of the run ended before its record was written")
    except Busy as busy:
        stock.elsewhere[run_dir] = busy.holder


def epochs_done(run_dir: Path) -> int:
    """Return how many epochs a run has a row for; reads the file only."""
    metrics = run_dir / METRICS_FILE
    return max(0, len(metrics.read_text(encoding="utf-8").splitlines()) - 1) if metrics.is_file() else 0


def chosen(stock: Stock, statuses: Sequence[str], names: Sequence[str]) -> list[Path]:
    """Return the unfinished runs in some states, or those with the given names.

    Args:
        stock: the runs.
        statuses: the states to choose when no names are given.
        names: folder names, ids or numbers of runs.

    Raises:
        RequestError: a name is not that of a run, or its run is finished.
    """
    if not names:
        return stock.with_status(*statuses)
    known: dict[str, Path] = {}
    for number, (run_dir, record) in enumerate(stock.records.items()):
        known.update({run_dir.name: run_dir, record.id: run_dir, str(number): run_dir, f"{number:03d}": run_dir})
    problems = []
    for name in names:
        run_dir = known.get(name.rstrip("/").rsplit("/", 1)[-1])
        if run_dir is None:
            message = "is not a run of this sweep; give a folder name, an id or a number as resweep status shows them"
            problems.append(Problem(name, None, message, nearest_name(name, known)))
        elif stock.records[run_dir].status in FINISHED:
            done = f"is {stock.records[run_dir].status}, and finished runs are never repeated"
            problems.append(Problem(name, None, f"{done}; delete {relative(run_dir)} to have it done anew"))
        elif run_dir in stock.elsewhere:
            problems.append(Problem(name, None, f"is being carried out by {stock.elsewhere[run_dir]}"))
    if problems:
        raise RequestError(problems)
    return list(dict.fromkeys(known[name.rstrip("/").rsplit("/", 1)[-1]] for name in names))


def check_unchanged(sweep_dir: Path, todo: Sequence[Path], configs: bool, accept: bool) -> list[str]:
    """Compare the code of now with that of the sweep's plan, and the configs of its runs with what was planned.

    Args:
        sweep_dir: the sweep.
        todo: the runs that are to be carried out.
        configs: look at the runs' configs, too.
        accept: go on in spite of differences, which ``sweep.yaml`` then keeps.

    Returns:
        What has changed, in words.

    Raises:
        RequestError: something has changed and that was not accepted.
    """
    planned = planned_code(read_request(sweep_dir))
    now = code_state(planned.import_path, planned.allowed_targets)
    changes, edited = differences(planned.state, now), {}
    for run_dir in todo if configs else ():
        record = Record.read(run_dir)
        found = digest(read_frozen(run_dir))
        if found != record.config_digest:
            changes.append(f"the config of {run_dir.name}")
            edited[run_dir] = found
    if changes and not accept:
        again = command("resweep", "resume", relative(sweep_dir), "--accept-changes")
        message = f"no longer matches its plan: {in_words(changes)}. To go on nevertheless:  {again}"
        raise RequestError(Problem("SWEEP_DIR", relative(sweep_dir), message))
    if changes:
        accept_code(sweep_dir, now, changes)
    for run_dir, found in edited.items():
        record = Record.read(run_dir)
        record.config_digest = found
        record.write(run_dir)
    return changes


def planned_seconds(stock: Stock) -> tuple[float, int] | None:
    """Return the median time of one finished run in seconds, and of how many; None when none has been timed."""
    seconds = sorted(r.fit_seconds for r in stock.records.values() if r.status in FINISHED and r.fit_seconds)
    return (seconds[len(seconds) // 2], len(seconds)) if seconds else None

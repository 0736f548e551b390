"""What to do next, as complete commands: look at the curves, finish what is missing, decide with fresh seeds."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from resweep.claim import holder
from resweep.record import FINISHED
from resweep.report.load import RunRecord, Sweep
from resweep.report.results import override_key, run_overrides
from resweep.report.stats import MIN_SEEDS, NOT_DISTINGUISHABLE, ONE_SEED, TOO_FEW_SEEDS
from resweep.report.table import REPEATS, Ranking, SettingRow

MOST_RESUMED = 2
"""Commands that resume something, of which there is one for each sweep or single run."""

MOST_RUNS = 100
"""Runs of the sweep with fresh seeds; a proposal that takes more is no help."""

GIVEN_UP = FINISHED | {"failed"}
"""States of runs that resuming need not bring to a result; while there are others, more seeds can wait."""


def next_commands(sweeps: Sequence[Sweep], table: Ranking) -> list[str]:
    """Return a few commands, quoted for the shell.

    While runs are missing there is nothing but to resume them. Where the best setting cannot be told from the next one,
    both are to be trained again with fresh seeds, and those sweeps compared alone: see ``more_seeds`` in
    :class:`resweep.report.stats.Difference`.

    Args:
        sweeps: what is compared.
        table: their ranking.
    """
    missing = any(set(sweep.counts) - GIVEN_UP for sweep in sweeps)
    return [_tensorboard(sweeps), *_resume(sweeps)[:MOST_RESUMED], *([] if missing else _settle(sweeps, table))]


def rival(table: Ranking) -> SettingRow | None:
    """Return the setting that ranks next behind the best and cannot be told from it; None where there is none."""
    undecided = (NOT_DISTINGUISHABLE, TOO_FEW_SEEDS, ONE_SEED)
    for row in table.rows:
        if row.difference is not None and row.difference.verdict in undecided and not row.broken:
            return row
    return None


def _tensorboard(sweeps: Sequence[Sweep]) -> str:
    boards = ",".join(str(sweep.dir) for sweep in sweeps)
    return f"tensorboard {'--logdir_spec' if len(sweeps) > 1 else '--logdir'} {shlex.quote(boards)}"


def _resume(sweeps: Sequence[Sweep]) -> list[str]:
    commands = []
    for sweep in sweeps:
        if not sweep.request:  # single runs: only each of them can be resumed
            commands += [f"resweep resume {shlex.quote(str(run.dir))}" for run in sweep.runs if _resumable(run)]
        elif set(sweep.counts) - FINISHED:
            commands.append(f"resweep resume {shlex.quote(str(sweep.dir))}")
    return commands


def _resumable(run: RunRecord) -> bool:
    return run.status not in FINISHED and not holder(run.dir)


def _settle(sweeps: Sequence[Sweep], table: Ranking) -> list[str]:
    """Train the best setting and its nearest rival with fresh seeds, and compare these runs alone."""
    other, best = rival(table), table.best
    if other is None or best is None or table.unit != "seed" or len(sweeps) > 1 or not sweeps[0].request:
        return []
    difference = other.difference
    fresh = difference.more_seeds if difference.verdict == NOT_DISTINGUISHABLE else MIN_SEEDS
    used = [run.seed for row in table.rows for run in row.runs if run.seed is not None]
    if fresh is None or not used or 2 * fresh > MOST_RUNS:
        return []
    sweep, first = sweeps[0], max(used) + 1
    place = [str(text) for text in sweep.request.get("overrides") or () if override_key(str(text)) == "runs_dir"]
    seeds, folder = f"seed=range({first},{first + fresh})", _runs_dir(sweep, place)
    commands, folders = [], []
    for number, texts in enumerate(_requests(sweep, best, other), 1):
        name = f"{sweep.name}-fresh-seeds" + (f"-{number}" if number > 1 else "")
        commands.append(shlex.join(["resweep", "train", "-m", *place, *texts, seeds, f"sweep_name={name}"]))
        folders.append(str(folder / name))
    return [*commands, shlex.join(["resweep", "compare", *folders])]


def _requests(sweep: Sweep, best: SettingRow, other: SettingRow) -> list[list[str]]:
    """Overrides that ask for two settings and for no other one.

    One list where they differ in a single key; else one for each, because a sweep would add all combinations.
    """
    both = [run_overrides(sweep, row.runs[0]) for row in (best, other)]
    ours, others = ({override_key(text): text for text in one if override_key(text) not in REPEATS} for one in both)
    differing = [key for key in ours if ours[key] != others.get(key)]
    if set(ours) != set(others) or len(differing) != 1:
        return [list(ours.values()), list(others.values())]
    (key,) = differing
    return [[f"{text},{others[key].partition('=')[2]}" if text is ours[key] else text for text in ours.values()]]


def _runs_dir(sweep: Sweep, place: Sequence[str]) -> Path:
    """Where the new sweep will lie: beside this one, unless this one was moved or copied."""
    planned = sweep.base.get("runs_dir") or (place[-1].partition("=")[2] if place else None)
    here = sweep.dir.parent
    if planned is None or Path(planned) == here.resolve():
        return here
    return Path(planned) if place else Path("runs")

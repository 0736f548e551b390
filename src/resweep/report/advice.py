"""What to do next, as complete commands: look at the curves, finish what is missing, add seeds that would decide."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from resweep.claim import holder
from resweep.record import FINISHED
from resweep.report.load import RunRecord, Sweep
from resweep.report.results import override_key, run_overrides
from resweep.report.stats import MIN_SEEDS, NOT_DISTINGUISHABLE, ONE_SEED, TOO_FEW_SEEDS
from resweep.report.table import REPEATS, Ranking, SettingRow

MOST = 3
"""Commands that a screen ends with."""

MOST_RUNS = 100
"""Runs of a command that adds seeds; a proposal that takes more is no help."""


def next_commands(sweeps: Sequence[Sweep], table: Ranking) -> list[str]:
    """Return up to three commands, quoted for the shell.

    Args:
        sweeps: what is compared.
        table: their ranking.
    """
    commands = [*_resume(sweeps), *_settle(sweeps, table)][: MOST - 1]
    return [_tensorboard(sweeps), *commands]


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
    """The sweep with the further seeds that would tell the best setting from its nearest rival."""
    other, best = rival(table), table.best
    if other is None or best is None or table.unit != "seed" or len(sweeps) > 1 or not sweeps[0].request:
        return []
    difference = other.difference
    more = max(1, MIN_SEEDS - difference.n) if difference.verdict != NOT_DISTINGUISHABLE else difference.more_seeds
    seeds = [run.seed for row in table.rows for run in row.runs if run.seed is not None]
    overrides = _both(sweeps[0], best, other)
    if more is None or not seeds or overrides is None:
        return []
    texts, settings = overrides
    if more * settings > MOST_RUNS:
        return []
    first = max(seeds) + 1
    seed = f"seed={first}" if more == 1 else f"seed=range({first},{first + more})"
    words = ["resweep", "train", "-m", *texts, seed, f"sweep_name={sweeps[0].name}-more-seeds"]
    return [shlex.join(words)]


def _both(sweep: Sweep, best: SettingRow, other: SettingRow) -> tuple[list[str], int] | None:
    """Overrides that ask for two settings, and for how many settings they ask in all.

    Where two settings differ in more than one key, the combinations of their values come with them.
    """
    texts = [run_overrides(sweep, row.runs[0]) for row in (best, other)]
    ours, others = ({override_key(text): text for text in one} for one in texts)
    if set(ours) != set(others):
        return None
    kept = [str(text) for text in sweep.request.get("overrides") or () if override_key(str(text)) == "runs_dir"]
    settings = 1
    for key in [key for key in ours if key not in REPEATS]:
        if ours[key] == others[key]:
            kept.append(ours[key])
        else:
            settings *= 2
            kept.append(f"{ours[key]},{others[key].partition('=')[2]}")
    return kept, settings

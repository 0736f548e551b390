"""Every run with its figures and its command, and the config values of the sweep."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from resweep.console import duration
from resweep.report.html.parts import (
    Column,
    command_cell,
    facts,
    folded,
    head_cell,
    link,
    number,
    optional,
    path_from,
    row,
    table,
    value_cell,
)
from resweep.report.html.settings import value_columns
from resweep.report.load import RunRecord
from resweep.report.results import run_command
from resweep.report.table import Ranking
from resweep.report.words import value_text

SHOWN_VALUES = 40
"""Values of a swept key that are written out."""


def all_runs(ranked: Ranking, folder: Path) -> str:
    """Return one row per run, completed or not; links start in the report's folder."""
    if not ranked.sweep.runs:
        return ""
    metrics = [ranked.monitor, *([ranked.shown] if ranked.shown else [])]
    columns = [Column("run"), Column("state", filter=True)]
    columns += value_columns(ranked)
    columns += [Column("seed", True, filter=True)]
    columns += [Column("fold", True, filter=True)] if ranked.unit == "fold" else []
    columns += [Column(name, True) for name in (*metrics, "best epoch", "epochs", "time", "images/s")]
    columns += [Column("folder"), Column("command", pinned=True)]
    rows = [_row(ranked, run, metrics, folder) for run in ranked.sweep.runs]
    return table("All runs", columns, rows, "wide sortable filterable", page=50)


def config_values(ranked: Ranking) -> str:
    """Return the swept keys with their values, and, folded, those that are the same in every run."""
    sweep = ranked.sweep
    swept: dict[str, dict[str, None]] = {}
    for run in sweep.runs:
        for key, value in (run.swept | ({} if run.seed is None else {"seed": run.seed})).items():
            swept.setdefault(key, {})[value_text(value)] = None
    differing = facts({key: _listed(list(values)) for key, values in swept.items() if len(values) > 1})
    fixed = {key: next(iter(values)) for key, values in swept.items() if len(values) == 1}
    fixed |= {key: value_text(value) for key, value in sweep.base.items() if key not in swept}
    parts = [f"<h3>Swept</h3>{differing}"] if differing else []
    parts += [folded(f"The same in every run: {len(fixed)} values", facts(fixed))] if fixed else []
    return "".join(parts)


def _row(ranked: Ranking, run: RunRecord, metrics: list[str], folder: Path) -> str:
    state = re.sub(r"[^a-z]", "", run.status)
    cells = [head_cell(run.id), f'<td><span class="state-{state}">{escape(run.status)}</span></td>']
    cells += [value_cell(run.swept.get(key)) for key in ranked.names]
    cells.append(number(value_text(run.seed), run.seed))
    cells += [optional(run.swept.get("data.fold"))] if ranked.unit == "fold" else []
    cells += [optional(run.metrics.get(metric), "{:.4f}") for metric in metrics]
    cells += [optional(run.best_epoch), optional(run.epochs), number(duration(run.fit_seconds), run.fit_seconds)]
    cells.append(optional(run.images_per_second, "{:,.0f}"))
    path = path_from(folder, run.dir)
    return row([*cells, f"<td>{link(path + '/', path)}</td>", command_cell(run_command(ranked.sweep, run))])


def _listed(values: list[str]) -> str:
    text = ", ".join(values[:SHOWN_VALUES])
    return text if len(values) <= SHOWN_VALUES else f"{text} and {len(values) - SHOWN_VALUES} more"

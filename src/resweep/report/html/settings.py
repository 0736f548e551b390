"""The leaderboard: one row per setting, its figures, its verdict and the command that repeats it."""

from __future__ import annotations

import itertools
import shlex
from html import escape

from resweep.console import duration
from resweep.report.html.parts import (
    DASH,
    Column,
    cell,
    command_cell,
    folded,
    head_cell,
    note,
    number,
    optional,
    row,
    table,
    value_cell,
)
from resweep.report.load import RunRecord, Sweep
from resweep.report.results import run_command, run_overrides
from resweep.report.stats import BETTER, MIN_SEEDS, WORSE, Difference, Summary, bootstrap_interval
from resweep.report.table import REPEATS, Ranking, SettingRow, metric_values
from resweep.report.words import counts_text, repeats_text, summary_text

STAR = '<span class="star" title="best on validation">★</span> '
UNCORRECTED = "interval uncorrected"
"""What stands below the heading of a column with differences and their intervals, beside the corrected verdict."""
INTERVAL_ROWS = 60
"""Settings, from the best on, whose intervals of the mean are listed."""


def leaderboard(ranked: Ranking) -> str:
    """Return the settings as a table that can be sorted and filtered by every swept value."""
    if not ranked.rows:
        return "<p>No run has a readable record.</p>"
    columns = [Column("#"), *value_columns(ranked)]
    columns += [Column("n", True), *(Column(metric, True) for metric in _metrics(ranked))]
    columns += [Column("against best", True, below=UNCORRECTED), Column("verdict", filter=True)]
    columns += [Column("time/run", True), Column("command", pinned=True)]
    rows = [_row(ranked, place, setting) for place, setting in enumerate(ranked.rows, 1)]
    body = table("Settings, the best on validation first", columns, rows, "wide cards sortable filterable", page=40)
    return _explained(ranked) + body + _intervals(ranked)


def value_columns(ranked: Ranking) -> list[Column]:
    """Return a column per key that differs, all of which the page can filter by."""
    return [Column(name, _all_numbers(ranked, key), filter=True) for key, name in ranked.names.items()]


def setting_command(sweep: Sweep, runs: list[RunRecord]) -> str:
    """Return what trains all runs of a setting again, quoted for the shell.

    Args:
        sweep: where the runs come from.
        runs: the runs of one setting, which differ in seed and fold.

    Returns:
        One command with the seeds and folds as a sweep where the runs are all combinations of them, else a command
        per run, each on its own line.
    """
    fixed, repeats = set(), []
    for run in runs:
        pairs = [(word.lstrip("+").partition("="), word) for word in run_overrides(sweep, run)]
        repeats.append({key: value for (key, _, value), _ in pairs if key in REPEATS})
        fixed.add(tuple(word for (key, _, _), word in pairs if key not in REPEATS))
    values = {key: list(dict.fromkeys(found.get(key) for found in repeats)) for key in REPEATS}
    asked = {key: found for key, found in values.items() if found != [None]}
    combinations = {tuple(zip(asked, choice, strict=True)) for choice in itertools.product(*asked.values())}
    known = all(None not in found and not any("," in value for value in found) for found in asked.values())
    done = {tuple((key, found.get(key)) for key in asked) for found in repeats}
    if len(runs) < 2 or len(fixed) > 1 or not known or done != combinations:
        return "\n".join(dict.fromkeys(run_command(sweep, run) for run in runs))
    repeated = (f"{key}={','.join(found)}" for key, found in asked.items())
    return shlex.join(["resweep", "train", "-m", *fixed.pop(), *repeated])


def interval_text(difference: Difference | None) -> str:
    """Return the 95 % interval of a difference, or what stands in its place."""
    if difference is None or difference.n < MIN_SEEDS:
        return ""
    if difference.low is None:
        return "equal in every pair"
    return f"[{difference.low:+.4f}, {difference.high:+.4f}]"


def family_text(ranked: Ranking) -> str:
    """Return in words what verdicts rest on: how many comparisons they are corrected for, or that there are none."""
    count = ranked.pairs.count
    if not count:
        return f"No two settings share {MIN_SEEDS} {ranked.unit}s, so no difference can be tested."
    if count == 1:
        return "The verdict comes from a paired t test, the only one here, so its p needs no correction."
    return f"Verdicts come from paired t tests, corrected by Holm for all {count:,} comparisons of settings."


def verdict_cell(difference: Difference, unit: str) -> str:
    """Return a cell with the verdict, below it how many fresh seeds would show the observed difference."""
    more = difference.more_seeds
    kind = f' class="is-{difference.verdict}"' if difference.verdict in (BETTER, WORSE) else ""
    below = "" if more is None else f'<br><span class="small">{more:,} fresh {unit}{"" if more == 1 else "s"}</span>'
    return f"<td><span{kind}>{escape(difference.verdict)}</span>{below}</td>"


def mean_text(summary: Summary, expected: int) -> str:
    """Return mean ± standard deviation; only the mean below three values, whose range stands elsewhere."""
    if 0 < summary.n < MIN_SEEDS:
        return f"{summary.mean:.4f}" + ("" if summary.n == expected else f" (n={summary.n})")
    return summary_text(summary, expected=expected)


def range_text(summary: Summary) -> str:
    """Return the smallest and the largest value; empty for less than two."""
    return "" if summary.n < 2 else f"{summary.smallest:.4f}..{summary.largest:.4f}"


def _all_numbers(ranked: Ranking, key: str) -> bool:
    values = [setting.values.get(key) for setting in ranked.rows]
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _metrics(ranked: Ranking) -> list[str]:
    return [ranked.monitor, *([ranked.shown] if ranked.shown else [])]


def _row(ranked: Ranking, place: int, setting: SettingRow) -> str:
    n, difference = len(setting.completed), setting.difference
    cells = [head_cell(str(place), place, STAR if setting.best else "")]
    cells += [value_cell(setting.values.get(key)) for key in ranked.names]
    cells.append(number(str(n), n, counts_text(setting.not_completed)))
    for summary in (setting.val, setting.test) if ranked.shown else (setting.val,):
        cells.append(number(mean_text(summary, n), summary.mean, range_text(summary)))
    if difference is None:
        cells += [optional(None), cell("best" if setting.best else DASH)]
    else:
        cells.append(optional(difference.mean, "{:+.4f}", interval_text(difference)))
        cells.append(verdict_cell(difference, ranked.unit))
    cells.append(number(duration(setting.fit_seconds), setting.fit_seconds))
    return row([*cells, command_cell(setting_command(ranked.sweep, setting.runs))], setting.best)


def _explained(ranked: Ranking) -> str:
    stricter = " So a verdict is stricter than the interval." if ranked.pairs.count > 1 else ""
    text = (
        f"Figures are mean ± standard deviation over the n completed {ranked.unit}s, with smallest..largest below; "
        f"runs that did not complete stand below n. Against best: mean difference in {ranked.compared} to the first "
        f"row, paired by {ranked.unit}, and its uncorrected 95 % interval. {family_text(ranked)}{stricter} Below the "
        f"verdict: how many fresh {ranked.unit}s of each, compared on their own, would show the observed difference. "
        "Settings with failed, diverged or lost runs rank below the others."
    )
    repeats = repeats_text(ranked)
    first = f"Ranked by mean {ranked.monitor}; test metrics are shown, never used to choose."
    first += "" if repeats is None else f" {repeats}."
    return note(first) + folded("How to read this table", note(text))


def _intervals(ranked: Ranking) -> str:
    """Both 95 % intervals of each mean, folded."""
    metric = ranked.compared
    rows = []
    for place, setting in enumerate(ranked.rows[:INTERVAL_ROWS], 1):
        summary = setting.test if ranked.shown == metric else setting.val
        if summary.n < MIN_SEEDS:
            continue
        low, high = bootstrap_interval(metric_values(setting.runs, metric))
        cells = [head_cell(str(place), place), cell(ranked.setting(setting)), optional(summary.n)]
        cells += [optional(summary.mean, "{:.4f}"), optional(summary.sd, "{:.4f}")]
        cells += [number(f"{summary.low:.4f}..{summary.high:.4f}", summary.high - summary.low)]
        rows.append(row([*cells, number(f"{low:.4f}..{high:.4f}", high - low)], setting.best))
    if not rows:
        return ""
    columns = [Column("#"), Column("setting"), Column("n", True), Column(f"mean {metric}", True)]
    columns += [Column("sd", True), Column("95 % t interval", True), Column("95 % bootstrap interval", True)]
    first = "" if len(ranked.rows) <= INTERVAL_ROWS else f", first {INTERVAL_ROWS} settings"
    return folded(
        f"95 % intervals of the mean {metric}, by t and by bootstrap{first}", table("Intervals", columns, rows)
    )

"""Which value of an axis, which setting of a pair, and what the neighbours of the best one lose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape
from itertools import combinations

from resweep.report.html.parts import (
    DASH,
    Column,
    cell,
    counted,
    figure,
    head_cell,
    long_cell,
    note,
    number,
    optional,
    row,
    table,
)
from resweep.report.html.settings import (
    STAR,
    UNCORRECTED,
    family_text,
    interval_text,
    mean_text,
    range_text,
    verdict_cell,
)
from resweep.report.plots import Plot
from resweep.report.selection import AxisResult, Choice, Neighbour
from resweep.report.stats import Difference
from resweep.report.table import Ranking, SettingRow
from resweep.report.words import counts_text, value_text

ALL_PAIRS = 24
"""Settings up to which every pair is listed: 276 rows."""
PAIRS_OF_BEST = 300
"""Settings, in the order of the ranking, that are listed against the best one where not every pair is."""
MOST_CHOICES = 20
"""Values of an axis that are listed, the best on validation first."""


def axis_tables(ranked: Ranking, axes: list[AxisResult]) -> str:
    """Return for each swept key the best setting of each of its values, chosen on validation; empty without a key.

    A key whose values were tried with one setting each is left out where there are others: nothing was chosen, and the
    ranking says it all.
    """
    shown = [axis for axis in axes if axis.tuned or len(axes) == 1]
    if not shown:
        return ""
    text = (
        "For each value the best setting of all other swept values is chosen on validation only; its test result is "
        "then reported. Tried: settings from which it was chosen, and their runs. "
        f"{_uneven(shown)}{family_text(ranked)}"
    )
    return note(text) + "".join(_axis(ranked, axis) for axis in shown)


def paired_table(ranked: Ranking, axes: list[AxisResult]) -> str:
    """Return the comparisons of settings by pairs, with their tests; empty for less than two settings.

    Every pair where there are up to :data:`ALL_PAIRS` settings. Above that the best setting against the others and
    the best settings of each axis' values against each other; the correction counts every pair all the same.
    """
    listed = [pair for pair in _pairs(ranked, axes) if pair[2] is not None]
    if not listed:
        return ""
    unit = ranked.unit
    if not ranked.pairs.count:
        return note(family_text(ranked))
    text = (
        f"A against B: mean of A - B in {ranked.compared} over the {unit}s that both have. Interval and p are those of "
        f"the paired t test, uncorrected; p (Holm) {_correction(ranked.pairs.count)}, and below 0.05 it decides the "
        f"verdict. Won: share of {unit}s in which A is the better one. Effect: d_z, the mean difference in standard "
        "deviations of the paired differences, corrected for small n; not comparable with the usual 0.2, 0.5 and 0.8 "
        "of independent groups."
    )
    if len(listed) < ranked.pairs.count:
        text += (
            f" Listed are {len(listed):,} of the {ranked.pairs.count:,} comparisons: the best setting against the "
            "others, and the best settings of each axis against each other."
        )
    columns = [Column("A", filter=True), Column("B, where it differs"), Column("n", True), Column("A - B", True)]
    columns += [Column("95 % interval", True, below="uncorrected"), Column("p", True), Column("p (Holm)", True)]
    columns += [Column("p (Wilcoxon)", True), Column("won", True)]
    columns += [Column("effect", True, below="d_z"), Column("A is", filter=True)]
    rows = [_pair(ranked, first, second, difference) for first, second, difference in listed]
    return note(text) + table("Settings in pairs", columns, rows, "wide cards sortable filterable", page=15)


def neighbours(ranked: Ranking, found: list[Neighbour], plot: Plot | None) -> str:
    """Return how much worse the settings are that differ from the best one in a single value; empty without any."""
    if not found:
        return ""
    text = (
        "Settings that differ from the best one in a single value. A small loss says that the value hardly matters "
        f"here; a large one that it must be tuned. Loss: how much worse {ranked.monitor} is, as a mean."
    )
    columns = [Column("changed"), Column("to"), Column(f"loss in {ranked.monitor}", True)]
    columns += [Column(f"{ranked.compared} against best", True, below=UNCORRECTED), Column("verdict")]
    rows = []
    for one in found:
        difference = one.difference
        cells = [head_cell(one.name), cell(one.text)]
        cells.append(number(_outcome(one.row), None) if one.loss is None else optional(one.loss, "{:+.4f}"))
        mean = None if difference is None else difference.mean
        cells += [optional(mean, "{:+.4f}", interval_text(difference)), _verdict(ranked, difference)]
        rows.append(row(cells))
    pictures = figure(plot, "Losses of the neighbours")
    return note(text) + pictures + table("Neighbours of the best setting", columns, rows, "wide cards sortable")


def p_text(p: float | None) -> str:
    """Return a p value to four decimals; a dash where there is none."""
    return DASH if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _uneven(axes: list[AxisResult]) -> str:
    """A sentence on the axes whose values have not been tried with the same number of settings; empty without any."""
    names = [axis.name for axis in axes if not axis.even]
    if not names:
        return ""
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return (
        f"The values of {listed} have tried different numbers of settings; who may choose among more settings finds a "
        "better one, so a verdict there favours the value with more. "
    )


def _correction(count: int) -> str:
    if count == 1:
        return "equals p, because there is one comparison only"
    return f"is corrected for all {count:,} comparisons"


def _outcome(setting: SettingRow) -> str:
    """Why a setting has no result: ``diverged in every run``, ``1 diverged, 2 failed``."""
    counts = setting.not_completed
    if sum(counts.values()) < len(setting.runs):
        return "not recorded"
    return f"{next(iter(counts))} in every run" if len(counts) == 1 and len(setting.runs) > 1 else counts_text(counts)


def _outcomes(ranked: Ranking, axis: AxisResult, choice: Choice) -> str:
    """What became of all the runs of a value that has no result."""
    rows = [setting for setting in ranked.rows if setting.values.get(axis.key) == choice.value]
    return f"no result: {counts_text(Counter(run.status for setting in rows for run in setting.runs)) or DASH}"


def _axis(ranked: Ranking, axis: AxisResult) -> str:
    columns = [Column(axis.name), Column("other values"), Column("tried", True), Column("runs", True)]
    metrics = [ranked.monitor, *([ranked.shown] if ranked.shown else [])]
    columns += [Column(metric, True) for metric in metrics]
    columns += [Column("against the first", True, below=UNCORRECTED), Column("p (Holm)", True), Column("verdict")]
    rows = [_choice(ranked, axis, place, choice) for place, choice in enumerate(axis.choices[:MOST_CHOICES])]
    label = f"Which {axis.name}?"
    more = len(axis.choices) - len(rows)
    rest = note(f"And {counted(more, 'further value')}, worse on validation or without a result.") if more > 0 else ""
    return f"<h3>{escape(label)}</h3>" + table(label, columns, rows, "wide cards sortable") + rest


def _choice(ranked: Ranking, axis: AxisResult, place: int, choice: Choice) -> str:
    counts = [optional(choice.settings), optional(choice.runs)]
    head = head_cell(choice.text, before=STAR if place == 0 and choice.row is not None else "")
    chosen = choice.row
    if chosen is None:
        blank = [optional(None)] * (4 if ranked.shown else 3)
        return row([head, cell(_outcomes(ranked, axis, choice)), *counts, *blank, cell(DASH)])
    n = len(chosen.completed)
    others = " ".join(
        f"{name}={value_text(chosen.values.get(key))}" for key, name in ranked.names.items() if key != axis.key
    )
    cells = [head, long_cell(others or DASH), *counts]
    for summary in (chosen.val, chosen.test) if ranked.shown else (chosen.val,):
        cells.append(number(mean_text(summary, n), summary.mean, range_text(summary)))
    first = axis.choices[0].row
    difference = None if place == 0 or first is None else ranked.difference(chosen, first)
    cells.append(optional(None if difference is None else difference.mean, "{:+.4f}", interval_text(difference)))
    adjusted = None if difference is None else difference.adjusted
    cells.append(number(p_text(adjusted), adjusted))
    return row([*cells, cell("first") if place == 0 else _verdict(ranked, difference)], place == 0)


def _pairs(ranked: Ranking, axes: list[AxisResult]) -> list[tuple[SettingRow, SettingRow, Difference | None]]:
    rows = ranked.rows
    if len(rows) <= ALL_PAIRS:
        chosen = list(combinations(range(len(rows)), 2))
    else:
        wanted = {(0, other): None for other in range(1, min(len(rows), PAIRS_OF_BEST + 1))}
        for axis in axes:
            for first, second, _ in axis.pairs:
                places = [axis.choices[place].row.index for place in (first, second)]
                wanted[tuple(sorted(places))] = None
        chosen = list(wanted)
    return [(rows[first], rows[second], ranked.difference(rows[first], rows[second])) for first, second in chosen]


def _pair(ranked: Ranking, first: SettingRow, second: SettingRow, difference: Difference) -> str:
    differing = [key for key in ranked.names if first.values.get(key) != second.values.get(key)]
    cells = [long_cell(_named(ranked, first, ranked.names)), long_cell(_named(ranked, second, differing))]
    cells += [optional(difference.n), optional(difference.mean, "{:+.4f}")]
    width = None if difference.low is None else difference.high - difference.low
    cells.append(number(interval_text(difference) or DASH, width))
    cells += [number(p_text(p), p) for p in (difference.p, difference.adjusted, difference.wilcoxon)]
    cells += [optional(difference.won, "{:.0%}"), optional(difference.effect, "{:+.2f}")]
    return row([*cells, verdict_cell(difference, ranked.unit)])


def _named(ranked: Ranking, setting: SettingRow, keys: Iterable[str]) -> str:
    values = (f"{ranked.names[key]}={value_text(setting.values.get(key))}" for key in keys)
    return " ".join([f"#{setting.index + 1}", *values])


def _verdict(ranked: Ranking, difference: Difference | None) -> str:
    return cell(DASH) if difference is None else verdict_cell(difference, ranked.unit)

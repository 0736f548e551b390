"""What tuning gained, and how much the neighbours of the best setting lose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resweep.report.plots.canvas import (
    HIGHLIGHTED,
    INK,
    PANEL,
    PAPER,
    SERIES,
    Plot,
    counted,
    cut,
    draw_rows,
    key_of_lines,
    line_style,
    plain_logarithm,
    render,
    rows_size,
)
from resweep.report.selection import BudgetCurve, Neighbour, axis_results, budget_curves, sensitivity
from resweep.report.stats import BETTER, WORSE
from resweep.report.table import Ranking
from resweep.report.words import value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BANDS = 2
"""Lines with a band where there are more than twice as many lines."""
WIDE_BUDGET = 20
"""Settings from which the budget has a logarithmic axis, because most is gained by the first few."""
MOST_VALUES = 24
"""Values up to which an axis has a picture; a search over numbers tries each one once or twice."""
MOST_PANELS = 6
"""Axes that have a budget picture; of more, the first ones of the command."""
MOST_FAILED = 16
"""Values with failed settings that a caption names; of more, the first ones."""
MOST_NEIGHBOURS = 40
"""Neighbours that are drawn; of more, those that lose least."""


def budget_plot(table: Ranking) -> Plot | None:
    """Return the expected best validation result over the number of settings tried; None where nothing was tuned.

    One picture for the whole sweep, with the test result of what would have been chosen, and one per axis with a line
    per value. A line begins where nine of ten searches have a result, see :attr:`BudgetCurve.begins`.
    """
    whole = budget_curves(table)
    if not whole:
        return None
    svgs = [_whole_panel(table, whole[0])]
    keys = [key for key in table.names if len({value_text(row.values.get(key)) for row in table.rows}) <= MOST_VALUES]
    found = [(key, curves) for key in keys if len(curves := budget_curves(table, key)) > 1]
    svgs += [_axis_panel(table, key, curves, number) for number, (key, curves) in enumerate(found[:MOST_PANELS])]
    return Plot(svgs, _budget_caption(table, whole[0], found, len(keys)))


def _budget_caption(table: Ranking, whole: BudgetCurve, found: list[tuple[str, list[BudgetCurve]]], keys: int) -> str:
    caption = (
        f"Mean {table.monitor} of the setting that would be chosen on validation had only so many settings been "
        "tried, drawn at random among those of the sweep; for the whole sweep also the test result of the same choice. "
        "Band: 95 % of such searches end in it. It closes at the right end, "
        "where every setting was tried, and says nothing about settings that were not."
    )
    if any(len(curves) > HIGHLIGHTED for _, curves in found[:MOST_PANELS]):
        caption += f" Of more than {HIGHLIGHTED} values of an axis, the {HIGHLIGHTED} best on validation are drawn."
    if any(len(curves) > 2 * BANDS for _, curves in found[:MOST_PANELS]):
        caption += f" Of more than {2 * BANDS} lines, the best {BANDS} have a band."
    if len(found) > MOST_PANELS:
        caption += f" {MOST_PANELS} of {len(found)} axes are drawn."
    if keys < len(table.names):
        caption += f" Keys with more than {MOST_VALUES} values have no picture of their own."
    if whole.failed:
        caption += (
            " A line begins at the first number of settings with which at least 90 % of such searches have a result; "
            "mean and band are over those searches."
        )
        caption += _failed_values(table, whole, found[:MOST_PANELS])
    return caption


def _failed_values(table: Ranking, whole: BudgetCurve, found: list[tuple[str, list[BudgetCurve]]]) -> str:
    """A sentence that names each value with the settings that were tried with it and have no result."""
    lost = {
        axis.key: [(one.text, one.settings, one.settings) for one in axis.choices if one.row is None and one.settings]
        for axis in axis_results(table)
    }
    failed = [
        f"{table.names[key]}={cut(text, 24)}: {without:,} of {tried:,}"
        for key, curves in found
        for text, without, tried in [*((one.text, one.failed, one.settings) for one in curves), *lost[key]]
        if without
    ]
    have = "has" if whole.failed == 1 else "have"
    first = f"Whole sweep: {whole.failed:,} of {whole.settings:,} settings {have} no result"
    more = len(failed) - MOST_FAILED
    last = [f"and {counted(more, 'further value')} with some"] if more > 0 else []
    return f" {'; '.join([first, *failed[:MOST_FAILED], *last])}."


def _whole_panel(table: Ranking, curve: BudgetCurve) -> str:
    def draw(axes: Axes) -> None:
        _budget_line(axes, 0, curve, table.monitor)
        if curve.test is not None and table.shown is not None:
            budgets, test = curve.budgets[curve.begins :], curve.test[curve.begins :]
            axes.plot(budgets, test, label=table.shown, marker=_dot(budgets), markersize=4, **line_style(1))
        _finish_budget(axes, table, [curve], "whole sweep")

    what = f"expected best {table.monitor} after {curve.budgets[curve.begins]} to {curve.settings} settings tried"
    return render("budget-all", PANEL, draw, what)


def _axis_panel(table: Ranking, key: str, curves: list[BudgetCurve], number: int) -> str:
    drawn = curves[:HIGHLIGHTED]

    def draw(axes: Axes) -> None:
        for index, curve in reversed(list(enumerate(drawn))):
            _budget_line(axes, index, curve, cut(curve.text, 18), band=index < BANDS or len(drawn) <= 2 * BANDS)
        _finish_budget(axes, table, drawn, cut(key, 40))

    what = f"expected best {table.monitor} over settings tried, a line per value of {key}, {len(drawn)} lines"
    return render(f"budget-{number}", PANEL, draw, what)


def _budget_line(axes: Axes, index: int, curve: BudgetCurve, label: str, band: bool = True) -> None:
    budgets, expected, low, high = (
        values[curve.begins :] for values in (curve.budgets, curve.expected, curve.low, curve.high)
    )
    axes.plot(budgets, expected, label=label, marker=_dot(budgets), markersize=4, **line_style(index))
    if band:
        axes.fill_between(budgets, low, high, color=SERIES[index], alpha=0.12, linewidth=0)


def _dot(budgets: list[int]) -> str:
    """The marker of a line: a dot where a single point would otherwise not be seen."""
    return "o" if len(budgets) == 1 else ""


def _finish_budget(axes: Axes, table: Ranking, curves: list[BudgetCurve], title: str) -> None:
    most = max(curve.settings for curve in curves)
    if most >= WIDE_BUDGET:
        plain_logarithm(axes, "x", 1, most)
        axes.set_xlim(most**-0.05, most**1.05)
    else:
        aside = 0.05 * max(most - 1, 1)
        axes.set_xlim(1 - aside, most + aside)
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="settings tried", ylabel=table.monitor, title=title)
    axes.grid(axis="y")
    key_of_lines(axes)


def sensitivity_plot(table: Ranking) -> Plot | None:
    """Return how much worse on validation each neighbour of the best setting is; None when it has no neighbour.

    A neighbour differs from the best setting in one key. Those whose difference on the compared metric is
    distinguishable have a filled mark.
    """
    neighbours = sensitivity(table)
    known = [neighbour for neighbour in neighbours if neighbour.loss is not None]
    if not known:
        return None
    kept = sorted(known, key=lambda neighbour: neighbour.loss)[:MOST_NEIGHBOURS]
    drawn = [neighbour for neighbour in known if any(neighbour is one for one in kept)]

    def draw(axes: Axes) -> None:
        draw_rows(axes, [f"{cut(one.name, 24)}={cut(one.text, 20)}  instead of {_ours(table, one)}" for one in drawn])
        axes.axvline(0, color=INK, linewidth=0.8)
        for index, one in enumerate(drawn):
            _loss_mark(axes, index, one)
        axes.set_xlabel(f"{table.monitor}: loss against the best setting")
        axes.margins(x=0.08)

    what = f"loss of {table.monitor} against the best setting, {counted(len(drawn), 'neighbour')}"
    svg = render("sensitivity", rows_size(len(drawn)), draw, what)
    return Plot([svg], _sensitivity_caption(table, neighbours, len(known), len(drawn)))


def _sensitivity_caption(table: Ranking, neighbours: list[Neighbour], known: int, drawn: int) -> str:
    caption = (
        f"Each row is the best setting, {table.setting(table.best)}, with one value changed. The mark is how much "
        f"worse its mean {table.monitor} is. Filled: distinguishable on {table.shown or table.monitor}, corrected for "
        "all comparisons of the sweep; hollow: not."
    )
    if drawn < known:
        caption += f" The {drawn} of {known} neighbours that lose least are drawn."
    if known < len(neighbours):
        caption += f" Not drawn: {counted(len(neighbours) - known, 'neighbour')} without a completed run."
    return caption


def _ours(table: Ranking, neighbour: Neighbour) -> str:
    return cut(value_text(table.best.values.get(neighbour.key)), 20)


def _loss_mark(axes: Axes, index: int, neighbour: Neighbour) -> None:
    told_apart = neighbour.difference is not None and neighbour.difference.verdict in (BETTER, WORSE)
    axes.plot([0, neighbour.loss], [index, index], color=SERIES[0], linewidth=1.4)
    fill = SERIES[0] if told_apart else PAPER
    style = {"markersize": 5.2, "markeredgecolor": SERIES[0], "markeredgewidth": 1.2, "zorder": 3}
    axes.plot([neighbour.loss], [index], "D", color=fill, **style)

"""What each swept value does: the monitored metric over each factor."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from resweep.report.load import RunRecord
from resweep.report.plots.canvas import PANEL, SERIES, Plot, counted, cut, fit_ticks, line_style, render, thinned
from resweep.report.plots.scales import levels_of, measured_runs, numeric, places, split_values, splitting_key
from resweep.report.table import Ranking
from resweep.report.words import value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VALUES = 12
"""Values up to which each has a mean and a tick; a search tries more numbers, which are put into groups."""
GROUPS = 8
"""Groups of equally many runs whose means are joined where there are more values."""
SPOT_DOTS, LINE_DOTS = 24, 120
"""Dots at one value, and of a line over grouped values; of more runs, that many evenly spread over the results."""
PANELS = 12
"""Factors that are drawn; of more, the first ones of the command."""


@dataclass(frozen=True)
class Factor:
    """One swept key and the results over it.

    Args:
        key: dotted key.
        levels: its values as text.
        lines: results by value, for each line of the picture.
    """

    key: str
    levels: list[str]
    lines: list[dict[str, list[float]]]

    @property
    def grouped(self) -> bool:
        """Whether there are too many numbers for a mean at each."""
        return len(self.levels) > VALUES and numeric(self.levels)

    @property
    def crowded(self) -> bool:
        """Whether dots are left out."""
        if self.grouped:
            return any(sum(map(len, line.values())) > LINE_DOTS for line in self.lines)
        return any(len(values) > SPOT_DOTS for line in self.lines for values in line.values())


def factor_effects(table: Ranking) -> Plot | None:
    """Return the monitored metric over each swept value, a line per optimizer if that is swept; None without a factor.

    Numbers that are :func:`resweep.report.plots.scales.logarithmic` have such an axis, with zero at a separate place on
    the left. Values that are no numbers have no order, so their means are not joined.
    """
    runs = measured_runs(table)
    split = splitting_key(table, runs)
    groups = split_values(runs, split)
    keys = [key for key in table.names if key != split and len(split_values(runs, key)) > 1]
    if not keys:
        return None
    factors = [_factor(table, runs, key, split, groups) for key in keys[:PANELS]]
    svgs = [_panel(table, factor, number) for number, factor in enumerate(factors)]
    legend = [(f"{table.names[split]}={group}", index) for index, group in enumerate(groups)] if split else []
    return Plot(svgs, _caption(table, factors, len(keys), len(runs)), legend)


def _caption(table: Ranking, factors: list[Factor], keys: int, runs: int) -> str:
    numbers = [numeric(factor.levels) for factor in factors]
    mean = "Diamonds" if not any(numbers) else "Line" if all(numbers) else "Line, or diamonds where there is no order"
    caption = f"Small dots: {table.monitor} of single completed runs. {mean}: their mean over all other swept values."
    if not all(numbers) and len(factors[0].lines) > 1:
        caption += " Diamonds at one value stand in the order of the legend, from left to right."
    if any(factor.grouped for factor in factors):
        caption += (
            f" Over more than {VALUES} numbers, the line joins the means of {GROUPS} groups of equally many runs."
        )
    if any(factor.crowded for factor in factors):
        caption += f" Of many runs, {SPOT_DOTS} dots per value or {LINE_DOTS} per line are drawn, evenly spread."
    if keys > PANELS:
        caption += f" {PANELS} of {keys} swept keys are drawn."
    absent = sum(len(row.runs) for row in table.rows) - runs
    if absent:
        caption += f" Not drawn: {counted(absent, 'run')} that did not complete or have no such value."
    return caption


def _factor(table: Ranking, runs: list[RunRecord], key: str, split: str | None, groups: list[str]) -> Factor:
    lines: dict[str, dict[str, list[float]]] = {group: {} for group in groups or [""]}
    for run in runs:
        group = value_text(run.swept.get(split)) if split else ""
        lines[group].setdefault(value_text(run.swept.get(key)), []).append(run.metrics[table.monitor])
    return Factor(key, levels_of(value for line in lines.values() for value in line), list(lines.values()))


def _panel(table: Ranking, factor: Factor, number: int) -> str:
    axis = places(factor.levels, factor.key)
    where = axis.where

    def draw(axes: Axes) -> None:
        shift = _shift(list(where.values()))
        for index, line in enumerate(factor.lines):
            aside = (index - (len(factor.lines) - 1) / 2) * shift
            spots = sorted((where[level] + aside, values) for level, values in line.items())
            if factor.grouped:
                _grouped_line(axes, index, spots)
            else:
                _means(axes, index, spots, joined=axis.numbers)
        spots, texts = zip(*axis.ticks(VALUES, apart=0.07), strict=True)
        axes.set_xticks(spots, [cut(text, 24) for text in texts])
        fit_ticks(axes, texts)
        axes.set(xlabel=factor.key + axis.label, ylabel=table.monitor)
        axes.margins(x=0.12)
        axes.grid(axis="y")
        if axis.has_zero:
            middle = (where[factor.levels[0]] + where[factor.levels[1]]) / 2
            axes.text(middle, 0, "//", transform=axes.get_xaxis_transform(), ha="center", va="center", fontsize=8)

    what = f"{table.monitor} by {factor.key}, {counted(len(factor.levels), 'value')}"
    return render(f"effect-{number}", PANEL, draw, what)


def _shift(spots: list[float]) -> float:
    """How far the lines of a picture are set apart: a little of the narrowest gap."""
    spots = sorted(spots)
    return 0.06 * min([right - left for left, right in pairwise(spots)] or [1.0])


def _means(axes: Axes, index: int, spots: list[tuple[float, list[float]]], joined: bool) -> None:
    """Dots at each value and their means, joined by a line where the values have an order."""
    for spot, values in spots:
        _draw_dots(axes, index, [(spot, value) for value in thinned(sorted(values), SPOT_DOTS)])
    means = [statistics.fmean(values) for _, values in spots]
    style = line_style(index) if joined else {"color": SERIES[index], "linestyle": "", "zorder": 3}
    axes.plot([spot for spot, _ in spots], means, marker="D", markersize=4, **style)


def _grouped_line(axes: Axes, index: int, spots: list[tuple[float, list[float]]]) -> None:
    """Dots at many values and the line of the means of neighbouring ones."""
    dots = [(spot, value) for spot, values in spots for value in values]
    _draw_dots(axes, index, thinned(sorted(dots, key=lambda dot: dot[1]), LINE_DOTS))
    number = min(GROUPS, len(dots))
    parts = [dots[len(dots) * part // number : len(dots) * (part + 1) // number] for part in range(number)]
    means = [tuple(map(statistics.fmean, zip(*part, strict=True))) for part in parts]
    x, y = zip(*means, strict=True)
    axes.plot(x, y, marker="D", markersize=4, **line_style(index))


def _draw_dots(axes: Axes, index: int, dots: list[tuple[float, float]]) -> None:
    style = {"color": SERIES[index], "markersize": 2.8, "alpha": 0.5, "markeredgewidth": 0}
    axes.plot([spot for spot, _ in dots], [value for _, value in dots], "o", **style)

"""Two numbers together: a map of the monitored metric for every pair of numeric axes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from resweep.report.load import RunRecord
from resweep.report.plots.canvas import INK, Plot, cut, fit_ticks, render, thinned
from resweep.report.plots.scales import Axis, levels, measured_runs, numeric, places, split_values, splitting_key
from resweep.report.table import Ranking
from resweep.report.words import value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIRST = ("optimizer.lr", "optimizer.weight_decay")
"""The pair that is drawn first, across and upwards."""
MAPS = 18
"""Maps that are drawn; of more, the first pairs of axes."""
CELL_LEVELS = 10
"""Values of an axis up to which the map has a cell for each; a search tries more, which are drawn as dots."""
MAP_DOTS = 250
"""Dots of a map without cells; of more runs, that many evenly spread over the sorted results."""
COLOURS = "cividis"
"""A colour map of even brightness steps that looks alike to colour-blind and other eyes (Nuñez and others 2018)."""


@dataclass(frozen=True)
class Map:
    """One picture.

    Args:
        pair: keys across and upwards.
        title: what its runs have in common; empty for all runs.
        runs: completed runs with the monitored metric.
        levels: values across and upwards, the same in all maps of a pair.
    """

    pair: tuple[str, str]
    title: str
    runs: list[RunRecord]
    levels: tuple[list[str], list[str]]

    @property
    def cells(self) -> bool:
        """Whether there are few enough values for a cell each."""
        return all(len(values) <= CELL_LEVELS for values in self.levels)

    def means(self, metric: str) -> dict[tuple[str, str], float]:
        """Return the mean of each cell that has a run, by the two values as text."""
        found: dict[tuple[str, str], list[float]] = {}
        for run in self.runs:
            found.setdefault(tuple(value_text(run.swept.get(key)) for key in self.pair), []).append(run.metrics[metric])
        return {cell: statistics.fmean(values) for cell, values in found.items()}

    def shown(self, metric: str) -> list[float]:
        """Return the values that have a colour."""
        return list(self.means(metric).values()) if self.cells else [run.metrics[metric] for run in self.runs]


def heat_maps(table: Ranking) -> Plot | None:
    """Return the mean monitored metric over each pair of numeric axes, learning rate and weight decay first.

    None unless two numeric keys are swept. The first pair has a picture per optimizer if that is swept too, and so have
    the others if they are few; all pictures have the same colours. Where an axis has more values than fit into cells,
    each run is a dot.
    """
    runs = measured_runs(table)
    maps = _maps(table, runs)
    if not maps:
        return None
    drawn = maps[:MAPS]
    values = [value for one in drawn for value in one.shown(table.monitor)]
    limits = min(values), max(values)
    svgs = [_draw_map(table, one, limits, f"heat-{number}") for number, one in enumerate(drawn)]
    colours = "the same colours in every picture: " if len(drawn) > 1 else ""
    caption = f"{_averaged(table, drawn, splitting_key(table, runs))}; {colours}"
    caption += f"dark is {limits[0]:.4f}, bright is {limits[1]:.4f}."
    if any(one.cells for one in drawn):
        caption += " A dash: no completed run."
    if not all(one.cells for one in drawn):
        caption += f" Axes with more than {CELL_LEVELS} values: a dot per run in place of cells"
        caption += f", at most {MAP_DOTS}, evenly spread over the sorted results."
    if len(maps) > MAPS:
        caption += f" {MAPS} of {len(maps)} pictures are drawn."
    return Plot(svgs, caption)


def _averaged(table: Ranking, drawn: list[Map], split: str | None) -> str:
    """What the values of the maps are means over, and what they are not."""
    titled = sum(bool(one.title) for one in drawn)
    apart = {0: "", len(drawn): f", for each {table.names.get(split)} apart"}
    text = f"Mean {table.monitor} over completed runs"
    text += apart.get(titled, f", for each {table.names.get(split)} apart where a title names one")
    fixed = 3 if titled == len(drawn) else 2
    return text + (", whatever their other swept values" if len(table.names) > fixed else "")


def _maps(table: Ranking, runs: list[RunRecord]) -> list[Map]:
    """Every pair of numeric keys with several values, the usual first pair in front, by choice where that fits."""
    split = splitting_key(table, runs)
    keys = [key for key in table.names if len(split_values(runs, key)) > 1 and numeric(split_values(runs, key))]
    keys.sort(key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))
    pairs = list(combinations(keys, 2))
    groups: dict[str, list[RunRecord]] = {}
    for run in runs if split else ():
        groups.setdefault(value_text(run.swept.get(split)), []).append(run)
    found = []
    for number, pair in enumerate(pairs):
        levels_of_pair = tuple(levels(runs, key) for key in pair)
        by_choice = groups and (number == 0 or len(pairs) * len(groups) <= MAPS)
        parts = {f"{table.names[split]}={text}": groups[text] for text in sorted(groups)} if by_choice else {"": runs}
        found += [Map(pair, title, part, levels_of_pair) for title, part in parts.items()]
    return found


def _draw_map(table: Ranking, one: Map, limits: tuple[float, float], name: str) -> str:
    shade = _Shade(*limits)

    def draw(axes: Axes) -> None:
        labels = (_draw_cells if one.cells else _draw_dots)(axes, one, table.monitor, shade)
        across, up = (f"{key}{label}" for key, label in zip(one.pair, labels, strict=True))
        axes.set(xlabel=across, ylabel=up, title=cut(one.title, 44))

    rows = len(one.levels[1])
    size = (3.5, 1.1 + 0.36 * rows) if one.cells else (3.5, 2.9)
    kind = f"{len(one.levels[0])} by {rows} values" if one.cells else f"{min(len(one.runs), MAP_DOTS)} runs"
    return render(name, size, draw, f"mean {table.monitor} by {one.pair[0]} and {one.pair[1]} {one.title}, {kind}")


class _Shade:
    """Colour of a value between two limits, and the colour of text upon it."""

    def __init__(self, low: float, high: float) -> None:
        from matplotlib import colormaps

        self.low, self.spread, self.colours = low, (high - low) or 1.0, colormaps[COLOURS]

    def share(self, value: float) -> float:
        return (value - self.low) / self.spread

    def fill(self, value: float) -> str:
        from matplotlib.colors import to_hex

        return to_hex(self.colours(self.share(value)))

    def text(self, value: float) -> str:
        return "#ffffff" if self.share(value) < 0.5 else "#111111"


def _draw_cells(axes: Axes, one: Map, metric: str, shade: _Shade) -> list[str]:
    """Cells with their means; returns what follows the keys' names."""
    from matplotlib.patches import Rectangle

    means = one.means(metric)
    across, up = one.levels
    size = 7 if len(across) <= 5 else 5
    for row, y in enumerate(up):
        for column, x in enumerate(across):
            value = means.get((x, y))
            if value is not None:
                axes.add_patch(Rectangle((column, row), 1, 1, color=shade.fill(value), linewidth=0.4))
            text, color = ("-", INK) if value is None else (f"{value:.4f}", shade.text(value))
            style = {"ha": "center", "va": "center", "color": color, "fontsize": size}
            axes.text(column + 0.5, row + 0.5, text, **style).set_in_layout(False)
    axes.set(xlim=(0, len(across)), ylim=(0, len(up)))
    axes.set_xticks([place + 0.5 for place in range(len(across))], [cut(text, 12) for text in across])
    axes.set_yticks([place + 0.5 for place in range(len(up))], [cut(text, 12) for text in up])
    fit_ticks(axes, [cut(text, 12) for text in across])
    axes.tick_params(length=0)
    return [axis.label if _even(axis) else "" for axis in map(places, one.levels, one.pair)]


def _even(axis: Axis) -> bool:
    """Whether places are about as far apart as cells are, so that an axis of cells may be called logarithmic."""
    gaps = [right - left for left, right in pairwise(sorted(axis.where.values()))]
    return max(gaps) <= 2.5 * min(gaps)


def _draw_dots(axes: Axes, one: Map, metric: str, shade: _Shade) -> list[str]:
    """A dot per run, the best values on top; returns what follows the keys' names."""
    scales = list(map(places, one.levels, one.pair))
    runs = thinned(sorted(one.runs, key=lambda run: run.metrics[metric]), MAP_DOTS)
    spots = [
        [axis.where[value_text(run.swept.get(key))] for run in runs] for axis, key in zip(scales, one.pair, strict=True)
    ]
    axes.scatter(*spots, c=[shade.fill(run.metrics[metric]) for run in runs], s=20, edgecolors=INK, linewidths=0.35)
    for axis, set_ticks in zip(scales, (axes.set_xticks, axes.set_yticks), strict=True):
        set_ticks(*zip(*axis.ticks(CELL_LEVELS, apart=0.07), strict=True))
    fit_ticks(axes, [text for _, text in scales[0].ticks(CELL_LEVELS, apart=0.07)])
    return [axis.label for axis in scales]

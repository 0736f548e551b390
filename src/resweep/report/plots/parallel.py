"""Parallel coordinates: every setting as a line through the values it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resweep.report.plots.canvas import INK, PAPER, SERIES, Plot, counted, cut, draw_grey, render, thinned
from resweep.report.plots.scales import levels_of, numeric, places
from resweep.report.table import Ranking, SettingRow
from resweep.report.words import value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST_KEYS = 3
MOST_KEYS = 9
"""Axes beside the metric's; of more keys, the first ones of the command."""
LINES = 150
"""Settings that are drawn: all of the best quarter up to half as many, and the rest evenly spread over the ranks."""
TICKS = 10
"""Values of an axis that are written at it; of more numbers, round ones."""
WIDTHS, HEIGHT = (4.6, 8.4), 3.3
"""Smallest and largest width, and height, in inches."""
APART = 0.05
"""How far, as a share of the axis, the lines of the best and the last setting lie apart at the same value."""


@dataclass(frozen=True)
class Scale:
    """One vertical axis.

    Args:
        title: written above it.
        ticks: label and height of the values that are written at it.
        heights: height of each setting, from 0 to 1.
    """

    title: str
    ticks: list[tuple[str, float]]
    heights: list[float]


def parallel_coordinates(table: Ranking) -> Plot | None:
    """Return a line per setting through its swept values to its result; None below three differing keys.

    The better end of the monitored metric is on top, also for a loss. The best setting and the best quarter have
    colours.
    """
    rows = [row for row in table.rows if row.val.n]
    if len(table.names) < FEWEST_KEYS or len(rows) < 2:
        return None
    keys = list(table.names)[:MOST_KEYS]
    scales = [_scale(rows, key, table.names[key]) for key in keys] + [_result(rows, table)]
    quarter = max(1, len(rows) // 4)
    order = [*thinned(range(quarter), LINES // 2)]
    order += thinned(range(quarter, len(rows)), LINES - len(order))

    def draw(axes: Axes) -> None:
        heights = {number: [scale.heights[number] for scale in scales] for number in order}
        draw_grey(axes, [(range(len(scales)), heights[number]) for number in order if number >= quarter])
        for number in [number for number in order if 0 < number < quarter]:
            axes.plot(range(len(scales)), heights[number], color=SERIES[4], linewidth=1.1, alpha=0.75)
        axes.plot(range(len(scales)), heights[0], color=SERIES[0], linewidth=2.2)
        for place, scale in enumerate(scales):
            _draw_scale(axes, place, scale)
        axes.set(xlim=(-0.1, len(scales) - 0.35), ylim=(-0.05, 1.13))
        axes.axis("off")

    size = (min(max(1.05 * len(scales), WIDTHS[0]), WIDTHS[1]), HEIGHT)
    what = f"{counted(len(order), 'setting')} as lines through {', '.join(scale.title for scale in scales)}"
    legend = [("best on validation", 0), ("best quarter", 4), ("other settings", None)]
    return Plot([render("parallel", size, draw, what)], _caption(table, rows, len(order)), legend)


def _caption(table: Ranking, rows: list[SettingRow], drawn: int) -> str:
    caption = (
        f"A line per setting; the last axis is its mean {table.monitor}, better on top. At values that several "
        "settings share, lines are set a little apart, better settings higher."
    )
    if drawn < len(rows):
        caption += f" {drawn} of {len(rows):,} settings are drawn, the best and others evenly spread over the ranks."
    if len(table.names) > MOST_KEYS:
        caption += f" {MOST_KEYS} of {len(table.names)} swept keys are drawn."
    if len(rows) < len(table.rows):
        caption += f" Not drawn: {counted(len(table.rows) - len(rows), 'setting')} without a completed run."
    return caption


def _scale(rows: list[SettingRow], key: str, name: str) -> Scale:
    """Heights by value; lines that meet at one value are spread by rank."""
    texts = [value_text(row.values.get(key)) for row in rows]
    levels = levels_of(texts) if numeric(texts) else levels_of(texts)[::-1]
    axis = places(levels, key)
    where = axis.where
    low, spread = min(where.values()), (max(where.values()) - min(where.values())) or 1.0
    shift = APART if len(levels) <= TICKS else 0.0
    heights = {text: APART + (1 - 2 * APART) * (place - low) / spread for text, place in where.items()}
    last = len(rows) - 1
    found = [heights[text] + shift * (0.5 - rank / last) for rank, text in enumerate(texts)]
    ticks = [
        (cut(text, 12), APART + (1 - 2 * APART) * (place - low) / spread) for place, text in axis.ticks(TICKS, 0.05)
    ]
    return Scale(cut(name, 18) + (" (log)" if axis.log else ""), ticks, found)


def _result(rows: list[SettingRow], table: Ranking) -> Scale:
    """The monitored metric's means, the better end on top."""
    from matplotlib.ticker import MaxNLocator

    values = [row.val.mean for row in rows]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def height(value: float) -> float:
        share = (value - low) / spread if high > low else 0.5
        return APART + (1 - 2 * APART) * (share if table.mode == "max" else 1 - share)

    round_ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high] or [low]
    ticks = [(f"{tick:.6g}", height(tick)) for tick in round_ticks]
    return Scale(table.monitor, ticks, [height(value) for value in values])


def _draw_scale(axes: Axes, place: int, scale: Scale) -> None:
    axes.plot([place, place], [0, 1], color=INK, linewidth=0.8, zorder=3)
    patch = {"facecolor": PAPER, "alpha": 0.75, "linewidth": 0, "pad": 0.6}
    for label, height in scale.ticks:
        axes.plot([place, place + 0.03], [height, height], color=INK, linewidth=0.8, zorder=3)
        axes.text(place + 0.05, height, label, fontsize=6.8, va="center", zorder=4, bbox=patch)
    axes.text(place, 1.06, scale.title, fontsize=7.5, fontweight="bold", ha="left" if place == 0 else "center")

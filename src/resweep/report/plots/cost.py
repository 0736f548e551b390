"""What a result costs: the monitored metric over training time and memory, the best trade-offs joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resweep.report.plots.canvas import (
    GREY,
    INK,
    PANEL,
    PAPER,
    SERIES,
    Plot,
    counted,
    cut,
    plain_logarithm,
    render,
    thinned,
)
from resweep.report.table import Ranking, SettingRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 300
"""Settings that are drawn beside the best trade-offs; of more, that many evenly spread over the ranks."""
NUMBERED = 6
"""Trade-offs that are named in the caption."""
WIDE_COST = 20
"""Ratio of the largest to the smallest cost from which the axis is logarithmic."""

Point = tuple[float, float, SettingRow]
"""Cost, mean result, and setting."""


def cost_plot(table: Ranking) -> Plot | None:
    """Return the monitored metric over training time and over peak memory, a dot per setting; None without costs.

    The line joins the settings that no other one beats in both. It is a choice among settings, so it is made on
    validation; the caption gives the test results of the settings that are named.
    """
    better = 1 if table.mode == "max" else -1
    panels = [("training time of a run in seconds", _times(table)), ("peak memory in MB", _memory(table))]
    panels = [(label, points) for label, points in panels if len({cost for cost, _, _ in points}) > 1]
    if not panels:
        return None
    svgs, parts = [], []
    for label, points in panels:
        front = trade_offs(points, better)
        svgs.append(_panel(table, label, points, front))
        named = "; ".join(f"{number} {_named(table, row)}" for number, (_, _, row) in enumerate(front[:NUMBERED], 1))
        more = f"; and {len(front) - NUMBERED} more" if len(front) > NUMBERED else ""
        parts.append(f" Over {label.split(' in ')[0]}: {named}{more}.")
    caption = (
        f"Dots: mean {table.monitor} of a setting. Numbered and joined: no other setting costs as little and is better."
    )
    caption += "".join(parts) + " Diamond: best on validation."
    most = max(len(points) for _, points in panels)
    if most > POINTS:
        caption += f" Of {most:,} settings, {POINTS} evenly spread over the ranks and all joined ones are drawn."
    absent = len(table.rows) - most
    if absent:
        caption += f" Not drawn: {counted(absent, 'setting')} without a completed run whose cost is known."
    return Plot(svgs, caption)


def _named(table: Ranking, row: SettingRow) -> str:
    """A setting's text with its test result, where it has one."""
    return table.setting(row) + (f" ({table.shown} {row.test.mean:.4f})" if row.test.n else "")


def _times(table: Ranking) -> list[Point]:
    """Median training time of each setting with a result."""
    return [(row.fit_seconds, row.val.mean, row) for row in table.rows if row.val.n and row.fit_seconds]


def _memory(table: Ranking) -> list[Point]:
    """Largest peak memory of each setting's completed runs, in 10^6 bytes."""
    points = []
    for row in table.rows:
        peaks = [run.peak_memory_bytes for run in row.completed if run.peak_memory_bytes]
        if row.val.n and peaks:
            points.append((max(peaks) / 1e6, row.val.mean, row))
    return points


def trade_offs(points: list[Point], better: int) -> list[Point]:
    """Return the points that no other one beats: cheaper and at least as good, or better and at most as dear.

    Args:
        points: cost, result and setting.
        better: 1 where larger results are better, else -1.

    Returns:
        The points by rising cost; their results get strictly better. Of equal points the first.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point[0], -better * point[1])):
        if not front or better * point[1] > better * front[-1][1]:
            front.append(point)
    return front


def _panel(table: Ranking, label: str, points: list[Point], front: list[Point]) -> str:
    joined = {id(row) for _, _, row in front}
    others = thinned([point for point in points if id(point[2]) not in joined], POINTS)

    def draw(axes: Axes) -> None:
        costs = [cost for cost, _, _ in points]
        if max(costs) > WIDE_COST * min(costs):
            plain_logarithm(axes, "x", min(costs), max(costs))
        axes.plot([cost for cost, _, _ in others], [value for _, value, _ in others], "o", color=GREY, markersize=3.4)
        x, y = [cost for cost, _, _ in front], [value for _, value, _ in front]
        axes.plot(x, y, marker="o", color=SERIES[0], linewidth=1.2, markersize=4.4)
        for number, (cost, value, _) in enumerate(front[:NUMBERED], 1):
            place = {"textcoords": "offset points", "xytext": (-4, 4), "fontsize": 7, "ha": "right", "color": INK}
            axes.annotate(str(number), (cost, value), **place)
        best = [(cost, value) for cost, value, row in points if row.best]
        style = {"markersize": 6.5, "markeredgecolor": PAPER, "markeredgewidth": 0.8, "zorder": 4}
        axes.plot([cost for cost, _ in best], [value for _, value in best], "D", color=SERIES[1], **style)
        axes.set(xlabel=label, ylabel=cut(table.monitor, 40))
        axes.margins(0.1)
        axes.grid()

    what = f"{table.monitor} over {label}, {counted(len(points), 'setting')}, {len(front)} best trade-offs"
    return render(f"cost-{label}", PANEL, draw, what)

"""Plots of a ranked sweep as inline SVG.

Figures are drawn without pyplot, so nothing global changes. Colours are written as CSS variables with a fallback, which
lets one picture serve light and dark pages; ids carry the figure's own prefix, so that several fit on one page. The
same runs give the same bytes. Text is never parsed as mathematics: a ``$`` in a value stays a ``$``.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from resweep.report.load import Confusion, RunRecord, load_curves
from resweep.report.stats import MIN_SEEDS, summarize
from resweep.report.table import Ranking, SettingRow, metric_values
from resweep.report.words import value_text

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

HIGHLIGHTED = 8
DOT_ROWS = 40
ZOOM_EPOCHS = 6
"""Epochs from which the second half is drawn once more, because the first epochs' rise flattens all that follows."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b8609a", "#c98500", "#3a9bd1", "#8a5a2b", "#6f6f7a")
"""Okabe and Ito's colour-blind-safe colours (2008), darkened where they are too pale on white."""

DASHES = ("", "5 2", "1.5 1.5", "6 1.5 1.5 1.5")
"""Stroke patterns that tell lines apart without colour, in turn."""

INK, SOFT, GREY, PAPER = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
SERIES = tuple(f"#0a0c0{index}" for index in range(HIGHLIGHTED))
VARIABLES = {
    INK: "var(--ink, #555)",
    SOFT: "var(--rule, #ddd)",
    GREY: "var(--faint, #aaa)",
    PAPER: "var(--paper, #fff)",
} | {mark: f"var(--s{index}, {PALETTE[index]})" for index, mark in enumerate(SERIES)}


@dataclass(frozen=True)
class Plot:
    """Pictures that share a caption and a legend.

    Args:
        svgs: one or more SVG elements.
        caption: what is drawn, as plain text.
        legend: label and series number of each line; the number is None for what is drawn in grey.
    """

    svgs: list[str]
    caption: str
    legend: list[tuple[str, int | None]] = field(default_factory=list)


def learning_curves(table: Ranking) -> Plot | None:
    """Return validation metric and losses over epochs, a line per setting; None without curves.

    A line is the mean over a setting's completed runs that reached the epoch, its band their smallest and largest.
    The best eight settings on validation have colours; further ones are thin and grey.
    """
    curves = [(row, [load_curves(run) for run in row.completed]) for row in table.rows]
    curves = [(row, [frame for frame in frames if len(frame)]) for row, frames in curves]
    curves = [(row, frames) for row, frames in curves if frames]
    if not curves:
        return None
    panels = [metric for metric in dict.fromkeys([table.monitor, "val/accuracy", "train/loss", "val/loss"])]
    svgs = [svg for metric in panels if (svg := _curve_panel(metric, curves)) is not None]
    last = max(int(frame["epoch"].max()) for _, frames in curves for frame in frames)
    if last >= ZOOM_EPOCHS and (late := _curve_panel(table.monitor, curves, first=last // 2)) is not None:
        svgs.insert(1, late)
    legend = [(table.setting(row), index) for index, (row, _) in enumerate(curves[:HIGHLIGHTED])]
    caption = "Mean over the completed runs of a setting; the band reaches from the smallest to the largest."
    if any(len({len(frame) for frame in frames}) > 1 for _, frames in curves):
        caption += " Where runs have different lengths, the mean is over those that reached the epoch."
    if len(curves) > HIGHLIGHTED:
        legend.append((f"{len(curves) - HIGHLIGHTED} further settings", None))
        caption += f" The best {HIGHLIGHTED} settings on validation are in colour, the others in grey."
    return Plot(svgs, caption, legend) if svgs else None


def dot_plot(table: Ranking) -> Plot | None:
    """Return the shown metric of every seed and setting, best on validation on top; None without a value."""
    metric = table.shown or table.monitor
    rows = [row for row in table.rows if metric_values(row.runs, metric)]
    if not rows:
        return None
    drawn = rows[:DOT_ROWS]

    def draw(axes: Axes) -> None:
        for index, row in enumerate(drawn):
            _dot_row(axes, index, row, metric)
            label = f"{cut(table.setting(row), 90)}{'  (best on validation)' if row.best else ''}"
            axes.annotate(label, (0, index - 0.24), xycoords=("axes fraction", "data"), fontsize=7, va="bottom")
        axes.set(ylim=(len(drawn) - 0.55, -0.95), yticks=[], xlabel=metric)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)

    svg = _render(f"dots-{metric}", (4.6, 0.65 + 0.38 * len(drawn)), draw, f"{metric} of every run, by setting")
    caption = (
        f"Small dots: single {table.unit}s. Diamond: mean. Line: 95 % t interval of the mean, from {MIN_SEEDS} on."
    )
    if len(rows) > len(drawn):
        caption += f" The best {len(drawn)} of {len(rows)} settings are drawn."
    return Plot([svg], caption)


def factor_effects(table: Ranking) -> Plot | None:
    """Return the monitored metric over each swept value, a line per optimizer if that is swept; None without a factor.

    Positive numbers that span two decades or more have a logarithmic axis, with zero at a separate place on the left.
    """
    runs = [run for row in table.rows for run in row.completed if run.metrics.get(table.monitor) is not None]
    split = _splitting_key(table, runs)
    values = _split_values(runs, split)
    svgs = []
    for number, key in enumerate(table.names):
        if key != split and len(_split_values(runs, key)) > 1:
            svgs.append(_effect_panel(table, runs, key, split, number))
    if not svgs:
        return None
    caption = f"Small dots: {table.monitor} of single completed runs. Line: their mean over all other swept values."
    absent = sum(len(row.runs) for row in table.rows) - len(runs)
    if absent:
        caption += f" Not drawn: {absent} run{'s' if absent > 1 else ''} that did not complete or have no such value."
    legend = [(f"{table.names[split]}={value}", index) for index, value in enumerate(values)] if split else []
    return Plot(svgs, caption, legend)


def heat_maps(table: Ranking) -> Plot | None:
    """Return the mean monitored metric over learning rate and weight decay; None unless both are swept.

    One picture per optimizer if that is swept too, all with the same colour scale.
    """
    runs = [run for row in table.rows for run in row.completed if run.metrics.get(table.monitor) is not None]
    lr, decay = (_levels(runs, key) for key in ("optimizer.lr", "optimizer.weight_decay"))
    if len(lr) < 2 or len(decay) < 2:
        return None
    split = _splitting_key(table, runs)
    svgs = []
    cells: dict[str, dict[tuple[str, str], float]] = {}
    for run in runs:
        group = f"{table.names[split]}={value_text(run.swept.get(split))}" if split else ""
        cell = tuple(value_text(run.swept.get(key)) for key in ("optimizer.weight_decay", "optimizer.lr"))
        cells.setdefault(group, {}).setdefault(cell, []).append(run.metrics[table.monitor])
    means = {
        group: {cell: sum(found) / len(found) for cell, found in part.items()} for group, part in sorted(cells.items())
    }
    limits = [limit([value for part in means.values() for value in part.values()]) for limit in (min, max)]
    for number, (group, part) in enumerate(means.items()):
        svgs.append(_heat_panel(part, lr, decay, limits, group, f"heat-{number}", table))
    return Plot(svgs, f"Mean {table.monitor} over completed runs and all other swept values. A dash: no completed run.")


def confusion_picture(confusion: Confusion) -> Plot:
    """Return a confusion matrix with many classes as a picture, rows scaled to shares of the true class."""
    import numpy

    counts = numpy.array(confusion.counts, dtype=float)
    shares = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        axes.imshow(shares, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xlabel="predicted class (number)", ylabel="true class (number)")

    svg = _render("confusion", (4.6, 4.4), draw, "share of each true class by predicted class")
    return Plot([svg], "Share of a true class by predicted class: dark is 0, bright is 1.")


def _curve_panel(
    metric: str, curves: list[tuple[SettingRow, list[pandas.DataFrame]]], first: int | None = None
) -> str | None:
    """One metric over epochs; ``first`` starts the picture at a later epoch."""
    import pandas

    lines = []
    for _, frames in curves:
        kept = [frame[frame["epoch"] >= (first or 0)] for frame in frames if metric in frame]
        columns = [frame.set_index("epoch")[metric].dropna() for frame in kept]
        lines.append(pandas.concat(columns, axis=1).sort_index() if columns else pandas.DataFrame())
    if not any(len(line) for line in lines):
        return None
    few = max(len(line) for line in lines) <= 3

    def draw(axes: Axes) -> None:
        for index, line in reversed(list(enumerate(lines))):
            if not len(line):
                continue
            coloured = index < HIGHLIGHTED
            style = _line_style(index) if coloured else {"color": GREY, "linewidth": 0.6}
            axes.plot(line.index, line.mean(axis=1), marker="o" if few else "", markersize=3, **style)
            if coloured and line.shape[1] > 1:
                band = (line.min(axis=1), line.max(axis=1))
                axes.fill_between(line.index, *band, color=SERIES[index], alpha=0.14, linewidth=0)
        axes.set(xlabel="epoch", title=metric if first is None else f"{metric} from epoch {first} on")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y")
        _log_if_wide(axes, [float(line.mean(axis=1).min()) for line in lines if len(line)], lines)

    return _render(f"curve-{metric}-{first or 0}", (3.5, 2.6), draw, f"{metric} over epochs, a line per setting")


def _log_if_wide(axes: Axes, smallest: list[float], lines: list[pandas.DataFrame]) -> None:
    """A logarithmic axis for positive values over more than two decades; a flat one would hide all but the largest."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    largest = max(float(line.max(axis=1).max()) for line in lines if len(line))
    lowest = min(float(line.min(axis=1).min()) for line in lines if len(line))
    if min(smallest) > 0 and lowest > 0 and largest / lowest > 100:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _dot_row(axes: Axes, index: int, row: SettingRow, metric: str) -> None:
    values = metric_values(row.runs, metric)
    summary = summarize(values)
    color = SERIES[index] if index < HIGHLIGHTED else GREY
    axes.axhline(index, color=SOFT, linewidth=0.6, zorder=0)
    if summary.n >= MIN_SEEDS:
        axes.plot([summary.low, summary.high], [index, index], color=color, linewidth=1.6, solid_capstyle="butt")
    axes.plot(values, [index + 0.17] * len(values), "o", color=color, markersize=3.2, alpha=0.75, markeredgewidth=0)
    style = {"markersize": 5.5, "markeredgecolor": PAPER, "markeredgewidth": 0.8, "zorder": 3}
    axes.plot([summary.mean], [index], "D", color=color, **style)


def _effect_panel(table: Ranking, runs: list[RunRecord], key: str, split: str | None, number: int) -> str:
    levels = _levels(runs, key)
    places, ticks, log = _places(levels)
    groups = _split_values(runs, split) if split else [""]

    def draw(axes: Axes) -> None:
        for index, group in enumerate(groups):
            found: dict[str, list[float]] = {}
            for run in runs:
                if not split or value_text(run.swept.get(split)) == group:
                    found.setdefault(value_text(run.swept.get(key)), []).append(run.metrics[table.monitor])
            _effect_line(axes, index, {places[level]: found[level] for level in levels if level in found}, len(groups))
        axes.set_xticks(list(places.values()), [cut(tick, 24) for tick in ticks])
        _fit_ticks(axes, ticks)
        axes.set(xlabel=key + (" (log scale)" if log else ""), ylabel=table.monitor)
        axes.margins(x=0.12)
        axes.grid(axis="y")
        if log and len(places) > 1 and float(levels[0]) == 0:
            middle = (places[levels[0]] + places[levels[1]]) / 2
            axes.text(middle, 0, "//", transform=axes.get_xaxis_transform(), ha="center", va="center", fontsize=8)

    return _render(f"effect-{number}", (3.5, 2.6), draw, f"{table.monitor} by {key}")


def _effect_line(axes: Axes, index: int, found: dict[float, list[float]], groups: int) -> None:
    """A group's dots, set a little apart from the other groups', and the line of their means."""
    places = sorted(found)
    gaps = [right - left for left, right in pairwise(places)] or [1.0]
    shift = (index - (groups - 1) / 2) * 0.06 * min(gaps)
    for place in places:
        values = found[place]
        style = {"color": SERIES[index], "markersize": 2.8, "alpha": 0.5, "markeredgewidth": 0}
        axes.plot([place + shift] * len(values), values, "o", **style)
    means = [sum(found[place]) / len(found[place]) for place in places]
    axes.plot([place + shift for place in places], means, marker="D", markersize=4, **_line_style(index))


def _heat_panel(
    means: dict[tuple[str, str], float],
    lr: list[str],
    decay: list[str],
    limits: list[float],
    title: str,
    name: str,
    table: Ranking,
) -> str:
    import numpy

    grid = numpy.array([[means.get((row, column), numpy.nan) for column in lr] for row in decay])
    spread = (limits[1] - limits[0]) or 1.0

    def draw(axes: Axes) -> None:
        axes.pcolormesh(numpy.ma.masked_invalid(grid), cmap="cividis", vmin=limits[0], vmax=limits[0] + spread)
        for (row, column), value in numpy.ndenumerate(grid):
            text = "-" if numpy.isnan(value) else f"{value:.4f}"
            light = not numpy.isnan(value) and (value - limits[0]) / spread < 0.5
            color = INK if numpy.isnan(value) else "#ffffff" if light else "#111111"
            size = 7 if len(lr) <= 5 else 5
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=color, fontsize=size)
        axes.set_xticks(numpy.arange(len(lr)) + 0.5, lr)
        axes.set_yticks(numpy.arange(len(decay)) + 0.5, decay)
        _fit_ticks(axes, lr)
        axes.set(xlabel="optimizer.lr", ylabel="optimizer.weight_decay", title=title)
        axes.tick_params(length=0)

    size = (3.5, 1.1 + 0.36 * len(decay))
    return _render(name, size, draw, f"mean {table.monitor} by learning rate and weight decay {title}")


def cut(text: str, length: int) -> str:
    """Return a text of at most a number of characters; the middle of a longer one gives way to an ellipsis."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}\u2026{text[-half:]}"


def _fit_ticks(axes: Axes, labels: list[str]) -> None:
    """Turn tick labels that would run into each other."""
    if sum(len(label) + 2 for label in labels) > 46:
        axes.tick_params(axis="x", rotation=40)
        for label in axes.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")


def _splitting_key(table: Ranking, runs: list[RunRecord]) -> str | None:
    """The swept choice whose values get a line each: the optimizer, else the first that is no number."""
    keys = [key for key in table.names if 1 < len(_split_values(runs, key)) <= HIGHLIGHTED]
    names = [key for key in keys if not _numeric(_split_values(runs, key))]
    others = len(table.names) > 1
    return ("optimizer" if "optimizer" in names else names[0]) if names and others else None


def _split_values(runs: list[RunRecord], key: str | None) -> list[str]:
    return list(dict.fromkeys(value_text(run.swept.get(key)) for run in runs)) if key is not None else []


def _levels(runs: list[RunRecord], key: str) -> list[str]:
    """A key's values as text, by size if all are numbers, else in plan order."""
    values = _split_values(runs, key)
    return sorted(values, key=float) if _numeric(values) else values


def _numeric(values: list[str]) -> bool:
    try:
        return all(abs(float(value)) < float("inf") for value in values)
    except ValueError:
        return False


def _places(levels: list[str]) -> tuple[dict[str, float], list[str], bool]:
    """Where values lie on the horizontal axis, their labels, and whether the axis is logarithmic."""
    import math

    if not _numeric(levels):
        return dict(zip(levels, map(float, range(len(levels))), strict=True)), levels, False
    numbers = [float(level) for level in levels]
    positive = [number for number in numbers if number > 0]
    if min(numbers) < 0 or len(positive) < 2 or positive[-1] / positive[0] < 100 * (1 - 1e-9):
        return dict(zip(levels, numbers, strict=True)), levels, False
    step = (math.log10(positive[-1]) - math.log10(positive[0])) / (len(positive) - 1)
    zero = math.log10(positive[0]) - step
    places = [math.log10(number) if number > 0 else zero for number in numbers]
    return dict(zip(levels, places, strict=True)), levels, True


def _line_style(index: int) -> dict[str, Any]:
    pattern = [float(part) for part in DASHES[index % len(DASHES)].split()]
    return {"color": SERIES[index], "linewidth": 1.4, "linestyle": (0, pattern) if pattern else "-"}


@contextmanager
def _style(salt: str) -> Iterator[None]:
    import matplotlib

    style: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt, "text.parse_math": False, "font.size": 8}
    style |= {"axes.titlesize": 8.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 8}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "axes.axisbelow": True}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK)
    style |= {"grid.color": SOFT, "grid.linewidth": 0.6, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5}
    style |= {"axes.formatter.useoffset": False, "axes.formatter.use_mathtext": False, "axes.unicode_minus": False}
    with matplotlib.rc_context(style):
        yield


def _render(name: str, size: tuple[float, float], draw: Callable[[Axes], None], description: str) -> str:
    """Draw on one pair of axes and return an SVG element whose ids begin with the figure's name."""
    from matplotlib.figure import Figure

    with _style(name):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        figure.patch.set_visible(False)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        out = io.StringIO()
        blank = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with warnings.catch_warnings():
            # Letters that are missing in matplotlib's font are drawn by the browser, which has fonts of its own.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(out, format="svg", metadata=blank)
    return _inline(out.getvalue(), re.sub(r"\W+", "-", name), description)


def _inline(svg: str, prefix: str, description: str) -> str:
    """Cut an SVG file down to its element, with ids of its own and colours from the page."""
    from html import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)

    def tag(match: re.Match[str]) -> str:
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", match.group())
        text = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--sans, sans-serif)", text)
        return re.sub(r"#0a0[bc]0\d", lambda mark: VARIABLES[mark.group()], text)

    svg = re.sub(r"<[^>]*>", tag, svg)
    head = re.match(r"<svg[^>]*>", svg).group()
    view = re.search(r'viewBox="[^"]*"', head).group()
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view} role="img"'
    return re.sub(r">\s+<", "><", f'{opening} aria-label="{escape(description)}">{svg[len(head) :]}').strip()

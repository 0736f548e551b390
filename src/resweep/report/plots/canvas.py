"""What all pictures share: colours, styles, and the way from matplotlib's axes to an SVG element of a page.

Figures are drawn without pyplot, so nothing global changes. Colours are written as CSS variables with a fallback, which
lets one picture serve light and dark pages; ids carry the figure's own prefix, so that several fit on one page. The
same runs give the same bytes. Text is never parsed as mathematics: a ``$`` in a value stays a ``$``.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIGHLIGHTED = 8
"""Lines that have a colour of their own; what is drawn beyond them is grey."""
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

MARGIN = 0.05
"""Free space around a picture in inches."""
LONG_PATH = 600
"""Letters from which the numbers of a path are shortened the most."""
DECADES = 150
"""Ratio of the ends of a logarithmic axis from which it has a tick per decade only."""
PANEL = (3.5, 2.6)
"""Width and height of one of several pictures side by side, in inches."""


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


def cut(text: str, length: int) -> str:
    """Return a text of at most a number of characters; the middle of a longer one gives way to an ellipsis."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}\u2026{text[-half:]}"


def thinned(items: Sequence[Any], limit: int) -> list[Any]:
    """Return at most a number of items, evenly spread, with the first and the last."""
    if len(items) <= limit:
        return list(items)
    return [items[round(place * (len(items) - 1) / (limit - 1))] for place in range(limit)]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an ``s`` unless the number is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def line_style(index: int) -> dict[str, Any]:
    """Return colour, width and stroke pattern of a series."""
    pattern = [float(part) for part in DASHES[index % len(DASHES)].split()]
    return {"color": SERIES[index], "linewidth": 1.4, "linestyle": (0, pattern) if pattern else "-"}


def fit_ticks(axes: Axes, labels: Sequence[str]) -> None:
    """Turn tick labels of the horizontal axis that would run into each other."""
    if sum(len(label) + 2 for label in labels) > 46:
        axes.tick_params(axis="x", rotation=40)
        for label in axes.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")


def draw_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Prepare axes for one row per label, the first on top at height 0, with its label above a thin line."""
    axes.hlines(range(len(labels)), 0, 1, color=SOFT, linewidth=0.6, zorder=0, transform=axes.get_yaxis_transform())
    for index, label in enumerate(labels):
        patch = {"facecolor": PAPER, "alpha": 0.75, "linewidth": 0, "pad": 0.4}
        where = {"xycoords": ("axes fraction", "data"), "fontsize": 7, "va": "bottom", "bbox": patch}
        axes.annotate(label, (0, index - 0.24), **where).set_in_layout(False)
    axes.set(ylim=(len(labels) - 0.55, -0.95), yticks=[])
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def draw_grey(axes: Axes, lines: Sequence[tuple[Any, Any]], **style: Any) -> None:
    """Draw lines, each given by its two coordinates, thin and grey as one path: quick, and short as SVG."""
    import numpy

    if lines:
        parts = [[part for x in coordinate for part in (x, [numpy.nan])] for coordinate in zip(*lines, strict=True)]
        x, y = (numpy.concatenate(part) for part in parts)
        axes.plot(x, y, color=GREY, linewidth=0.6, alpha=0.6, zorder=1.5, **style)


def key_of_marks(axes: Axes, marks: Mapping[str, tuple[str, int]]) -> None:
    """Write above the axes what each shape and series of marks stands for."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=mark, color=SERIES[series], linestyle="", markersize=4.6, label=cut(label, 40))
        for label, (mark, series) in marks.items()
    ]
    where = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": len(handles)}
    axes.legend(handles=handles, frameon=False, fontsize=7.5, borderaxespad=0.2, handletextpad=0.2, **where)


def key_of_lines(axes: Axes) -> None:
    """Write on the right of the axes what each labelled line stands for, if there are several."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        pairs = sorted(zip(handles, labels, strict=True), key=lambda pair: SERIES.index(pair[0].get_color()))
        where = {"loc": "upper left", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2, "frameon": False}
        axes.legend(*zip(*pairs, strict=True), fontsize=6.8, handlelength=2.2, labelspacing=0.3, **where)


def rows_size(rows: int) -> tuple[float, float]:
    """Return width and height in inches of axes with a number of rows."""
    return 4.6, 0.65 + 0.38 * rows


def plain_logarithm(axes: Axes, axis: str, low: float, high: float) -> None:
    """Give an axis a logarithmic scale whose ticks are plain numbers: 1, 2, 5, 10, or decades where it is long.

    Args:
        axes: where it is.
        axis: ``x`` or ``y``.
        low: smallest value drawn, positive.
        high: largest value drawn.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    getattr(axes, f"set_{axis}scale")("log")
    part = getattr(axes, f"{axis}axis")
    part.set_major_locator(LogLocator(subs=(1, 2, 5) if high < DECADES * low else (1,)))
    part.set_minor_locator(NullLocator())
    part.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def render(name: str, size: tuple[float, float], draw: Callable[[Axes], None], description: str) -> str:
    """Draw on one pair of axes and return an SVG element whose ids begin with the figure's name.

    Args:
        name: unique on the page.
        size: width and height in inches.
        draw: draws on the axes it is given.
        description: what a screen reader says; plain text, is escaped here.
    """
    from matplotlib.figure import Figure

    with _style(name), warnings.catch_warnings():
        # Letters that are missing in matplotlib's font are drawn by the browser, which has fonts of its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, dpi=72)
        draw(figure.add_subplot())
        _fit(figure)
        figure.patch.set_visible(False)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        out = io.StringIO()
        blank = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=blank)
    return _inline(out.getvalue(), re.sub(r"\W+", "-", name), description)


def _fit(figure: Figure) -> None:
    """Give the axes the whole figure but for what stands around them.

    One look at the labels is enough here and takes half the time of matplotlib's layouts, which draw everything twice.
    """
    axes = figure.axes[0]
    figure.subplots_adjust(left=0.14, right=0.96, bottom=0.17, top=0.9)
    inner, outer = axes.get_position(), figure.transFigure.inverted().transform_bbox(axes.get_tightbbox())
    across, up = (MARGIN / length for length in figure.get_size_inches())
    left, bottom = inner.x0 - outer.x0 + across, inner.y0 - outer.y0 + up
    right, top = outer.x1 - inner.x1 + across, outer.y1 - inner.y1 + up
    figure.subplots_adjust(left=left, bottom=bottom, right=max(1 - right, left + 0.1), top=max(1 - top, bottom + 0.1))


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


def _inline(svg: str, prefix: str, description: str) -> str:
    """Cut an SVG file down to its element, with ids of its own and colours from the page."""
    from html import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)

    def tag(match: re.Match[str]) -> str:
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", match.group())
        text = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--sans, sans-serif)", text)
        text = re.sub(r"#0a0[bc]0\d", lambda mark: VARIABLES[mark.group()], text)
        return re.sub(r'\b(?:d|x|y|transform)="[^"]*"', _short_numbers, text)

    svg = re.sub(r">\s+<", "><", re.sub(r"<[^>]*>", tag, svg)).strip()
    svg = re.sub(r'(?:<use [^>]* style="[^"]*"/>){2,}', _one_style, svg)
    head = re.match(r"<svg[^>]*>", svg).group()
    view = re.search(r'viewBox="[^"]*"', head).group()
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view} role="img"'
    return f'{opening} aria-label="{escape(description)}">{svg[len(head) :]}'


def _one_style(uses: re.Match[str]) -> str:
    """Equal markers in a row, with their style written once."""
    styles = re.findall(r' style="[^"]*"', uses.group())
    if len(set(styles)) > 1:
        return uses.group()
    return f"<g{styles[0]}>{uses.group().replace(styles[0], '')}</g>"


def _short_numbers(attribute: re.Match[str]) -> str:
    """Two digits after the point, one in long paths: a tenth of a typographic point is below what a screen shows."""
    digits = 1 if len(attribute.group()) > LONG_PATH else 2
    short = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number.group()):.{digits}f}", attribute.group())
    return re.sub(r"\s+", " ", short)

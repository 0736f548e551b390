"""Learning curves: metrics over epochs and over seconds, a line per setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resweep.report.plots.canvas import (
    HIGHLIGHTED,
    PANEL,
    SERIES,
    Plot,
    counted,
    draw_grey,
    line_style,
    plain_logarithm,
    render,
    thinned,
)
from resweep.report.table import Ranking, SettingRow

if TYPE_CHECKING:
    import numpy
    import pandas
    from matplotlib.axes import Axes

ZOOM_EPOCHS = 6
"""Epochs from which the second half is drawn once more, because the first epochs' rise flattens all that follows."""
CUT_OFF = 10
"""How many times the largest value in colour grey lines may reach before they are cut off there."""
GREY_LINES = 60
"""Settings that are drawn in grey beside those in colour; of more, that many evenly spread over the ranks."""
POINTS, GREY_POINTS = 150, 40
"""Points of a line; of more epochs, that many evenly spread."""


@dataclass(frozen=True)
class Bundle:
    """The curves of a setting's runs, on the same epochs.

    Args:
        epochs: E epochs that at least one run reached, ascending.
        seconds: E mean training times since the start, summed over epochs; NaN where none was recorded.
        values: R x E values of one metric, NaN where a run has none.
    """

    epochs: numpy.ndarray
    seconds: numpy.ndarray
    values: numpy.ndarray


@dataclass(frozen=True)
class _Panel:
    """A picture, and whether lines reach beyond its upper end."""

    svg: str
    cut: bool


def run_curves(table: Ranking) -> Mapping[str, pandas.DataFrame]:
    """Return the curves of the sweep's runs by folder; runs without curves are left out."""
    return table.sweep.curves


def curves_of(table: Ranking) -> list[tuple[SettingRow, list[pandas.DataFrame]]]:
    """Return settings with the curves of their completed runs; runs and settings without curves are left out."""
    read = run_curves(table)
    kept = [(row, [read[run.folder] for run in row.completed if len(read.get(run.folder, ()))]) for row in table.rows]
    return [(row, frames) for row, frames in kept if frames]


def learning_curves(table: Ranking) -> Plot | None:
    """Return metrics and losses over epochs and over seconds, a line per setting; None without curves.

    A line is the mean over a setting's completed runs that reached the epoch, its band their smallest and largest.
    The best eight settings on validation have colours; further ones are thin and grey.
    """
    curves = curves_of(table)
    if not curves:
        return None
    coloured, further = curves[:HIGHLIGHTED], curves[HIGHLIGHTED:]
    drawn = [*coloured, *thinned(further, GREY_LINES)]
    last = max(int(frame["epoch"].max()) for _, frames in drawn for frame in frames)
    wanted = [(table.monitor, 0, "epoch")]
    wanted += [(table.monitor, last // 2, "epoch")] if last >= ZOOM_EPOCHS else []
    wanted += [(metric, 0, "epoch") for metric in ("val/accuracy", "train/loss", "val/loss")]
    wanted += [(metric, 0, "seconds") for metric in (table.monitor, "val/loss")]
    panels = [_panel(drawn, *what) for what in dict.fromkeys(wanted)]
    svgs = [panel.svg for panel in panels if panel is not None]
    caption = _caption(curves, table)
    if any(panel.cut for panel in panels if panel is not None):
        caption += f" Axes end at the largest value in colour where grey lines exceed it {CUT_OFF} times."
    legend = [(table.setting(row), index) for index, (row, _) in enumerate(coloured)]
    if further:
        legend.append((f"{len(further)} further settings", None))
    return Plot(svgs, caption, legend) if svgs else None


def _caption(curves: list[tuple[SettingRow, list[pandas.DataFrame]]], table: Ranking) -> str:
    further = len(curves) - HIGHLIGHTED
    caption = (
        "Mean over the completed runs of a setting; the band reaches from the smallest to the largest. Over seconds, "
        "an epoch stands at the mean training time since the start."
    )
    if any(len({len(frame) for frame in frames}) > 1 for _, frames in curves):
        caption += " Where runs have different lengths, the mean is over those that reached the epoch."
    if further > 0:
        caption += f" The best {HIGHLIGHTED} settings on validation are in colour, the others in grey."
    if further > GREY_LINES:
        caption += f" Of the others, {GREY_LINES} evenly spread over the ranks are drawn."
    longest = max(len(frame) for _, frames in curves for frame in frames)
    if longest > POINTS:
        caption += f" Of {longest} epochs, {POINTS} are drawn."
    absent = sum(len(row.runs) for row in table.rows) - sum(len(frames) for _, frames in curves)
    if absent:
        caption += f" Not drawn: {counted(absent, 'run')} that did not complete or left no curve."
    return caption


def _panel(
    curves: list[tuple[SettingRow, list[pandas.DataFrame]]], metric: str, first: int, over: str
) -> _Panel | None:
    """One metric over epochs or seconds; ``first`` starts the picture at a later epoch."""
    import numpy

    bundles = [bundle(frames, metric, first) for _, frames in curves]
    found = [one for one in bundles if one is not None and (over == "epoch" or not numpy.isnan(one.seconds).all())]
    if not found:
        return None
    top = _top(bundles)

    def draw(axes: Axes) -> None:
        draw_grey(axes, [_line(one, over, GREY_POINTS)[:2] for one in bundles[HIGHLIGHTED:] if one is not None])
        for index, one in reversed(list(enumerate(bundles[:HIGHLIGHTED]))):
            if one is not None:
                _draw_bundle(axes, index, one, over)
        title = metric if not first else f"{metric} from epoch {first} on"
        axes.set(xlabel="epoch" if over == "epoch" else "training time in seconds", title=title)
        if over == "epoch":
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y")
        _scale(axes, found, top)

    name = f"curve-{metric}-{first}" if over == "epoch" else f"curve-{metric}-{over}"
    what = "epochs" if over == "epoch" else "training time"
    svg = render(name, PANEL, draw, f"{metric} over {what}, a line per setting, {len(found)} lines")
    return _Panel(svg, top is not None)


def bundle(frames: list[pandas.DataFrame], metric: str, first: int = 0) -> Bundle | None:
    """Return the curves of several runs on common epochs, from an epoch on; None without a value."""
    import numpy

    frames = [frame for frame in frames if metric in frame]
    if not frames:
        return None
    epochs = numpy.unique(numpy.concatenate([frame["epoch"].to_numpy() for frame in frames]))
    values = numpy.full((2, len(frames), len(epochs)), numpy.nan)
    for number, frame in enumerate(frames):
        where = numpy.searchsorted(epochs, frame["epoch"].to_numpy())
        values[0, number, where] = frame[metric].to_numpy(dtype=float)
        if "seconds" in frame:
            values[1, number, where] = _elapsed(frame)
    kept = (epochs >= first) & ~numpy.isnan(values[0]).all(axis=0)
    if not kept.any():
        return None
    return Bundle(epochs[kept], column_means(values[1][:, kept]), values[0][:, kept])


def _elapsed(frame: pandas.DataFrame) -> numpy.ndarray:
    """Training time to the end of each epoch; NaN from the first epoch on whose time is not known."""
    import numpy

    seconds = frame["seconds"].to_numpy(dtype=float)
    whole = frame["epoch"].to_numpy() == numpy.arange(1, len(frame) + 1)
    return numpy.where(whole, seconds, numpy.nan).cumsum()


def column_means(values: numpy.ndarray) -> numpy.ndarray:
    """Return the mean of each column of an R x E table over what is not NaN; NaN for a column without a number."""
    import numpy

    there = ~numpy.isnan(values)
    number = there.sum(axis=0)
    total = numpy.where(there, values, 0.0).sum(axis=0)
    return numpy.divide(total, number, out=numpy.full(len(number), numpy.nan), where=number > 0)


def _line(one: Bundle, over: str, points: int) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Places across and means of a line with at most a number of points, and the epochs they belong to, as indices."""
    import numpy

    across = one.epochs if over == "epoch" else one.seconds
    where = numpy.array(thinned(numpy.flatnonzero(~numpy.isnan(across)), points), dtype=int)
    return across[where], column_means(one.values)[where], where


def _draw_bundle(axes: Axes, index: int, one: Bundle, over: str) -> None:
    import numpy

    across, means, where = _line(one, over, POINTS)
    axes.plot(across, means, marker="o" if len(where) <= 3 else "", markersize=3, **line_style(index))
    if len(one.values) > 1 and len(where):
        low, high = numpy.nanmin(one.values[:, where], axis=0), numpy.nanmax(one.values[:, where], axis=0)
        axes.fill_between(across, low, high, color=SERIES[index], alpha=0.14, linewidth=0)


def _top(bundles: list[Bundle | None]) -> float | None:
    """The largest value in colour, where grey lines exceed it so much that they would hide all below; else None."""
    import numpy

    highest = [0.0 if one is None else float(numpy.nanmax(one.values)) for one in bundles]
    coloured = max(highest[:HIGHLIGHTED])
    return coloured if max(highest) > CUT_OFF * coloured > 0 else None


def _scale(axes: Axes, bundles: list[Bundle], top: float | None) -> None:
    """A logarithmic axis for positive values over more than two decades; a flat one would hide all but the largest."""
    import numpy

    lowest = min(float(numpy.nanmin(one.values)) for one in bundles)
    largest = top if top is not None else max(float(numpy.nanmax(one.values)) for one in bundles)
    if lowest > 0 and largest / lowest > 100:
        plain_logarithm(axes, "y", lowest, largest)
    if top is not None:
        log = axes.get_yscale() == "log"
        axes.set_ylim(lowest / 1.2 if log else lowest - 0.05 * (top - lowest), 1.1 * top)

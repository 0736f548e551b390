"""Inside the chosen settings: confusions, calibration, and the sizes of the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resweep.report.load import Confusion, load_calibration, load_weights
from resweep.report.plots.canvas import (
    GREY,
    INK,
    PANEL,
    SERIES,
    SOFT,
    Plot,
    counted,
    cut,
    fit_ticks,
    key_of_lines,
    line_style,
    plain_logarithm,
    render,
)
from resweep.report.plots.scales import splitting_key
from resweep.report.selection import axis_results
from resweep.report.table import Ranking, SettingRow
from resweep.report.words import value_text

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

MARKS = ("o", "D", "s", "^", "v", "P")
"""Shapes that tell settings apart without colour, in turn."""
KEYED_PANEL = (4.7, PANEL[1])
"""Width and height of a panel with a key beside it, in inches."""
CHOICES = 6
"""Settings that are looked into: the best one, and the best one of the other choices."""


@dataclass(frozen=True)
class Chosen:
    """A setting that is looked into.

    Args:
        title: its choice, or the beginning of its text.
        row: the setting.
    """

    title: str
    row: SettingRow


def chosen_settings(table: Ranking) -> list[Chosen]:
    """Return the best setting and, for each other optimizer (or other named choice), the best setting that has it.

    Without a named choice, and where only one was completed, the next settings in the ranking. All are chosen on
    validation.

    Returns:
        At most six settings, the best first.
    """
    if table.best is None:
        return []
    runs = [run for row in table.rows for run in row.completed]
    key = splitting_key(table, runs)
    rows = [row for row in table.rows if row.completed and row.val.n]
    if key is not None:
        result = next(result for result in axis_results(table) if result.key == key)
        chosen = [choice.row for choice in result.choices if choice.row is not None and choice.row is not table.best]
        rows = [table.best, *chosen] if chosen else rows
        if chosen:
            name = table.names[key]
            return [Chosen(cut(f"{name}={value_text(row.values.get(key))}", 44), row) for row in rows[:CHOICES]]
    return [Chosen(cut(table.setting(row), 44), row) for row in rows[:CHOICES]]


def confusion_picture(confusion: Confusion) -> Plot:
    """Return a confusion matrix with many classes as a picture, rows scaled to shares of the true class."""
    import numpy

    counts = numpy.array(confusion.counts, dtype=float)
    shares = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        axes.imshow(shares, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xlabel="predicted class (number)", ylabel="true class (number)")

    svg = render("confusion", (4.6, 4.4), draw, "share of each true class by predicted class")
    return Plot([svg], "Share of a true class by predicted class: dark is 0, bright is 1.")


def calibration_plot(table: Ranking) -> Plot | None:
    """Return how often predictions were right over how sure they were; None when no chosen setting has the data.

    A picture for the best setting and for the best one of each other choice, see :func:`chosen_settings`.
    """
    svgs = []
    drawn = []
    for number, chosen in enumerate(chosen_settings(table)):
        frames = [frame for run in chosen.row.completed if (frame := load_calibration(run)) is not None]
        frames = [frame for frame in frames if frame["count"].sum() > 0]
        if frames:
            svgs.append(_calibration_panel(number, chosen.title, frames))
            drawn.append(table.setting(chosen.row))
    if not svgs:
        return None
    caption = (
        "Test predictions by confidence. Line: share that was right in each bin, all completed runs together; on the "
        "diagonal a net is as often right as it says, below it is too sure. Bars: share of the predictions. "
        "The expected calibration error is the mean distance from the diagonal, weighted by predictions, averaged over "
        "runs."
    )
    return Plot(svgs, caption + _settings(table, drawn))


def _settings(table: Ranking, drawn: list[str]) -> str:
    """The sentence of a caption that names the settings; empty where there is only one."""
    return f" Settings: {'; '.join(drawn)}." if table.names else ""


def calibration_error(frame: pandas.DataFrame) -> float:
    """Return the expected calibration error: the mean of |accuracy - confidence| over the predictions of all bins.

    Args:
        frame: one run's bins, as of :func:`resweep.report.load.load_calibration`.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    filled = frame[frame["count"] > 0]
    gaps = (filled["accuracy"] - filled["confidence"]).abs()
    return float((gaps * filled["count"]).sum() / filled["count"].sum())


def pooled_bins(frames: list[pandas.DataFrame]) -> pandas.DataFrame:
    """Return the bins of several runs as one: counts added, confidence and accuracy weighted by count.

    Args:
        frames: bins of each run; those with the same ends are joined.

    Returns:
        Filled bins only, by their lower end, with the columns of the frames.
    """
    import pandas

    joined = pandas.concat([frame[frame["count"] > 0] for frame in frames])
    for name in ("confidence", "accuracy"):
        joined[name] = joined[name] * joined["count"]
    sums = joined.groupby(["lower", "upper"], as_index=False)[["count", "confidence", "accuracy"]].sum()
    for name in ("confidence", "accuracy"):
        sums[name] = sums[name] / sums["count"]
    return sums


def _calibration_panel(number: int, label: str, frames: list[pandas.DataFrame]) -> str:
    bins = pooled_bins(frames)
    error = sum(map(calibration_error, frames)) / len(frames)
    share = bins["count"] / bins["count"].sum()

    def draw(axes: Axes) -> None:
        axes.bar(bins["lower"], share, width=bins["upper"] - bins["lower"], align="edge", color=GREY, alpha=0.45)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
        axes.plot(bins["confidence"], bins["accuracy"], marker="o", markersize=4, **line_style(0))
        axes.text(0, 1.02, f"calibration error {error:.4f}", fontsize=7.5, transform=axes.transAxes)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="share right")
        axes.set_title(label, pad=14)
        axes.grid(color=SOFT)

    what = f"share right over confidence of {label}, expected calibration error {error:.4f}"
    return render(f"calibration-{number}", PANEL, draw, what)


def weight_norms_plot(table: Ranking) -> Plot | None:
    """Return the sizes of the tested nets' weights, a kind of mark per chosen setting; None without data.

    The norm of all weights together, a mark per run; and over the parameter tensors in the net's order the root mean
    square of the weights. Settings whose nets have other tensors than the best one's are in the first picture only.
    """
    found, drawn = [], []
    for chosen in chosen_settings(table):
        frames = [frame for run in chosen.row.completed if (frame := load_weights(run)) is not None and len(frame)]
        if frames:
            found.append((chosen.title, frames))
            drawn.append(table.setting(chosen.row))
    if not found:
        return None
    names = list(found[0][1][0]["name"])
    alike = [
        (index, [frame for frame in frames if list(frame["name"]) == names]) for index, (_, frames) in enumerate(found)
    ]
    alike = [(index, frames) for index, frames in alike if frames]
    svgs = [_total_panel(found)]
    caption = "All weights: Euclidean norm of the tested net, a mark per completed run, the bar their mean."
    if len(names) > 1:
        svgs.append(_tensor_panel(names, alike, [title for title, _ in found]))
        caption += " Each parameter tensor: root mean square, in the net's order, mean over runs."
    if len(alike) < len(found) and len(names) > 1:
        other = counted(len(found) - len(alike), "setting")
        caption += f" {other} with other tensors than the best: in the picture of all weights only."
    return Plot(svgs, caption + _settings(table, drawn))


def total_norm(frame: pandas.DataFrame) -> float:
    """Return the Euclidean norm of all tensors of a net together: the root of the sum of squared norms."""
    return math.sqrt(float((frame["norm"] ** 2).sum()))


def _total_panel(found: list[tuple[str, list[pandas.DataFrame]]]) -> str:
    def draw(axes: Axes) -> None:
        for index, (_, frames) in enumerate(found):
            norms = [total_norm(frame) for frame in frames]
            style = {"color": SERIES[index], "markersize": 4.2, "alpha": 0.75, "markeredgewidth": 0}
            axes.plot([index] * len(norms), norms, MARKS[index], **style)
            axes.plot([index - 0.22, index + 0.22], [sum(norms) / len(norms)] * 2, color=SERIES[index], linewidth=1.8)
        axes.set(xlim=(-0.6, len(found) - 0.4), ylabel="norm of all weights", title="all weights")
        texts = [cut(title, 24) for title, _ in found]
        axes.set_xticks(range(len(texts)), texts)
        fit_ticks(axes, texts)
        axes.grid(axis="y")

    return render("norms-all", PANEL, draw, f"norm of all weights, {counted(len(found), 'setting')}")


def _tensor_panel(names: list[str], alike: list[tuple[int, list[pandas.DataFrame]]], titles: list[str]) -> str:
    import numpy

    def draw(axes: Axes) -> None:
        for index, frames in reversed(alike):
            sizes = [(frame["norm"] / numpy.sqrt(frame["count"])).to_numpy() for frame in frames]
            style = {"color": SERIES[index], "markersize": 4, "alpha": 0.85, "markeredgewidth": 0}
            label = cut(titles[index], 24)
            axes.plot(range(1, len(names) + 1), numpy.mean(sizes, axis=0), MARKS[index], label=label, **style)
        drawn = [value for line in axes.lines for value in line.get_ydata()]
        if min(drawn) > 0:
            plain_logarithm(axes, "y", min(drawn), max(drawn))
        axes.set(xlabel="parameter tensor, first to last", ylabel="root mean square", title="each parameter tensor")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y")
        key_of_lines(axes)

    what = f"root mean square of {len(names)} parameter tensors, {counted(len(alike), 'setting')}"
    return render("norms-each", KEYED_PANEL if len(alike) > 1 else PANEL, draw, what)

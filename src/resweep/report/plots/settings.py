"""Every setting in a row of its own: the shown metric of every run, and training against validation and test."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from resweep.report.plots.canvas import (
    GREY,
    HIGHLIGHTED,
    PAPER,
    SERIES,
    Plot,
    counted,
    cut,
    draw_rows,
    key_of_marks,
    plain_logarithm,
    render,
    rows_size,
    thinned,
)
from resweep.report.plots.curves import run_curves
from resweep.report.stats import MIN_SEEDS, summarize
from resweep.report.table import Ranking, SettingRow, metric_values

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from resweep.report.load import RunRecord

ROWS, FEWER_ROWS = 40, 20
"""Settings that are drawn, best first, in the picture of all runs and in others with a row for each."""
ROW_LETTERS = 78
"""Letters that fit above a row."""
ROW_DOTS = 100
"""Dots of a row; of more runs, that many evenly spread over the sorted values."""
MARKS = {"train": ("o", 0), "val": ("D", 1), "test": ("s", 2)}
"""Shape and series of each part of the data."""
APART = {"train": -0.13, "val": 0.0, "test": 0.13}
"""How far each part lies below the middle of its row, so that no mark hides another."""


def row_label(table: Ranking, row: SettingRow) -> str:
    """Return a setting's text, with the number of completed runs where some broke, and a word on the best."""
    words = [f"({len(row.completed)} of {len(row.runs)} runs completed)"] if row.broken else []
    words += ["(best on validation)"] if row.best else []
    end = "".join(f"  {word}" for word in words)
    return cut(table.setting(row), ROW_LETTERS - len(end)) + end


def fewer_rows(number: int, rows: int) -> str:
    """Return the sentence of a caption that says that of a number of settings so many rows are drawn, empty for all."""
    return f" The best {rows} of {number:,} settings are drawn." if number > rows else ""


def dot_plot(table: Ranking) -> Plot | None:
    """Return the shown metric of every seed and setting, best on validation on top; None without a value."""
    metric = table.shown or table.monitor
    rows = [row for row in table.rows if metric_values(row.runs, metric)]
    if not rows:
        return None
    drawn = rows[:ROWS]

    def draw(axes: Axes) -> None:
        draw_rows(axes, [row_label(table, row) for row in drawn])
        for index, row in enumerate(drawn):
            _dot_row(axes, index, row, metric)
        axes.set_xlabel(metric)

    what = f"{metric} of every run, by setting, {counted(len(drawn), 'setting')}"
    svg = render(f"dots-{metric}", rows_size(len(drawn)), draw, what)
    caption = (
        f"Small dots: single {table.unit}s. Diamond: mean. Line: 95 % t interval of the mean, from {MIN_SEEDS} on."
    )
    caption += fewer_rows(len(rows), ROWS)
    if any(len(row.completed) > ROW_DOTS for row in drawn):
        caption += f" Of more than {ROW_DOTS} dots of a setting, {ROW_DOTS} evenly spread ones are drawn."
    without = len(table.rows) - len(rows)
    if without:
        caption += f" Not drawn: {counted(without, 'setting')} without a completed run that has {metric}."
    return Plot([svg], caption)


def _dot_row(axes: Axes, index: int, row: SettingRow, metric: str) -> None:
    values = metric_values(row.runs, metric)
    summary = summarize(values)
    color = SERIES[index] if index < HIGHLIGHTED else GREY
    if summary.n >= MIN_SEEDS:
        axes.plot([summary.low, summary.high], [index, index], color=color, linewidth=1.6, solid_capstyle="butt")
    dots = thinned(sorted(values), ROW_DOTS)
    axes.plot(dots, [index + 0.17] * len(dots), "o", color=color, markersize=3.2, alpha=0.75, markeredgewidth=0)
    style = {"markersize": 5.5, "markeredgecolor": PAPER, "markeredgewidth": 0.8, "zorder": 3}
    axes.plot([summary.mean], [index], "D", color=color, **style)


def gap_plot(table: Ranking) -> Plot | None:
    """Return what each setting reached on training, validation and test images; None without training curves.

    Training and validation are read at the epoch of each run's checkpoint, the monitored metric first, then the loss.
    """
    rows = [row for row in table.rows if row.completed]
    read = run_curves(table)
    svgs = []
    for name in dict.fromkeys([table.monitor.split("/", 1)[-1], "accuracy", "loss"]):
        found = [(row, parts) for row in rows[:FEWER_ROWS] if "train" in (parts := _parts(row, name, read))]
        if found:
            svgs.append(_gap_panel(table, name, found))
    if not svgs:
        return None
    caption = (
        f"Means over a setting's completed {table.unit}s: training and validation at the epoch of the checkpoint, test "
        "with the checkpoint. Training figures are taken while the epoch trains, on augmented images and with "
        "dropout where those are on, so they may be worse than validation. The line is the generalization gap."
    )
    return Plot(svgs, caption + fewer_rows(len(rows), FEWER_ROWS))


def _parts(row: SettingRow, name: str, read: dict[str, pandas.DataFrame]) -> dict[str, float]:
    """Mean of a metric on each part of the data over the runs that have it."""
    parts: dict[str, list[float]] = {part: [] for part in MARKS}
    for run in row.completed:
        at_best = _at_checkpoint(run, read.get(run.folder))
        for part in ("train", "val"):
            if (value := at_best.get(f"{part}/{name}")) is not None:
                parts[part].append(value)
        if (value := run.metrics.get(f"test/{name}")) is not None:
            parts["test"].append(value)
    return {part: statistics.fmean(values) for part, values in parts.items() if values}


def _at_checkpoint(run: RunRecord, frame: pandas.DataFrame | None) -> dict[str, float]:
    """The line of a run's best epoch, without what is no number; nothing when it has no such line."""
    if frame is None or run.best_epoch is None:
        return {}
    line = frame[frame["epoch"] == run.best_epoch]
    return line.iloc[0].dropna().to_dict() if len(line) else {}


def _gap_panel(table: Ranking, name: str, found: list[tuple[SettingRow, dict[str, float]]]) -> str:
    def draw(axes: Axes) -> None:
        draw_rows(axes, [row_label(table, row) for row, _ in found])
        ends = [(min(parts.values()), max(parts.values())) for _, parts in found]
        axes.hlines(range(len(found)), *zip(*ends, strict=True), color=GREY, linewidth=1.4)
        for part, (mark, series) in MARKS.items():
            spots = [(parts[part], index + APART[part]) for index, (_, parts) in enumerate(found) if part in parts]
            style = {"markersize": 4.6, "markeredgecolor": PAPER, "markeredgewidth": 0.6, "zorder": 3}
            axes.plot(*(zip(*spots, strict=True) if spots else ([], [])), mark, color=SERIES[series], **style)
        lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)
        if highest > 100 * lowest > 0:
            plain_logarithm(axes, "x", lowest, highest)
        axes.set_xlabel(name)
        key_of_marks(axes, {part: MARKS[part] for part in MARKS if any(part in parts for _, parts in found)})

    width, height = rows_size(len(found))
    what = f"{name} on training, validation and test images, by setting, {counted(len(found), 'setting')}"
    return render(f"gap-{name}", (width, height + 0.25), draw, what)

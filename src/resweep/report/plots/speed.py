"""How soon settings get somewhere: time to a target, performance profiles, best result so far over seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from resweep.report.anytime import (
    AnytimeCurve,
    RunTime,
    SettingTime,
    TimeToTarget,
    anytime_profile,
    performance_profile,
    time_to_target,
)
from resweep.report.plots.canvas import (
    GREY,
    HIGHLIGHTED,
    PAPER,
    SERIES,
    Plot,
    counted,
    draw_grey,
    draw_rows,
    line_style,
    plain_logarithm,
    render,
    rows_size,
    thinned,
)
from resweep.report.plots.curves import GREY_LINES, GREY_POINTS
from resweep.report.plots.settings import FEWER_ROWS, ROW_DOTS, fewer_rows, row_label
from resweep.report.table import Ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE_TIME = 20
"""Ratio of the longest to the shortest time from which the axis is logarithmic."""


def time_to_target_plot(table: Ranking) -> Plot | None:
    """Return when each run first reached a target of the monitored metric, by setting; None without curves.

    None for a single run, too: the target would be its own best value, which says nothing about speed.
    One picture over seconds where they are known, one over epochs. Runs that never did are crosses at the right edge.
    """
    times = time_to_target(table)
    if times is None or times.runs < 2:
        return None
    drawn = times.settings[:FEWER_ROWS]
    svgs = [svg for by in ("seconds", "epoch") if (svg := _target_panel(table, times, drawn, by)) is not None]
    if not svgs:
        return None
    sign = "at least" if times.mode == "max" else "at most"
    rule = (
        "" if times.given else ", which three quarters of the completed runs of the better half of the settings reach"
    )
    caption = (
        f"First time at which a run has {times.metric} of {sign} {times.target:.4g}{rule}. Small dots: single runs. "
        f"Diamond: their median, where at least half of the runs got there. Cross at the right edge: runs that never "
        f"did, {times.runs - times.reached} of {times.runs}; those that failed, diverged or were lost are among them."
    )
    if unknown := sum(setting.unknown for setting in times.settings):
        caption += f" Not drawn: {counted(unknown, 'run')} without a curve."
    return Plot(svgs, caption + fewer_rows(len(times.settings), FEWER_ROWS))


def _target_panel(table: Ranking, times: TimeToTarget, drawn: list[SettingTime], by: str) -> str | None:
    found = [value for setting in drawn for run in setting.runs if (value := _time(run, by)) is not None]
    if not found:
        return None

    def draw(axes: Axes) -> None:
        draw_rows(axes, [row_label(table, setting.row) for setting in drawn])
        if by == "seconds" and max(found) > WIDE_TIME * min(found) > 0:
            plain_logarithm(axes, "x", min(found), max(found))
        for index, setting in enumerate(drawn):
            _target_row(axes, index, setting, by)
        axes.margins(x=0.12)
        if axes.get_xscale() == "linear":
            axes.set_xlim(0, 1.14 * max(found))
        if by == "epoch":
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("wall time in seconds" if by == "seconds" else "epoch")

    what = f"{by} until {times.metric} reaches {times.target:.4g}, by setting, {counted(len(drawn), 'setting')}"
    return render(f"target-{by}", rows_size(len(drawn)), draw, what)


def _time(run: RunTime, by: str) -> float | None:
    return run.seconds if by == "seconds" else run.epoch


def _target_row(axes: Axes, index: int, setting: SettingTime, by: str) -> None:
    color = SERIES[index] if index < HIGHLIGHTED else GREY
    dots = thinned(sorted(value for run in setting.runs if (value := _time(run, by)) is not None), ROW_DOTS)
    if dots:
        axes.plot(dots, [index + 0.17] * len(dots), "o", color=color, markersize=3.2, alpha=0.75, markeredgewidth=0)
    median = setting.seconds if by == "seconds" else setting.epochs
    if median is not None:
        style = {"markersize": 5.5, "markeredgecolor": PAPER, "markeredgewidth": 0.8, "zorder": 3}
        axes.plot([median], [index], "D", color=color, **style)
    if setting.never:
        edge = axes.get_yaxis_transform()
        axes.plot([0.985], [index + 0.17], "x", color=color, markersize=4, markeredgewidth=1.2, transform=edge)
        axes.text(0.965, index + 0.17, f"{setting.never}", transform=edge, fontsize=6.5, ha="right", va="center")


def profile_plot(table: Ranking) -> Plot | None:
    """Return the share of each setting's runs that are at most tau times slower than the fastest; None without times.

    Over seconds where they are known, else over epochs (Dolan and Moré 2002).
    """
    profile = performance_profile(table)
    if profile is None or not profile.curves or profile.unsolved == profile.problems:
        profile = performance_profile(table, by="epochs")
    if profile is None or len(profile.curves) < 2 or profile.unsolved == profile.problems:
        return None
    curves = _drawn(profile.curves)
    end = 1.1 * max(2.0, *(curve.ratios[-1] for curve in curves))

    def draw(axes: Axes) -> None:
        plain_logarithm(axes, "x", 1, end)
        lines = [([*curve.ratios, end], [*curve.shares, curve.shares[-1]]) for curve in curves]
        draw_grey(axes, lines[HIGHLIGHTED:], drawstyle="steps-post")
        for index, line in reversed(list(enumerate(lines[:HIGHLIGHTED]))):
            axes.plot(*line, drawstyle="steps-post", **line_style(index))
        axes.set(xlim=(0.97, end), ylim=(-0.03, 1.05), ylabel="share of runs")
        axes.set_xlabel(f"at most this many times the fastest setting's {profile.by}")
        _plain_ratios(axes, end)
        axes.grid(axis="y")

    what = f"share of runs over the ratio to the fastest setting, a line per setting, {len(curves)} lines"
    caption = (
        f"Time until {profile.metric} reaches {profile.target:.4g}, in {profile.by}, as a multiple of the fastest "
        f"setting's with the same {table.unit}. High on the left: often the fastest. High on the right: gets there."
    )
    if profile.unsolved:
        caption += f" {profile.unsolved} of {counted(profile.problems, table.unit)} were solved by no setting."
    if profile.left_out:
        caption += f" Left out: {counted(profile.left_out, 'run')} without a known time."
    svg = render("profile", (4.6, 3.0), draw, what)
    return Plot([svg], caption + _fewer_lines(profile.curves), _legend(table, profile.curves))


def _plain_ratios(axes: Axes, end: float) -> None:
    """Ticks at round ratios, as many as fit."""
    rounds = [tick for tick in (1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000, 10_000) if tick <= end]
    axes.set_xticks(rounds if len(rounds) < 8 else [tick for tick in rounds if tick not in (1.2, 1.5, 3)])


def anytime_plot(table: Ranking) -> Plot | None:
    """Return the best validation result so far over seconds, a line per setting; None without curves and times."""
    found = anytime_profile(table)
    if not found:
        return None
    curves = _drawn(found)
    shortest, longest = min(curve.seconds[0] for curve in curves), max(curve.seconds[-1] for curve in curves)

    def draw(axes: Axes) -> None:
        if longest > WIDE_TIME * shortest > 0:
            plain_logarithm(axes, "x", shortest, longest)
        grey = [(thinned(curve.seconds, GREY_POINTS), thinned(curve.mean, GREY_POINTS)) for curve in curves]
        draw_grey(axes, grey[HIGHLIGHTED:], drawstyle="steps-post")
        for index, curve in reversed(list(enumerate(curves[:HIGHLIGHTED]))):
            style = {"marker": "o" if len(curve.seconds) <= 2 else "", "markersize": 3} | line_style(index)
            axes.plot(curve.seconds, curve.mean, drawstyle="steps-post", **style)
            if curve.n > 1:
                band = {"step": "post", "color": SERIES[index], "alpha": 0.12, "linewidth": 0}
                axes.fill_between(curve.seconds, curve.low, curve.high, **band)
        axes.set(xlabel="wall time in seconds", ylabel=f"best {table.monitor} so far")
        axes.grid(axis="y")

    what = f"best {table.monitor} so far over wall time, a line per setting, {len(curves)} lines"
    svg = render("anytime", (4.6, 3.0), draw, what)
    return Plot([svg], _anytime_caption(table, found), _legend(table, found))


def _anytime_caption(table: Ranking, found: list[AnytimeCurve]) -> str:
    caption = (
        "Mean over a setting's completed runs of the best value of the epochs that had ended by then; the band reaches "
        "from the smallest to the largest. A line begins when every run has an epoch behind it and ends with the last "
        "run."
    )
    absent = sum(curve.left_out for curve in found)
    if absent:
        caption += f" Left out: {counted(absent, 'run')} without a usable curve."
    return caption + _fewer_lines(found)


def _drawn(curves: Sequence[Any]) -> list[Any]:
    """The best settings, which have colours, and others evenly spread over the ranks."""
    return [*curves[:HIGHLIGHTED], *thinned(curves[HIGHLIGHTED:], GREY_LINES)]


def _legend(table: Ranking, curves: Sequence[Any]) -> list[tuple[str, int | None]]:
    legend: list[tuple[str, int | None]] = [
        (table.setting(curve.row), index) for index, curve in enumerate(curves[:HIGHLIGHTED])
    ]
    further = len(curves) - HIGHLIGHTED
    return [*legend, (f"{counted(further, 'further setting')}", None)] if further > 0 else legend


def _fewer_lines(curves: Sequence[Any]) -> str:
    if len(curves) <= HIGHLIGHTED + GREY_LINES:
        return ""
    return f" Of the {len(curves) - HIGHLIGHTED:,} settings in grey, {GREY_LINES} evenly spread ones are drawn."

"""How soon runs get somewhere: time to a target, performance profiles, best result so far against seconds.

The validation metric that the config monitors is followed, in the epochs of ``metrics.csv``; test results play no part.
Seconds are the wall seconds of all epochs up to and including that one, validation included. They depend on the
machine and on what else it did; epochs do not.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resweep.report.load import RunRecord
from resweep.report.selection import ENDED
from resweep.report.stats import ROUNDING
from resweep.report.table import BROKEN, Ranking, SettingRow, repeat_of
from resweep.report.times import AnytimeCurve, PerformanceProfile, ProfileCurve, RunTime, SettingTime, TimeToTarget

if TYPE_CHECKING:
    import numpy

REACHED_BY = 0.75
"""Share of the completed runs that reach the default target."""

MAX_POINTS = 200
"""Points of an anytime curve; above it they are thinned out evenly, the first and the last are kept."""


@dataclass(frozen=True)
class _Path:
    """Epochs, wall seconds to their ends (nan: not known) and best value so far (nan: none yet) of one run."""

    epochs: numpy.ndarray
    seconds: numpy.ndarray
    best: numpy.ndarray


def time_to_target(table: Ranking, target: float | None = None) -> TimeToTarget | None:
    """Return when each run first reached a target of the monitored metric.

    The default target is the value that three quarters of the completed runs of the better half of the settings reach
    at their best epoch, the r-th best of these n runs' best values with r = ceil(0.75 n): high enough that a run must
    have learned something, even where half of a sweep's learning rates are hopeless, low enough that most good runs
    have a time. A run that broke counts as one that never got there, even if its metric was there before it broke. A
    pruned run counts like a completed one: with its time if it got there before it was stopped, else as one that never
    did, for it was stopped as it did badly; but the default target is set by completed runs only. Runs under way,
    waiting or interrupted are left out.

    Args:
        table: a ranked sweep.
        target: value of the monitored metric to reach: at least this for "max", at most this for "min". A millionth
            less is enough, as 0.9 in single precision is 0.89999998.

    Returns:
        The times; None when no completed run has a curve of the monitored metric.

    Raises:
        ValueError: if the target is not finite.

    Source: time to a target as in DeepOBS (Schneider et al. 2019, arXiv:1903.05499) and AlgoPerf (Dahl et al. 2023,
    arXiv:2306.07179), where targets are set by hand or by a baseline; the rule for the default is ours.
    """
    if target is not None and not math.isfinite(target):
        raise ValueError(f"target must be finite, got {target}")
    paths = [(row, [(run, _path(table, run)) for run in row.runs if run.status in ENDED]) for row in table.rows]
    completed = [[_last(path) for run, path in runs if run.status == "completed" and path] for _, runs in paths]
    judged = [values for values in completed if values]
    if not judged:
        return None
    reached = [value for values in judged[: math.ceil(len(judged) / 2)] for value in values]
    goal = _default_target(reached, table.mode) if target is None else float(target)
    settings = [_setting_time(row, runs, goal, table.mode) for row, runs in paths if runs]
    return TimeToTarget(table.monitor, table.mode, goal, target is not None, settings)


def performance_profile(table: Ranking, target: float | None = None, by: str = "seconds") -> PerformanceProfile | None:
    """Return for each setting the share of its runs that are at most tau times slower than the fastest setting.

    A problem is a seed (or fold) p, a solver is a setting s, t(p, s) the time in which it first reaches the target and

        r(p, s) = t(p, s) / min over all settings of t(p, .),    rho_s(tau) = share of its runs with r <= tau.

    A run that never reaches the target has an infinite ratio, so the share may stay below 1; the share at tau = 1 is
    that of the seeds on which the setting is the fastest. Unlike in the source a setting's share is taken over the
    seeds that it has runs of, so that a sweep under way can be looked at.

    Args:
        table: a ranked sweep.
        target: as in :func:`time_to_target`.
        by: "seconds" or "epochs".

    Returns:
        The profiles; None when there are no times at all.

    Raises:
        ValueError: if ``by`` is another word or the target is not finite.

    Source: Dolan & Moré 2002, Mathematical Programming 91, arXiv:cs/0102001, section 2.
    """
    if by not in ("seconds", "epochs"):
        raise ValueError(f'by must be "seconds" or "epochs", got {by!r}')
    times = time_to_target(table, target)
    if times is None:
        return None
    taken = [(setting.row, _by_problem(setting, by)) for setting in times.settings]
    fastest: dict[tuple[int, int | None], float] = {}
    for _, problems in taken:
        for problem, time in problems:
            fastest[problem] = min(time, fastest.get(problem, math.inf))
    curves = [_profile(row, [(time, fastest[problem]) for problem, time in problems]) for row, problems in taken]
    unsolved = sum(math.isinf(time) for time in fastest.values())
    left_out = sum(setting.unknown for setting in times.settings)
    left_out += times.runs - sum(len(problems) for _, problems in taken)
    shown = [curve for curve in curves if curve.runs]
    return PerformanceProfile(times.target, times.metric, by, len(fastest), unsolved, left_out, shown)


def anytime_profile(table: Ranking) -> list[AnytimeCurve]:
    """Return for each setting the best validation value so far against seconds, as a mean over its completed runs.

    At s seconds a run counts with its best value of the epochs that had ended by then. The curve begins when every run
    has one and ends with the last run; a run that ended earlier keeps its best value.

    Args:
        table: a ranked sweep.

    Returns:
        One curve per setting with a completed run whose times and values are known, in ranking order.
    """
    curves = []
    for row in table.rows:
        paths = [_known(_path(table, run)) for run in row.completed]
        known = [path for path in paths if path is not None]
        if known:
            curves.append(_anytime(row, known, len(paths) - len(known)))
    return curves


def _path(table: Ranking, run: RunRecord) -> _Path | None:
    """A run's path, None when it has no value of the monitored metric."""
    import numpy

    frame = table.sweep.curves.get(run.folder)
    if frame is None or table.monitor not in frame.columns:
        return None
    columns = list(frame.columns)
    cells = frame.to_numpy(dtype=float).T  # in one go, because a column at a time takes three times as long
    value, epochs = cells[columns.index(table.monitor)], cells[columns.index("epoch")]
    if not numpy.isfinite(value).any():
        return None
    best = (numpy.fmax if table.mode == "max" else numpy.fmin).accumulate(value)
    seconds = numpy.full(len(value), numpy.nan)
    if "seconds" in columns:
        without_gap = epochs == numpy.arange(1, len(epochs) + 1)
        taken = cells[columns.index("seconds")]
        known = without_gap & (taken > 0)  # no epoch takes no time: such a value was not measured
        seconds[known] = taken[known]
    return _Path(epochs, numpy.cumsum(seconds), best)


def _last(path: _Path) -> float:
    return float(path.best[-1])


def _default_target(reached: list[float], mode: str) -> float:
    ordered = sorted(reached, reverse=mode == "max")
    return ordered[math.ceil(REACHED_BY * len(ordered)) - 1]


def _setting_time(row: SettingRow, runs: list[tuple[RunRecord, _Path | None]], target: float, mode: str) -> SettingTime:
    known = [(run, path) for run, path in runs if path is not None or run.status in BROKEN]
    times = [_run_time(run, path, target, mode) for run, path in known]
    never = [math.inf for time in times if time.epoch is None]
    epochs = _median([time.epoch for time in times if time.epoch is not None] + never)
    seconds = _median([time.seconds for time in times if time.seconds is not None] + never)
    return SettingTime(row, times, epochs, seconds, len(runs) - len(known))


def _run_time(run: RunRecord, path: _Path | None, target: float, mode: str) -> RunTime:
    if path is None:
        return RunTime(run, None, None, None)
    tolerance = ROUNDING * abs(target)
    reached = path.best >= target - tolerance if mode == "max" else path.best <= target + tolerance
    if run.status in BROKEN or not reached.any():
        return RunTime(run, None, None, _last(path))
    place = int(reached.argmax())
    seconds = float(path.seconds[place])
    return RunTime(run, int(path.epochs[place]), seconds if math.isfinite(seconds) else None, _last(path))


def _median(times: list[float]) -> float | None:
    """The median; None where there is none or it is infinite."""
    middle = statistics.median(times) if times else math.inf
    return float(middle) if math.isfinite(middle) else None


def _by_problem(setting: SettingTime, by: str) -> list[tuple[tuple[int, int | None], float]]:
    """Seed and fold, and time, of each run of which both are known; never is infinite."""
    found = []
    for time in setting.runs:
        problem, taken = repeat_of(time.run), time.seconds if by == "seconds" else time.epoch
        if time.epoch is None:
            taken = math.inf
        if problem is not None and taken is not None:
            found.append((problem, float(taken)))
    return found


def _profile(row: SettingRow, times: list[tuple[float, float]]) -> ProfileCurve:
    """Share of the times, which are positive, within each ratio to the fastest."""
    ratios = sorted(1.0 if time == fastest else time / fastest for time, fastest in times if math.isfinite(time))
    steps = {1.0: 0.0} | {ratio: place / len(times) for place, ratio in enumerate(ratios, 1)}
    return ProfileCurve(row, list(steps), list(steps.values()), len(times))


def _known(path: _Path | None) -> _Path | None:
    """The part of a path whose seconds and best value are known, None when there is none."""
    import numpy

    if path is None:
        return None
    keep = numpy.isfinite(path.seconds) & numpy.isfinite(path.best)
    return _Path(path.epochs[keep], path.seconds[keep], path.best[keep]) if keep.any() else None


def _anytime(row: SettingRow, paths: list[_Path], left_out: int) -> AnytimeCurve:
    import numpy

    times = numpy.unique(numpy.concatenate([path.seconds for path in paths]))
    times = times[times >= max(path.seconds[0] for path in paths)]
    values = numpy.array([path.best[numpy.searchsorted(path.seconds, times, side="right") - 1] for path in paths])
    changes = numpy.append(True, (numpy.diff(values, axis=1) != 0).any(axis=0))
    changes[-1] = True
    keep = numpy.flatnonzero(changes)
    if len(keep) > MAX_POINTS:
        keep = keep[numpy.linspace(0, len(keep) - 1, MAX_POINTS).round().astype(int)]
    times, values = times[keep], values[:, keep]
    mean, low, high = (form(axis=0).tolist() for form in (values.mean, values.min, values.max))
    return AnytimeCurve(row, times.tolist(), mean, low, high, len(paths), left_out)

"""How soon runs and settings got somewhere, as :mod:`resweep.report.anytime` finds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resweep.report.load import RunRecord
    from resweep.report.table import SettingRow


@dataclass(frozen=True)
class RunTime:
    """When one run reached the target.

    Args:
        run: the run.
        epoch: first epoch, from 1, at which the monitored metric is as good as the target; None for never.
        seconds: wall seconds to the end of that epoch; None for never, and where an earlier epoch's are not known.
        best: best value of the metric in any epoch; None when no epoch has one.
    """

    run: RunRecord
    epoch: int | None
    seconds: float | None
    best: float | None


@dataclass(frozen=True)
class SettingTime:
    """When the runs of a setting reached the target.

    Args:
        row: the setting.
        runs: its runs that completed, were pruned, failed, diverged or were lost; the last three never reach a target.
        epochs: median of the first epochs, where never is later than any epoch; None when half of the runs or more
            never reached the target.
        seconds: median of the seconds in the same way, over the runs whose seconds are known.
        unknown: completed and pruned runs without a curve of the metric, of which nothing can be said; not in ``runs``.
    """

    row: SettingRow
    runs: list[RunTime]
    epochs: float | None
    seconds: float | None
    unknown: int = 0

    @property
    def reached(self) -> int:
        """Runs that reached the target."""
        return sum(time.epoch is not None for time in self.runs)

    @property
    def never(self) -> int:
        """Runs that did not, those that broke among them."""
        return len(self.runs) - self.reached


@dataclass(frozen=True)
class TimeToTarget:
    """When each run first reached a target of the monitored metric.

    Args:
        metric: the monitored metric.
        mode: "max" or "min".
        target: value to reach.
        given: whether the caller gave the target; else the default of :func:`resweep.report.anytime.time_to_target`.
        settings: one entry per setting with such runs, in ranking order.
    """

    metric: str
    mode: str
    target: float
    given: bool
    settings: list[SettingTime]

    @property
    def runs(self) -> int:
        """Runs looked at."""
        return sum(len(setting.runs) for setting in self.settings)

    @property
    def reached(self) -> int:
        """Runs that reached the target."""
        return sum(setting.reached for setting in self.settings)


@dataclass(frozen=True)
class ProfileCurve:
    """A setting's performance profile.

    Args:
        row: the setting.
        ratios: ascending ratios tau, the first one 1 and the others those at which the share rises.
        shares: share of the setting's runs whose time is at most tau times that of the fastest setting of its seed.
        runs: runs of the setting.
    """

    row: SettingRow
    ratios: list[float]
    shares: list[float]
    runs: int


@dataclass(frozen=True)
class PerformanceProfile:
    """Performance profiles of all settings, for one target.

    Args:
        target: as in :class:`TimeToTarget`.
        metric: the monitored metric.
        by: "seconds" or "epochs".
        problems: number of problems: seeds, or folds.
        unsolved: how many of them no setting solved; they count against every setting.
        left_out: runs without a curve, without seconds or without a seed, which are in no share.
        curves: one per setting, in ranking order.
    """

    target: float
    metric: str
    by: str
    problems: int
    unsolved: int
    left_out: int
    curves: list[ProfileCurve]


@dataclass(frozen=True)
class AnytimeCurve:
    """A setting's best validation result so far against seconds of training.

    Args:
        row: the setting.
        seconds: ascending wall seconds at which a value changes, and the end; the value holds until the next one.
        mean: mean over the runs of the best value so far.
        low: smallest of the runs' values at that time.
        high: largest of them.
        n: runs in the mean.
        left_out: completed runs without usable curves, which are not in the mean.
    """

    row: SettingRow
    seconds: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    n: int
    left_out: int

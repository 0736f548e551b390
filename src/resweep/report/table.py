"""Settings ranked over their seeds.

A setting is a combination of swept values without the seed and the fold of a cross-validation. Settings are ranked by
the validation metric that the config monitors, never by a test metric; runs that did not complete are counted and never
averaged in. Were the mean alone to rank, a setting that mostly diverges could win by its one lucky seed; so settings
with failed, diverged or lost runs stand below those without. Equal means, which a few validation images often give,
are ordered by the lower mean validation loss, the rule by which a run chooses its best epoch. Runs of one and the same
config count once.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resweep import console
from resweep.record import REPEATS as REPEATS
from resweep.report.load import RunRecord, Sweep, without_repeats
from resweep.report.pairs import Pairs
from resweep.report.stats import Difference, Summary, summarize, to_digits
from resweep.report.words import value_text

LOSS = "val/loss"
"""What orders settings with equal means of the monitored metric, the lower the better."""

BROKEN = frozenset({"failed", "diverged", "lost"})
"""States that push a setting below those without them; a run that waits or is under way does not."""


@dataclass(frozen=True)
class SettingRow:
    """All seeds of one setting.

    Args:
        values: the swept values that differ between settings, by dotted key; the seed is not among them.
        runs: the runs of the setting, in plan order, repeats of the same config left out.
        val: the monitored metric over completed runs.
        test: the shown test metric over completed runs.
        difference: this row against the best one on the compared metric, from the sweep's family of comparisons; None
            for the best row and where one of the two has no value.
        fit_seconds: median over completed runs, seconds.
        best: whether this is the row that ranks first.
        index: position in the ranking's rows.
    """

    values: dict[str, Any]
    runs: list[RunRecord]
    val: Summary
    test: Summary
    difference: Difference | None
    fit_seconds: float | None
    best: bool
    index: int = 0

    @property
    def completed(self) -> list[RunRecord]:
        """The runs that count in the means."""
        return [run for run in self.runs if run.status == "completed"]

    @property
    def not_completed(self) -> dict[str, int]:
        """Number of the other runs by status."""
        return dict(Counter(run.status for run in self.runs if run.status != "completed"))

    @property
    def broken(self) -> bool:
        """Whether a run failed, diverged or was lost, so that the means are those of the survivors."""
        return _broken(self.runs)

    @property
    def all_broken(self) -> bool:
        """Whether every run failed, diverged or was lost, so that there is nothing to average."""
        return all(run.status in BROKEN for run in self.runs)

    @property
    def loss(self) -> float:
        """Mean validation loss of the completed runs to six digits, which orders equal means; infinity without one."""
        return _mean_loss(self.runs)


@dataclass(frozen=True)
class Ranking:
    """A sweep's settings, the best on validation first.

    Args:
        sweep: where the runs come from.
        monitor: the validation metric that ranks.
        mode: "max" or "min".
        shown: the test metric that is reported, None when no run has one.
        names: short column name by dotted key, for the values that differ.
        rows: the settings; those with failed, diverged or lost runs below the others, those without a result last.
        repeats: runs left out of the rows because another run has the same config.
        pairs: every row against every other one on the compared metric, in the order of the rows.
        unit: what the runs of a setting differ in: "seed", or "fold" where folds are swept.
    """

    sweep: Sweep
    monitor: str
    mode: str
    shown: str | None
    names: dict[str, str]
    rows: list[SettingRow]
    pairs: Pairs
    repeats: int = 0
    unit: str = "seed"

    @property
    def best(self) -> SettingRow | None:
        """The first row if it can be ranked."""
        return next((row for row in self.rows if row.best), None)

    @property
    def compared(self) -> str:
        """The metric that verdicts are about: the shown one, or the monitored one without a test metric."""
        return self.shown or self.monitor

    @property
    def larger_is_better(self) -> bool:
        """Direction of the compared metric."""
        return _larger_is_better(self.compared, self.monitor, self.mode)

    def difference(self, a: SettingRow, b: SettingRow) -> Difference | None:
        """Return one row against another on the compared metric, corrected over all pairs of the sweep.

        Returns:
            The difference from the point of view of ``a``; None for the same row, and where one has no value.
        """
        values = self.pairs.values
        if a.index == b.index or not values[a.index] or not values[b.index]:
            return None
        return self.pairs.difference(a.index, b.index)

    def setting(self, row: SettingRow) -> str:
        """A row's values as one text, such as ``optimizer=sgd lr=0.1``."""
        return " ".join(f"{name}={value_text(row.values.get(key))}" for key, name in self.names.items()) or "all runs"


def ranking(sweep: Sweep) -> Ranking:
    """Return the sweep's settings ranked by their mean validation metric.

    Args:
        sweep: a loaded sweep; ``monitor`` and ``monitor_mode`` of its base config say what ranks, by default
            ``val/accuracy`` and the larger the better (the smaller, for a loss).

    Returns:
        The ranking. Means that are equal in six digits are ordered by the lower mean ``val/loss`` of the completed
        runs, where it is recorded, then by the plan. Settings with failed, diverged or lost runs come after those
        without, and of several runs of the same config the newest finished one counts.
    """
    counted = replace(sweep, runs=without_repeats(sweep.runs))
    monitor = monitored(sweep)
    mode = str(sweep.base.get("monitor_mode") or ("min" if monitor.endswith("loss") else "max"))
    shown = shown_metric(counted.runs, monitor)
    keys = differing_keys(counted)
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in counted.runs:
        groups.setdefault(tuple(console.value(run.swept.get(key), exact=True) for key in keys), []).append(run)
    summaries = [(runs, summarize(metric_values(runs, monitor))) for runs in groups.values()]
    summaries.sort(key=lambda pair: _rank(*pair, mode))
    unit = "fold" if any("data.fold" in run.swept for run in counted.runs) else "seed"
    pairs = Pairs(
        [_by_repeat(runs, shown or monitor) for runs, _ in summaries],
        larger_is_better=_larger_is_better(shown or monitor, monitor, mode),
        overlap=_overlap(counted, (shown or monitor).split("/")[0]) if unit == "fold" else 0.0,
    )
    rows = [_row(index, runs, keys, val, shown) for index, (runs, val) in enumerate(summaries)]
    repeats = len(sweep.runs) - len(counted.runs)
    table = Ranking(sweep, monitor, mode, shown, short_names(keys), rows, pairs, repeats, unit)
    best = table.best
    if best is not None:
        rows[1:] = [replace(row, difference=table.difference(row, best)) for row in rows[1:]]
    return table


def differing_keys(sweep: Sweep) -> list[str]:
    """Return the swept keys, seed and fold left out, that have more than one value in the sweep."""
    keys = dict.fromkeys(key for run in sweep.runs for key in run.swept if key not in REPEATS)
    return [key for key in keys if len({console.value(run.swept.get(key), exact=True) for run in sweep.runs}) > 1]


def metric_values(runs: Iterable[RunRecord], metric: str) -> list[float]:
    """Return a metric's values of the completed runs that recorded it."""
    values = (run.metrics.get(metric) for run in runs if run.status == "completed")
    return [value for value in values if value is not None]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return a column name per dotted key: its last part where that is unique, else the whole key.

    Example:
        >>> short_names(["optimizer", "optimizer.lr", "model.dropout"])
        {'optimizer': 'optimizer', 'optimizer.lr': 'lr', 'model.dropout': 'dropout'}
    """
    keys = list(keys)
    last = Counter(key.rsplit(".", 1)[-1] for key in keys)
    return {key: key.rsplit(".", 1)[-1] if last[key.rsplit(".", 1)[-1]] == 1 else key for key in keys}


def _mean_loss(runs: Iterable[RunRecord]) -> float:
    losses = metric_values(runs, LOSS)
    return to_digits(statistics.fmean(losses)) if losses else math.inf


def _rank(runs: list[RunRecord], val: Summary, mode: str) -> tuple[bool, bool, float, float]:
    """What is smaller for the setting that ranks higher."""
    if val.mean is None:
        return True, _broken(runs), 0.0, 0.0
    return False, _broken(runs), (-1 if mode == "max" else 1) * to_digits(val.mean), _mean_loss(runs)


def _row(index: int, runs: list[RunRecord], keys: list[str], val: Summary, shown: str | None) -> SettingRow:
    """A row that is not compared yet."""
    test = summarize(metric_values(runs, shown)) if shown is not None else Summary(0)
    times = [run.fit_seconds for run in runs if run.status == "completed" and run.fit_seconds is not None]
    values = {key: runs[0].swept.get(key) for key in keys}
    seconds = statistics.median(times) if times else None
    return SettingRow(values, runs, val, test, None, seconds, best=index == 0 and val.n > 0, index=index)


def repeat_of(run: RunRecord) -> tuple[int, int | None] | None:
    """Return the seed and the fold (None: not swept) by which a run repeats its setting; None without a seed."""
    seed = run.seed if run.seed is not None else run.swept.get("seed")
    return None if seed is None else (seed, run.swept.get("data.fold"))


def _by_repeat(runs: list[RunRecord], metric: str) -> dict[tuple[int, int | None], float]:
    """Value per seed and fold; where one was run twice, the mean."""
    found: dict[tuple[int, int | None], list[float]] = {}
    for run in runs:
        repeat = repeat_of(run)
        if repeat is not None:
            found.setdefault(repeat, []).extend(metric_values([run], metric))
    return {repeat: statistics.fmean(values) for repeat, values in found.items() if values}


def _overlap(sweep: Sweep, part: str) -> float:
    """Images of the compared split per training image; where they were not recorded, of 1 of k parts against k - 1."""
    sizes = [run.split_sizes for run in sweep.runs if run.split_sizes.get("train") and run.split_sizes.get(part)]
    if sizes:
        return statistics.fmean(size[part] / size["train"] for size in sizes)
    folds = sweep.base.get("data.num_folds") or len({run.swept.get("data.fold") for run in sweep.runs})
    return 1 / (max(int(folds), 2) - 1)


def monitored(sweep: Sweep) -> str:
    """Return the validation metric that ranks."""
    return str(sweep.base.get("monitor") or "val/accuracy")


def shown_metric(runs: Sequence[RunRecord], monitor: str) -> str | None:
    """Return the monitored metric's counterpart on test, accuracy if a loss is monitored; None where no run has one."""
    twin = "test/" + monitor.split("/", 1)[-1]
    wanted = ["test/accuracy", twin] if monitor.endswith("loss") else [twin, "test/accuracy"]
    return next((metric for metric in wanted if metric_values(runs, metric)), None)


def _larger_is_better(metric: str, monitor: str, mode: str) -> bool:
    """Direction of a metric: the monitored one's, which its counterpart on test shares; accuracy else."""
    return mode == "max" if metric.split("/")[-1] == monitor.split("/")[-1] else not metric.endswith("loss")


def _broken(runs: Iterable[RunRecord]) -> bool:
    return any(run.status in BROKEN for run in runs)

"""What to choose on each axis, what tuning gained, and how much the neighbours of the best setting lose.

Every choice here is made on the validation metric in the order of :class:`resweep.report.table.Ranking`: settings
without failed, diverged or lost runs first, then the better validation mean. Test results are only read off afterwards.
Verdicts are looked up in the ranking's one family of corrected comparisons, so they hold however a pair was chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from resweep import console
from resweep.record import FINISHED
from resweep.report.budget import BudgetCurve, budget_curve
from resweep.report.stats import Difference
from resweep.report.table import BROKEN, Ranking, SettingRow
from resweep.report.where import number
from resweep.report.words import value_text

ENDED = FINISHED | BROKEN
"""States of a run that has ended, well or badly: it was tried. Runs under way, waiting or interrupted were not."""

MAX_PAIRED = 20
"""Of an axis with more values the pairs of this many are listed, those that are best on validation."""


@dataclass(frozen=True)
class Choice:
    """What one value of an axis came to when the other axes were chosen for it on validation.

    Args:
        value: the value; None where the settings do not have this key.
        text: the value as it is written in an override, ``-`` for None.
        row: the setting with this value that ranks first; None when no setting with it has a validation result.
        settings: settings with this value that were tried: at least one of their runs has ended, well or badly.
        runs: runs of these settings that have ended.
    """

    value: Any
    text: str
    row: SettingRow | None
    settings: int
    runs: int


@dataclass(frozen=True)
class AxisResult:
    """The values of one axis, each with the setting chosen for it on validation.

    Args:
        key: dotted key of the axis.
        name: its short column name.
        choices: one for each value, the best on validation first, those without a result last.
        pairs: ``(i, j, difference)`` of the chosen settings of ``choices[i]`` and ``choices[j]``, i < j, from the
            point of view of i; the verdict is corrected over all pairs of settings of the sweep. Of an axis with more
            than 20 values with a result those of the first 20.
    """

    key: str
    name: str
    choices: list[Choice]
    pairs: list[tuple[int, int, Difference]]

    @property
    def tuned(self) -> bool:
        """Whether a choice was made: some value was tried with more than one setting."""
        return any(choice.settings > 1 for choice in self.choices)

    @property
    def even(self) -> bool:
        """Whether every value was tried with the same number of settings; who tries more finds more."""
        return len({choice.settings for choice in self.choices}) <= 1


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A setting that differs from the best one in exactly one key.

    Args:
        key: dotted key in which it differs.
        name: short column name of the key.
        text: its value there, as in an override.
        row: the setting.
        loss: how much worse its validation mean is, in units of the monitored metric and whatever its direction;
            negative where a better mean ranks below because runs failed; None when it has no result.
        difference: this setting against the best on the compared metric; None when there is none.
        steps: how many values of a numeric axis it lies above (below: negative) the best; None on another axis.
    """

    key: str
    name: str
    text: str
    row: SettingRow
    loss: float | None
    difference: Difference | None
    steps: int | None


def axis_results(table: Ranking) -> list[AxisResult]:
    """Return for each key that differs what its values came to, the other keys chosen on validation only.

    Args:
        table: a ranked sweep.

    Returns:
        One result per key of ``table.names``, in that order. A value that was never completed stays in it, with
        ``row=None``.

    Source: choice on validation, report on test, and the number of settings tried beside it: Choi et al. 2019,
    arXiv:1910.05446; Sivaprasad et al. 2020, arXiv:1910.11758.
    """
    results = []
    for key, name in table.names.items():
        choices = [_choice(rows[0].values.get(key), rows) for rows in _by_value(table, key).values()]
        ranked = [number for number, choice in enumerate(choices) if choice.row is not None][:MAX_PAIRED]
        differences = [(i, j, table.difference(choices[i].row, choices[j].row)) for i, j in combinations(ranked, 2)]
        results.append(AxisResult(key, name, choices, [pair for pair in differences if pair[2] is not None]))
    return results


def budget_curves(table: Ranking, key: str | None = None) -> list[BudgetCurve]:
    """Return what a tuning budget of k settings is worth, for each value of an axis or for the whole sweep.

    Of the N settings tried, k are drawn without replacement, each set of k being equally likely, and the one that ranks
    first among them is chosen. With the settings in ranking order, i = 0 the best, it is the i-th with probability

        p(i) = C(N - 1 - i, k - 1) / C(N, k),

    so that expected(k) = sum p(i) v(i) / sum p(i) over the settings with a validation mean v(i). A setting that failed
    or was pruned counts as tried and is never chosen. The band holds the percentiles 2.5 to 97.5 of v under the same
    probabilities. Both are what resampling the order of the trials approaches with more and more resamples.

    The band speaks of searches among the settings that were tried, so it closes at k = N. It is no confidence interval
    for settings that were not tried; such an interval from a bootstrap contains the truth too rarely, because a
    resample knows nothing better than the best setting that was tried.

    Args:
        table: a ranked sweep.
        key: dotted key of an axis; None takes all settings together.

    Returns:
        One curve per value that has a result, in the order of :class:`AxisResult`; empty when no value was tried with
        more than one setting, because then nothing was tuned. A curve is monotone unless settings with failed runs
        have the better means.

    Raises:
        ValueError: if no values differ under the key.

    Source: the unbiased estimator of Tang et al. 2020, arXiv:2004.13705, whose curves Dodge et al. 2019,
    arXiv:1909.03004, introduced and Sivaprasad et al. 2020, arXiv:1910.11758, drew for optimizers by shuffling the
    trials; that bootstrapped intervals fail: Tang et al. 2020 and Lourie et al. 2023, arXiv:2311.09480.
    """
    if key is not None and key not in table.names:
        raise ValueError(f"key must be one of {list(table.names)}, got {key!r}")
    groups = {"all": table.rows} if key is None else _by_value(table, key)
    texts = {group: "all" if key is None else value_text(rows[0].values.get(key)) for group, rows in groups.items()}
    tried = {group: [row for row in rows if _tried(row)] for group, rows in groups.items()}
    if max(map(len, tried.values()), default=0) < 2:
        return []
    return [budget_curve(texts[group], rows) for group, rows in tried.items() if any(row.val.n for row in rows)]


def sensitivity(table: Ranking) -> list[Neighbour]:
    """Return the settings that differ from the best one in exactly one key, and how much worse they are.

    Args:
        table: a ranked sweep.

    Returns:
        The neighbours by key in the order of ``table.names``, numeric values ascending, other values in ranking order;
        those that never completed stay among them with ``loss=None``. Empty when nothing is ranked and in a random
        search, where no two settings differ in one key only.
    """
    best = table.best
    if best is None:
        return []
    texts = _texts(best, table)
    rows: dict[str, list[SettingRow]] = {key: [] for key in table.names}
    for row in table.rows:
        other = _texts(row, table)
        keys = [key for key in table.names if other[key] != texts[key]]
        if len(keys) == 1:
            rows[keys[0]].append(row)
    return [neighbour for key in table.names for neighbour in _neighbours(table, best, key, rows[key])]


def _texts(row: SettingRow, table: Ranking) -> dict[str, str]:
    """The values as exact texts, which tell 1 from "1" and are equal for equal numbers."""
    return {key: console.value(row.values.get(key), exact=True) for key in table.names}


def _by_value(table: Ranking, key: str) -> dict[str, list[SettingRow]]:
    """Rows by their value of a key; rows, and values by their first row, in ranking order."""
    groups: dict[str, list[SettingRow]] = {}
    for row in table.rows:
        groups.setdefault(console.value(row.values.get(key), exact=True), []).append(row)
    return groups


def _tried(row: SettingRow) -> bool:
    return any(run.status in ENDED for run in row.runs)


def _choice(value: Any, rows: list[SettingRow]) -> Choice:
    """The first row with a result; rows without one stand last in a ranking."""
    runs = sum(run.status in ENDED for row in rows for run in row.runs)
    best = rows[0] if rows[0].val.n else None
    return Choice(value, value_text(value), best, sum(_tried(row) for row in rows), runs)


def _neighbours(table: Ranking, best: SettingRow, key: str, rows: list[SettingRow]) -> list[Neighbour]:
    """The neighbours along one key, by number where its values are numbers."""
    values = [row.values.get(key) for row in table.rows]
    numbers = {_number(value) for value in values if value is not None}
    places = {} if None in numbers else {value: place for place, value in enumerate(sorted(numbers))}
    if places:
        rows = sorted(rows, key=lambda row: places.get(_number(row.values.get(key)), -1))
    here = places.get(_number(best.values.get(key)))
    sign = 1 if table.mode == "max" else -1
    found = []
    for row in rows:
        place = places.get(_number(row.values.get(key)))
        neighbour = Neighbour(
            key=key,
            name=table.names[key],
            text=value_text(row.values.get(key)),
            row=row,
            loss=sign * (best.val.mean - row.val.mean) if row.val.n else None,
            difference=table.difference(row, best) if row.val.n else None,
            steps=None if here is None or place is None else place - here,
        )
        found.append(neighbour)
    return found


def _number(value: Any) -> float | None:
    """A config value as a finite number, also where it was kept as text; None for anything else."""
    found = number(value)
    return None if found is None or math.isinf(found) else found

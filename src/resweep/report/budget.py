"""What a tuning budget is worth: the expected result of the setting chosen after k settings were tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

    from resweep.report.table import SettingRow

MAX_BUDGETS = 50
"""Points of a budget curve; above it they are thinned out to equal ratios, the first and the last are kept."""

SHARE = 0.95
"""Share of the searches whose result lies in the band of a budget curve."""

MOSTLY_FOUND = 0.9
"""Share of the searches that must have a result for a budget curve to say something at that budget."""


@dataclass(frozen=True, kw_only=True)
class BudgetCurve:
    """Expected validation result of the setting that is chosen after k settings were tried.

    All lists have one entry per budget.

    Args:
        text: the axis value, as in an override; ``all`` for the whole sweep.
        budgets: numbers k of settings tried, ascending, the last one is ``settings``.
        expected: expected validation mean of the chosen setting, given that one of the k settings has a result.
        low: lower end of the band in which 95 % of the searches with k settings end, given that one has a result.
        high: upper end of the same band.
        found: probability that at least one of the k settings has a result; 1 where none failed.
        test: expected test mean of the setting chosen in the same way; None without a test result of each setting.
        settings: settings tried.
        failed: how many of them have no validation result.
    """

    text: str
    budgets: list[int]
    expected: list[float]
    low: list[float]
    high: list[float]
    found: list[float]
    test: list[float] | None
    settings: int
    failed: int

    @property
    def begins(self) -> int:
        """Place in the lists of the first budget at which 90 % of the searches have a result.

        Before it the expected result is that of the few searches that found one: where eight of nine settings failed,
        one setting's result, whatever the budget. At the last budget every search has a result.
        """
        return next(place for place, share in enumerate(self.found) if share >= MOSTLY_FOUND - 1e-9)


def budget_curve(text: str, rows: list[SettingRow]) -> BudgetCurve:
    """Return the curve of settings that were tried; see :func:`resweep.report.selection.budget_curves`.

    Args:
        text: what the settings have in common.
        rows: settings that were tried, in ranking order, those without a result last; at least one has a result.
    """
    import numpy

    ranked = [row for row in rows if row.val.n]
    budgets = _budgets(len(rows))
    chances = first_chances(len(rows), budgets)
    chances, none = chances[:, : len(ranked)], chances[:, len(ranked) :].sum(axis=1)
    chances = chances / chances.sum(axis=1, keepdims=True)
    val = numpy.array([row.val.mean for row in ranked])
    tests = [row.test.mean for row in ranked]
    low, high = _band(val, chances)
    return BudgetCurve(
        text=text,
        budgets=budgets,
        expected=(chances @ val).tolist(),
        low=low,
        high=high,
        found=(1 - none).tolist(),
        test=None if None in tests else (chances @ numpy.array(tests)).tolist(),
        settings=len(rows),
        failed=len(rows) - len(ranked),
    )


def first_chances(settings: int, budgets: list[int]) -> numpy.ndarray:
    """Return the probability that the i-th best of N settings is the best of k drawn without replacement.

    C(N - 1 - i, k - 1) / C(N, k), as a product that neither overflows nor rounds away.

    Args:
        settings: N.
        budgets: numbers k in 1..N.

    Returns:
        float64, shape (len(budgets), N); each row adds up to 1.
    """
    import numpy

    left = settings - numpy.arange(settings)  # settings from the i-th best on
    drawn = numpy.array(budgets)[:, None]
    none_before = numpy.cumprod(numpy.maximum(left - drawn, 0) / left, axis=1)
    none_before = numpy.hstack([numpy.ones((len(budgets), 1)), none_before[:, :-1]])
    return none_before * drawn / left


def _band(val: numpy.ndarray, chances: numpy.ndarray) -> tuple[list[float], list[float]]:
    """Smallest values that a search stays below or meets with probability 0.025 and 0.975, at each budget."""
    import numpy

    order = numpy.argsort(val, kind="stable")
    below = numpy.cumsum(chances[:, order], axis=1) + 1e-12  # a sum that rounding left just under the level counts
    ends = [(below >= level).argmax(axis=1) for level in ((1 - SHARE) / 2, (1 + SHARE) / 2)]
    return val[order][ends[0]].tolist(), val[order][ends[1]].tolist()


def _budgets(settings: int) -> list[int]:
    if settings <= MAX_BUDGETS:
        return list(range(1, settings + 1))
    return sorted({round(settings ** (step / (MAX_BUDGETS - 1))) for step in range(MAX_BUDGETS)})

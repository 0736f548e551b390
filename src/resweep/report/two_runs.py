"""Two single runs beside each other: ``key | A | B | change``; config, then results, software and hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resweep.console import duration, size
from resweep.record import RUN_FILE
from resweep.report.across import config_of
from resweep.report.differences import hardware, software
from resweep.report.layout import Grid
from resweep.report.load import RunRecord, Sweep
from resweep.report.where import number
from resweep.report.words import value_text

EMPTY = "-"

ONE_EACH = (
    "One run each: whether the results differ by more than the seed's noise cannot be said. "
    "Repeat both with the same three or more seeds and compare the sweeps."
)


@dataclass(frozen=True)
class Line:
    """One fact of both runs.

    Args:
        part: "config", "result", "software" or "hardware".
        key: what it is called.
        a: the first run's value, None where it has none.
        b: the second run's.
    """

    part: str
    key: str
    a: Any
    b: Any

    @property
    def equal(self) -> bool:
        """Whether both have the same value."""
        return value_text(self.a) == value_text(self.b)

    @property
    def change(self) -> float | None:
        """B - A where both are numbers, else None."""
        a, b = number(self.a), number(self.b)
        numbers = not isinstance(self.a, str) and not isinstance(self.b, str) and a is not None and b is not None
        return b - a if numbers else None


def are_two_runs(sweeps: list[Sweep]) -> bool:
    """Whether two folders were named that are a single run each."""
    return len(sweeps) == 2 and all(not one.request and (one.dir / RUN_FILE).is_file() and one.runs for one in sweeps)


def two_runs(one: Sweep, other: Sweep) -> list[Line]:
    """Return what is known of two single runs, fact by fact.

    Args:
        one: a sweep of one run.
        other: another one.
    """
    a, b = one.runs[0], other.runs[0]
    parts = {
        "config": (config_of(one, a) | {"seed": a.seed}, config_of(other, b) | {"seed": b.seed}),
        "result": (_results(a), _results(b)),
        "software": (software(a), software(b)),
        "hardware": (hardware(a), hardware(b)),
    }
    return [
        Line(part, key, ours.get(key), others.get(key))
        for part, (ours, others) in parts.items()
        for key in dict.fromkeys([*ours, *others])
    ]


def pair_grid(lines: list[Line], names: tuple[str, str], everything: bool = False) -> Grid:
    """Return the facts as a table, those that are equal in both left out except for results.

    Args:
        lines: as :func:`two_runs` makes them.
        names: headings of the two runs.
        everything: whether equal values are listed, too.
    """
    shown = [line for line in lines if everything or line.part == "result" or not line.equal]
    cells = [[line.key, _text(line, line.a), _text(line, line.b), _change(line)] for line in shown]
    return Grid(["key", *names, "change"], cells)


def hidden_values(lines: list[Line]) -> int:
    """Return how many equal values :func:`pair_grid` leaves out."""
    return sum(line.equal and line.part != "result" for line in lines)


def _results(run: RunRecord) -> dict[str, Any]:
    metrics = sorted(run.metrics, key=lambda key: (key[:4] != "val/", key))
    facts: dict[str, Any] = {"status": run.status} | {key: run.metrics[key] for key in metrics}
    facts |= {name: getattr(run, name) for name in ("best_epoch", "epochs", "parameters", "fit_seconds")}
    facts |= {"peak_memory_bytes": run.peak_memory_bytes, "data_digest": run.data_digest}
    return facts | ({} if run.error_text is None else {"error": run.error_text})


def _text(line: Line, value: Any) -> str:
    if line.key == "fit_seconds":
        return duration(value)
    if line.key == "peak_memory_bytes" and value is not None:
        return size(value)
    return f"{value:.4f}" if line.part == "result" and isinstance(value, float) else value_text(value)


def _change(line: Line) -> str:
    change = line.change
    if line.equal:
        return "="
    if change is None:
        return "differs"
    if line.key == "peak_memory_bytes":
        return f"{'-' if change < 0 else '+'}{size(abs(change))}"
    return f"{change:+.4f}" if "/" in line.key else f"{change:+.4g}"

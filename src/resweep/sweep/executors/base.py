"""The interface of an executor: where runs are carried out, and nothing else.

What to do next, retries, time limits and records are the business of :mod:`resweep.sweep.supervise`, which drives every
executor alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Unit = tuple[Path, ...]


@dataclass(frozen=True)
class End:
    """A unit that is no longer under way.

    Args:
        unit: as it was started.
        cause: how its process ended, in words that go behind "the run ended by", when that is not in the runs' records
            (``signal SIGKILL``, ``exit status 3``, ``the loss of its node``).
    """

    unit: Unit
    cause: str


class Executor(ABC):
    """Carries out units of runs, several at a time.

    A unit is one or more run folders that are carried out together: one for separate processes, several for runs that
    train as one stack. An executor has each run of a unit done by ``resweep.train.execute(run_dir)``, which claims the
    folder, continues from its last checkpoint and leaves a final record; it need not look at records itself.

    Args:
        slots: units under way at a time.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def units(self, run_dirs: Sequence[Path]) -> list[Unit]:
        """Put runs together into units; without an executor's own idea each run is one."""
        return [(run_dir,) for run_dir in run_dirs]

    @abstractmethod
    def start(self, unit: Unit) -> None:
        """Start a unit and return at once. Called with fewer than ``slots`` units under way."""

    @abstractmethod
    def wait(self, seconds: float) -> list[End]:
        """Return the units that have ended, at the latest after the given time, at once when one ends."""

    @abstractmethod
    def stop(self, unit: Unit) -> None:
        """Ask a unit to save and end (SIGTERM or its equivalent); it ends some time later. Never raises for one that
        has ended."""

    @abstractmethod
    def kill(self, unit: Unit) -> None:
        """End a unit now, whatever it does; :meth:`wait` reports it."""

    def close(self) -> None:  # noqa: B027, most executors hold nothing
        """Give back what the executor holds; no unit is under way any more."""

"""The interface of an executor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

Unit = Sequence[Path]
Event = Callable[[str, Path], None]


class Executor(ABC):
    """Carries out units of runs.

    A unit is one or more run folders that are carried out together (one for separate processes, several for runs that
    train as one stack). When :meth:`run` returns, every run that was started has a record that is not ``running``.
    """

    @abstractmethod
    def run(self, units: Sequence[Unit], on_event: Event) -> None:
        """Carry out all units; one run's failure never stops another.

        Args:
            units: in the order in which they should start.
            on_event: called with ``start`` or ``end`` and the run's folder, and with ``tick`` and an empty path about
                twice a second while runs are under way.

        Raises:
            KeyboardInterrupt: a signal asked to stop; runs under way were told to, and their records say so.
        """

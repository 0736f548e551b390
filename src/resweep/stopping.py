"""Being asked to stop: the first signal lets a run save itself, the second ends it at once.

Lightning turns Ctrl-C and SIGTERM into the end of the process wherever it is. While a run is carried out the handlers
below hear them instead; training looks after every step whether somebody has asked.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interrupted(BaseException):
    """A run was stopped from outside and can be resumed. Like KeyboardInterrupt, only the outermost caller catches it.

    Args:
        status: exit status that says how: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"stopped from outside, exit status {status}")
        self.status = status


class StopSignal:
    """Hears Ctrl-C and SIGTERM while its block lasts; only in the main thread, where Python handles signals.

    Outside of training there is nothing to save, and a signal stops the run where it is. While ``patient`` is true the
    first one is only noted, for :meth:`check` at the next good place, and the second stops. While ``finishing`` is true
    signals are counted and nothing else: a record is being written, or a supervisor looks at the count by itself.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.count = 0
        self.patient = self.finishing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        self._before = self.listen()
        return self

    def listen(self) -> dict[int, Any]:
        """Put the handlers in place, again where somebody else has taken it; return those that were there."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._hear) for number in STATUS}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        first = self.requested is None
        self.requested = self.requested or STATUS[signal.Signals(number)]
        if self.finishing:
            return
        if not (first and self.patient):
            raise Interrupted(self.requested)

    def check(self) -> None:
        """Stop here if somebody has asked.

        Raises:
            Interrupted: a signal was noted.
        """
        if self.requested is not None:
            raise Interrupted(self.requested)

"""Progress of work that may take more than a few seconds: a bar on a terminal, one line elsewhere.

What is quick says nothing. The bar follows ``--progress`` and ``-q`` where a command was given them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

from resweep.console import OUTPUT, Output, duration, progress_mode

BAR_SECONDS = 2.0
LINE_SECONDS = 5.0


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how much more of some work is done.

    On a terminal a bar on stderr appears when the work has taken two seconds, and goes when it ends. Elsewhere one
    line is written to stderr when it has taken five. Neither appears between two calls.

    Args:
        label: what is done, a few words: ``"decode images"``.
        total: how much there is to do, in units of the caller's.

    Yields:
        ``advance(count)``, to be called by one thread at a time.
    """
    output = OUTPUT.get(None)
    if output is None:
        output = Output(progress_mode(os.environ.get("RESWEEP_PROGRESS") or "auto", sys.stderr, os.environ))
    state = _State(label, total, output)
    try:
        yield state.advance
    finally:
        state.close()


class _State:
    """How far one piece of work is, and what has been shown of it."""

    def __init__(self, label: str, total: int, output: Output) -> None:
        self.label, self.total, self.output = label, total, output
        self.done, self.said, self.bar = 0, output.quiet > 0, None
        self.started = time.monotonic()

    def advance(self, count: int) -> None:
        """Add to what is done; show it where enough time has passed."""
        self.done += count
        seconds = time.monotonic() - self.started
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done)
        elif self.said:
            return
        elif self.output.mode == "live" and seconds >= BAR_SECONDS:
            self._show()
        elif self.output.mode == "plain" and seconds >= LINE_SECONDS:
            self.said = True
            left = duration(seconds / max(self.done, 1) * (self.total - self.done))
            self.output.event("data", doing=self.label, done=f"{self.done}/{self.total}", left=left)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self.bar = Progress(console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task(self.label, total=self.total, completed=self.done)
        self.bar.start()

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()

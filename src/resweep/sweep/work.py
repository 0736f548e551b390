"""What is left to do of a sweep, and what happens to a run that has ended: put back, counted, or done."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from resweep.claim import holder
from resweep.record import CHECKPOINTS, FINISHED, LAST, Record
from resweep.sweep.executors.base import Unit


class Proposals(Protocol):
    """A search: where further runs come from while a sweep is under way."""

    def pending(self) -> list[Path]:
        """Return the runs that the search waits for."""

    def ask(self) -> list[Path]:
        """Return the runs of the next setting, none when there are to be no more."""

    def ended(self, run_dir: Path) -> list[Path]:
        """Take note of a run that has its final record; return further runs that follow from it."""


def same_reason(message: str) -> str:
    """Return an error's message without its numbers: what two failures for the same reason have in common."""
    return re.sub(r"\d+(\.\d+)?", "#", message)


class Work:
    """The runs of a sweep that have no result yet, in the order in which they should start.

    Runs that another process carries out, on this machine or another one, are left alone and looked after now and then:
    the sweep is done when they are, and a process that dies leaves its runs to whoever is still there.

    Args:
        run_dirs: runs to do.
        units: puts runs together, see :meth:`Executor.units`.
        retries: how often a run whose process vanished is started again, see ``executor.retries``.
        fail_fast: see ``executor.fail_fast``; None never.
        search: proposes further runs; None when there are none.
    """

    def __init__(
        self,
        run_dirs: Sequence[Path],
        units: Callable[[Sequence[Path]], list[Unit]],
        *,
        retries: int = 0,
        fail_fast: int | None = None,
        search: Proposals | None = None,
    ) -> None:
        self.units = units
        self.retries = retries
        self.fail_fast = fail_fast
        self.search = search
        self.waiting: deque[Unit] = deque(units(run_dirs))
        self.elsewhere: list[Unit] = []
        self.retried: Counter[Path] = Counter()
        self.ends: dict[Path, tuple[str, int]] = {}
        self.attempts: dict[Path, int] = {}  # of each run before it was started
        self.first_reasons: list[str] | None = []
        self.hopeless: str | None = None  # why there is no point in going on

    def take(self) -> Unit | None:
        """Return the next unit to start; None when there is none now."""
        while True:
            while self.waiting:
                unit = self.waiting.popleft()
                if self._free(unit):
                    return unit
            if self.search is None or not (proposed := self.search.ask()):
                return None
            self.waiting.extend(self.units(proposed))

    def _free(self, unit: Unit) -> bool:
        """Whether a unit is to be started; its runs may have got a result, or somebody, meanwhile."""
        try:
            found = {run_dir: Record.read(run_dir) for run_dir in unit}
        except (FileNotFoundError, ValueError):  # taken away or damaged meanwhile: named at the end, the others go on
            return False
        if any(record.status == "running" and holder(run_dir) for run_dir, record in found.items()):
            self.elsewhere.append(unit)
            return False
        if all(record.status in FINISHED for record in found.values()):
            for run_dir in unit:
                self.finished(run_dir)
            return False
        self.attempts.update({run_dir: record.attempts for run_dir, record in found.items()})
        return True

    def look_around(self) -> None:
        """Take back what was left to other processes, to see what has become of it."""
        self.waiting.extend(self.elsewhere)
        self.elsewhere = []

    def nothing_left(self) -> bool:
        """Whether the sweep is done; asked when no unit is under way."""
        if self.search is not None and not self.waiting and not self.elsewhere:
            self.waiting.extend(self.units(self.search.pending()))  # perhaps of another machine that has gone
        return not self.waiting and not self.elsewhere

    def left_elsewhere(self, unit: Unit) -> None:
        """Take note that another process has got hold of a unit first."""
        self.elsewhere.append(unit)

    def finished(self, run_dir: Path) -> None:
        """Take note of a run with a final record, which may lead to others."""
        if self.search is not None:
            self.waiting.extend(self.units(self.search.ended(run_dir)))

    def ended(self, run_dir: Path, record: Record) -> bool:
        """Decide what follows from the end of a run's process.

        Returns:
            True when the run has been put back, to be continued.
        """
        if record.status in ("lost", "interrupted") and self._again(run_dir, record):
            self.waiting.append((run_dir,))
            return True
        self.finished(run_dir)
        self._count_first(record)
        return False

    def _again(self, run_dir: Path, record: Record) -> bool:
        """A vanished run is started again, unless it vanished the same way twice without having got any further.

        One that was interrupted by somebody else (a cluster that needs its node) is counted only if it got no further.
        """
        end = (record.error["message"] if record.error else record.status, _progress(run_dir))
        same_way, self.ends[run_dir] = self.ends.get(run_dir) == end, end
        if record.status == "lost" or same_way:
            self.retried[run_dir] += 1
        return self.retried[run_dir] <= self.retries and not (same_way and record.status == "lost")

    def _count_first(self, record: Record) -> None:
        if self.first_reasons is None or self.fail_fast is None:
            return
        reason = record.error["message"] if record.error and record.status in ("failed", "lost") else None
        if reason is None or (self.first_reasons and same_reason(reason) != same_reason(self.first_reasons[0])):
            self.first_reasons = None
            return
        self.first_reasons.append(reason)
        if len(self.first_reasons) >= self.fail_fast and (self.waiting or self.search is not None):
            count = len(self.first_reasons)
            self.hopeless = f"the first {count} runs have all failed with the same error: {reason}"


def _progress(run_dir: Path) -> int:
    """Return something that changes with every checkpoint of a run."""
    last = run_dir / CHECKPOINTS / LAST
    return last.stat().st_mtime_ns if last.exists() else 0

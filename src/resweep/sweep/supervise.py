"""The loop that drives an executor: no slot is idle while there is work, and every started run gets a record."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from resweep.claim import Busy, claim, holder
from resweep.record import FINISHED, Record, tidy, utc_now
from resweep.stopping import StopSignal
from resweep.sweep.executors.base import End, Executor, Unit
from resweep.sweep.work import Work

TICK_SECONDS = 0.5
LOOK_AROUND_SECONDS = 2.0
GRACE_SECONDS = 30.0  # for runs to save themselves
# Told with a run's folder: ``start``, then ``end``, ``again`` (put back, to be continued) or ``gone`` (its folder was
# taken away or damaged); with an empty path ``tick`` about twice a second, and ``stop`` when runs are told to stop.
Event = Callable[[str, Path], None]


def supervise(executor: Executor, work: Work, on_event: Event, stop: StopSignal, timeout: float | None = None) -> None:
    """Carry out what there is to do; one run's failure never stops another.

    When this returns, every run that was started has a record that is not ``running``, unless the disk was too full to
    write it: then it is found to be lost by whoever looks next.

    Args:
        executor: carries out units.
        work: gives units, and hears what has become of their runs; there may be some left if the first have all failed
            alike, see ``work.hopeless``.
        on_event: hears what happens.
        stop: looked at all the time: at the first signal runs under way are told to save and end, at the second they
            are ended.
        timeout: seconds after which a unit is told to stop, and after a grace period ended, see ``executor.timeout``;
            they count from when its first run has begun, not from when it was put into a cluster's queue.
    """
    underway: dict[Unit, float | None] = {}
    overdue: set[Unit] = set()
    looked = time.monotonic()
    try:
        while stop.count == 0 and work.hopeless is None:
            _fill(executor, work, underway, on_event)
            if not underway and work.nothing_left():
                break
            for end in executor.wait(TICK_SECONDS):
                del underway[end.unit]
                _take_back(end, work, on_event, timeout if end.unit in overdue else None)
                overdue.discard(end.unit)
            _remind(executor, underway, overdue, timeout)
            if time.monotonic() - looked > LOOK_AROUND_SECONDS:
                looked = time.monotonic()
                work.look_around()
            on_event("tick", Path())
    finally:
        _stop(executor, set(underway), on_event, stop)


def _fill(executor: Executor, work: Work, underway: dict[Unit, float | None], on_event: Event) -> None:
    while len(underway) < executor.slots and (unit := work.take()) is not None:
        executor.start(unit)
        underway[unit] = None
        for run_dir in unit:
            on_event("start", run_dir)


def _take_back(end: End, work: Work, on_event: Event, overdue: float | None) -> None:
    for run_dir in end.unit:
        try:
            record = settle(run_dir, end.cause, work.attempts[run_dir])
        except (FileNotFoundError, ValueError):  # its folder was taken away or damaged; the others go on
            on_event("gone", run_dir)
            continue
        if record is None:
            work.left_elsewhere((run_dir,))
            continue
        if overdue is not None and record.status in ("interrupted", "lost"):
            mark_lost(run_dir, record, f"took longer than executor.timeout={overdue:g} seconds")
        on_event("again" if work.ended(run_dir, record) else "end", run_dir)


def settle(run_dir: Path, cause: str, attempts: int, stopping: bool = False) -> Record | None:
    """Give a run whose process ended without a word a record that says so.

    Args:
        run_dir: the run.
        cause: how the process ended, behind "the run's process ended by".
        attempts: of the run before the process was started; one that did not begin has no more.
        stopping: the end was asked for; a run that had not begun then simply waits.

    Returns:
        The record; None when another process carries the run out.

    Raises:
        FileNotFoundError: the folder is gone.
        ValueError: the record is damaged.
    """
    try:
        with claim(run_dir):
            tidy(run_dir)
            record = Record.read(run_dir)
            if record.status == "running":
                message = f"the run's process ended by {cause} before its record was written"
                mark_lost(run_dir, record, message, stopping)
            elif not stopping and record.status not in FINISHED and record.attempts == attempts:
                mark_lost(run_dir, record, f"the run's process ended by {cause} before the run began")
            return record
    except Busy:
        return None


def mark_lost(run_dir: Path, record: Record, message: str, stopping: bool = False) -> None:
    """Write that a run's process is gone; where that was asked for, it is interrupted, without having saved itself."""
    record.status = "interrupted" if stopping else "lost"
    record.error = {"type": record.status.capitalize(), "message": message}
    record.finished_at = utc_now()
    try:
        record.write(run_dir)
    except OSError as error:  # a full disk: the record on it says "running" without a process, which means lost, too
        record.error["message"] += f"; nor can it be written now: {error.strerror}"


def _remind(executor: Executor, underway: dict[Unit, float | None], overdue: set[Unit], timeout: float | None) -> None:
    """Stop the units that take longer than they may; end those that do not listen."""
    if timeout is None:
        return
    now = time.monotonic()
    for unit, begun in underway.items():
        if begun is None:
            underway[unit] = now if any(holder(run_dir) for run_dir in unit) else None
        elif now - begun > timeout + GRACE_SECONDS:
            executor.kill(unit)
        elif now - begun > timeout and unit not in overdue:
            overdue.add(unit)
            executor.stop(unit)


def _stop(executor: Executor, left: set[Unit], on_event: Event, stop: StopSignal) -> None:
    """Tell units to stop; those that do not within the grace period, or at a second signal, are ended."""
    if left:
        on_event("stop", Path())
    for unit in left:
        executor.stop(unit)
    until = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < until and stop.count < 2:
        _let_go(executor, left, on_event)
    for unit in left:
        executor.kill(unit)
    until = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < until:
        _let_go(executor, left, on_event)


def _let_go(executor: Executor, left: set[Unit], on_event: Event) -> None:
    for end in executor.wait(TICK_SECONDS):
        left.discard(end.unit)
        for run_dir in end.unit:
            try:
                settle(run_dir, end.cause, 0, stopping=True)
            except (FileNotFoundError, ValueError):
                on_event("gone", run_dir)
            else:
                on_event("end", run_dir)
    on_event("tick", Path())

"""Who carries a folder out: a lock that goes with its process, however that ends.

Every run is claimed by the process that executes it, whoever asked for it: so two supervisors, on one machine or on
several that share the file system, never execute a run twice at the same time. The lock is ``flock``, which NFS (since
version 3 on Linux) and the usual cluster file systems pass on to other machines.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from resweep.record import LOCK_FILE

ATTEMPTS = 6


class Busy(Exception):
    """Another process has the folder.

    Args:
        folder: the claimed folder.
        holder: the process, in words.
    """

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"{folder} is being carried out by {holder}")
        self.folder = folder
        self.holder = holder

    def __reduce__(self) -> tuple:
        """Travel between processes with the arguments, not with the joined text."""
        return type(self), (self.folder, self.holder)


_held: set[IO[str]] = set()


def _let_go() -> None:
    """Close the locks in a forked child: a worker that loads data must not keep a claim of its parent alive."""
    for stream in list(_held):
        stream.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def claim(folder: Path, name: str = LOCK_FILE) -> Iterator[None]:
    """Hold a folder for this process.

    Args:
        folder: a run's or a sweep's folder.
        name: name of the lock file in it.

    Raises:
        Busy: another process, or another claim of this one, holds it.
        OSError: the lock file cannot be written.
    """
    with open(folder / name, "a+", encoding="utf-8") as stream:
        if not _locked(stream):
            raise Busy(folder, _holder(stream))
        _held.add(stream)
        try:
            with suppress(OSError):  # the name is for people; a full disk does not weaken the lock
                os.ftruncate(stream.fileno(), 0)
                os.write(stream.fileno(), f"process {os.getpid()} on {os.uname().nodename}".encode())
            yield
        finally:
            _held.discard(stream)


def _locked(stream: IO[str]) -> bool:
    """Try to lock for some 50 ms: somebody who only asks for the holder has the lock for an instant."""
    for attempt in range(ATTEMPTS):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt < ATTEMPTS - 1:
                time.sleep(0.01)
    return False


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip() or "another process"


def holder(folder: Path, name: str = LOCK_FILE) -> str | None:
    """Return, in words, the process that holds a folder now; None when nobody does."""
    path = folder / name
    if not path.is_file():
        return None
    with open(path, encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(stream)
    return None

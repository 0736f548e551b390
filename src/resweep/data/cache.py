"""Decoded images on disk, mapped into memory: prepared once, shared by all processes that use them.

An entry is one file: a header of one page with the digest of the facts that the pixels were made from, then the pixels.
It is filled under a lock and renamed into place, so that nobody ever reads half an entry, and a process that still maps
an older one keeps it. It is forced to disk while it is used already: until that is done its header names the start of
the machine for which it is good, as only a machine that stops can lose pages of a file that has been written. The
system's page cache holds the pixels once, however many processes map them.

The folder is ``RESWEEP_CACHE``, else ``$XDG_CACHE_HOME/resweep``, else ``~/.cache/resweep``. It may be deleted at any
time. A disk of the machine's own is best: processes share memory on one machine only. For a user without a home it is
below the folder of temporary files, where other users write, too: it counts only if it is this user's own.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import importlib.metadata
import json
import math
import mmap
import os
import re
import secrets
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from resweep.claim import Busy, claim

_MAGIC = "resweep images 1"
_FORMAT = 2  # to be raised when the same files give other pixels, or the same pixels other results
_HEADER_BYTES = 4096
_ON_DISK = "on disk"
_WAIT_SECONDS = 0.05
_SAY_AFTER_SECONDS = 5.0
_RESULTS = 999  # remembered at most, besides the newest
_said: set[str] = set()


def cache_folder() -> Path:
    """Return the folder of the cache; it need not exist."""
    given = os.environ.get("RESWEEP_CACHE")
    if given:
        return Path(os.path.expanduser(given))
    base = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if base.startswith("~"):  # a user without a home, as in some containers
        return _folder_without_home()
    return Path(base) / "resweep"


def facts_digest(facts: Sequence[object]) -> str:
    """Return a fingerprint of what an entry is made from: 32 hexadecimal characters.

    Args:
        facts: values whose ``repr`` says all that matters: names, sizes and times of files, settings, versions.
    """
    digest = hashlib.blake2b(digest_size=16)
    for fact in facts:
        digest.update(f"{fact!r}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def file_facts(path: Path | str) -> str:
    """Return what tells a file from a changed or replaced one: size, times of content and of status, inode.

    The time of the content can be set, as unpacking does, that of the status (ctime) cannot. Copies of a file differ,
    so this belongs into no digest that is to be the same on other machines.

    Raises:
        OSError: there is no such file, or it cannot be looked at.
    """
    found = os.stat(path)
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def cached(
    name: str, facts: Sequence[object], shape: tuple[int, int, int, int], fill: Callable[[Tensor], None]
) -> Tensor:
    """Return images from the cache; they are made first where the cache has none, or has them from other facts.

    While one process makes them, others wait for it. Where the cache cannot be written, stderr says so once and the
    images are made in this process's own memory.

    Args:
        name: of the entry, for instance ``"cifar10-train"``. There is one entry of a name: a new one replaces the old
            one, so everything that is used side by side needs a name of its own.
        facts: what the pixels are made from (see :func:`facts_digest`), besides the versions of the decoders.
        shape: (N, C, H, W).
        fill: writes all pixels into the tensor that it is given. What it raises is passed on and nothing is kept.

    Returns:
        uint8, shape (N, C, H, W). A write to it changes this process's copy of the page, never the file.
    """
    path = cache_folder() / f"{re.sub(r'[^A-Za-z0-9._=-]+', '_', name)}.images"
    digest = facts_digest([*_versions(), name, tuple(shape), *facts])
    found = part = None
    with contextlib.ExitStack() as stack:
        try:
            _make_folder(path.parent)
            found = _opened(path, digest, shape)
            if found is None:
                stack.enter_context(_alone(path, f"prepares the images {path.name}"))
                found = _opened(path, digest, shape)  # another process may have made it meanwhile
            if found is None:
                part = stack.enter_context(_part(path, shape))
        except OSError as error:
            say_once(f"the cache of images cannot be written ({error}): they are kept in memory")
        if found is None and part is not None:
            fill(part.images)
            found = part.published(path, digest)
    if found is None:
        found = torch.empty(shape, dtype=torch.uint8)
        fill(found)
    return found


def remembered(key: str, compute: Callable[[], Any]) -> Any:
    """Return a small result, computed the first time only; other processes that want it meanwhile wait for it.

    Args:
        key: fingerprint of everything that the result depends on, besides the versions of the decoders.
        compute: gives the result, in the types of JSON. What it raises is passed on and nothing is kept.
    """
    path = cache_folder() / "results.json"
    key = facts_digest([*_versions(), key])
    with contextlib.ExitStack() as stack:
        try:
            _make_folder(path.parent)
            if key not in (known := _read_results(path)):
                stack.enter_context(_alone_with_result(path, key))
                known = _read_results(path)  # another process may have computed it meanwhile
        except OSError as error:
            say_once(f"the cache cannot be written ({error}): nothing is kept for the next start")
            known = None
        if known is None:
            return compute()
        if key not in known:
            known[key] = compute()
            _keep_result(path, key, known[key])
    return known[key]


def say_once(text: str) -> None:
    """Write a line to stderr that this process has not written before."""
    if text not in _said:
        _said.add(text)
        print(text, file=sys.stderr, flush=True)


def _folder_without_home() -> Path:
    return Path(tempfile.gettempdir()) / f"resweep-{os.getuid()}"


def _make_folder(folder: Path) -> None:
    """Make the folder of the cache.

    Raises:
        OSError: it cannot be made, or it is among everybody's temporary files and not this user's own.
    """
    if folder != _folder_without_home():
        folder.mkdir(parents=True, exist_ok=True)
        return
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is not a folder that only this user can write to; remove it")


@functools.cache
def _versions() -> tuple[object, ...]:
    """Name what makes the pixels: torchvision is not imported for this, as that takes long."""
    return _FORMAT, f"Pillow {PIL.__version__}", f"torchvision {importlib.metadata.version('torchvision')}"


@contextlib.contextmanager
def _alone_with_result(path: Path, key: str) -> Iterator[None]:
    """Hold the lock of a result that is computed; its file goes, as there would be one for each result."""
    lock = path.with_name(f"{path.stem}-{key}")
    with _alone(lock, f"computes a result for {path.name}"):
        try:
            yield
        finally:  # who has opened it before and locks it now finds the result, or computes it as after a failure
            with contextlib.suppress(OSError):
                _lock_file(lock).unlink(missing_ok=True)


def _keep_result(path: Path, key: str, result: Any) -> None:
    """Add a result to the file; no other process does so at the same time."""
    part = path.with_name(f".results.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with _alone(path, f"writes {path.name}"):
            known = {**dict(list(_read_results(path).items())[-_RESULTS:]), key: result}
            part.write_text(json.dumps(known))
            os.replace(part, path)
    except OSError as error:
        say_once(f"the cache cannot be written ({error}): nothing is kept for the next start")
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _read_results(path: Path) -> dict[str, Any]:
    """Read what is remembered; nothing where the file is missing or no longer whole, which costs a computation."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _header(digest: str, state: str) -> bytes:
    return f"{_MAGIC} {digest} {state}\n".encode().ljust(_HEADER_BYTES, b"\0")


@functools.cache
def _machine_start() -> str:
    """Name this start of this machine; empty where the system has no name for it."""
    try:
        return f"written since the start {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except OSError:
        return ""


def _opened(path: Path, digest: str, shape: Sequence[int]) -> Tensor | None:
    """Map an entry; None where there is none of this digest and of the whole length that is safe to use."""
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size != _length(shape):
                return None
            found = stream.read(_HEADER_BYTES)
            if found != _header(digest, _ON_DISK) and found != _header(digest, _machine_start() or _ON_DISK):
                return None
            return _mapped(stream.fileno(), shape, mmap.ACCESS_COPY)
    except OSError:  # missing, or not ours to read: it is made, and what is wrong with the folder is said there
        return None


def _length(shape: Sequence[int]) -> int:
    return _HEADER_BYTES + math.prod(shape)


def _mapped(descriptor: int, shape: Sequence[int], access: int) -> Tensor:
    """Map the pixels of an open file."""
    pixels = np.frombuffer(mmap.mmap(descriptor, _length(shape), access=access), np.uint8, offset=_HEADER_BYTES)
    return torch.from_numpy(pixels).view(*shape)


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def _alone(path: Path, work: str) -> Iterator[None]:
    """Hold the lock of an entry or result; wait for it as long as another process does the work, named in words."""
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(claim(path.parent, _lock_file(path).name))
                break
            except Busy as busy:
                if time.monotonic() - started > _SAY_AFTER_SECONDS:
                    say_once(f"waiting for {busy.holder}, which {work}")
                time.sleep(_WAIT_SECONDS)
        yield


@dataclass(frozen=True)
class _Part:
    """An entry that is being made."""

    path: Path
    descriptor: int
    images: Tensor

    def published(self, path: Path, digest: str) -> Tensor:
        """Put the finished entry in its place and return its pixels; forcing it to disk goes on meanwhile."""
        images = _mapped(self.descriptor, self.images.shape, mmap.ACCESS_COPY)
        try:
            if _machine_start():
                os.pwrite(self.descriptor, _header(digest, _machine_start()), 0)
                os.replace(self.path, path)
                threading.Thread(target=_to_disk, args=(os.dup(self.descriptor), digest), daemon=True).start()
            else:
                os.fsync(self.descriptor)
                os.pwrite(self.descriptor, _header(digest, _ON_DISK), 0)
                os.replace(self.path, path)
        except OSError as error:
            say_once(f"the cache of images cannot be written ({error}): they are kept in memory")
        return images


def _to_disk(descriptor: int, digest: str) -> None:
    """Force an entry to disk and say so in its header; where that fails it is good until the machine stops."""
    with contextlib.suppress(OSError):
        os.fsync(descriptor)
        os.pwrite(descriptor, _header(digest, _ON_DISK), 0)
    os.close(descriptor)


@contextlib.contextmanager
def _part(path: Path, shape: Sequence[int]) -> Iterator[_Part]:
    """Open a new file beside an entry with room for all pixels, and remove what a killed process has left there."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        left.unlink(missing_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        # A full disk is an error here; later, when a page is written to, it would be a signal that kills.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, _length(shape))
        else:
            os.ftruncate(descriptor, _length(shape))
        yield _Part(part, descriptor, _mapped(descriptor, shape, mmap.ACCESS_WRITE))
    finally:
        os.close(descriptor)
        part.unlink(missing_ok=True)

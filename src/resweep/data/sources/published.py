"""Files of published data sets: found, fetched into place when complete, or reported as missing or damaged."""

from __future__ import annotations

import contextlib
import http.client
import os
import pickle
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resweep.data.cache import file_facts
from resweep.data.image_folder import existing_folder
from resweep.errors import Problem, RequestError

_NETWORK_TIMEOUT_SECONDS = 30.0
_BROKEN = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AssertionError, EOFError, pickle.UnpicklingError,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """What a published data set is on disk and where it comes from.

    Args:
        title: its name in messages.
        expected: files and folders below the root that must be there, with forward slashes.
        fetch: downloads the set into the folder it is given; None where nobody offers it any more.
        kept: what a download moves into place; None for ``expected``.
    """

    title: str
    expected: tuple[str, ...]
    fetch: Callable[[str], object] | None
    kept: tuple[str, ...] | None = None

    def found(self, root: str | Path | None, download: bool) -> Path:
        """Return the root with all expected files; they are fetched first where that is allowed.

        Args:
            root: folder of the data.
            download: fetch what is missing; existing files are never fetched again.

        Raises:
            RequestError: key ``data.root`` if files are missing, ``data.download`` if fetching failed.
        """
        if root is None or str(root) == "":
            return existing_folder(root)
        folder = Path(root).expanduser()
        missing = [name for name in self.expected if not (folder / name).exists()]
        if not missing:
            return folder
        if not download or self.fetch is None:
            raise RequestError(self._missing(root, missing, download))
        try:
            with _removed_if_empty(folder), _network_timeout():
                self._download(folder)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            message = f"fetching {self.title} into {folder} failed: {one_line(error)}"
            raise RequestError(Problem("data.download", "true", message)) from error
        return folder

    def _missing(self, root: str | Path, missing: Sequence[str], download: bool) -> Problem:
        more = "" if len(missing) == 1 else f" and {len(missing) - 1} more"
        files = f"{self.title} files (expected {missing[0]}{more})"
        if self.fetch is not None:
            message = f"has no {files}; set data.download=true to fetch them or data.root=… to point at them"
            return Problem("data.root", str(root), message)
        gone = "its publishers no longer offer it for download: get it elsewhere and set data.root=… to point at it"
        if download:
            return Problem("data.download", "true", f"{root} has no {files}, and {gone}")
        return Problem("data.root", str(root), f"has no {files}; {gone}")

    def _download(self, folder: Path) -> None:
        """Fetch into a folder of its own and move everything into place when all is complete and checked."""
        # Messages and progress bars go to stderr: stdout belongs to results.
        with (
            tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary,
            contextlib.redirect_stdout(sys.stderr),
        ):
            self.fetch(temporary)
            for name in self.expected if self.kept is None else self.kept:
                _move(Path(temporary) / name, folder / name)


def facts_of(files: Sequence[Path]) -> list[tuple[str, str]]:
    """Return what tells files from changed ones: their paths and :func:`resweep.data.cache.file_facts`."""
    return [(str(path.absolute()), file_facts(path)) for path in files]


@contextlib.contextmanager
def damaged(title: str, root: str | Path, fetched: bool = True) -> Iterator[None]:
    """Turn what readers say about broken files into a problem of the request.

    Args:
        title: name of the data set.
        root: folder of the data.
        fetched: whether the set can be fetched again.

    Raises:
        RequestError: key ``data.root``.
    """
    try:
        yield
    except _BROKEN as error:
        remedy = "delete them and set data.download=true to fetch them again" if fetched else "replace them"
        message = f"its {title} files are damaged ({one_line(error)}); {remedy}"
        raise RequestError(Problem("data.root", str(root), message)) from error


@contextlib.contextmanager
def matlab_errors() -> Iterator[None]:
    """Let scipy say with a ValueError that a file is no MATLAB file."""
    from scipy.io.matlab import MatReadError

    try:
        yield
    except MatReadError as error:
        raise ValueError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """Join the text of an error into one line; its type where there is no text."""
    return " ".join(str(error).split()) or type(error).__name__


def _move(source: Path, target: Path) -> None:
    """Move a file, or what a folder holds into the folder that is there already."""
    if source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            _move(entry, target / entry.name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


@contextlib.contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Make a folder with its parents, and take back those that were new when the work in it fails."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # somebody else has put something into it meanwhile: it stays
            for path in new:
                path.rmdir()
        raise


@contextlib.contextmanager
def _network_timeout() -> Iterator[None]:
    """Give up on a silent server, which torchvision alone would wait for without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

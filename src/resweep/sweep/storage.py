"""Where the study of a search is kept: a journal in the sweep's folder, or a database. Optuna is imported late."""

from __future__ import annotations

import json
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from resweep.errors import Problem, RequestError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL_FILE = "study.journal"
REACH_SECONDS = 5.0
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what Optuna says about experimental arguments and its progress off the screen; its errors are raised."""
    optuna = optuna_module()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def optuna_module() -> Any:
    """Return the imported package.

    Raises:
        RequestError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        message = f"needs the package {error.name}: pip install optuna"
        raise RequestError(Problem("search", None, message)) from error
    return optuna


def lasting(written: Any, resolved: str | None) -> str | None:
    """Return the storage's address as it is kept in the sweep's folder.

    An address that takes a part from the environment (``${oc.env:NAME}``) stays as it is written, so that a password
    is not put on disk; the file of an SQLite database becomes absolute.
    """
    if resolved is None or ("${oc.env:" in str(written) and not resolved.startswith("sqlite")):
        return None if resolved is None else str(written)
    path = sqlite_path(resolved)
    return resolved if path is None else f"sqlite:///{path}"


def sqlite_path(url: str) -> Path | None:
    """Return the absolute path of the file that an SQLite address names; None for any other address."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)", url)
    return None if found is None or found[1] == ":memory:" else Path(os.path.abspath(os.path.expanduser(found[1])))


def address(storage: str) -> str:
    """Return a kept address with the environment's values put in."""
    return str(OmegaConf.create({"storage": storage}).storage)


def check_storage(url: str) -> list[Problem]:
    """Return what keeps a storage from being used; nothing is written, and it takes a few seconds at most."""
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        parts = make_url(url)
    except ArgumentError:
        return [
            Problem(
                "search.storage", without_password(url), "is not an address; for instance sqlite:////folder/study.db"
            )
        ]
    shown = parts.render_as_string(hide_password=True)
    try:
        engine = create_engine(parts)
    except ModuleNotFoundError as error:
        return [Problem("search.storage", shown, f"needs the package {error.name}: pip install it")]
    except (SQLAlchemyError, ValueError) as error:
        return [Problem("search.storage", shown, f"is of a kind that is not known: {first_line(error)}")]
    try:
        if parts.get_backend_name() == "sqlite":
            return _check_sqlite(url, shown)
        if parts.host:
            port = parts.port or PORTS.get(parts.get_backend_name())
            with socket.create_connection((parts.host, port), timeout=REACH_SECONDS) if port else _nothing():
                pass
        engine.connect().close()
    except (OSError, SQLAlchemyError) as error:
        return [
            Problem("search.storage", shown, f"cannot be reached: {first_line(getattr(error, 'orig', None) or error)}")
        ]
    finally:
        engine.dispose()
    return []


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def without_password(url: str) -> str:
    """Return an address as it may be shown."""
    return re.sub(r"(?<=:)[^:@/]+(?=@)", "***", url)


def _check_sqlite(url: str, shown: str) -> list[Problem]:
    import sqlite3

    path = sqlite_path(url)
    if path is None:
        return [Problem("search.storage", shown, "is in memory and lost with the process; give a file")]
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        reason = "is not writable for this user" if path.parent.is_dir() else "is not a folder"
        return [Problem("search.storage", shown, f"cannot be reached: {path.parent} {reason}")]
    if path.exists():
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
                connection.execute("PRAGMA schema_version").fetchone()
            connection.close()
        except sqlite3.Error as error:
            return [Problem("search.storage", shown, f"cannot be reached: {first_line(error)}")]
    return []


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def storage_errors() -> tuple[type[Exception], ...]:
    """Return the errors that a storage raises when it cannot be reached or read."""
    from sqlalchemy.exc import SQLAlchemyError

    return (OSError, SQLAlchemyError, optuna_module().exceptions.OptunaError)


def open_storage(search: Mapping[str, Any], sweep_dir: Path) -> BaseStorage:
    """Return the storage of a sweep's study; a new one is set up.

    Raises:
        RequestError: the storage cannot be reached, or the journal is damaged.
    """
    optuna = optuna_module()
    from sqlalchemy.exc import SQLAlchemyError

    if search["storage"] is None:
        from optuna.storages.journal import JournalFileBackend

        path = str((sweep_dir / JOURNAL_FILE).absolute())
        try:
            return optuna.storages.JournalStorage(JournalFileBackend(path))
        except (LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise RequestError(_damaged(sweep_dir, "it is not what Optuna writes")) from error
    url = address(search["storage"])
    waiting = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=waiting))
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:  # the last: another version's tables
        message = f"cannot be reached: {first_line(getattr(error, 'orig', None) or error)}"
        raise RequestError(Problem("search.storage", without_password(url), message)) from error


def check_journal(search: Mapping[str, Any], sweep_dir: Path) -> None:
    """Raise RequestError when a line of the study's journal is damaged; half a line at its end is not looked at."""
    path = sweep_dir / JOURNAL_FILE
    if search["storage"] is not None or not path.is_file():
        return
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                whole = not line.endswith(b"\n") or isinstance(json.loads(line), dict)
            except ValueError:
                whole = False
            if not whole:
                raise RequestError(_damaged(sweep_dir, f"line {number}"))


def _damaged(sweep_dir: Path, what: str) -> Problem:
    message = f"{JOURNAL_FILE} is damaged: {what}. Put it back, or begin anew with another sweep_name"
    return Problem("SWEEP_DIR", str(sweep_dir), message)


def holds_study(search: Mapping[str, Any], name: str, sweep_dir: Path) -> bool:
    """Whether a file has the study of a name, judged without writing; of a server's database it is not known: True.

    Raises:
        RequestError: the file of a database cannot be read.
    """
    if search["storage"] is None:
        path = sweep_dir / JOURNAL_FILE
        return path.is_file() and path.stat().st_size > 0
    import sqlite3

    url = address(search["storage"])
    database = sqlite_path(url)
    if database is None:
        return True
    if problems := _check_sqlite(url, without_password(url)):
        raise RequestError(problems)
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
            return connection.execute("SELECT 1 FROM studies WHERE study_name = ?", (name,)).fetchone() is not None
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return False
        message = f"cannot be reached: {first_line(error)}"
        raise RequestError(Problem("search.storage", without_password(url), message)) from error


def heal_journal(sweep_dir: Path) -> None:
    """Take away the beginning of a line that a machine which lost power left at the end of the study's journal."""
    path = sweep_dir / JOURNAL_FILE
    if not path.exists() or not path.stat().st_size:
        return
    from optuna.storages.journal import JournalFileSymlinkLock

    lock = JournalFileSymlinkLock(str(path.absolute()))
    with open(path, "rb+") as stream, _held(lock.acquire, lock.release):
        content = stream.read()
        stream.truncate(content.rfind(b"\n") + 1)


@contextmanager
def _held(acquire: Callable[[], Any], release: Callable[[], Any]) -> Iterator[None]:
    acquire()
    try:
        yield
    finally:
        release()

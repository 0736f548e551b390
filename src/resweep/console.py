"""What a person sees: where it goes, in which form, and how numbers are written.

Progress, banners and warnings go to stderr, results to stdout. ``live`` redraws a terminal, ``plain`` writes one
complete line per event, ``off`` writes nothing; which one is decided by the stream and never by installed packages.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TextIO

from resweep.errors import Problem, RequestError, nearest_name

MANY_DIGITS = 12
MODES = ("auto", "live", "plain", "off")
CONTROL = r"[\x00-\x1f\x7f]+"  # characters that would break a line or colour it


@dataclass(frozen=True)
class Output:
    """How much to say and how.

    Args:
        mode: ``live``, ``plain`` or ``off``: how progress is shown on stderr.
        quiet: 0 everything; 1 result block and errors; 2 errors only.
    """

    mode: str
    quiet: int = 0

    def note(self, text: str) -> None:
        """Write a line about what is going on to stderr, unless quiet."""
        if self.quiet == 0:
            print(text, file=sys.stderr, flush=True)

    def result(self, text: str) -> None:
        """Write a result to stdout, unless very quiet."""
        if self.quiet < 2:
            print(text, flush=True)

    def event(self, kind: str, /, **facts: Any) -> None:
        """Write one complete line with the time, the kind and ``key=value`` facts; only in plain mode."""
        if self.mode == "plain":
            given = {key: str(value) for key, value in facts.items() if value is not None}
            words = [f"{key}={shlex.quote(re.sub(CONTROL, ' ', text))}" for key, text in given.items()]
            self.note(" ".join([time.strftime("%H:%M:%S"), f"{kind:<6}", *words]))


# How Hydra's callbacks into this package (the sweeper plugin) learn what the command line said.
OUTPUT: ContextVar[Output] = ContextVar("output")
DRY_RUN: ContextVar[bool] = ContextVar("dry_run", default=False)


def progress_mode(asked: str, stream: TextIO, environ: Mapping[str, str]) -> str:
    """Return ``live``, ``plain`` or ``off``.

    ``auto`` is ``live`` only on a terminal that can be redrawn, outside CI.

    Args:
        asked: one of ``MODES``.
        stream: where progress goes.
        environ: environment variables.
    """
    if asked != "auto":
        return asked
    if stream.isatty() and environ.get("TERM") != "dumb" and not environ.get("CI"):
        return "live"
    return "plain"


def take_output_options(arguments: list[str], environ: Mapping[str, str]) -> tuple[Output, list[str]]:
    """Split ``--progress MODE``, ``-q`` and ``-qq`` off a command line.

    Args:
        arguments: words behind the command.
        environ: ``RESWEEP_PROGRESS`` is the default of ``--progress``.

    Returns:
        The output settings and the other words.

    Raises:
        RequestError: the mode is unknown.
    """
    asked, key, quiet, rest = environ.get("RESWEEP_PROGRESS") or "auto", "RESWEEP_PROGRESS", 0, []
    words = iter(arguments)
    for word in words:
        if word == "--progress" or word.startswith("--progress="):
            key = "--progress"
            asked = word.partition("=")[2] if "=" in word else next(words, "")
        elif word in ("-q", "-qq", "--quiet"):
            quiet += 2 if word == "-qq" else 1
        else:
            rest.append(word)
    if asked not in MODES:
        raise RequestError(Problem(key, asked, f"must be one of {', '.join(MODES)}", nearest_name(asked, MODES)))
    mode = "off" if quiet else progress_mode(asked, sys.stderr, environ)
    return Output(mode, min(quiet, 2)), rest


def terminal_width(stream: TextIO) -> int | None:
    """Return the columns of a terminal; None for anything else, where nothing is wrapped or cut."""
    return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else None


def duration(seconds: float | None) -> str:
    """Return a time as people say it: ``8.3s``, ``1m08s``, ``1h52m``; ``-`` for None.

    Example:
        >>> [duration(s) for s in (8.3, 68, 6720, None)]
        ['8.3s', '1m08s', '1h52m', '-']
    """
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def size(count: float) -> str:
    """Return a number of bytes with a unit, decimal.

    Example:
        >>> size(1_234_000)
        '1.2 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def value(text: Any, exact: bool = False) -> str:
    """Return a config value as it is written on the command line (``5e-4`` stays short, null for None).

    A number with many digits, as a search proposes it, is shown with four unless ``exact``.

    Example:
        >>> [value(v) for v in (0.0005, 0, True, None, "sgd", 0.06001143797993615)]
        ['0.0005', '0', 'true', 'null', 'sgd', '0.06001']
    """
    if text is None:
        return "null"
    if isinstance(text, bool):
        return str(text).lower()
    if isinstance(text, float):
        whole = f"{text:g}" if float(f"{text:g}") == text else repr(text)
        return whole if exact or len(whole) <= MANY_DIGITS else f"{text:.4g}"
    return json.dumps(text) if isinstance(text, (list, dict)) else str(text)


def relative(path: str | os.PathLike[str]) -> str:
    """Return a path relative to the working folder where that is shorter."""
    text = os.path.relpath(path)
    return text if len(text) < len(os.fspath(path)) and not text.startswith("../..") else os.fspath(path)


def command(*words: str) -> str:
    """Return a command that can be pasted into a shell."""
    return shlex.join(words)


def print_problems(problems: Iterable[Problem], words: list[str]) -> None:
    """Say on stderr everything that is wrong with a request, and how it would be right."""
    problems = list(problems)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"error: {count}, nothing was started", "", f"  {command('resweep', *words)}", ""]
    for number, problem in enumerate(problems, 1):
        given = problem.key if problem.value is None else f"{problem.key}={problem.value}"
        lines.append(f"  {number}  {given}: {problem.message}")
        if problem.nearest is not None:
            lines.append(f"     did you mean  {problem.nearest} ?")
    corrected = corrected_command(problems, words)
    if corrected is not None:
        lines += ["", f"  corrected:  {corrected}"]
    print("\n".join(lines), file=sys.stderr, flush=True)


SECTIONS = (
    "data", "augment", "model", "optimizer", "scheduler", "regularizer", "averaging", "loss", "trainer", "logger",
    "search", "executor",
)  # fmt: skip


def corrected_command(problems: list[Problem], words: list[str]) -> str | None:
    """Return the command with each misspelt word replaced by the nearest valid one; None if nothing can be replaced."""
    fixed, changed = list(words), False
    for problem in problems:
        if problem.nearest is None:
            continue
        for position, word in enumerate(fixed):
            if problem.value is None and word == problem.key:  # a command, a group or a folder
                fixed[position], changed = problem.nearest, True
                continue
            key, separator, given = word.partition("=")
            if key.lstrip("+") != problem.key or not separator:
                continue
            if not _names_a_key(problem):  # the value was wrong, possibly one of several swept ones
                right = problem.nearest.removeprefix(f"{problem.key}=")
                values = [right if one == problem.value else one for one in given.split(",")]
                fixed[position] = f"{key}={','.join(values)}"
            else:
                plus = "++" if key.startswith("+") else ""  # holds whether or not the key is there
                fixed[position] = f"{plus}{problem.nearest}={given}"
            changed = changed or fixed[position] != word
    return command("resweep", *fixed) if changed else None


def _names_a_key(problem: Problem) -> bool:
    """Tell whether the nearest name of a problem stands for its key, and not for its value."""
    if problem.key.startswith("-"):  # an option of the command line, which is known by now
        return False
    section, dot, _ = str(problem.nearest).partition(".")
    return "=" not in str(problem.nearest) and ("." not in problem.key or bool(dot and section in SECTIONS))

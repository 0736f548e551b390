"""What a user did wrong, said once and completely.

Every check collects :class:`Problem` objects; the command line prints them all and exits with status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake in a request.

    Args:
        key: the config key, command-line word or path the problem is about.
        value: what was given, as text; None when nothing was given.
        message: what is wrong and what is allowed, one sentence without the key's name in front.
        nearest: the closest valid name or value, None when nothing is close.
    """

    key: str
    value: str | None
    message: str
    nearest: str | None = None

    def __str__(self) -> str:
        given = self.key if self.value is None else f"{self.key}={self.value}"
        hint = "" if self.nearest is None else f"  did you mean  {self.nearest} ?"
        return f"{given}: {self.message}{hint}"


class RequestError(Exception):
    """The request is wrong and nothing was started (exit status 2).

    Args:
        problems: every mistake that was found, in the order in which they should be read.
    """

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple:
        """Travel between processes with the problems, not with the joined text."""
        return type(self), (self.problems,)


class Terminated(BaseException):
    """SIGTERM asked this process to stop; like KeyboardInterrupt, nothing but the outermost caller may catch it."""


def nearest_name(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name closest to a misspelt one, None when none is similar.

    A name that differs in letter case only, or that is the last part of a dotted allowed name, counts as close.

    Example:
        >>> nearest_name("optmizer", ["optimizer", "data"])
        'optimizer'
        >>> nearest_name("lr", ["optimizer.lr", "seed"])
        'optimizer.lr'
    """
    names = list(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return close[0]
    lowered = name.lower()
    for candidate in names:
        if candidate.lower() == lowered or candidate.lower().rsplit(".", 1)[-1] == lowered.rsplit(".", 1)[-1]:
            return candidate
    return None


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """Return the dotted key closest to a misspelt one: of its own section where that exists, else of all.

    Example:
        >>> nearest_key("data.bach_size", ["data.batch_size", "data.root", "seed"])
        'data.batch_size'
        >>> nearest_key("max_epoch", ["trainer.max_epochs", "seed"])
        'trainer.max_epochs'
        >>> nearest_key("data.foo", ["data.batch_size", "data.root", "seed"]) is None
        True
    """
    names = list(known)
    section, _, last = key.rpartition(".")
    lasts = [name[len(section) + 1 :] for name in names if section and name.startswith(f"{section}.")]
    if not lasts:
        close = nearest_name(key, [*sorted({name.split(".", 1)[0] for name in names}), *names])
        by_last = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
        return close or by_last.get(nearest_name(last, by_last) or "")
    close = nearest_name(last, [name for name in lasts if not name.startswith("_")])
    return None if close is None else f"{section}.{close}"

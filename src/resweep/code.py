"""The code and the packages that a result depends on, so that a sweep is not continued with others unnoticed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from resweep.environment import package_versions

PACKAGE = Path(__file__).parent
# The parts of this package that decide what a run computes; the others plan, watch and report.
DECISIVE = (
    "build.py", "callbacks.py", "data", "lit_module.py", "metrics.py", "models", "optim", "pruning.py", "seeding.py",
    "train.py",
)  # fmt: skip
SHOWN = 8


def code_state(import_path: str | None, allowed_targets: Mapping[str, str]) -> dict[str, str]:
    """Return the version of each package, and a hash of each source file, that can change a result.

    Args:
        import_path: folder of the user's own modules.
        allowed_targets: the classes of the user's own that configs may name; their modules count.
    """
    state = dict(_package_state())
    if import_path is not None:
        folder = Path(import_path)
        for target in allowed_targets.values():
            first = target.split(".")[0]
            for path in (*_sources(folder / f"{first}.py"), *_sources(folder / first)):
                state[str(path.relative_to(folder))] = _hash(path)
    return state


@cache
def _package_state() -> dict[str, str]:
    """The part that a process has loaded when it first asks, whatever becomes of the files later."""
    state = {name: version for name, version in package_versions().items() if name != "resweep"}
    for name in DECISIVE:
        for path in _sources(PACKAGE / name):
            state[f"resweep/{path.relative_to(PACKAGE)}"] = _hash(path)
    return state


def code_digest(state: Mapping[str, str]) -> str:
    """Return one hash of a whole state."""
    text = "\n".join(f"{name}={state[name]}" for name in sorted(state))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Return in words what has changed between two states."""
    words = []
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name.endswith(".py"):
            words.append(f"{name} {'is new' if old is None else 'is gone' if new is None else 'has changed'}")
        else:
            words.append(f"{name} {old} -> {new}")
    return words


def in_words(changes: list[str]) -> str:
    """Return a list of changes as one line."""
    more = len(changes) - SHOWN
    return ", ".join(changes[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _sources(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(path.rglob("*.py"))
    elif path.is_file():
        yield path


def _hash(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()

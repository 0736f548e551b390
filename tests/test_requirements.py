"""The lock file pins what ``pyproject.toml`` asks for, everything that needs, and nothing else."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
# Installed with every environment of Python 3.11 and older; torch and others need it.
OF_THE_ENVIRONMENT = {"pip"}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins() -> dict[str, str]:
    """Version by name of the lines that are for this Python and system."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = [one for one in wanted if one.marker is None or one.marker.evaluate()]
    names = [canonicalize_name(one.name) for one in here]
    assert len(set(names)) == len(names), "a package has two lines for this Python"
    return {name: str(one.specifier).removeprefix("==") for name, one in zip(names, here, strict=True)}


def needed(texts: Iterable[str], extras: dict[str, list[str]]) -> dict[str, str]:
    """Installed version, by name, of the packages that requirements lead to, and those they need."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in texts]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in ["", *one.extras]:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == "resweep":
                waiting += [Requirement(text) for text in extras.get(extra, [])]
                continue
            distribution = importlib.metadata.distribution(name)
            found[name] = distribution.version
            assert one.specifier.contains(distribution.version, prereleases=True), f"{one} but {distribution.version}"
            further = (Requirement(text) for text in distribution.requires or ())
            waiting += [r for r in further if r.marker is None or r.marker.evaluate({"extra": extra})]
    return found


def test_the_lock_pins_what_is_needed_and_nothing_else() -> None:
    given = project()
    extras = given["project"]["optional-dependencies"]
    texts = [*given["project"]["dependencies"], *given["build-system"]["requires"], "resweep[dev]"]
    # Two that building this project in place of an isolated environment takes.
    expected = needed([*texts, "editables"], extras)
    locked = pins()
    ours = {name: version for name, version in expected.items() if name not in OF_THE_ENVIRONMENT}
    assert {name: locked.get(name) for name in ours} == ours
    assert set(locked) - set(ours) == set()


def test_every_extra_is_part_of_the_development_environment() -> None:
    extras = project()["project"]["optional-dependencies"]
    (own,) = [Requirement(text) for text in extras["dev"] if text.startswith("resweep[")]
    assert own.extras == set(extras) - {"dev"}

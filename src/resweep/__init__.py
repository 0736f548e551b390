"""resweep: honest, resumable sweeps for image classifiers.

From Python and in notebooks: ``resweep.load(SWEEP_DIR)`` opens a sweep, ``resweep.train([...overrides])`` trains one
run and ``resweep.config([...overrides])`` composes a config; see :mod:`resweep.notebook`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

__version__ = "0.1.0"


class CallableModule(ModuleType):
    """A module that is also the function of its name in :mod:`resweep.notebook`.

    ``resweep.train`` and ``resweep.config`` are modules of the package as well as functions for notebooks. Python binds
    a module to its package when somebody imports it, so a function of that name would last until then.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return getattr(importlib.import_module("resweep.notebook"), self.__name__.rpartition(".")[2])(*args, **kwargs)


def __getattr__(name: str) -> Any:
    """Import on first use: ``import resweep`` itself loads nothing."""
    if name == "load":
        return importlib.import_module("resweep.notebook").load
    if name in ("train", "config"):
        return importlib.import_module(f"resweep.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "load", "train", "config"])

"""The machine and the software a run was made with, for its record."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGES = ("resweep", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy")


@lru_cache(maxsize=1)
def package_versions() -> dict[str, str]:
    """Return the installed version of each package that can change a result."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


@lru_cache(maxsize=4)
def git_state(folder: str) -> dict[str, Any] | None:
    """Return the commit of the checkout around a folder and whether tracked files differ from it.

    None where there is no git, no checkout or no commit yet. Asked once per process: git takes longer than a small
    run's set-up; the runs of a sweep inherit what was true when it was started.
    """
    command = ["git", "-C", folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if commit == "(initial)":
        return None
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


@lru_cache(maxsize=1)
def processor() -> str:
    """Return the processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def environment(threads: int, folder: str, code: str) -> dict[str, Any]:
    """Return the facts that a record keeps.

    Args:
        threads: processor threads of the run.
        folder: a folder of the user's code, for the git commit.
        code: digest of the code and the packages that decide the result, see :mod:`resweep.code`.
    """
    import torch

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "accelerator": accelerator,
        "packages": package_versions(),
        "code": code,
        "git": git_state(folder),
    }


def peak_memory_bytes() -> int:
    """Return the largest memory use so far: of the accelerator's allocator where one is used, else of the process."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def accelerators() -> list[str]:
    """Return the CUDA or ROCm devices this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible or [str(number) for number in range(torch.cuda.device_count())]

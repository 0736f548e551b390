"""Where a sweep's runs execute. An executor is handed units of run folders and leaves each with a final record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resweep.errors import Problem, RequestError
from resweep.sweep.executors.base import Executor


def make_executor(settings: Mapping[str, Any]) -> Executor:
    """Build the executor that a sweep's settings ask for.

    Args:
        settings: sections ``executor`` and ``trainer``, and ``threads``.

    Raises:
        RequestError: it cannot be used here; nothing was started.
    """
    section = settings["executor"]
    if section["name"] == "slurm":
        from resweep.sweep.executors.slurm import SlurmExecutor

        return SlurmExecutor(section)
    if section["name"] == "ray":
        from resweep.sweep.executors.ray_cluster import RayExecutor

        return RayExecutor(section)
    from resweep.sweep.executors.local import LocalExecutor

    trainer, per_device = settings["trainer"], section["runs_per_device"]
    devices = local_devices(section["devices"], trainer)
    workers = section["workers"] or (per_device if isinstance(trainer.get("devices"), list) else None)
    return LocalExecutor(workers, devices, per_device, settings["threads"])


def local_devices(asked: Sequence[Any] | None, trainer: Mapping[str, Any]) -> list[str] | None:
    """Return the accelerators of this machine to hand out; None when the runs use the processor.

    Args:
        asked: ``executor.devices``; None for all that are visible.
        trainer: the runs' section ``trainer``.

    Raises:
        RequestError: the runs name a device of their own.
    """
    own = trainer.get("devices")
    if asked is not None and isinstance(own, list):
        message = f"hands devices out, so runs cannot ask for trainer.devices={own} by themselves"
        raise RequestError(Problem("executor.devices", str(list(asked)), message))
    if asked is not None:
        return [str(device) for device in asked]
    if trainer["accelerator"] == "cpu" or isinstance(own, list):
        return None
    from resweep.sweep.executors.local import call_in_worker

    return call_in_worker("resweep.environment:accelerators") or None

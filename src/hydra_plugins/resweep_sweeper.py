"""The sweeper that connects Hydra's ``--multirun`` to resweep: all runs are planned, frozen and supervised by it."""

# No `from __future__ import annotations`: Hydra executes plugins without registering them as modules, and dataclasses
# could then not look their annotations up.

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class ResweepSweeperConf:
    """Values of ``hydra.sweeper``; ``params`` maps keys to sweeps, as for Hydra's own sweeper."""

    _target_: str = "hydra_plugins.resweep_sweeper.ResweepSweeper"
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="resweep", node=ResweepSweeperConf, provider="resweep")


class ResweepSweeper(Sweeper):
    """Plans every run of the request, freezes it and hands the sweep to its executor.

    Args:
        params: key to sweep expression; the command line replaces an entry with the same key.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over; its launchers are not used, since every run has a process of its own."""
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Carry the sweep out; ends the process with the sweep's exit status."""
        from resweep.console import DRY_RUN, OUTPUT
        from resweep.sweep.launch import launch

        assert self.hydra_context is not None
        given = {text.partition("=")[0].lstrip("+~") for text in arguments}
        overrides = [f"{key}={value}" for key, value in self.params.items() if key not in given]
        loader = self.hydra_context.config_loader
        raise SystemExit(launch(loader, [*overrides, *arguments], OUTPUT.get(), DRY_RUN.get()))

"""Weights & Biases: one project for a sweep, one group for the runs that repeat a setting."""

from __future__ import annotations

import inspect
import netrc
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from resweep.errors import Problem, RequestError
from resweep.loggers import Tracker, described, end_of, keep_tracking, read_tracking
from resweep.record import Record

SERVICE = "wandb"
WITHOUT_LOGIN = frozenset({"offline", "dryrun", "disabled"})


class RunWandbLogger(WandbLogger, Tracker):
    """Lightning's Weights & Biases logger for one run's folder.

    Files lie in the folder ``wandb`` of the run; nothing is printed. A continued run has the same id and so goes on in
    the same run; without a connection each attempt has its own folder, for ``wandb sync --append``.

    Args:
        save_dir: the run's folder.
        project: name of the project; None for the sweep's name.
        entity: user or team; None for that of the login.
        offline: keep everything in files, for ``wandb sync`` later; the variable WANDB_MODE=offline does the same.
        tags: tags of the run.

    Raises:
        RequestError: nobody has logged in, and ``offline`` is not set.
    """

    def __init__(
        self,
        save_dir: str,
        project: str | None = None,
        entity: str | None = None,
        offline: bool = False,
        tags: list[str] | None = None,
    ) -> None:
        self.run_dir = Path(save_dir).absolute()
        if not offline and not has_login():
            message = "needs a login: run `wandb login`, or set logger.offline=true to keep the runs in files"
            raise RequestError(Problem("logger", SERVICE, message))
        super().__init__(
            name=self.run_dir.name,
            save_dir=str(self.run_dir),
            project=project or self.run_dir.parent.name,
            entity=entity,
            mode="offline" if offline else None,  # Lightning's own word for it sets a variable of the process
            tags=tags,
        )

    @property
    @rank_zero_experiment
    def experiment(self) -> wandb.Run:
        """The run of Weights & Biases; the first access begins it."""
        if self._experiment is None:
            kept = read_tracking(self.run_dir, SERVICE).get("id") or secrets.token_hex(4)
            keep_tracking(self.run_dir, SERVICE, id=kept)
            values, tags = described(self.run_dir)
            group = tags.pop("setting")
            quiet = wandb.Settings(silent=True, console="off")
            self._wandb_init.pop("anonymous", None)  # Lightning's; W&B warns of it on the screen
            self._wandb_init |= {"id": kept, "group": group, "settings": quiet, "reinit": "create_new"}
            self._id, config = kept, {**values, "resweep": tags}
            self._experiment = wandb.init(**self._wandb_init, config=config)
            self._experiment.define_metric("trainer/global_step")
            self._experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return self._experiment

    def finalize(self, status: str = "success") -> None:
        """Close a run that failed or was interrupted; Lightning's success is only the end of a stage."""
        if status != "success":
            self._close(1)

    def finish(self, record: Record) -> None:
        """Write the final metrics at the best epoch, and the status."""
        self.log_metrics(end_of(record), step=record.best_epoch or 0)
        self.experiment.summary["status"] = record.status
        self._close(0)

    def _close(self, status: int) -> None:
        run: Any = self._experiment
        if run is not None:
            run.finish(exit_code=status)
            self._experiment = None


def has_login() -> bool:
    """Return whether Weights & Biases knows who writes, or works without a connection and need not know.

    Credentials are looked for and not tried. Versions before 0.26 cannot be asked without a question on the screen:
    where they have no key of their own and none is in the netrc file, they are left to say so themselves.
    """
    settings: Any = wandb.setup().settings
    if settings.mode in WITHOUT_LOGIN or settings.api_key or getattr(settings, "identity_token_file", None):
        return True
    if _netrc_knows(str(settings.base_url)):
        return True
    return "prompt" not in inspect.signature(wandb.login).parameters or wandb.login(prompt=False, verify=False)


def _netrc_knows(address: str) -> bool:
    """Whether the user's netrc file has an entry for a server; a file that cannot be read has none."""
    given = os.environ.get("NETRC")
    home = Path.home()
    for path in [Path(given).expanduser()] if given else [home / ".netrc", home / "_netrc"]:
        try:
            if urlsplit(address).hostname in netrc.netrc(path).hosts:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False

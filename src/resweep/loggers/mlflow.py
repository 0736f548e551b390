"""MLflow: one experiment for a sweep, one run for each of its runs."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow  # noqa: F401  # a missing extra has to be noticed when the config is checked, not in the first run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking.context.registry import resolve_tags
from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from resweep.loggers import Tracker, described, end_of, keep_tracking, one_at_a_time, read_tracking
from resweep.record import Record
from resweep.stopping import Interrupted

SERVICE = "mlflow"
LOCK_FILE = ".mlflow.lock"
ALLOW_FILES = "MLFLOW_ALLOW_FILE_STORE"
USER = re.compile(r"(?<=://)[^/?#\s]*@")
LOG = logging.getLogger(__name__)


class RunMLflowLogger(MLFlowLogger, Tracker):
    """Lightning's MLflow logger for one run's folder.

    A continued run goes on in the same MLflow run. Diverged and pruned runs are FINISHED with the tag
    ``resweep.status``; runs that failed are FAILED, interrupted ones KILLED until they are continued.

    Training does not depend on the store: when it no longer answers, that is said once in the run's log, and the
    metrics wait for the end of the run, when all of them are sent.

    Args:
        save_dir: the run's folder.
        tracking_uri: a server's address, a database, or a folder; None for the variable MLFLOW_TRACKING_URI, and where
            that is not set for the folder ``mlruns`` below ``runs_dir``. MLflow opens such a folder only where
            MLFLOW_ALLOW_FILE_STORE allows it, which is set for this process. Files suit a sweep: its runs write at the
            same time, and each has its own.
        experiment_name: name of the experiment; None for the sweep's name.
        tags: further tags of the run.

    Raises:
        MlflowException: the store cannot be reached when the run begins, or when it has ended.
    """

    def __init__(
        self,
        save_dir: str,
        tracking_uri: str | None = None,
        experiment_name: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        self.run_dir = Path(save_dir).absolute()
        self._unsent: list[tuple[dict[str, float], int | None]] = []
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or str(self.run_dir.parents[1] / "mlruns")
        if "://" not in uri and uri != "databricks":
            uri = Path(uri.removeprefix("file:")).absolute().as_uri()
        if uri.startswith("file:"):
            os.environ.setdefault(ALLOW_FILES, "true")
        with self._alone():  # a new store is made by the first client
            super().__init__(experiment_name or self.run_dir.parent.name, tracking_uri=uri, tags=tags)

    @property
    @rank_zero_experiment
    def experiment(self) -> MlflowClient:
        """MLflow's client; the first access begins the run.

        Lightning's own way sets the address for the whole process, and the next run would inherit it.
        """
        if not self._initialized:
            with _without_user():
                self._begin()
            self._initialized = True
        return self._mlflow_client

    def _begin(self) -> None:
        client, kept = self._mlflow_client, read_tracking(self.run_dir, SERVICE)
        address = without_secrets(self._tracking_uri)
        if kept.get("tracking_uri") == address:
            self._run_id = kept["run_id"]
            self._experiment_id = client.get_run(self._run_id).info.experiment_id
            client.update_run(self._run_id, "RUNNING")
            return
        values, tags = described(self.run_dir)
        tags = {f"resweep.{key}": text for key, text in tags.items()}
        with self._alone():
            self._experiment_id = self._found_or_made(client)
        all_tags = resolve_tags(tags | (self.tags or {}))
        run = client.create_run(self._experiment_id, tags=all_tags, run_name=self.run_dir.name)
        self._run_id = run.info.run_id
        self._initialized = True  # what follows asks for the client
        keep_tracking(self.run_dir, SERVICE, tracking_uri=address, run_id=self._run_id)
        self.log_hyperparams(values)

    def _found_or_made(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self._experiment_name)
        if found is not None:
            return found.experiment_id
        try:
            return client.create_experiment(self._experiment_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return client.get_experiment_by_name(self._experiment_name).experiment_id  # another machine was faster

    def _alone(self) -> Any:
        return one_at_a_time(self.run_dir.parents[1] / LOCK_FILE)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send metrics; once the store has not answered they are kept, as each attempt may last for minutes."""
        if not self._unsent:
            try:
                return super().log_metrics(metrics, step)
            except MlflowException as error:
                self._warn("the metrics from here on are sent when the run has ended", error)
        self._unsent.append((dict(metrics), step))
        return None

    def finalize(self, status: str = "success") -> None:
        """Say that the run failed or was interrupted; Lightning's success is only the end of a stage."""
        if not self._initialized or status == "success":
            return
        if self._unsent:
            LOG.warning("MLflow: %d rows of metrics were not sent; metrics.csv has them", len(self._unsent))
            return
        stopped = isinstance(sys.exc_info()[1], (Interrupted, KeyboardInterrupt))
        try:
            self.experiment.set_terminated(self._run_id, "KILLED" if stopped else "FAILED")
        except MlflowException as error:  # must not hide why the run has ended
            self._warn("it still shows this run as running", error)

    def finish(self, record: Record) -> None:
        """Write what could not be sent before, the final metrics at the best epoch, and the status.

        Raises:
            MlflowException: the store cannot be reached.
        """
        with _without_user():
            for metrics, step in [*self._unsent, (end_of(record), record.best_epoch or 0)]:
                super().log_metrics(metrics, step)
            self.experiment.set_tag(self._run_id, "resweep.status", record.status)
            self.experiment.set_terminated(self._run_id, "FINISHED")

    def _warn(self, consequence: str, error: MlflowException) -> None:
        LOG.warning("MLflow did not take what was sent; %s: %s", consequence, USER.sub("", str(error)))


def without_secrets(uri: str) -> str:
    """Return an address without user, password and parameters.

    Example:
        >>> without_secrets("https://ann:secret@host:5000/path?token=1")
        'https://host:5000/path'
    """
    return USER.sub("", uri).partition("?")[0]


@contextmanager
def _without_user() -> Iterator[None]:
    """Keep user and password of an address out of an error's message, which the run's record keeps."""
    try:
        yield
    except MlflowException as error:
        raise MlflowException(USER.sub("", str(error))) from None

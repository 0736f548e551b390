"""The run's side of pruning: after each epoch a run of a search reports its value and asks whether to go on.

A verdict is written into the study before the run is stopped. A run that was killed in between and is continued obeys
it at the same epoch. One that was killed between its report and the verdict repeats that epoch, since the checkpoint is
written later, and is judged then. No epoch is reported twice, and none that lies before the newest one is judged.

A study that cannot be reached is tried again for some seconds. Then the run fails, with an error that says so: a search
that nobody can prune any more is not what was asked for. The run can be continued from its last checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytorch_lightning import Callback, LightningModule, Trainer

from resweep.callbacks import EpochRecorder

if TYPE_CHECKING:
    from optuna.trial import Trial

VERDICT = "pruned_at"
WAITS = (0.5, 2.0, 8.0)  # seconds before a study that cannot be reached is tried again
Result = TypeVar("Result")


class StudyUnreachable(RuntimeError):
    """The study of a run's search could not be read or written."""


def pruner_for(config: dict[str, Any], run_dir: Path, recorder: EpochRecorder) -> PruningCallback | None:
    """Return the callback that stops a bad run early; None for a run that is not to be compared with others.

    Args:
        config: frozen config of the run.
        run_dir: folder of the run, in that of its sweep.
        recorder: has the epochs' rows; stands before the callback in the trainer's list.
    """
    search = config["search"]
    if not search.get("reports"):
        return None
    return PruningCallback(search, run_dir.parent, recorder, config["trainer"]["max_epochs"])


class PruningCallback(Callback):
    """Reports the monitored metric of each epoch to the search's study and stops the run when the pruner says so.

    The last epoch is reported but not judged: there is nothing left to save.

    Args:
        search: the frozen config's section, with ``trial`` and the pruner's settings.
        sweep_dir: folder of the sweep.
        recorder: has the epochs' rows.
        max_epochs: epochs of a complete run.
    """

    def __init__(self, search: dict[str, Any], sweep_dir: Path, recorder: EpochRecorder, max_epochs: int) -> None:
        self.search = search
        self.sweep_dir = sweep_dir
        self.recorder = recorder
        self.max_epochs = max_epochs
        self.pruned_at: int | None = None
        self.message: str | None = None
        self._opened: Trial | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a continued run that had been pruned by its last epoch."""
        if self.recorder.rows and self.recorder.diverged_at is None:
            self._insist(self._verdict)
            self._obey(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the newest row and obey the pruner."""
        row = self.recorder.rows[-1]
        if self.recorder.diverged_at is None and math.isfinite(row[self.recorder.monitor]):
            self._insist(lambda: self._judge(int(row["epoch"]), row[self.recorder.monitor]))
            self._obey(trainer)

    def _judge(self, epoch: int, value: float) -> None:
        from optuna.trial import TrialState

        trial = self._trial()
        frozen = trial.storage.get_trial(trial._trial_id)
        if frozen.state != TrialState.RUNNING:
            return  # the search has this trial's result, and this run is somebody's own
        self.pruned_at = frozen.user_attrs.get(VERDICT)
        if self.pruned_at is not None or epoch < (frozen.last_step or 0):
            return
        if epoch not in frozen.intermediate_values:
            trial.report(value, epoch)
        if trial.should_prune() and epoch < self.max_epochs:
            trial.set_user_attr(VERDICT, epoch)
            self.pruned_at = epoch

    def _verdict(self) -> None:
        trial = self._trial()
        self.pruned_at = trial.storage.get_trial(trial._trial_id).user_attrs.get(VERDICT)

    def _obey(self, trainer: Trainer) -> None:
        row = self.recorder.rows[-1]
        if self.pruned_at is None or row["epoch"] < self.pruned_at:
            self.pruned_at = None
            return
        monitor = self.recorder.monitor
        reason = {
            "asha": "below the rung of asha", "hyperband": "below the rung of hyperband",
            "median": "worse than the median of the other runs",
        }[self.search["pruner"]]  # fmt: skip
        self.message = (
            f"stopped after epoch {self.pruned_at} of {self.max_epochs}: {reason} ({monitor} {row[monitor]:.4g})"
        )
        trainer.should_stop = True

    def _trial(self) -> Trial:
        """The run's trial in the study, opened once."""
        if self._opened is None:
            from optuna.trial import Trial

            from resweep.sweep.ledger import read_request
            from resweep.sweep.study import load_study

            study = load_study(read_request(self.sweep_dir), self.search, self.sweep_dir)
            frozen = next(t for t in study.get_trials(deepcopy=False) if t.number == self.search["trial"])
            self._opened = Trial(study, frozen._trial_id)
        return self._opened

    def _insist(self, action: Callable[[], Result]) -> Result:
        """Do something with the study; try again when it cannot be reached."""
        from resweep.errors import RequestError
        from resweep.sweep.storage import first_line, quiet, storage_errors

        for wait in (*WAITS, None):
            try:
                with quiet():
                    return action()
            except (RequestError, *storage_errors()) as error:
                if wait is None:
                    message = f"the study of the search cannot be reached: {first_line(error)}"
                    raise StudyUnreachable(message) from error
                self._opened = None
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

"""Imported once by the fork server, so that every worker starts with everything loaded and looked up."""

import gc
import os
import sys
import tempfile
from pathlib import Path

import sklearn.datasets
import sklearn.model_selection
import torch.utils.tensorboard

import resweep.sweep.check
import resweep.tensorboard
import resweep.train
from resweep.code import code_state
from resweep.config import config_loader
from resweep.environment import git_state, package_versions, processor
from resweep.sweep.ledger import write_run
from resweep.sweep.plan import make_plan

LOADED = (sklearn.datasets, sklearn.model_selection, torch.utils.tensorboard, resweep.sweep.check, resweep.tensorboard,
          resweep.train)  # fmt: skip
SMALLEST = [
    "data=fake", "data.image_size=8", "data.train_count=64", "data.test_count=16", "model.width=1", "trainer=cpu",
    "data.batch_size=16", "trainer.max_epochs=1", "logger=none",
]  # fmt: skip


def look_up() -> None:
    """Carry out the smallest run: what is looked up at its first use is looked up before the fork, too.

    Not where there is an accelerator: its driver must not be opened before the fork, and torch would start a thread for
    it, which a fork loses. On processors alone everything happens in this one thread.
    """
    package_versions()
    processor()
    code_state(None, {})
    git_state(os.getcwd())
    if any(Path("/dev").glob("nvidia*")) or Path("/dev/kfd").exists():
        return
    with config_loader() as loader, tempfile.TemporaryDirectory() as place:
        run_dir = Path(place) / "run"
        write_run(make_plan(loader, SMALLEST).runs[0], run_dir)
        record = resweep.train.execute(run_dir)
    if record.status != "completed":
        raise RuntimeError(f"the smallest run is {record.status}: {record.error}")


try:
    look_up()
except Exception as error:  # it only saves time; a run that cannot be carried out says so itself
    print(f"resweep: workers start more slowly, {type(error).__name__}: {error}", file=sys.stderr)
gc.freeze()  # the collector of a forked process then leaves the pages alone that it shares with the others

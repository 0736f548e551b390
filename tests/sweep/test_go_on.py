"""Going on with a sweep: what is done again and what is not, what is refused, and searches from the command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from helpers import SMALL, faulty, snapshot, started, wait_until

from resweep.cli import main
from resweep.config import dump_yaml, load_yaml
from resweep.record import RUN_FILE, Record
from resweep.sweep.ledger import run_folders

Capture = pytest.CaptureFixture[str]


def words(folder: Path, *overrides: str) -> list[str]:
    common = ["logger=none", f"runs_dir={folder / 'runs'}", "sweep_name=s"]
    return ["train", "-m", "--progress", "plain", *SMALL, *common, *overrides]


def records(folder: Path) -> list[Record]:
    return [Record.read(run_dir) for run_dir in run_folders(folder / "runs" / "s")]


def attempts(folder: Path) -> list[int]:
    return [record.attempts for record in records(folder)]


def set_status(run_dir: Path, status: str) -> None:
    record = Record.read(run_dir)
    record.status = status
    record.write(run_dir)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four finished runs."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(words(folder, "seed=0,1,2,3")) == 0
    return folder / "runs" / "s"


@pytest.fixture
def sweep_dir(finished: Path, tmp_path: Path) -> Path:
    """A sweep of four runs, three of which say that they failed, were lost and were interrupted."""
    folder = shutil.copytree(finished, tmp_path / "runs" / "s")
    for run_dir, status in zip(run_folders(folder), ("failed", "lost", "interrupted"), strict=False):
        set_status(run_dir, status)
    return folder


@pytest.mark.parametrize(("command", "again"), [
    (["resume"], [2, 2, 2, 1]),
    (["resume", "--failed"], [2, 2, 1, 1]),
    (["resume", "--no-failed"], [1, 2, 2, 1]),
    (["retry"], [2, 2, 1, 1]),
    (["retry", "--failed"], [2, 1, 1, 1]),
    (["retry", "--lost"], [1, 2, 1, 1]),
    (["retry", "ID", "2"], [2, 1, 2, 1]),
    (["resume", "executor.workers=1", "executor.retries=0"], [2, 2, 2, 1]),
])  # fmt: skip
def test_which_runs_are_done_again(sweep_dir: Path, command: list[str], again: list[int], capfd: Capture) -> None:
    name = Record.read(run_folders(sweep_dir)[0]).id
    chosen = [name if word == "ID" else word for word in command[1:]]
    left = 4 - sum(count == 2 for count in again) - 1
    assert main([command[0], str(sweep_dir), *chosen]) == (1 if left else 0)
    assert attempts(sweep_dir.parents[1]) == again
    said = capfd.readouterr().err
    assert "  skip      1 done" in said and (f"  leave     {left} not asked for" in said) == bool(left)


@pytest.mark.parametrize(("command", "parts"), [
    (["retry", "3"], ["3: is completed, and finished runs are never repeated"]),
    (["retry", "NEAR"], ["is not a run of this sweep", "did you mean  seed="]),
    (["resume", "seed=5"], ["seed=5: cannot be changed any more"]),
    (["resume", "executor.retry=1"], ["is not a key of the chosen executor", "did you mean  executor.retries ?"]),
    (["resume", "executor.retries=-1", "executor=slrm"], ["executor=slrm: is not a choice", "did you mean"]),
    (["resume", "executor.retries=-1"], ["executor.retries=-1: must be a whole number, at least 0"]),
])  # fmt: skip
def test_what_is_not_there_to_be_done(sweep_dir: Path, command: list[str], parts: list[str], capfd: Capture) -> None:
    before = {name: facts for name, facts in snapshot(sweep_dir).items() if not name.startswith(".lock")}
    near = f"{run_folders(sweep_dir)[0].name[:-1]}x"  # one character away from a run's name
    assert main([command[0], str(sweep_dir), *(near if word == "NEAR" else word for word in command[1:])]) == 2
    said = capfd.readouterr().err
    assert all(part in said for part in parts) and "Traceback" not in said
    assert {name: facts for name, facts in snapshot(sweep_dir).items() if not name.startswith(".lock")} == before


def test_a_damaged_record_is_named_and_the_rest_goes_on(sweep_dir: Path, capfd: Capture) -> None:
    broken, other = run_folders(sweep_dir)[:2]
    (broken / RUN_FILE).write_text('{"id": "12345", "status": ')
    assert main(["resume", str(sweep_dir)]) == 1
    out, err = capfd.readouterr()
    assert f"{broken.name}/run.json is damaged" in err and "Traceback" not in err
    assert Record.read(other).status == "completed"
    assert out.splitlines()[-1] == "4 runs: 3 completed, 1 damaged"
    assert main(["status", str(sweep_dir)]) == 0
    assert "damaged" in capfd.readouterr().out


def test_an_edited_config_is_refused_unless_accepted(sweep_dir: Path, capfd: Capture) -> None:
    run_dir = run_folders(sweep_dir)[0]
    config = load_yaml((run_dir / "config.yaml").read_text())
    config["optimizer"]["lr"] = 0.5
    (run_dir / "config.yaml").write_text(dump_yaml(config))
    assert main(["resume", str(sweep_dir)]) == 2
    said = capfd.readouterr().err
    assert f"no longer matches its plan: the config of {run_dir.name}" in said and "--accept-changes" in said
    assert attempts(sweep_dir.parents[1]) == [1, 1, 1, 1]
    assert main(["resume", str(sweep_dir), "--accept-changes"]) == 0
    said = capfd.readouterr().out
    assert f"with changes: the config of {run_dir.name}" in said, "marked wherever the sweep is compared"
    assert f"with changes: the config of {run_dir.name}" in (sweep_dir / "report.html").read_text()
    set_status(run_dir, "lost")
    assert main(["resume", str(sweep_dir)]) == 0, "accepted once"
    changes = yaml.safe_load((sweep_dir / "sweep.yaml").read_text())["changes"]
    assert [change["what"] for change in changes] == [[f"the config of {run_dir.name}"]]


NET = """
from resweep.models.resnet import CifarResNet

class Own(CifarResNet):
    pass
"""


def test_code_of_ones_own_that_has_changed_is_refused_unless_accepted(tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "own_net.py").write_text(NET)
    own = ["model._target_=own_net.Own", "+allowed_targets.own=own_net.Own", f"import_path={tmp_path}"]
    assert main(words(tmp_path, *own, "seed=0,1")) == 0
    sweep_dir = tmp_path / "runs" / "s"
    (tmp_path / "own_net.py").write_text(NET + "\n# changed\n")
    assert main(["resume", str(sweep_dir)]) == 0, "there is nothing to be done with other code"
    set_status(run_folders(sweep_dir)[1], "lost")
    for command in (["resume", str(sweep_dir)], ["resume", str(run_folders(sweep_dir)[1])],
                    words(tmp_path, *own, "seed=0,1")):  # fmt: skip
        assert main(command) == 2
        said = capfd.readouterr().err
        assert ("own_net.py has changed" in said or "the code has changed" in said) and "--accept-changes" in said
    assert main(["resume", str(sweep_dir), "--accept-changes"]) == 0
    set_status(run_folders(sweep_dir)[1], "lost")
    assert main(["resume", str(sweep_dir)]) == 0, "accepted once"


def test_a_dry_run_says_the_plan_and_writes_nothing(tmp_path: Path, capfd: Capture) -> None:
    asked = words(tmp_path, "optimizer=sgd,adam", "seed=0,1,2", "executor.workers=2")
    assert main([*asked, "--dry-run"]) == 0
    said = capfd.readouterr().err
    assert "sweep s: 2 optimizer x 3 seed = 6 runs" in said and "known once one run has been timed" in said
    assert not list(tmp_path.iterdir())
    assert main(["train", *SMALL, f"runs_dir={tmp_path / 'runs'}", "seed=3", "--dry-run"]) == 0
    assert "seed=3" in capfd.readouterr().err and not list(tmp_path.iterdir())
    assert main(words(tmp_path, "optimizer=sgd,adam", "seed=0,1,2", "executor.workers=2")) == 0
    for run_dir in run_folders(tmp_path / "runs" / "s"):
        record = Record.read(run_dir)
        record.fit_seconds = 60.0
        if record.seed:
            record.status = "pending"
        record.write(run_dir)
    before = snapshot(tmp_path)
    assert main([*asked, "--dry-run"]) == 0
    assert "est.  about 2m00s with 2 at a time (from 2 timed runs)" in capfd.readouterr().err
    assert snapshot(tmp_path) == before


def test_editing_a_config_folder_changes_no_planned_run(tmp_path: Path) -> None:
    choice = tmp_path / "conf" / "optimizer" / "mine.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("_target_: torch.optim.SGD\nlr: 0.1\n")
    assert main([*words(tmp_path, "optimizer=mine,adam"), "--config-dir", str(tmp_path / "conf")]) == 0
    (run_dir, _) = run_folders(tmp_path / "runs" / "s")
    set_status(run_dir, "lost")
    choice.write_text("_target_: torch.optim.SGD\nlr: 0.7\n")
    assert main(["resume", str(tmp_path / "runs" / "s")]) == 0
    assert load_yaml((run_dir / "config.yaml").read_text())["optimizer"]["lr"] == 0.1


SPACE = ["search=tpe", "search.trials=8", "search.pruner=asha", "search.reduction_factor=2", "executor.workers=1",
         "optimizer=sgd,adam", "optimizer.lr=tag(log,interval(1e-4,1))", "trainer.max_epochs=4"]  # fmt: skip


def proposals(folder: Path) -> list[tuple[str, float]]:
    return [(record.swept["optimizer"], record.swept["optimizer.lr"]) for record in records(folder)]


@pytest.mark.slow
def test_a_search_that_was_killed_proposes_and_finds_the_same(tmp_path: Path, capfd: Capture) -> None:
    """Pruned runs are pruned in every table; the total of trials holds over all resumes."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(words(whole, *SPACE)) == 0
    out = capfd.readouterr().out
    states = Counter(record.status for record in records(whole))
    assert states.total() == 8 and states["pruned"] >= 1 and states["completed"] >= 2
    pruned = next(record for record in records(whole) if record.status == "pruned")
    assert pruned.epochs < 4 and pruned.error["type"] == "Pruned" and "test/accuracy" not in pruned.metrics
    sweep_dir = whole / "runs" / "s"
    assert out.splitlines()[-1] == f"8 runs: {states['completed']} completed, {states['pruned']} pruned"
    with open(sweep_dir / "results.csv", newline="") as stream:
        assert Counter(row["status"] for row in csv.DictReader(stream)) == states
    assert f"{states['pruned']} pruned" in out.splitlines()[0]
    assert "pruned" in (sweep_dir / "report.html").read_text()
    main(["status", str(sweep_dir)])
    assert sum(" pruned " in line for line in capfd.readouterr().out.splitlines()) == states["pruned"]

    request = killed / "runs" / "s" / "sweep.yaml"
    for count in (1, 4):
        command = words(killed, *SPACE) if count == 1 else ["resume", str(request.parent)]
        with started((command, killed)) as (process,):
            wait_until(lambda n=count: request.exists() and len(run_folders(request.parent)) > n)
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
    assert main(["resume", str(request.parent)]) == 0
    assert proposals(killed) == proposals(whole)
    assert [(r.status, r.epochs, r.metrics) for r in records(killed)] == [
        (r.status, r.epochs, r.metrics) for r in records(whole)
    ]
    assert main(["resume", str(request.parent)]) == 0
    assert len(records(killed)) == 8
    more = [word.replace("trials=8", "trials=9") for word in words(killed, *SPACE)]
    assert main(more) == 0
    assert len(records(killed)) == 9 and proposals(killed)[:8] == proposals(whole)


def test_a_lucky_seed_does_not_win_a_search(tmp_path: Path) -> None:
    space = ["search=random", "search.trials=3", "search.seeds=[0,1]", "optimizer.lr=interval(0.01,0.1)"]
    assert main(words(tmp_path, *space)) == 0
    found = records(tmp_path)
    assert len(found) == 6 and Counter(record.seed for record in found) == {0: 3, 1: 3}
    import optuna

    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "runs" / "s" / "study.journal"))
    )
    study = optuna.load_study(study_name="s", storage=storage)
    means = {}
    for record in found:
        means.setdefault(record.swept["optimizer.lr"], []).append(record.metrics["val/accuracy"])
    assert [(trial.params["optimizer.lr"], trial.value) for trial in study.trials] == [
        (lr, pytest.approx(sum(values) / 2)) for lr, values in means.items()
    ]


def test_a_run_of_a_search_that_fails_is_told_and_the_search_goes_on(tmp_path: Path) -> None:
    space = ["search=random", "search.trials=8", "+model.fault=none,raise", "executor.fail_fast=null"]
    assert main(words(tmp_path, *faulty(after=0), *space)) == 1
    found = {record.swept["model.fault"]: record.status for record in records(tmp_path)}
    assert found == {"none": "completed", "raise": "failed"}, "of eight trials two settings, each trained once"


def test_a_sweep_can_be_moved(sweep_dir: Path) -> None:
    moved = sweep_dir.parents[1] / "elsewhere"
    os.rename(sweep_dir, moved)
    assert main(["resume", str(moved)]) == 0
    assert {json.loads((run_dir / RUN_FILE).read_text())["status"] for run_dir in run_folders(moved)} == {"completed"}

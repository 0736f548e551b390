from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from resweep.config import read_frozen
from resweep.errors import RequestError
from resweep.record import Record
from resweep.sweep.ledger import (
    LOCK_FILE,
    SWEEP_FILE,
    check_writable,
    locked,
    prepare,
    read_request,
    request,
    run_folders,
    sweep_name,
    write_run,
)
from resweep.sweep.plan import Plan

Planner = Callable[..., Plan]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sweep_is_written_completely(plan: Planner, tmp_path: Path) -> None:
    made = plan("optimizer=sgd,adam", "seed=0,1", "trainer.max_epochs=3")
    assert prepare(made, tmp_path / "mine") is False
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    said = yaml.safe_load((tmp_path / "mine" / SWEEP_FILE).read_text())
    assert (said["name"], said["counts"], said["plan_digest"]) == ("mine", {"runs": 4}, made.digest)
    assert said["axes"] == {"optimizer": ["sgd", "adam"], "seed": ["0", "1"]}
    assert said["overrides"] == ["optimizer=sgd,adam", "seed=0,1", "trainer.max_epochs=3"]
    assert said["base"]["trainer.max_epochs"] == 3 and "seed" not in said["base"]
    folders = run_folders(tmp_path / "mine")
    assert [folder.name for folder in folders] == [run.folder for run in made.runs]
    for folder, run in zip(folders, made.runs, strict=True):
        assert read_frozen(folder) == run.config
        record = Record.read(folder)
        assert (record.status, record.attempts, record.metrics) == ("pending", 0, {})
        assert (record.id, record.label, record.config_digest) == (run.id, run.label, run.digest)
        assert (record.seed, record.swept, tuple(record.overrides)) == (run.swept["seed"], run.swept, run.overrides)


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_sweep_is_written_completely_or_not_at_all(
    plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException], at: int
) -> None:
    made, calls, write = plan("seed=0,1,2,3"), [], Record.write

    def break_off(record: Record, run_dir: Path) -> None:
        calls.append(run_dir)
        if len(calls) > at:
            raise stop
        write(record, run_dir)

    monkeypatch.setattr(Record, "write", break_off)
    with pytest.raises(stop):
        prepare(made, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert prepare(made, tmp_path / "mine") is False


def test_a_full_disk_is_said_in_words(plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resweep.sweep.ledger.write_frozen", full)
    made = plan("seed=0,1")
    with pytest.raises(RequestError, match=r"runs_dir=.*: cannot be written: No space left on device"):
        prepare(made, tmp_path / "mine")
    with pytest.raises(RequestError, match="No space left"):
        write_run(made.runs[0], tmp_path / "run")
    assert not (tmp_path / "mine").exists()


def test_the_same_plan_is_recognized_and_nothing_is_touched(plan: Planner, tmp_path: Path) -> None:
    made = plan("seed=0,1")
    prepare(made, tmp_path / "mine")
    done = Record.read(run_folders(tmp_path / "mine")[0])
    done.status = "completed"
    done.write(run_folders(tmp_path / "mine")[0])
    before = everything(tmp_path)
    assert prepare(plan("seed=0,1"), tmp_path / "mine") is True
    assert prepare(plan("seed=range(0,2)", "threads=2", "executor.workers=3"), tmp_path / "mine") is True
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["seed=0,1", "trainer.max_epochs=4"], ["trainer.max_epochs"]),
        (["seed=0,1,2"], ["seed"]),
        (["seed=0,1", "optimizer.lr=0.2", "model.dropout=0.1"], ["model.dropout", "optimizer.lr"]),
        (["seed=0,1", "+trainer.max_steps=3"], ["trainer.max_steps"]),
        (["seed=1,0"], ["seed"]),
        (["seed=0,1", "optimizer=sgd,momentum"], ["choices.optimizer", "optimizer.momentum", "optimizer"]),
    ],
)
def test_another_plan_is_refused_with_what_differs(
    plan: Planner, tmp_path: Path, overrides: list[str], keys: list[str]
) -> None:
    prepare(plan("seed=0,1"), tmp_path / "mine")
    before = everything(tmp_path)
    with pytest.raises(RequestError, match="holds another sweep") as caught:
        prepare(plan(*overrides), tmp_path / "mine")
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("sweep_name", "mine")
    assert "sweep_name=NAME" in problem.message
    named = problem.message.split("it differs in ")[1].split(". Give")[0].split(", ")
    assert sorted(named) == sorted(keys)
    assert everything(tmp_path) == before


def test_machine_facts_are_not_said_to_differ(plan: Planner, tmp_path: Path) -> None:
    prepare(plan("seed=0,1", "threads=1"), tmp_path / "mine")
    with pytest.raises(RequestError) as caught:
        prepare(
            plan("seed=0,1", "optimizer.lr=0.2", "threads=2", "runs_dir=x", "trainer.devices=[1]"), tmp_path / "mine"
        )
    assert "it differs in optimizer.lr." in caught.value.problems[0].message


@pytest.mark.parametrize("content", ["folder", "file"])
def test_something_else_in_the_way_is_left_alone(plan: Planner, tmp_path: Path, content: str) -> None:
    place = tmp_path / "mine"
    place.mkdir() if content == "folder" else place.write_text("mine")
    with pytest.raises(RequestError, match="exists and is not a sweep"):
        prepare(plan("seed=0,1"), place)
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_that_is_no_sweep_and_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a sweep"):
        read_request(tmp_path)
    (tmp_path / SWEEP_FILE).write_text("a: [")
    with pytest.raises(RequestError, match=r"sweep\.yaml is damaged"):
        read_request(tmp_path)


def test_the_request_is_plain_and_repeatable(plan: Planner) -> None:
    made = plan("seed=0,1")
    said = request(made, sweep_name(made))
    assert yaml.safe_load(yaml.safe_dump(said)) == said
    assert len(said["runs"]) == 2 and not any(key.startswith("import_path") for key in said["base"])


def test_runs_dir_is_looked_at_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "a" / "b" / "c")
    with pytest.raises(RequestError, match="file is not a folder"):
        check_writable(tmp_path / "file" / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


HOLDER = """
import sys
from pathlib import Path
from resweep.sweep.ledger import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_holds_the_sweep(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        for _ in range(2):  # being refused does not wear the name off
            with (
                pytest.raises(RequestError, match=f"is being carried out by process {holder.pid} on "),
                locked(tmp_path),
            ):
                pass
    finally:
        holder.kill()  # without a chance to clean up
        holder.communicate()
    with locked(tmp_path):
        (lock,) = tmp_path.glob(f"{LOCK_FILE}-*")
        assert lock.read_text().startswith("process ")
    with locked(tmp_path), pytest.raises(RequestError, match="is being carried out by"), locked(tmp_path):
        pass


def test_a_run_that_was_taken_away_is_made_anew(plan: Planner, tmp_path: Path) -> None:
    made = plan("seed=0,1")
    assert not prepare(made, tmp_path / "mine")
    gone = tmp_path / "mine" / made.runs[0].folder
    shutil.rmtree(gone)
    assert prepare(made, tmp_path / "mine")
    assert Record.read(gone).status == "pending"
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == sorted(
        ["sweep.yaml", *(run.folder for run in made.runs)]
    )

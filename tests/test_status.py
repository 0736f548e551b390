"""``resweep status`` reads files only; a planted sweep in every state shows what it holds."""

from __future__ import annotations

import fcntl

import pytest
import yaml

from resweep.cli import main
from resweep.errors import RequestError
from resweep.record import LOCK_FILE, Record
from resweep.status import status

STATES = ("completed", "diverged", "failed", "running", "pending")


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "runs" / "planted"
    names = []
    for seed, state in enumerate(STATES):
        run_dir = folder / f"seed={seed}-{seed:05x}"
        run_dir.mkdir(parents=True)
        names.append(run_dir.name)
        metrics = {"val/accuracy": 0.9 + seed / 100} if state == "completed" else {}
        error = {"type": "ValueError", "message": "planted"} if state == "failed" else None
        record = Record(id=f"{seed:05x}", seed=seed, swept={"seed": seed}, status=state, metrics=metrics, error=error)
        record.write(run_dir)
    request = {
        "name": "planted",
        "runs": names,
        "counts": {"runs": 5},
        "axes": {"seed": list("01234")},
        "overrides": [],
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(request))
    return folder


def test_a_running_run_whose_process_is_gone_is_lost(sweep):
    text = status(sweep)
    assert text.splitlines()[0] == "planted: 2 done   0 running   2 failed   1 waiting"
    states = [line.split()[3] for line in text.splitlines()[2:7]]
    assert states == ["completed", "diverged", "failed", "lost", "pending"]
    assert "failed  seed=2-00002  ValueError: planted" in text
    assert "the process is gone" in text
    assert "resweep resume" in text.splitlines()[-1]


def test_a_running_run_under_a_held_lock_is_running(sweep):
    with open(sweep / "seed=3-00003" / LOCK_FILE, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert status(sweep).splitlines()[0] == "planted: 2 done   1 running   1 failed   1 waiting"
    assert status(sweep).splitlines()[0] == "planted: 2 done   0 running   2 failed   1 waiting"


def test_a_folder_of_sweeps_has_a_line_for_each(sweep):
    lines = status(sweep.parent).splitlines()
    assert lines[0].split() == ["sweep", "runs", "done", "running", "failed", "waiting", "best"]
    assert lines[1].split() == ["planted", "5", "2", "0", "2", "1", "0.9000"]


def test_a_damaged_record_is_named_and_counted(sweep):
    (sweep / "seed=4-00004" / "run.json").write_text('{"id": "000')
    text = status(sweep)
    assert "damaged  seed=4-00004: run.json is damaged" in text
    assert text.splitlines()[0] == "planted: 2 done   0 running   3 failed   0 waiting"


def test_nothing_there_is_said(tmp_path, capsys):
    with pytest.raises(RequestError, match="no such folder"):
        status(tmp_path / "none")
    assert main(["status", str(tmp_path)]) == 2
    assert "holds no sweep and no run" in capsys.readouterr().err


def test_links_are_not_followed(sweep):
    runs = sweep.parent
    (runs / "latest").symlink_to(sweep / "seed=0-00000")
    lines = status(runs).splitlines()
    assert lines[0].split()[0] == "sweep" and lines[1].split()[0] == "planted"
    (runs / "again").symlink_to(sweep)
    assert status(runs).splitlines() == lines


def single_runs(folder, states):
    for number, state in enumerate(states):
        run_dir = folder / f"{number}"
        run_dir.mkdir(parents=True)
        Record(id=f"{number:05x}", status=state).write(run_dir)


def test_single_runs_are_counted(tmp_path):
    single_runs(tmp_path / "train", ["completed"])
    (tmp_path / "train" / "latest").symlink_to(tmp_path / "train" / "0")
    assert status(tmp_path).splitlines()[-1] == "1 single run"
    single_runs(tmp_path / "more", ["failed", "completed"])
    assert status(tmp_path).splitlines()[-1] == "3 single runs"


def test_single_runs_are_resumed_one_by_one(tmp_path):
    single_runs(tmp_path / "train", ["completed", "failed", "interrupted", "diverged"])
    commands = [line.split() for line in status(tmp_path / "train").splitlines() if "resweep resume" in line]
    assert [(words[0], words[-1]) for words in commands] == [
        ("again:", str(tmp_path / "train" / "1")),
        ("next", str(tmp_path / "train" / "2")),
    ]

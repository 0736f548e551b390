from __future__ import annotations

import json
import os
import pydoc
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from helpers import snapshot
from hydra.core.config_loader import ConfigLoader
from scipy.stats import qmc

from resweep.cli import main
from resweep.config import digest, load_yaml, read_frozen
from resweep.errors import RequestError
from resweep.record import SWEEP_FILE, Record
from resweep.report.load import load_sweep
from resweep.seeding import derive_seed
from resweep.sweep.ledger import accept_code, prepare, read_request, run_folders
from resweep.sweep.plan import make_plan
from resweep.sweep.search import Search
from resweep.sweep.storage import JOURNAL_FILE, address, lasting, without_password

LR, DROP = "optimizer.lr=tag(log,interval(1e-4,1))", "model.dropout=interval(0,0.9)"
MIXED = [LR, "optimizer=sgd,adam", "model.width=range(4,33,4)"]
Starter = Callable[..., Path]


@pytest.fixture
def start(loader: ConfigLoader, tmp_path: Path) -> Starter:
    """Writes the folder of a search and returns it."""

    def made(*overrides: str, name: str = "mine") -> Path:
        folder = tmp_path / name
        prepare(make_plan(loader, ["search=random", *overrides], sweep=True), folder)
        return folder

    return made


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """Address of a database that is not there yet."""
    yield f"sqlite:///{tmp_path}/studies.db"


def finish(run_dir: Path, value: float | None = 0.5, status: str = "completed") -> Path:
    """Write the record that a run would have."""
    record = Record.read(run_dir)
    record.status = status
    record.metrics = {"val/accuracy": value, "val/loss": 1.0}
    record.error = None if status == "completed" else {"type": "T", "message": "for a reason"}
    record.write(run_dir)
    return run_dir


def goodness(run_dir: Path) -> float:
    """A value that depends on the settings alone."""
    swept = Record.read(run_dir).swept
    return 1 / (1 + abs(np.log10(swept["optimizer.lr"]) + 2) + swept.get("model.dropout", 0))


def carry_on(folder: Path, rounds: int, search: Search | None = None) -> list[str]:
    """Search one run at a time; return the folders."""
    search = search or Search.open(folder)
    names = []
    for _ in range(rounds):
        runs = search.pending() or search.ask()
        if not runs:
            break
        for run_dir in runs:
            finish(run_dir, goodness(run_dir))
            names.append(run_dir.name)
            assert search.ended(run_dir) == []
    return names


def study_of(folder: Path) -> optuna.Study:
    """What Optuna itself, or its dashboard, reads."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL_FILE))
    return optuna.load_study(study_name=folder.name, storage=optuna.storages.JournalStorage(backend))


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in study_of(folder).trials]


# One search


def test_a_search_takes_its_total_and_tells_every_value(start: Starter) -> None:
    folder = start(*MIXED, "search.trials=6")
    search = Search.open(folder)
    assert (search.total, search.counts()["waiting"], search.pending()) == (6, 6, [])
    names = carry_on(folder, 20, search)
    assert len(names) == 6 and search.ask() == []
    assert search.counts() == {"complete": 6, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert run_folders(folder) == [folder / name for name in names]
    assert read_request(folder)["counts"] == {"runs": 6}
    study = study_of(folder)
    assert study.direction.name == "MAXIMIZE"
    for trial, name in zip(study.trials, names, strict=True):
        assert trial.user_attrs["runs"] == [name]
        record = Record.read(folder / name)
        assert trial.value == record.metrics["val/accuracy"] == goodness(folder / name)
        assert trial.params == {key: record.swept[key] for key in trial.params}


def test_a_trials_config_is_that_of_a_run_with_its_overrides(loader: ConfigLoader, start: Starter) -> None:
    fixed = ["monitor=val/loss", "augment=none", "optimizer.weight_decay=${optimizer.lr}"]
    folder = start(*MIXED, *fixed, "+trainer.max_steps=5,6", "search.trials=4")
    for name in carry_on(folder, 4):
        record, config = Record.read(folder / name), read_frozen(folder / name)
        (run,) = make_plan(loader, [*fixed, *record.overrides]).runs
        assert (run.digest, run.id) == (record.config_digest, record.id) and digest(config) == run.digest
        assert {key: value for key, value in config.items() if key != "search"} == {
            key: value for key, value in run.config.items() if key != "search"
        }
        assert run.swept == {} and record.swept.keys() == {
            "optimizer.lr", "optimizer", "model.width", "trainer.max_steps",
        }  # fmt: skip
        assert len(name) <= 70 and name.endswith(f"-{record.id}")


def test_resuming_does_not_need_the_configs_nor_the_folder_of_the_command(start: Starter, tmp_path: Path) -> None:
    folder = start(LR, "search.trials=2")
    code = f"""
from pathlib import Path
import resweep.config
resweep.config.shipped = None
from resweep.sweep.search import Search
print(Search.open(Path({str(folder)!r})).ask()[0].name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    run_dir = folder / done.stdout.strip()
    assert read_frozen(run_dir)["runs_dir"] == str(Path("runs").absolute())


@pytest.mark.parametrize("name", ["random", "tpe", "halton", "sobol", "gp", "nsga2"])
def test_an_interrupted_search_proposes_the_same(start: Starter, name: str) -> None:
    words = [LR, DROP, f"search={name}", "search.trials=8"]
    if name in ("tpe", "gp"):
        words.append("+search.sampler.n_startup_trials=3")
    if name == "nsga2":
        words.append("+search.sampler.population_size=3")
    whole, parts = start(*words, name="whole"), start(*words, name="parts")
    names = carry_on(whole, 8)
    assert [carry_on(parts, rounds) for rounds in (1, 4, 8)] == [names[:1], names[1:5], names[5:]]
    assert len(set(names)) == len(names) >= (6 if name == "nsga2" else 8)  # a genetic one repeats itself


def test_the_seed_of_the_search_decides(start: Starter) -> None:
    names = [carry_on(start(LR, f"search.seed={seed}", name=f"s{seed}"), 3) for seed in (0, 1)]
    assert not set(names[0]) & set(names[1])


def test_tpe_is_optunas_own(start: Starter) -> None:
    folder = start(LR, DROP, "search=tpe", "search.seed=5", "search.trials=9", "+search.sampler.n_startup_trials=4")
    names = carry_on(folder, 9)
    space = {
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
        "model.dropout": optuna.distributions.FloatDistribution(0, 0.9),
    }
    study = optuna.create_study(direction="maximize")
    for number, name in enumerate(names):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.sampler = optuna.samplers.TPESampler(
                seed=derive_seed(5, "trial", number) % 2**32, n_startup_trials=4, constant_liar=True
            )
        trial = study.ask(space)
        assert trial.params == Record.read(folder / name).swept
        study.tell(trial, goodness(folder / name))


@pytest.mark.parametrize("scramble", [True, False])
@pytest.mark.parametrize(("name", "engine"), [("halton", qmc.Halton), ("sobol", qmc.Sobol)])
def test_low_discrepancy_points_are_scipys(start: Starter, name: str, engine: Any, scramble: bool) -> None:
    folder = start(
        "model.dropout=interval(0,0.5)", "optimizer.lr=interval(1,3)", f"search={name}", "search.seed=7",
        "search.trials=8", f"search.sampler.scramble={scramble}",
    )  # fmt: skip
    swept = [Record.read(folder / one).swept for one in carry_on(folder, 8)]
    found = np.array([[one["model.dropout"] / 0.5, (one["optimizer.lr"] - 1) / 2] for one in swept])
    np.testing.assert_allclose(found, engine(2, scramble=scramble, seed=7).random(8), atol=1e-12)


def test_nothing_is_said_on_the_terminal(start: Starter, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("tpe", "sobol", "gp"):
        carry_on(start(LR, f"search={name}", "search.trials=3", name=name), 3)
    assert capfd.readouterr() == ("", "")


# Totals


def test_the_total_holds_over_resumes_and_can_be_raised(start: Starter) -> None:
    assert len(carry_on(start(LR, "search.trials=3"), 2)) == 2
    folder = start(LR, "search.trials=3")
    assert len(carry_on(folder, 9)) == 1
    assert start(LR, "search.trials=5") == folder  # the command again, with more trials
    assert len(carry_on(folder, 9)) == 2
    start(LR, "search.trials=1")
    search = Search.open(folder)
    assert (search.pending(), search.ask(), search.counts()["waiting"], len(states(folder))) == ([], [], 0, 5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("search.seed=1", "search.seed"),
        ("search=tpe", "search.name"),
        ("search=grid", "search.name"),
        ("search.pruner=asha", "search.pruner"),
        ("seed=1", "seed"),
        ("model.width=4,8", "model.width"),
    ],
)
def test_another_search_in_the_folder_is_refused(loader: ConfigLoader, start: Starter, change: str, said: str) -> None:
    folder = start("optimizer.lr=0.1,0.2")
    plan = make_plan(loader, ["search=random", "optimizer.lr=0.1,0.2", change], sweep=True)
    with pytest.raises(RequestError, match="holds another sweep; it differs in ") as caught:
        prepare(plan, folder)
    assert said in caught.value.problems[0].message.split("differs in ")[1].split(". Give")[0].split(", ")


ASKER = """
import sys, time
from pathlib import Path
from resweep.record import Record
from resweep.sweep.search import Search
search = Search.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
while runs := search.ask():
    for run_dir in runs:
        record = Record.read(run_dir)
        record.status, record.metrics = "completed", {"val/accuracy": 0.5}
        record.write(run_dir)
        print(run_dir.name, flush=True)
        search.ended(run_dir)
"""


def test_processes_that_ask_at_the_same_time_never_exceed_the_total(start: Starter) -> None:
    folder = start(LR, "search=tpe", "search.trials=11", "+search.sampler.n_startup_trials=2")
    askers = [
        subprocess.Popen([sys.executable, "-c", ASKER, str(folder)], stdin=-1, stdout=-1, text=True) for _ in range(3)
    ]
    try:
        for asker in askers:
            assert asker.stdout is not None and asker.stdout.readline() == "ready\n"
        for asker in askers:
            assert asker.stdin is not None
            asker.stdin.write("go\n")
            asker.stdin.flush()
        said = [asker.communicate(timeout=120)[0].split() for asker in askers]
    finally:
        for asker in askers:
            asker.kill()
    names = [name for one in said for name in one]
    assert len(names) == len(set(names)) == 11
    assert sorted(path.name for path in run_folders(folder)) == sorted(names)
    assert states(folder) == ["COMPLETE"] * 11
    assert sum(bool(one) for one in said) > 1  # they did search together


def test_parallel_proposals_differ(start: Starter) -> None:
    for name in ("random", "tpe", "halton"):
        folder = start(LR, DROP, f"search={name}", "search.trials=6", name=name)
        search = Search.open(folder)
        runs = [path for _ in range(6) for path in search.ask()]
        assert len(set(runs)) == 6 and search.ask() == []


# What a dying process leaves


class Died(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    "place",
    [
        "optuna.trial.Trial._suggest",
        "resweep.sweep.search.Search._begin",
        "resweep.sweep.search.write_run",
        "resweep.sweep.trial_list.TrialList.save",
    ],
)
def test_a_process_that_dies_while_asking_loses_nothing(
    start: Starter, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    words = [LR, DROP, "search=tpe", "search.trials=4", "+search.sampler.n_startup_trials=2"]
    names = carry_on(start(*words, name="whole"), 4)
    folder = start(*words, name="broken")
    assert carry_on(folder, 2) == names[:2]
    search = Search.open(folder)

    def die(*_: Any, **__: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(place, die)
        with pytest.raises(Died):
            search.ask()
    assert states(folder) == ["COMPLETE", "COMPLETE", "RUNNING"]
    again = Search.open(folder)
    assert [path.name for path in again.pending()] == names[2:3]
    assert carry_on(folder, 9, again) == names[2:]
    assert [path.name for path in run_folders(folder)] == names


def test_a_result_that_was_not_told_is_told(start: Starter) -> None:
    folder = start(LR, "search.trials=3")
    search = Search.open(folder)
    (run_dir,) = search.ask()
    finish(run_dir, 0.25)
    assert states(folder) == ["RUNNING"]
    assert Search.open(folder).pending() == []
    assert (states(folder), study_of(folder).trials[0].value) == (["COMPLETE"], 0.25)


def test_runs_under_way_are_returned_until_they_are_over(start: Starter) -> None:
    folder = start(LR, "search.trials=2")
    search = Search.open(folder)
    runs = [*search.ask(), *search.ask()]
    finish(runs[0], status="interrupted")
    assert search.ended(runs[0]) == []
    shutil.rmtree(runs[1])
    assert Search.open(folder).pending() == runs
    assert Record.read(runs[1]).status == "pending" and states(folder) == ["RUNNING"] * 2


def given_up(folder: Path, *statuses: str) -> list[Path]:
    """Ask for runs that end with these states; return them."""
    search = Search.open(folder)
    runs = []
    for status in statuses:
        (run_dir,) = search.ask()
        assert search.ended(finish(run_dir, status=status)) == []
        runs.append(run_dir)
    return runs


def notes(folder: Path) -> list[str | None]:
    return [trial.user_attrs.get("note") for trial in study_of(folder).trials]


def test_a_trial_whose_run_was_given_up_waits_in_the_study(start: Starter) -> None:
    folder = start(LR, "search.trials=5")
    runs = given_up(folder, "failed", "lost", "diverged", "pruned", "interrupted")
    search = Search.open(folder)
    assert search.ask() == [], "they count"
    assert states(folder) == ["RUNNING", "RUNNING", "PRUNED", "PRUNED", "RUNNING"]
    assert search.counts() == {"complete": 0, "pruned": 2, "failed": 3, "running": 0, "waiting": 0}
    assert notes(folder) == [
        f"run {Record.read(run_dir).id} {Record.read(run_dir).status}: for a reason" for run_dir in runs
    ]


def test_a_run_that_was_given_up_is_tried_again_once_by_each_search(start: Starter) -> None:
    folder = start(LR, "search.trials=2")
    one, two = given_up(folder, "failed", "lost")
    search, other = Search.open(folder), Search.open(folder)
    assert search.pending() == [one, two]
    assert search.ended(finish(one, status="failed")) == []
    assert search.pending() == search.pending() == [two]
    assert search.ended(finish(two, 0.5)) == []
    assert search.pending() == [] and states(folder) == ["RUNNING", "COMPLETE"]
    assert other.pending() == [one], "given up before it was opened, and this is its own attempt"
    assert other.ended(finish(one, 0.25)) == [] and other.pending() == Search.open(folder).pending() == []
    assert [trial.value for trial in study_of(folder).trials] == [0.25, 0.5]
    assert notes(folder) == ["its run was repeated"] * 2 and search.counts()["failed"] == 0


def test_a_search_under_way_leaves_alone_what_another_one_gives_up(start: Starter) -> None:
    folder = start(LR, "search.trials=2")
    search = Search.open(folder)
    assert search.pending() == []
    given_up(folder, "failed", "lost")
    assert search.pending() == []


def test_a_run_that_has_just_failed_elsewhere_is_left_to_who_has_it(start: Starter) -> None:
    folder = start(LR, "search.trials=2")
    search = Search.open(folder)
    assert search.pending() == []
    (run_dir,) = Search.open(folder).ask()
    finish(run_dir, status="failed")
    assert search.pending() == [] and Search.open(folder).pending() == [run_dir]


def test_failed_runs_are_left_alone_when_that_is_asked_for(start: Starter) -> None:
    folder = start(LR, "search.trials=5")
    failed, lost, stopped = given_up(folder, "failed", "lost", "interrupted")
    search = Search.open(folder)
    (waiting,), (unheard,) = search.ask(), search.ask()
    finish(unheard, status="failed")  # by a process that died before it said so
    search = Search.open(folder)
    assert search.pending(again=False) == search.pending() == [lost, stopped, waiting]
    for run_dir in (lost, stopped, waiting):
        search.ended(finish(run_dir))
    assert search.pending() == []
    assert states(folder) == ["RUNNING", "COMPLETE", "COMPLETE", "COMPLETE", "RUNNING"]
    assert Search.open(folder).pending(again=False) == []
    assert Search.open(folder).pending() == [failed, unheard]


def test_a_search_that_proposes_nothing_tells_what_comes_out(start: Starter) -> None:
    folder = start(LR, "search.trials=4")
    failed, lost = given_up(folder, "failed", "lost")
    telling = Search.open(folder).without_proposals()
    assert (telling.ask(), telling.pending()) == ([], [])
    assert telling.ended(finish(failed, 0.75)) == telling.ended(finish(lost, status="lost")) == []
    assert (telling.ask(), telling.pending()) == ([], [])
    assert states(folder) == ["COMPLETE", "RUNNING"] and study_of(folder).trials[0].value == 0.75
    assert Search.open(folder).pending() == [lost]


def test_a_failed_run_gets_another_attempt_when_the_search_is_resumed(start: Starter) -> None:
    folder = start(LR, "search.trials=1", "search.seeds=[0,1]")
    search = Search.open(folder)
    one, two = search.ask()
    assert search.ended(finish(one, status="failed")) == []
    assert search.pending() == [two]  # given up by this process
    assert Search.open(folder).pending() == [one, two]
    assert states(folder) == ["RUNNING"]


def test_a_repeated_run_of_a_told_trial_is_tried_again(start: Starter) -> None:
    folder = start(LR, "search.trials=1")
    run_dir = folder / carry_on(folder, 1)[0]
    shutil.rmtree(run_dir)
    search = Search.open(folder)
    assert search.pending() == [run_dir]
    assert search.ended(finish(run_dir, status="failed")) == [] and search.pending() == []
    assert Search.open(folder).pending() == [run_dir]
    shutil.rmtree(run_dir)
    assert Search.open(folder).pending(again=False) == [run_dir], "it is new and has not failed"


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_text(""),
    "cut": lambda path: path.write_text(path.read_text()[:40]),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_stops_nothing(start: Starter, damage: Callable[[Path], None]) -> None:
    folder = start(LR, "search.trials=5", "search.seeds=[0,1]")
    search = Search.open(folder)
    (told, two), (heard, four), (five, six) = search.ask(), search.ask(), search.ask()
    for run_dir in (told, two):
        search.ended(finish(run_dir))
    for run_dir in (told, heard, five):
        damage(run_dir / "run.json")
    assert search.ended(heard) == []
    for one in (search, Search.open(folder)):
        assert one.pending() == [four, six]
    assert len(search.ask()) == 2 and search.ended(finish(four)) == [] and search.ended(finish(six)) == []
    assert states(folder) == ["COMPLETE", "RUNNING", "RUNNING", "RUNNING"]
    assert notes(folder)[1] == f"run {heard.name[-5:]} has no record that can be read"
    shutil.rmtree(heard)
    again = Search.open(folder)
    assert again.pending()[0] == heard and again.ended(finish(heard)) == []
    assert states(folder)[1] == "COMPLETE"


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_run_without_a_record_is_known_by_its_config(
    start: Starter, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    folder = start(LR, "search.trials=2")
    search = Search.open(folder)

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr("resweep.sweep.trial_list.TrialList.save", die)
        search.ask()
    (run_dir,) = (path.parent for path in folder.glob("*/run.json"))
    damage(run_dir / "run.json")
    assert Search.open(folder).pending() == [] and run_folders(folder) == [run_dir]
    again = start(LR, "search.trials=2", name="again")
    carry_on(again, 0, first := Search.open(again))
    (run_dir,) = first.ask()
    damage(run_dir / "run.json")
    (run_dir / "config.yaml").write_text("")
    assert len(first.ask()) == 1 and len(run_folders(again)) == 2


def test_an_edited_run_keeps_its_folder_when_its_trial_goes_on(start: Starter) -> None:
    folder = start(LR, "search.trials=1", "search.seeds=[3,4]", "search.pruner=asha")
    search = Search.open(folder)
    (first,) = search.ask()
    record = Record.read(first)
    record.config_digest = "0" * 64  # as when changes of its config are accepted
    record.write(first)
    (second,) = search.ended(finish(first))
    assert run_folders(folder) == [first, second] and search.ended(finish(second, 0.25)) == []
    assert study_of(folder).trials[0].value == 0.375


def test_a_run_without_a_finite_value_fails_its_trial(start: Starter) -> None:
    folder = start(LR)
    search = Search.open(folder)
    search.ended(finish(search.ask()[0], None))
    assert states(folder) == ["FAIL"] and "no finite val/accuracy" in study_of(folder).trials[0].user_attrs["note"]


def test_a_run_whose_folder_was_taken_away_is_made_anew(start: Starter) -> None:
    folder = start(LR, "search.trials=2")
    gone = folder / carry_on(folder, 2)[0]
    before = read_frozen(gone)
    shutil.rmtree(gone)
    search = Search.open(folder)
    assert search.pending() == [gone] and read_frozen(gone) == before
    assert search.ended(finish(gone)) == [] and search.pending() == []


def test_half_a_line_at_the_end_of_the_journal_is_taken_away(start: Starter) -> None:
    folder = start(LR, "search.trials=3")
    carry_on(folder, 1)
    with open(folder / JOURNAL_FILE, "a") as journal:
        journal.write('{"op_code":4,"wor')
    assert len(carry_on(folder, 9)) == 2
    assert states(folder) == ["COMPLETE"] * 3


@pytest.mark.parametrize("left", [None, b"", b"first"])
@pytest.mark.parametrize("kind", ["journal", "database"])
def test_a_lost_study_is_said_and_nothing_is_written(
    start: Starter, database: str, tmp_path: Path, kind: str, left: bytes | None
) -> None:
    folder = start(LR, *([f"search.storage={database}"] if kind == "database" else []))
    path = tmp_path / "studies.db" if kind == "database" else folder / JOURNAL_FILE
    carry_on(folder, 1)
    first = path.read_bytes() + (b'{"op' if kind == "journal" else b"")
    carry_on(folder, 1)
    path.unlink()
    if left is not None:
        path.write_bytes(first if left else b"")
    before = snapshot(tmp_path)
    with pytest.raises(RequestError, match=r"lost or replaced\. Put it back, or begin anew with") as caught:
        Search.open(folder)
    assert f" has {1 if left else 0} of the 2 trials" in str(caught.value)
    assert f"{path.name} has" in str(caught.value) and snapshot(tmp_path) == before


def test_a_database_without_the_study_is_left_as_it_is(start: Starter, database: str, tmp_path: Path) -> None:
    folder = start(LR, f"search.storage={database}")
    carry_on(folder, 1)
    (tmp_path / "studies.db").unlink()
    optuna.create_study(study_name="another", storage=database)
    before = snapshot(tmp_path)
    with pytest.raises(RequestError, match="has 0 of the 1 trials"):
        Search.open(folder)
    assert snapshot(tmp_path) == before


def after(text: str) -> Callable[[str], str]:
    """Cuts a text behind a part of it."""
    return lambda whole: whole[: whole.index(text) + len(text)]


def second_line(line: str) -> Callable[[str], str]:
    return lambda whole: "\n".join([whole.split("\n")[0], line, *whole.split("\n")[2:]])


@pytest.mark.parametrize(("name", "change", "said"), [
    (SWEEP_FILE, lambda _: "", "sweep.yaml is damaged: it is no mapping"),
    (SWEEP_FILE, lambda _: "[a]\n", "sweep.yaml is damaged: it is no mapping"),
    (SWEEP_FILE, lambda _: "a: [", "sweep.yaml is damaged: "),
    (SWEEP_FILE, after("plan_digest: "), "sweep.yaml is damaged: it has no search"),
    (SWEEP_FILE, after("search:\n  name: random\n"), "sweep.yaml is damaged: its search has no trials, seed, "),
    (SWEEP_FILE, lambda whole: whole.replace("plan_digest:", "x:"), "sweep.yaml is damaged: it has no plan_digest"),
    ("space.yaml", lambda _: "", "space.yaml is damaged: its end is missing"),
    ("space.yaml", after("templates:\n"), "space.yaml is damaged: its end is missing"),
    ("space.yaml", lambda _: "a: [\n...\n", "space.yaml is damaged: "),
    ("space.yaml", lambda _: "[]\n...\n", "space.yaml is damaged: it is no list of dimensions and templates"),
    ("space.yaml", lambda whole: whole.replace("tag(log,", "tag(("), "space.yaml is damaged: it is no list of dimens"),
    ("space.yaml", lambda whole: whole.replace("config:", "konfig:"), "space.yaml is damaged: it has no whole templat"),
    ("trials.json", lambda _: "", "trials.json is damaged: "),
    ("trials.json", lambda _: "[]", "trials.json is damaged: it is no list of runs and trials"),
    ("trials.json", lambda whole: whole[:-30], "trials.json is damaged: "),
    ("trials.json", lambda whole: whole.replace("digest", "dig"), "trials.json is damaged: it is no list of runs and"),
    ("trials.json", None, "trials.json is missing; put it back"),
    (JOURNAL_FILE, second_line('{"op_code":4,"wor'), "study.journal is damaged: line 2"),
    (JOURNAL_FILE, second_line("[]"), "study.journal is damaged: line 2"),
    (JOURNAL_FILE, lambda whole: whole + "\0\0\n", "study.journal is damaged: line "),
    (JOURNAL_FILE, second_line('{"op_code":4}'), "study.journal is damaged: it is not what Optuna writes"),
])  # fmt: skip
def test_a_damaged_file_is_named_in_one_line(
    start: Starter, name: str, change: Callable[[str], str] | None, said: str
) -> None:
    folder = start(LR)
    carry_on(folder, 2)
    if change is None:
        (folder / name).unlink()
    else:
        text = (folder / name).read_text()
        assert change(text) != text
        (folder / name).write_text(change(text))
    before = snapshot(folder)
    with pytest.raises(RequestError) as caught:
        Search.open(folder)
    assert said in str(caught.value) and "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert snapshot(folder) == before


@pytest.mark.parametrize("name", [SWEEP_FILE, "space.yaml", "trials.json", JOURNAL_FILE])
def test_a_damaged_file_is_a_mistake_to_the_command_line(
    start: Starter, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    folder = start(LR)
    carry_on(folder, 1)
    (folder / name).write_text("{]\n")
    assert main(["resume", str(folder)]) == 2
    said = capfd.readouterr().err
    assert f"{name} is damaged" in said and "Traceback" not in said


# Many trials


def test_the_request_does_not_change_while_trials_are_added(start: Starter) -> None:
    folder = start(LR, "search.trials=4")
    before = (folder / SWEEP_FILE).read_bytes()
    names = carry_on(folder, 3)
    assert (folder / SWEEP_FILE).read_bytes() == before
    request = read_request(folder)
    assert request["runs"] == names and request["counts"] == {"runs": 3} and list(request["trials"]) == [0, 1, 2]
    assert load_sweep(folder).request == request and load_sweep(folder).damaged == []
    assert [run.folder for run in load_sweep(folder).runs] == names
    start(LR, "search.trials=9")  # which writes the request
    accept_code(folder, {}, ["something"])
    assert read_request(folder)["runs"] == names and not {"runs", "trials"} & set(load_yaml(before.decode()))
    assert not {"runs", "trials"} & set(load_yaml((folder / SWEEP_FILE).read_text()))


def test_a_damaged_list_of_trials_does_not_keep_a_table_from_being_read(start: Starter) -> None:
    folder = start(LR)
    names = carry_on(folder, 2)
    (folder / "trials.json").write_text('{"runs": ')
    loaded = load_sweep(folder)
    assert sorted(run.folder for run in loaded.runs) == sorted(names) and loaded.counts == {"completed": 2}
    (said,) = loaded.damaged
    assert said.startswith("trials.json: is damaged: ")


def test_files_are_read_again_only_after_others_have_changed_them(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = start(LR, "search.trials=6")
    search, other = Search.open(folder), Search.open(folder)
    read: list[str] = []
    for name in ("resweep.sweep.trial_list.read_trials", "resweep.sweep.search.read_search"):
        function = pydoc.locate(name)
        monkeypatch.setattr(name, lambda *a, f=function, n=name: (read.append(n.rpartition(".")[2]), f(*a))[1])
    first = carry_on(folder, 2, search)
    assert read == []
    (theirs,) = other.ask()
    assert read == ["read_trials"] and search.ended(finish(theirs)) == [] and read == ["read_trials"] * 2
    start(LR, "search.trials=3")
    read.clear()
    assert search.ask() == [] and read == ["read_search", "read_trials"]
    assert states(folder) == ["COMPLETE"] * 3 and run_folders(folder)[:2] == [folder / name for name in first]


def test_what_could_not_be_written_is_forgotten(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = start(LR, "search.trials=2")
    search = Search.open(folder)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("resweep.sweep.search.write_run", full)
        search.ask()
    assert search.trials == {0: {"digest": search.trials[0]["digest"], "runs": [], "given_up": []}}
    (run_dir,) = search.pending()
    assert run_folders(folder) == [run_dir] and search.trials[0]["runs"] == [run_dir.name]


def test_a_grid_is_no_search(loader: ConfigLoader, tmp_path: Path) -> None:
    prepare(make_plan(loader, ["seed=0,1"], sweep=True), tmp_path / "grid")
    with pytest.raises(RequestError, match="holds no search"):
        Search.open(tmp_path / "grid")


# Repeated settings, seeds, pruning


def test_settings_that_come_again_take_the_result_that_is_there(start: Starter) -> None:
    folder = start("optimizer=sgd,adam", "search.trials=8")
    search = Search.open(folder)
    seen = {}
    while runs := search.ask():
        (run_dir,) = runs
        seen[Record.read(run_dir).swept["optimizer"]] = finish(run_dir, 0.25 + len(seen) / 4)
        search.ended(run_dir)
    trials = study_of(folder).trials
    assert len(seen) == 2 and len(trials) == 8 and len(run_folders(folder)) == 2
    for trial in trials:
        assert trial.value == Record.read(seen[trial.params["optimizer"]]).metrics["val/accuracy"]
        assert ("same settings" in trial.user_attrs.get("note", "")) == ("runs" not in trial.user_attrs)


def test_settings_that_come_again_wait_for_the_run_under_way(start: Starter) -> None:
    folder = start("optimizer=sgd,adam", "search.trials=6")
    search = Search.open(folder)
    runs = [path for _ in range(6) for path in search.ask()]
    assert len(runs) == 2 and states(folder).count("RUNNING") == 6
    for run_dir in runs:
        assert Search.open(folder).ended(finish(run_dir, 0.5)) == []
    assert states(folder) == ["COMPLETE"] * 6


def test_settings_that_come_again_wait_for_a_run_that_was_given_up(start: Starter) -> None:
    folder = start("optimizer=sgd,adam", "search.trials=6")
    search = Search.open(folder)
    bad, good = [path for _ in range(6) for path in search.ask()]
    search.ended(finish(bad, status="failed"))
    search.ended(finish(good))
    mine = [trial.params["optimizer"] == Record.read(bad).swept["optimizer"] for trial in study_of(folder).trials]
    assert states(folder) == ["RUNNING" if one else "COMPLETE" for one in mine] and sum(mine) > 1
    assert all("failed: for a reason" in note for note, one in zip(notes(folder), mine, strict=True) if one)
    assert search.ask() == search.pending() == []
    again = Search.open(folder)
    assert again.pending() == [bad] and again.ended(finish(bad, 0.125)) == []
    assert [trial.value for trial in study_of(folder).trials] == [0.125 if one else 0.5 for one in mine]
    assert not any("failed" in (note or "") for note in notes(folder))


def test_a_trials_value_is_the_mean_over_the_seeds(start: Starter) -> None:
    folder = start(LR, "search.trials=2", "search.seeds=[0,1,4]")
    search = Search.open(folder)
    assert search.total == 6
    runs = search.ask()
    assert [Record.read(path).seed for path in runs] == [0, 1, 4]
    assert len({Record.read(path).swept["optimizer.lr"] for path in runs}) == 1
    assert [Record.read(path).swept["seed"] for path in runs] == [0, 1, 4]
    for value, path in zip((0.25, 0.5, 0.9), runs, strict=True):
        assert states(folder) == ["RUNNING"]
        assert search.ended(finish(path, value)) == []
    assert study_of(folder).trials[0].value == pytest.approx((0.25 + 0.5 + 0.9) / 3, abs=1e-15)


def test_with_a_pruner_the_first_seed_decides_on_the_others(start: Starter) -> None:
    folder = start(LR, "search.trials=3", "search.seeds=[3,4]", "search.pruner=asha")
    search = Search.open(folder)
    (first,) = search.ask()
    section = read_frozen(first)["search"]
    assert (section["pruner"], section["trial"], section["reports"], section["max_epochs"]) == ("asha", 0, True, 15)
    (second,) = search.ended(finish(first, 0.5))
    assert (Record.read(second).seed, read_frozen(second)["search"]["reports"]) == (4, False)
    assert Search.open(folder).pending() == [second]  # a process that died here
    assert search.ended(finish(second, 0.25)) == []
    (pruned,) = search.ask()
    assert search.ended(finish(pruned, 0.1, "pruned")) == []
    (failed,) = search.ask()
    assert search.ended(finish(failed, 0.1, "failed")) == []
    assert states(folder) == ["COMPLETE", "PRUNED", "RUNNING"]
    assert study_of(folder).trials[0].value == 0.375 and len(run_folders(folder)) == 4


# Databases


def test_a_study_in_a_database(start: Starter, database: str) -> None:
    folder = start(LR, f"search.storage={database}", "search.trials=3")
    names = carry_on(folder, 2)
    assert not (folder / JOURNAL_FILE).exists()
    study = optuna.load_study(study_name="mine", storage=database)
    assert [trial.user_attrs["runs"] for trial in study.trials] == [[name] for name in names]
    assert carry_on(start(LR, name="journal"), 2) == names
    assert len(carry_on(folder, 9)) == 1


def test_a_study_of_another_sweep_is_not_touched(
    loader: ConfigLoader, start: Starter, database: str, tmp_path: Path
) -> None:
    carry_on(start(LR, f"search.storage={database}"), 1)
    words = ["search=random", LR, f"search.storage={database}"]
    with pytest.raises(RequestError, match="as the study of another sweep"):
        prepare(make_plan(loader, words, sweep=True), tmp_path / "elsewhere" / "mine")
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(RequestError, match=r"is not where the sweep's study is: sqlite"):
        start(LR)


def test_a_secret_stays_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "abc")
    written = "postgresql://me:${oc.env:SECRET}@host/db"
    assert lasting(written, "postgresql://me:abc@host/db") == written
    assert address(written) == "postgresql://me:abc@host/db"
    assert lasting("sqlite:///a.db", "sqlite:///a.db") == f"sqlite:///{os.getcwd()}/a.db"
    assert lasting(None, None) is None
    assert without_password("postgresql://me:abc@host/db") == "postgresql://me:***@host/db"


def test_a_database_that_has_gone_is_said(start: Starter, database: str) -> None:
    folder = start(LR, f"search.storage={database}")
    text = (folder / SWEEP_FILE).read_text()
    (folder / SWEEP_FILE).write_text(text.replace("studies.db", "gone/studies.db"))
    with pytest.raises(RequestError, match=r"search\.storage=.*: cannot be reached"):
        Search.open(folder)


def test_the_files_are_plain(start: Starter) -> None:
    folder = start(*MIXED)
    carry_on(folder, 1)
    assert json.dumps(read_request(folder)["trials"])
    assert sorted(os.listdir(folder))[:1] == [".ask.lock"]

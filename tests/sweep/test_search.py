from __future__ import annotations

import json
import os
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
from hydra.core.config_loader import ConfigLoader
from scipy.stats import qmc

from resweep.config import digest, read_frozen
from resweep.errors import RequestError
from resweep.record import SWEEP_FILE, Record
from resweep.seeding import derive_seed
from resweep.sweep.ledger import prepare, read_request, run_folders
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
        "resweep.sweep.search.Search._save",
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


def test_a_run_that_failed_for_good_fails_its_trial(start: Starter) -> None:
    folder = start(LR, "search.trials=4")
    search = Search.open(folder)
    for status in ("failed", "lost", "diverged", "pruned"):
        (run_dir,) = search.ask()
        assert search.ended(finish(run_dir, status=status)) == []
    assert states(folder) == ["FAIL", "FAIL", "PRUNED", "PRUNED"]
    assert search.counts() == {"complete": 0, "pruned": 2, "failed": 2, "running": 0, "waiting": 0}
    diverged = Record.read(run_folders(folder)[2]).id
    assert study_of(folder).trials[2].user_attrs["note"] == f"run {diverged} diverged: for a reason"
    assert Search.open(folder).pending() == []


def test_a_failed_run_gets_another_attempt_when_the_search_is_resumed(start: Starter) -> None:
    folder = start(LR, "search.trials=1", "search.seeds=[0,1]")
    search = Search.open(folder)
    one, two = search.ask()
    assert search.ended(finish(one, status="failed")) == []
    assert search.pending() == [two]  # given up by this process
    assert Search.open(folder).pending() == [one, two]
    assert states(folder) == ["RUNNING"]


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


def test_a_lost_study_is_said(start: Starter) -> None:
    folder = start(LR)
    carry_on(folder, 2)
    (folder / JOURNAL_FILE).unlink()
    with pytest.raises(RequestError, match="its study was lost or replaced"):
        Search.open(folder)


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
    assert states(folder) == ["COMPLETE", "PRUNED", "FAIL"]
    assert study_of(folder).trials[0].value == 0.375 and len(run_folders(folder)) == 4


# Databases


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """Address of a database that is not there yet."""
    yield f"sqlite:///{tmp_path}/studies.db"


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

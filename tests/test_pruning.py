from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from helpers import SMALL

import resweep.pruning
from resweep.build import build_data, build_lit_module, build_net, build_trainer
from resweep.callbacks import BestAndLast, EpochRecorder, Silent
from resweep.config import config_loader, read_frozen
from resweep.pruning import PruningCallback, StudyUnreachable, pruner_for
from resweep.record import CHECKPOINTS, LAST, Record
from resweep.sweep.ledger import prepare
from resweep.sweep.plan import make_plan
from resweep.sweep.search import Search
from resweep.sweep.storage import JOURNAL_FILE
from resweep.train import log_to

EPOCHS = 9
LR = "optimizer.lr=tag(log,interval(1e-4,1))"
# Validation accuracy after each epoch of seven runs, good and bad ones, late bloomers and early winners.
CURVES = [
    [0.50, 0.55, 0.60, 0.65, 0.70, 0.72, 0.74, 0.75, 0.76],
    [0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90],
    [0.40, 0.42, 0.44, 0.44, 0.44, 0.44, 0.44, 0.44, 0.44],
    [0.60, 0.61, 0.62, 0.63, 0.64, 0.65, 0.66, 0.67, 0.68],
    [0.55, 0.50, 0.45, 0.40, 0.35, 0.30, 0.25, 0.20, 0.15],
    [0.45, 0.56, 0.67, 0.78, 0.80, 0.81, 0.82, 0.83, 0.84],
    [0.30, 0.30, 0.30, 0.30, 0.30, 0.30, 0.30, 0.30, 0.30],
    [0.65, 0.66, 0.67, 0.68, 0.69, 0.70, 0.71, 0.72, 0.73],
]


def new_search(folder: Path, *overrides: str) -> Search:
    words = [*SMALL, f"trainer.max_epochs={EPOCHS}", "search=random", LR, "search.trials=20", *overrides]
    with config_loader() as loader:
        prepare(make_plan(loader, words, sweep=True), folder)
    return Search.open(folder)


def callback_of(run_dir: Path, rows: Sequence[dict[str, float]] = ()) -> PruningCallback:
    config = read_frozen(run_dir)
    recorder = EpochRecorder(run_dir, config["monitor"], config["monitor_mode"], Silent())
    recorder.rows = list(rows)
    made = pruner_for(config, run_dir, recorder)
    assert made is not None
    return made


def row(epoch: int, value: float) -> dict[str, float]:
    return {"epoch": epoch, "val/accuracy": value, "val/loss": 1 - value, "train/loss": 1.0}


def train(run_dir: Path, curve: Sequence[float], already: int = 0) -> tuple[int | None, str | None]:
    """Give a run's callback a curve of values, as the trainer would; return when it was pruned, and its words."""
    callback = callback_of(run_dir, [row(epoch, curve[epoch - 1]) for epoch in range(1, already + 1)])
    trainer: Any = SimpleNamespace(should_stop=False)
    callback.on_fit_start(trainer, None)  # type: ignore[arg-type]
    for epoch in range(already + 1, len(curve) + 1):
        if trainer.should_stop:
            break
        callback.recorder.rows.append(row(epoch, curve[epoch - 1]))
        callback.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    assert trainer.should_stop == (callback.pruned_at is not None) == (callback.message is not None)
    return callback.pruned_at, callback.message


def conclude(search: Search, run_dir: Path, curve: Sequence[float], pruned_at: int | None) -> None:
    record = Record.read(run_dir)
    record.status = "completed" if pruned_at is None else "pruned"
    record.metrics = {"val/accuracy": max(curve[:pruned_at])}
    record.write(run_dir)
    assert search.ended(run_dir) == []


def by_hand(pruner: optuna.pruners.BasePruner, name: str) -> list[int | None]:
    """The epochs at which plain Optuna stops the same curves."""
    study = optuna.create_study(study_name=name, direction="maximize", pruner=pruner)
    stopped: list[int | None] = []
    for curve in CURVES:
        trial = study.ask()
        for epoch, value in enumerate(curve, 1):
            trial.report(value, epoch)
            if trial.should_prune() and epoch < EPOCHS:
                stopped.append(epoch)
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            stopped.append(None)
            study.tell(trial, max(curve))
    return stopped


@pytest.mark.parametrize(
    ("words", "pruner"),
    [
        (["search.pruner=asha"], optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=4)),
        (
            ["search.pruner=asha", "search.min_epochs=2", "search.reduction_factor=2"],
            optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2),
        ),
        (
            ["search.pruner=hyperband", "search.reduction_factor=3"],
            optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3),
        ),
        (["search.pruner=median"], optuna.pruners.MedianPruner(n_warmup_steps=1)),
        (["search.pruner=median", "search.min_epochs=4"], optuna.pruners.MedianPruner(n_warmup_steps=4)),
    ],
    ids=["asha", "asha-later", "hyperband", "median", "median-later"],
)
def test_verdicts_are_those_of_optunas_pruner(
    tmp_path: Path, words: list[str], pruner: optuna.pruners.BasePruner
) -> None:
    search = new_search(tmp_path / "mine", *words)
    stopped = []
    for curve in CURVES:
        (run_dir,) = search.ask()
        pruned_at, message = train(run_dir, curve)
        stopped.append(pruned_at)
        if pruned_at is not None:
            assert message is not None
            assert message.startswith(f"stopped after epoch {pruned_at} of {EPOCHS}: ")
            assert message.endswith(f"(val/accuracy {curve[pruned_at - 1]:.4g})") and words[0].split("=")[1] in message
        conclude(search, run_dir, curve, pruned_at)
    assert stopped == by_hand(pruner, "mine")
    assert None in stopped and any(stopped)
    least = next((int(word.split("=")[1]) for word in words if "min_epochs" in word), 1)
    assert all(epoch is None or epoch >= least for epoch in stopped)
    names = ["COMPLETE" if epoch is None else "PRUNED" for epoch in stopped]
    assert [trial.state.name for trial in search.study.trials] == names
    assert [trial.intermediate_values for trial in search.study.trials] == [
        dict(enumerate(curve[:epoch], 1)) for curve, epoch in zip(CURVES, stopped, strict=True)
    ]


@pytest.fixture
def doomed(tmp_path: Path) -> Path:
    """A run that asha would stop after its first epoch with the value 0.1."""
    search = new_search(tmp_path / "mine", "search.pruner=asha")
    (good,) = search.ask()
    conclude(search, good, CURVES[0], train(good, CURVES[0])[0])
    (run_dir,) = search.ask()
    return run_dir


def test_a_continued_run_reports_no_epoch_twice(tmp_path: Path) -> None:
    search = new_search(tmp_path / "mine", "search.pruner=median")
    (run_dir,) = search.ask()
    assert train(run_dir, CURVES[0][:4]) == (None, None)
    assert train(run_dir, [0.99] * 4 + CURVES[0][4:], already=2) == (None, None)  # epochs 3 and 4 come again
    assert search.study.trials[0].intermediate_values == dict(enumerate(CURVES[0], 1))


@pytest.mark.parametrize("already", [0, 1])
def test_a_run_that_was_killed_after_its_verdict_obeys_it(doomed: Path, already: int) -> None:
    assert train(doomed, [0.1, 0.9, 0.9])[0] == 1  # and killed before the checkpoint, or before the record
    pruned_at, message = train(doomed, [0.1, 0.9, 0.9], already=already)
    assert pruned_at == 1 and message is not None and message.startswith("stopped after epoch 1 of 9: ")
    assert Search.open(doomed.parent).study.trials[1].intermediate_values == {1: 0.1}


def test_a_run_that_was_killed_before_its_verdict_is_judged_when_it_repeats_the_epoch(
    doomed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(optuna.trial.Trial, "should_prune", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(doomed, [0.1])
    assert train(doomed, [0.1] * 9) == (1, "stopped after epoch 1 of 9: below the rung of asha (val/accuracy 0.1)")


def test_the_last_epoch_is_not_judged(tmp_path: Path) -> None:
    search = new_search(tmp_path / "mine", "search.pruner=asha", f"search.min_epochs={EPOCHS}")
    for curve in CURVES:
        (run_dir,) = search.ask()
        assert train(run_dir, curve) == (None, None)
        conclude(search, run_dir, curve, None)


def test_a_diverged_epoch_is_not_reported(doomed: Path) -> None:
    callback = callback_of(doomed, [row(1, float("nan"))])
    trainer: Any = SimpleNamespace(should_stop=False)
    callback.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    callback.recorder.rows = [row(1, 0.1)]
    callback.recorder.diverged_at = 1
    callback.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    assert not trainer.should_stop and Search.open(doomed.parent).study.trials[1].intermediate_values == {}


def test_a_trial_that_is_over_is_left_alone(doomed: Path) -> None:
    search = Search.open(doomed.parent)
    conclude(search, doomed, [0.1], None)
    assert train(doomed, [0.1] * 9) == (None, None)
    assert search.study.trials[1].intermediate_values == {}


def test_other_runs_have_no_pruner(tmp_path: Path) -> None:
    recorder = EpochRecorder(tmp_path, "val/accuracy", "max", Silent())
    with config_loader() as loader:
        for words in (["seed=0"], ["search=tpe", "search.pruner=asha"]):
            (run,) = make_plan(loader, words).runs
            assert pruner_for(run.config, tmp_path, recorder) is None
    search = new_search(tmp_path / "plain")
    assert pruner_for(read_frozen(search.ask()[0]), tmp_path, recorder) is None
    search = new_search(tmp_path / "seeds", "search.pruner=asha", "search.seeds=[0,1]")
    (first,) = search.ask()
    conclude_first = Record.read(first)
    conclude_first.status, conclude_first.metrics = "completed", {"val/accuracy": 0.5}
    conclude_first.write(first)
    (second,) = search.ended(first)
    assert pruner_for(read_frozen(first), first, recorder) is not None
    assert pruner_for(read_frozen(second), second, recorder) is None


def test_a_study_that_is_away_for_a_moment_is_waited_for(doomed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, away = doomed.parent / JOURNAL_FILE, doomed.parent / "away"
    journal.rename(away)
    journal.mkdir()  # cannot be opened as a file
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            journal.rmdir()
            away.rename(journal)

    monkeypatch.setattr(resweep.pruning.time, "sleep", wait)
    assert train(doomed, [0.1])[0] == 1
    assert waited == list(resweep.pruning.WAITS[:2])


def test_a_study_that_stays_away_fails_the_run(doomed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = doomed.parent / JOURNAL_FILE
    journal.unlink()
    journal.mkdir()
    monkeypatch.setattr(resweep.pruning, "WAITS", (0.0, 0.0))
    with pytest.raises(StudyUnreachable, match=r"the study of the search cannot be reached: .*directory"):
        train(doomed, [0.1])


def fit(run_dir: Path) -> tuple[PruningCallback, EpochRecorder]:
    """Train a real run with the callbacks of every run."""
    config = read_frozen(run_dir)
    data = build_data(config)
    recorder = EpochRecorder(run_dir, config["monitor"], config["monitor_mode"], Silent())
    saver = BestAndLast(run_dir, recorder, config["checkpoint_every"])
    pruner = pruner_for(config, run_dir, recorder)
    assert pruner is not None
    trainer = build_trainer(config, run_dir, [recorder, saver, pruner], [])
    last = run_dir / CHECKPOINTS / LAST
    lit_module = build_lit_module(config, build_net(config, data), data)
    with log_to(run_dir):
        trainer.fit(lit_module, datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=False)
    return pruner, recorder


def test_real_runs_are_stopped_and_stay_so(tmp_path: Path) -> None:
    search = new_search(
        tmp_path / "mine", "trainer.max_epochs=3", "search.pruner=asha", "monitor=val/loss", "search.seed=2",
        "search.reduction_factor=2",
    )  # fmt: skip
    (good,) = search.ask()
    pruner, recorder = fit(good)
    assert pruner.pruned_at is None and [one["epoch"] for one in recorder.rows] == [1, 2, 3]
    reported = search.study.trials[0].intermediate_values
    assert reported == {one["epoch"]: one["val/loss"] for one in recorder.rows}
    conclude(search, good, [0.0], None)
    (bad,) = search.ask()
    spoil_journal(tmp_path / "mine" / JOURNAL_FILE)
    pruner, recorder = fit(bad)
    assert pruner.pruned_at == 1 and [one["epoch"] for one in recorder.rows] == [1]
    assert (bad / CHECKPOINTS / LAST).is_file()
    pruner, recorder = fit(bad)  # continued from the checkpoint, as after a kill before the record
    assert pruner.pruned_at == 1 and [one["epoch"] for one in recorder.rows] == [1]


def spoil_journal(path: Path) -> None:
    """Make the first run's reports better than any other's can be."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if "intermediate_value" in line:
            line["intermediate_value"] = 0.0
        for key in line.get("system_attr", {}):
            if key.startswith("completed_rung"):
                line["system_attr"][key] = 0.0
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

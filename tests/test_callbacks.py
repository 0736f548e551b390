"""The rows of an epoch, the choice of the best one, and the two checkpoints, on planted values."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import new_run

from resweep.callbacks import COLUMNS, BestAndLast, EpochRecorder, Silent
from resweep.record import BEST, CHECKPOINTS, LAST, METRICS_FILE
from resweep.rows import read_rows
from resweep.train import execute

NAN, INF = float("nan"), float("inf")
MODULE = SimpleNamespace(further_metrics=())


def row(epoch: int, accuracy: float, loss: float) -> dict[str, float]:
    return dict.fromkeys(COLUMNS, 0.5) | {"epoch": epoch, "val/accuracy": accuracy, "val/loss": loss}


def recorder_of(
    folder: Path, values: list[tuple[float, float]], monitor: str = "val/accuracy", mode: str = "max"
) -> EpochRecorder:
    recorder = EpochRecorder(folder, monitor, mode, Silent())
    recorder.rows = [row(epoch, *pair) for epoch, pair in enumerate(values, 1)]
    return recorder


@pytest.mark.parametrize(
    ("monitor", "mode", "values", "best"),
    [
        ("val/accuracy", "max", [(0.5, 1.0), (0.7, 2.0), (0.6, 0.1)], 2),
        ("val/loss", "min", [(0.5, 1.0), (0.7, 2.0), (0.6, 0.1)], 3),
        ("val/accuracy", "max", [(0.7, 0.9), (0.7, 0.3), (0.7, 0.4)], 2),  # equal: the lower loss
        ("val/accuracy", "max", [(0.7, 0.3), (0.7, 0.3)], 1),  # equal in all: the earlier one
        ("val/accuracy", "max", [(0.0, 3.0), (0.0, 2.0)], 2),
        ("val/accuracy", "max", [(0.2, 1.0), (0.9, NAN), (0.8, INF)], 1),
        ("val/accuracy", "max", [(NAN, 1.0)], None),
        ("val/accuracy", "max", [], None),
    ],
)
def test_the_best_epoch(tmp_path: Path, monitor: str, mode: str, values: list, best: int | None) -> None:
    found = recorder_of(tmp_path, values, monitor, mode).best_row
    assert (None if found is None else found["epoch"]) == best


def write_rows(folder: Path, lines: list[str]) -> Path:
    path = folder / METRICS_FILE
    path.write_text("\n".join([",".join(COLUMNS), *lines]), encoding="utf-8")
    return path


def test_rows_are_read_as_numbers(tmp_path: Path) -> None:
    path = write_rows(tmp_path, ["1,2.5,0.1,2e-3,nan,0.1,3,4", "2,inf,0,0,0,0,0,0", ""])
    first, second = read_rows(path)
    assert first["epoch"] == 1 and isinstance(first["epoch"], int)
    assert first["val/loss"] == 0.002 and first["val/accuracy"] != first["val/accuracy"]
    assert second["train/loss"] == INF


@pytest.mark.parametrize("cut", ["2,2.5,0.1", "2,2.5,0.1,0,0,0,0,", "2,2.5,0.1,0,0,0,0,1e-"])
def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path, cut: str) -> None:
    assert [one["epoch"] for one in read_rows(write_rows(tmp_path, ["1,2,3,4,5,6,7,8", cut]))] == [1]


@pytest.mark.parametrize("damaged", ["2,2.5", "2,2.5,x,0,0,0,0,1"])
def test_damage_before_the_last_line_is_named(tmp_path: Path, damaged: str) -> None:
    path = write_rows(tmp_path, ["1,2,3,4,5,6,7,8", damaged, "3,2,3,4,5,6,7,8"])
    with pytest.raises(ValueError, match=f"{METRICS_FILE}, line 3: "):
        read_rows(path)


def test_a_missing_or_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / METRICS_FILE) == []
    (tmp_path / METRICS_FILE).write_text("")
    assert read_rows(tmp_path / METRICS_FILE) == []


@pytest.mark.parametrize("start", [0, 1, 3])
def test_rows_behind_the_checkpoint_are_dropped(tmp_path: Path, start: int) -> None:
    path = write_rows(tmp_path, [f"{epoch},0.1,2,3,4,5,6,7" for epoch in (1, 2, 3)])
    before = recorder_of(tmp_path, [(0.1, 1 / 3)] * start)
    after = EpochRecorder(tmp_path, "val/accuracy", "max", Silent())
    after.load_state_dict(before.state_dict())
    after.on_fit_start(SimpleNamespace(should_stop=False), MODULE)
    assert after.rows == before.rows and after.diverged_at is None
    assert [one["epoch"] for one in read_rows(path)] == list(range(1, start + 1))
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_a_run_that_had_diverged_does_not_go_on(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path, [(0.5, 1.0), (0.1, NAN)])
    trainer = SimpleNamespace(should_stop=False)
    recorder.on_fit_start(trainer, MODULE)
    assert trainer.should_stop and recorder.diverged_at == 2


def test_further_metrics_have_columns_of_their_own(tmp_path: Path) -> None:
    module = SimpleNamespace(further_metrics=("val/map",))
    recorder = recorder_of(tmp_path, [(0.5, 1.0)])
    recorder.rows[0]["val/map"] = 0.25
    recorder.on_fit_start(SimpleNamespace(should_stop=False), module)
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()
    assert lines[0].split(",")[3:6] == ["val/loss", "val/accuracy", "val/map"]
    assert read_rows(tmp_path / METRICS_FILE)[0]["val/map"] == 0.25


@pytest.mark.parametrize(
    ("groups", "rate"),
    [
        ([([1], 0.3)], 0.3),
        ([([1], 0.025), ([1], 0.05), ([1], 0.1)], 0.1),  # from the stem to the head
        ([([], 0.9), ([1, 1], 0.2)], 0.2),  # a group without parameters trains nothing
    ],
)
def test_the_rate_of_a_row_is_the_largest_that_is_in_use(tmp_path: Path, groups: list, rate: float) -> None:
    recorder = recorder_of(tmp_path, [])
    made = [{"params": params, "lr": lr} for params, lr in groups]
    recorder.on_before_optimizer_step(None, None, SimpleNamespace(param_groups=made))
    assert recorder.lr == rate


def test_with_a_rate_for_each_layer_metrics_csv_has_that_of_the_head(tmp_path: Path) -> None:
    changes = ["optimizer=sgd", "optimizer.lr=0.25", "optimizer.layer_decay=0.5", "scheduler=none", "logger=none"]
    assert execute(new_run(tmp_path / "run", *changes)).error is None
    assert [one["lr"] for one in read_rows(tmp_path / "run" / METRICS_FILE)] == [0.25, 0.25]


class FakeTrainer:
    """Writes the number of the epoch where Lightning would write the state."""

    def __init__(self, max_epochs: int = 99) -> None:
        self.max_epochs = max_epochs
        self.should_stop = False
        self.epoch = 0
        self.written: list[int] = []

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        assert weights_only is False
        path.parent.mkdir(exist_ok=True)
        beside = path.with_suffix(".new")
        beside.write_text(str(self.epoch))
        os.replace(beside, path)
        self.written.append(self.epoch)


def carry_on(folder: Path, accuracies: list[float], every: int = 1, trainer: FakeTrainer | None = None) -> FakeTrainer:
    trainer = trainer or FakeTrainer()
    recorder = recorder_of(folder, [])
    saver = BestAndLast(folder, recorder, every)
    for epoch, accuracy in enumerate(accuracies, 1):
        trainer.epoch = epoch
        recorder.rows.append(row(epoch, accuracy, 1.0))
        saver.on_train_epoch_end(trainer, None)
    return trainer


def kept(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / CHECKPOINTS).iterdir()}


def test_best_stays_when_last_moves_on(tmp_path: Path) -> None:
    carry_on(tmp_path, [0.1, 0.4, 0.3, 0.2])
    assert kept(tmp_path) == {BEST: "2", LAST: "4"}


def test_best_is_replaced_by_a_better_one(tmp_path: Path) -> None:
    carry_on(tmp_path, [0.1, 0.4, 0.3, 0.5])
    assert kept(tmp_path) == {BEST: "4", LAST: "4"}


def test_last_is_written_seldom_but_for_the_best_and_the_final_epoch(tmp_path: Path) -> None:
    assert carry_on(tmp_path, [0.5, 0.1, 0.1, 0.1, 0.6, 0.1, 0.1], 3, FakeTrainer(max_epochs=7)).written == [
        1,
        3,
        5,
        6,
        7,
    ]
    assert kept(tmp_path) == {BEST: "5", LAST: "7"}


def test_a_run_that_stops_early_keeps_its_end(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    trainer.should_stop = True
    assert carry_on(tmp_path, [NAN], every=5, trainer=trainer).written == [1]
    assert kept(tmp_path) == {LAST: "1"}


def test_without_hard_links_best_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    carry_on(tmp_path, [0.1, 0.4, 0.3])
    assert kept(tmp_path) == {BEST: "2", LAST: "3"}


def test_a_kill_between_the_two_files_is_repaired_when_the_run_goes_on(tmp_path: Path) -> None:
    """``last.ckpt`` of the new best epoch is there, ``best.ckpt`` is still the one before."""
    carry_on(tmp_path, [0.1, 0.2])
    folder = tmp_path / CHECKPOINTS
    (folder / BEST).unlink()
    (folder / BEST).write_text("1")
    BestAndLast(tmp_path, recorder_of(tmp_path, [(0.1, 1.0), (0.2, 1.0)]), 1).on_fit_start(FakeTrainer(), None)
    assert kept(tmp_path) == {BEST: "2", LAST: "2"}


def test_going_on_leaves_an_older_best_alone(tmp_path: Path) -> None:
    carry_on(tmp_path, [0.3, 0.2])
    BestAndLast(tmp_path, recorder_of(tmp_path, [(0.3, 1.0), (0.2, 1.0)]), 1).on_fit_start(FakeTrainer(), None)
    assert kept(tmp_path) == {BEST: "1", LAST: "2"}

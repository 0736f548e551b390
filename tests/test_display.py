from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from resweep import display
from resweep.console import Output
from resweep.display import RunDisplay, SweepDisplay
from resweep.record import METRICS_FILE, Record

FACTS = {
    "parameters": 75_290, "bytes": 301_160, "train": 1221, "val": 216, "test": 360, "classes": 10, "shape": (1, 8, 8),
    "steps_per_epoch": 20, "device": "cpu",
}  # fmt: skip


def row(epoch: int, seconds: float = 2.0) -> dict[str, float]:
    return {
        "epoch": epoch, "train/loss": 1.25, "train/accuracy": 0.5, "val/loss": 1.5, "val/accuracy": 0.4375,
        "lr": 0.003, "seconds": seconds, "images_per_second": 100.0,
    }  # fmt: skip


def is_plain(text: str) -> bool:
    return (not text or text.endswith("\n")) and "\r" not in text and "\x1b" not in text


def facts(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(line)[2:])


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


# One run


def test_a_run_in_plain_mode_is_a_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    watched = RunDisplay(Output("plain"), 3, ["resweep   run abcde"])
    watched.on_start(FACTS)
    for epoch in (1, 2, 3):
        for step in range(1, 21):
            watched.on_step(epoch, step, 20)
        watched.on_epoch(row(epoch, seconds=10.0 if epoch == 1 else 2.0), best=epoch == 2)
    watched.close()
    captured = capsys.readouterr()
    assert captured.out == "" and is_plain(captured.err)
    lines = captured.err.splitlines()
    assert lines[0] == "resweep   run abcde" and len(lines) == 6
    assert "0.08 M parameters, 301.2 kB; 10 classes, 1x8x8 images" in lines[1]
    assert "train 1221, val 216, test 360" in lines[2]
    first, second, third = (facts(line) for line in lines[3:])
    assert first == {
        "epoch": "1/3", "train_loss": "1.2500", "val_loss": "1.5000", "val_acc": "0.4375", "lr": "3.00e-03",
        "secs": "10.00", "left": "20s",
    }  # fmt: skip
    assert second["best"] == "yes" and "best" not in third
    assert (second["left"], third["left"]) == ("2.0s", "0.0s")  # the first epoch is not representative


def test_a_long_epoch_gives_a_heartbeat_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    watched = RunDisplay(Output("plain"), 2, [])
    for step in range(1, 301):
        clock.now += 1.0
        watched.on_step(1, step, 300)
    lines = capsys.readouterr().err.splitlines()
    assert [facts(line)["step"] for line in lines] == ["61/300", "122/300", "183/300", "244/300"]
    assert all(facts(line)["epoch"] == "1/2" for line in lines)


@pytest.mark.parametrize(("mode", "quiet"), [("off", 1), ("off", 2)])
def test_a_quiet_run_says_nothing(mode: str, quiet: int, capsys: pytest.CaptureFixture[str]) -> None:
    watched = RunDisplay(Output(mode, quiet), 1, ["banner"])
    watched.on_start(FACTS)
    watched.on_step(1, 1, 1)
    watched.on_epoch(row(1), best=True)
    watched.close()
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What live displays draw, as on a terminal of 100 columns."""
    stream = io.StringIO()
    monkeypatch.setattr(
        display, "Console", lambda **_: Console(file=stream, force_terminal=True, width=100, color_system=None)
    )
    return stream


def test_a_live_run_keeps_a_row_per_epoch(screen: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    watched = RunDisplay(Output("live"), 2, [])
    watched.on_start(FACTS)
    watched.on_step(1, 10, 20)
    watched.on_epoch(row(1), best=True)
    watched.on_epoch(row(2), best=False)
    watched.close()
    watched.close()
    drawn = screen.getvalue()
    assert drawn.count("0.4375") == 2 and drawn.count(" *") == 1
    assert "val acc" in capsys.readouterr().err


# A sweep

CURVE = """\
epoch,train/loss,train/accuracy,val/loss,val/accuracy,lr,seconds,images_per_second
1,2,0.5,2,0.5,0.1,1,100
2,2,0.5,2,0.625,0.1,1,100
"""


def plant(folder: Path, number: int, swept: dict[str, Any] | None = None, **fields: Any) -> Path:
    run_dir = folder / f"run-{number}"
    run_dir.mkdir()
    names = {"optimizer": "adam", "model.dropout": 0.3, "seed": number} if swept is None else swept
    defaults = {"id": f"{number:05x}", "label": "x", "seed": number, "config_digest": "d", "swept": names}
    Record(**{**defaults, **fields}).write(run_dir)
    return run_dir


def change(run_dir: Path, **fields: Any) -> None:
    record = Record.read(run_dir)
    for name, value in fields.items():
        setattr(record, name, value)
    record.write(run_dir)


DONE = {"status": "completed", "metrics": {"val/accuracy": 0.9, "test/accuracy": 0.875}, "fit_seconds": 12.0,
        "epochs": 3, "finished_at": "2026-01-01T00:00:00+00:00"}  # fmt: skip
NAN = {"status": "diverged", "error": {"type": "Diverged", "message": "loss became NaN at epoch 2"}, "epochs": 2,
       "finished_at": "2026-01-01T00:00:00+00:00"}  # fmt: skip
FAILED = {"status": "failed", "error": {"type": "E", "message": "it's\x1b[31m broken"}, "finished_at": "2026"}


def watch(output: Output, run_dirs: list[Path]) -> SweepDisplay:
    return SweepDisplay(output, {run_dir: Record.read(run_dir) for run_dir in run_dirs}, lambda run_dir: 3)


def test_a_sweep_in_plain_mode_is_a_line_per_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dirs = [plant(tmp_path, number) for number in range(4)]
    watched = watch(Output("plain"), run_dirs)
    watched.open()
    for run_dir, end in zip(run_dirs, (DONE, NAN, FAILED, {"status": "lost"}), strict=True):
        watched.on_event("start", run_dir)
        watched.on_event("tick", run_dir)
        change(run_dir, **end)
        watched.on_event("end", run_dir)
    watched.close()
    captured = capsys.readouterr()
    assert captured.out == "" and is_plain(captured.err)
    lines = captured.err.splitlines()
    kinds = [line.split()[1] for line in lines]
    assert kinds == ["start", "done", "start", "diverged", "start", "FAILED", "start", "FAILED"]
    names = {"run": "000", "id": "00000", "optimizer": "adam", "dropout": "0.3", "seed": "0"}
    assert facts(lines[0]) == names
    assert facts(lines[1]) == names | {"val_acc": "0.9000", "test_acc": "0.8750", "secs": "12.0"}
    assert facts(lines[3])["reason"] == "loss became NaN at epoch 2"
    assert facts(lines[5])["reason"] == "it's [31m broken" and facts(lines[5])["log"].endswith("run-2/run.log")
    assert "reason" not in facts(lines[7]) and facts(lines[7])["run"] == "003"


def test_a_status_line_every_five_minutes(tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run_dirs = [plant(tmp_path, number) for number in range(3)]
    watched = watch(Output("plain"), run_dirs)
    watched.on_event("start", run_dirs[0])
    change(run_dirs[0], **DONE)
    clock.now += 100
    watched.on_event("end", run_dirs[0])
    watched.on_event("start", run_dirs[1])
    capsys.readouterr()
    for _ in range(600):
        clock.now += 1.0
        watched.on_event("tick", run_dirs[1])
    first, second = capsys.readouterr().err.splitlines()
    assert first.split()[1] == second.split()[1] == "status"
    counts = {"done": "1", "running": "1", "failed": "0", "waiting": "1", "best": "0.9000"}
    assert facts(first).items() >= counts.items() and facts(first)["elapsed"] == "5m01s"
    assert facts(second)["elapsed"] == "10m02s"


def test_before_the_first_result_nothing_is_called_best(tmp_path: Path, clock: Clock) -> None:
    watched = watch(Output("off"), [plant(tmp_path, 0), plant(tmp_path, 1, status="failed")])
    counts = watched._counts()
    assert (counts["best"], counts["left"], counts["waiting"], counts["failed"]) == (None, None, 1, 1)


@pytest.mark.parametrize("swept", [
    {"model.kind": "a", "model.self": 1, "model.reason": 2, "model.log": 3, "model.id": 4, "model.secs": 5},
    {"data.flip": 0.5, "augment.flip": 0.25},
])  # fmt: skip
def test_axes_with_awkward_names_are_shown(
    tmp_path: Path, swept: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dirs = [plant(tmp_path, 0, swept, **DONE), plant(tmp_path, 1, swept, **FAILED)]
    watched = watch(Output("plain"), run_dirs)
    for run_dir in run_dirs:
        watched.on_event("start", run_dir)
        watched.on_event("end", run_dir)
    for line in capsys.readouterr().err.splitlines():
        shown = facts(line)
        assert shown["run"] in ("000", "001") and shown["id"] in ("00000", "00001")
        for key, value in swept.items():
            assert shown.get(key, shown.get(key.rsplit(".", 1)[-1])) == str(value)


@pytest.mark.parametrize("state", ["completed", "diverged", "pruned", "failed", "lost", "interrupted"])
def test_the_live_table_shows_every_state(tmp_path: Path, screen: io.StringIO, state: str) -> None:
    fields = {"status": state, "finished_at": "2026-01-01T00:00:00+00:00", "epochs": 2, "fit_seconds": 125.0}
    run_dirs = [plant(tmp_path, 0, **fields, metrics={"val/accuracy": 0.75}), plant(tmp_path, 1), plant(tmp_path, 2)]
    (run_dirs[1] / METRICS_FILE).write_text(CURVE)
    watched = watch(Output("off"), run_dirs)
    watched.on_event("start", run_dirs[1])
    Console(file=screen, width=100, color_system=None).print(watched._table())
    head, titles, running, ended = (line.split() for line in screen.getvalue().splitlines())
    assert titles == ["run", "id", "optimizer", "dropout", "seed", "state", "epoch", "val", "acc", "time"]
    assert running[:8] == ["001", "00001", "adam", "0.3", "1", "running", "2/3", "0.6250"]
    word = "done" if state == "completed" else state
    assert ended == ["000", "00000", "adam", "0.3", "0", word, "2/3", "0.7500", "2m05s"]
    done, failed = int(state in ("completed", "diverged", "pruned")), int(state in ("failed", "lost"))
    assert head[:4] == [str(done), "done", "1", "running"] and head[4:6] == [str(failed), "failed"]
    assert head[6:8] == [str(3 - 1 - done - failed), "waiting"] and head[-1] == "0.7500"


def test_the_live_table_has_a_fixed_height(tmp_path: Path, screen: io.StringIO) -> None:
    run_dirs = [plant(tmp_path, number, **DONE) for number in range(30)]
    watched = watch(Output("off"), run_dirs)
    Console(file=screen, width=100, color_system=None).print(watched._table())
    assert len(screen.getvalue().splitlines()) == 2 + display.SHOWN_RUNS
    assert "30 done   0 running   0 failed   0 waiting" in screen.getvalue()


def test_a_failure_stays_above_the_live_table_once(
    tmp_path: Path, screen: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dirs = [plant(tmp_path, 0), plant(tmp_path, 1)]
    watched = watch(Output("live"), run_dirs)
    watched.open()
    watched.on_event("start", run_dirs[0])
    change(run_dirs[0], status="failed", error={"type": "E", "message": "disk [full]"})
    watched.on_event("end", run_dirs[0])
    watched.on_event("tick", run_dirs[1])
    watched.close()
    (line,) = [line for line in screen.getvalue().splitlines() if "disk [full]" in line]
    assert "FAILED 000-00000 optimizer=adam model.dropout=0.3 seed=0" in line and "run-0/run.log" in line
    assert capsys.readouterr() == ("", "")

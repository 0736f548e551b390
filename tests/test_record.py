from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from resweep.record import FINISHED, RUN_FILE, STATES, Record, finite, utc_now, write_atomic

NAN, INF = float("nan"), float("inf")


def make(**fields: object) -> Record:
    return Record(**{"id": "abcde", "label": "seed=0", "seed": 0, "config_digest": "abcdef", **fields})  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = make(swept={"optimizer.betas": [0.9, 0.99], "seed": 0}, metrics={"val/accuracy": 0.5}, error={"type": "X"})
    record.write(tmp_path)
    assert Record.read(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


def test_the_fields_are_those_of_the_design(tmp_path: Path) -> None:
    make().write(tmp_path)
    documented = """id label status error attempts seed overrides config_digest metrics best_epoch epochs parameters
        fit_seconds images_per_second peak_memory_bytes environment data_digest started_at finished_at"""
    assert set(json.loads((tmp_path / RUN_FILE).read_text())) >= set(documented.split())
    assert set("pending running completed failed diverged pruned lost interrupted".split()) == STATES  # noqa: SIM905
    assert {"completed", "diverged", "pruned"} == FINISHED


def test_numbers_that_json_cannot_hold_become_null(tmp_path: Path) -> None:
    make(metrics={"val/loss": NAN, "test/loss": -INF, "val/accuracy": 0.0}).write(tmp_path)
    text = (tmp_path / RUN_FILE).read_text()
    assert json.loads(text)["metrics"] == {"val/loss": None, "test/loss": None, "val/accuracy": 0.0}
    assert "NaN" not in text and "Infinity" not in text
    assert finite({"a": INF, "b": "inf", "c": None, "d": 0}) == {"a": None, "b": "inf", "c": None, "d": 0}


@pytest.mark.parametrize("status", ["done", "", "Completed"])
def test_an_unknown_status_is_refused_and_the_old_file_stays(tmp_path: Path, status: str) -> None:
    make().write(tmp_path)
    with pytest.raises(ValueError, match="is not one of completed, diverged"):
        make(status=status).write(tmp_path)
    assert Record.read(tmp_path).status == "pending"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"id": "a"}', b"null", b"\xff\xfe\x00", b'{"id": "a", "lab'])
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RUN_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="is damaged") as caught:
        Record.read(tmp_path)
    assert str(tmp_path / RUN_FILE) in str(caught.value)


def test_a_missing_record_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Record.read(tmp_path)


def test_keys_of_later_versions_are_left_out(tmp_path: Path) -> None:
    make().write(tmp_path)
    content = json.loads((tmp_path / RUN_FILE).read_text())
    (tmp_path / RUN_FILE).write_text(json.dumps(content | {"colour": "red"}))
    assert Record.read(tmp_path) == make()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"os.{step}", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new" * 10_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file.txt", "new")
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_on_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "file.txt", []
    monkeypatch.setattr("os.fsync", lambda _: seen.append(path.exists()))
    write_atomic(path, "text")
    assert seen == [False] and path.read_text() == "text"


WRITER = """
import sys
from pathlib import Path
from resweep.record import write_atomic
for number in range(150):
    write_atomic(Path(sys.argv[1]), str(number % 10) * 200_000)
"""


def test_a_reader_never_sees_a_mixture(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "0" * 200_000)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    torn, reads, versions, done = [], 0, set(), threading.Event()
    try:
        while not done.is_set():
            if writer.poll() is not None:
                done.set()
            text = path.read_text()
            reads += 1
            versions.add(text[:1])
            if len(text) != 200_000 or set(text) != {text[0]}:
                torn.append(text[:20])
    finally:
        writer.kill()
        writer.wait()
    assert writer.returncode == 0 and torn == []
    assert reads > 20 and len(versions) > 1  # reading and writing did overlap
    assert list(tmp_path.iterdir()) == [path]


def test_the_present_time_is_utc() -> None:
    assert utc_now().endswith("+00:00") and len(utc_now()) == len("2026-01-01T00:00:00+00:00")

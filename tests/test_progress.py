from __future__ import annotations

import io
import sys

import pytest

from resweep import progress as module
from resweep.console import OUTPUT, Output
from resweep.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test moves."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def shown(clock: list[float], seconds: float, output: Output | None = None) -> None:
    """Ten pieces of work of so many seconds each."""
    token = None if output is None else OUTPUT.set(output)
    with progress("decode images", 100) as advance:
        for _ in range(10):
            clock[0] += seconds
            advance(10)
    if token is not None:
        OUTPUT.reset(token)


@pytest.mark.parametrize(("seconds", "lines"), [(0.4, 0), (0.6, 1), (3.0, 1)])
def test_elsewhere_one_line_after_five_seconds(
    clock: list[float], capsys: pytest.CaptureFixture[str], seconds: float, lines: int
) -> None:
    shown(clock, seconds)
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == lines


def test_the_line_says_how_far_and_how_long(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    shown(clock, 2.0)
    assert capsys.readouterr().err.split(maxsplit=2)[1:] == ["data", "doing='decode images' done=30/100 left=14s\n"]


@pytest.mark.parametrize("output", [Output("off"), Output("plain", 1), Output("live", 1)])
def test_quiet_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str], output: Output) -> None:
    shown(clock, 9.0, output)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "seen"), [(0.1, False), (0.3, True)])
def test_on_a_terminal_a_bar_after_two_seconds(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, seconds: float, seen: bool
) -> None:
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    shown(clock, seconds)
    assert ("decode images" in stream.getvalue()) == seen


def test_the_bar_goes_when_the_work_fails(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(RuntimeError, match="broken"), progress("decode images", 10) as advance:
        clock[0] = 3.0
        advance(1)
        raise RuntimeError("broken")

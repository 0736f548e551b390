from __future__ import annotations

import io
import shlex

import pytest

from resweep import console
from resweep.console import Output, corrected_command, print_problems, progress_mode, take_output_options
from resweep.errors import Problem, RequestError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("asked", "terminal", "environ", "mode"),
    [
        ("auto", True, {}, "live"),
        ("auto", True, {"TERM": "xterm"}, "live"),
        ("auto", True, {"TERM": "dumb"}, "plain"),
        ("auto", True, {"CI": "true"}, "plain"),
        ("auto", True, {"CI": ""}, "live"),
        ("auto", True, {"NO_COLOR": "1"}, "live"),
        ("auto", False, {}, "plain"),
        ("auto", False, {"FORCE_COLOR": "1"}, "plain"),
        ("live", False, {"CI": "1", "TERM": "dumb"}, "live"),
        ("plain", True, {}, "plain"),
        ("off", True, {}, "off"),
    ],
)
def test_how_progress_is_shown(asked: str, terminal: bool, environ: dict[str, str], mode: str) -> None:
    assert progress_mode(asked, Terminal() if terminal else io.StringIO(), environ) == mode


@pytest.mark.parametrize(
    ("words", "environ", "output", "rest"),
    [
        (["a=1", "b=2"], {}, Output("plain"), ["a=1", "b=2"]),
        (["--progress", "off", "a=1"], {}, Output("off"), ["a=1"]),
        (["a=1", "--progress=live"], {}, Output("live"), ["a=1"]),
        (["--progress", "plain"], {"RESWEEP_PROGRESS": "live"}, Output("plain"), []),
        ([], {"RESWEEP_PROGRESS": "live"}, Output("live"), []),
        ([], {"RESWEEP_PROGRESS": ""}, Output("plain"), []),
        (["-q", "x"], {}, Output("off", 1), ["x"]),
        (["--quiet"], {"RESWEEP_PROGRESS": "live"}, Output("off", 1), []),
        (["-qq"], {}, Output("off", 2), []),
        (["-q", "-q", "-q"], {}, Output("off", 2), []),
    ],
)
def test_output_options_are_taken_off_the_command_line(
    words: list[str], environ: dict[str, str], output: Output, rest: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert take_output_options(words, environ) == (output, rest)


@pytest.mark.parametrize(
    ("words", "environ", "key", "value"),
    [
        (["--progress", "lve"], {}, "--progress", "lve"),
        (["--progress="], {}, "--progress", ""),
        (["--progress"], {}, "--progress", ""),
        ([], {"RESWEEP_PROGRESS": "loud"}, "RESWEEP_PROGRESS", "loud"),
    ],
)
def test_unknown_modes_are_refused(words: list[str], environ: dict[str, str], key: str, value: str) -> None:
    with pytest.raises(RequestError, match="must be one of auto, live, plain, off") as caught:
        take_output_options(words, environ)
    assert (caught.value.problems[0].key, caught.value.problems[0].value) == (key, value)


@pytest.mark.parametrize(
    ("output", "out", "err"),
    [
        (Output("plain"), True, True),
        (Output("live"), True, True),
        (Output("off", 1), True, False),
        (Output("off", 2), False, False),
    ],
)
def test_quiet_means_quiet(output: Output, out: bool, err: bool, capsys: pytest.CaptureFixture[str]) -> None:
    output.note("going on")
    output.result("found")
    output.event("done", a=1)
    captured = capsys.readouterr()
    assert captured.out == ("found\n" if out else "")
    assert ("going on" in captured.err) is err
    assert ("a=1" in captured.err) is (err and output.mode == "plain")


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}])
def test_an_event_is_one_complete_line(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    Output("plain").event("FAILED", run="003", reason="loss became NaN\nat once\r\x1b[1m", log="a b/run.log", left=None)
    text = capsys.readouterr().err
    assert text.endswith("\n") and text.count("\n") == 1
    assert "\r" not in text and "\x1b" not in text
    time, kind, *facts = shlex.split(text)
    assert len(time) == 8 and kind == "FAILED"
    assert facts[0] == "run=003" and facts[-1] == "log=a b/run.log" and not any("left" in fact for fact in facts)


@pytest.mark.parametrize(
    ("problems", "words", "corrected"),
    [
        ([Problem("optmizer", "sgd", "", "optimizer")], "train optmizer=sgd seed=1", "train optimizer=sgd seed=1"),
        ([Problem("optimizer", "adm", "", "optimizer=adam")], "train optimizer=adm", "train optimizer=adam"),
        (
            [Problem("optimizer", "adm", "", "optimizer=adam"), Problem("optimizer", "sdg", "", "optimizer=sgd")],
            "train -m optimizer=adm,sdg,rmsprop",
            "train -m optimizer=adam,sgd,rmsprop",
        ),
        (
            [Problem("sed", "1", "", "seed"), Problem("x", "1", "", None)],
            "train sed=1 x=1",
            "train seed=1 x=1",
        ),
        ([Problem("data.bach_size", "8", "", "data.batch_size")], "train data.bach_size=8", "train data.batch_size=8"),
        ([Problem("trainer.max_step", "8", "", "trainer.max_steps")], "train +trainer.max_step=8",
         "train ++trainer.max_steps=8"),
        ([Problem("tran", None, "", "train")], "tran seed=1", "train seed=1"),
        ([Problem("optimizer/adm", None, "", "optimizer/adam")], "list optimizer/adm", "list optimizer/adam"),
        ([Problem("sed", "${a b}", "", "seed")], "train 'sed=${a b}'", "train 'seed=${a b}'"),
        ([Problem("seed", "x", "must be whole")], "train seed=x", None),
        ([Problem("elsewhere", "x", "", "near")], "train seed=x", None),  # from an environment variable or a file
        ([], "train", None),
    ],
)  # fmt: skip
def test_the_corrected_command(problems: list[Problem], words: str, corrected: str | None) -> None:
    assert corrected_command(problems, shlex.split(words)) == (None if corrected is None else f"resweep {corrected}")


def test_problems_are_said_completely_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem("optmizer", "sgd", "is not a key", "optimizer"), Problem("seed", "x", "must be whole")]
    print_problems(problems, ["train", "optmizer=sgd", "seed=x", "a b"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: 2 problems, nothing was started",
        "",
        "  resweep train optmizer=sgd seed=x 'a b'",
        "",
        "  1  optmizer=sgd: is not a key",
        "     did you mean  optimizer ?",
        "  2  seed=x: must be whole",
        "",
        "  corrected:  resweep train optimizer=sgd seed=x 'a b'",
    ]
    print_problems(iter(problems[1:]), ["train", "seed=x"])
    assert capsys.readouterr().err.startswith("error: 1 problem, nothing was started\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m00s"), (60, "1m00s"), (3599.6, "1h00m"),
        (3600, "1h00m"), (None, "-"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert console.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (5e12, "5000.0 GB")])
def test_sizes(count: float, text: str) -> None:
    assert console.size(count) == text


def test_values_are_written_as_they_are_typed() -> None:
    assert [console.value(v) for v in (False, None, 1e-5, 0.1, 3, "a", 0.0)] == [
        "false", "null", "1e-05", "0.1", "3", "a", "0",
    ]  # fmt: skip


def test_paths_are_short_where_that_helps(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert console.relative(f"{tmp_path}/runs/a") == "runs/a"
    assert console.relative("/etc") == "/etc"
    assert console.terminal_width(io.StringIO()) is None


@pytest.mark.parametrize(
    ("key", "value", "nearest", "corrected"),
    [
        ("data.labels", "corse", "coarse", "data.labels=coarse"),
        ("model.name", "rsnet18", "resnet18", "model.name=resnet18"),
        ("data.file", "/a/nofile.csv", "/a/b.c/nohead.csv", "data.file=/a/b.c/nohead.csv"),
        ("augment.policy", "randaug", "augment.policy=randaugment", "augment.policy=randaugment"),
        ("model.drpout", "0.1", "model.dropout", "model.dropout=0.1"),
        ("dropout", "0.1", "model.dropout", "model.dropout=0.1"),
        ("sed", "3", "seed", "seed=3"),
        ("optimizer", "adm", "optimizer=adam", "optimizer=adam"),
    ],
)
def test_a_corrected_command_replaces_what_was_wrong(key: str, value: str, nearest: str, corrected: str) -> None:
    problem = Problem(key, value, "is not right", nearest)
    words = corrected_command([problem], ["train", f"{key}={value}", "threads=1"]).split()
    assert words[1:] == ["train", corrected, "threads=1"]

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from resweep import __version__
from resweep.cli import COMMANDS, main
from resweep.config import config_loader
from resweep.console import Output
from resweep.sweep.plan import make_plan

Shell = Callable[..., "subprocess.CompletedProcess[str]"]
# Says which heavy modules a command has imported, and ends with its status.
LIGHT = """
import sys
from resweep.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
heavy = {"torch", "pytorch_lightning", "torchvision", "torchmetrics", "pandas", "matplotlib", "sklearn"}
print("HEAVY", sorted(heavy & set(sys.modules)))
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--help"], 0, "resweep train -m [OVERRIDES...]"),
        (["list"], 0, "optimizer    momentum"),
        (["list", "optimizer"], 0, "adam"),
        (["train", "--cfg", "job"], 0, "max_epochs: 15"),
        (["train", "--help"], 0, "== Configuration groups =="),
        (["train", "--info", "defaults"], 0, "optimizer/momentum"),
        (["train", "optmizer=sgd", "seed=x"], 2, "did you mean  optimizer ?"),
        (["tran"], 2, "did you mean  train ?"),
        (["resume", "nothing"], 2, "is neither a run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_no_training_code_does_not_load_it(shell: Shell, words: list[str], status: int, said: str) -> None:
    done = shell(LIGHT, *words)
    assert done.returncode == status
    assert "HEAVY []" in done.stdout
    assert said in (done.stderr if status else done.stdout)
    assert "Traceback" not in done.stderr and (status or done.stderr == "")


def test_the_installed_command_is_this_one(shell: Shell) -> None:
    done = shell("import runpy, sys; sys.argv[0] = 'resweep'; runpy.run_module('resweep.cli', run_name='__main__')",
                 "--version")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"resweep {__version__}\n")


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
def test_help_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  resweep {command}" in text
    for status in ("0", "1", "2", "3", "130, 143"):
        assert status in text.split("exit status")[1]
    assert max(map(len, text.splitlines())) <= 120


def test_the_composed_config_is_printed_and_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "job", "optimizer=adam", "seed=3"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["seed"] == 3 and shown["optimizer"]["_target_"] == "torch.optim.Adam"
    assert "hydra" not in shown


@pytest.mark.parametrize(
    ("words", "corrected"),
    [
        ("compare runs --foramt json", "compare runs --format json"),
        ("compare runs --foramt=json", "compare runs --format=json"),
        ("retry runs/x --fialed", "retry runs/x --failed"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(
    words: str, corrected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert "is not an option; there are -h, --" in said and f"corrected:  resweep {corrected}\n" in said


def test_what_argparse_refuses_otherwise_keeps_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["status", "a", "b"])
    assert "unrecognized arguments: b" in capsys.readouterr().err


def test_list_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "optimizer/adam"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("# Adam") and captured.err == ""
    assert main(["list", "optimizer", "-qq"]) == 0
    assert capsys.readouterr().out == ""


def test_overrides_reach_the_run_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def train_one(plan: object, output: Output, dry_run: bool) -> int:
        seen.append((plan, output))
        return 7

    monkeypatch.setattr("resweep.single.train_one", train_one)
    overrides = ["optimizer=adam", "optimizer.lr=${data.val_size}", "seed=1", "seed=2"]
    assert main(["train", *overrides, "-q"]) == 7
    ((plan, output),) = seen
    with config_loader() as loader:
        assert plan == make_plan(loader, overrides)
    assert plan.runs[0].config["optimizer"]["lr"] == 0.15 and plan.runs[0].config["seed"] == 2
    assert output == Output("off", 1)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Output]]:
    calls: list[tuple[list[str], Output]] = []

    def launch(_: object, overrides: list[str], output: Output, dry_run: bool) -> int:
        calls.append((list(overrides), output))
        return 130

    monkeypatch.setattr("resweep.sweep.launch.launch", launch)
    return calls


def test_a_sweep_gets_the_words_as_they_were_written(launched: list[tuple[list[str], Output]]) -> None:
    assert main(["train", "-m", "optimizer=sgd,adam", "optimizer.lr=${data.val_size}", "--progress", "plain"]) == 130
    assert launched == [(["optimizer=sgd,adam", "optimizer.lr=${data.val_size}"], Output("plain"))]


def test_a_ready_made_sweep_comes_before_the_command_line(launched: list[tuple[list[str], Output]]) -> None:
    assert main(["train", "-m", "sweep=learning_rate", "seed=5,6"]) == 130
    ((overrides, _),) = launched
    assert overrides == [
        "optimizer.lr=0.003,0.01,0.03,0.1,0.3,1.0", "sweep=learning_rate", "seed=5,6",
    ]  # fmt: skip
    with config_loader() as loader:
        plan = make_plan(loader, overrides)
    assert plan.axes["seed"] == ["5", "6"] and len(plan.runs) == 12


def test_the_demo_is_a_sweep_of_its_own_name(launched: list[tuple[list[str], Output]]) -> None:
    assert main(["demo", "trainer.max_epochs=1"]) == 130
    ((overrides, _),) = launched
    with config_loader() as loader:
        plan = make_plan(loader, overrides)
    assert len(plan.runs) == 36 and plan.runs[0].config["sweep_name"] == "demo"
    assert plan.base["trainer.max_epochs"] == 1 and plan.base["data.name"] == "digits"


def test_a_config_folder_of_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "slow.yaml").write_text("# Mine.\n_target_: torch.optim.SGD\n_partial_: true\nlr: 0.5\n")
    assert main(["train", "--config-dir", str(tmp_path), "--cfg", "job", "optimizer=slow"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["optimizer"]["lr"] == 0.5
    assert main(["train", "--config-dir", str(tmp_path), "optimizer=slow", "sead=1"]) == 2
    said = capsys.readouterr().err
    assert "1 problem" in said and "sead=1" in said  # the user's own choice is not one
    assert main(["list", "optimizer", "--config-dir", str(tmp_path)]) == 0
    assert "Mine." in capsys.readouterr().out


def test_a_failure_of_the_program_is_not_called_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise ValueError("a bug")

    monkeypatch.setattr("resweep.single.train_one", broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["train"])


def test_hydra_is_closed_behind_every_command(launched: list[tuple[list[str], Output]]) -> None:
    from hydra.core.global_hydra import GlobalHydra

    for words in (["train", "-m", "seed=0,1"], ["train", "seed=x"], ["train", "--cfg", "job"]):
        main(words)
        assert not GlobalHydra.instance().is_initialized()


def test_a_reader_that_has_seen_enough(shell: Shell) -> None:
    code = """
import subprocess, sys
reader = subprocess.Popen(["head", "-c", "1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
code = "import sys; from resweep.cli import main; sys.exit(main(['list', 'optimizer'] ))"
slow = "import time; time.sleep(0.3); " + code
writer = subprocess.Popen([sys.executable, "-c", slow], stdout=reader.stdin, stderr=subprocess.PIPE)
reader.stdin.close()
reader.wait()
print(writer.communicate()[1].decode(), writer.returncode)
"""
    done = shell(code)
    assert done.stdout.split() == ["0"], done.stdout + done.stderr

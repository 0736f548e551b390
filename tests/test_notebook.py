"""``resweep.train`` and ``resweep.config``: the same runs and configs as from the command line, and the nets back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import SMALL, TESTS, assert_same_bits, faulty, frozen, new_run, plan, timeless_rows, weights

import resweep
from resweep.config import read_frozen
from resweep.errors import RequestError
from resweep.notebook import RunFailed
from resweep.record import Record
from resweep.single import carry_out
from resweep.train import execute
from resweep.trained import TrainedRun

QUIET = ["logger=none", "trainer.max_epochs=2"]

LIGHT = """
import sys
import resweep
heavy = {"torch", "numpy", "pandas", "hydra", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert {"load", "train", "config", "__version__"} <= set(dir(resweep))
resweep.load
assert not {"torch", "numpy", "pandas", "matplotlib"} & set(sys.modules)
assert resweep.config(["seed=3"])["seed"] == 3
assert "torch" not in sys.modules
from resweep.config import read_frozen  # binds the module to the package
import resweep.config
assert resweep.config("seed=4")["seed"] == 4
assert resweep.config.read_frozen is read_frozen
from resweep.train import execute
assert callable(resweep.train) and resweep.train.execute is execute
"""


def test_the_package_is_light_and_its_functions_stay_functions() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'compare_all'"):
        _ = resweep.compare_all


def test_a_config_is_what_a_run_would_have(tmp_path: Path) -> None:
    made = resweep.config([*SMALL, "optimizer=adam", f"runs_dir={tmp_path}"])
    assert made == frozen("optimizer=adam", f"runs_dir={tmp_path}")
    assert repr(made).startswith("data:\n") and "_target_: torch.optim.Adam" in repr(made)
    assert resweep.config("seed=7") == resweep.config(["seed=7"])
    assert not list(tmp_path.iterdir())


def test_mistakes_are_named_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"optimizr=adam: .*did you mean  optimizer") as caught:
        resweep.config(["optimizr=adam", "trainer.max_epochs=0"])
    assert len(caught.value.problems) == 2
    with pytest.raises(RequestError, match=r"optimizer=adam,sgd: has several values.*resweep train -m"):
        resweep.train(["optimizer=adam,sgd"])
    with pytest.raises(RequestError, match="config_dirs=none: is not a folder"):
        resweep.config([], config_dirs=["none"])
    with pytest.raises(RequestError, match="progress=live: must be one of off, plain"):
        resweep.train([], progress="live")
    for wrong in (None, 3, {"seed": 1}):
        with pytest.raises(RequestError, match="must be a text or a list of texts, such as"):
            resweep.config(wrong)
    with pytest.raises(RequestError, match="overrides=3: must be a text") as caught:
        resweep.config(["seed=1", 3, None])
    assert len(caught.value.problems) == 2
    apart = r"several overrides in one text; give each its own: \['optimizer=adam', 'optimizer.lr=0.1'\]"
    for words in ("optimizer=adam optimizer.lr=0.1", ["seed=1", "optimizer=adam optimizer.lr=0.1"]):
        with pytest.raises(RequestError, match=apart):
            resweep.config(words)
    assert not list(tmp_path.iterdir())


def test_own_config_folders_join(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text("defaults: [adam]\nlr: 0.5\n")
    assert resweep.config("optimizer=mine", config_dirs=[str(tmp_path)])["optimizer"]["lr"] == 0.5
    assert resweep.config("optimizer=mine", config_dirs=tmp_path)["optimizer"]["lr"] == 0.5
    assert resweep.config("sweep_name='two words=1'")["sweep_name"] == "two words=1"


def test_a_run_is_that_of_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = resweep.train([*SMALL, *QUIET, "seed=3", f"runs_dir={tmp_path / 'ours'}"])
        assert torch.get_num_threads() == 2, "the number of threads is the caller's"
    finally:
        torch.set_num_threads(threads)
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""
    other = new_run(tmp_path / "theirs" / "run", *QUIET, "seed=3")
    assert execute(other).metrics == run.metrics and run.status == "completed"
    assert_same_bits(weights(run.dir), weights(other))
    assert timeless_rows(run.dir) == timeless_rows(other)
    assert run.record.overrides == [*SMALL, *QUIET, "seed=3", f"runs_dir={tmp_path / 'ours'}"]
    assert run.config == read_frozen(run.dir) and run.config["seed"] == 3
    assert (tmp_path / "ours" / "latest").resolve() == run.dir
    assert list(run.curves["epoch"]) == [1, 2]


def test_progress_is_a_line_per_epoch(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    resweep.train([*SMALL, *QUIET, f"runs_dir={tmp_path}"], progress="plain")
    printed = capfd.readouterr()
    assert sum(" epoch " in line for line in printed.err.splitlines()) == 2
    assert "done" in printed.out


@pytest.mark.parametrize(
    "averaging",
    [[], ["averaging=ema", "averaging.ema_decay=0.9"], ["averaging=lookahead", "averaging.lookahead_steps=3"]],
    ids=["none", "ema", "lookahead"],
)
def test_the_model_is_the_one_that_was_tested(tmp_path: Path, averaging: list[str]) -> None:
    run_dir = new_run(tmp_path / "runs" / "run", *QUIET, *averaging, "optimizer.lr=0.02")
    execute(run_dir)
    run = TrainedRun(run_dir)
    model = run.model()
    assert not model.training and next(model.parameters()).device.type == "cpu"
    with torch.no_grad():
        logits, targets = zip(*((model(images), targets) for images, targets in run.batches("test")), strict=True)
    logits, targets = torch.cat(logits), torch.cat(targets)
    assert logits.shape == (40, 10)
    assert (logits.argmax(1) == targets).float().mean().item() == pytest.approx(run.metrics["test/accuracy"])
    loss = torch.nn.functional.cross_entropy(logits, targets).item()
    assert loss == pytest.approx(run.metrics["test/loss"], rel=1e-5)
    assert {split: sum(len(targets) for _, targets in run.batches(split)) for split in ("train", "val", "test")} == {
        "train": 80,
        "val": 20,
        "test": 40,
    }
    with pytest.raises(RequestError, match="split=tets: must be one of train, val, test  did you mean  test"):
        next(run.batches("tets"))


def test_other_images_are_refused(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "runs" / "run", "logger=none", "trainer.max_epochs=1")
    record = execute(run_dir)
    record.data_digest = "0" * 32
    record.write(run_dir)
    with pytest.raises(RequestError, match="no longer holds the images"):
        TrainedRun(run_dir).model()


def test_a_failed_run_raises_its_cause_and_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"ArithmeticError: planted failure .*run\.log") as caught:
        resweep.train([*SMALL, *QUIET, f"runs_dir={tmp_path}", *faulty(fault="raise", after=0)])
    run = caught.value.run
    assert run.status == "failed" and "planted failure" in run._repr_html_() and "planted failure" in repr(run)
    with pytest.raises(RequestError, match=r"has no checkpoints/best\.ckpt: it is failed after 0 epochs"):
        run.model()


def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    run = resweep.train([*SMALL, *QUIET, f"runs_dir={tmp_path}", *faulty(fault="diverge", after=1)])
    assert run.status == "diverged" and "test/accuracy" not in run.metrics


def test_an_interrupted_run_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(run_dir: Path, *_: object) -> int:
        monkeypatch.undo()
        record = Record.read(run_dir)
        record.status = "interrupted"
        record.write(run_dir)
        return 130

    monkeypatch.setattr("resweep.single.carry_out", interrupted)
    with pytest.raises(KeyboardInterrupt, match=f"resweep resume {tmp_path}"):
        resweep.train([*SMALL, *QUIET, f"runs_dir={tmp_path}"])
    (run_dir,) = (path for path in (tmp_path / "train").iterdir() if path.is_dir() and not path.is_symlink())
    assert TrainedRun(run_dir).status == "interrupted"
    from resweep.console import Output

    assert carry_out(run_dir, Output("off", 2)) == 0 and TrainedRun(run_dir).status == "completed"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a run"):
        TrainedRun(tmp_path)
    assert plan().runs[0].config["import_path"] == os.getcwd() and TESTS.is_dir()

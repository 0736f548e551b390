from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.config_loader import ConfigLoader

from resweep.config import AXES, MACHINE_KEYS, compose, config_loader, digest, flatten, freeze, read_frozen, shipped
from resweep.config import write_frozen as write
from resweep.errors import Problem, RequestError
from resweep.sweep.plan import Plan, make_plan

Planner = Callable[..., Plan]


@pytest.mark.parametrize("choices", [[], ["data=fake", "optimizer=adam"], ["data=image_folder", "++data.root=x"]])
def test_a_frozen_config_is_plain_and_complete(loader: ConfigLoader, choices: list[str]) -> None:
    frozen = freeze(compose(loader, choices))
    text = json.dumps({key: value for key, value in flatten(frozen).items() if key != "logger.save_dir"})
    assert "${" not in text and "???" not in text
    assert frozen["logger"]["save_dir"] == "???"  # given by the run
    assert "hydra" not in frozen
    assert set(frozen["choices"]) == set(AXES)


def test_the_choices_are_named(loader: ConfigLoader) -> None:
    choices = freeze(compose(loader, ["optimizer=adam", "data=fake"]))["choices"]
    assert choices == {
        "data": "fake", "augment": "standard", "model": "resnet8", "optimizer": "adam", "scheduler": "onecycle",
        "regularizer": "none", "averaging": "none", "loss": "cross_entropy",
    }  # fmt: skip


def test_folders_become_absolute(loader: ConfigLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    frozen = freeze(compose(loader, ["data=mnist", "++data.root='~/sets'", "++runs_dir=a/../b"]))
    assert frozen["data"]["root"] == frozen["data"]["source"]["root"] == str(tmp_path / "home" / "sets")
    assert frozen["runs_dir"] == str(tmp_path / "b")
    assert frozen["import_path"] == str(tmp_path)
    assert freeze(compose(loader, ["++runs_dir='~/r'"]))["runs_dir"] == str(tmp_path / "home" / "r")
    assert freeze(compose(loader, []))["data"]["root"] is None


def test_a_missing_value_and_a_dead_reference_are_named(loader: ConfigLoader) -> None:
    with pytest.raises(RequestError) as missing:
        freeze(compose(loader, ["data=image_folder"]))
    assert [problem.key for problem in missing.value.problems] == ["data.root"]
    with pytest.raises(RequestError) as dead:
        freeze(compose(loader, ["optimizer.lr=${optimizer.nothing}"]))
    assert [problem.key for problem in dead.value.problems] == ["optimizer.lr"]
    assert "optimizer.nothing" in dead.value.problems[0].message


def test_a_frozen_file_comes_back_as_it_was(plan: Planner, tmp_path: Path) -> None:
    config = plan("optimizer=adam", "optimizer.eps=1e-08", "data.val_size=0.1").runs[0].config
    write(config, tmp_path)
    assert read_frozen(tmp_path) == config
    assert digest(read_frozen(tmp_path)) == digest(config)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe\xfa", b"a:\n\t- b"])
def test_a_damaged_frozen_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(RequestError, match="is damaged") as caught:
        read_frozen(tmp_path)
    assert caught.value.problems[0].value == str(tmp_path)


def test_a_folder_without_a_frozen_file_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a run"):
        read_frozen(tmp_path)


def test_flatten_keeps_lists_and_empty_sections() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": None, "g": {}}
    assert flatten(nested) == {"a.b.c": 1, "a.d": [1, {"e": 2}], "f": None, "g": {}}


def test_the_digest_depends_on_values_and_not_on_their_order() -> None:
    one = {"seed": 0, "model": {"depth": 8, "width": 16}}
    assert digest(one) == digest({"model": {"width": 16, "depth": 8}, "seed": 0})
    assert digest(one) != digest({"seed": 1, "model": {"depth": 8, "width": 16}})
    assert digest(one) != digest({"seed": "0", "model": {"depth": 8, "width": 16}})
    assert digest(one) != digest({"seed": None, "model": {"depth": 8, "width": 16}})
    assert len(digest(one)) == 32 and int(digest(one), 16) >= 0


@pytest.mark.parametrize("key", MACHINE_KEYS)
def test_the_digest_leaves_machine_facts_out(key: str) -> None:
    def config(value: object) -> dict[str, object]:
        nested: object = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        assert isinstance(nested, dict)
        return {"seed": 0, **nested}

    assert digest(config("here")) == digest(config("there")) == digest(config({"deep": 1})) == digest({"seed": 0})
    look_alike = {f"{key.split('.')[0]}x": 1, "seed": 0}
    assert digest(look_alike) != digest({"seed": 0})


def test_the_digest_is_the_same_in_another_process(plan: Planner, tmp_path: Path) -> None:
    made = plan("optimizer=adam", "seed=3")
    code = """
from resweep.config import config_loader
from resweep.sweep.plan import make_plan
with config_loader() as loader:
    print(make_plan(loader, ["optimizer=adam", "seed=3"]).runs[0].digest)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "123"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == made.runs[0].digest


def test_a_folder_of_the_users_own_joins_the_shipped_configs(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "optimizer"
    own.mkdir(parents=True)
    (own / "slow.yaml").write_text("# Mine.\n_target_: torch.optim.SGD\n_partial_: true\nlr: 0.001\n")
    with config_loader((str(tmp_path / "mine"),)) as loader:
        made = make_plan(loader, ["optimizer=slow,sgd"])
    assert [run.config["optimizer"]["lr"] for run in made.runs] == [0.001, 0.1]
    assert made.runs[0].config["choices"]["optimizer"] == "slow"


def test_the_shipped_folders_are_there() -> None:
    entry = yaml.safe_load((shipped("conf") / "train.yaml").read_text())
    assert {next(iter(item)) for item in entry["defaults"] if isinstance(item, dict)} >= set(AXES)


def images(folder: Path, size: int = 3) -> Path:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(b"x" * size)
    return folder


def test_a_folder_of_images_is_part_of_what_a_run_is(plan: Planner, tmp_path: Path) -> None:
    def digest_of(root: Path) -> str:
        return plan("data=image_folder", f"data.root={root}").runs[0].digest

    first = digest_of(images(tmp_path / "first"))
    assert digest_of(images(tmp_path / "elsewhere" / "copy")) == first
    assert digest_of(images(tmp_path / "other", size=4)) != first


def test_the_monitored_metric_gives_the_direction(plan: Planner, problems: Callable[..., list[Problem]]) -> None:
    assert plan().runs[0].config["monitor_mode"] == "max"
    assert plan("monitor=val/loss").runs[0].config["monitor_mode"] == "min"
    modes = [run.config["monitor_mode"] for run in plan("monitor=val/loss,val/accuracy", "seed=0,1").runs]
    assert modes == ["min", "min", "max", "max"]


def test_a_frozen_config_is_checked_again_when_it_is_read(plan: Planner, tmp_path: Path) -> None:
    config = plan().runs[0].config
    config["data"]["source"] = {"_target_": "os.system", "command": "true"}
    write(config, tmp_path)
    with pytest.raises(RequestError, match=r"data\.source\._target_=os\.system"):
        read_frozen(tmp_path)

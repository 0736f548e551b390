"""Every file of conf/ says what it is, can be composed, and can be built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml

from resweep.build import build_lit_module, build_loggers, build_net, build_trainer
from resweep.config import flatten, shipped
from resweep.record import Record
from resweep.sweep.check import check_one
from resweep.sweep.ledger import write_run
from resweep.sweep.plan import Plan
from resweep.train import execute

Planner = Callable[..., Plan]
CONF = shipped("conf")
FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/*.yaml"))
ALONE = [name for name in FILES if name.split("/")[0] not in ("sweep", "experiment")]
WHOLE = [name for name in FILES if name not in ALONE]
# The cheapest training there is: 4 steps of 20 images, 8x8 pixels.
TINY = [
    "data=fake", "data.train_count=100", "data.test_count=20", "data.image_size=8", "data.batch_size=20",
    "trainer.max_epochs=1", "logger=none",
]  # fmt: skip
# What a choice needs to be built in a training as short as that, or on this machine.
NEEDS = {
    "scheduler/warmup_cosine": ["scheduler.warmup=0"],
    "logger/wandb": ["logger.offline=true"],
    "trainer/gpu": ["trainer.accelerator=cpu"],
    "optimizer/lbfgs": ["data.batch_size=80", "scheduler=cosine"],
}


def choice(name: str) -> str:
    return name.replace("/", "=")


@pytest.mark.parametrize("name", ["train", *FILES])
def test_a_file_begins_with_what_it_is(name: str) -> None:
    lines = (CONF / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    if name in WHOLE:
        assert lines.pop(0) == "# @package _global_"
    assert lines[0].startswith("# ") and len(lines[0]) > 20
    assert isinstance(yaml.safe_load("\n".join(lines)), dict)


@pytest.mark.parametrize("name", ALONE)
def test_a_choice_can_be_planned_and_holds_its_values(plan: Planner, name: str) -> None:
    written = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    missing = [key for key, value in flatten(written).items() if value == "???" and key != "save_dir"]
    group = name.split("/")[0]
    (run,) = plan(choice(name), *(f"{group}.{key}=somewhere" for key in missing)).runs
    frozen = flatten(run.config[group])
    for key, value in flatten(written).items():
        if key != "defaults" and value != "???" and "${" not in str(value):
            assert frozen[key] == value or (key == "root" and frozen[key].endswith(f"/{value}"))
    assert run.config["choices"].get(group, name.split("/")[1]) == name.split("/")[1]


@pytest.mark.parametrize("name", [name for name in ALONE if name.split("/")[0] not in ("data", "model")])
def test_a_choice_can_be_built(plan: Planner, tmp_path: Path, name: str) -> None:
    words = [word for word in TINY if not (name.startswith("logger/") and word.startswith("logger="))]
    (run,) = plan(*words, *NEEDS.get(name, []), choice(name)).runs
    data = check_one(run.config)
    lit_module = build_lit_module(run.config, build_net(run.config, data), data)
    (optimizer,), _ = lit_module.configure_optimizers()
    group = name.split("/")[0]
    if group == "optimizer" and run.config["optimizer"]["_target_"].startswith("torch.optim."):
        assert type(optimizer) is getattr(torch.optim, run.config["optimizer"]["_target_"].rpartition(".")[2])
    if group == "trainer":
        trainer = build_trainer(run.config, tmp_path, [], [])
        assert (trainer.max_epochs, trainer.precision) == (1, run.config["trainer"]["precision"])
    if group == "logger":
        assert len(build_loggers(run.config, tmp_path)) == (name != "logger/none")
    if group == "regularizer":
        assert asdict(lit_module.regularizer) == run.config["regularizer"]


def sweep_of(name: str) -> list[str]:
    """What Hydra hands to the sweeper: the file's own axes, then the choice itself."""
    written = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    params = written.get("hydra", {}).get("sweeper", {}).get("params", {})
    return [*(f"{key}={values}" for key, values in params.items()), choice(name)]


@pytest.mark.parametrize("name", WHOLE)
def test_a_sweep_or_recipe_is_planned_completely(plan: Planner, name: str) -> None:
    made = plan(*sweep_of(name))
    written = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    count = 1
    for values in made.axes.values():
        count *= len(values)
    assert len(made.runs) == count
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    if "hydra" in written:
        assert written["hydra"]["mode"] == "MULTIRUN" and f"{count} runs" in text
    else:
        assert count == 1


@pytest.mark.parametrize("name", WHOLE)
def test_a_run_of_a_sweep_or_recipe_can_be_carried_out(plan: Planner, tmp_path: Path, name: str) -> None:
    fixed = [word for word in sweep_of(name) if "," not in word]
    tiny = [word for word in TINY if not word.startswith("logger=")]
    (run,) = plan(*fixed, *tiny, "model.width=4" if "he2015" not in name else "seed=1").runs
    write_run(run, tmp_path / "run")
    assert execute(tmp_path / "run").status == "completed"
    record = Record.read(tmp_path / "run")
    assert record.epochs == 1 and 0 <= record.metrics["test/accuracy"] <= 1

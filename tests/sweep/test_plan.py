from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from resweep.config import AXES, flatten, shipped
from resweep.errors import Problem, RequestError
from resweep.sweep.ledger import sweep_name
from resweep.sweep.plan import LABEL_LENGTH, Plan, distinct_requests, make_plan

Planner = Callable[..., Plan]
Problems = Callable[..., list[Problem]]

REQUESTS = [
    ["seed=0"],
    ["seed=2,0,1"],
    ["optimizer=sgd,adam", "seed=0,1"],
    ["seed=0,1", "optimizer=sgd,adam", "model.dropout=0,0.3"],
    ["model.dropout=0.3,0", "optimizer=adam,sgd", "data.batch_size=32", "seed=range(0,3)", "augment=none,standard"],
    ["optimizer.lr=choice(0.1,0.01,1e-3)", "scheduler=none,cosine"],
    ["seed=range(4,0,-2)", "+trainer.max_steps=5,6"],
    ["optimizer=adam", "optimizer.betas=[0.9,0.99],[0.8,0.99]", "seed=0,1"],
    ["optimizer.lr=sort(0.3,0.1,0.2)", "monitor='val/loss','val/accuracy'"],
]


def hydra_order(overrides: list[str]) -> list[list[str]]:
    """What Hydra's own sweeper would run: per job its overrides, in its order."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    return [sorted(job) for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None) for job in batch]


@pytest.mark.parametrize("overrides", REQUESTS, ids=" ".join)
def test_runs_come_in_the_order_of_hydras_own_sweeper(plan: Planner, overrides: list[str]) -> None:
    made = plan(*overrides)
    fixed = [text for text in overrides if not OverridesParser.create().parse_override(text).is_sweep_override()]
    assert [sorted([*run.overrides, *fixed]) for run in made.runs] == hydra_order(overrides)


def test_the_axes_are_those_of_the_command_line_in_its_order(plan: Planner) -> None:
    made = plan("seed=range(0,3)", "optimizer=sgd,adam", "model.dropout=0.1", "optimizer.lr=choice(1e-3,0.01)")
    assert made.axes == {"seed": ["0", "1", "2"], "optimizer": ["sgd", "adam"], "optimizer.lr": ["0.001", "0.01"]}
    assert list(made.axes) == ["seed", "optimizer", "optimizer.lr"]
    assert len(made.runs) == 12
    assert made.runs[3].swept == {"seed": 0, "optimizer": "adam", "optimizer.lr": 0.01}
    assert made.runs[3].overrides == ("seed=0", "optimizer=adam", "optimizer.lr=0.01")
    assert all(run.config["model"]["dropout"] == 0.1 for run in made.runs)


def test_every_run_has_its_own_values(plan: Planner) -> None:
    made = plan("model=resnet8,resnet20", "optimizer=sgd,adam", "optimizer.lr=0.1,0.2", "seed=0,1")
    for run in made.runs:
        assert run.config["choices"]["model"] == run.swept["model"]
        assert run.config["model"]["depth"] == int(run.swept["model"].removeprefix("resnet"))
        assert run.config["choices"]["optimizer"] == run.swept["optimizer"]
        assert run.config["optimizer"]["_target_"].lower() == f"torch.optim.{run.swept['optimizer']}"
        assert (run.config["optimizer"]["lr"], run.config["seed"]) == (run.swept["optimizer.lr"], run.swept["seed"])
    assert len({repr(sorted(run.swept.items())) for run in made.runs}) == 16


def test_a_request_without_axes_is_one_run(plan: Planner) -> None:
    made = plan("optimizer=adam", "seed=3")
    (run,) = made.runs
    assert (made.axes, run.overrides, run.swept, run.label) == ({}, (), {}, "")
    assert run.folder == run.id


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        (["seed=1", "seed=2"], ["seed=2"]),
        (["optimizer=sgd", "optimizer=adam"], ["optimizer=adam"]),
        (["seed=0,1,2", "seed=7"], ["seed=7"]),
        (["seed=7", "seed=0,1"], ["seed=0,1"]),
    ],
)
def test_the_last_override_of_a_key_wins(plan: Planner, overrides: list[str], same: list[str]) -> None:
    made, other = plan(*overrides), plan(*same)
    assert [run.digest for run in made.runs] == [run.digest for run in other.runs]
    assert made.axes == other.axes


def composed(overrides: list[str]) -> dict[str, Any]:
    """What Hydra's public API composes and resolves."""
    with initialize_config_dir(str(shipped("conf")), version_base="1.3", job_name="train"):
        config = compose("train", overrides=overrides, return_hydra_config=True)
    return {key: OmegaConf.to_container(config, resolve=False)[key] for key in config if key != "hydra"} | {
        key: OmegaConf.to_container(config[key], resolve=True)
        for key in config
        if OmegaConf.is_config(config[key]) and key not in ("hydra", "logger")
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=adam,sgd", "model.dropout=0,0.3", "data=digits"],
        ["data=fake", "data.image_size=16,8", "augment=standard,none", "++trainer.max_epochs=3"],
        ["+trainer.max_steps=4", "~optimizer.nesterov", "optimizer.lr=0.5,${data.val_size}"],
        ["experiment=he2015", "seed=0,1"],
        ["experiment=demo", "optimizer=sgd,momentum,adam", "model=resnet20"],
        ["optimizer=adam,adamw", "optimizer.betas=[0.8,0.9]", "logger=none", "scheduler=multistep"],
    ],
    ids=" ".join,
)
def test_a_frozen_config_is_what_hydra_composes(plan: Planner, overrides: list[str]) -> None:
    made = plan(*overrides)
    fixed = [text for text in overrides if not OverridesParser.create().parse_override(text).is_sweep_override()]
    for run in made.runs:
        expected = flatten(composed([*fixed, *run.overrides]))
        ours = flatten(run.config)
        absolute = {"runs_dir", "import_path", "data.root", "data.source.root"}
        left_out = {f"choices.{group}" for group in AXES} | {"logger.save_dir", "data.content"} | absolute
        expected["monitor_mode"] = "max"  # derived from the metric
        assert {k: v for k, v in ours.items() if k not in left_out} == {
            k: v for k, v in expected.items() if k not in left_out
        }


def test_interpolations_are_resolved_for_every_run(plan: Planner) -> None:
    made = plan("seed=1,2", "data.split_seed=${seed}", "optimizer.lr=0.1,0.2", "optimizer.weight_decay=${optimizer.lr}")
    assert [run.config["data"]["split_seed"] for run in made.runs] == [1, 1, 2, 2]
    assert [run.config["optimizer"]["weight_decay"] for run in made.runs] == [0.1, 0.2, 0.1, 0.2]
    demo = plan("experiment=demo", "optimizer=sgd,adam,rmsprop")
    assert [run.config["optimizer"]["lr"] for run in demo.runs] == [1.0, 0.01, 0.01]


def test_swept_sections_do_not_leak_from_run_to_run(plan: Planner) -> None:
    made = plan("+model.extra={a:1},{b:2}", "seed=0,1")
    assert [run.config["model"]["extra"] for run in made.runs] == [{"a": 1}, {"a": 1}, {"b": 2}, {"b": 2}]


def test_keys_are_added_and_deleted(plan: Planner) -> None:
    (run,) = plan("+trainer.max_steps=7", "++trainer.max_epochs=9", "~optimizer.nesterov").runs
    assert (run.config["trainer"]["max_steps"], run.config["trainer"]["max_epochs"]) == (7, 9)
    assert "nesterov" not in run.config["optimizer"]
    added = plan("+trainer.max_steps=5,6")
    assert [run.swept for run in added.runs] == [{"trainer.max_steps": 5}, {"trainer.max_steps": 6}]
    assert [run.label for run in added.runs] == ["max_steps=5", "max_steps=6"]


def test_what_every_run_needs_cannot_be_deleted(problems: Problems) -> None:
    needed = [
        "~seed",
        "~optimizer",
        "~data",
        "~runs_dir",
        "~data.source",
        "~trainer.max_epochs",
        "~model._target_",
        "~search",
    ]
    found = problems(*needed)
    assert {problem.key for problem in found} == set(needed) and len(found) == len(needed)
    assert all("cannot be taken away" in problem.message for problem in found)


def test_a_failed_deletion_does_not_open_the_config(problems: Problems) -> None:
    assert [problem.key for problem in problems("~nothing", "seeed=1")] == ["nothing", "seeed"]


# What a run is called


@pytest.fixture(scope="module")
def default(loader: ConfigLoader) -> Plan:
    """The plan of the entry config as it is, two seeds."""
    return make_plan(loader, ["seed=0,1"])


def test_ids_are_the_beginnings_of_the_digests_and_unique(plan: Planner) -> None:
    made = plan("seed=range(0,60)", "model.dropout=0,0.1,0.2")
    ids = [run.id for run in made.runs]
    assert len(set(ids)) == len(ids) == 180
    assert all(len(one) >= 5 and re.fullmatch("[0-9a-f]+", one) for one in ids)
    assert all(run.digest.startswith(run.id) and run.folder == f"{run.label}-{run.id}" for run in made.runs)


def test_ids_grow_until_they_differ(plan: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter(["aaaaaab0", "aaaaaac0", "bbbbbbb0", "00000000"])
    monkeypatch.setattr("resweep.sweep.plan.digest", lambda _: next(digests))
    assert [run.id for run in plan("seed=0,1,2").runs] == ["aaaaaab", "aaaaaac", "bbbbbbb"]


def test_machine_facts_do_not_change_the_id(plan: Planner, default: Plan) -> None:
    machine = [
        "runs_dir=elsewhere", "threads=2", "data.root=elsewhere", "executor.workers=3", "import_path=elsewhere",
        "sweep_name=mine", "checkpoint_every=5", "trainer=cpu", "trainer.devices=[1]", "logger=none",
        "data.num_workers=4",
    ]  # fmt: skip
    other = plan("seed=0,1", *machine)
    differing = {key for key, value in flatten(other.runs[0].config).items() if default.base.get(key, 0) != value}
    assert {text.split("=")[0] for text in machine} - {"trainer", "logger"} <= differing
    assert [run.id for run in default.runs] == [run.id for run in other.runs]
    assert default.digest == other.digest and sweep_name(default) == sweep_name(other)


@pytest.mark.parametrize(
    "change",
    [
        "seed=1", "optimizer.lr=0.2", "optimizer=adam", "model=resnet20", "model.dropout=0.1", "data=fake",
        "data.batch_size=32", "data.split_seed=1", "trainer.max_epochs=3", "loss.label_smoothing=0.1",
        "regularizer=l1", "scheduler=cosine", "augment=none", "monitor=val/loss", "channels_last=false",
        "trainer.precision=bf16-mixed", "+trainer.max_steps=3",
    ],
)  # fmt: skip
def test_what_is_computed_changes_the_id(plan: Planner, default: Plan, change: str) -> None:
    assert default.runs[0].digest != plan(change).runs[0].digest


def test_the_same_request_has_the_same_name(plan: Planner) -> None:
    request = ["optimizer=sgd,adam", "seed=0,1"]
    one, again = plan(*request), plan(*request)
    assert one == again and sweep_name(one) == sweep_name(again)
    assert sweep_name(one) == f"optimizer-{one.digest[:5]}"
    assert sweep_name(one) != sweep_name(plan("optimizer=sgd,adam", "seed=0,2"))
    by_seed, reversed_ = plan("seed=0,1"), plan("seed=1,0")
    assert sweep_name(by_seed).startswith("seed-")
    assert by_seed.digest != reversed_.digest  # another order, another sweep


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        (["optimizer=adam,sgd", "model.dropout=0.3,0", "seed=3,4"], "optimizer=adam,dropout=0.3,seed=3"),
        (["optimizer=adam", "optimizer.betas=[0.9,0.99],[0.8,0.99]"], "betas=_0.9,_0.99"),
        (["monitor='val/loss','val/accuracy'"], "monitor=val_loss"),
        (["seed=0,1"], "seed=0"),
        (["loss.label_smoothing=0.1,0"], "label_smoothing=0.1"),
        (["optimizer.lr=1e-5,2e-5"], "lr=1e-05"),
    ],
)
def test_labels_are_short_and_clean(plan: Planner, overrides: list[str], label: str) -> None:
    assert plan(*overrides).runs[0].label == label


def test_keys_with_the_same_last_name_stay_whole_in_labels(plan: Planner) -> None:
    made = plan("data.flip=0,0.5", "+trainer.flip=0,1")
    assert made.runs[0].label == "data.flip=0,trainer.flip=0"


def test_long_labels_are_cut(plan: Planner) -> None:
    keys = ["optimizer.lr", "model.dropout", "optimizer.weight_decay", "loss.label_smoothing", "optimizer.momentum"]
    made = plan(*(f"{key}=0.12345,0.23456" for key in keys))
    labels = [run.label for run in made.runs]
    assert all(len(label) <= LABEL_LENGTH == 60 for label in labels)
    assert len({run.folder for run in made.runs}) == 32
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9=.,_+-]*[A-Za-z0-9]", label) for label in labels)


def test_a_plan_knows_what_its_runs_have_in_common(plan: Planner) -> None:
    made = plan("optimizer=sgd,adam", "seed=0,1")
    assert "seed" not in made.base and "optimizer._target_" not in made.base
    assert made.base["trainer.max_epochs"] == 15 and made.base["optimizer.weight_decay"] == 0.0


def test_seeds_need_not_be_built_one_by_one(plan: Planner) -> None:
    configs = [run.config for run in plan("seed=range(0,9)", "optimizer=sgd,adam").runs]
    assert Counter(one["choices"]["optimizer"] for one in distinct_requests(configs)) == {"sgd": 1, "adam": 1}


# Mistakes


def test_every_problem_of_every_run_is_said_once(problems: Problems) -> None:
    found = problems(
        "optimizer=sgd,adm", "model.dropout=0,1.5,2", "seed=0,x", "trainer.max_epochs=ten", "data.bach_size=3", "sead"
    )
    assert Counter((problem.key, problem.value) for problem in found) == Counter(
        [
            ("optimizer", "adm"), ("model.dropout", "1.5"), ("model.dropout", "2"), ("seed", "x"),
            ("trainer.max_epochs", "ten"), ("data.bach_size", "3"), ("sead", None),
        ]
    )  # fmt: skip


def test_an_unknown_axis_is_one_problem(problems: Problems) -> None:
    (problem,) = problems("sed=0,1,2", "model.dropout=0,0.1")
    assert (problem.key, problem.value, problem.nearest) == ("sed", "0,1,2", "seed")
    (problem,) = problems("optimizer=sgd,adam", "optimizer.momentum=0.1,0.9")
    assert (problem.key, problem.value) == ("optimizer.momentum", "0.1,0.9")


def test_keys_of_a_choice_that_is_not_known_are_not_judged(problems: Problems) -> None:
    assert [p.key for p in problems("optimizer=zzz", "optimizer.alpha=1", "seed=x")] == ["optimizer", "seed"]


def test_keys_are_judged_for_every_swept_choice(problems: Problems) -> None:
    (problem,) = problems("optimizer=momentum,adam", "optimizer.momentum=0.9")
    assert problem.key == "optimizer.momentum" and "it has lr, betas, eps, weight_decay, no_decay" in problem.message


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["seed=1,1"], "seed", "1,1"),
        (["optimizer=sgd,adam,sgd", "seed=0,1"], "optimizer", "sgd,adam,sgd"),
        (["optimizer.lr=0.1,1e-1"], "optimizer.lr", "0.1,0.1"),
        (["threads=1,2"], "threads", "2"),  # a machine fact is no axis
    ],
)
def test_the_same_run_twice_is_refused(problems: Problems, overrides: list[str], key: str, value: str) -> None:
    (problem,) = problems(*overrides)
    assert (problem.key, problem.value) == (key, value)


@pytest.mark.parametrize(
    ("override", "key", "said"),
    [
        ("optimizer=null", "optimizer", "allowed: adadelta, adagrad, adam"),
        ("optimizer=7", "optimizer", "allowed: adadelta, adagrad, adam"),
        ("optimizer=[adam]", "optimizer", "allowed: adadelta, adagrad, adam"),
        ("optimizer=null,adam", "optimizer", "allowed: adadelta, adagrad, adam"),
        ("seed", "seed", "is not KEY=VALUE"),
        ("seed=[1", "seed=[1", "is not KEY=VALUE"),
        ("seed.x=1", "seed.x", "seed is a value"),
        ("+seed.x=1", "seed.x", "seed is a value"),
        ("optimizer.lr={a:1}", "optimizer.lr", "is a value"),
        ("data.source=5", "data.source", "is a section"),
        ("runs_dir=null", "runs_dir", "must be text"),
        ("import_path=5", "import_path", "must be text"),
        ("data=image_folder", "data.root", "must be given: data.root=VALUE"),
        ("optimizer.lr=${nothing.there}", "optimizer.lr", "cannot be resolved"),
        ("optimizer.lr=interval(0,1)", "optimizer.lr", "is an interval"),
    ],
)
def test_odd_requests_are_refused_in_words(problems: Problems, override: str, key: str, said: str) -> None:
    (problem,) = problems(override)
    assert problem.key == key and said in problem.message


MISSPELT = {
    "optmizer=sgd": "optimizer", "optimiser.lr=1": "optimizer.lr", "modle=resnet8": "model",
    "sheduler=none": "scheduler",
    "shceduler=none": "scheduler", "sede=1": "seed", "Seed=1": "seed", "lr=0.1": "optimizer.lr",
    "epochs=3": "trainer.max_epochs", "batch_size=3": "data.batch_size", "dropout=0.1": "model.dropout",
    "weight_decay=0.1": "optimizer.weight_decay", "label_smoothing=0.1": "loss.label_smoothing",
    "optimizer.weight_decy=0": "optimizer.weight_decay", "optimizer.wd=0": None, "optimizer.LR=1": "optimizer.lr",
    "trainer.epochs=3": "trainer.max_epochs", "trainer.max_epoch=3": "trainer.max_epochs",
    "data.batchsize=4": "data.batch_size", "data.val_split=0.1": "data.val_size", "model.drop_out=0": "model.dropout",
    "loss.smoothing=0.1": "loss.label_smoothing",
    "optimizer=adma": "optimizer=adam", "optimizer=Adam": "optimizer=adam",
    "optimizer=SGD": "optimizer=sgd", "optimizer=rms_prop": "optimizer=rmsprop", "model=resnet19": "model=resnet18",
    "data=cifar": "data=cifar10", "data=MNIST": "data=mnist", "scheduler=one_cycle": "scheduler=onecycle",
    "run_dir=x": "runs_dir", "num_epochs=3": "trainer.max_epochs", "trainer.precison=16-mixed": "trainer.precision",
}  # fmt: skip


@pytest.fixture(scope="module")
def suggestions(loader: ConfigLoader) -> dict[str, str | None]:
    """What is suggested for each of MISSPELT: all keys in one request, all wrong choices in another."""
    choices = [text for text, nearest in MISSPELT.items() if nearest is not None and "=" in nearest]
    swept = {text.split("=")[0]: [] for text in choices}
    for text in choices:
        swept[text.split("=")[0]].append(text.split("=")[1])
    found = []
    keys = [text for text in MISSPELT if text not in choices]
    for request in (keys, [f"{key}={','.join(values)}" for key, values in swept.items()]):
        with pytest.raises(RequestError) as caught:
            make_plan(loader, request)
        found += caught.value.problems
    assert len(found) == len(MISSPELT)
    return {f"{problem.key}={problem.value}": problem.nearest for problem in found}


@pytest.mark.parametrize(("override", "nearest"), MISSPELT.items())
def test_frequent_misspellings_get_the_right_name(
    suggestions: dict[str, str | None], override: str, nearest: str | None
) -> None:
    assert suggestions[override] == nearest

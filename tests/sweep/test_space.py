from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sqlalchemy import create_engine

from resweep.config import digest, dump_yaml, flatten, load_yaml, shipped
from resweep.errors import Problem, RequestError
from resweep.schema import RULES, SEARCHES
from resweep.sweep.ledger import sweep_name
from resweep.sweep.plan import Plan, SearchPlan, make_plan
from resweep.sweep.search_plan import MOST_PROBES
from resweep.sweep.space import Dimension, Space
from resweep.sweep.study import SAMPLERS

Refusals = Callable[..., list[Problem]]
LR = "optimizer.lr=tag(log,interval(1e-4,1))"


@pytest.fixture
def search(loader: ConfigLoader) -> Callable[..., SearchPlan]:
    """Plans a search."""

    def made(*overrides: str) -> SearchPlan:
        plan = make_plan(loader, ["search=random", *overrides], sweep=True)
        assert isinstance(plan, SearchPlan)
        return plan

    return made


@pytest.fixture
def refused(loader: ConfigLoader) -> Refusals:
    """Returns the problems of a search that must be refused."""

    def found(*overrides: str) -> list[Problem]:
        with pytest.raises(RequestError) as caught:
            make_plan(loader, list(overrides), sweep=True)
        return caught.value.problems

    return found


def dimension(text: str, is_group: bool = False) -> Dimension:
    return Dimension.of(OverridesParser.create().parse_override(text), is_group)


# Hydra's grammar


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=1,2", CategoricalDistribution((1, 2))),
        ("x=choice(0,0.2)", CategoricalDistribution((0, 0.2))),
        ("x=choice(a)", CategoricalDistribution(("a",))),
        ("x=sgd,adam", CategoricalDistribution(("sgd", "adam"))),
        ("x=null,0.5", CategoricalDistribution((None, 0.5))),
        ("x=true,false", CategoricalDistribution((True, False))),
        ("x='val/loss','val/accuracy'", CategoricalDistribution(("val/loss", "val/accuracy"))),
        ("x=1,true", CategoricalDistribution(("1", "True"))),  # equal in Python: their texts are kept apart
        ("x=[0.9,0.99],[0.8,0.99]", CategoricalDistribution(("[0.9,0.99]", "[0.8,0.99]"))),
        ("x={a:1},{b:2}", CategoricalDistribution(("{a:1}", "{b:2}"))),
        ("x=sort(3,1,2)", CategoricalDistribution((1, 2, 3))),
        ("x=shuffle(3,1,2)", CategoricalDistribution((3, 1, 2))),
        ("x=shuffle(range(1,4))", CategoricalDistribution((1, 2, 3))),
        ("+x=5,6", CategoricalDistribution((5, 6))),
        ("x=range(4,17,4)", IntDistribution(4, 16, step=4)),
        ("x=range(3)", IntDistribution(0, 2)),
        ("x=range(4,0,-2)", IntDistribution(2, 4, step=2)),
        ("x=range(1,2)", IntDistribution(1, 1)),
        ("x=float(range(1,4))", FloatDistribution(1, 3, step=1)),
        ("x=range(0,1,0.1)", FloatDistribution(0, 0.9, step=0.1)),
        ("x=range(1,0,-0.25)", FloatDistribution(0.25, 1, step=0.25)),
        ("x=interval(0,1)", FloatDistribution(0, 1)),
        ("x=interval(1,8)", FloatDistribution(1, 8)),
        ("x=tag(log,interval(1e-4,1))", FloatDistribution(1e-4, 1, log=True)),
        ("x=int(interval(1,8))", IntDistribution(1, 8)),
        ("x=int(tag(log,interval(1,8)))", IntDistribution(1, 8, log=True)),
    ],
)
def test_an_override_becomes_optunas_distribution(text: str, expected: Any) -> None:
    one = dimension(text)
    assert one.problems() == []
    assert one.distribution == expected
    again = Dimension(one.text, one.is_group)  # what space.yaml keeps says the same
    assert again.distribution == expected and again.key == one.key == "x"


@pytest.mark.parametrize(
    "text",
    [
        "x=range(4,17,4)", "x=range(0,1,0.1)", "x=range(1,0,-0.25)", "x=range(4,0,-2)", "x=float(range(1,4))", "+x=1,2",
        "x=range(1,2)", "x=range(0.05,0.5,0.05)", "x=a,b", "x=[1,2],[3]", "x='a b','c,d'", "x=null,1",
        "x=range(-3,4,3)",
    ],
)  # fmt: skip
def test_the_values_are_exactly_those_that_hydra_lists(text: str) -> None:
    override = OverridesParser.create().parse_override(text)
    expected = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    one = dimension(text)
    distribution = one.distribution
    if isinstance(distribution, CategoricalDistribution):
        proposed = list(distribution.choices)
    else:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        proposed = [distribution.low + place * distribution.step for place in range(count)]
    assert sorted(one.setting(value)[1] for value in proposed) == sorted(expected)
    for value in proposed:
        plain, written, _ = one.setting(value)
        assert OverridesParser.create().parse_override(written).value() == plain


def test_a_long_range_is_not_written_out() -> None:
    one = dimension("x=range(0,1000000000)")
    assert one.distribution == IntDistribution(0, 999_999_999)
    assert [text for _, text, _ in one.extremes()] == ["x=0", "x=999999999"]


@pytest.mark.parametrize("value", [0.1, 1e-5, 3.0000000000000004e-05, 1 / 3, 1e22, 0.0034829384729384])
def test_the_text_of_a_float_is_the_same_number(value: float) -> None:
    plain, text, _ = dimension("x=interval(0,1e30)").setting(value)
    assert plain == value and float(text.removeprefix("x=")) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x=interval(2,1)", "ends before it begins"),
        ("x=tag(log,interval(0,1))", "must begin above 0"),
        ("x=tag(log,range(1,5))", "has the tag log"),
        ("x=tag(mine,interval(0,1))", "has the tag mine"),
        ("x=tag(mine,choice(0,1))", "has the tag mine"),
        ("x=range(5,5)", "is empty"),
        ("x=0.1,1e-1", "has 0.1 more than once"),
    ],
)
def test_what_cannot_be_searched_is_said(text: str, said: str) -> None:
    (problem,) = dimension(text).problems()
    assert problem.key == "x" and said in problem.message


# The plan


def test_a_search_is_planned_without_runs(search: Callable[..., SearchPlan]) -> None:
    plan = search(LR, "optimizer=sgd,adam", "model.dropout=choice(0,0.2)", "model.width=range(4,17,4)", "seed=3")
    assert plan.runs == [] and isinstance(plan, Plan)
    assert plan.axes == {
        "optimizer.lr": ["tag(log,interval(1e-4,1))"],
        "optimizer": ["sgd", "adam"],
        "model.dropout": ["0", "0.2"],
        "model.width": ["range(4,17,4)"],
    }
    assert plan.base["seed"] == 3 and plan.base["data.name"] == "digits"
    assert not {"optimizer.lr", "model.dropout", "choices.optimizer"} & set(plan.base)
    assert sweep_name(plan) == f"lr-optimizer-dropout-width-{plan.digest[:5]}"
    assert (plan.search["monitor"], plan.search["direction"]) == ("val/accuracy", "maximize")
    assert search(LR, "monitor=val/loss").search["direction"] == "minimize"


def test_each_template_is_probed_at_its_edges(search: Callable[..., SearchPlan]) -> None:
    plan = search("optimizer.lr=interval(0.1,0.5)", "optimizer=sgd,adam", "model.width=4,8,12")
    seen = [(c["choices"]["optimizer"], c["optimizer"]["lr"], c["model"]["width"]) for c in plan.probes]
    edges = [(0.1, 4), (0.5, 4), (0.1, 8), (0.1, 12)]
    assert seen == [(name, *edge) for name in ("sgd", "adam") for edge in edges]
    assert plan.configs is plan.probes


def test_probes_to_build_are_bounded(search: Callable[..., SearchPlan]) -> None:
    assert len(search(f"model.width={','.join(map(str, range(1, 100)))}").probes) == MOST_PROBES


def test_a_template_holds_no_secret_and_no_relative_folder(
    search: Callable[..., SearchPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY", f"sqlite:///{tmp_path}/study.db")
    monkeypatch.setenv("CODE", str(tmp_path))
    plan = search(LR, "search.storage=${oc.env:STUDY}", "import_path=${oc.env:CODE}", "data.root=here")
    text = dump_yaml(plan.space)
    assert "study.db" not in text and "STUDY" not in text and "hydra" not in text
    (template,) = load_yaml(text)["templates"]
    assert template["config"]["import_path"] == "${oc.env:CODE}"
    assert template["config"]["data"]["root"] == str(Path("here").absolute())
    assert template["config"]["runs_dir"] == str(Path("runs").absolute())
    assert plan.search["storage"] == f"sqlite:///{tmp_path}/study.db"
    assert not any("storage" in key for key in plan.base)


MIXED = [
    LR, "optimizer=sgd,adam", "model.dropout=choice(0,0.2)", "model.width=range(4,17,4)", "+model.extra={a:1},{b:2}",
    "monitor=val/loss", "optimizer.weight_decay=${optimizer.lr}", "data.val_size=range(0.1,0.4,0.1)", "augment=none",
]  # fmt: skip


@pytest.mark.parametrize(
    "proposal",
    [
        {"optimizer.lr": 0.0034829384729384, "optimizer": "adam", "model.dropout": 0.2, "model.width": 12,
         "model.extra": "{b:2}", "data.val_size": 0.30000000000000004},
        {"optimizer.lr": 1.0, "optimizer": "sgd", "model.dropout": 0, "model.width": 4, "model.extra": "{a:1}",
         "data.val_size": 0.1},
    ],
)  # fmt: skip
def test_a_proposals_config_is_that_of_its_overrides(
    loader: ConfigLoader, search: Callable[..., SearchPlan], proposal: dict[str, Any]
) -> None:
    space = Space(load_yaml(dump_yaml(search(*MIXED).space)))
    settings = space.settings(proposal)
    frozen, problems = space.frozen(settings)
    fixed = [text for text in MIXED if not OverridesParser.create().parse_override(text).is_sweep_override()]
    (run,) = make_plan(loader, [*fixed, *(text for _, text, _ in settings)]).runs
    assert problems == [] and digest(frozen) == run.digest
    assert flatten(frozen) == flatten(run.config) | {"search.name": "random"}


def test_the_digest_is_of_what_is_searched_and_how(search: Callable[..., SearchPlan], tmp_path: Path) -> None:
    plan = search(LR)
    same = ["search.trials=50", f"search.storage=sqlite:///{tmp_path}/x.db", "threads=2", "runs_dir=elsewhere",
            "search.min_epochs=3", "search.reduction_factor=2"]  # fmt: skip
    assert search(LR, *same).digest == plan.digest
    other = [
        "search.seed=1", "search.seeds=[0,1]", "search.pruner=asha", "search=tpe", "model.width=4", "seed=1",
        "optimizer=adam", "model.dropout=0,0.1", "monitor=val/loss", "optimizer.lr=tag(log,interval(1e-4,0.5))",
    ]  # fmt: skip
    lrs = [text if text.startswith("optimizer.lr") else LR for text in other]
    changed = [search(lr, text) if lr != text else search(lr) for lr, text in zip(lrs, other, strict=True)]
    assert len({plan.digest, *(one.digest for one in changed)}) == len(other) + 1
    pruned = search(LR, "search.pruner=asha")
    assert pruned.digest != search(LR, "search.pruner=asha", "search.min_epochs=3").digest


def test_of_a_single_run_the_search_is_a_machine_fact(loader: ConfigLoader) -> None:
    (run,) = make_plan(loader, ["search=tpe", "search.trials=3"]).runs
    assert run.digest == make_plan(loader, []).runs[0].digest
    assert run.config["search"]["trials"] == 3


def test_every_search_has_a_file_a_sampler_and_a_rule() -> None:
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (shipped("conf") / "search").glob("*.yaml")}
    assert set(files) == {"grid", *SEARCHES} == {"grid", *SAMPLERS}
    assert files["grid"] == {"name": "grid"}
    for name in SEARCHES:
        assert {f"search.{key}" for key in files[name]} == {key for key in RULES if key.startswith("search.")}
        assert files[name]["name"] == name and (files[name]["trials"], files[name]["seed"]) == (20, 0)


# Mistakes


def said(problems: list[Problem]) -> dict[str, str]:
    return {problem.key if problem.value is None else f"{problem.key}={problem.value}": problem.message
            for problem in problems}  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "key", "message"),
    [
        (["search=tpe"], "search=tpe", "has nothing to search"),
        (["search=tpe", "seed=0,1"], "seed=0,1", "give search.seeds=[0,1,2]"),
        (["search=tpe", "monitor=val/loss,val/accuracy"], "monitor=val/loss,val/accuracy", "must be one value"),
        (["optimizer.lr=interval(0,1)"], "optimizer.lr=interval(0,1)", "search=random or search=tpe"),
        (["search.trials=5", "seed=0,1"], "search.trials=5", "search=grid, which takes every combination"),
        (["search=tpee", LR], "search=tpee", "is not a choice of search"),
        (["search=tpe,random", LR], "search=tpe,random", "cannot be an axis"),
        (["search=tpe,grid", LR, "optimizer=sgd,adam"], "search=tpe,grid", "cannot be an axis"),
        (["search=tpe", "search.trials=2,3", LR], "search.trials=2,3", "cannot be an axis"),
        (["search=tpe", "search.trials=2,3"], "search.trials=2,3", "cannot be an axis"),
        (["search=tpe", "+search.sampler.n_startup_trials=2,3", LR], "search.sampler.n_startup_trials=2,3", "an axis"),
        (["search=tpe", "threads=1,2"], "threads=2", "computes the same as threads=1"),
        (["search=tpe", "optimizer=interval(0,1)"], "optimizer=interval(0,1)", "takes names"),
        (["search=tpe", "optimizer=glob(zz*)"], "optimizer=glob(zz*)", "fits no choice of optimizer"),
        (["search=tpe", LR, "data.root=a,b"], "data.root=a,b", "must be whole paths"),
        (["search.name=tpe", LR], "search.name=tpe", "choose the group: search=tpe"),
        (["search=tpe", "model.dropout=interval(0,1)"], "model.dropout=1.0", "below 1"),
        (["search=tpe", "model.width=range(0,9,4)"], "model.width=0", "at least 1"),
        (["search=tpe", "optimizer=momentum,adam", "optimizer.momentum=0,1"], "optimizer.momentum=0,1", "it has"),
        (["search=tpe", LR, "optimizer.lr=0.1,0.2"], "optimizer.lr=0.1,0.2", "is given twice as an axis"),
        (["seed=0,1", "seed=2,3"], "seed=2,3", "is given twice as an axis, before as 0,1"),
        (["search=tpe", LR, "search.seeds=[0,0]"], "search.seeds=[0, 0]", "must be a list of seeds"),
        (["search=tpe", LR, "search.pruner=hyper"], "search.pruner=hyper", "must be one of asha, hyperband, median"),
        (["search=tpe", LR, "search.pruner=asha", "search.min_epochs=99"], "search.min_epochs=99", "which is 15"),
        (
            ["search=tpe", "trainer.max_epochs=2,4", "search.pruner=hyperband"],
            "trainer.max_epochs", "divides a common length",
        ),
        (["search=tpe", LR, "+search.sampler.n_startup=3"], "search.sampler.n_startup=3", "of Optuna's TPESampler"),
        (
            ["search=tpe", LR, "+search.sampler.n_startup_trials=x"],
            "search.sampler.n_startup_trials=x", "must be a whole number",
        ),
        (["search=random", LR, "+search.sampler.n=1"], "search.sampler.n=1", "none to set here"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_is_refused_in_words(
    refused: Refusals, overrides: list[str], key: str, message: str
) -> None:
    found = said(refused(*overrides))
    assert list(found) == [key]
    assert message in found[key]


def test_every_problem_is_said_at_once(refused: Refusals) -> None:
    found = said(
        refused(
            "search=tpe", "search.trials=no", "sed=0,1", "model.dropout=interval(0,1)", "optimizer=sgd,adm",
            "model.width=0,3,-1", "trainer.max_epochs=ten", "optimizer.lr=interval(2,1)",
        )
    )  # fmt: skip
    assert set(found) == {
        "search.trials=no", "sed=0,1", "model.dropout=1.0", "optimizer=adm", "model.width=0", "model.width=-1",
        "trainer.max_epochs=ten", "optimizer.lr=interval(2,1)",
    }  # fmt: skip


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_storage_that_cannot_be_used_is_refused(
    refused: Refusals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.db").write_text("not a database, and long enough to be looked at by the library of SQLite" * 9)
    for url, message in {
        "sqlite:////nowhere/at/all.db": "/nowhere/at is not a folder",
        f"sqlite:///{tmp_path}/text.db": "file is not a database",
        "sqlite://": "is in memory",
        "nonsense": "is not an address",
        "nothing://host/db": "is of a kind that is not known",
        "mysql+pymysql://user:secret@host/db": "needs the package pymysql",
    }.items():
        (problem,) = refused("search=tpe", LR, f"search.storage='{url}'")
        assert problem.key == "search.storage" and message in problem.message
        assert "secret" not in str(problem)
    # A driver that is there, for a server that is not.
    monkeypatch.setattr("sqlalchemy.create_engine", lambda url: create_engine("sqlite://"))
    url = f"postgresql://user:secret@127.0.0.1:{closed_port()}/db"
    (problem,) = refused("search=tpe", LR, f"search.storage='{url}'")
    assert "cannot be reached: " in problem.message and "refused" in problem.message and "***" in str(problem)


def test_asking_for_a_storage_writes_nothing(search: Callable[..., SearchPlan], tmp_path: Path) -> None:
    search(LR, f"search.storage=sqlite:///{tmp_path}/study.db")
    assert list(tmp_path.iterdir()) == []


IMPORTS = """
import json, sys
from resweep.config import config_loader
from resweep.sweep.plan import make_plan
import resweep.cli, resweep.sweep.launch
with config_loader() as loader:
    make_plan(loader, ["seed=0,1"], sweep=True)
    before = "optuna" in sys.modules
    make_plan(loader, ["search=gp", "optimizer.lr=interval(0.1,1)"], sweep=True)
print(json.dumps([before, "torch" in sys.modules]))
"""


def test_a_grid_does_not_load_optuna_and_no_plan_loads_torch(shell: Callable[..., Any]) -> None:
    done = shell(IMPORTS)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [False, False]

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest
from hydra.core.config_loader import ConfigLoader
from omegaconf import OmegaConf

from resweep.config import compose, flatten, freeze
from resweep.errors import Problem
from resweep.schema import ARGUMENT_RULES, RULES, check
from resweep.sweep.plan import Plan

Planner = Callable[..., Plan]
Problems = Callable[..., list[Problem]]
NAN, INF = float("nan"), float("inf")

# key: (values at the edge that are accepted, values at the edge that are not)
EDGES: dict[str, tuple[list[Any], list[Any]]] = {
    "seed": ([0, 2**32 - 1], [-1, 2**32, 0.5, 1.0, "0", None, True]),
    "threads": ([1, 64], [0, 1.5, None]),
    "channels_last": ([True, False], [0, 1, "yes", None]),
    "runs_dir": (["runs", "/tmp/x y"], ["", None, 3]),
    "sweep_name": ([None, "a", "a b", "a.b"], ["", ".a", "a/b", "..", 3]),
    "thresholds": ([0.5, 0.001, [0.2, 0.7], "validation"], [0, 1, 0.0, 1.5, [], [0.5, 1], "auto", None]),
    "diagnostics_every": ([None, 1, 50], [0, 0.5]),
    "logger.histograms_every": ([None, 1, 50], [0, 0.5]),
    "averaging.ema_decay": ([None, 0.001, 0.9999], [0, 1, 1.5, "x"]),
    "averaging.lookahead_steps": ([0, 5], [-1, 0.5, None]),
    "averaging.lookahead_alpha": ([0.001, 1], [0, 1.1, None]),
    "monitor": (["val/accuracy", "val/loss", "val/map", "val/f1"], ["test/accuracy", "accuracy", None]),
    "monitor_mode": (["min", "max"], ["maximum", None, 1]),
    "checkpoint_every": ([1, 10], [0, 0.5, None]),
    "import_path": ([None, "."], ["", 5]),
    "data.name": (["mine"], ["", None, 1]),
    "data.batch_size": ([1, 4096], [0, -1, 1.0, "8", None]),
    "data.val_size": ([2, 5000, 0.001, 0.999], [0, 1, 0.0, 1.0, 1.5, -0.1, -2, "0.1", None, True, NAN]),
    "data.test_size": ([None, 2, 0.5], [0, 1, 1.0, "x"]),
    "data.split_seed": ([0, 2**32 - 1], [-1, 2**32, None]),
    "data.subset": ([None, 2, 0.5], [1, 0, 1.0, -3]),
    "data.num_workers": ([0, 4], [-1, None, 0.5]),
    "data.root": ([None, "x"], ["", 3]),
    "data.image_size": ([None, 1, 224], [0, -1, 1.5]),
    "data.num_folds": ([None, 2, 10], [1, 0, 2.5]),
    "data.fold": ([None, 0, 4], [-1, 0.5, "0"]),
    "data.label_noise": ([0, 0.0, 0.4, 0.999], [1, -0.1, None]),
    "data.balance": ([None, "sampling", "weights"], ["none", True]),
    "data.channels": ([None, 1, 3], [2, 0, 4, True, 3.0]),
    "trainer.max_epochs": ([1, 1000], [0, -1, 1.5, "ten", None]),
    "trainer.devices": ([1, [0], [3]], [0, 2, [0, 1], [], "auto", True]),
    "data.content": ([None, "0f"], [1]),
    "trainer.accumulate_grad_batches": ([1, 4], [0, None]),
    "trainer.gradient_clip_val": ([None, 1e-9, 1], [0, -1, 0.0, "x", NAN]),
    "executor.name": (["local", "slurm", "ray"], ["cloud", None]),
    "executor.devices": ([None, [0], ["GPU-1", 2]], [[], [0, 0], [0, "0"], 1, "0"]),
    "executor.runs_per_device": ([1, 4], [0, 0.5, None]),
    "executor.retries": ([0, 5], [-1, None, 0.5]),
    "executor.timeout": ([None, 0.5, 60], [0, -1, "1h"]),
    "executor.fail_fast": ([None, 1], [0, 2.5]),
    "executor.partition": ([None, "gpu"], ["", 1]),
    "executor.account": ([None, "me"], ["", 1]),
    "executor.time": ([None, 1], [0, "1:00"]),
    "executor.cpus_per_task": ([1, 8], [0, None]),
    "executor.memory": ([None, "8G"], ["", 8]),
    "executor.gpus_per_node": ([None, 1], [0, 0.5]),
    "executor.signal_delay_s": ([0, 90], [-1, None]),
    "executor.poll_seconds": ([0.5, 2], [0, None]),
    "executor.address": ([None, "auto"], ["", 6379]),
    "executor.cpus_per_run": ([0.5, 1], [0, None]),
    "executor.gpus_per_run": ([None, 0, 0.5, 1], [-1, "1"]),
    "executor.workers": ([None, 1], [0, -1, 1.5]),
    "search.name": (["grid", "random", "tpe"], ["bayes", None]),
    "search.trials": ([1, 1000], [0, -1, 1.5, None]),
    "search.seed": ([0, 2**32 - 1], [-1, 2**32, None]),
    "search.seeds": ([None, [0], [2, 0, 1]], [[], [0, 0], [-1], [0.5], 3, ["0"]]),
    "search.pruner": ([None, "asha", "hyperband", "median"], ["none", 1]),
    "search.min_epochs": ([1, 10], [0, 1.5, None]),
    "search.reduction_factor": ([2, 4], [1, 2.5, None]),
    "search.storage": ([None, "sqlite:////x.db"], ["", 5]),
    "search.sampler": ([{}], [5, None, "x"]),
    "optimizer.lr": ([0, 0.0, 1e-12, 10], [-1e-12, "x", None, INF, NAN, True]),
    "optimizer.weight_decay": ([0, 5e-4], [-1e-9, None, "x"]),
    "optimizer.momentum": ([0, 0.999], [1, 1.0, -0.1, None]),
    "optimizer.dampening": ([0, 0.5], [1, -1]),
    "optimizer.alpha": ([0, 0.99], [1, -0.01]),
    "optimizer.betas": ([[0, 0], [0.9, 0.999]], [[0.9], [0.9, 1], [0.9, -0.1], 0.9, [0.9, "x"], None, [0.9, 0.9, 0.9]]),
    "optimizer.eps": ([1e-30, 1], [0, 0.0, -1, None, "x"]),
    "optimizer.layer_decay": ([0.01, 1, 1.0], [0, 1.1, None]),
    "model.dropout": ([None, 0, 0.999], [1, 1.5, -0.1, "x"]),
    "loss.label_smoothing": ([0, 0.999], [1, -0.1]),
    "scheduler.gamma": ([1e-9, 2], [0, -1]),
    "scheduler.warmup": ([0, 0.5, 5], [-1, None, "x"]),
    "scheduler.monitor": (["val/loss"], ["train/loss", None]),
    "scheduler.interval": (["step", "epoch"], ["batch", None]),
    "regularizer.l1": ([0, 1e-5], [-1e-9, None]),
    "regularizer.max_norm": ([None, 0.1, 3], [0, -1, "x"]),
    "regularizer.sam_rho": ([0, 0.05, 2], [-0.1, None]),
    "regularizer.sam_adaptive": ([True, False], [0, None]),
    "data.flip": ([0, 0.5, 1], [-0.1, 1.1, None]),
    "data.crop_padding": ([0, 4], [-1, 0.5, None]),
    "augment.cutout": ([0, 0.0, 0.5, 1, 16], [-1, 1.0, 1.5, True, None, "x"]),
    "optimizer.rho": ([0, 0.9], [1, -0.1, None]),
    "optimizer.adamw_lr": ([None, 0, 3e-4], [-1, "x"]),
    "optimizer.adjust_lr_fn": (["original", "match_rms_adamw"], ["keller", None]),
    "optimizer.ns_dtype": (["auto", "bfloat16", "float32"], ["float64", None]),
    "optimizer.ns_steps": ([1, 5], [0, None]),
    "optimizer.line_search_fn": ([None, "strong_wolfe"], ["wolfe", True]),
    "optimizer.history_size": ([1, 100], [0, None]),
    "optimizer.max_iter": ([1, 20], [0, 2.5]),
    "optimizer.max_eval": ([None, 1], [0, "x"]),
    "optimizer.matrix_eps": ([1e-9], [0, None]),
    "optimizer.precondition_frequency": ([1, 10], [0, None]),
    "model.stochastic_depth": ([0, 0.5], [1, -0.1, None]),
    "model.input_dropout": ([0, 0.2], [1, None]),
    "model.freeze": (["none", "features", 0, 3], ["all", -1, None, True]),
    "model.pretrained": ([True, False, "a.pth"], ["", None, 1]),
    "model.widen_factor": ([1, 10], [0, None]),
    "loss.target_threshold": ([None, 0, 0.2], [1, -0.1]),
    "data.crop_pct": ([0.875, 1, 1.0], [0, 1.1, None]),
    "model.depth": ([1, 8], [0, 8.0]),
    "model.width": ([1, 16], [0, "x"]),
    "data.num_classes": ([2, 10], [1, 0, None]),
    "data.source.channels": ([1, 3], [2, 0, 4, True, 3.0, None]),
}


def test_every_rule_has_its_edges_tested() -> None:
    assert set(RULES) <= set(EDGES)
    assert set(ARGUMENT_RULES) == {key.rsplit(".", 1)[-1] for key in EDGES if key not in RULES}


@pytest.fixture(scope="module")
def default(loader: ConfigLoader) -> tuple[dict[str, Any], Mapping[str, Any]]:
    composed = compose(loader, [])
    return freeze(composed), flatten(OmegaConf.to_container(composed, resolve=False))  # type: ignore[arg-type]


def with_value(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = deepcopy(config)
    section = changed
    *parents, last = key.split(".")
    for parent in parents:
        section = section.setdefault(parent, {})
    section[last] = value
    return changed


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (accepted, _) in EDGES.items() for value in accepted], ids=str
)
def test_values_inside_the_edge_are_accepted(default: Any, key: str, value: Any) -> None:
    config, reference = default
    assert check(with_value(config, key, value), {**reference, key: None}) == []


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (_, refused) in EDGES.items() for value in refused], ids=str
)
def test_values_outside_the_edge_are_refused(default: Any, key: str, value: Any) -> None:
    config, reference = default
    (problem,) = check(with_value(config, key, value), {**reference, key: None})
    assert (problem.key, problem.value) == (key, str(value))
    assert problem.message.startswith("must be ") and repr(value) in problem.message


def test_the_entry_config_has_no_problem(default: Any) -> None:
    assert check(*default) == []


@pytest.mark.parametrize(
    ("key", "accepted", "refused"),
    [
        ("optimizer.nesterov", True, 1),
        ("optimizer.no_decay", ["bias"], "bias"),
        ("model.shortcut", "projection", 1),
        ("scheduler.pct_start", 0.5, "x"),
        ("scheduler.cycle_momentum", False, "false"),
        ("trainer.accelerator", "cpu", 5),
        ("logger.default_hp_metric", True, 0),
    ],
)
def test_keys_without_a_rule_keep_the_type_of_their_file(default: Any, key: str, accepted: Any, refused: Any) -> None:
    config, reference = default
    assert check(with_value(config, key, accepted), reference) == []
    (problem,) = check(with_value(config, key, refused), reference)
    assert problem.key == key


def test_a_whole_number_is_a_number_and_not_the_other_way_round(default: Any) -> None:
    config, reference = default
    assert check(with_value(config, "scheduler.div_factor", 10), reference) == []
    assert check(with_value(config, "trainer.devices", 1.5), reference) != []


@pytest.mark.parametrize(
    ("added", "key", "nearest"),
    [
        ("+foo=1", "foo", None),
        ("+sed=1", "sed", "seed"),
        ("+data.bach_size=1", "data.bach_size", "data.batch_size"),
        ("+data.foo=1", "data.foo", None),
        ("+executor.worker=2", "executor.worker", "executor.workers"),
        ("+search.nam=grid", "search.nam", "search.name"),
        ("+regularizer.l2=1", "regularizer.l2", None),
        ("+foo.bar=1", "foo.bar", None),
    ],
)
def test_keys_added_where_none_belong_are_refused(
    problems: Problems, added: str, key: str, nearest: str | None
) -> None:
    (problem,) = problems(added)
    assert (problem.key, problem.nearest) == (key, nearest)
    assert "is not a key of" in problem.message and "it has " in problem.message


@pytest.mark.parametrize(
    "added",
    ["+trainer.max_steps=3", "+optimizer.maximize=true", "+model.base_width=4", "+scheduler.anything=1",
     "+loss.reduction=sum", "+logger.flush_secs=1", "+augment.extra=1", "+data.source.extra=1"],
)  # fmt: skip
def test_arguments_of_components_are_left_to_their_signature(plan: Planner, added: str) -> None:
    assert plan(added).runs[0].config


def test_an_added_argument_with_a_rule_is_checked(problems: Problems) -> None:
    (problem,) = problems("+optimizer.dampening=1")
    assert problem.key == "optimizer.dampening"


# Targets


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=os.system", "optimizer._target_=torch.hub.load", "data.source._target_=builtins.eval",
        "loss._target_=torch.nnx.Thing", "logger._target_=subprocess.run", "model._target_=resweep.modelsx.Evil",
        "+model.inner={_target_:os.system}", "+model.a.b.c._target_=os.system", "augment._target_=resweep.data",
    ],
)  # fmt: skip
def test_targets_outside_the_list_are_refused(problems: Problems, override: str) -> None:
    found = problems(override)
    (problem,) = [one for one in found if one.key.endswith("_target_")]
    assert "is not a target that configs may name" in problem.message
    assert "+allowed_targets.NAME=" in problem.message


def test_a_target_is_text(problems: Problems) -> None:
    assert {(problem.key, problem.value) for problem in problems("model._target_=5")} == {("model._target_", "5")}


def test_the_list_of_targets_is_extended_by_name(plan: Planner, problems: Problems) -> None:
    mine = ("model._target_=collections.OrderedDict", "~model.depth", "~model.width", "~model.shortcut")
    assert len(problems(*mine)) == 1
    plan(*mine, "+allowed_targets.mine=collections.OrderedDict")
    plan(*mine, "+allowed_targets.mine=collections.")
    for other in ("collections", "collections.Ordered", "collection.", "collections.OrderedDict.fromkeys", "''"):
        assert [problem.key for problem in problems(*mine, f"+allowed_targets.mine={other}")] == ["model._target_"]


@pytest.mark.parametrize("extra", ["allowed_targets=[collections.OrderedDict]", "+allowed_targets.mine=5"])
def test_extensions_must_be_names_of_targets(problems: Problems, extra: str) -> None:
    assert "allowed_targets" in {problem.key for problem in problems(extra)}


def test_nested_targets_of_the_list_are_accepted(plan: Planner) -> None:
    made = plan("+model.inner={_target_:torch.nn.ReLU}")
    assert made.runs[0].config["model"]["inner"] == {"_target_": "torch.nn.ReLU"}

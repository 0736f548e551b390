from __future__ import annotations

import shlex

import pytest

from resweep.report.advice import next_commands, rival
from resweep.report.load import load_sweep
from resweep.report.table import ranking

# Differences of b to a per seed: -0.005, -0.01, -0.015; of c: about -0.2.
FIGURES = {"a": [0.90, 0.91, 0.92], "b": [0.895, 0.90, 0.905], "c": [0.70, 0.72, 0.71]}


def commands(sweep, **request) -> list[str]:
    loaded = load_sweep(sweep.finish(**request))
    return next_commands([loaded], ranking(loaded))


def plant_figures(sweep, lr=(0.1,)):
    for place, (model, tests) in enumerate(FIGURES.items()):
        for rate in lr:
            for seed, test in enumerate(tests):
                sweep.run({"model": model, "optimizer.lr": rate}, seed, 0.9 - place / 10 - rate, test)


def test_the_fresh_seeds_that_would_decide_are_proposed(plant):
    sweep = plant()
    plant_figures(sweep)
    overrides = ["model=a,b,c", "optimizer.lr=0.1,1", "seed=0,1,2", "sweep_name=x", "data=mnist", "runs_dir=/tmp/r"]
    axes = {"model": [], "optimizer.lr": [], "seed": []}
    found = commands(sweep, overrides=overrides, axes=axes)
    loaded = load_sweep(sweep.dir)
    table = ranking(loaded)
    more = table.rows[1].difference.more_seeds
    assert rival(table) is table.rows[1] and more > 1
    assert found[0].startswith("tensorboard ") and len(found) == 3
    assert shlex.split(found[1]) == [
        "resweep", "train", "-m", "runs_dir=/tmp/r", "data=mnist", "model=a,b", "optimizer.lr=0.1",
        f"seed=range(3,{3 + more})", "sweep_name=planted-fresh-seeds",
    ]  # fmt: skip
    assert found[2] == "resweep compare /tmp/r/planted-fresh-seeds"


def test_two_settings_that_differ_in_more_than_one_key_get_a_sweep_each(plant):
    """One sweep would add the other combinations, and so the pair would no longer be the only comparison."""
    sweep = plant("two keys")
    for model, rate in (("a", 0.1), ("b", 1), ("c", 0.1)):
        for seed, test in enumerate(FIGURES[model]):
            sweep.run({"model": model, "optimizer.lr": rate}, seed, 0.9 - "abc".index(model) / 10, test)
    found = commands(sweep, overrides=["model=a,b,c", "optimizer.lr=0.1,1"], axes={"model": [], "optimizer.lr": []})
    more = ranking(load_sweep(sweep.dir)).rows[1].difference.more_seeds
    train = [shlex.split(command) for command in found[1:3]]
    seeds = f"seed=range(3,{3 + more})"
    assert train == [
        ["resweep", "train", "-m", "model=a", "optimizer.lr=0.1", seeds, "sweep_name=two keys-fresh-seeds"],
        ["resweep", "train", "-m", "model=b", "optimizer.lr=1", seeds, "sweep_name=two keys-fresh-seeds-2"],
    ]
    both = [f"{sweep.dir}-fresh-seeds", f"{sweep.dir}-fresh-seeds-2"]
    assert shlex.split(found[3]) == ["resweep", "compare", *both] and len(found) == 4


def test_a_sweep_that_was_moved_is_not_where_the_next_one_will_be(plant):
    for base, place in (("{parent}", "{parent}"), ("/elsewhere/runs", "runs")):
        sweep = plant(f"s{len(base)}", {"monitor": "val/accuracy"})
        sweep.base["runs_dir"] = base.format(parent=sweep.dir.parent)
        plant_figures(sweep)
        folder = place.format(parent=sweep.dir.parent)
        assert commands(sweep)[-1] == f"resweep compare {folder}/{sweep.dir.name}-fresh-seeds"


def test_a_settled_sweep_needs_no_seeds(plant):
    sweep = plant()
    for model, shift in (("a", 0.0), ("b", 0.2)):
        for seed in range(3):
            sweep.run({"model": model}, seed, 0.9 - shift, 0.9 - shift + seed / 100 + (seed == 1) * shift / 100)
    found = commands(sweep)
    assert found == [f"tensorboard --logdir {sweep.dir}"]
    assert rival(ranking(load_sweep(sweep.dir))) is None


def test_a_proposal_that_takes_too_many_runs_is_none(plant):
    sweep = plant()
    for model, val, tests in (("a", 0.9, [0.90, 0.91, 0.92]), ("b", 0.8, [0.89, 0.93, 0.89])):
        for seed, test in enumerate(tests):
            sweep.run({"model": model}, seed, val, test)
    difference = ranking(load_sweep(sweep.finish())).rows[1].difference
    assert difference.verdict == "not distinguishable" and difference.more_seeds > 50
    assert commands(sweep) == [f"tensorboard --logdir {sweep.dir}"]


@pytest.mark.parametrize("status", ["pending", "running", "interrupted", "lost"])
def test_while_runs_are_missing_nothing_but_resuming_is_proposed(plant, status):
    sweep = plant()
    plant_figures(sweep)
    sweep.run({"model": "c", "optimizer.lr": 0.1}, 3, status=status)
    assert commands(sweep) == [f"tensorboard --logdir {sweep.dir}", f"resweep resume {sweep.dir}"]


def test_runs_that_failed_do_not_keep_the_others_from_being_decided(plant):
    sweep = plant("with blank")
    plant_figures(sweep)
    for seed in (3, 4):
        sweep.run({"model": "c", "optimizer.lr": 0.1}, seed, status="failed")
    found = commands(sweep)
    assert len(found) == 4 and found[2].startswith("resweep train -m model=a,b ")
    assert shlex.split(found[3]) == ["resweep", "compare", f"{sweep.dir}-fresh-seeds"]
    assert found[:2] == [f"tensorboard --logdir '{sweep.dir}'", f"resweep resume '{sweep.dir}'"]


def test_folds_get_no_seeds(plant):
    sweep = plant()
    for model, tests in FIGURES.items():
        for fold, test in enumerate(tests):
            sweep.run({"model": model, "data.fold": fold}, 0, test, test)
    assert commands(sweep) == [f"tensorboard --logdir {sweep.dir}"]

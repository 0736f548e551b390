from __future__ import annotations

import shlex

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


def test_the_seeds_that_would_decide_are_proposed(plant):
    sweep = plant()
    plant_figures(sweep)
    overrides = ["model=a,b,c", "optimizer.lr=0.1,1", "seed=0,1,2", "sweep_name=x", "data=mnist", "runs_dir=/tmp/r"]
    axes = {"model": [], "optimizer.lr": [], "seed": []}
    found = commands(sweep, overrides=overrides, axes=axes)
    loaded = load_sweep(sweep.dir)
    table = ranking(loaded)
    more = table.rows[1].difference.more_seeds
    assert rival(table) is table.rows[1] and more > 1
    words = shlex.split(found[-1])
    assert words == [
        "resweep", "train", "-m", "runs_dir=/tmp/r", "data=mnist", "model=a,b", "optimizer.lr=0.1",
        f"seed=range(3,{3 + more})", "sweep_name=planted-more-seeds",
    ]  # fmt: skip


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


def test_unfinished_runs_come_first_and_three_commands_are_enough(plant):
    sweep = plant("with blank")
    plant_figures(sweep)
    for seed in (3, 4):
        sweep.run({"model": "c", "optimizer.lr": 0.1}, seed, status="failed")
    found = commands(sweep)
    assert len(found) == 3 and found[2].startswith("resweep train -m model=a,b ")
    assert found[:2] == [f"tensorboard --logdir '{sweep.dir}'", f"resweep resume '{sweep.dir}'"]


def test_folds_get_no_seeds(plant):
    sweep = plant()
    for model, tests in FIGURES.items():
        for fold, test in enumerate(tests):
            sweep.run({"model": model, "data.fold": fold}, 0, test, test)
    assert commands(sweep) == [f"tensorboard --logdir {sweep.dir}"]

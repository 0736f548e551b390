from __future__ import annotations

import pytest

from resweep.errors import RequestError
from resweep.report.load import load_sweep
from resweep.report.table import ranking
from resweep.report.view import View, equal_values, hidden_text, shown_runs, shown_settings


@pytest.fixture
def table(plant):
    """Validation ranks b, a, c; test c, a, b; d has no result. Loss on test: a 0.3, b 0.1, c 0.2."""
    sweep = plant(base={"monitor": "val/accuracy", "monitor_mode": "max", "optimizer.lr": 0.1})
    planted = {"a": (0.8, 0.7, 0.3), "b": (0.9, 0.6, 0.1), "c": (0.7, 0.8, 0.2)}
    for name, (val, test, loss) in planted.items():
        for seed in (0, 1):
            metrics = {"val/accuracy": val, "test/accuracy": test, "test/loss": loss + seed / 100}
            sweep.run({"model": name, "model.depth": 1}, seed, metrics=metrics)
    sweep.run({"model": "d", "model.depth": 2}, 0, status="failed")
    return ranking(load_sweep(sweep.finish()))


def models(rows) -> str:
    return "".join(row.values["model"] for row in rows)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (None, "bacd"),
        ("test/accuracy", "cabd"),
        ("-test/accuracy", "bacd"),  # what has no result stays last
        ("test/loss", "bcad"),
        ("-test/loss", "acbd"),
        ("model", "abcd"),
        ("-model", "dcba"),
        ("n", "dbac"),
    ],
)
def test_metrics_are_sorted_best_first_and_the_rest_upwards(table, sort, order):
    assert models(shown_settings(table, View(sort=sort))) == order


def test_numbers_are_sorted_by_size_and_before_words(plant):
    sweep = plant()
    for value in (10, 9, "auto", 0.5):
        sweep.run({"width": value}, 0, 0.5, 0.5)
    found = shown_settings(ranking(load_sweep(sweep.finish())), View(sort="width"))
    assert [row.values["width"] for row in found] == [0.5, 9, 10, "auto"]


def test_a_condition_is_about_values_and_means(table):
    assert models(shown_settings(table, View(where="model in (a, c)"))) == "ac"
    assert models(shown_settings(table, View(where="test/loss<0.2"))) == "b"  # the mean of 0.1 and 0.11
    assert models(shown_settings(table, View(where="n==0"))) == "d"
    assert models(shown_settings(table, View(where="depth==1", top=2))) == "ba"
    assert models(shown_settings(table, View(where="model.depth==1"))) == "bac"


def test_nothing_changes_but_what_is_listed(table):
    (row,) = shown_settings(table, View(where="model==c"))
    assert not row.best and row is table.rows[2] and table.best.values["model"] == "b"


@pytest.mark.parametrize("name", ["seed", "status", "images_per_second"])
def test_what_differs_between_the_runs_of_a_setting_needs_runs(table, name):
    with pytest.raises(RequestError, match="add --runs"):
        shown_settings(table, View(where=f"{name}==0"))
    with pytest.raises(RequestError, match="add --runs"):
        shown_settings(table, View(sort=name))


def test_runs_are_listed_by_their_own_values(table):
    found = shown_runs(table, View(runs=True, where="seed==1 and model!=b", sort="test/loss"))
    assert [(row["model"], row["seed"], round(row["test/loss"], 4)) for row in found] == [
        ("c", 1, 0.21),
        ("a", 1, 0.31),
    ]
    assert [row["id"] for row in shown_runs(table, View(runs=True, where="status==failed"))] == ["00006"]
    assert [row["model"] for row in shown_runs(table, View(runs=True, where="depth==2"))] == ["d"]  # a short name


def test_wrong_requests_are_refused(table):
    with pytest.raises(RequestError) as caught:
        shown_settings(table, View(sort="test/acuracy"))
    assert caught.value.problems[0].nearest == "test/accuracy"
    with pytest.raises(RequestError, match="--top=0: must be a whole number, at least 1"):
        View(top=0).condition()
    with pytest.raises(RequestError, match="lrr is not a column"):
        shown_runs(table, View(runs=True, where="lrr<1"))


def test_what_is_left_out_is_said(table):
    assert equal_values(table) == {"monitor": "val/accuracy", "monitor_mode": "max", "optimizer.lr": 0.1}
    assert hidden_text(table, View(), 4, 4) == "3 equal values hidden (--all)"
    assert hidden_text(table, View(everything=True), 4, 4) is None
    text = hidden_text(table, View(), 1, 4)
    assert text == "1 of 4 settings listed; means, verdicts and answer are those of all; 3 equal values hidden (--all)"
    assert hidden_text(table, View(runs=True, everything=True), 2, 7) == "2 of 7 runs listed"

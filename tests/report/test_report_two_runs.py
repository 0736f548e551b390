from __future__ import annotations

import csv
import io
import json

import pytest
import yaml

from resweep.report.compare import compare


@pytest.fixture
def two(plant):
    """Two single runs: another optimizer, another seed, other versions; the first one failed to record its memory."""
    folders = []
    sweep = plant("train")
    facts = {"a": ("adam", 0, 0.75, "2.11.0"), "b": ("sgd", 1, 0.5, "2.12.1")}
    for name, (optimizer, seed, accuracy, torch) in facts.items():
        environment = {"python": "3.11.7", "packages": {"torch": torch}, "processor": "X", "threads": 1}
        metrics = {"val/accuracy": accuracy, "test/accuracy": accuracy + 0.1, "test/loss": 0.25}
        run = sweep.run({}, seed, metrics=metrics, environment=environment, fit_seconds=8.0 + 60 * seed)
        lr = 0.01 if name == "a" else 0.1
        overrides = [f"optimizer={optimizer}", f"optimizer.lr={lr}"]
        record = json.loads((run / "run.json").read_text()) | {"overrides": overrides, "swept": {}}
        (run / "run.json").write_text(json.dumps(record | {"peak_memory_bytes": 4e8 + 1e8 * seed}))
        config = {"choices": {"optimizer": optimizer}, "optimizer": {"lr": lr}, "model": {"depth": 8}, "runs_dir": name}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        folders.append(str(run))
    return folders


def test_what_differs_stands_side_by_side(two):
    lines = [line.split() for line in compare(two, write=False).split("\n\n")[0].splitlines()]
    assert lines[0] == ["key", "run-000", "run-001", "change"]
    assert lines[1:5] == [
        ["optimizer", "adam", "sgd", "differs"],
        ["optimizer.lr", "0.01", "0.1", "+0.09"],
        ["seed", "0", "1", "+1"],
        ["status", "completed", "completed", "="],
    ]
    assert ["test/accuracy", "0.8500", "0.6000", "-0.2500"] in lines
    assert ["test/loss", "0.2500", "0.2500", "="] in lines  # results are told in any case
    assert ["fit_seconds", "8.0s", "1m08s", "+60"] in lines
    assert ["peak_memory_bytes", "400.0", "MB", "500.0", "MB", "+100.0", "MB"] in lines
    assert lines[-2] == ["torch", "2.11.0", "2.12.1", "differs"]
    assert lines[-1][:6] == ["5", "equal", "values", "hidden", "(--all)"][:6]


def test_one_seed_each_says_nothing(two):
    text = compare(two, write=False)
    assert "whether the results differ by more than the seed's noise cannot be said" in text
    assert "warning  the sweeps differ in software: torch (run-000 2.11.0, run-001 2.12.1)" in text


def test_equal_values_on_request(two):
    text = compare(two, everything=True, write=False)
    assert ["model.depth", "8", "8", "="] in [line.split() for line in text.splitlines()]
    assert "runs_dir" not in text and "hidden" not in text


def test_nothing_is_written_without_being_asked_for(two, plant):
    compare(two)
    assert not list(plant("train2").dir.parent.rglob("report.html"))


def test_the_other_formats_have_the_same_facts(two):
    found = json.loads(compare(two, format="json", write=False))
    facts = {fact["key"]: fact for fact in found["facts"]}
    assert (found["a"], found["b"]) == ("run-000", "run-001")
    assert facts["test/accuracy"] == {
        "part": "result", "key": "test/accuracy", "a": 0.85, "b": 0.6, "change": pytest.approx(-0.25)
    }  # fmt: skip
    assert facts["optimizer"]["change"] is None and facts["torch"]["part"] == "software"
    rows = list(csv.DictReader(io.StringIO(compare(two, format="csv", write=False))))
    assert {row["key"]: row["run-001"] for row in rows}["optimizer.lr"] == "0.1"
    assert "| optimizer | adam | sgd | differs |" in compare(two, format="markdown", write=False)
    assert r"optimizer & adam & sgd & differs \\" in compare(two, format="latex", write=False)


def test_a_run_and_a_sweep_are_ranked(two, plant):
    sweep = plant("sweep")
    sweep.run({"optimizer": "sgd"}, 3, 0.9, 0.9)
    text = compare([two[0], str(sweep.finish())], write=False)
    assert "run-000 + sweep: 2 of 2 runs completed" in text

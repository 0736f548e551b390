from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from resweep.report.across import joined, sweep_labels
from resweep.report.compare import compare
from resweep.report.differences import comparison_warnings
from resweep.report.html import report_html
from resweep.report.load import load_sweep
from resweep.report.results import run_command

ENVIRONMENT: dict[str, Any] = {
    "python": "3.11.7", "processor": "X", "accelerator": None, "threads": 1, "code": "c0de",
    "packages": {"resweep": "0.1.0", "torch": "2.12.1"}, "git": {"commit": "4e1c2a7" + "0" * 33, "dirty": False},
}  # fmt: skip


def frozen(run: Path, **values: Any) -> None:
    """Write the run's config.yaml; ``a__b`` stands for the key a.b."""
    config: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split("__")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def sweep_of(plant):
    """Plant a sweep: ``sweep_of("one", {"sgd": 0.9}, seeds=(0, 1), optimizer__lr=0.1)``; test is val - 0.1."""

    def make(name: str, settings: dict[str, float], seeds=(0, 1, 2), fields=None, base=None, **config: Any) -> Path:
        sweep = plant(name, base)
        for optimizer, val in settings.items():
            for seed in seeds:
                noise = 0.01 * ((seed * 7 + len(optimizer)) % 5)
                swept = {"optimizer": optimizer}
                run = sweep.run(swept, seed, val + noise, val - 0.1 + noise, **(fields or {}))
                sweep.curves(run, [0.5])
                frozen(run, choices__optimizer=optimizer, seed=seed, **config)
        return sweep.finish()

    return make


def told(*folders: Path, **options: Any) -> dict[str, Any]:
    return json.loads(compare([str(folder) for folder in folders], format="json", write=False, **options))


def test_the_settings_of_all_sweeps_are_ranked_together(sweep_of):
    found = told(sweep_of("one", {"sgd": 0.9, "adam": 0.7}), sweep_of("two", {"rmsprop": 0.8}))
    assert [(row["values"], row["n"]) for row in found["settings"]] == [
        ({"optimizer": "sgd"}, 3), ({"optimizer": "rmsprop"}, 3), ({"optimizer": "adam"}, 3),
    ]  # fmt: skip
    assert found["name"] == "one + two" and found["counts"] == {"completed": 9} and found["comparisons"] == 3
    assert [(one["name"], one["counts"]) for one in found["sweeps"]] == [
        ("one", {"completed": 6}), ("two", {"completed": 3}),
    ]  # fmt: skip
    # noise of sgd: 0.03, 0, 0.02; of rmsprop: 0.02, 0.04, 0.01: paired by seed, the differences are 0.11, 0.06, 0.11
    difference = found["settings"][1]["difference"]
    assert difference["mean"] == pytest.approx(-(0.11 + 0.06 + 0.11) / 3) and difference["n"] == 3


def test_what_the_sweeps_fix_differently_becomes_a_column(sweep_of):
    one = sweep_of("one", {"sgd": 0.9}, trainer__max_epochs=3, model__dropout=0.1, data__root="/a")
    two = sweep_of("two", {"sgd": 0.8}, trainer__max_epochs=5, model__dropout=0.1, data__root="/b")
    found = told(one, two)
    assert [row["values"] for row in found["settings"]] == [{"trainer.max_epochs": 3}, {"trainer.max_epochs": 5}]
    assert found["names"] == {"trainer.max_epochs": "max_epochs"}  # where the data lie is no difference
    assert found["equal"]["model.dropout"] == 0.1 and "data.root" not in found["equal"]


def test_what_follows_from_a_choice_is_no_column_and_what_was_set_is(sweep_of):
    one = sweep_of("one", {"sgd": 0.9}, choices__model="resnet8", model__depth=8)
    two = sweep_of("two", {"sgd": 0.8}, choices__model="vgg11", model__depth=11)
    assert told(one, two)["names"] == {"model": "model"}
    again = sweep_of("three", {"sgd": 0.7}, choices__model="vgg11", model__depth=13)
    assert told(one, two, again)["names"] == {"model": "model", "model.depth": "depth"}


def test_keys_that_another_version_does_not_know_are_no_difference(sweep_of):
    old = sweep_of("old", {"sgd": 0.9})
    new = sweep_of("new", {"adam": 0.8}, augment__cutout=0, model__stochastic_depth=0.0)
    found = told(old, new)
    assert list(found["names"]) == ["optimizer"] and found["equal"]["augment.cutout"] == 0


def test_a_key_that_was_asked_for_is_a_difference(sweep_of):
    old, new = sweep_of("old", {"sgd": 0.9}), sweep_of("new", {"sgd": 0.8}, augment__cutout=4)
    request = yaml.safe_load((new / "sweep.yaml").read_text())
    (new / "sweep.yaml").write_text(yaml.safe_dump(request | {"overrides": ["augment.cutout=4", "seed=0,1,2"]}))
    assert [row["values"] for row in told(old, new)["settings"]] == [{"augment.cutout": None}, {"augment.cutout": 4}]


def test_a_fixed_value_meets_a_swept_one(sweep_of, plant):
    sweep = plant("two")
    for seed in (0, 1, 2):
        run = sweep.run({}, seed, 0.6, 0.6, overrides=["optimizer=adam", f"seed={seed}"])
        frozen(run, choices__optimizer="adam", seed=seed)
    found = told(sweep_of("one", {"sgd": 0.9, "rmsprop": 0.8}), sweep.finish())
    assert [row["values"]["optimizer"] for row in found["settings"]] == ["sgd", "rmsprop", "adam"]


def test_further_seeds_of_a_setting_are_added(sweep_of):
    one, more = sweep_of("one", {"sgd": 0.9, "adam": 0.8}), sweep_of("more", {"sgd": 0.9}, seeds=(3, 4))
    found = told(one, more)
    assert {row["values"]["optimizer"]: row["n"] for row in found["settings"]} == {"sgd": 5, "adam": 3}
    assert list(found["names"]) == ["optimizer"]


def test_the_same_runs_again_count_once_and_other_results_stay_apart(sweep_of, plant):
    one = sweep_of("one", {"sgd": 0.9, "adam": 0.8})
    folders = []
    for name, shift in (("same", 1e-9), ("other", 0.05)):
        sweep = plant(name)
        for seed, run in enumerate(sorted(one.glob("run-*"))[:3]):
            metrics = json.loads((run / "run.json").read_text())["metrics"]
            metrics = {key: value + shift for key, value in metrics.items()}
            frozen(sweep.run({"optimizer": "sgd"}, seed, metrics=metrics, config_digest=f"d{seed}"),
                   choices__optimizer="sgd", seed=seed)  # fmt: skip
        folders.append(sweep.finish())
    for seed, run in enumerate(sorted(one.glob("run-*"))[:3]):
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(record | {"config_digest": f"d{seed}"}))
    same, other = told(one, folders[0]), told(one, folders[1])
    assert {row["values"]["optimizer"]: row["n"] for row in same["settings"]} == {"sgd": 3, "adam": 3}
    assert same["repeats"] == 3
    assert {(row["values"]["sweep"], row["values"]["optimizer"], row["n"]) for row in other["settings"]} == {
        ("one", "sgd", 3), ("one", "adam", 3), ("other", "sgd", 3),
    }  # fmt: skip
    best = next(row for row in other["settings"] if row["values"]["sweep"] == "one" and not row["best"])
    twins = "3 runs of the same config and seed have other results in one and other, which stay apart: "
    assert [text for text in other["warnings"] if "same config" in text] == [f"{twins}00000, 00001, 00002"]
    assert not [text for text in same["warnings"] if "same config" in text]
    assert other["repeats"] == 0 and best["difference"]["mean"] == pytest.approx(-0.05)


def test_only_sweeps_that_contradict_each_other_stay_apart(sweep_of, tmp_path):
    """one and two share seed 0 of sgd with other results; three has further seeds of sgd, four of three's adam."""
    folders = [
        sweep_of("one", {"sgd": 0.9}),
        sweep_of("two", {"sgd": 0.8}, seeds=(0, 7)),
        sweep_of("three", {"sgd": 0.7, "adam": 0.6}, seeds=(8, 9)),
        sweep_of("four", {"adam": 0.6}, seeds=(10,)),
    ]
    found = told(*folders)
    assert {(row["values"]["sweep"], row["values"]["optimizer"], row["n"]) for row in found["settings"]} == {
        ("one", "sgd", 3), ("two", "sgd", 2), ("three + four", "sgd", 2), ("three + four", "adam", 3),
    }  # fmt: skip
    expected = "1 run of the same config and seed have other results in one and two, which stay apart: 00000"
    assert [text for text in found["warnings"] if "same config" in text] == [expected]
    compare([str(folder) for folder in folders], output=str(tmp_path / "all"))
    assert f"<li>{expected}</li>" in (tmp_path / "all" / "report.html").read_text(encoding="utf-8")


def test_equal_settings_on_other_data_stay_apart(sweep_of):
    one = sweep_of("one", {"sgd": 0.9}, fields={"data_digest": "d1"})
    two = sweep_of("two", {"sgd": 0.8}, seeds=(3, 4, 5), fields={"data_digest": "d2"})
    assert [row["values"] for row in told(one, two)["settings"]] == [{"sweep": "one"}, {"sweep": "two"}]


def test_without_configs_the_plans_are_compared(plant):
    folders = []
    for name, epochs in (("one", 3), ("two", 5)):
        sweep = plant(name, base={"trainer.max_epochs": epochs, "choices.model": "resnet8"})
        sweep.run({"optimizer": "sgd"}, 0, 0.5 + epochs / 100, 0.5)
        folders.append(sweep.finish())
    (folders[1] / "run-000" / "config.yaml").write_text("[damaged")
    assert [row["values"] for row in told(*folders)["settings"]] == [
        {"trainer.max_epochs": 5},
        {"trainer.max_epochs": 3},
    ]


def test_folds_meet_folds(plant):
    folders = []
    for name, val in (("one", 0.9), ("two", 0.8)):
        sweep = plant(name)
        for fold in (0, 1, 2):
            run = sweep.run({"data.fold": fold}, 0, val, val + fold / 100)
            frozen(run, choices__model=name, data__fold=fold, seed=0)
        folders.append(sweep.finish())
    found = told(*folders)
    assert found["unit"] == "fold" and [row["n"] for row in found["settings"]] == [3, 3]
    assert found["settings"][1]["difference"]["n"] == 3


def test_sweeps_of_one_name_are_told_apart(sweep_of, tmp_path):
    one, two = sweep_of("a/same", {"sgd": 0.9}), sweep_of("b/same", {"adam": 0.8})
    assert sweep_labels([load_sweep(one), load_sweep(two)]) == [str(one), str(two)]
    whole, _ = joined([load_sweep(one), load_sweep(two)], ["one", "two"], tmp_path)
    assert [run.folder for run in whole.runs][::3] == ["one/run-000", "two/run-000"]
    assert set(whole.curves) == {f"{name}/run-00{number}" for name in ("one", "two") for number in range(3)}


def test_the_command_of_a_run_is_that_of_its_own_sweep(plant, tmp_path):
    sweep = plant("one")
    sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    command = ["model=vgg11", "optimizer=sgd,adam", "sweep_name=one"]
    loaded = load_sweep(sweep.finish(overrides=command, axes={"optimizer": ["sgd", "adam"]}))
    whole, _ = joined([loaded, loaded], ["one", "two"], tmp_path)
    assert run_command(whole, whole.runs[0]) == "resweep train model=vgg11 optimizer=sgd seed=0"


def test_unfinished_and_damaged_runs_are_counted(sweep_of, plant):
    sweep = plant("two")
    sweep.run({"optimizer": "adam"}, 0, status="running")
    (sweep.run({"optimizer": "adam"}, 1) / "run.json").write_text("{")
    found = told(sweep_of("one", {"sgd": 0.9}), sweep.finish(planned=4))
    assert found["counts"] == {"completed": 3, "running": 1, "unreadable": 1, "pending": 2}
    assert any("two: run-001: run.json is damaged" in text for text in found["warnings"])


def test_the_screen_names_every_sweep_and_the_joint_report_is_asked_for(sweep_of, tmp_path):
    one, two = sweep_of("one", {"sgd": 0.9}), sweep_of("two", {"adam": 0.8})
    text = compare([str(one), str(two)], output=str(tmp_path / "both"))
    assert text.splitlines()[:3] == [
        "one: 3 of 3 runs completed",
        "two: 3 of 3 runs completed",
        "one + two: 6 of 6 runs completed   ranked by val/accuracy, shown: test/accuracy",
    ]
    assert "warning" not in text
    assert text.splitlines()[-1] == f"next  tensorboard --logdir_spec {one},{two}"
    page = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert "one + two" in page and not (one / "report.html").exists()
    rows = (tmp_path / "both" / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + 6


def warned(*folders: Path) -> list[str]:
    return comparison_warnings([load_sweep(folder) for folder in folders])


def test_sweeps_that_do_not_compare_are_warned_about(sweep_of, capsys, tmp_path):
    other = ENVIRONMENT | {"packages": {"resweep": "0.1.0", "torch": "2.11.0"}, "accelerator": "H200"}
    other |= {"git": {"commit": "9b0d113" + "0" * 33, "dirty": True}}
    sizes = {"train": 60, "val": 20, "test": 20}
    one = sweep_of("one", {"sgd": 0.9}, base={"trainer.max_epochs": 3, "data.split_seed": 0},
                   fields={"data_digest": "d1", "environment": ENVIRONMENT, "split_sizes": sizes})  # fmt: skip
    two = sweep_of("two", {"sgd": 0.8}, base={"trainer.max_epochs": 5, "data.split_seed": 1},
                   fields={"data_digest": "d2", "environment": other, "split_sizes": sizes | {"val": 30}})  # fmt: skip
    assert warned(one, two) == [
        "the sweeps have not read the same data in the same splits, their figures do not compare: one d1, two d2",
        "the sweeps are split into other numbers of images: one 60 train + 20 val + 20 test, "
        "two 60 train + 30 val + 20 test",
        "the sweeps are split by other seeds: one 0, two 1",
        "the sweeps differ in epochs: one 3, two 5",
        "the sweeps differ in software: torch (one 2.12.1, two 2.11.0); "
        "git (one 4e1c2a70, two 9b0d1130 with uncommitted changes)",
        "the sweeps differ in hardware: accelerator (one none, two H200)",
    ]
    assert warned(one, one) == []
    text = compare([str(one), str(two)], write=False, width=80)
    assert "warning  the sweeps differ in epochs: one 3, two 5" in text
    assert "differ in epochs" not in compare([str(one), str(two)], format="csv", write=False)
    assert "warning  the sweeps differ in epochs" in capsys.readouterr().err
    compare([str(one), str(two)], output=str(tmp_path / "both"))
    page = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert "<li>the sweeps differ in epochs: one 3, two 5</li>" in page


def test_other_data_sets_are_no_accident(plant):
    folders = []
    for name in ("digits", "mnist"):
        sweep = plant(name, base={"choices.data": name})
        sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5, data_digest=name, split_sizes={"train": len(name)})
        folders.append(sweep.finish())
    assert not [text for text in warned(*folders) if "data" in text or "split" in text]


def test_epochs_are_those_completed_where_none_were_asked_for(plant):
    folders = []
    for name, epochs in (("one", 3), ("two", 5)):
        sweep = plant(name)
        sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5, epochs=epochs)
        sweep.run({"optimizer": "sgd"}, 1, 0.5, 0.5, status="diverged", epochs=1)
        folders.append(sweep.finish())
    assert "the sweeps differ in epochs: one 3, two 5" in warned(*folders)


def test_sweeps_that_monitor_other_metrics_are_warned_about(plant):
    folders = []
    for metric in ("accuracy", "loss"):
        sweep = plant(metric, base={"monitor": f"val/{metric}"})
        sweep.run({"optimizer": "sgd"}, 0, metrics={"val/accuracy": 0.5, "val/loss": 0.5})
        folders.append(sweep.finish())
    expected = "the sweeps have chosen their checkpoints by other metrics: accuracy val/accuracy, loss val/loss"
    assert expected in warned(*folders)


def test_runs_of_one_sweep_that_do_not_compare_are_warned_about(plant):
    sweep = plant()
    for seed in (0, 1, 2):
        environment = ENVIRONMENT | {"packages": {"torch": "2.11.0" if seed else "2.12.1"}, "threads": 1 + seed // 2}
        sizes = {"train": 60 + seed}
        sweep.run(
            {"optimizer": "sgd"}, seed, 0.5, 0.5, data_digest=f"d{seed}", environment=environment, split_sizes=sizes
        )
    found = warned(sweep.finish())
    assert "planted: its runs have read 3 different versions of the data" in found
    assert "planted: its runs are split into different numbers of images" in found
    assert "planted: its runs differ in software: torch 2.12.1 (1 run), 2.11.0 (2 runs)" in found
    assert "planted: its runs differ in hardware: threads 1 (2 runs), 2 (1 run)" in found
    assert "<li>planted: its runs have read 3 different versions of the data</li>" in report_html(load_sweep(sweep.dir))


def test_completed_runs_without_a_compared_metric_are_named(plant):
    sweep = plant()
    for seed in range(4):
        sweep.run({"optimizer": "sgd"}, seed, 0.9, 0.8)
    sweep.run({"optimizer": "adam"}, 0, 0.9, None)
    (sweep.dir / "run-004" / "run.json").write_text(
        (sweep.dir / "run-004" / "run.json").read_text().replace('"test/accuracy": null', '"test/accuracy": NaN')
    )
    sweep.run({"optimizer": "adam"}, 1, status="failed")
    for seed in range(2, 7):
        sweep.run({"optimizer": "adam"}, seed, metrics={"test/accuracy": 0.5})
    sweep.run({"optimizer": "adam"}, 7, metrics={"val/loss": 0.5})
    folder = sweep.finish()
    expected = [
        "planted: run 00004 completed without test/accuracy",
        "planted: 5 runs completed without val/accuracy: 00006, 00007, 00008 and 2 more",
        "planted: run 0000b completed without val/accuracy and test/accuracy",
    ]
    assert warned(folder) == expected
    assert told(folder)["warnings"][-3:] == expected  # behind the missing curves
    text = compare([str(folder)])
    assert all(f"warning  {line}" in text for line in expected)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(f"<li>{line}</li>" in page for line in expected)


def test_a_metric_that_no_run_of_a_sweep_has_is_named_beside_another(plant):
    folders = []
    for name, test in (("tested", 0.8), ("untested", None)):
        sweep = plant(name)
        metrics = {"val/accuracy": 0.9} if test is None else {"val/accuracy": 0.9, "test/accuracy": test}
        sweep.run({"optimizer": name}, 0, metrics=metrics)
        folders.append(sweep.finish())
    assert warned(folders[1]) == []  # alone it is compared on validation
    assert warned(*folders) == ["untested: run 00000 completed without test/accuracy"]


def test_the_same_fault_of_many_runs_is_one_line(plant):
    sweep = plant()
    for seed in range(5):
        (sweep.run({"optimizer": "sgd"}, seed) / "run.json").write_text("{}")
    assert warned(sweep.finish()) == [
        "planted: run.json is damaged (id is missing) in 5 runs: run-000, run-001, run-002 and 2 more"
    ]

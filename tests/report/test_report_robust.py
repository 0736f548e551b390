"""`resweep compare` on folders in a bad state: what is wrong is named, and the rest is reported all the same."""

from __future__ import annotations

import csv
import json
import os
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas
import pytest

from resweep.report.compare import compare

CALIBRATION = "lower,upper,count,confidence,accuracy\n0,0.5,0,,\n0.5,1,10,0.75,0.5\n"
WEIGHTS = "name,count,norm,largest\nconv.weight,9,3,1\nhead.weight,4,2,1\n"


class Page(HTMLParser):
    """What a browser would make of a report: its elements with their attributes, and the text of each section."""

    def __init__(self, sweep: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self.text = ""
        self._section = ""
        self.feed((sweep / "report.html").read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["aria-labelledby"] or ""

    def handle_data(self, data: str) -> None:
        self.text += data
        self.sections[self._section] = self.sections.get(self._section, "") + data

    def count(self, tag: str) -> int:
        """How many elements of a kind there are."""
        return sum(name == tag for name, _ in self.elements)


def strict_json(text: str) -> Any:
    """Read JSON as other programs do, which know no NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def six_runs(sweep) -> list[Path]:
    """Add three seeds of adam (validation mean 0.81) and of sgd (0.91) with all their files."""
    folders = []
    for number, (name, seed) in enumerate((name, seed) for name in ("adam", "sgd") for seed in range(3)):
        val = (0.80, 0.81, 0.82, 0.89, 0.91, 0.93)[number]
        folders.append(sweep.run({"optimizer": name}, seed, val, val - 0.01))
        sweep.curves(folders[-1], [0.5, 0.7, val])
        sweep.confusion(folders[-1], ["cat", "dog"], [[8, 2], [1, 9]])
        (folders[-1] / "calibration.csv").write_text(CALIBRATION)
        (folders[-1] / "weights.csv").write_text(WEIGHTS)
    return folders


def test_damaged_and_missing_files_are_named_everywhere_and_the_rest_counts(plant):
    sweep = plant()
    folders = six_runs(sweep)
    with (folders[0] / "metrics.csv").open("a") as file:
        file.write("4,0.1,0.9,0.2,0.9")
    (folders[1] / "metrics.csv").unlink()
    (folders[2] / "metrics.csv").write_bytes(b"\x89\x00\xff\n" * 3)
    (folders[3] / "confusion.csv").write_text("true,cat,dog\ncat,8\n")
    (folders[4] / "calibration.csv").write_text("lower,upper\n0,1\n")
    (folders[5] / "weights.csv").write_text(WEIGHTS + "torn,4\n")
    (folders[5] / "mistakes.png").write_bytes(b"GIF89a")
    (sweep.run({"optimizer": "sgd"}, 3) / "run.json").write_text('{"id": "x", "sta')
    folder = sweep.finish()
    faults = [
        "run-000/metrics.csv: its last line was cut",
        "run-001/metrics.csv: is missing",
        "run-002/metrics.csv: has no header with a column epoch",
        "run-003/confusion.csv: is no square table with a header",
        "run-004/calibration.csv: has no header with the columns",
        "run-005/weights.csv: 1 damaged line",
        "run-005/mistakes.png: is no whole PNG picture",
        "run-006: run.json is damaged",
    ]
    text, data = compare([str(folder)]), strict_json(compare([str(folder)], format="json", write=False))
    failures = Page(folder).sections["failures-and-gaps"]
    for fault in faults:
        assert fault in text and fault in failures and fault in json.dumps(data)
    assert "6 of 7 runs completed (1 unreadable)" in text
    means = {row["values"]["optimizer"]: row["val"]["mean"] for row in data["settings"]}
    assert means == pytest.approx({"adam": 0.81, "sgd": 0.91})
    curves = pandas.read_parquet(folder / "curves.parquet")
    assert curves.groupby("folder").size().to_dict() == {f"run-00{number}": 3 for number in (0, 3, 4, 5)}


def test_runs_of_different_lengths_keep_all_their_epochs(plant):
    sweep = plant()
    lengths = {}
    for number, length in enumerate((2, 5, 9, 7, 1, 7)):
        folder = sweep.run({"optimizer": "adam" if number < 3 else "sgd"}, number % 3, 0.5 + number / 100, 0.5)
        sweep.curves(folder, [0.1 + 0.4 * epoch / length for epoch in range(length)])
        lengths[folder.name] = length
    folder = sweep.finish()
    compare([str(folder)])
    curves = pandas.read_parquet(folder / "curves.parquet")
    assert curves.groupby("folder").size().to_dict() == lengths
    assert curves.groupby("folder")["epoch"].max().to_dict() == lengths
    assert "different lengths" in Page(folder).sections["learning-curves"]


def test_nan_is_no_result_and_is_counted(plant):
    sweep = plant()
    for seed in range(3):
        values = (0.8 + seed / 100, 0.7) if seed else (None, None)
        sweep.curves(sweep.run({"optimizer": "sgd"}, seed, *values), [0.5, float("nan"), 0.8])
        nothing = sweep.run({"optimizer": "adam"}, seed, metrics={"val/accuracy": float("nan"), "test/accuracy": 0.99})
        sweep.curves(nothing, [float("nan"), float("nan")])
    folder = sweep.finish()
    text = compare([str(folder)])
    data = strict_json(compare([str(folder)], format="json", write=False))
    best, last = data["settings"]
    assert (best["values"]["optimizer"], best["best"], best["n"], best["val"]["n"]) == ("sgd", True, 3, 2)
    assert best["val"]["mean"] == pytest.approx(0.815)
    assert (last["values"]["optimizer"], last["best"], last["val"]["n"], last["val"]["mean"]) == (
        "adam",
        False,
        0,
        None,
    )
    assert "optimizer=sgd" in data["answer"] and "nan" not in text.partition("report  ")[0].lower()
    assert "nan" not in Page(folder).sections["ranking"].lower()
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["val/accuracy"] for row in rows if row["optimizer"] == "adam"] == ["", "", ""]


def test_a_class_without_predictions_or_images_is_named(plant):
    sweep = plant()
    for folder in six_runs(sweep):
        sweep.confusion(folder, ["cat", "dog", "newt", "unseen"], [[8, 2, 0, 0], [1, 9, 0, 0], [3, 4, 0, 0], [0] * 4])
    folder = sweep.finish()
    compare([str(folder)])
    page = Page(folder)
    section = page.sections["confusions-of-the-best-setting"]
    assert "Never predicted: newt, unseen" in section
    cells = section.partition("Accuracy per class, lowest first")[2]
    assert "newt0.000021" in cells and "cat0.800030" in cells and "unseen" not in cells
    assert "newtdog1257.1%" in section  # 3 runs with 4 of 7 newts taken for a dog


def test_a_sweep_that_is_still_running(plant):
    sweep = plant()
    for seed in range(2):
        sweep.curves(sweep.run({"optimizer": "sgd"}, seed, 0.9, 0.8), [0.5, 0.9])
        sweep.curves(sweep.run({"optimizer": "adam"}, seed, 0.8, 0.7), [0.5, 0.8])
    running = sweep.run({"optimizer": "sgd"}, 2, status="running", epochs=2)
    sweep.curves(running, [0.5, 0.6])
    with (running / "metrics.csv").open("a") as file:
        file.write("3,0.1,0.9")  # is being written
    sweep.run({"optimizer": "adam"}, 2, status="lost", error={"type": "Lost", "message": "its process vanished"})
    folder = sweep.finish(planned=9)
    text = compare([str(folder)])
    counted = text.partition("runs completed (")
    assert counted[0].endswith("4 of 9 ")
    assert set(counted[2].partition(")")[0].split(", ")) == {"1 running", "1 lost", "3 pending"}
    assert "cut" not in text and "damaged" not in text
    section = Page(folder).sections["failures-and-gaps"]
    assert "lost: Lost: its process vanished" in section and "3 planned runs have no record yet" in section
    assert "cut" not in section
    assert pandas.read_parquet(folder / "curves.parquet").groupby("folder").size()["run-004"] == 2


@pytest.mark.parametrize("states", [("running", "pending"), ("failed", "diverged"), ("interrupted",), ()])
def test_without_a_finished_run_nothing_is_ranked_and_the_causes_are_there(plant, states):
    sweep = plant()
    error = {"type": "OutOfMemoryError", "message": "needed 1 GB more"}
    for status in states:
        broken = status in ("failed", "diverged")
        run = sweep.run({"optimizer": "sgd"}, 0, status=status, epochs=0, error=error if broken else None)
        (run / "run.log").write_text("the last words\n")
    folder = sweep.finish(planned=5)
    text = compare([str(folder)])
    assert "0 of 5 runs completed" in text and "nothing can be ranked" in text
    for status in states:
        assert f"1 {status}" in text or f"{1 + 5 - len(states)} {status}" in text
    page = Page(folder)
    section = page.sections["failures-and-gaps"]
    assert "nothing can be ranked" in page.text
    assert ("needed 1 GB more" in section) == ("failed" in states)
    assert ("the last words" in section) == bool(states)
    assert f"{5 - len(states)} planned runs have no record yet" in section
    data = strict_json(compare([str(folder)], format="json", write=False))
    assert [row["best"] for row in data["settings"]] == [False] * len(data["settings"])
    assert len(pandas.read_parquet(folder / "curves.parquet")) == 0


def test_a_folder_with_only_damaged_runs(plant):
    sweep = plant()
    for seed, text in enumerate(("", "[]", '{"id": "a"}', "\x00")):
        (sweep.run({"optimizer": "sgd"}, seed) / "run.json").write_text(text)
    (sweep.dir / "run-000" / "metrics.csv").write_text("no curves either")
    folder = sweep.finish()
    text = compare([str(folder)])
    assert "0 of 4 runs completed (4 unreadable)" in text and "nothing can be ranked" in text
    section = Page(folder).sections["failures-and-gaps"]
    for number in range(4):
        assert f"run-00{number}: run.json is damaged" in text and f"run-00{number}: run.json is damaged" in section
    with (folder / "results.csv").open(newline="") as file:
        assert [(row["folder"], row["status"]) for row in csv.DictReader(file)] == [
            (f"run-00{number}", "unreadable") for number in range(4)
        ]


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-- & </td></table> {{x}} $a$ \\input{y} %")
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"


def test_hostile_names_stay_text(plant):
    sweep = plant()
    for number, name in enumerate((*HOSTILE, f"plain{ESCAPES}")):
        for seed in range(3):
            run = sweep.run({"optimizer": name}, seed, 0.9 - number / 10 + seed / 100, 0.8 - number / 10 + seed / 90)
            sweep.curves(run, [0.5, 0.7])
            sweep.confusion(run, [*HOSTILE, f"d{ESCAPES}"], [[8, 2, 0, 1], [1, 9, 0, 0], [0, 0, 9, 0], [1, 1, 0, 7]])
            (run / "weights.csv").write_text(f"name,count,norm,largest\n{HOSTILE[0]},1,2,1\n")
    error = {"type": HOSTILE[0], "message": HOSTILE[1] + ESCAPES, "where": HOSTILE[2]}
    failed = sweep.run({"optimizer": HOSTILE[0]}, 3, status="failed", error=error)
    (failed / "run.log").write_text(HOSTILE[0] + ESCAPES)
    (failed / "run.json").rename(failed / "kept")
    moved = failed.rename(sweep.dir / "<script>alert(2)<: run.json")
    (moved / "kept").rename(moved / "run.json")
    (moved / "confusion.csv").write_text("damaged")
    sweep.names[-1] = moved.name
    command = ["resweep", "train", HOSTILE[0] + ESCAPES]
    folder = sweep.finish(name="</title><script>alert(3)</script>", command=command, versions={"x": HOSTILE[0]})
    text = compare([str(folder)])
    page = Page(folder)
    assert page.count("script") == 1 and page.count("title") == 1 and page.count("iframe") == 0
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert tag != "img" or attributes["src"].startswith("data:image/png;base64,")
        assert not (attributes.get("href") or "").strip().lower().startswith(("javascript:", "data:", "http:", "//"))
    for name in HOSTILE:
        assert name in page.text
    for part in ("</title><script>alert(3)</script>", "<script>alert(2)<: run.json"):
        assert part in page.text and part in text
    section = page.sections["failures-and-gaps"]
    assert f"{HOSTILE[0]}: {HOSTILE[1]}" in section and HOSTILE[2] in section
    assert "<script>alert(2)<: run.json/confusion.csv: is no square table" in section
    for form in ("table", "markdown", "latex", "json"):
        shown = compare([str(folder)], format=form, write=False)
        assert not [letter for letter in shown if ord(letter) < 32 and letter != "\n"], form
        assert form == "json" or "\u202e" not in shown, form
    assert "<script>" not in compare([str(folder)], format="markdown", write=False)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such name")
def test_names_that_are_no_unicode_are_reported(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, 0.9, 0.8, epochs=0)
    failed = sweep.run({"optimizer": "half \ud800"}, 0, status="failed", error={"type": "E", "message": "\udfff!"})
    (failed / "run.log").write_text("the last words\n")
    (failed / "confusion.csv").write_text("damaged")
    sweep.names.pop()
    os.rename(failed, os.fsencode(sweep.dir) + b"/bad-\xff")
    folder = sweep.finish()
    text = compare([str(folder)])
    text.encode()
    assert "bad-?/confusion.csv: is no square table" in text
    section = Page(folder).sections["failures-and-gaps"]
    assert "failed: E: ?!" in section and "the last words" in section and "bad-?/confusion.csv" in section
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        assert [(row["folder"], row["optimizer"]) for row in csv.DictReader(file)][1] == ("bad-?", "half ?")


def rewrite(folder: Path, **fields: Any) -> Path:
    """Change fields of a run's record and return its folder."""
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def test_folds_that_were_started_one_by_one_are_folds(plant):
    for name, values in {"first": (0.90, 0.92, None), "second": (0.80, 0.84, 0.88)}.items():
        sweep = plant(name)
        for fold, val in enumerate(values):
            overrides = [f"optimizer={name}", "optimizer.lr=1e-3", "seed=0", f"data.fold={fold}"]
            status = {"status": "failed", "error": {"type": "E", "message": "no"}} if val is None else {}
            run = sweep.run({}, 0, val, val and val - 0.01, config_digest=f"{name}-{fold}", **status)
            rewrite(run, swept={}, overrides=overrides)
            sweep.curves(run, [0.5, 0.7])
    first, second = plant("first").dir, plant("second").dir
    data = strict_json(compare([str(first)], format="json"))
    assert (data["unit"], [(row["n"], row["not_completed"]) for row in data["settings"]]) == (
        "fold",
        [(2, {"failed": 1})],
    )
    page = Page(first)
    assert "no completed run" not in page.sections["failures-and-gaps"].partition("Missing folds")[0]
    assert "no completed run for fold 2 (seed 0)" in page.sections["failures-and-gaps"]
    stored = pandas.read_parquet(first / "results.parquet")
    assert (stored["data.fold"].tolist(), stored["optimizer.lr"].tolist()) == ([0, 1, 2], [0.001] * 3)
    (first / "run-002" / "run.json").unlink()
    data = strict_json(compare([str(first), str(second)], format="json", output=str(first.parent / "both")))
    rows = {row["values"]["optimizer"]: row for row in data["settings"]}
    assert (data["unit"], rows["first"]["n"], rows["second"]["n"]) == ("fold", 2, 3)
    assert rows["second"]["difference"]["n"] == 2
    assert rows["second"]["difference"]["mean"] == pytest.approx(-0.09)
    section = Page(first.parent / "both").sections["failures-and-gaps"]
    assert "optimizer=first: no completed run for fold 2 (seed 0)" in section


def test_epochs_that_took_no_time_have_no_time(plant):
    sweep = plant()
    for number in range(6):
        run = sweep.run({"optimizer": "sgd" if number < 3 else "adam"}, number % 3, 0.9, 0.8)
        seconds = 2 if number else 0
        (run / "metrics.csv").write_text(f"epoch,val/accuracy,seconds\n1,0.5,{seconds}\n2,0.9,{seconds}\n")
    folder = sweep.finish()
    compare([str(folder)])
    section = Page(folder).sections["speed"]
    assert "Performance profile" in section and "Left out: 1 run without a usable curve" in section
    for number in range(6):
        path = folder / f"run-{number:03d}" / "metrics.csv"
        path.write_text("epoch,val/accuracy,seconds\n1,0.5,0\n2,0.9,-1\n")
    compare([str(folder)])
    assert "at most this many times the fastest setting's epochs" in Page(folder).sections["speed"]


def test_parts_of_a_request_that_are_of_the_wrong_kind_are_named(plant):
    sweep = plant()
    six_runs(sweep)
    wrong = {"runs": 5, "counts": [1], "base": ["monitor"], "overrides": 3, "axes": 7, "command": "x", "changes": 1.5}
    folder = sweep.finish(**wrong)
    text = compare([str(folder)])
    section = Page(folder).sections["failures-and-gaps"]
    for key in wrong:
        line = f"sweep.yaml: {key} is no {'mapping' if key in ('counts', 'base', 'axes') else 'list'}"
        assert line in text and line in section
    assert "6 of 6 runs completed" in text
    sweep.finish(changes=[{"at": "noon", "what": 7}, 3])
    assert "went on at noon with changes: 7" in compare([str(folder)], write=False)


RECORDS = {
    "overrides holds something else than texts": {"overrides": [1, None]},
    "seed is too large": {"seed": 2**70},
    "parameters is too large": {"parameters": -(2**64)},
    "swept seed is too large": {"seed": None, "swept": {"optimizer": "sgd", "seed": 2**70}},
    "swept seed is not a whole number": {"swept": {"optimizer": "sgd", "seed": [1]}},
    "swept data.fold is not a whole number": {"swept": {"optimizer": "sgd", "seed": 1, "data.fold": "x"}},
    "split_sizes: test is not a whole number": {"split_sizes": {"train": 10, "test": "5"}},
    "metric test/loss is not a number": {"metrics": {"val/accuracy": 0.9, "test/loss": 10**400}},
}


def test_records_of_the_wrong_kind_are_named_and_counted(plant):
    sweep = plant()
    six_runs(sweep)
    for fields in RECORDS.values():
        rewrite(sweep.run({"optimizer": "sgd"}, 3, 0.9, 0.8), **fields)
    folder = sweep.finish()
    text = compare([str(folder)])
    section = Page(folder).sections["failures-and-gaps"]
    for number, reason in enumerate(RECORDS, 6):
        line = f"run-{number:03d}: run.json is damaged ({reason})"
        assert line in text and line in section
    assert f"6 of {6 + len(RECORDS)} runs completed ({len(RECORDS)} unreadable)" in text


def test_swept_integers_of_any_size(plant):
    sweep = plant()
    values = [1, 2**70, 10**200, 10**400]
    for number, value in enumerate(values):
        for seed in range(3):
            sweep.curves(sweep.run({"model.key": value}, seed, 0.9 - number / 10, 0.8), [0.5, 0.7])
    folder = sweep.finish(base={"monitor": "val/accuracy", "monitor_mode": "max", "model.other": 10**400})
    data = strict_json(compare([str(folder)], format="json"))
    assert [row["values"]["model.key"] for row in data["settings"]] == [1, 2**70, 10**200, str(10**400)]
    stored = pandas.read_parquet(folder / "results.parquet")["model.key"]
    assert stored.tolist()[::3] == [str(value) for value in values]
    compare([str(folder)], format="csv"), compare([str(folder)])
    assert str(10**400) in (folder / "results.csv").read_text()


def test_columns_of_curves_with_the_names_of_others_are_renamed_and_named(plant):
    sweep = plant()
    for folder in six_runs(sweep)[:5]:
        (folder / "metrics.csv").write_text("epoch,val/accuracy,id,seed,optimizer\n1,0.5,7,8,9\n")
    folder = sweep.finish()
    text = compare([str(folder)])
    for name in ("id", "seed", "optimizer"):
        line = f"metrics.csv has a column {name}, called {name} (metrics.csv) in curves.parquet in 5 runs"
        assert line in text and line in Page(folder).sections["failures-and-gaps"]
    curves = pandas.read_parquet(folder / "curves.parquet")
    assert curves["id (metrics.csv)"].dropna().tolist() == [7.0] * 5
    assert curves["optimizer"].tolist() == ["adam"] * 3 + ["sgd"] * 5
    assert curves["seed"].tolist() == [0, 1, 2, 0, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "is no text in UTF-8"),
        (b"\x00\x00\x00", "does not begin like a config in YAML"),
        (b"just words\n", "does not begin like a config in YAML"),
        (b"# frozen\noptimizer: {lr: 0.1\nmodel: x\n", "is no YAML (line 3: "),
    ],
)
def test_a_damaged_config_is_named(plant, data, reason):
    for name in ("first", "second"):
        sweep = plant(name)
        for seed in range(3):
            run = sweep.run({"optimizer": name}, seed, 0.9 - seed / 100, 0.8 - seed / 100)
            sweep.curves(run, [0.5, 0.9])
            (run / "config.yaml").write_text("# frozen\n\nmodel:\n  width: 8\n")
        sweep.finish()
    folders = [plant(name).dir for name in ("first", "second")]
    (folders[0] / "run-000" / "config.yaml").write_bytes(data)
    text = compare([str(folder) for folder in folders], write=False)
    assert text.count("run-000/config.yaml") == 1 and f"first: run-000/config.yaml: {reason}" in text
    alone = compare([str(folders[0])], write=False)  # no config is parsed, only looked at
    assert (f"run-000/config.yaml: {reason}" in alone) == ("is no YAML" not in reason)
    assert "config.yaml" not in compare([str(folders[1])], write=False)


def test_texts_that_a_spreadsheet_would_compute_are_quoted(plant):
    sweep = plant()
    for seed, value in enumerate(["=1+1", "+x", "-2 kg", "@sum", "-0.5", "a=b", "x\x1b[2J"]):
        sweep.run({"model.key": value}, seed, 0.9, 0.8)
    folder = sweep.finish()
    shown = compare([str(folder)], format="csv", runs=True)
    expected = ["'=1+1", "'+x", "'-2 kg", "'@sum", "-0.5", "a=b"]
    for text in (shown, (folder / "results.csv").read_text()):
        assert [row["model.key"] for row in csv.DictReader(text.splitlines())][:6] == expected
    assert "\x1b" not in shown and "x\\x1b[2J" in shown
    assert pandas.read_parquet(folder / "results.parquet")["model.key"][0] == "=1+1"

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

from __future__ import annotations

import csv
import io
import json
import sys

import pytest

from resweep.errors import RequestError
from resweep.report.compare import compare, render_table
from resweep.report.load import load_sweep
from resweep.report.table import ranking


def test_the_screen_of_a_known_sweep(known):
    lines = compare([str(known)]).splitlines()
    assert lines[0] == (
        "planted: 5 of 7 runs completed (1 diverged, 1 failed)   ranked by val/accuracy, shown: test/accuracy"
    )
    assert lines[1].split() == [
        "optimizer",
        "n",
        "val/accuracy",
        "test/accuracy",
        "vs",
        "best",
        "time/run",
        "not",
        "completed",
    ]
    assert lines[2].startswith("*sgd")
    assert "0.9200 ± 0.0200" in lines[2] and "0.8200 ± 0.0200" in lines[2]
    assert "0.8100 0.8000..0.8200" in lines[3] and "too few seeds" in lines[3] and "1 diverged" in lines[3]
    assert lines[4].split() == ["rmsprop", "0", "-", "-", "-", "-", "1", "failed"]
    assert lines[6].startswith("Best on validation: optimizer=sgd (val 0.9200 ± 0.0200, test 0.8200 ± 0.0200, n=3).")
    assert lines[-4:] == [
        f"report  {known}/report.html",
        f"table  {known}/results.csv",
        f"next  tensorboard --logdir {known}",
        f"next  resweep resume {known}",
    ]
    assert (known / "report.html").stat().st_size > 10_000
    assert (known / "results.csv").read_text().count("\n") == 8


def test_columns_are_aligned_and_never_cut(known):
    table = ranking(load_sweep(known))
    lines = render_table(table.rows, table.names).splitlines()
    starts = {line.index("0.") for line in lines[1:3]}
    assert starts == {lines[0].index("val/accuracy")}
    narrow = render_table(table.rows, table.names, width=40)
    assert max(map(len, narrow.splitlines())) <= 45
    assert narrow.count("val/accuracy") == 3


def test_runs_have_a_line_each(known):
    text = compare([str(known)], runs=True, write=False)
    assert sum(line.split()[:1] == [f"{number:05x}"] for number in range(7) for line in text.splitlines()) == 7
    assert "NonFiniteLoss: loss became NaN" in text
    assert not (known / "report.html").exists()


def test_json_has_the_same_figures(known):
    found = json.loads(compare([str(known)], as_json=True, runs=True))
    (sweep,) = found["sweeps"]
    assert sweep["counts"] == {"completed": 5, "diverged": 1, "failed": 1}
    assert sweep["settings"][0]["values"] == {"optimizer": "sgd"}
    assert sweep["settings"][0]["val"]["mean"] == pytest.approx(0.92)
    assert sweep["settings"][1]["difference"]["verdict"] == "too few seeds"
    assert len(sweep["runs"]) == 7
    assert found["files"] == [{"report": f"{known}/report.html", "table": f"{known}/results.csv"}]


def test_csv_and_markdown(known):
    rows = list(csv.DictReader(io.StringIO(compare([str(known)], as_csv=True, write=False))))
    assert [row["optimizer"] for row in rows] == ["sgd", "adam", "rmsprop"]
    assert float(rows[0]["test_mean"]) == pytest.approx(0.82)
    assert rows[2]["val_mean"] == ""
    text = compare([str(known)], as_markdown=True, write=False)
    cells = [line.count(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert len(cells) == 5 and len(set(cells)) == 1


def test_markup_in_a_value_stays_text_in_markdown(plant):
    sweep = plant()
    for value in ("a|b", "<i>"):
        sweep.run({"model": value}, 0, 0.5, 0.5)
    text = compare([str(sweep.finish())], as_markdown=True, write=False)
    assert "| a\\|b |" in text and "| &lt;i&gt; |" in text


def test_sweeps_that_do_not_compare_are_warned_about(plant, capsys):
    folders = []
    for name, digest, epochs in (("one", "d1", 3), ("two", "d2", 5)):
        sweep = plant(name)
        sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5, data_digest=digest, epochs=epochs)
        folders.append(str(sweep.finish()))
    text = compare(folders)
    assert "warning  the sweeps have not read the same data" in text
    assert "warning  the sweeps differ in epochs: one 3, two 5" in text
    assert text.count("report  ") == 2
    assert f"next  tensorboard --logdir_spec {','.join(folders)}" in text
    assert "not read the same data" not in compare(folders, as_csv=True, write=False)
    assert "not read the same data" in capsys.readouterr().err


def test_equal_sweeps_get_no_warning(plant):
    folders = []
    for name in ("one", "two"):
        sweep = plant(name, base={"trainer.max_epochs": 3})
        sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
        sweep.run({"optimizer": "sgd"}, 1, 0.5, 0.5, status="diverged", epochs=1)
        folders.append(str(sweep.finish()))
    assert "warning" not in compare(folders, write=False)


def test_runs_of_one_sweep_on_other_data_are_warned_about(plant):
    sweep = plant()
    for seed in (0, 1):
        sweep.run({"optimizer": "sgd"}, seed, 0.5, 0.5, data_digest=f"d{seed}")
    assert "2 different versions of the data" in compare([str(sweep.finish())], write=False)


def test_nothing_finished_is_no_exception(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, status="running")
    text = compare([str(sweep.finish(planned=3))])
    assert "0 of 3 runs completed (1 running, 2 pending)" in text
    assert "nothing can be ranked" in text


def test_all_paths_are_checked_at_once(known):
    with pytest.raises(RequestError) as caught:
        compare([str(known), str(known) + "x", "nowhere"])
    assert [problem.value for problem in caught.value.problems] == [str(known) + "x", "nowhere"]
    assert caught.value.problems[0].nearest == str(known)
    with pytest.raises(RequestError, match="choose one"):
        compare([str(known)], as_json=True, as_csv=True)
    with pytest.raises(RequestError, match="at least one"):
        compare([])


def test_a_folder_that_cannot_be_written_to_is_named(known, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("resweep.report.compare.write_results_csv", refuse)
    with pytest.raises(RequestError, match="cannot be written to: Permission denied"):
        compare([str(known)])


def test_a_stream_without_the_sign_gets_ascii(known, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = compare([str(known)], write=False)
    assert text.isascii() and "0.9200 +/- 0.0200" in text


def test_repeats_are_named_and_all_listed(plant):
    sweep = plant("train")
    for day in (1, 2, 3):
        sweep.run({}, 0, 0.9, 0.9, config_digest="same", finished_at=f"2026-01-0{day}T00:00:00+00:00")
    text = compare([str(sweep.dir)])
    assert text.startswith("train: 3 of 3 runs completed, 2 repeats of the same config counted once   ranked by")
    assert "n=1)" in text and "± 0.0000" not in text
    assert "2 repeats of the same config counted once." in (sweep.dir / "report.html").read_text(encoding="utf-8")
    assert (sweep.dir / "results.csv").read_text().count("\n") == 4
    assert json.loads(compare([str(sweep.dir)], as_json=True, write=False))["sweeps"][0]["repeats"] == 2


def test_the_note_says_what_the_intervals_are(plant):
    sweep = plant()
    for seed in range(3):
        sweep.run({"optimizer": "sgd"}, seed, 0.9, 0.9 + seed / 100)
        sweep.run({"optimizer": "adam"}, seed, 0.8, 0.8 + seed / 100)
    sweep.run({"optimizer": "adam"}, 3, status="diverged")
    folder = sweep.finish()
    note = compare([str(folder)]).splitlines()[4]
    assert "95 % interval, not corrected for several comparisons" in note
    assert "sign test, which takes 6 seeds" in note
    assert note.endswith("settings with failed, diverged or lost runs rank below the others")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "equal in every seed" in page and "two-sided sign test" in page


def test_single_runs_are_resumed_one_by_one(plant):
    sweep = plant("single runs")
    sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    failed = sweep.run({"optimizer": "adam"}, 0, status="failed")
    lines = compare([str(sweep.dir)], write=False).splitlines()
    assert [line for line in lines if "resweep resume" in line] == [f"next  resweep resume '{failed}'"]


def test_a_folder_of_sweeps_is_refused_and_left_alone(plant, tmp_path):
    sweep = plant("opt")
    run = sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)
    sweep.finish()
    (tmp_path / "latest").symlink_to(run)
    with pytest.raises(RequestError, match="sweeps below it: opt"):
        compare([str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "opt"]


def test_the_formats_are_named_as_the_command_line_names_them(known):
    with pytest.raises(RequestError, match=r"--json, --csv and --markdown$"):
        compare([str(known)], as_markdown=True, as_csv=True)

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pandas
import pytest
from scipy import stats

from resweep.cli import main
from resweep.errors import RequestError
from resweep.report.compare import FORMATS, compare
from resweep.report.load import load_sweep
from resweep.report.table import ranking
from resweep.report.terminal import render_table

# Test accuracy of four seeds: adam lies about 0.1 below sgd in every seed, rmsprop around it.
TEST = {
    "sgd": [0.80, 0.82, 0.81, 0.83],
    "adam": [0.70, 0.71, 0.72, 0.72],
    "rmsprop": [0.79, 0.84, 0.80, 0.84],
}


@pytest.fixture
def planted(plant):
    """sgd is best on validation, then rmsprop, then adam; test as in ``TEST``."""
    sweep = plant()
    for place, optimizer in enumerate(("adam", "rmsprop", "sgd")):
        for seed, test in enumerate(TEST[optimizer]):
            folder = sweep.run({"optimizer": optimizer}, seed, 0.7 + place / 10, test)
            sweep.curves(folder, [0.5, 0.6, 0.7 + place / 10])
    return sweep.finish()


def holm(p_values: list[float]) -> list[float]:
    """Step-down by hand: the k-th smallest of m times m - k + 1, never below the one before, at most 1."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, (len(p_values) - place) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


def test_the_screen_of_a_known_sweep(known):
    lines = compare([str(known)]).splitlines()
    assert lines[0] == (
        "planted: 5 of 7 runs completed (1 diverged, 1 failed)   ranked by val/accuracy, shown: test/accuracy"
    )
    assert lines[1].split("  ")[0].strip() == "optimizer"
    heads = ["n", "val/accuracy", "test/accuracy", "vs best", "verdict", "time", "not completed"]
    assert [head.strip() for head in lines[1].split("  ") if head.strip()][1:] == heads
    assert lines[2].startswith("*sgd") and "0.9200 ± 0.0200" in lines[2] and "0.8200 ± 0.0200" in lines[2]
    assert "0.8100 0.8000..0.8200" in lines[3] and "+0.1000  too few seeds" in lines[3] and "1 diverged" in lines[3]
    assert lines[4].split() == ["rmsprop", "0", "-", "-", "-", "-", "-", "1", "failed"]
    assert any(line.startswith("Use optimizer=sgd: best on validation (val 0.9200 ± 0.0200") for line in lines)
    assert lines[-4:] == [
        f"report  {known}/report.html",
        f"tables  {known}/results.csv results.parquet curves.parquet",
        f"next  tensorboard --logdir {known}",
        f"next  resweep resume {known}",
    ]
    assert (known / "report.html").stat().st_size > 10_000
    assert (known / "results.csv").read_text().count("\n") == 8
    assert len(pandas.read_parquet(known / "results.parquet")) == 7
    assert len(pandas.read_parquet(known / "curves.parquet")) == 5 * 3


def test_verdicts_and_figures_are_those_of_scipy(planted):
    found = json.loads(compare([str(planted)], format="json", write=False))
    assert [row["values"]["optimizer"] for row in found["settings"]] == ["sgd", "rmsprop", "adam"]
    pairs = [("sgd", "rmsprop"), ("sgd", "adam"), ("rmsprop", "adam")]
    expected = [stats.ttest_rel(TEST[a], TEST[b]).pvalue for a, b in pairs]
    adjusted = dict(zip(pairs, holm(expected), strict=True))
    (axis,) = found["axes"]
    assert found["comparisons"] == 3
    assert [(pair["a"], pair["b"]) for pair in axis["pairs"]] == pairs
    for pair, p in zip(axis["pairs"], expected, strict=True):
        difference = pair["difference"]
        assert difference["p"] == pytest.approx(p)
        assert difference["adjusted"] == pytest.approx(adjusted[pair["a"], pair["b"]])
        assert difference["verdict"] == ("better" if pair["b"] == "adam" else "not distinguishable")
    by_hand = stats.ttest_rel(TEST["adam"], TEST["sgd"]).confidence_interval(0.95)
    worse = found["settings"][2]["difference"]
    assert (worse["mean"], worse["verdict"], worse["won"]) == (pytest.approx(-0.1025), "worse", 0.0)
    assert (worse["low"], worse["high"]) == (pytest.approx(by_hand.low), pytest.approx(by_hand.high))
    assert max(adjusted["sgd", "adam"], adjusted["rmsprop", "adam"]) < 0.05 < adjusted["sgd", "rmsprop"]


def test_the_terminal_says_the_verdict_and_the_further_seeds(planted):
    found = json.loads(compare([str(planted)], format="json", write=False))
    more = found["settings"][1]["difference"]["more_seeds"]
    assert more > 10
    _, heads, sgd, rmsprop, adam, note, *_ = compare([str(planted)], write=False).splitlines()
    assert heads.split()[-5:] == ["best", "verdict", "fresh", "seeds", "time"]
    assert sgd.split()[-4:-1] == ["-", "best", "-"]
    assert rmsprop.split()[-5:-1] == ["+0.0025", "not", "distinguishable", str(more)]
    assert adam.split()[-4:-1] == ["-0.1025", "worse", "-"]
    assert "verdict: paired t test by seed, p values corrected by Holm over 3 pairs of settings" in note
    assert (
        "fresh seeds: how many of each, as a new sweep compared on its own, show the observed difference with 80"
        in note
    )


def test_an_axis_is_judged_by_the_setting_chosen_on_validation(plant):
    """sgd: lr=1 is chosen (val 0.9, test 0.5), though lr=2 has the better test result; adam has one setting."""
    sweep = plant()
    for seed in (0, 1, 2):
        noise = seed / 1000
        sweep.run({"optimizer": "sgd", "lr": 1}, seed, 0.9 + noise, 0.5 + 2 * noise)
        sweep.run({"optimizer": "sgd", "lr": 2}, seed, 0.8 + noise, 0.9 + noise)
        sweep.run({"optimizer": "adam", "lr": 1}, seed, 0.7 + noise, 0.6 - noise)
    text = compare([str(sweep.finish())], write=False)
    axes = text.split("\n\n")[1].splitlines()
    assert axes[0].split() == ["axis", "value", "tried", "test/accuracy", "vs", "first", "verdict", "with"]
    assert axes[1].split() == ["*optimizer", "sgd", "2", "0.5020", "±", "0.0020", "-", "best", "lr=1"]
    assert axes[2].split()[:4] == ["optimizer", "adam", "1", "0.5990"] and "+0.0970" in axes[2]
    assert axes[3].split()[:4] == ["*lr", "1", "2", "0.5020"] and axes[3].endswith("optimizer=sgd")
    assert axes[4].split()[:4] == ["lr", "2", "1", "0.9010"]
    verdicts = {row["values"]["lr"]: row["difference"]["verdict"] for row in json.loads(
        compare([str(sweep.dir)], format="json", write=False))["settings"][1:]}  # fmt: skip
    assert verdicts == {1: "better", 2: "better"} and "  better  " in axes[2]


def test_one_axis_needs_no_table_of_its_own(planted):
    assert " axis " not in compare([str(planted)], write=False)


def test_an_axis_of_many_values_is_cut_and_says_so(plant):
    sweep = plant()
    for lr in range(10):
        for dropout in (0, 0.5):
            sweep.run({"lr": lr, "dropout": dropout}, 0, 0.5 + lr / 100 - dropout, 0.5)
    text = compare([str(sweep.finish())], write=False)
    assert sum(line.split()[:1] in (["lr"], ["*lr"]) for line in text.split("\n\n")[1].splitlines()) == 8
    assert "lr: 2 further values, see --format json" in text
    markdown = compare([str(sweep.dir)], format="markdown", write=False)
    assert sum(line.startswith(("| lr", "| **lr")) for line in markdown.splitlines()) == 1 + 10


def test_with_one_seed_nothing_can_be_said(plant):
    sweep = plant()
    for optimizer in ("sgd", "adam"):
        sweep.run({"optimizer": optimizer}, 0, 0.5 + len(optimizer) / 100, 0.9)
    lines = compare([str(sweep.finish())], write=False).splitlines()
    assert "one seed: nothing can be said" in lines[3]
    assert "a verdict takes at least 3 seeds that two settings share" in lines[4]
    assert lines[-2:] == [
        "next  resweep train -m optimizer=adam,sgd 'seed=range(1,4)' sweep_name=planted-fresh-seeds",
        f"next  resweep compare {sweep.dir}-fresh-seeds",
    ]


def test_rows_are_marked_and_columns_never_cut(known):
    table = ranking(load_sweep(known))
    lines = render_table(table).splitlines()
    assert {line.index("0.") for line in lines[1:3]} == {lines[0].index("val/accuracy")}
    narrow = render_table(table, width=40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert narrow.count("val/accuracy") == 2  # rmsprop has none
    assert sum(line.startswith("* ") for line in narrow.splitlines()) == 1


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_but_commands_is_wider_than_the_screen(planted, width):
    for line in compare([str(planted)], width=width, write=False).splitlines():
        assert len(line) <= width or line.split()[0] == "next", line


def test_runs_have_a_line_each(known):
    text = compare([str(known)], runs=True, write=False)
    assert sum(line.split()[:1] == [f"{number:05x}"] for number in range(7) for line in text.splitlines()) == 7
    assert "NonFiniteLoss: loss became NaN" in text
    assert not (known / "report.html").exists()


def test_what_is_listed_can_be_chosen(planted):
    text = compare([str(planted)], where="optimizer!=sgd", sort="test/accuracy", top=1, write=False)
    assert [line.split()[0] for line in text.splitlines()[1:3]] == ["optimizer", "rmsprop"]
    assert "1 of 3 settings listed; means, verdicts and answer are those of all" in text
    assert "Use optimizer=sgd" in text, "the answer is about all settings"
    everything = compare([str(planted)], everything=True, write=False)
    assert "equal in all runs\n monitor       val/accuracy\n monitor_mode  max\n" in everything
    assert "--all" not in everything and "2 equal values hidden (--all)" in text


def test_a_wrong_choice_writes_nothing(planted):
    before = sorted(path.name for path in planted.iterdir())
    for wrong in (
        {"where": "optmizer==sgd"},
        {"sort": "tset/accuracy"},
        {"format": "yaml"},
        {"top": 0},
        {"where": "("},
    ):
        with pytest.raises(RequestError):
            compare([str(planted)], **wrong)
    assert sorted(path.name for path in planted.iterdir()) == before


def test_formats_are_named_in_one_place(planted):
    with pytest.raises(RequestError, match=r"--format=jsn: must be one of table, markdown, latex, json, csv  did you"):
        compare([str(planted)], format="jsn")
    for form in FORMATS:
        assert "rmsprop" in compare([str(planted)], format=form, write=False)


def test_files_go_where_they_are_asked_for(planted, tmp_path):
    text = compare([str(planted)], output=str(tmp_path / "new" / "place"))
    written = {"report.html", "results.csv", "results.parquet", "curves.parquet"}
    assert {path.name for path in (tmp_path / "new" / "place").iterdir()} == written
    assert not written & {path.name for path in planted.iterdir()}
    assert f"report  {tmp_path}/new/place/report.html" in text
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"--output=.*file: cannot be made: File exists"):
        compare([str(planted)], output=str(tmp_path / "file"))


def test_a_folder_that_cannot_be_written_to_is_named(planted, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("resweep.report.compare.write_results_csv", refuse)
    with pytest.raises(RequestError, match="Permission denied; --no-files only prints, --output DIR writes"):
        compare([str(planted)])


def test_a_value_that_nothing_has_is_said_with_those_there_are(planted, capsys):
    note = "--where: no row has optimizer sdg; there are sgd, rmsprop, adam; did you mean sgd?"
    text = compare([str(planted)], where="optimizer==sdg", write=False)
    assert f"warning  {note}" in text and "0 of 3 settings listed" in text
    assert json.loads(compare([str(planted)], format="json", where="optimizer==sdg", write=False))["warnings"] == [note]
    compare([str(planted)], format="csv", where="optimizer==sdg", write=False)
    assert f"warning  {note}" in capsys.readouterr().err
    by_run = compare([str(planted)], where="status==failed", runs=True, write=False)
    assert "warning  --where: no row has status failed; there are completed\n" in by_run
    assert "warning" not in compare([str(planted)], where="optimizer in (sgd, adam) and n==4", write=False)


def test_no_control_character_leaves_any_format(plant):
    sweep = plant()
    for seed in range(3):
        sweep.run({"model.name": "a\x1b[2Jb\u202e"}, seed, 0.5, 0.5)
        sweep.run({"model.name": "plain"}, seed, 0.4, 0.5)
    folder = str(sweep.finish())
    for form, shown in (("table", r"a\x1b[2Jb\u202e"), ("markdown", r"a\\x1b\[2Jb\\u202e"),
                        ("latex", r"a\textbackslash{}x1b[2Jb\textbackslash{}u202e")):  # fmt: skip
        text = compare([folder], format=form, write=False)
        assert shown in text and text.replace("\n", "").isprintable(), form


def test_nothing_finished_is_no_exception(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, status="running")
    text = compare([str(sweep.finish(planned=3))])
    assert "0 of 3 runs completed (1 running, 2 pending)" in text
    assert "nothing can be ranked" in text
    for form in FORMATS:
        compare([str(sweep.dir)], format=form, write=False)


def test_all_paths_are_checked_at_once(known):
    with pytest.raises(RequestError) as caught:
        compare([str(known), str(known) + "x", "nowhere"])
    assert [problem.value for problem in caught.value.problems] == [str(known) + "x", "nowhere"]
    assert caught.value.problems[0].nearest == str(known)
    with pytest.raises(RequestError, match="at least one"):
        compare([])
    with pytest.raises(RequestError, match="is named more than once"):
        compare([str(known), f"{known}/../{known.name}"])


def test_a_stream_without_the_sign_gets_ascii(known, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    for form in ("table", "markdown"):
        text = compare([str(known)], format=form, write=False)
        assert text.isascii() and "0.9200 +/- 0.0200" in text


def test_repeats_are_named_and_all_listed(plant):
    sweep = plant("train")
    for day in (1, 2, 3):
        sweep.run({}, 0, 0.9, 0.9, config_digest="same", finished_at=f"2026-01-0{day}T00:00:00+00:00")
    text = compare([str(sweep.dir)])
    assert text.startswith("train: 3 of 3 runs completed, 2 repeats of the same config counted once   ranked by")
    assert "n=1)" in text and "± 0.0000" not in text
    assert (sweep.dir / "results.csv").read_text().count("\n") == 4
    assert json.loads(compare([str(sweep.dir)], format="json", write=False))["repeats"] == 2


def test_the_note_says_what_the_verdicts_are(plant):
    sweep = plant()
    for seed in range(3):
        sweep.run({"optimizer": "sgd"}, seed, 0.9, 0.9 + seed / 100)
        sweep.run({"optimizer": "adam"}, seed, 0.8, 0.8 + seed / 100)
    sweep.run({"optimizer": "adam"}, 3, status="diverged")
    note = compare([str(sweep.finish())], write=False).splitlines()[4]
    assert "paired t test by seed, one pair of settings" in note
    assert "sign test, which takes at least 6 seeds" in note
    assert note.endswith("settings with failed, diverged or lost runs rank below the others")


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


@pytest.mark.parametrize("old", ["--json", "--csv", "--markdown"])
def test_an_old_flag_is_answered_with_the_new_spelling(planted, capsys, old):
    assert main(["compare", str(planted), old]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and f"did you mean  --format={old[2:]} ?" in captured.err
    assert f"corrected:  resweep compare {planted} --format={old[2:]}" in captured.err
    assert not (planted / "report.html").exists()


def test_the_command_line_reaches_every_option(planted, tmp_path, capsys):
    words = ["compare", str(planted), "--format", "csv", "--runs", "--sort=-test/accuracy", "--top", "2"]
    words += ["--where", "optimizer==adam and seed>0", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["optimizer"], row["test/accuracy"]) for row in rows] == [("adam", "0.71"), ("adam", "0.72")]
    assert (tmp_path / "out" / "report.html").is_file()
    assert main(["compare", str(planted), "--no-files"]) == 0
    assert "report  " not in capsys.readouterr().out and not (planted / "report.html").exists()
    for wrong, said in (
        (["--no-files", "--output", "x"], "not allowed with argument"),
        (["--format=jsn"], "corrected:  resweep compare"),
        (["--where=optmizer==adam"], "did you mean  optimizer==adam ?"),
        (["--top", "0"], "at least 1"),
    ):
        try:
            assert main(["compare", str(planted), *wrong]) == 2
        except SystemExit as stop:  # argparse
            assert stop.code == 2
        assert said in capsys.readouterr().err


def test_compare_loads_no_training_code_and_draws_for_the_report_only(planted):
    script = (
        "import sys; from resweep.report.compare import compare; compare([sys.argv[1]], write=False);"
        "print(sorted({'torch', 'pytorch_lightning', 'matplotlib', 'hydra'} & set(sys.modules)));"
        "compare([sys.argv[1]]); print(sorted({'torch', 'pytorch_lightning', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(planted)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]

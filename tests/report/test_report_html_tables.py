"""The report's tables: figures against hand computations, what is listed and what is cut, commands that repeat runs."""

from __future__ import annotations

import base64
import io
import math
import re
import shlex
from dataclasses import replace

import pytest
from markup import Page, attributes, cells
from PIL import Image

from resweep.report import plots
from resweep.report.html import page as html_page
from resweep.report.html import report_html, write_report
from resweep.report.html.settings import setting_command
from resweep.report.load import load_sweep
from resweep.report.results import run_command
from resweep.report.table import ranking

PAIR = ("A", "B", "n", "mean", "interval", "p", "holm", "wilcoxon", "won", "effect")


@pytest.fixture
def tables_only(monkeypatch):
    """Leave the pictures out, which take most of a page's time, where a test is about tables."""

    class NoPictures:
        def __getattr__(self, name):
            assert hasattr(plots, name)
            return lambda table: None

    monkeypatch.setattr(html_page, "plots", NoPictures())


def test_missing_folds_are_named(plant, tables_only):
    sweep = plant(base={"monitor": "val/accuracy", "data.num_folds": 3})
    for optimizer in ("sgd", "adam"):
        for fold in range(3):
            status = "failed" if (optimizer, fold) == ("adam", 2) else "completed"
            sweep.run({"optimizer": optimizer, "data.fold": fold}, 0, 0.9, 0.8, status=status)
    page = write_report(load_sweep(sweep.finish()), sweep.dir / "report.html").read_text()
    assert "optimizer=adam: no completed run for fold 2 (seed 0)" in page
    assert "Missing folds" in page and "Missing seeds" not in page


@pytest.fixture
def settled(plant):
    """b is the best on validation; test differences b - a are 0.10, 0.09 and 0.11, a third setting has two seeds."""
    sweep = plant()
    for name, val, tests in (("a", 0.7, [0.80, 0.83, 0.84]), ("b", 0.9, [0.90, 0.92, 0.95]), ("c", 0.5, [0.4, 0.5])):
        for seed, test in enumerate(tests):
            sweep.run({"model": name, "optimizer.lr": 0.1}, seed, val, test)
    return sweep.finish()


def test_a_pair_has_the_figures_of_a_hand_computation(settled, tables_only):
    from scipy.stats import t

    pairs = cells(report_html(load_sweep(settled)), "Settings in pairs")
    p = 2 * t.sf(0.10 / (0.01 / 3**0.5), 2)  # mean 0.10, standard deviation 0.01, n 3
    half = t.ppf(0.975, 2) * 0.01 / 3**0.5
    effect = 0.10 / 0.01 * math.gamma(1) / (math.gamma(0.5) * math.sqrt(2 / 2))  # d_z and Hedges' exact correction
    found = dict(zip(PAIR, pairs[0][: len(PAIR)], strict=True))
    assert (found["A"], found["B"]) == ("#1 model=b", "#2 model=a")
    assert (found["n"], found["mean"], found["won"]) == ("3", "+0.1000", "100%")
    assert found["interval"] == f"[{0.1 - half:+.4f}, {0.1 + half:+.4f}]" == "[+0.0752, +0.1248]"
    assert found["p"] == found["holm"] == f"{p:.4f}" == "0.0033"  # the only pair with three seeds: a family of one
    assert found["wilcoxon"] == "-"
    assert float(found["effect"]) == pytest.approx(effect, abs=0.005)
    assert pairs[0][10] == "better"
    assert [row[10] for row in pairs[1:]] == ["too few seeds"] * 2


def test_each_value_has_its_best_setting_chosen_on_validation(plant, tables_only):
    sweep = plant()
    planned = {("sgd", 0.1): (0.8, 0.99), ("sgd", 0.01): (0.9, 0.7), ("adam", 0.1): (0.85, 0.75)}
    for (optimizer, lr), (val, test) in planned.items():
        for seed in range(3):
            sweep.run({"optimizer": optimizer, "optimizer.lr": lr}, seed, val + seed / 1000, test + seed / 1000)
    rows = cells(report_html(load_sweep(sweep.finish())), "Which optimizer?")
    # optimizer, other values, settings tried, runs, validation, test: sgd's better test result is not what counts
    assert rows[0][:4] == ["★ sgd", "lr=0.01", "2", "6"]
    assert rows[0][5].startswith("0.7010")
    assert rows[1][:4] == ["adam", "lr=0.1", "1", "3"]
    assert rows[1][6].startswith("+0.0500")


def test_values_tried_equally_often_are_not_said_to_be_favoured(plant, tables_only):
    planned = [("sgd", 0.1), ("sgd", 0.01), ("adam", 0.1), ("adam", 0.01)]
    sweep = plant("even")
    for place, (optimizer, lr) in enumerate(planned):
        sweep.run({"optimizer": optimizer, "optimizer.lr": lr}, 0, 0.9 - place / 100, 0.9)
    assert "favours the value with more" not in report_html(load_sweep(sweep.finish()))
    sweep = plant("uneven")
    for place, (optimizer, lr) in enumerate([*planned, ("sgd", 0.001)]):
        sweep.run({"optimizer": optimizer, "optimizer.lr": lr}, 0, 0.9 - place / 100, 0.9)
    # sgd was tried three times and adam twice; the learning rates 0.1 and 0.01 twice and 0.001 once
    assert "The values of optimizer and lr have tried different" in report_html(load_sweep(sweep.finish()))


def test_axes_without_a_choice_are_left_out_and_long_ones_are_cut(plant, tables_only):
    sweep = plant()
    for number in range(50):
        swept = {"model": f"m{number // 2:02d}", "optimizer.lr": (number + 1) / 1000}
        sweep.run(swept, 0, 0.9 - number / 1000, 0.9)
    text = report_html(load_sweep(sweep.finish()))
    assert "Which lr?" not in text  # 50 values with one setting each
    rows = cells(text, "Which model?")
    assert [row[0] for row in rows] == ["★ m00", *(f"m{number:02d}" for number in range(1, 20))]
    assert "And 5 further values, worse on validation or without a result." in text


def test_a_single_axis_is_listed_although_nothing_was_chosen(settled, tables_only):
    rows = cells(report_html(load_sweep(settled)), "Which model?")
    assert [(row[0], row[2]) for row in rows] == [("★ b", "1"), ("a", "1"), ("c", "1")]


def test_a_neighbour_without_a_result_says_what_became_of_it(plant, tables_only):
    sweep = plant()
    for seed in range(3):
        sweep.run({"optimizer.lr": 0.1, "model.width": 8}, seed, 0.9, 0.9)
        sweep.run({"optimizer.lr": 0.1, "model.width": 16}, seed, 0.8, 0.8)
        sweep.run({"optimizer.lr": 1.0, "model.width": 8}, seed, status="diverged")
        sweep.run({"optimizer.lr": 9.0, "model.width": 8}, seed, status="diverged" if seed else "failed")
    text = report_html(load_sweep(sweep.finish()))
    found = {row[1]: row[2] for row in cells(text, "Neighbours of the best setting")}
    assert found == {"1": "diverged in every run", "9": "1 failed, 2 diverged", "16": "+0.1000"}
    values = {row[0]: row[1] for row in cells(text, "Which lr?")}
    assert (values["1"], values["9"]) == ("no result: 3 diverged", "no result: 1 failed, 2 diverged")


def test_equal_faults_are_one_line_and_many_faults_are_cut(plant, tables_only):
    sweep = plant()
    for seed in range(30):
        folder = sweep.run({"optimizer": "sgd"}, seed, 0.9, 0.9)
        sweep.curves(folder, [0.5, 0.9])
        (folder / "confusion.csv").write_bytes(b"\xff\xfe")
    loaded = load_sweep(sweep.finish())
    text = report_html(loaded)
    assert len(loaded.damaged) == 30
    block = text[text.index("Files that cannot be read") :]
    lines = re.findall(r"<li>(.*?)</li>", block[: block.index("</ul>")])
    assert len(lines) == 1
    assert lines[0].startswith("confusion.csv ") and lines[0].endswith(
        "in 30 runs: run-000, run-001, run-002 and 27 more"
    )
    different = [f"run-{number:03d}/metrics.csv: line {number} is cut" for number in range(100)]
    block = report_html(replace(loaded, damaged=different)).partition("Files that cannot be read")[2]
    lines = re.findall(r"<li>(.*?)</li>", block[: block.index("</ul>")])
    assert lines == [*different[:40], "and 61 further faults"]  # 60 of these and the line of the 30 confusion tables


def test_one_seed_says_nothing_about_differences(plant, tables_only):
    sweep = plant()
    for place, optimizer in enumerate(("sgd", "adam", "lion")):
        sweep.curves(sweep.run({"optimizer": optimizer}, 0, 0.9 - place / 10, 0.9), [0.4, 0.6])
    text = report_html(load_sweep(sweep.finish()))
    assert [row[6] for row in cells(text, "Settings, the best")] == ["best", *["one seed: nothing can be said"] * 2]
    assert "by t and by bootstrap" not in text


def test_more_settings_than_pairs_can_be_listed(plant, tables_only):
    sweep = plant()
    for number in range(30):
        for seed in range(3):
            swept = {"model": f"m{number:02d}", "optimizer": f"o{number % 3}"}
            sweep.run(swept, seed, 0.9 - number / 1000, 0.9 - number / 1000 + seed / 100 + number * seed / 1e4)
    text = report_html(load_sweep(sweep.finish()))
    pairs = {(row[0].split()[0], row[1].split()[0]) for row in cells(text, "Settings in pairs")}
    # The best against 29 others; o1's and o2's best (ranks 2 and 3); the 30 models against each other.
    assert {("#1", f"#{place}") for place in range(2, 31)} < pairs
    assert ("#2", "#3") in pairs and "435 comparisons" in text


def test_many_failures_of_one_cause_are_counted_and_cut(plant, tables_only):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, 0.9, 0.9)
    for seed in range(50):
        error = {"type": "OutOfMemoryError", "message": "out", "epoch": 3}
        folder = sweep.run({"optimizer": "adam"}, seed, status="failed", error=error)
        (folder / "run.log").write_text("".join(f"step {step} of {seed}\n" for step in range(30)))
    page = Page(report_html(load_sweep(sweep.finish())))
    assert "50 runs failed: OutOfMemoryError: out" in page.text
    assert "and 10 more: see the table of all runs" in page.text
    assert page.text.count("the last 20 lines of its log") == 5
    assert "step 10 of 4\n" in page.text and "step 9 of 4\n" not in page.text  # 20 of 30 lines, and the first five runs
    assert "step 29 of 4" in page.text and "step 29 of 5" not in page.text


def test_the_grid_of_mistakes_is_part_of_the_page(plant, tables_only):
    picture = io.BytesIO()
    Image.new("RGB", (8, 6), (10, 200, 30)).save(picture, format="PNG")
    sweep = plant()
    for seed in range(2):
        folder = sweep.run({"optimizer": "sgd"}, seed, 0.9, 0.9)
        (folder / "mistakes.png").write_bytes(picture.getvalue())
    page = Page(report_html(load_sweep(sweep.finish())))
    sources = [source for source in attributes(page, "src") if source.startswith("data:image/png;base64,")]
    assert base64.b64decode(sources[0].split(",")[1]) == picture.getvalue()
    assert len(sources) == 1  # one run of the best setting stands for all
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")


def test_a_class_that_is_never_predicted_is_named(plant, tables_only):
    sweep = plant()
    folder = sweep.run({"optimizer": "sgd"}, 0, 0.9, 0.9)
    sweep.confusion(folder, ["cat", "dog", "<owl>"], [[5, 1, 0], [0, 6, 0], [2, 4, 0]])
    page = Page(report_html(load_sweep(sweep.finish())))
    assert "Never predicted: <owl>." in page.text


def test_links_start_where_the_report_lies(known, tmp_path, tables_only):
    (tmp_path / "elsewhere").mkdir()
    path = write_report(load_sweep(known), tmp_path / "elsewhere" / "page.html")
    links = [link for link in attributes(Page(path.read_text()), "href") if link.endswith("run.log")]
    assert links and all((path.parent / link).resolve().parent.parent == known for link in links)


def test_a_ready_ranking_is_what_is_shown(known, tables_only):
    sweep = load_sweep(known)
    ranked = ranking(sweep)
    turned = replace(ranked, names={"optimizer": "kind of <step>"})
    page = Page(report_html(sweep, turned))
    assert "kind of <step>" in page.text
    assert "kind of" not in report_html(sweep)


@pytest.mark.parametrize("folds", [None, (0, 1)])
def test_a_settings_command_plans_exactly_its_runs(plant, plan, folds):
    sweep = plant()
    for seed in (3, 5):
        for fold in folds or (None,):
            swept = {"optimizer": "adam", "optimizer.betas": "[0.8,0.99]", "data": "fake"}
            swept |= {} if fold is None else {"data.fold": fold, "data.num_folds": 2}
            sweep.run(swept, seed, 0.9, 0.9)
    loaded = load_sweep(sweep.finish(overrides=["model.width=4", "sweep_name=x"]))
    words = shlex.split(setting_command(loaded, ranking(loaded).rows[0].runs))
    assert words[:3] == ["resweep", "train", "-m"]
    alone = [plan(*shlex.split(run_command(loaded, run))[2:]).runs[0].digest for run in loaded.runs]
    assert {run.digest for run in plan(*words[3:]).runs} == set(alone)
    assert len(set(alone)) == 2 * len(folds or (None,))


def test_runs_that_are_no_full_grid_have_a_command_each(plant):
    sweep = plant()
    for seed, fold in ((0, 0), (0, 1), (1, 0)):
        sweep.run({"optimizer": "sgd", "data.fold": fold}, seed, 0.9, 0.9)
    loaded = load_sweep(sweep.finish())
    lines = setting_command(loaded, loaded.runs).splitlines()
    assert lines == [run_command(loaded, run) for run in loaded.runs]
    assert setting_command(loaded, loaded.runs[:1]) == run_command(loaded, loaded.runs[0])

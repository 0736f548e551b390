"""The report as a page: whole, escaped, the same for the same files, and there whatever the sweep looks like."""

from __future__ import annotations

import os
import re

import pytest
from markup import Page, attributes

from resweep.report.html import report_html, write_report
from resweep.report.load import load_sweep


def nasty(plant, text: str):
    sweep = plant()
    for value in (text, "plain"):
        for seed in (0, 1, 2):
            folder = sweep.run({"model.name": value, "optimizer.lr": 0.1 * (seed + 1)}, 0, 0.9, 0.9)
            sweep.curves(folder, [0.5, 0.6])
            sweep.confusion(folder, [text, "ok"], [[4, 1], [1, 4]])
    sweep.run({"model.name": text, "optimizer.lr": 0.1}, 1, status="failed", error={"type": text, "message": text})
    return sweep.finish(name=text, command=["resweep", text], versions={text: text})


def test_the_page_is_whole_and_fetches_nothing(known):
    page = Page(write_report(load_sweep(known), known / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.scripts == 1
    ids = attributes(page, "id")
    assert len(ids) == len(set(ids)) > 20
    anchors = [link[1:] for link in attributes(page, "href") if link.startswith("#")]
    assert set(anchors) <= set(ids)
    assert all(link.startswith(("#", "./")) for link in attributes(page, "href"))
    assert not attributes(page, "src")
    text = (known / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"' ]*", text)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_page_says_what_the_table_says(known):
    page = Page(report_html(load_sweep(known)))
    for text in (
        "5 of 7",
        "0.9200 ± 0.0200",
        "0.8200 ± 0.0200",
        "+0.1000",
        "too few seeds",
        "Which optimizer?",
        "NonFiniteLoss: loss became NaN",
        "optimizer=rmsprop: no completed run for seed 0, 1, 2",
        "resweep train 'model.name=my net' optimizer=sgd seed=2",
        "resweep train -m 'model.name=my net' optimizer=sgd seed=0,1,2",
    ):
        assert text in page.text
    assert "./run-002/run.log" in attributes(page, "href")


def test_the_confusion_matrix_is_summed_over_seeds(known):
    text = report_html(load_sweep(known))
    matrix = text[text.index('class="matrix"') : text.index("Most confused pairs")]
    assert [int(number) for number in re.findall(r">(\d+)</td>", matrix)] == [24, 6, 3, 27]
    pairs = text[text.index("Most confused pairs, summed over 3 runs</h3>") : text.index("Accuracy per class, lowest")]
    assert re.findall(r"<td>(\w+)</td>", pairs) == ["cat", "dog", "dog", "cat"]
    assert "Never predicted" not in text
    assert "20.0%" in pairs
    assert "<caption>Confusion matrix, summed over 3 runs:" in text
    assert "Accuracy per class, lowest first, summed over 3 runs</h3>" in text


def test_the_confusion_matrix_of_a_single_run_is_no_sum(plant):
    sweep = plant()
    sweep.confusion(sweep.run({"optimizer": "sgd"}, 0, 0.9, 0.9), ["cat", "dog"], [[8, 2], [1, 9]])
    text = report_html(load_sweep(sweep.finish()))
    assert "in one run. Rows" in text and "Most confused pairs</h3>" in text
    assert "summed over" not in text


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)> & 'y' < 5 > 4",
        '--><b id="x"> @@BODY@@ \\1 #0a0b01',
        "javascript:alert(1) $x$ and $5 日本 é ✓",
    ],
)
def test_every_text_stays_text(plant, text):
    page = Page(report_html(load_sweep(nasty(plant, text))))
    assert page.open == []
    assert page.scripts == 1
    assert not {"img", "b"} & {tag for tag, attrs in page.tags if attrs}
    assert page.text.count(text) >= 6
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


@pytest.mark.parametrize("status", ["failed", "running", "pending"])
def test_nothing_completed_makes_a_page(plant, status):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, status=status)
    page = Page(report_html(load_sweep(sweep.finish())))
    assert page.open == []
    assert "nothing can be ranked" in page.text
    assert f"1 {status}" in page.text


def test_an_empty_sweep_makes_a_page(plant):
    page = Page(report_html(load_sweep(plant().finish(planned=4))))
    assert page.open == []
    assert "4 planned runs have no record yet" in page.text


def test_one_of_a_kind_is_written_in_the_singular(plant):
    sweep = plant()
    for optimizer, val in (("sgd", 0.9), ("adam", 0.8)):
        for seed in range(3):
            sweep.run({"optimizer": optimizer}, seed, val, val + seed * (val - 0.75) / 10)
    page = Page(report_html(load_sweep(sweep.finish(planned=7, command=["resweep", "train", "-m", "seed=0,1,2"]))))
    assert "1 planned run has no record yet." in page.text
    assert "the only one here, so its p needs no correction" in page.text
    assert "p (Holm) equals p, because there is one comparison only" in page.text
    assert "1 comparisons" not in page.text and "stricter than the interval" not in page.text
    assert "Made by" in page.text and "Repeat it with" not in page.text


def test_the_words_say_which_effect_and_which_interval(known):
    text = report_html(load_sweep(known))
    effect = text[text.index("<dt>effect (d_z)</dt>") :]
    effect = effect[: effect.index("</dd>")]
    assert "standard deviations of the paired differences" in effect
    assert "not comparable with the usual 0.2, 0.5 and 0.8" in effect
    assert "usually called large" not in text
    for label in ("Settings, the best", "Which optimizer?"):
        head = text[text.index(f"<caption>{label}") :]
        heads = re.findall(r"<th .*?</th>", head[: head.index("</thead>")])
        assert next(Page(one).text for one in heads if ">against " in one).endswith(", interval uncorrected")


def test_many_classes_become_a_picture(plant):
    sweep = plant()
    names = [f"class {number}" for number in range(30)]
    folder = sweep.run({"optimizer": "sgd"}, 0, 0.9, 0.9)
    sweep.confusion(folder, names, [[9 if i == j else int(j == i + 1) for j in range(30)] for i in range(30)])
    text = report_html(load_sweep(sweep.finish()))
    assert 'class="matrix"' not in text
    assert "data:image/png;base64," in text


def test_thirty_six_runs_stay_below_a_megabyte(plant):
    sweep = plant()
    for number in range(36):
        swept = {
            "optimizer": f"o{number % 3}",
            "model.dropout": number // 3 % 2,
            "optimizer.lr": 10.0 ** -(number // 18),
        }
        folder = sweep.run(swept, number // 6 % 3, 0.9 + number / 1000, 0.9 - number / 1000)
        sweep.curves(folder, [1 - 1 / (epoch + 1 + number / 9) for epoch in range(60)])
        sweep.confusion(folder, [str(i) for i in range(10)], [[i * j for j in range(10)] for i in range(10)])
    assert len(report_html(load_sweep(sweep.finish())).encode()) < 1_000_000


def test_the_same_files_give_the_same_text(known):
    assert report_html(load_sweep(known)) == report_html(load_sweep(known))


def test_a_name_that_is_no_text_does_not_stop_the_report(plant):
    sweep = plant()
    folder = sweep.run({"optimizer": "sgd"}, 0, status="failed")
    path = sweep.finish()
    folder.rename(path / os.fsdecode(b"run-\xff"))
    page = Page(write_report(load_sweep(path), path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "./run-%FF/run.log" in attributes(page, "href")


@pytest.mark.slow
def test_a_thousand_runs_stay_below_five_megabytes(plant):
    sweep = plant()
    for setting in range(333):
        swept = {"optimizer": f"o{setting % 4}", "model": f"m{setting % 5}", "optimizer.lr": 10 ** (-setting / 100)}
        for seed in range(3):
            value = 0.9 - setting / 1000 + seed * (setting % 7) / 1000
            folder = sweep.run(swept, seed, value, value - 0.01)
            sweep.curves(folder, [value * (1 - 0.9 ** (epoch + 1 + setting % 3)) for epoch in range(40)])
    text = report_html(load_sweep(sweep.finish()))
    assert len(text.encode()) < 5_000_000
    assert text.count('<code class="command">') == 333 + 999  # every setting and every run has its command

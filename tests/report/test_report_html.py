from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from resweep.report import plots
from resweep.report.html import report_html, write_report
from resweep.report.load import load_sweep
from resweep.report.table import ranking

VOID = {"meta", "br", "link", "input"}


class Page(HTMLParser):
    """Tags, attributes, text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts = 0
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text += data


def attributes(page: Page, name: str) -> list[str]:
    return [attrs[name] for _, attrs in page.tags if name in attrs]


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
        "NonFiniteLoss: loss became NaN",
        "optimizer=rmsprop: no completed run for seed 0, 1, 2",
        "resweep train 'model.name=my net' optimizer=sgd seed=2",
    ):
        assert text in page.text
    assert "./run-002/run.log" in attributes(page, "href")


def test_the_confusion_matrix_is_summed_over_seeds(known):
    text = report_html(load_sweep(known))
    matrix = text[text.index('class="matrix"') : text.index("Most confused pairs")]
    assert [int(number) for number in re.findall(r">(\d+)</td>", matrix)] == [24, 6, 3, 27]
    pairs = text[text.index("Most confused pairs</h3>") : text.index("Accuracy per class, lowest")]
    assert re.findall(r"<td>(\w+)</td>", pairs) == ["cat", "dog", "dog", "cat"]
    assert "20.0%" in pairs


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


def test_a_dollar_in_a_picture_is_a_dollar(plant):
    table = ranking(load_sweep(nasty(plant, "$a$ $\\frac{1}$ <b>")))
    svg = plots.dot_plot(table).svgs[0]
    texts = [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
    assert any("name=$a$ $\\frac{1}$ <b> lr=0.1" in text for text in texts)


def test_pictures_are_well_formed_and_repeat(known):
    table = ranking(load_sweep(known))
    for draw in (plots.dot_plot, plots.learning_curves):
        first, second = draw(table), draw(table)
        assert first == second
        for svg in first.svgs:
            ElementTree.fromstring(svg)
            assert not re.search(r"#0a0[bc]", svg)
    assert report_html(load_sweep(known)) == report_html(load_sweep(known))


def test_a_curve_has_the_planted_points(known):
    svg = plots.learning_curves(ranking(load_sweep(known))).svgs[0]
    line = next(path for path in re.findall(r'<path d="([^"]*)"[^>]*var\(--s0', svg) if path.count("L") == 2)
    heights = [float(pair.split()[1]) for pair in re.findall(r"[-\d.]+ [-\d.]+", line)]
    rise, last = heights[0] - heights[1], heights[1] - heights[2]
    assert last / rise == pytest.approx((0.92 - 0.8) / (0.8 - 0.6), rel=1e-4)  # means of sgd: 0.6, 0.8, 0.92


def test_runs_of_different_length_are_mentioned(plant):
    sweep = plant()
    for seed, length in enumerate((3, 5)):
        sweep.curves(sweep.run({"optimizer": "sgd"}, seed, 0.9, 0.9), [0.5] * length)
    plot = plots.learning_curves(ranking(load_sweep(sweep.finish())))
    assert "different lengths" in plot.caption


def test_more_than_eight_settings_are_partly_grey(plant):
    sweep = plant()
    for number in range(10):
        sweep.curves(sweep.run({"model": f"m{number}"}, 0, 0.9 - number / 100, 0.9), [0.4, 0.5])
    plot = plots.learning_curves(ranking(load_sweep(sweep.finish())))
    assert [index for _, index in plot.legend] == [*range(8), None]
    assert plot.legend[-1][0] == "2 further settings"
    assert "best 8 settings" in plot.caption


@pytest.mark.parametrize(
    ("values", "log", "places"),
    [
        ([0.0, 0.0005], False, [0, 0.0005]),
        ([0.001, 0.01, 0.1], True, [-3, -2, -1]),
        ([0, 0.0001, 0.01], True, [-6, -4, -2]),
        ([-1, 1, 1000], False, [-1, 1, 1000]),
        ([0.01, 0.1], False, [0.01, 0.1]),
    ],
)
def test_the_axis_is_logarithmic_from_two_decades_on(values, log, places):
    found, _, is_log = plots._places([str(value) for value in values])
    assert is_log == log
    assert list(found.values()) == pytest.approx(places)


def grid(plant, optimizers=("sgd",)):
    sweep = plant()
    for optimizer in optimizers:
        for lr in (0.001, 0.1):
            for decay in (0, 0.01):
                swept = {"optimizer": optimizer, "optimizer.lr": lr, "optimizer.weight_decay": decay}
                sweep.run(swept, 0, 0.5 + lr + decay, 0.5)
    return ranking(load_sweep(sweep.finish()))


def test_a_heat_map_needs_two_swept_keys(plant):
    plot = plots.heat_maps(grid(plant, ("sgd", "adam")))
    assert len(plot.svgs) == 2
    assert all(f">{value:.4f}</text>" in plot.svgs[0] for value in (0.501, 0.511, 0.6, 0.61))
    other = plant("other")
    for decay in (0, 0.01):
        other.run({"optimizer.lr": 0.1, "optimizer.weight_decay": decay}, 0, 0.5, 0.5)
    assert plots.heat_maps(ranking(load_sweep(other.finish()))) is None


def test_factors_are_drawn_per_optimizer(plant):
    plot = plots.factor_effects(grid(plant, ("sgd", "adam")))
    assert len(plot.svgs) == 2
    assert plot.legend == [("optimizer=sgd", 0), ("optimizer=adam", 1)]
    assert "optimizer.lr (log scale)" in plot.svgs[0]
    assert "log scale" not in plot.svgs[1]


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


def test_missing_folds_are_named(plant):
    sweep = plant(base={"monitor": "val/accuracy", "data.num_folds": 3})
    for optimizer in ("sgd", "adam"):
        for fold in range(3):
            status = "failed" if (optimizer, fold) == ("adam", 2) else "completed"
            sweep.run({"optimizer": optimizer, "data.fold": fold}, 0, 0.9, 0.8, status=status)
    page = write_report(load_sweep(sweep.finish()), sweep.dir / "report.html").read_text()
    assert "optimizer=adam: no completed run for fold 2 (seed 0)" in page
    assert "Missing folds" in page and "Every fold" in page and "Every seed" not in page

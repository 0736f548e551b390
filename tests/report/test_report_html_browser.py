"""The report in a real browser: what a reader can see and do, and what the page leaves alone."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import PHONE, WIDE, Visit, open_chromium

from resweep.report.html import write_report
from resweep.report.load import load_sweep

HOSTILE = "<script>document.title = 'taken over'</script>"
LRS = (0.1, 0.0001, 0.01, 1e-05)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as running:
        yield running


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Visit]]:
    """Opens a file in a context of its own."""
    visits = []

    def open_page(path: Path, **options: Any) -> Visit:
        visits.append(Visit(browser, path, **options))
        return visits[-1]

    yield open_page
    for one in visits:
        one.close()


@pytest.fixture(scope="module")
def report(planter, tmp_path_factory) -> Path:
    """Two optimizers at four learning rates and three seeds, one failed run; validation falls with the planted order.

    Setting k has validation 0.9 - k / 100 and takes 10 k + 10 seconds; sgd comes before adam, learning rates as in LRS.
    """
    sweep = planter(tmp_path_factory.mktemp("report") / "planted")
    settings = [(optimizer, lr) for optimizer in ("sgd", "adam") for lr in LRS]
    for place, (optimizer, lr) in enumerate(settings):
        for seed in range(3):
            val = 0.9 - place / 100 + seed / 1000
            swept = {"optimizer": optimizer, "optimizer.lr": lr}
            folder = sweep.run(swept, seed, val, val - 0.05, fit_seconds=10.0 * place + 10)
            sweep.curves(folder, [0.3, 0.5, val])
            sweep.confusion(folder, ["cat", "dog"], [[9, 1], [2, 8]])
    error = {"type": "OutOfMemoryError", "message": "needed 1 GB more"}
    folder = sweep.run({"optimizer": "rmsprop", "optimizer.lr": 0.1}, 0, status="failed", error=error)
    (folder / "run.log").write_text("".join(f"line {number}\n" for number in range(50)))
    path = sweep.finish(command=["resweep", "train", "-m", "optimizer=sgd,adam"])
    return write_report(load_sweep(path), path / "report.html")


@pytest.fixture(scope="module")
def deep(planter, tmp_path_factory) -> Path:
    """Three swept keys with two values each and three seeds, so that there are parallel coordinates and 28 pairs."""
    sweep = planter(tmp_path_factory.mktemp("deep") / "planted")
    for place in range(8):
        swept = {"optimizer": ("sgd", "adam")[place // 4], "model.dropout": place // 2 % 2 * 0.3}
        swept["optimizer.weight_decay"] = place % 2 * 0.0005
        for seed in range(3):
            sweep.run(swept, seed, 0.9 - place / 100 + seed / 1000, 0.85 - place / 200 + seed * (1 + place) / 1000)
    path = sweep.finish()
    return write_report(load_sweep(path), path / "report.html")


def leaderboard(visit: Visit) -> Any:
    return visit.page.locator("section:has(#ranking) table.cards")


def tools(visit: Visit, table: str = "Settings, the best") -> Any:
    """The controls above a table."""
    return visit.page.get_by_role("search", name=f"Filter: {table}")


def choose(controls: Any, name: str, value: str) -> None:
    controls.get_by_role("combobox", name=name, exact=True).select_option(label=value)


def column(table: Any, name: str) -> list[str]:
    """The first line of each shown cell below a heading."""
    heads = [text.strip() for text in table.locator("thead th").all_text_contents()]
    cells = table.locator(f"tbody tr > :nth-child({heads.index(name) + 1})").all_inner_texts()
    return [text.split("\n")[0].strip() for text in cells]


def test_the_page_loads_without_a_complaint_and_asks_for_nothing(report, visit):
    for scheme in ("light", "dark"):
        opened = visit(report, color_scheme=scheme)
        assert opened.complaints == []
        assert opened.requests == [report.as_uri()]
        assert leaderboard(opened).locator("tbody tr").count() == 9
    page = opened.page
    colour = "(name) => getComputedStyle(document.body)[name]"
    assert page.evaluate(colour, "backgroundColor") == "rgb(20, 23, 27)"
    broken = page.evaluate("[...document.images].filter((image) => !image.naturalWidth).length")
    assert broken == 0


def test_the_policy_lets_nothing_else_run(report, visit):
    opened = visit(report)
    with opened.page.expect_event("requestfailed"):
        opened.page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://a.test/x'}))")
    assert opened.refused == [("https://a.test/x", "csp")]
    opened.page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'ran = 1'}))")
    assert opened.page.evaluate("window.ran") is None
    assert len([text for text in opened.complaints if "Content Security Policy" in text]) == 2


def test_a_column_sorts_by_value_and_says_so(report, visit):
    opened = visit(report)
    table = leaderboard(opened)
    head = table.locator("thead th", has_text="lr")
    head.get_by_role("button").click()
    assert column(table, "lr") == ["1e-05"] * 2 + ["0.0001"] * 2 + ["0.01"] * 2 + ["0.1"] * 3
    assert head.get_attribute("aria-sort") == "ascending"
    assert "sorted by lr, ascending" in opened.page.get_by_role("status").text_content()
    head.get_by_role("button").click()
    assert column(table, "lr")[0] == "0.1"
    assert head.get_attribute("aria-sort") == "descending"
    time = table.locator("thead th", has_text="time/run")
    time.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") is None
    assert column(table, "time/run") == ["10s", "20s", "30s", "40s", "50s", "1m00s", "1m10s", "1m20s", "-"]
    time.get_by_role("button").press("Enter")
    assert column(table, "time/run")[0] == "1m20s"
    assert column(table, "time/run")[-1] == "-"  # what has no value stays last in both directions


def test_rows_are_filtered_by_value_and_by_words(report, visit):
    opened = visit(report)
    table, controls = leaderboard(opened), tools(opened)
    words = controls.get_by_role("searchbox", name="Filter")
    choose(controls, "optimizer", "adam")
    assert column(table, "#") == ["5", "6", "7", "8"]
    choose(controls, "lr", "0.01")
    assert (column(table, "optimizer"), column(table, "lr")) == (["adam"], ["0.01"])
    assert opened.page.get_by_role("status").text_content() == "1 of 9 match"
    controls.get_by_role("button", name="Clear").click()
    assert len(column(table, "#")) == 9
    words.fill("SGD 1e-05")
    assert (column(table, "optimizer"), column(table, "lr")) == (["sgd"], ["1e-05"])
    words.fill("nothing like this")
    assert column(table, "#") == []
    choose(tools(opened, "All runs"), "state", "failed")
    assert len(column(opened.page.locator("section:has(#all-runs) table"), "run")) == 1


def test_commands_are_copied(report, visit):
    opened = visit(report, permissions=["clipboard-read", "clipboard-write"])
    row = leaderboard(opened).locator("tbody tr").first
    row.get_by_role("button", name="Copy the command of row").click()
    opened.page.get_by_text("Copied", exact=True).wait_for()
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    assert copied == "resweep train -m optimizer=sgd optimizer.lr=0.1 seed=0,1,2"
    assert opened.page.get_by_role("status").text_content() == "Command copied"
    opened.page.locator("section:has(#all-runs) tbody tr").nth(4).get_by_role("button").first.click()
    opened.page.wait_for_function("navigator.clipboard.readText().then((text) => !text.includes('-m'))")
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    assert copied == "resweep train optimizer=sgd optimizer.lr=0.0001 seed=1"


def test_a_command_is_copied_where_the_clipboard_is_refused(report, visit):
    opened = visit(report)
    refuse = "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }"
    opened.page.evaluate(refuse)
    opened.page.evaluate("() => addEventListener('copy', () => { window.copied = String(getSelection()); })")
    leaderboard(opened).locator("tbody tr").first.get_by_role("button").first.click()
    opened.page.wait_for_function("window.copied")
    assert opened.page.evaluate("window.copied") == "resweep train -m optimizer=sgd optimizer.lr=0.1 seed=0,1,2"


def test_a_phone_scrolls_in_one_direction_only(report, visit):
    opened = visit(report, viewport=PHONE, has_touch=True, is_mobile=True)
    assert opened.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    row = leaderboard(opened).locator("tbody tr").first
    assert row.bounding_box()["width"] <= PHONE["width"]
    label = row.locator("td").first.evaluate("(cell) => getComputedStyle(cell, '::before').content")
    assert label == '"optimizer"'
    assert row.get_by_role("cell").count() == len(column(opened.page.locator("table.cards").first, "n")) > 0
    choose(tools(opened), "Sort", "lr, ascending")
    assert column(leaderboard(opened), "lr")[0] == "1e-05"
    opened.page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_wide_pictures_stay_legible_on_a_phone(deep, visit):
    opened = visit(deep, viewport=PHONE, has_touch=True, is_mobile=True)
    for name in ("Every seed", "All factors together"):
        region = opened.page.get_by_role("region", name=f"Picture: {name}", exact=True)
        assert region.locator("svg").first.bounding_box()["width"] >= 560
        assert region.bounding_box()["width"] <= PHONE["width"]
        region.evaluate("(one) => { one.scrollLeft = 1000; }")
        assert region.evaluate("(one) => one.scrollLeft") >= 560 - PHONE["width"]
        figure = opened.page.locator("figure").filter(has=region)
        assert figure.get_by_text("scroll it sideways").is_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    wide = visit(deep)
    assert not wide.page.get_by_text("scroll it sideways").first.is_visible()


def test_pairs_are_cards_on_a_phone_and_return_to_their_order(deep, visit):
    opened = visit(deep, viewport=PHONE, has_touch=True, is_mobile=True)
    section = opened.page.locator("section:has(#differences)")
    row = section.locator("table.cards tbody tr").first
    assert row.bounding_box()["width"] <= PHONE["width"]
    assert section.locator(".scroll").evaluate("(one) => one.scrollWidth - one.clientWidth") == 0
    label = "(cell) => getComputedStyle(cell, '::before').content"
    assert row.get_by_role("cell").nth(4).evaluate(label) == '"95 % interval, uncorrected"'
    before = section.locator("tbody tr").all_inner_texts()
    controls = tools(opened, "Settings in pairs")
    choose(controls, "Sort", "A - B, ascending")
    assert section.locator("tbody tr").all_inner_texts() != before
    choose(controls, "Sort", "as ranked")
    assert section.locator("tbody tr").all_inner_texts() == before


def test_a_class_called_script_stays_text(plant, visit):
    sweep = plant()
    for value in (HOSTILE, "plain"):
        for seed in range(3):
            folder = sweep.run({"model.name": value}, seed, 0.9 if value == HOSTILE else 0.8, 0.9)
            sweep.curves(folder, [0.5, 0.6])
            sweep.confusion(folder, [HOSTILE, "</script>ok"], [[4, 1], [1, 4]])
    failed = sweep.run({"model.name": HOSTILE}, 3, status="failed", error={"type": HOSTILE, "message": HOSTILE})
    (failed / "run.log").write_text(f"{HOSTILE}\n")
    path = sweep.finish(name=HOSTILE, command=["resweep", HOSTILE])
    opened = visit(write_report(load_sweep(path), path / "report.html"))
    page = opened.page
    assert opened.complaints == []
    assert page.title() == f"{HOSTILE} · resweep report"
    assert page.locator("script").count() == 1
    assert page.locator("h1").inner_text() == HOSTILE
    heads = page.locator("table.matrix thead th").all_inner_texts()
    assert heads == [HOSTILE, "</script>ok"]
    choose(tools(opened), "name", HOSTILE)
    assert column(leaderboard(opened), "name") == [HOSTILE]
    assert page.title() == f"{HOSTILE} · resweep report"


def test_the_page_is_readable_without_scripts(report, visit):
    for size in (WIDE, PHONE):
        opened = visit(report, java_script_enabled=False, viewport=size)
        assert leaderboard(opened).locator("tbody tr").count() == 9
        assert opened.page.get_by_role("button").count() == 0  # nothing that would do nothing
        row = leaderboard(opened).locator("tbody tr").first
        row.locator("summary").click()
        assert "resweep train -m optimizer=sgd" in row.inner_text()


def test_a_log_opens_and_ends_where_the_log_ends(report, visit):
    opened = visit(report)
    opened.page.get_by_text("the last 20 lines of its log").click()
    assert opened.page.locator(".reason pre").inner_text().split("\n")[-1] == "line 49"


def test_the_keyboard_reaches_what_the_mouse_does(report, visit):
    opened = visit(report)
    opened.page.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    assert opened.page.evaluate(focused) == "Skip to the ranking"
    opened.page.keyboard.press("Enter")
    assert opened.page.evaluate("location.hash") == "#content"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(60):
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate(outline) != "none", opened.page.evaluate("document.activeElement.outerHTML")
        if opened.page.evaluate("document.activeElement.closest('thead') !== null"):
            break
    opened.page.keyboard.press("Enter")
    assert leaderboard(opened).locator("[aria-sort=ascending]").count() == 1


def test_headings_labels_and_names_are_there_for_a_screen_reader(report, visit):
    page = visit(report).page
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("thead th:not([scope=col])").count() == 0
    assert page.locator("tbody th:not([scope=row])").count() == 0
    nameless = page.evaluate(
        "[...document.querySelectorAll('input, select, button, svg[role=img], img, .scroll')].filter((one) =>"
        "!(one.getAttribute('aria-label') || one.alt || one.labels?.length || one.textContent.trim())).length"
    )
    assert nameless == 0
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_a_picture_is_saved_as_a_file_of_its_own(report, visit):
    opened = visit(report)
    with opened.page.expect_download() as started:
        opened.page.get_by_role("button", name="Save as SVG").first.press("Enter")
    path = Path(started.value.path())
    assert started.value.suggested_filename.endswith(".svg")
    text = path.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(--" not in text
    assert opened.complaints == []


def test_a_long_table_shows_its_first_rows_and_sorts_all(plant, visit):
    sweep = plant()
    for place in range(150):
        sweep.run({"optimizer.lr": (place * 37 % 150 + 1) / 1000}, 0, 0.9 - place / 1000, 0.9)
    path = sweep.finish()
    opened = visit(write_report(load_sweep(path), path / "report.html"))
    table = leaderboard(opened)
    assert table.locator("tbody tr").count() == 40
    table.locator("thead th", has_text="lr").get_by_role("button").click()
    assert column(table, "lr") == [f"{number / 1000:g}" for number in range(1, 41)]
    tools(opened).get_by_label("lr from").fill("0.02")
    tools(opened).get_by_label("lr to").fill("0.024")
    assert column(table, "lr") == ["0.02", "0.021", "0.022", "0.023", "0.024"]
    tools(opened).get_by_role("button", name="Clear").click()
    opened.page.locator("section:has(#ranking)").get_by_role("button", name="Show 110 more").click()
    assert table.locator("tbody tr").count() == 150


def test_print_opens_what_is_folded_and_leaves_out_controls(report, visit):
    opened = visit(report)
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.page.locator("details:not([open]):not(.cmd details)").count() == 0
    assert not opened.page.locator("nav, .tools, button.copy").evaluate_all(
        "(all) => all.some((one) => one.checkVisibility())"
    )
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.page.locator("details[open]").count() == 0
    assert opened.page.pdf().startswith(b"%PDF")

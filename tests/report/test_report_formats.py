from __future__ import annotations

import csv
import io
import json
import re

import pytest

from resweep.report.compare import compare
from resweep.report.formats import latex_text
from resweep.report.load import load_sweep
from resweep.report.table import ranking

HOSTILE = ["a|b", "<i>x</i>", r"50 % & $5 \input{x} {#1} ~^_", "line\nbreak", '"quoted"', "[x]", "*bold* `code`"]


@pytest.fixture
def hostile(plant):
    sweep = plant()
    for place, value in enumerate(HOSTILE):
        for depth in (1, 2):
            sweep.run({"model": value, "depth_of": depth}, 0, 0.5 + place / 100 + depth / 1000, 0.5)
    return str(sweep.finish())


def test_json_has_everything(known):
    found = json.loads(compare([str(known)], format="json", runs=True))
    assert found["counts"] == {"completed": 5, "diverged": 1, "failed": 1}
    assert (found["monitor"], found["shown"], found["mode"], found["unit"]) == (
        "val/accuracy", "test/accuracy", "max", "seed",
    )  # fmt: skip
    sgd, adam, rmsprop = found["settings"]
    assert (sgd["values"], sgd["best"], sgd["n"], sgd["difference"]) == ({"optimizer": "sgd"}, True, 3, None)
    assert sgd["val"]["mean"] == pytest.approx(0.92) and sgd["val"]["sd"] == pytest.approx(0.02)
    assert adam["difference"]["verdict"] == "too few seeds" and adam["difference"]["mean"] == pytest.approx(0.1)
    assert rmsprop["not_completed"] == {"failed": 1} and rmsprop["val"]["mean"] is None
    (axis,) = found["axes"]
    assert (axis["key"], axis["name"]) == ("optimizer", "optimizer")
    assert [(one["value"], one["setting"], one["settings"], one["runs"]) for one in axis["choices"]] == [
        ("sgd", 0, 1, 3), ("adam", 1, 1, 3), ("rmsprop", None, 1, 1),
    ]  # fmt: skip
    assert [(pair["a"], pair["b"]) for pair in axis["pairs"]] == [("sgd", "adam")]
    assert axis["pairs"][0]["difference"]["mean"] == pytest.approx(-0.1)  # from the first one's point of view
    assert len(found["runs"]) == 7 and found["settings_in_all"] == 3
    assert found["equal"] == {"monitor": "val/accuracy", "monitor_mode": "max"}
    assert found["warnings"] == [] and found["answer"].startswith("Use optimizer=sgd")
    files = {"report": "report.html", "results": "results.csv", "results_parquet": "results.parquet"}
    files |= {"curves": "curves.parquet"}
    assert found["files"] == [{name: f"{known}/{file}" for name, file in files.items()}]


def test_json_holds_what_a_config_may_hold(plant):
    sweep = plant(base={"trainer.limit": float("inf"), "clip": [1, float("-inf")]})
    sweep.run({"optimizer": "sgd"}, 0, 0.5, 0.5)

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads(compare([str(sweep.finish())], format="json", write=False), parse_constant=refuse)
    assert found["equal"] == {"trainer.limit": "inf", "clip": [1, "-inf"]}


def test_csv_has_a_row_per_setting_with_all_figures(known):
    rows = list(csv.DictReader(io.StringIO(compare([str(known)], format="csv", write=False))))
    assert [row["optimizer"] for row in rows] == ["sgd", "adam", "rmsprop"]
    assert float(rows[0]["test_mean"]) == pytest.approx(0.82) and rows[0]["difference_mean"] == ""
    assert (rows[2]["val_mean"], rows[2]["not_completed"]) == ("", "1 failed")
    assert rows[1]["difference_verdict"] == "too few seeds"
    everything = csv.DictReader(io.StringIO(compare([str(known)], format="csv", everything=True, write=False)))
    assert {row["monitor_mode"] for row in everything} == {"max"}


def test_the_terminal_gets_no_control_characters(plant):
    sweep = plant()
    for value in ("line\nbreak", "\x1b[2J", "ok"):
        for depth in (1, 2):
            error = {"type": "Error", "message": "bell \a"} if value == "ok" else None
            sweep.run(
                {"model": value, "depth": depth}, 0, 0.5, 0.5, status="failed" if error else "completed", error=error
            )
    for options in ({}, {"runs": True}, {"width": 40}):
        text = compare([str(sweep.finish())], write=False, **options)
        assert all(sign.isprintable() for sign in text.replace("\n", "")), options
        assert "line\\nbreak" in text and "line\nbreak" not in text


def test_csv_gives_back_every_value(hostile):
    rows = csv.DictReader(io.StringIO(compare([hostile], format="csv", write=False)))
    assert sorted({row["model"] for row in rows}) == sorted(HOSTILE)


def test_markdown_has_whole_rows_and_no_markup_from_values(hostile):
    text = compare([hostile], format="markdown", write=False)
    tables = re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1
    assert r"a\|b" in text and "&lt;i&gt;x&lt;/i&gt;" in text and r"\*bold\* \`code\`" in text and r"\[x\]" in text
    assert "<i>" not in text and "line break" in text


def test_latex_is_balanced_and_escaped(hostile):
    text = compare([hostile], format="latex", write=False)
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines.count(r"\toprule") == lines.count(r"\midrule") == lines.count(r"\bottomrule") == 2
    for table in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in table[1].splitlines() if line.endswith(r" \\")]
        assert rows and {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(table[0]) - 1}
        body = re.sub(r"\\[%&$#_{}]", "", table[1])
        assert body.count("{") == body.count("}") and not set(body) & set('%$#_~^<>|"')
        commands = set(re.findall(r"\\[a-zA-Z]+", body))
        assert commands <= {
            r"\toprule", r"\midrule", r"\bottomrule", r"\textbf", r"\textbackslash", r"\textasciitilde", r"\pm",
            r"\textasciicircum", r"\textless", r"\textgreater", r"\textbar", r"\textquotedbl", r"\ensuremath",
        }, commands  # fmt: skip
    assert r"\textbackslash{}input\{x\}" in text and r"depth\_of" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & c", r"a\_b \& c"),
        ("\\", r"\textbackslash{}"),
        ("0.9 ± 0.1", r"0.9 \ensuremath{\pm} 0.1"),
        ("[1]", "{}[1]"),  # behind \\ it would be read as a length
        ("a\n\n% b", r"a \% b"),
    ],
)
def test_latex_texts(text, expected):
    assert latex_text(text) == expected


def test_the_same_figures_everywhere(known):
    (row, *_) = ranking(load_sweep(known)).rows
    figure = f"{row.test.mean:.4f} ± {row.test.sd:.4f}"
    assert figure == "0.8200 ± 0.0200"
    assert figure in compare([str(known)], write=False)
    assert figure in compare([str(known)], format="markdown", write=False)
    assert figure.replace("±", r"\ensuremath{\pm}") in compare([str(known)], format="latex", write=False)


def test_runs_in_every_format(known):
    options = {"runs": True, "where": "status==completed", "write": False}
    assert len(compare([str(known)], format="csv", **options).splitlines()) == 1 + 5
    markdown = compare([str(known)], format="markdown", **options)
    assert sum(line.startswith("| 0000") for line in markdown.splitlines()) == 5 and "5 of 7 runs listed" in markdown
    latex = compare([str(known)], format="latex", **options)
    assert sum(line.startswith("0000") for line in latex.splitlines()) == 5
    assert len(json.loads(compare([str(known)], format="json", **options))["runs"]) == 5

from __future__ import annotations

import pytest

from resweep.errors import RequestError
from resweep.report.where import DEEPEST, number, parse_where

ROWS = [
    {"optimizer": "adam", "lr": 0.06001143797993615, "dropout": 0, "flip": True, "error": None, "model.name": "a b"},
    {"optimizer": "sgd", "lr": 1, "dropout": 0.3, "flip": False, "error": "no memory", "model.name": "and"},
    {"optimizer": "sgd", "lr": 0.1, "dropout": None, "flip": True, "error": None, "model.name": "x=(1)"},
]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("optimizer==adam", [0]),
        ("optimizer=adam", [0]),
        ("optimizer != adam", [1, 2]),
        ("lr<0.1", [0]),
        ("lr<=1e-1", [0, 2]),
        ("lr>0.1", [1]),
        ("lr>=.1", [1, 2]),
        ("lr==1.0", [1]),  # equal by size, not as a text
        ("lr==0.06001", [0]),  # as the table shows it
        ("lr==0.06001143797993615", [0]),
        ("lr=='1.0'", []),  # in quotation marks it is a text
        ("dropout==null", [2]),
        ("dropout!=null", [0, 1]),
        ("dropout<5", [0, 1]),  # a missing value is neither smaller ...
        ("dropout>=0", [0, 1]),  # ... nor larger
        ("not dropout<5", [2]),
        ("error==null", [0, 2]),
        ("error=='no memory'", [1]),
        ("flip==true", [0, 2]),
        ("flip==False", [1]),
        ("flip==1", []),  # a truth value is no number
        ("model.name=='a b'", [0]),
        ('model.name=="and"', [1]),
        ("model.name=='x=(1)'", [2]),
        ("'model.name'=='a b'", [0]),
        ("optimizer in (adam, sgd)", [0, 1, 2]),
        ("lr in [1, 0.1]", [1, 2]),
        ("optimizer not in (adam)", [1, 2]),
        ("optimizer==sgd and lr<0.5 or optimizer==adam", [0, 2]),  # and binds before or
        ("optimizer==adam or optimizer==sgd and lr<0.5", [0, 2]),
        ("(optimizer==adam or optimizer==sgd) and lr<0.05", []),
        ("not optimizer==sgd and lr<0.5", [0]),  # not binds first
        ("not (optimizer==sgd and lr<0.5)", [0, 1]),
        ("not not flip==true", [0, 2]),
        ("  lr  <  0.1  ", [0]),
    ],
)
def test_rows_are_kept_by_the_grammar(text: str, kept: list[int]) -> None:
    assert [place for place, holds in enumerate(parse_where(text).kept(ROWS)) if holds] == kept


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["is empty", "optimizer==adam and lr<0.1"]),
        ("lr", ["has the end where ==, !=, <, <=, >, >= or in should stand"]),
        ("lr<", ["has the end where a number should stand"]),
        ("lr<tiny", ["has 'tiny' where a number should stand"]),
        ("lr==", ["has the end where a value should stand"]),
        ("lr<1 lr<2", ["has 'lr' where and, or, or the end should stand"]),
        ("(lr<1", ["has the end where ')' should stand"]),
        ("lr<1)", ["has ')' where and, or, or the end should stand"]),
        ("and lr<1", ["has 'and' where the name of a column should stand"]),
        ("lr in 3", ["has '3' where a list such as (sgd, adam) should stand"]),
        ("lr in (3]", ["has ']' where ')' should stand"]),
        ("lr not 3", ["has '3' where in should stand"]),
        ("lr ! 3", ["cannot be read at '! 3'"]),
        ("optimizer=='ad", ["a quotation mark is not closed"]),
        ("__import__('os').system('x')", ["has '('"]),
        ("(" * (DEEPEST + 2) + "lr<1", [f"nested more than {DEEPEST} deep"]),
        ("not " * 5000 + "lr<1", [f"nested more than {DEEPEST} deep"]),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(text: str, parts: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        parse_where(text)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("--where", text)
    assert all(part in problem.message for part in parts), problem.message


def test_all_wrong_names_are_said_with_the_corrected_condition() -> None:
    with pytest.raises(RequestError) as caught:
        parse_where("optmizer==adam and lrr<1 and optimizer<3 and zzz==1").kept(ROWS)
    first, second, third, fourth = caught.value.problems
    assert "optmizer is not a column; there are optimizer, lr, dropout" in first.message
    assert first.nearest == "optimizer==adam and lrr<1 and optimizer<3 and zzz==1"
    assert second.nearest == "optmizer==adam and lr<1 and optimizer<3 and zzz==1"
    assert "zzz is not a column" in third.message and third.nearest is None
    assert "optimizer has no numbers to compare by size, but adam, sgd" in fourth.message


def test_names_that_belong_elsewhere_are_explained() -> None:
    with pytest.raises(RequestError, match="seed differs between runs"):
        parse_where("seed<3").kept(ROWS, {"seed": "differs between runs"})


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("optimizer==adm", ["--where: no row has optimizer adm; there are adam, sgd; did you mean adam?"]),
        ("optimizer!=adm or optimizer in (sgd, x)", [
            "--where: no row has optimizer adm; there are adam, sgd; did you mean adam?",
            "--where: no row has optimizer x; there are adam, sgd",
        ]),
        ("lr==0.2", ["--where: no row has lr 0.2; there are 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"]),
        ("lr==3.0 and optimizer==null and lr<0", []),
    ],
)  # fmt: skip
def test_values_that_no_row_has_are_told_with_those_there_are(text: str, lines: list[str]) -> None:
    rows = [{"optimizer": "sgd" if number else "adam", "lr": number} for number in range(10)]
    assert parse_where(text).absent(rows) == lines
    assert parse_where(text).absent([]) == []


def test_no_row_is_no_mistake() -> None:
    assert parse_where("anything<3").kept([]) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1e-3", 0.001), (3, 3.0), (True, None), ("nan", None), ("x", None), (None, None), ([1], None)],
)
def test_what_counts_as_a_number(value: object, expected: float | None) -> None:
    assert number(value) == expected

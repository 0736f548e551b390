from __future__ import annotations

from resweep.report.layout import Grid, aligned, paragraph, printable, wrapped

GRID = Grid(["name", "n", "note"], [["a long name", "3", "one"], ["b", "12", "-"]], [True, False])


def test_columns_are_two_blanks_apart_and_numbers_to_the_right():
    assert aligned(GRID).splitlines() == [
        " name          n  note",
        "*a long name   3  one",
        " b            12  -",
    ]


def test_a_table_that_fits_stays_a_table():
    assert aligned(GRID, 22) == aligned(GRID)


def test_a_wider_one_becomes_blocks_of_whole_texts():
    assert aligned(GRID, 21).splitlines() == ["* name a long name", "  n 3   note one", "- name b   n 12"]
    assert aligned(GRID, 5).splitlines() == ["* name a long name", "  n 3", "  note one", "- name b", "  n 12"]


def test_durations_are_numbers_and_counts_are_not():
    assert Grid(["a", "b"], [["1.5s", "2 failed"], ["-", "1 lost"]]).numeric == [True, False]


def test_control_characters_are_written_out():
    table = aligned(Grid(["na\tme"], [["a\nb"], ["\x1b[31mred"], ["\u202eevil"]]))
    assert table.splitlines() == [" na\\tme", " a\\nb", " \\x1b[31mred", " \\u202eevil"]
    assert printable("a\nb ±", keep="\n") == "a\nb ±"


def test_paragraphs_are_wrapped_between_words_only():
    assert paragraph("aa bb cc", 5) == "aa bb\ncc"
    assert paragraph("aaaaaaaa bb", 5) == "aaaaaaaa\nbb"
    assert paragraph("aa bb cc", None) == "aa bb cc"
    assert wrapped(["aa", "bb"], 8, "note  ", " ") == "note  aa\n      bb"

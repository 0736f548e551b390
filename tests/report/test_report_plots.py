from __future__ import annotations

from resweep.report.plots import cut


def test_a_long_value_is_cut_in_the_middle():
    assert cut("x" * 24, 24) == "x" * 24
    assert cut("/a/very/long/path/to/a/folder", 11) == "/a/ve\u2026older"

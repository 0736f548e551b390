from __future__ import annotations

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from resweep.report import plots
from resweep.report.load import load_sweep
from resweep.report.plots.canvas import cut, thinned
from resweep.report.plots.scales import logarithmic, places
from resweep.report.table import ranking

PICTURES = (
    plots.learning_curves,
    plots.dot_plot,
    plots.factor_effects,
    plots.heat_maps,
    plots.parallel_coordinates,
    plots.budget_plot,
    plots.sensitivity_plot,
    plots.time_to_target_plot,
    plots.profile_plot,
    plots.anytime_plot,
    plots.cost_plot,
    plots.calibration_plot,
    plots.gap_plot,
    plots.weight_norms_plot,
)
HOSTILE = '<script>alert("1")</script>&$x^2$'


def planted(sweep, optimizers=("sgd", "adam"), seeds=2):
    """A sweep with all files, for every picture."""
    for optimizer in optimizers:
        for lr in (0.001, 0.01, 0.1):
            for decay in (0, 0.01):
                for seed in range(seeds):
                    swept = {"optimizer": optimizer, "optimizer.lr": lr, "optimizer.weight_decay": decay}
                    val = 0.8 + lr - decay + 0.01 * seed
                    folder = sweep.run(swept, seed, val, val - 0.02, peak_memory_bytes=int(1e8 * (1 + lr)))
                    sweep.curves(folder, [0.5, 0.6, val])
                    bins = "lower,upper,count,confidence,accuracy\n0.0,0.5,4,0.4,0.5\n0.5,1.0,16,0.9,0.75\n"
                    (folder / "calibration.csv").write_text(bins)
                    (folder / "weights.csv").write_text(f"name,count,norm,largest\n{HOSTILE},4,3,2\nb,1,4,4\n")
    return sweep.finish()


def test_a_long_value_is_cut_in_the_middle():
    assert cut("x" * 24, 24) == "x" * 24
    assert cut("/a/very/long/path/to/a/folder", 11) == "/a/ve\u2026older"


def test_thinning_keeps_the_ends_and_spreads_the_rest():
    assert thinned(range(5), 5) == [0, 1, 2, 3, 4]
    assert thinned(range(101), 5) == [0, 25, 50, 75, 100]


@pytest.mark.parametrize(
    ("values", "log", "where"),
    [
        ([0.0, 0.0005], False, [0, 0.0005]),
        ([0.001, 0.01, 0.1], True, [-3, -2, -1]),
        ([0, 0.0001, 0.01], True, [-6, -4, -2]),
        ([-1, 1, 1000], False, [-1, 1, 1000]),
        ([0.01, 0.1], False, [0.01, 0.1]),
        ([1, 4, 16, 64], True, [0, 0.60206, 1.20412, 1.80618]),
        ([0.1, 0.2, 0.3, 0.5], False, [0.1, 0.2, 0.3, 0.5]),
    ],
)
def test_the_axis_is_logarithmic_where_the_values_are(values, log, where):
    axis = places([str(value) for value in values])
    assert axis.log == log
    assert list(axis.where.values()) == pytest.approx(where, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "key", "log"),
    [
        ([0, 0.0001, 0.001], "", True),
        ([0.0001, 0.001], "", False),
        ([0, 0.0005, 0.001], "", False),
        ([0, 0.01], "optimizer.weight_decay", False),
        ([0.01, 0.1], "optimizer.lr", True),
        ([0.01, 0.1], "lr", True),
        ([0.0001, 0.0005, 0.001], "optimizer.weight_decay", True),
        ([0.01, 0.09], "optimizer.lr", False),
        ([0.01, 0.1], "optimizer.lr_scale", False),
        ([-0.01, 0.01, 0.1], "optimizer.lr", False),
        ([0.1 * step for step in range(11)], "model.dropout", False),
        ([0.1 * step for step in range(11)], "optimizer.lr", True),
    ],
)
def test_one_decade_is_enough_beside_zero_and_for_rates(values, key, log):
    assert logarithmic(values, key) == places([repr(value) for value in values], key).log == log


def test_zero_beside_one_decade_has_a_place_of_its_own():
    axis = places(["0", "0.0001", "0.001"])
    assert list(axis.where.values()) == pytest.approx([-5, -4, -3])
    assert [text for _, text in axis.ticks(12, apart=0.07)] == ["0", "0.0001", "0.001"]


def test_a_search_over_numbers_is_told_from_one_over_logarithms():
    assert logarithmic([10 ** (-5 + 0.1 * step) for step in range(41)])
    assert not logarithmic([0.001 + 0.01 * step for step in range(41)])


def test_many_numbers_share_round_ticks():
    search = places([repr(10 ** (-5 + 0.1 * step)) for step in range(31)])
    assert [text for _, text in search.ticks(12)] == ["1e-05", "0.0001", "0.001", "0.01"]
    dropout = places([repr(0.013 * step) for step in range(31)])
    assert [text for _, text in dropout.ticks(12)] == ["0", "0.1", "0.2", "0.3"]


def test_words_have_a_place_each_and_close_ticks_make_room():
    assert places(["sgd", "adam"]).where == {"sgd": 0, "adam": 1}
    assert [text for _, text in places(["1", "1.2", "40"]).ticks(12, apart=0.07)] == ["1", "40"]


@pytest.mark.parametrize("picture", PICTURES)
def test_the_same_runs_give_the_same_bytes_and_whole_svg(plant, picture):
    table = ranking(load_sweep(planted(plant())))
    first, second = picture(table), picture(table)
    assert first == second
    identities = [name for svg in first.svgs for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(identities) == len(set(identities))
    for svg in first.svgs:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert len(root.get("aria-label")) > 10
        assert not re.search(r"#0a0[bc]", svg)
        assert "var(--ink, #555)" in svg
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert set(used) <= set(identities)


def test_another_process_writes_the_same_bytes(plant):
    folder = planted(plant())
    code = (
        "import hashlib, sys; from resweep.report import plots; from resweep.report.load import load_sweep;"
        "from resweep.report.table import ranking; table = ranking(load_sweep(sys.argv[1]));"
        "svgs = plots.heat_maps(table).svgs + plots.dot_plot(table).svgs;"
        "print(hashlib.sha256(''.join(svgs).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(found.pop().strip()) == 64


@pytest.mark.parametrize("picture", PICTURES)
def test_hostile_values_stay_text(plant, picture):
    table = ranking(load_sweep(planted(plant(), optimizers=("sgd", HOSTILE))))
    plot = picture(table)
    for svg in plot.svgs:
        root = ElementTree.fromstring(svg)
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        assert "<script" not in svg


def test_a_hostile_value_is_written_as_it_is(plant):
    table = ranking(load_sweep(planted(plant(), optimizers=("sgd", HOSTILE))))
    for picture in (plots.dot_plot, plots.heat_maps, plots.parallel_coordinates, plots.calibration_plot):
        texts = "".join("".join(ElementTree.fromstring(svg).itertext()) for svg in picture(table).svgs)
        assert "<scri" in texts


@pytest.mark.parametrize("picture", PICTURES)
def test_an_empty_sweep_has_no_picture(plant, picture):
    sweep = plant()
    assert picture(ranking(load_sweep(sweep.finish(planted=3)))) is None
    sweep.run({"optimizer": "sgd"}, 0, status="failed", error={"type": "E", "message": "m"})
    sweep.run({"optimizer": "adam"}, 0, status="running")
    assert picture(ranking(load_sweep(sweep.finish()))) is None


def test_one_run_has_curves_and_a_dot_and_nothing_to_compare(plant):
    sweep = plant()
    folder = sweep.run({}, 0, 0.9, 0.8)
    sweep.curves(folder, [0.5, 0.9])
    table = ranking(load_sweep(sweep.finish()))
    there = {picture.__name__ for picture in PICTURES if picture(table) is not None}
    assert there == {"learning_curves", "dot_plot", "anytime_plot", "gap_plot"}, "its own best value is no target"


@pytest.mark.slow
def test_a_thousand_runs_stay_small(plant):
    sweep = plant()
    for number in range(334):
        swept = {
            "optimizer": f"o{number % 7}",
            "optimizer.lr": 10.0 ** -(number % 5),
            "optimizer.momentum": 0.003 * number,
        }
        for seed in range(3):
            val = 0.5 + 0.001 * number + 0.01 * seed
            folder = sweep.run(swept, seed, val, val - 0.02, peak_memory_bytes=10**8 + number)
            sweep.curves(folder, [val - 0.4 * 0.97**epoch * (1 + 0.1 * (epoch * 7919 % 13)) for epoch in range(100)])
    table = ranking(load_sweep(sweep.finish()))
    sizes = {}
    for picture in PICTURES:
        plot = picture(table)
        sizes[picture.__name__] = 0 if plot is None else sum(map(len, plot.svgs))
    assert max(sizes.values()) < 600_000, sizes
    assert sum(sizes.values()) < 2_000_000, sizes

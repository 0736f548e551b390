from __future__ import annotations

import pandas
import pytest

from resweep.report import plots
from resweep.report.load import Confusion
from resweep.report.plots.canvas import PAPER, SERIES
from resweep.report.plots.cost import trade_offs
from resweep.report.plots.inside import calibration_error, pooled_bins, total_norm

BINS = pandas.DataFrame(
    {
        "lower": [0.0, 0.5, 0.9],
        "upper": [0.5, 0.9, 1.0],
        "count": [0, 10, 30],
        "confidence": [float("nan"), 0.8, 0.95],
        "accuracy": [float("nan"), 0.6, 0.9],
    }
)


def test_the_calibration_error_is_the_weighted_distance():
    # 10 predictions 0.2 off and 30 of them 0.05 off: (2 + 1.5) / 40.
    assert calibration_error(BINS) == pytest.approx(0.0875)


def test_bins_of_runs_are_weighted_by_their_predictions():
    other = BINS.assign(count=[2, 30, 0], accuracy=[0.5, 0.8, float("nan")], confidence=[0.4, 0.7, float("nan")])
    pooled = pooled_bins([BINS, other])
    assert list(pooled["count"]) == [2, 40, 30]
    assert list(pooled["accuracy"]) == pytest.approx([0.5, (10 * 0.6 + 30 * 0.8) / 40, 0.9])
    assert list(pooled["confidence"]) == pytest.approx([0.4, (10 * 0.8 + 30 * 0.7) / 40, 0.95])


@pytest.fixture
def inside(plant, ranked):
    """Two optimizers with two learning rates; sgd with 0.1 and adam with 0.2 are their best."""
    sweep = plant()
    for optimizer, lr, val in [("sgd", 0.1, 0.9), ("sgd", 0.2, 0.8), ("adam", 0.1, 0.6), ("adam", 0.2, 0.7)]:
        for seed in (0, 1):
            folder = sweep.run({"optimizer": optimizer, "optimizer.lr": lr}, seed, val, val)
            BINS.to_csv(folder / "calibration.csv", index=False)
            names = ("a.weight", "a.bias") if optimizer == "sgd" else ("b.weight", "b.bias")
            lines = [f"{names[0]},4,3,2\n", f"{names[1]},1,{4 + 8 * seed},4\n"]
            (folder / "weights.csv").write_text("name,count,norm,largest\n" + "".join(lines))
    return ranked(sweep)


def test_the_best_setting_of_each_choice_is_looked_into(inside, drawn):
    plot, axes = drawn(plots.calibration_plot, inside)
    assert [one.get_title(loc="left") for one in axes] == ["optimizer=sgd", "optimizer=adam"]
    assert "optimizer=sgd lr=0.1; optimizer=adam lr=0.2" in plot.caption
    diagonal, line = axes[0].lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    assert list(line.get_xdata()) == pytest.approx([0.8, 0.95])
    assert list(line.get_ydata()) == pytest.approx([0.6, 0.9])
    assert [bar.get_height() for bar in axes[0].patches] == pytest.approx([0.25, 0.75])
    (error,) = axes[0].texts
    assert error.get_text() == "calibration error 0.0875"
    assert error.get_position()[1] > 1, "above the picture, where no line runs"


def test_norms_are_drawn_per_run_and_per_tensor(inside, drawn):
    plot, (whole, each) = drawn(plots.weight_norms_plot, inside)
    assert list(whole.lines[0].get_ydata()) == pytest.approx([5, 153**0.5])
    assert list(each.lines[0].get_xdata()) == [1, 2]
    assert list(each.lines[0].get_ydata()) == pytest.approx([1.5, 8])
    assert (each.get_yscale(), len(each.lines)) == ("log", 1), "adam's net has other tensors"
    assert "1 setting with other tensors" in plot.caption
    assert [mark.get_marker() for mark in whole.lines[::2]] == ["o", "D"]
    assert each.lines[0].get_marker() == "o"
    assert [tick.get_text() for tick in whole.get_xticklabels()] == ["optimizer=sgd", "optimizer=adam"]
    assert plot.legend == [], "lines beside the picture would stand for marks in it"
    assert "Settings: optimizer=sgd lr=0.1; optimizer=adam lr=0.2." in plot.caption


def test_the_marks_of_tensors_have_a_key_in_the_picture(plant, ranked, drawn):
    sweep = plant()
    for optimizer, val in [("sgd", 0.9), ("adam", 0.8)]:
        folder = sweep.run({"optimizer": optimizer}, 0, val, val)
        (folder / "weights.csv").write_text("name,count,norm,largest\na,4,3,2\nb,1,4,4\n")
    _, (_, each) = drawn(plots.weight_norms_plot, ranked(sweep))
    legend = each.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["optimizer=sgd", "optimizer=adam"]
    assert [(handle.get_marker(), handle.get_linestyle()) for handle in legend.legend_handles] == [
        ("o", "None"),
        ("D", "None"),
    ]


def test_a_single_setting_is_not_named(plant, ranked):
    sweep = plant()
    folder = sweep.run({}, 0, 0.9, 0.9)
    BINS.to_csv(folder / "calibration.csv", index=False)
    (folder / "weights.csv").write_text("name,count,norm,largest\na,4,3,2\nb,1,4,4\n")
    table = ranked(sweep)
    for picture in (plots.calibration_plot, plots.weight_norms_plot):
        assert "Settings" not in picture(table).caption


def test_the_norm_of_all_tensors_is_that_of_one_long_vector():
    assert total_norm(pandas.DataFrame({"norm": [3.0, 4.0, 12.0]})) == 13


def test_without_a_named_choice_the_next_settings_are_looked_into(plant, ranked, drawn):
    sweep = plant()
    for lr in (0.1, 0.2):
        folder = sweep.run({"optimizer.lr": lr}, 0, lr, lr)
        BINS.to_csv(folder / "calibration.csv", index=False)
    _, axes = drawn(plots.calibration_plot, ranked(sweep))
    assert [one.get_title(loc="left") for one in axes] == ["lr=0.2", "lr=0.1"]


def test_runs_without_the_files_have_no_picture(plant, ranked):
    sweep = plant()
    sweep.run({}, 0, 0.9, 0.9)
    table = ranked(sweep)
    assert plots.calibration_plot(table) is None
    assert plots.weight_norms_plot(table) is None


def test_trade_offs_are_the_points_that_none_beats():
    points = [(3.0, 0.9, "a"), (1.0, 0.5, "b"), (2.0, 0.5, "c"), (2.0, 0.7, "d"), (4.0, 0.9, "e"), (1.0, 0.4, "f")]
    assert [name for _, _, name in trade_offs(points, 1)] == ["b", "d", "a"]
    assert [name for _, _, name in trade_offs(points, -1)] == ["f"]


def test_trade_offs_are_chosen_on_validation_and_their_test_result_is_named(plant, ranked, drawn):
    """On test the order is the reverse: the dearest setting is the worst one there."""
    sweep = plant()
    for lr, val, test, seconds in [(0.1, 0.7, 0.9, 10), (0.2, 0.8, 0.6, 20), (0.3, 0.9, 0.5, 30)]:
        sweep.run({"optimizer.lr": lr}, 0, val, test, fit_seconds=seconds)
    plot, (time,) = drawn(plots.cost_plot, ranked(sweep))
    assert time.get_ylabel() == "val/accuracy"
    assert list(time.lines[1].get_ydata()) == pytest.approx([0.7, 0.8, 0.9])
    named = ("1 lr=0.1 (test/accuracy 0.9000)", "2 lr=0.2 (test/accuracy 0.6000)", "3 lr=0.3 (test/accuracy 0.5000)")
    assert "; ".join(named) in plot.caption


def test_costs_are_numbered_and_the_best_on_validation_is_marked(plant, ranked, drawn):
    sweep = plant()
    for lr, val, seconds, memory in [(0.1, 0.9, 30, 5e8), (0.2, 0.8, 10, 7e8), (0.3, 0.7, 20, 6e8)]:
        sweep.run({"optimizer.lr": lr}, 0, val, val - 0.1, fit_seconds=seconds, peak_memory_bytes=memory)
    plot, (time, memory) = drawn(plots.cost_plot, ranked(sweep))
    others, front, best = time.lines
    assert list(others.get_xdata()) == [20]
    assert list(front.get_xdata()) == [10, 30]
    assert list(front.get_ydata()) == pytest.approx([0.8, 0.9])
    assert (list(best.get_xdata()), best.get_marker(), best.get_color()) == ([30], "D", SERIES[1])
    assert best.get_markeredgecolor() == PAPER
    assert [text.get_text() for text in time.texts] == ["1", "2"]
    assert list(memory.lines[1].get_xdata()) == [500]
    assert (time.get_xlabel(), memory.get_xlabel()) == ("training time of a run in seconds", "peak memory in MB")
    assert "training time of a run: 1 lr=0.2 (test/accuracy 0.7000); 2 lr=0.1 (test/" in plot.caption


def test_costs_of_a_loss_fall(plant, ranked, drawn):
    sweep = plant(base={"monitor": "val/loss", "monitor_mode": "min"})
    for lr, loss, seconds in [(0.1, 0.3, 10), (0.2, 0.2, 20), (0.3, 0.4, 30)]:
        sweep.run({"optimizer.lr": lr}, 0, metrics={"val/loss": loss, "test/loss": loss}, fit_seconds=seconds)
    _, (time,) = drawn(plots.cost_plot, ranked(sweep))
    assert list(time.lines[1].get_ydata()) == pytest.approx([0.3, 0.2])


def test_a_confusion_picture_shows_shares_of_the_true_class(drawn):
    confusion = Confusion(("a", "b", "c"), ((8, 2, 0), (0, 5, 0), (0, 0, 0)))
    _, (axes,) = drawn(plots.confusion_picture, confusion)
    (image,) = axes.images
    assert image.get_array().tolist() == [[0.8, 0.2, 0], [0, 1, 0], [0, 0, 0]]

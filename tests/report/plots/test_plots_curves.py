from __future__ import annotations

import numpy
import pandas
import pytest

from resweep.report import plots
from resweep.report.load import load_sweep
from resweep.report.plots.curves import bundle
from resweep.report.table import ranking


def test_lines_are_means_over_seeds_against_epochs_and_seconds(known, drawn):
    plot, axes = drawn(plots.learning_curves, ranking(load_sweep(known)))
    heads = [(one.get_title(loc="left"), one.get_xlabel()) for one in axes]
    assert heads == [
        ("val/accuracy", "epoch"),
        ("train/loss", "epoch"),
        ("val/loss", "epoch"),
        ("val/accuracy", "training time in seconds"),
        ("val/loss", "training time in seconds"),
    ]
    adam, sgd = axes[0].lines
    assert list(sgd.get_xdata()) == [1, 2, 3]
    assert list(sgd.get_ydata()) == pytest.approx([0.6, 0.8, 0.92])
    assert list(adam.get_ydata()) == pytest.approx([0.5, 0.7, 0.81])
    assert list(axes[1].lines[1].get_ydata()) == pytest.approx([0.4, 0.2, 0.08])
    assert list(axes[3].lines[1].get_xdata()) == [2, 4, 6]
    band = axes[0].collections[1].get_paths()[0].vertices
    assert (band[band[:, 0] == 3, 1].min(), band[band[:, 0] == 3, 1].max()) == pytest.approx((0.90, 0.94))
    assert plot.legend == [("optimizer=sgd", 0), ("optimizer=adam", 1)]
    assert "Not drawn: 2 runs that did not complete" in plot.caption


def test_the_second_half_is_drawn_once_more(plant, ranked, drawn):
    sweep = plant()
    for seed in (0, 1):
        sweep.curves(sweep.run({}, seed, 0.9, 0.9), [0.1 * epoch for epoch in range(1, 9)])
    _, axes = drawn(plots.learning_curves, ranked(sweep))
    assert axes[1].get_title(loc="left") == "val/accuracy from epoch 4 on"
    assert list(axes[1].lines[0].get_xdata()) == [4, 5, 6, 7, 8]


def test_many_settings_and_epochs_are_thinned_and_said_to_be(plant, ranked, drawn):
    sweep = plant()
    for number in range(80):
        epochs = 200 if number == 79 else 3
        val = 0.1 + 0.01 * number
        sweep.curves(sweep.run({"optimizer.lr": number}, 0, val, val), [val] * epochs)
    plot, axes = drawn(plots.learning_curves, ranked(sweep))
    grey, *coloured = axes[0].lines
    assert numpy.isnan(grey.get_xdata()).sum() == 60
    assert len(coloured) == 8
    best = coloured[-1].get_xdata()
    assert (len(best), best[0], best[-1]) == (150, 1, 200)
    assert plot.legend[-1] == ("72 further settings", None)
    assert "60 evenly spread over the ranks are drawn" in plot.caption
    assert "Of 200 epochs, 150 are drawn" in plot.caption


def test_runs_of_different_length_are_averaged_where_they_are(plant, ranked, drawn):
    sweep = plant()
    sweep.curves(sweep.run({}, 0, 0.9, 0.9), [0.2, 0.4, 0.6])
    sweep.curves(sweep.run({}, 1, 0.9, 0.9), [0.4])
    plot, axes = drawn(plots.learning_curves, ranked(sweep))
    assert list(axes[0].lines[0].get_ydata()) == pytest.approx([0.3, 0.4, 0.6])
    assert "different lengths" in plot.caption


def test_seconds_are_not_known_beyond_a_lost_epoch():
    frame = pandas.DataFrame({"epoch": [1, 2, 4], "val/loss": [3.0, numpy.nan, 1.0], "seconds": [2.0, 2.0, 2.0]})
    one = bundle([frame], "val/loss")
    assert list(one.epochs) == [1, 4]
    assert one.seconds[0] == 2
    assert numpy.isnan(one.seconds[1])
    assert bundle([frame], "val/accuracy") is None


def test_a_loss_over_decades_has_a_logarithmic_axis(plant, ranked, drawn):
    sweep = plant(base={"monitor": "val/loss", "monitor_mode": "min"})
    folder = sweep.run({}, 0, 0.9, 0.9)
    (folder / "metrics.csv").write_text("epoch,train/loss,val/loss,seconds\n1,2,500,1\n2,1,1,1\n")
    _, axes = drawn(plots.learning_curves, ranked(sweep))
    assert [one.get_yscale() for one in axes[:2]] == ["log", "linear"]


def test_anytime_is_the_mean_best_so_far_over_seconds(plant, ranked, drawn):
    sweep = plant()
    sweep.curves(sweep.run({}, 0, 0.6, 0.5), [0.4, 0.2, 0.6])
    sweep.curves(sweep.run({}, 1, 0.6, 0.5), [0.2, 0.6, 0.4])
    _, (axes,) = drawn(plots.anytime_plot, ranked(sweep))
    (line,) = axes.lines
    assert list(line.get_xdata()) == [2, 4, 6]
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.5, 0.6])
    assert line.get_drawstyle() == "steps-post"
    assert axes.get_xlabel() == "wall time in seconds"


def test_time_to_target_shows_runs_median_and_those_that_never_came(plant, ranked, drawn):
    sweep = plant()
    for seed, curve in enumerate(([0.9], [0.1, 0.9], [0.1, 0.2, 0.9])):
        sweep.curves(sweep.run({"optimizer": "sgd"}, seed, 0.9, 0.9), curve)
    sweep.curves(sweep.run({"optimizer": "adam"}, 0, 0.5, 0.5), [0.1, 0.5])
    plot, (seconds, epochs) = drawn(plots.time_to_target_plot, ranked(sweep))
    dots, median, never = seconds.lines
    assert list(dots.get_xdata()) == [2, 4, 6]
    assert list(median.get_xdata()) == [4]
    assert (list(never.get_ydata()), never.get_marker()) == ([1.17], "x")
    assert list(epochs.lines[1].get_xdata()) == [2]
    assert "1 of 4" in plot.caption
    assert "at least 0.9" in plot.caption


def test_profiles_are_shares_of_the_seeds(plant, ranked, drawn):
    sweep = plant()
    for seed, (fast, slow) in enumerate([(1, 2), (2, 4), (4, 1)]):
        for optimizer, epoch in (("sgd", fast), ("adam", slow)):
            curve = [0.1] * (epoch - 1) + [0.9]
            sweep.curves(sweep.run({"optimizer": optimizer}, seed, 0.9, 0.9), curve)
    plot, (axes,) = drawn(plots.profile_plot, ranked(sweep))
    lines = dict(zip([label for label, _ in plot.legend], reversed(axes.lines), strict=True))
    points = {name: list(zip(*line.get_data(), strict=True))[:-1] for name, line in lines.items()}
    assert points["optimizer=sgd"] == [(1, pytest.approx(2 / 3)), (4, 1)]
    assert points["optimizer=adam"] == [(1, pytest.approx(1 / 3)), (2, 1)]
    assert axes.get_xscale() == "log"


def test_grey_lines_that_explode_do_not_flatten_the_others(plant, ranked, drawn):
    sweep = plant()
    for number in range(9):
        folder = sweep.run({"optimizer.lr": number}, 0, 0.9 - 0.01 * number, 0.9)
        loss = 1e12 if number == 8 else 2.0
        (folder / "metrics.csv").write_text(f"epoch,train/loss,val/loss,seconds\n1,2,{loss},1\n2,1,1,1\n")
    plot, axes = drawn(plots.learning_curves, ranked(sweep))
    assert axes[1].get_xlabel() == "epoch"
    assert axes[1].get_ylim() == pytest.approx((0.95, 2.2))
    assert axes[1].get_yscale() == "linear"
    assert "Axes end at the largest value in colour" in plot.caption

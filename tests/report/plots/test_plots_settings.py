from __future__ import annotations

import math

import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from scipy import stats

from resweep.report import plots
from resweep.report.load import load_sweep
from resweep.report.plots.canvas import PAPER, SERIES
from resweep.report.table import ranking


def labels(axes):
    return [text.get_text() for text in axes.texts]


def test_dots_are_runs_with_mean_and_t_interval(known, drawn):
    plot, (axes,) = drawn(plots.dot_plot, ranking(load_sweep(known)))
    interval, dots, mean = axes.lines[:3]
    half = stats.t.ppf(0.975, 2) * 0.02 / math.sqrt(3)
    assert list(interval.get_xdata()) == pytest.approx([0.82 - half, 0.82 + half])
    assert list(dots.get_xdata()) == pytest.approx([0.80, 0.82, 0.84])
    assert list(mean.get_xdata()) == pytest.approx([0.82])
    assert labels(axes) == ["optimizer=sgd  (best on validation)", "optimizer=adam  (2 of 3 runs completed)"]
    assert len(axes.lines) == 5, "two seeds have no interval"
    assert "Not drawn: 1 setting" in plot.caption


def test_of_many_settings_the_best_are_drawn(plant, ranked, drawn):
    sweep = plant()
    for number in range(45):
        sweep.run({"optimizer.lr": number}, 0, 0.01 * number, 0.5)
    plot, (axes,) = drawn(plots.dot_plot, ranked(sweep))
    assert len(axes.texts) == 40
    assert labels(axes)[0].startswith("lr=44")
    assert "The best 40 of 45 settings are drawn." in plot.caption


def test_the_gap_is_read_at_the_epoch_of_the_checkpoint(known, drawn):
    plot, (accuracy, loss) = drawn(plots.gap_plot, ranking(load_sweep(known)))
    train, val, test = accuracy.lines
    assert list(train.get_xdata()) == pytest.approx([0.8, 0.7])
    assert list(val.get_xdata()) == pytest.approx([0.8, 0.7])
    assert list(test.get_xdata()) == pytest.approx([0.82, 0.91])
    assert [mark.get_marker() for mark in (train, val, test)] == ["o", "D", "s"]
    assert (accuracy.get_xlabel(), loss.get_xlabel()) == ("accuracy", "loss")
    assert list(loss.lines[1].get_xdata()) == pytest.approx([0.3, 0.4])
    assert "epoch of the checkpoint" in plot.caption


def test_a_factor_has_its_runs_and_their_means(tuned, drawn):
    plot, axes = drawn(plots.factor_effects, tuned(optimizers=("sgd", "adam")))
    assert [one.get_xlabel() for one in axes] == ["optimizer.weight_decay (log scale)", "optimizer.lr (log scale)"]
    means = axes[1].lines[3]
    assert list(means.get_ydata()) == pytest.approx([0.501 + lr + 0.1 * 0.0101 / 3 for lr in (0.001, 0.01, 0.1)])
    assert [round(place) for place in means.get_xdata()] == [-3, -2, -1]
    assert [tick.get_text() for tick in axes[1].get_xticklabels()] == ["0.001", "0.01", "0.1"]
    assert [text.get_text() for text in axes[0].texts] == ["//"], "zero stands apart on a logarithmic axis"
    assert sum(len(line.get_xdata()) for line in axes[1].lines if line.get_marker() == "o") == 18
    assert plot.legend == [("optimizer=sgd", 0), ("optimizer=adam", 1)]


def test_means_of_values_without_an_order_are_not_joined(plant, ranked, drawn):
    sweep = plant()
    for optimizer, shift in [("sgd", 0.0), ("adam", 0.1)]:
        for name, val in [("cosine", 0.5), ("step", 0.7), ("constant", 0.6)]:
            for lr in (0.01, 0.1):
                swept = {"optimizer": optimizer, "scheduler": name, "optimizer.lr": lr}
                sweep.run(swept, 0, val + shift + lr, 0.5)
    plot, (scheduler, lr) = drawn(plots.factor_effects, ranked(sweep))
    for axes, style in [(scheduler, "None"), (lr, "-")]:
        diamonds = [line for line in axes.lines if line.get_marker() == "D"]
        assert [line.get_linestyle() == "None" for line in diamonds] == [style == "None"] * 2
    means = next(line for line in scheduler.lines if line.get_marker() == "D")
    assert sorted(means.get_ydata()) == pytest.approx([0.655, 0.755, 0.855])
    assert lr.get_xlabel() == "optimizer.lr (log scale)"
    assert "Line, or diamonds where there is no order: their mean" in plot.caption
    assert "in the order of the legend, from left to right" in plot.caption


def test_a_search_has_means_of_groups_and_round_ticks(plant, ranked, drawn):
    sweep = plant()
    for number in range(160):
        sweep.run({"optimizer.lr": 10 ** (-5 + 0.025 * number)}, 0, 0.001 * number, 0.5)
    plot, (axes,) = drawn(plots.factor_effects, ranked(sweep))
    dots, means = axes.lines
    assert len(dots.get_xdata()) == 120
    assert list(means.get_ydata()) == pytest.approx([0.0095 + 0.02 * group for group in range(8)])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1e-05", "0.0001", "0.001", "0.01"]
    assert "8 groups of equally many runs" in plot.caption
    assert "120 per line are drawn" in plot.caption


def test_every_pair_of_numbers_has_a_map_learning_rate_and_decay_first(tuned, drawn):
    plot, axes = drawn(plots.heat_maps, tuned(optimizers=("sgd", "adam"), dropouts=(0.1, 0.2)))
    pairs = [(one.get_xlabel(), one.get_ylabel(), one.get_title(loc="left")) for one in axes]
    lr, decay, dropout = "optimizer.lr (log scale)", "optimizer.weight_decay (log scale)", "model.dropout"
    assert pairs == [
        (across, up, f"optimizer={optimizer}")
        for across, up in [(lr, decay), (lr, dropout), (decay, dropout)]
        for optimizer in ("adam", "sgd")
    ]
    cells = [one for one in axes[0].patches if isinstance(one, Rectangle)]
    assert len(cells) == 9
    assert labels(axes[0])[0] == "0.5025", "0.5 + 0.001 + mean dropout 0.15 x 0.01"
    best = max(cells, key=lambda cell: cell.get_xy())
    assert sum(to_rgb(best.get_facecolor())) == max(sum(to_rgb(cell.get_facecolor())) for cell in cells)
    assert [tick.get_text() for tick in axes[0].get_yticklabels()] == ["0", "0.0001", "0.01"]
    assert "bright is 0.6025" in plot.caption


def test_the_caption_of_maps_names_what_they_are_split_by(tuned, drawn):
    plot, _ = drawn(plots.heat_maps, tuned(optimizers=("sgd", "adam")))
    assert plot.caption.startswith("Mean val/accuracy over completed runs, for each optimizer apart; the same colours")


def test_the_caption_of_a_single_map_names_no_split(tuned, drawn):
    plot, _ = drawn(plots.heat_maps, tuned())
    assert plot.caption.startswith("Mean val/accuracy over completed runs; dark is")


def test_with_many_choices_only_the_first_pair_is_split(tuned, drawn):
    table = tuned(("a", "b", "c", "d", "e", "f", "g"), (0.1, 0.2), (0, 0.1), (0, 0.5))
    plot, axes = drawn(plots.heat_maps, table)
    assert [one.get_title(loc="left") for one in axes] == [f"optimizer={name}" for name in "abcdefg"] + ["", ""]
    assert "for each optimizer apart where a title names one, whatever their other swept values" in plot.caption


def test_a_cell_without_a_completed_run_has_a_dash(plant, ranked, drawn):
    sweep = plant()
    for lr, decay in [(0.1, 0), (0.1, 0.5), (0.2, 0)]:
        sweep.run({"optimizer.lr": lr, "optimizer.weight_decay": decay}, 0, 0.5, 0.5)
    sweep.run({"optimizer.lr": 0.2, "optimizer.weight_decay": 0.5}, 0, 0.1, 0.1, status="diverged")
    _, (axes,) = drawn(plots.heat_maps, ranked(sweep))
    assert labels(axes) == ["0.5000", "0.5000", "0.5000", "-"]
    assert len(axes.patches) == 3


def test_one_number_alone_has_no_map(tuned):
    assert plots.heat_maps(tuned(decays=(0,))) is None


def test_a_search_over_two_numbers_is_a_dot_per_run(plant, ranked, drawn):
    sweep = plant()
    for number in range(30):
        swept = {"optimizer.lr": 10 ** (-4 + 0.1 * number), "optimizer.weight_decay": 0.001 * (number % 11)}
        sweep.run(swept, 0, 0.5 + 0.01 * number, 0.5)
    plot, (axes,) = drawn(plots.heat_maps, ranked(sweep))
    (dots,) = axes.collections
    places = dots.get_offsets()
    assert len(places) == 30
    top = [-1.1, math.log10(0.007)]
    assert list(places[-1]) == pytest.approx(top, abs=1e-4), "the best run is drawn last, on top"
    assert axes.get_xlabel() == "optimizer.lr (log scale)"
    assert "a dot per run" in plot.caption


def test_parallel_lines_pass_their_values_with_the_better_end_on_top(plant, ranked, drawn):
    sweep = plant(base={"monitor": "val/loss", "monitor_mode": "min"})
    for optimizer, lr, decay, loss in [("sgd", 0.1, 0, 0.2), ("adam", 0.1, 0.5, 0.4), ("sgd", 0.2, 0.5, 0.6)]:
        swept = {"optimizer": optimizer, "optimizer.lr": lr, "optimizer.weight_decay": decay}
        sweep.run(swept, 0, metrics={"val/loss": loss})
    plot, (axes,) = drawn(plots.parallel_coordinates, ranked(sweep))
    grey, best = axes.lines[:2]
    assert best.get_color() == SERIES[0]
    assert list(best.get_ydata()) == pytest.approx([0.975, 0.075, 0.075, 0.95])
    assert math.isnan(grey.get_ydata()[4])
    assert grey.get_ydata()[8] == pytest.approx(0.05), "the largest loss is at the bottom"
    assert [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"] == [
        "optimizer", "lr", "weight_decay", "val/loss",
    ]  # fmt: skip
    assert plot.legend == [("best on validation", 0), ("best quarter", 4), ("other settings", None)]


def test_parallel_coordinates_begin_at_three_keys_and_are_thinned(plant, ranked, drawn, tuned):
    assert plots.parallel_coordinates(tuned()) is None
    sweep = plant()
    for number in range(400):
        swept = {"a": number % 20, "b": number // 20, "c": number % 3}
        sweep.run(swept, 0, 0.001 * number, 0.5)
    plot, (axes,) = drawn(plots.parallel_coordinates, ranked(sweep))
    others = sum(math.isnan(y) for y in axes.lines[0].get_ydata())
    quarter = [line for line in axes.lines if line.get_color() == SERIES[4]]
    assert (others, len(quarter)) == (75, 74)
    assert "150 of 400 settings are drawn" in plot.caption


def test_a_budget_begins_at_the_mean_and_ends_at_the_best(plant, ranked, drawn):
    sweep = plant()
    values = {("sgd", 0.1): 0.6, ("sgd", 0.2): 0.8, ("adam", 0.1): 0.7, ("adam", 0.2): 0.7}
    for (optimizer, lr), val in values.items():
        sweep.run({"optimizer": optimizer, "optimizer.lr": lr}, 0, val, val - 0.1)
    _, (whole, optimizer, lr) = drawn(plots.budget_plot, ranked(sweep))
    val, test = whole.lines
    # The best of two out of 0.6, 0.7, 0.7, 0.8: 0.8 in three of six draws, else 0.7.
    assert list(val.get_xdata()) == [1, 2, 3, 4]
    assert list(val.get_ydata())[:2] == pytest.approx([0.7, 0.75])
    assert list(val.get_ydata())[-1] == pytest.approx(0.8)
    assert list(test.get_ydata()) == pytest.approx([y - 0.1 for y in val.get_ydata()])
    assert [one.get_title(loc="left") for one in (whole, optimizer, lr)] == ["whole sweep", "optimizer", "optimizer.lr"]
    named = {line.get_label(): list(line.get_ydata()) for line in optimizer.lines}
    assert named == {"sgd": pytest.approx([0.7, 0.8]), "adam": pytest.approx([0.7, 0.7])}


def test_a_budget_line_begins_where_most_searches_found_a_result(plant, ranked, drawn):
    """Of nine settings of adam one has a result: of searches with eight of them 8/9 have it, below 90 %."""
    sweep = plant()
    for lr in range(9):
        sweep.run({"optimizer": "sgd", "optimizer.lr": lr}, 0, 0.5 + 0.01 * lr, 0.4)
        fields = {"val": 0.9, "test": 0.8} if lr == 4 else {"status": "diverged"}
        sweep.run({"optimizer": "adam", "optimizer.lr": lr}, 0, **fields)
        sweep.run({"optimizer": "lion", "optimizer.lr": lr}, 0, status="diverged")
    plot, (whole, optimizer, lr) = drawn(plots.budget_plot, ranked(sweep))
    named = {line.get_label(): line for line in optimizer.lines}
    assert (list(named["adam"].get_xdata()), named["adam"].get_marker()) == ([9], "o")
    assert list(named["adam"].get_ydata()) == pytest.approx([0.9])
    assert list(named["sgd"].get_xdata()) == list(range(1, 10))
    assert optimizer.get_xlim() == pytest.approx((0.6, 9.4)), "the axis begins at one setting all the same"
    # 17 of 27 have none: C(17, 2) / C(27, 2) = 0.387, C(17, 4) / C(27, 4) = 0.136, C(17, 5) / C(27, 5) = 0.077.
    for line in whole.lines:
        assert list(line.get_xdata()) == list(range(5, 28))
    assert "at least 90 % of such searches have a result; mean and band are over those searches" in plot.caption
    lost = (
        "Whole sweep: 17 of 27 settings have no result; optimizer=adam: 8 of 9; optimizer=lion: 9 of 9; lr=4: 1 of 3; "
    )
    assert f" {lost}" in plot.caption


def test_of_many_values_with_failed_settings_the_first_are_named(plant, ranked, drawn):
    sweep = plant()
    for lr in range(20):
        sweep.run({"optimizer": "sgd", "optimizer.lr": lr}, 0, 0.5 + 0.01 * lr, 0.4)
        sweep.run({"optimizer": "adam", "optimizer.lr": lr}, 0, status="failed")
    plot, _ = drawn(plots.budget_plot, ranked(sweep))
    assert plot.caption.count(": 1 of 2; ") == 16
    assert plot.caption.endswith("; and 4 further values with some.")


def test_without_failed_settings_a_budget_has_nothing_to_say_about_them(tuned, drawn):
    plot, axes = drawn(plots.budget_plot, tuned())
    assert "no result" not in plot.caption
    assert all(line.get_xdata()[0] == 1 for one in axes for line in one.lines)


def test_nothing_was_tuned_with_one_setting(plant, ranked):
    sweep = plant()
    sweep.run({}, 0, 0.9, 0.9)
    assert plots.budget_plot(ranked(sweep)) is None


def test_neighbours_show_their_loss_and_whether_it_is_sure(plant, ranked, drawn):
    sweep = plant()
    for seed in range(6):
        noise = 0.001 * (seed % 3)
        for optimizer, lr, val in [("sgd", 0.1, 0.90), ("adam", 0.1, 0.70), ("sgd", 0.2, 0.899), ("adam", 0.2, 0.5)]:
            small = 0.05 * (-1) ** seed if lr == 0.2 else 0.001 * (seed % 2) if optimizer == "adam" else 0.0
            sweep.run({"optimizer": optimizer, "optimizer.lr": lr}, seed, val + noise, val + 2 * noise + small)
    plot, (axes,) = drawn(plots.sensitivity_plot, ranked(sweep))
    marks = [line for line in axes.lines if line.get_marker() == "D"]
    assert [mark.get_xdata()[0] for mark in marks] == pytest.approx([0.2, 0.001])
    assert [mark.get_markerfacecolor() for mark in marks] == [SERIES[0], PAPER]
    assert labels(axes) == ["optimizer=adam  instead of sgd", "lr=0.2  instead of 0.1"]
    assert "Filled: distinguishable on test/accuracy" in plot.caption


def test_pictures_with_more_per_setting_have_fewer_rows(plant, ranked, drawn):
    sweep = plant()
    for number in range(22):
        sweep.curves(sweep.run({"optimizer.lr": number}, 0, 0.01 * number, 0.5), [0.5, 0.01 * number])
    table = ranked(sweep)
    for picture in (plots.gap_plot, plots.time_to_target_plot):
        plot, axes = drawn(picture, table)
        assert [sum(text.get_text().startswith("lr=") for text in one.texts) for one in axes] == [20, 20]
        assert "The best 20 of 22 settings are drawn." in plot.caption

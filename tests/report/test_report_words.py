from __future__ import annotations

import math
import subprocess
import sys

import pytest
import scipy.stats

from resweep.console import duration
from resweep.report.load import load_sweep
from resweep.report.table import ranking
from resweep.report.words import answer, value_text


def told(plant, tests: dict[str, tuple[float, ...]], folder: str = "planted") -> str:
    """The answer for optimizers in the order of their rank on validation, with the test results of their seeds."""
    sweep = plant(folder)
    for rank, (name, results) in enumerate(tests.items()):
        for seed, test in enumerate(results):
            sweep.run({"optimizer": name}, seed, 0.9 - 0.1 * rank, test)
    return answer(ranking(load_sweep(sweep.finish())))


def test_one_setting_has_no_difference(plant):
    sweep = plant()
    for seed, value in enumerate((0.5, 0.6, 0.7)):
        sweep.run({}, seed, value, value)
    table = ranking(load_sweep(sweep.finish()))
    assert answer(table) == "One setting (val 0.6000 ± 0.1000, test 0.6000 ± 0.1000, n=3)."


def test_a_single_run_says_nothing_about_differences(plant):
    sweep = plant("train")
    sweep.run({}, 0, 0.5, 0.6)
    assert answer(ranking(load_sweep(sweep.dir))) == (
        "One setting (val 0.5000, test 0.6000, n=1). "
        "One seed says nothing about differences to other settings; it takes at least 3 of each."
    )


def test_settings_without_any_result_are_named(plant):
    sweep = plant()
    for lr in (0.1, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6):
        for seed in range(3):
            if lr < 1 or (lr, seed) == (10.0, 0):
                sweep.run({"optimizer.lr": lr}, seed, 0.9, 0.9)
            else:
                status = "failed" if (lr, seed) == (100.0, 2) else "diverged"
                sweep.run({"optimizer.lr": lr}, seed, status=status)
    text = answer(ranking(load_sweep(sweep.finish())))
    assert text.endswith(
        " lr=100 diverged or failed in 3 of 3 runs; lr=1000 diverged in 3 of 3 runs; lr=10000 diverged in 3 of 3 runs; "
        "lr=100000 diverged in 3 of 3 runs; and 1 more."
    )


def test_while_runs_are_to_come_the_answer_says_so(plant):
    sweep = plant()
    for seed in range(2):
        sweep.run({"optimizer": "sgd"}, seed, 0.9, 0.9)
    text = answer(ranking(load_sweep(sweep.finish(planned=10))))
    assert text.startswith("So far (2 of 10 runs completed): one setting (val 0.9000")
    nothing = plant("nothing")
    nothing.run({"optimizer": "sgd"}, 0, status="running")
    text = answer(ranking(load_sweep(nothing.finish(planned=3))))
    assert text.startswith("So far (0 of 3 runs completed): no run has completed with")


def tied(plant, folder: str, losses: dict[str, float | None]) -> str:
    """The answer on settings with one and the same validation accuracy, up to the order of the seeds."""
    sweep = plant(folder)
    for place, (name, loss) in enumerate(losses.items()):
        for seed in range(3):
            metrics = {"val/accuracy": (0.7 + (seed + place) % 3 / 10) / 0.9, "test/accuracy": 0.5 + seed / 10}
            sweep.run({"optimizer": name}, seed, metrics=metrics | ({} if loss is None else {"val/loss": loss}))
    return answer(ranking(load_sweep(sweep.finish())))


def test_a_tie_on_validation_is_said(plant):
    text = tied(plant, "loss", {"sgd": 0.4, "adam": 0.3})
    assert text.startswith("Use optimizer=adam: best on validation (val 0.8889 ± 0.1111, test 0.6000 ± 0.1000, n=3), ")
    assert "n=3), equal with optimizer=sgd and ahead by the lower val/loss. On" in text
    for folder, losses in (("plan", {"sgd": 0.3, "adam": 0.3}), ("none", {"sgd": None, "adam": None})):
        text = tied(plant, folder, losses)
        assert text.startswith("Use optimizer=sgd: best on validation")
        assert "n=3), equal with optimizer=adam and ahead by the order of the plan. On" in text


def test_a_difference_is_stated_with_its_interval(plant):
    text = told(plant, {"sgd": (0.80, 0.82, 0.84), "adam": (0.70, 0.71, 0.75)})
    # differences 10, 11, 9 of 100: mean 10, sd 1, t(0.975, 2) = 4.302653, t = 10 sqrt(3), p = 1 - t / sqrt(t^2 + 2)
    half, p = 0.04302653 / 3**0.5, 1 - (300 / 302) ** 0.5
    assert (f"{0.1 - half:.4f}", f"{0.1 + half:.4f}", f"{p:.2g}") == ("0.0752", "0.1248", "0.0033")
    assert text == (
        "Use optimizer=sgd: best on validation (val 0.9000 ± 0.0000, test 0.8200 ± 0.0200, n=3). "
        "The other setting is worse on test/accuracy by 0.1000 "
        "(95 % interval 0.0752 to 0.1248 uncorrected, 3 seeds, p = 0.0033)."
    )


def test_the_difference_of_a_loss_is_how_much_larger_it_is(plant):
    sweep = plant(base={"monitor": "val/loss", "monitor_mode": "min"})
    for name, losses in {"sgd": (0.1, 0.12, 0.11), "adam": (0.2, 0.23, 0.20)}.items():
        for seed, loss in enumerate(losses):
            sweep.run({"optimizer": name}, seed, metrics={"val/loss": loss, "test/loss": loss})
    text = answer(ranking(load_sweep(sweep.finish())))
    assert "worse on test/loss by 0.1000 (95 % interval 0.0752 to 0.1248 uncorrected" in text


def test_equal_differences_have_no_interval(plant):
    text = told(plant, {"sgd": (0.8, 0.9, 0.7, 0.6, 0.85, 0.75), "adam": (0.7, 0.8, 0.6, 0.5, 0.75, 0.65)})
    assert text.endswith("worse on test/accuracy by 0.1000 (the same in all 6 seeds, p = 0.031).")


def test_both_other_settings_are_worse(plant):
    tests = {"sgd": (0.80, 0.82, 0.84), "adam": (0.70, 0.7201, 0.74), "rmsprop": (0.50, 0.5202, 0.54)}
    text = told(plant, tests)
    assert (
        "Both other settings are worse on test/accuracy (p < 0.05 corrected for 3 comparisons), "
        "the nearest, optimizer=adam, by 0.1000 (95 % interval 0.09"
    ) in text
    assert text.count("corrected for 3 comparisons") == 2 and "trusted" not in text
    more = told(plant, tests | {"last": (0.3, 0.3203, 0.34)}, folder="more")
    assert "All 3 other settings are worse" in more


def test_a_difference_that_cannot_be_trusted_and_what_it_takes(plant):
    text = told(plant, {"sgd": (0.80, 0.82, 0.84), "adam": (0.79, 0.82, 0.82)})
    # differences 1, 0, 2 of 100: mean / sd = 1, times Hedges' factor 1 / sqrt(pi), for which 80 % power takes 27 seeds
    powers = [scipy.stats.nct.sf(scipy.stats.t.isf(0.025, n - 1), n - 1, (n / math.pi) ** 0.5) for n in (26, 27)]
    assert powers[0] < 0.8 <= powers[1]
    assert text.endswith(
        "On test/accuracy, 3 seeds cannot tell it apart from optimizer=adam. "
        "Showing the observed difference to it takes about 27 fresh seeds of each, compared on their own."
    )


def test_the_nearest_on_validation_is_named_of_several(plant):
    tests = {"sgd": (0.80, 0.82, 0.84), "near": (0.80, 0.82, 0.84), "far": (0.79, 0.85, 0.80)}
    tests |= {"late": (0.90, 0.9201, 0.94), "low": (0.50, 0.5201, 0.54)}
    text = told(plant, tests)
    assert "3 seeds cannot tell it apart from optimizer=near; optimizer=far. From the nearest, optimizer=near," in text
    assert "it does not differ at all." in text
    assert "Better on test/accuracy, though not chosen by validation: optimizer=late." in text
    assert "optimizer=low is worse on test/accuracy by 0.3000 (95 % interval 0.29" in text
    assert text.endswith("corrected for 10 comparisons).")


def test_a_difference_too_small_for_any_number_of_seeds(plant):
    text = told(plant, {"sgd": (0.8, 0.9, 0.8, 0.9), "adam": (0.9, 0.8, 0.9, 0.7999)})
    assert text.endswith("Showing the difference to it takes more than 1,000 fresh seeds.")


def test_many_that_are_alike_are_counted(plant):
    tests = {f"o{number}": (0.80 + number / 1000, 0.82, 0.84 - number / 1000) for number in range(6)}
    text = told(plant, tests)
    assert "3 seeds cannot tell it apart from any of the 5 other settings. From the nearest, optimizer=o1, it" in text
    some = told(plant, dict(list(tests.items())[:5]), folder="five")
    assert "apart from optimizer=o1; optimizer=o2; optimizer=o3; optimizer=o4. From" in some


def test_one_seed_says_nothing(plant):
    text = told(plant, {"sgd": (0.9,), "adam": (0.1,), "rmsprop": (0.1,)})
    assert text == (
        "Use optimizer=sgd: best on validation (val 0.9000, test 0.9000, n=1). "
        "One seed says nothing about the differences to 2 other settings; it takes at least 3."
    )
    text = told(plant, {"sgd": (0.9,), "adam": (0.1,)}, folder="two")
    assert text.endswith("One seed says nothing about the difference; it takes at least 3.")


def test_two_seeds_are_too_few(plant):
    text = told(plant, {"sgd": (0.9, 0.9), "adam": (0.1, 0.2)})
    assert text.endswith("Too few shared seeds to tell it apart from optimizer=adam: it takes 3.")


def test_the_answer_is_two_sentences_long(plant):
    """On a sweep of a kind that is usual: some worse, some alike."""
    tests = {"sgd": (0.80, 0.82, 0.84), "adam": (0.79, 0.82, 0.82)}
    text = told(plant, tests)
    assert text.count(". ") == 2 and len(text) < 300


def test_a_monitored_loss_without_a_test_metric(plant):
    sweep = plant(base={"monitor": "val/loss", "monitor_mode": "min"})
    for name, losses in {"sgd": (0.1, 0.12, 0.11), "adam": (0.5, 0.53, 0.52)}.items():
        for seed, loss in enumerate(losses):
            sweep.run({"optimizer": name}, seed, metrics={"val/loss": loss})
    text = answer(ranking(load_sweep(sweep.finish())))
    assert text.startswith("Use optimizer=sgd: best on validation (val/loss 0.1100 ± 0.0100, n=3).")
    assert "The other setting is worse on val/loss by 0.4067 (95 % interval" in text


def test_a_best_setting_without_a_test_result(plant):
    sweep = plant()
    for seed in range(3):
        sweep.run({"optimizer": "sgd"}, seed, 0.9, None)
        sweep.run({"optimizer": "adam"}, seed, 0.8, 0.8)
    text = answer(ranking(load_sweep(sweep.finish())))
    assert text.endswith("It has no test/accuracy, so nothing can be said about the differences.")


def test_others_without_a_result(known, plant):
    text = answer(ranking(load_sweep(known)))
    few = "Too few shared seeds to tell it apart from optimizer=adam: it takes 3."
    assert text.endswith(f"{few} optimizer=rmsprop failed in its only run.")
    sweep = plant("alone")
    sweep.run({"optimizer": "sgd"}, 0, 0.9, 0.9)
    sweep.run({"optimizer": "adam"}, 0, status="failed")
    text = answer(ranking(load_sweep(sweep.finish())))
    assert text.endswith("No other setting has a result to compare it with. optimizer=adam failed in its only run.")


def test_all_with_results_are_worse_and_one_has_none(plant):
    sweep = plant()
    for name, tests in {
        "sgd": (0.80, 0.82, 0.84),
        "adam": (0.70, 0.7201, 0.74),
        "rmsprop": (0.5, 0.5202, 0.54),
    }.items():
        for seed, test in enumerate(tests):
            sweep.run({"optimizer": name}, seed, test, test)
    sweep.run({"optimizer": "lbfgs"}, 0, status="failed")
    text = answer(ranking(load_sweep(sweep.finish())))
    assert "Both other settings with results are worse on test/accuracy" in text


def test_nothing_completed_is_said(plant):
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, status="failed")
    sweep.run({"optimizer": "adam"}, 0, 0.9, 0.9, status="running")
    assert "nothing can be ranked" in answer(ranking(load_sweep(sweep.finish())))


def survivors(plant, lucky: str, status: str):
    """One of three seeds of ``lucky`` completed with the highest mean, the other two have another status."""
    sweep = plant()
    for seed in range(3):
        sweep.run({"optimizer": "sgd"}, seed, 0.8 + seed / 100, 0.8 + seed / 100)
    sweep.run({"optimizer": lucky}, 0, 0.95, 0.95)
    for seed in (1, 2):
        sweep.run({"optimizer": lucky}, seed, status=status)
    return ranking(load_sweep(sweep.finish()))


@pytest.mark.parametrize("status", ["failed", "diverged", "lost"])
def test_a_lucky_seed_does_not_outrank_complete_settings(plant, status):
    table = survivors(plant, "adam", status)
    assert [row.values["optimizer"] for row in table.rows] == ["sgd", "adam"]
    text = answer(table)
    among = "best on validation among the settings without failed runs (val 0.8100"
    assert ("So far (4 of 6 runs completed): use" in text) == (status == "lost")
    assert text.partition("se optimizer=sgd: ")[2].startswith(among)
    assert "only" not in text
    assert "ranked below: optimizer=adam (1 of 3 runs completed)." in text
    assert "One seed says nothing about the difference" in text


@pytest.mark.parametrize("status", ["pending", "running", "interrupted"])
def test_a_sweep_under_way_is_ranked_by_the_mean(plant, status):
    table = survivors(plant, "adam", status)
    assert [row.values["optimizer"] for row in table.rows] == ["adam", "sgd"]
    assert table.rows[0].not_completed == {status: 2}
    text = answer(table)
    assert text.startswith("So far (4 of 6 runs completed): use optimizer=adam: best on validation (val 0.9500")
    assert text.count("runs completed") == 1 and "among" not in text


def test_the_answer_says_when_even_the_best_is_incomplete(plant):
    sweep = plant()
    for name, value in (("sgd", 0.8), ("adam", 0.9)):
        sweep.run({"optimizer": name}, 0, value, value)
        for seed in (1, 2):
            sweep.run({"optimizer": name}, seed, status="diverged")
    text = answer(ranking(load_sweep(sweep.finish())))
    assert text.startswith(
        "Use optimizer=adam: best on validation (val 0.9000, test 0.9000, n=1), though only 1 of 3 runs completed."
    )


def test_folds_are_called_folds(plant):
    sweep = plant(base={"monitor": "val/accuracy", "data.num_folds": 3})
    for optimizer, tests in {"sgd": [0.90, 0.80, 0.70], "adam": [0.88, 0.79, 0.66]}.items():
        for fold, test in enumerate(tests):
            sweep.run({"optimizer": optimizer, "data.fold": fold}, 0, test, test)
    text = answer(ranking(load_sweep(sweep.finish())))
    assert "On test/accuracy, 3 folds cannot tell it apart from optimizer=adam. " in text
    assert "fresh seeds (folds times seeds)" in text


def test_texts_of_values_and_durations():
    assert [value_text(value) for value in (0.1, 1e-5, 1 / 3, 0, False, [1, 2])] == [
        "0.1",
        "1e-05",
        "0.3333",
        "0",
        "false",
        "[1, 2]",
    ]
    assert [duration(value) for value in (None, 0, 9.94, 9.96, 59.6, 362, 4920)] == [
        "-",
        "0.0s",
        "9.9s",
        "10s",
        "1m00s",
        "6m02s",
        "1h22m",
    ]


def test_the_modules_are_light():
    code = (
        "import sys, resweep.report.load, resweep.report.table, resweep.report.words\n"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'scipy', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Columns of the HParams page: the same keys and types in every run of a sweep, and what a search draws from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import frozen
from sklearn.metrics import precision_recall_curve

from resweep.tensorboard.columns import Column, columns, hyperparameters, setting_name, sweep_axes, text
from resweep.tensorboard.summaries import curve_points

CONFIG = {"choices": {"model": "resnet8", "data": None}, "optimizer": {"lr": 1}, "seed": 0}


def column(key: str, value: object, *written: str) -> Column:
    (found,) = (one for one in columns({}, {key: value}, {key: list(written)} if written else None) if one.key == key)
    return found


def test_hyperparameters_are_numbers_or_text() -> None:
    swept = {"channels_last": True, "data.subset": None, "loss.label_smoothing": 0, "optimizer.no_decay": ["a", "b"]}
    found = hyperparameters(CONFIG, swept)
    assert found == {
        "model": "resnet8", "optimizer.lr": 1.0, "optimizer.weight_decay": 0.0, "model.dropout": 0.0, "seed": 0.0,
        "channels_last": "true", "data.subset": "null", "loss.label_smoothing": 0.0, "optimizer.no_decay": "[a,b]",
    }  # fmt: skip
    assert list(found)[: len(swept)] == list(swept)


@pytest.mark.parametrize("value", [None, 0.5])
def test_a_column_with_one_value_that_is_no_number_is_text_in_all_runs(value: float | None) -> None:
    found = column("trainer.gradient_clip_val", value, "null", "0.5", "1")
    assert found == Column("trainer.gradient_clip_val", False, ("null", "0.5", "1"))
    assert found.typed(value) in found.values


def test_values_are_read_as_hydra_writes_them() -> None:
    assert column("optimizer.lr", 1e-5, "1e-05", "0.1", "1").values == (1e-5, 0.1, 1.0)
    assert column("channels_last", True, "true", "false") == Column("channels_last", False, ("true", "false"))
    assert column("optimizer.no_decay", ["bias", "norm"], "[]", "[bias, norm]").values == ("[]", "[bias,norm]")
    assert text(["bias", "norm"]) == "[bias,norm]"
    assert column("optimizer", "adam", "sgd", "adam") == Column("optimizer", False, ("sgd", "adam"))


def test_a_range_has_ends_and_no_values() -> None:
    assert column("optimizer.lr", 0.02, "interval(0.001,0.1)") == Column("optimizer.lr", True, (), (0.001, 0.1))
    logarithmic = column("optimizer.weight_decay", 1e-4, "tag(log,interval(1e-5,1e-2))")
    assert logarithmic == Column("optimizer.weight_decay", True, (), (1e-5, 1e-2))
    assert column("data.batch_size", 32, "range(16,64,step=16)").ends == (16.0, 64.0)
    assert column("data.batch_size", 32, "range(start=16,stop=64)") == Column("data.batch_size", True)


def test_an_axis_that_was_added_has_its_values() -> None:
    (found,) = (
        one for one in columns({}, {"model.width": 8}, {"+model.width": ["4", "8"]}) if one.key == "model.width"
    )
    assert found.values == (4.0, 8.0)


def test_runs_of_a_setting_share_a_name_and_no_others() -> None:
    def name(*overrides: str, **swept: object) -> str:
        return setting_name(frozen(*overrides), {key.replace("__", "."): value for key, value in swept.items()})

    zero = name("seed=0", "optimizer=adam", optimizer="adam", seed=0)
    assert zero.startswith("optimizer=adam ")
    assert zero == name("seed=1", "optimizer=adam", optimizer="adam", seed=1)
    assert zero == name("optimizer=adam", "runs_dir=elsewhere", optimizer="adam")
    assert zero != name("seed=0", "optimizer=adam", "optimizer.lr=0.5", optimizer="adam", seed=0)
    folds = [name("data.num_folds=3", f"data.fold={fold}", data__fold=fold) for fold in (0, 1)]
    assert folds[0] == folds[1]


def test_the_axes_are_those_of_the_sweep_that_a_run_lies_in(tmp_path: Path) -> None:
    assert sweep_axes(tmp_path / "run") == {}
    head = "name: s\naxes:\n  optimizer.lr:\n  - '0.1'\n  - '1e-05'\nplan_digest: abc\n"
    (tmp_path / "sweep.yaml").write_text(head + "runs: [never read\n")
    assert sweep_axes(tmp_path / "run") == {"optimizer.lr": ["0.1", "1e-05"]}
    (tmp_path / "sweep.yaml").write_text("axes: {}\nplan_digest: abc\n")
    assert sweep_axes(tmp_path / "run") == {}


def test_the_points_of_a_curve_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    positive = torch.rand(400, generator=generator) < 0.3
    probabilities = (torch.randint(0, 127, (400,), generator=generator) + 60 * positive).clamp(max=126) / 126
    points = curve_points(probabilities, positive).numpy()
    precision, recall, thresholds = precision_recall_curve(positive, (probabilities * 126).round())
    places = thresholds.astype(int)
    assert np.allclose(points[4, places], precision[:-1]) and np.allclose(points[5, places], recall[:-1])
    assert (points[:4].sum(0) == 400).all()


def test_points_at_the_ends_by_hand() -> None:
    points = curve_points(torch.tensor([1.0, 0.0, 0.5]), torch.tensor([True, False, False]))
    assert points[:, 0].tolist() == [1, 2, 0, 0, pytest.approx(1 / 3), 1]
    assert points[:, 63].tolist() == [1, 1, 1, 0, 0.5, 1]  # 0.5 is the threshold 63/126
    assert points[:, 64].tolist() == points[:, 126].tolist() == [1, 0, 2, 0, 1, 1]
    nothing = curve_points(torch.tensor([0.2]), torch.tensor([False]))
    assert nothing[4, 126] == 1 and nothing[5].tolist() == [0] * 127

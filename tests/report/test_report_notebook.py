"""``resweep.load`` on planted sweeps: frames, ranking, the best run, pictures, and what a notebook shows."""

from __future__ import annotations

import inspect
import re
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

import resweep
from resweep.drawings import PICTURES
from resweep.errors import RequestError
from resweep.report import plots
from resweep.report.frames import curves_frame, runs_frame
from resweep.report.load import load_sweep
from resweep.report.table import Ranking


def test_frames_and_ranking_are_those_of_the_report(known: Path) -> None:
    sweep = resweep.load(known)
    pandas.testing.assert_frame_equal(sweep.runs, runs_frame(load_sweep(known)))
    pandas.testing.assert_frame_equal(sweep.curves, curves_frame(load_sweep(known)))
    assert isinstance(sweep.table, Ranking) and sweep.table.best.values == {"optimizer": "sgd"}
    assert sweep.runs is sweep.runs and sweep.table is sweep.table, "read once"


def test_the_best_run_is_chosen_on_validation(known: Path) -> None:
    best = resweep.load(known).best()
    assert best.dir == known / "run-005"  # sgd with seed 2: 0.94 on validation; adam is the better one on test
    assert best.metrics == {"val/accuracy": 0.94, "test/accuracy": 0.84}
    assert list(best.curves["val/accuracy"]) == [0.6, 0.8, 0.94]
    assert best.confusion.loc["dog", "cat"] == 2 and best.confusion.index.name == "true"


def test_of_losses_the_smallest_is_the_best(plant: Callable) -> None:
    sweep = plant(base={"monitor": "val/loss", "monitor_mode": "min"})
    for seed, loss in enumerate([0.5, 0.2, 0.4]):
        sweep.run({"optimizer": "sgd"}, seed, metrics={"val/loss": loss})
    assert resweep.load(sweep.finish()).best().dir.name == "run-001"


def test_a_run_is_found_by_id_and_by_folder(known: Path) -> None:
    sweep = resweep.load(known)
    assert sweep.run("00004").dir == sweep.run("run-004").dir == known / "run-004"
    with pytest.raises(RequestError, match=r"run=run-04: is no run of this sweep; .*  did you mean  run-004"):
        sweep.run("run-04")
    with pytest.raises(RequestError, match=r"; there are 00000, 00001, 00002, 00003, 00004, 00005 and 1 more"):
        sweep.run("nope")


def test_without_a_result_there_is_no_best(plant: Callable) -> None:
    sweep = plant()
    sweep.run({"optimizer": "sgd"}, 0, status="failed", error={"type": "OSError", "message": "disk"})
    loaded = resweep.load(sweep.finish())
    with pytest.raises(RequestError, match="no completed run with val/accuracy"):
        loaded.best()
    assert "1 failed" in repr(loaded) and "nothing can be ranked" in loaded._repr_html_()


def test_the_table_says_what_compare_says(known: Path) -> None:
    sweep = resweep.load(known)
    page = sweep._repr_html_()
    assert sweep.answer in repr(sweep)
    for text in ("sgd", "adam", "rmsprop", "0.9200 ± 0.0200", "val/accuracy", "5 of 7 runs completed"):
        assert text in page and text in repr(sweep)
    (best,) = re.findall(r'<tr style="font-weight:bold">(.*?)</tr>', page)
    assert "<td" in best and ">sgd<" in best


def test_names_stay_text(plant: Callable) -> None:
    hostile = "<script>alert(1)</script>"
    sweep = plant()
    for seed in range(3):
        for value, val in ((hostile, 0.9), ("b", 0.8 + 0.01 * seed)):
            folder = sweep.run({"model.name": value}, seed, val, val)
            sweep.curves(folder, [0.1, val])
    sweep.run({"model.name": hostile}, 3, status="failed", error={"type": "E", "message": hostile})
    loaded = resweep.load(sweep.finish())
    shown = [loaded._repr_html_(), loaded.plot.curves()._repr_html_(), loaded.run("run-006")._repr_html_()]
    assert all("<script" not in page for page in shown)
    assert "&lt;script&gt;" in shown[0] and "&lt;script&gt;" in shown[2]


def test_every_picture_of_a_sweep_can_be_drawn(known: Path) -> None:
    functions = {
        name
        for name, value in vars(plots).items()
        if inspect.isfunction(value) and list(inspect.signature(value).parameters) == ["table"]
    }
    assert set(PICTURES.values()) == functions, "a picture of the report is missing"
    sweep = resweep.load(known)
    assert dir(sweep.plot) == sorted(PICTURES)
    drawn = {name: getattr(sweep.plot, name)() for name in dir(sweep.plot)}
    assert {name for name, picture in drawn.items() if picture.svgs} >= {"curves", "settings", "cost", "gap"}
    for picture in drawn.values():
        page = picture._repr_html_()
        images = [b64decode(text).decode() for text in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", page)]
        assert images == picture.svgs
        assert all(image.startswith("<svg xmlns=") for image in images)


def test_a_picture_without_content_says_so(known: Path) -> None:
    picture = resweep.load(known).plot.heat_maps()  # no swept value is a number
    assert picture.svgs == [] and "nothing to draw" in picture._repr_html_()


def test_an_unknown_picture_is_named_with_the_nearest(known: Path) -> None:
    with pytest.raises(AttributeError, match=r"no picture 'curve'.*did you mean curves\?"):
        resweep.load(known).plot.curve()
    with pytest.raises(TypeError, match=r"plot\.curves\(\) takes no arguments.*sweep\.curves"):
        resweep.load(known).plot.curves("val/loss")
    with pytest.raises(TypeError, match=r"plot\.gap\(\) takes no arguments"):
        resweep.load(known).plot.gap(metric="val/loss")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    with pytest.raises(RequestError, match=r"no such folder  did you mean .*first"):
        resweep.load(tmp_path / "frist")
    with pytest.raises(RequestError, match=r"SWEEP_DIR=None: must be a path as text or .*, got NoneType"):
        resweep.load(None)

"""From a frozen config to objects: what is wrong is named before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL, TESTS, frozen

from resweep.build import (
    build_data,
    build_lit_module,
    build_loggers,
    build_net,
    build_trainer,
    component,
    prepare_imports,
    steps_per_epoch,
)
from resweep.callbacks import EpochRecorder, Silent
from resweep.data.datamodule import ImageDataModule
from resweep.errors import Problem, RequestError
from resweep.sweep.check import check_one
from resweep.sweep.plan import Plan
from resweep.tensorboard import RunLogger


def own_net(name: str) -> list[str]:
    return [f"model._target_=helpers.{name}", f"+allowed_targets.own=helpers.{name}", f"import_path={TESTS}"]


def problems(function: Any, *args: Any) -> list[Problem]:
    with pytest.raises(RequestError) as caught:
        function(*args)
    return caught.value.problems


@pytest.fixture(scope="module")
def data() -> ImageDataModule:
    return build_data(frozen())


def test_a_component_has_its_values_bound() -> None:
    make = component("optimizer", {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5, "no_decay": ["bias"]})
    made = make([torch.zeros(1, requires_grad=True)])
    assert type(made) is torch.optim.SGD and made.param_groups[0]["lr"] == 0.5


def test_every_unknown_argument_is_named_with_the_nearest_one() -> None:
    section = {"_target_": "torch.optim.SGD", "momentun": 0.9, "lr": 0.1, "qqqq": 1}
    first, second = problems(component, "optimizer", section)
    assert (first.key, first.value, first.nearest) == ("optimizer.momentun", "0.9", "optimizer.momentum")
    assert "torch.optim.SGD has no such argument" in first.message and "nesterov" in first.message
    assert (second.key, second.nearest) == ("optimizer.qqqq", None)


def test_a_target_that_takes_any_argument_is_trusted() -> None:
    assert component("own", {"_target_": "builtins.dict", "anything": 1})() == {"anything": 1}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("resweep.models.nosuch.Net", "nosuch"),
        ("resweep.models.resnet.NoSuchNet", "NoSuchNet"),
        ("no_such_package_at_all.Net", "no_such_package_at_all"),
        ("resweep..resnet", "No module named"),
    ],
)
def test_a_target_that_cannot_be_imported_is_named(target: str, words: str, caplog: pytest.LogCaptureFixture) -> None:
    (problem,) = problems(component, "model", {"_target_": target})
    assert (problem.key, problem.value) == ("model._target_", target)
    assert problem.message.startswith("cannot be imported: ") and "\n" not in problem.message
    assert words in problem.message and not caplog.records


def test_a_module_that_fails_while_it_is_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaks_on_import.py").write_text("import no_such_thing_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (problem,) = problems(component, "model", {"_target_": "breaks_on_import.Net"})
    assert "no_such_thing_here" in problem.message


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (["model.depth=9"], "model.depth", "9"),
        (["+model.stages=0"], "model.stages", "0"),
        (
            ["augment.flip=0.5", "augment._target_=resweep.data.augment.Augment", "augment.padding=-1"],
            "augment.padding",
            "-1",
        ),
    ],
)
def test_a_value_that_a_component_refuses_is_the_users_mistake(overrides: list[str], key: str, words: str) -> None:
    config = frozen()
    for text in overrides:
        name, value = text.lstrip("+").split("=")
        section, last = name.split(".")
        config[section][last] = value if last == "_target_" else float(value) if "." in value else int(value)

    def build() -> None:
        build_net(config, build_data(config))

    (problem,) = problems(build)
    assert problem.key == key and words in str(problem) and "Traceback" not in problem.message


def test_a_wrong_split_keeps_its_own_key() -> None:
    config = frozen()
    config["data"]["val_size"] = 99
    assert problems(build_data, config)[0].key == "data.val_size"


def test_the_net_fits_the_data_and_has_the_memory_order_asked_for(data: ImageDataModule) -> None:
    for channels_last in (True, False):
        net = build_net(frozen(f"channels_last={channels_last}"), data)
        kernel = net.blocks[0].conv1.weight
        assert kernel.is_contiguous(memory_format=torch.channels_last) is channels_last
        assert net(torch.zeros(2, *data.image_shape)).shape == (2, data.num_classes)


@pytest.mark.parametrize(("accumulated", "expected"), [(1, 4), (2, 2), (3, 2), (4, 1), (5, 1)])
def test_steps_of_an_epoch(data: ImageDataModule, accumulated: int, expected: int) -> None:
    assert steps_per_epoch(frozen(f"trainer.accumulate_grad_batches={accumulated}"), data) == expected


def test_the_classifier_gets_its_settings(data: ImageDataModule) -> None:
    config = frozen("regularizer=l1", "regularizer.l1=0.5", "loss.label_smoothing=0.25", "seed=7", "averaging=ema")
    module = build_lit_module(config, build_net(config, data), data)
    assert (module.regularizer.l1, module.loss.label_smoothing, module.seed) == (0.5, 0.25, 7)
    assert module.average is not None and module.lookahead is None and module.task.name == "multiclass"


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        (["optimizer=lbfgs", "trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches", "L-BFGS"),
        (["optimizer=lbfgs"], "data.batch_size", "set data.batch_size=80"),
        (["optimizer=lbfgs", "optimizer.layer_decay=0.5"], "optimizer.layer_decay", "one step of all layers"),
        (["optimizer=lbfgs", "trainer.gradient_clip_val=1"], "trainer.gradient_clip_val", "true gradients"),
        (["optimizer=lbfgs", "trainer.precision=16-mixed"], "trainer.precision", "bf16-mixed or 32-true"),
        (["optimizer=lbfgs", "regularizer=l1"], "regularizer.l1", "set regularizer.l1=0.0"),
        (["optimizer=lbfgs", "regularizer=sam"], "regularizer.sam_rho", "set regularizer.sam_rho=0.0"),
        (
            ["regularizer=sam", "trainer.accumulate_grad_batches=2"],
            "trainer.accumulate_grad_batches",
            "sharpness-aware",
        ),
        (["monitor=val/map"], "monitor", "there are val/loss, val/accuracy"),
        (["thresholds=0.3"], "thresholds", "one class per image"),
        (["diagnostics_every=5", "logger=none"], "diagnostics_every", "set logger=tensorboard"),
        (
            ["scheduler=onecycle", "scheduler.cycle_momentum=true", "optimizer=adagrad"],
            "scheduler.cycle_momentum",
            "momentum",
        ),
        (["augment=mixup", "data.batch_size=1"], "data.batch_size", "one image"),
        (["data.fold=2"], "data.fold", "num_folds"),
        (["data.num_folds=3"], "data.num_folds", "data.fold=range(0,3)"),
        (["data.num_folds=3", "data.fold=3"], "data.fold", "0"),
        (["loss=focal", "data.balance=weights"], "data.balance", "data.balance=sampling"),
        (["data.multilabel=true"], "loss", "set loss=bce"),
        (["data.multilabel=true", "loss=focal", "data.balance=weights"], "data.balance", "set loss=bce"),
        (["scheduler=plateau", "scheduler.monitor=val/map"], "scheduler.monitor", "there are val/loss, val/accuracy"),
        (["scheduler=plateau", "scheduler.mode=min"], "scheduler.mode", "set scheduler.mode=max"),
        (["data.multilabel=true", "loss=bce", "thresholds=[0.5,0.5]"], "thresholds", "10 labels"),
        (["data.multilabel=true", "loss=bce", "data.balance=sampling"], "data.balance", "data.balance=weights"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_starts(changes: list[str], key: str, words: str) -> None:
    config = frozen(*changes)
    with pytest.raises(RequestError) as caught:
        check_one(config)
    (problem,) = caught.value.problems
    assert problem.key == key and words in problem.message, problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["model=alexnet"], "needs at least 63x63"),
        (["model=torchvision", "model.name=squeezenet1_0"], "squeezenet1_0 needs at least 21x21"),
        (own_net("Coarse"), "it needs larger ones; 24x24 work: set data.image_size=24"),
        ([*own_net("Colour"), "data.channels=1"], "it has 3 input channels, data=fake has 1; set data.channels=3"),
    ],
)
def test_a_net_that_does_not_fit_the_images_says_what_would(
    plan: Callable[..., Plan], changes: list[str], words: str
) -> None:
    small = [word for word in SMALL if not word.startswith("model.")]
    with pytest.raises(RequestError) as caught:
        check_one(plan(*small, *changes).runs[0].config)
    (problem,) = caught.value.problems
    assert problem.key == "model" and words in problem.message, problem


def test_an_unknown_argument_of_the_trainer_is_named() -> None:
    config = frozen()
    config["trainer"]["max_epoch"] = 3
    (problem,) = problems(build_trainer, config, None, [], [])
    assert (problem.key, problem.value, problem.nearest) == ("trainer.max_epoch", "3", "trainer.max_epochs")


def test_a_refused_value_of_the_trainer_is_the_users_mistake() -> None:
    config = frozen()
    config["trainer"]["precision"] = "17-mixed"
    (problem,) = problems(build_trainer, config, None, [], [])
    assert problem.key == "trainer" and "17-mixed" in problem.message


def test_the_trainer_prints_nothing_of_its_own(tmp_path: Path) -> None:
    recorder = EpochRecorder(tmp_path, "val/accuracy", "max", Silent())
    trainer = build_trainer(frozen("trainer.max_epochs=7"), tmp_path, [recorder], [])
    assert trainer.max_epochs == 7 and trainer.logger is None and recorder in trainer.callbacks
    assert trainer.progress_bar_callback is None and trainer.num_sanity_val_steps == 0
    assert not any(tmp_path.iterdir())


def test_the_logger_writes_into_the_folder_of_the_run(tmp_path: Path) -> None:
    (logger,) = build_loggers(frozen(), tmp_path)
    assert isinstance(logger, RunLogger) and Path(logger.log_dir) == tmp_path
    assert build_loggers(frozen("logger=none"), tmp_path) == []


def test_modules_of_the_user_are_found_behind_installed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for _ in range(2):
        prepare_imports({"import_path": str(tmp_path)})
    assert sys.path.count(str(tmp_path)) == 1 and sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize(
    "target",
    [
        "resweep.data.sources.os.system",
        "resweep.data.sources.os",
        "resweep.data.image_folder.Path",
        "torch.nn.parallel.distributed.os.system",
        "torch.optim.optimizer.defaultdict",
        "torchvision.models._api.importlib.import_module",
        "pytorch_lightning.loggers.csv_logs.os.system",
    ],
)
def test_an_allowed_module_does_not_lead_to_what_it_imports(target: str) -> None:
    (problem,) = problems(component, "data.source", {"_target_": target})
    assert problem.key == "data.source._target_"
    assert "cannot be imported" in problem.message or "is not a class or function of" in problem.message


def test_what_a_config_allows_by_name_may_be_at_home_anywhere() -> None:
    assert component("model", {"_target_": "collections.OrderedDict"}, ["collections."])() == {}


def test_an_error_of_a_users_own_class_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net_that_fails.py").write_text("class Net:\n    def __init__(self, **_):\n        {}['boom']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = {"model": {"_target_": "own_net_that_fails.Net"}, "allowed_targets": {"net": "own_net_that_fails.Net"}}
    data = type("Data", (), {"num_classes": 2, "in_channels": 1})
    (problem,) = problems(build_net, {**config, "channels_last": False}, data)
    assert problem.message == "KeyError: 'boom' (own_net_that_fails.py, line 3)"

"""From a frozen config to objects: one function per part, used by training, evaluation and the check of a plan."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger
from torch import nn

from resweep.data.datamodule import ImageDataModule
from resweep.errors import Problem, RequestError, nearest_name
from resweep.lit_module import LitClassifier

Config = Mapping[str, Any]
# Arguments of Lightning's Trainer that would break what a record promises.
OWN_TRAINER_ARGUMENTS = frozenset({
    "barebones", "callbacks", "check_val_every_n_epoch", "default_root_dir", "enable_checkpointing",
    "enable_model_summary", "enable_progress_bar", "fast_dev_run", "limit_test_batches", "limit_train_batches",
    "limit_val_batches", "logger", "log_every_n_steps", "max_steps", "num_sanity_val_steps", "overfit_batches",
    "reload_dataloaders_every_n_epochs", "use_distributed_sampler", "val_check_interval",
})  # fmt: skip
# Keys of a component that this package reads itself instead of passing them on.
OWN_KEYS = ("_target_", "_partial_", "no_decay")


def component(key: str, section: Config) -> Callable[..., Any]:
    """Return the target of a config section with its values bound; a wrong argument is named before anything runs.

    Args:
        key: dotted key of the section, for messages.
        section: ``_target_`` and the keyword arguments. The target has passed the allow-list before.

    Raises:
        RequestError: the target cannot be imported or does not take one of the arguments.
    """
    name = section["_target_"]
    target = _located(f"{key}._target_", name)
    arguments = {argument: value for argument, value in section.items() if argument not in OWN_KEYS}
    taken = _keyword_names(target)
    problems = [
        Problem(f"{key}.{argument}", str(value), f"{name} has no such argument; it has {', '.join(taken)}",
                None if (near := nearest_name(argument, taken)) is None else f"{key}.{near}")
        for argument, value in arguments.items()
        if taken is not None and argument not in taken
    ]  # fmt: skip
    if problems:
        raise RequestError(problems)
    return functools.partial(target, **arguments)


def _located(key: str, name: str) -> Any:
    log = logging.getLogger("hydra.utils")
    log.disabled = True  # it prints what is raised as well
    try:
        return hydra.utils.get_object(name)
    except (ImportError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise RequestError(Problem(key, name, f"cannot be imported: {_last_line(cause)}")) from error
    finally:
        log.disabled = False


def _keyword_names(target: Any) -> list[str] | None:
    """Names a callable takes as keywords; None when it takes any or does not say."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _made(key: str, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a component; a value it refuses is the user's mistake, said without a traceback."""
    try:
        return make(*args, **kwargs)
    except (ValueError, TypeError) as error:
        raise RequestError(Problem(key, None, _last_line(error))) from error


def prepare_imports(config: Config) -> None:
    """Let modules of the user's own be found, behind everything that is installed."""
    if config["import_path"] not in sys.path:
        sys.path.append(config["import_path"])


def build_data(config: Config) -> ImageDataModule:
    """Load the images and split them.

    Raises:
        RequestError: the data is missing, unreadable or cannot be split as asked.
    """
    data = config["data"]
    source = _made("data", component("data.source", data["source"]))
    augment = _made("augment", component("augment", config["augment"]))
    keys = ("batch_size", "val_size", "test_size", "split_seed", "subset", "num_workers")
    return _made("data", ImageDataModule, source, augment, seed=config["seed"], **{key: data[key] for key in keys})


def build_net(config: Config, data: ImageDataModule) -> nn.Module:
    """Build the net for the data's channels and classes, initialized from the run's seed by the caller."""
    make = component("model", config["model"])
    net = _made("model", make, num_classes=data.num_classes, in_channels=data.in_channels)
    return net.to(memory_format=torch.channels_last if config["channels_last"] else torch.contiguous_format)


def steps_per_epoch(config: Config, data: ImageDataModule) -> int:
    """Return the optimizer steps of one epoch."""
    return math.ceil(len(data.train_dataloader()) / config["trainer"]["accumulate_grad_batches"])


def build_lit_module(config: Config, net: nn.Module, data: ImageDataModule) -> LitClassifier:
    """Put net, loss, optimizer and scheduler together."""
    optimizer = dict(config["optimizer"])
    weight_decay = optimizer.get("weight_decay", 0.0)
    per_epoch = steps_per_epoch(config, data)
    return LitClassifier(
        net,
        _made("loss", component("loss", config["loss"])),
        component("optimizer", optimizer),
        component("scheduler", config["scheduler"]),
        num_classes=data.num_classes,
        total_steps=per_epoch * config["trainer"]["max_epochs"],
        steps_per_epoch=per_epoch,
        seed=config["seed"],
        weight_decay=weight_decay,
        no_decay=tuple(optimizer.get("no_decay", ())),
        l1=config["regularizer"]["l1"],
    )


def build_trainer(config: Config, run_dir: Path | None, callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    """Build Lightning's Trainer; its bars and summaries are replaced by this package's own output."""
    given = dict(config["trainer"])
    own = [name for name in given if name in OWN_TRAINER_ARGUMENTS]
    if own:
        message = "cannot be set: records, schedules and resuming rely on whole epochs with a validation after each"
        raise RequestError(Problem(f"trainer.{name}", str(given[name]), message) for name in own)
    taken = _keyword_names(Trainer.__init__) or _keyword_names(inspect.unwrap(Trainer.__init__)) or []
    problems = [
        Problem(f"trainer.{name}", str(value), "Lightning's Trainer has no such argument",
                None if (near := nearest_name(name, taken)) is None else f"trainer.{near}")
        for name, value in given.items()
        if name not in taken
    ]  # fmt: skip
    if problems:
        raise RequestError(problems)
    fixed: dict[str, Any] = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": bool(callbacks),
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 0,  # rows are written per epoch by EpochRecorder
        "default_root_dir": run_dir,
        "callbacks": callbacks,
        "logger": loggers or False,
    }
    return _made("trainer", Trainer, **{**fixed, **given})


def build_loggers(config: Config, run_dir: Path) -> list[Logger]:
    """Build the chosen logger, writing into the run's folder; none when the choice has no target."""
    section = dict(config["logger"])
    if section["_target_"] is None:
        return []
    section["save_dir"] = str(run_dir)
    return [_made("logger", component("logger", section))]

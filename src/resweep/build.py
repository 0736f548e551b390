"""From a frozen config to objects: one function per part, used by training, evaluation and the check of a plan."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import re
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from resweep.data.base import Source
from resweep.data.datamodule import ImageDataModule
from resweep.errors import Problem, RequestError, nearest_name
from resweep.lit_module import LitClassifier
from resweep.losses import check_loss
from resweep.optim.closures import check_closures, check_full_batch
from resweep.optim.param_groups import param_groups
from resweep.optim.regularizer import Regularizer
from resweep.optim.schedules import make_scheduler, scheduler_configs
from resweep.ranking import UNDECIDED
from resweep.schema import covers
from resweep.tasks import Task, task_for

Config = Mapping[str, Any]
# Arguments of Lightning's Trainer that would break what a record promises.
OWN_TRAINER_ARGUMENTS = frozenset({
    "barebones", "callbacks", "check_val_every_n_epoch", "default_root_dir", "enable_checkpointing",
    "enable_model_summary", "enable_progress_bar", "fast_dev_run", "limit_test_batches", "limit_train_batches",
    "limit_val_batches", "logger", "log_every_n_steps", "max_steps", "max_time", "min_epochs", "min_steps", "num_nodes",
    "num_sanity_val_steps", "overfit_batches", "plugins", "reload_dataloaders_every_n_epochs", "strategy",
    "use_distributed_sampler", "val_check_interval",
})  # fmt: skip
# Keys of the data section that the datamodule takes; the source's own are below data.source.
DATA_KEYS = (
    "batch_size", "val_size", "test_size", "split_seed", "subset", "num_workers", "num_folds", "fold", "label_noise",
    "balance", "image_size", "channels",
)  # fmt: skip
# Keys of a component that this package reads itself instead of passing them on.
OWN_KEYS = {"optimizer": ("no_decay", "layer_decay"), "scheduler": ("interval",)}
# The same for a target that does not name them itself.
ALSO_OWN = {"scheduler": ("monitor",)}
# Top-level packages that an extra of this package installs.
EXTRAS = {"timm": "timm", "pytorch_optimizer": "optimizers", "mlflow": "mlflow", "wandb": "wandb"}


def allowed(config: Config) -> list[str]:
    """Return the targets that a config allows by name, besides those of the package."""
    return list((config.get("allowed_targets") or {}).values())


def component(key: str, section: Config, allowed: Collection[str] = ()) -> Callable[..., Any]:
    """Return the target of a config section with its values bound; a wrong argument is named before anything runs.

    Args:
        key: dotted key of the section, for messages.
        section: ``_target_`` and the keyword arguments. The target has passed the allow-list before.
        allowed: targets that the config allows by name.

    Raises:
        RequestError: the target cannot be imported or does not take one of the arguments.
    """
    name = section["_target_"]
    target = _located(f"{key}._target_", name, allowed)
    taken = _keyword_names(target)
    own = ["_target_", "_partial_", *OWN_KEYS.get(key, ())]
    own += [name for name in ALSO_OWN.get(key, ()) if taken is not None and name not in taken]
    arguments = {argument: value for argument, value in section.items() if argument not in own}
    problems = [
        Problem(f"{key}.{argument}", str(value), f"{name} has no such argument; it has {', '.join(taken)}",
                None if (near := nearest_name(argument, taken)) is None else f"{key}.{near}")
        for argument, value in arguments.items()
        if taken is not None and argument not in taken
    ]  # fmt: skip
    if problems:
        raise RequestError(problems)
    return functools.partial(target, **arguments)


def _located(key: str, name: str, allowed: Collection[str]) -> Any:
    """Import a target. Outside what a config allows by name, a class or function counts only where it is at home.

    Otherwise an allowed module would lead to everything that it imports.
    """
    module, _, attribute = name.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError, AttributeError) as error:
        extra = EXTRAS.get((getattr(error, "name", None) or "").split(".")[0])
        remedy = "" if extra is None else f"; install it: pip install 'resweep[{extra}]'"
        raise RequestError(Problem(key, name, f"cannot be imported: {_last_line(error)}{remedy}")) from error
    home = getattr(target, "__module__", None) or ""
    named = any(covers(entry, name) for entry in allowed)
    if not callable(target) or not (named or home.split(".")[0] == module.split(".")[0]):
        message = f"is not a class or function of {module.split('.')[0]}"
        raise RequestError(Problem(key, name, message))
    return target


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
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise RequestError(refused(error, {key: getattr(make, "keywords", None) or kwargs})) from error
    except RequestError:
        raise
    except Exception as error:  # of a class of the user's own, most likely: say where
        raise RequestError(Problem(key, None, where(error))) from error


def refused(error: Exception, sections: Mapping[str, Collection[str]]) -> Problem:
    """Return the problem that an error tells as ``name=value: what is allowed; did you mean x?``.

    Args:
        error: what a part was refused with.
        sections: the arguments that it may be about, by the dotted key of their section.
    """
    text = _last_line(error)
    told = re.fullmatch(r"(\w+)=(.*?): (.+?)(?:; did you mean (\S+?)\?)?", text)
    for key, names in sections.items():
        if told is not None and (told[1] in names or told[1] == key):
            name = key if told[1] == key else f"{key}.{told[1]}"
            return Problem(name, told[2], told[3], None if told[4] is None else f"{name}={told[4]}")
    return Problem(", ".join(sections), None, text)


def where(error: Exception) -> str:
    """Return an exception's type, words, file and line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {_last_line(error)} ({Path(frame.filename).name}, line {frame.lineno})"


def prepare_imports(config: Config) -> None:
    """Let modules of the user's own be found, behind everything that is installed."""
    if config["import_path"] not in sys.path:
        sys.path.append(config["import_path"])


def build_source(config: Config) -> Source:
    """Load the images of a data set; nothing but the section ``data.source`` decides which.

    Raises:
        RequestError: the data is missing or unreadable.
    """
    return _made("data", component("data.source", config["data"]["source"], allowed(config)))


def build_data(config: Config, source: Source | None = None) -> ImageDataModule:
    """Split the images of a data set, and put them together with the augmentation.

    Args:
        config: a frozen config.
        source: the images, where they have been loaded for the same section ``data.source`` before; else they are now.

    Raises:
        RequestError: the data is missing, unreadable or cannot be split as asked.
    """
    data = config["data"]
    source = build_source(config) if source is None else source
    augment = _made("augment", component("augment", config["augment"], allowed(config)))
    settings = {key: data[key] for key in DATA_KEYS if key in data}
    return _made("data", ImageDataModule, source, augment, seed=config["seed"], **settings)


def build_net(config: Config, data: ImageDataModule) -> nn.Module:
    """Build the net for the data's channels, classes and image size, initialized from the run's seed by the caller."""
    make = component("model", config["model"], allowed(config))
    facts: dict[str, Any] = {"num_classes": data.num_classes, "in_channels": data.in_channels}
    if "image_size" in (_keyword_names(make.func) or ()):
        facts["image_size"] = tuple(data.image_shape[1:])
    net = _made("model", make, **facts)
    return net.to(memory_format=torch.channels_last if config["channels_last"] else torch.contiguous_format)


def build_task(config: Config, data: ImageDataModule) -> Task:
    """Return what the labels of the data mean.

    Raises:
        RequestError: ``thresholds`` or ``monitor`` is for labels, and the data has classes.
    """
    task = _made("thresholds", task_for, data.train.labels, data.num_classes, config.get("thresholds", UNDECIDED))
    measured = [f"val/{name}" for name in ("loss", "accuracy", *task.further_metrics)]
    chosen = {"monitor": config["monitor"], "scheduler.monitor": config["scheduler"].get("monitor", config["monitor"])}
    for key in (key for key, name in chosen.items() if name not in measured):
        names = ", ".join(measured)
        message = f"is not measured after an epoch of {task.name} training; there are {names}"
        raise RequestError(Problem(key, chosen[key], message))
    return task


def build_loss(config: Config, data: ImageDataModule, task: Task) -> nn.Module:
    """Build the loss of training, with the weights of the classes where they are asked for."""
    section = dict(config["loss"])
    make = component("loss", section, allowed(config))
    taken = _keyword_names(make.func) or ()
    given: dict[str, Any] = {}
    if "multilabel" in taken and task.name == "multilabel":
        given["multilabel"] = True
    if data.class_weights is not None:
        multilabel = task.name == "multilabel"
        name = "weight" if "weight" in taken and not multilabel else "pos_weight"
        if name not in taken or section.get(name) is not None:
            message = f"loss={config['choices']['loss']} takes no weights of this data's classes"
            remedy = "loss=bce" if multilabel else "data.balance=sampling"
            raise RequestError(Problem("data.balance", "weights", f"{message}; set {remedy}"))
        given[name] = data.class_weights
    loss = _made("loss", make, **given)
    check_loss(loss, task, mixes=data.augment.mixes)
    return loss


def steps_per_epoch(config: Config, data: ImageDataModule) -> int:
    """Return the optimizer steps of one epoch."""
    return math.ceil(data.train_batches / config["trainer"]["accumulate_grad_batches"])


def build_lit_module(config: Config, net: nn.Module, data: ImageDataModule) -> LitClassifier:
    """Put net, loss, optimizer, schedule, regularizer and averaging together."""
    task = build_task(config, data)
    regularizer = Regularizer(**config["regularizer"])
    make_optimizer, make_schedules = _optimizer(config, data), _schedules(config, data)
    return _made(
        "averaging", LitClassifier, net, build_loss(config, data, task), make_optimizer, make_schedules,
        task=task, seed=config["seed"], regularizer=regularizer, **config.get("averaging", {}),
    )  # fmt: skip


def _optimizer(config: Config, data: ImageDataModule) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Return what makes the optimizer for a net, over its parameter groups."""
    section = config["optimizer"]
    make = component("optimizer", section, allowed(config))
    check_closures(config, make.func)
    check_full_batch(config, make.func, len(data.train))

    def optimizer(net: nn.Module) -> torch.optim.Optimizer:
        groups = param_groups(
            net,
            section.get("weight_decay", 0.0),
            tuple(section.get("no_decay", ())),
            section.get("lr"),
            section.get("layer_decay", 1.0),
        )
        return make(groups, net=net) if getattr(make.func, "needs_net", False) else make(groups)

    return optimizer


def _schedules(config: Config, data: ImageDataModule) -> Callable[[torch.optim.Optimizer], list[dict[str, Any]]]:
    """Return what makes the schedules of an optimizer."""
    section, per_epoch = config["scheduler"], steps_per_epoch(config, data)
    make = component("scheduler", section, allowed(config))
    interval = section.get("interval", "step")

    def schedules(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        total = per_epoch * config["trainer"]["max_epochs"]
        made = make_scheduler(make, optimizer, total, per_epoch, interval)
        monitor = section.get("monitor", config["monitor"])
        return scheduler_configs(made, interval, monitor)

    return schedules


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
        "plugins": [LightningEnvironment()],  # a run is one process, also within a job of a cluster
        "deterministic": torch.cuda.is_available(),  # the same numbers again; a processor gives them anyway
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
    return [_made("logger", component("logger", section, allowed(config)))]

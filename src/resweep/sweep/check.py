"""The last check of a plan, with torch loaded: every distinct combination is built once before the first run starts."""

from __future__ import annotations

import functools
import json
import logging
import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from resweep.build import (
    allowed,
    build_data,
    build_lit_module,
    build_net,
    build_source,
    build_trainer,
    component,
    prepare_imports,
    refused,
    where,
)
from resweep.data.base import Source
from resweep.data.datamodule import ImageDataModule
from resweep.errors import Problem, RequestError

PARTS = ("model", "optimizer", "scheduler", "loss", "trainer", "regularizer", "averaging", "monitor", "thresholds")
SIDES = (16, 24, 28, 32, 48, 64, 96, 128, 224, 256, 299)  # tried in turn for a net that needs larger images


def check_buildable(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Load each distinct data set once and build each distinct net, optimizer, schedule and trainer.

    Args:
        configs: frozen configs.

    Returns:
        Facts for the plan's display: images per split, classes and parameters of the first run.

    Raises:
        RequestError: with every problem found.
    """
    problems: list[Problem] = []
    facts: dict[str, Any] = {}
    for same_source in _distinct(configs, ("data.source",)):
        try:
            prepare_imports(same_source[0])
            source = build_source(same_source[0])
        except RequestError as error:
            problems += error.problems
            continue
        for same_data in _distinct(same_source, ("data", "augment")):
            found = _check_data(same_data, source, problems)
            facts = facts or found
    if problems:
        raise RequestError(dict.fromkeys(problems))
    return facts


def check_one(config: dict[str, Any]) -> ImageDataModule:
    """Build everything that one run needs and return its data, so that it is loaded once.

    Raises:
        RequestError: something cannot be built.
    """
    prepare_imports(config)
    with _quiet():
        data = build_data(config)
        _build(config, data)
    return data


def _check_data(configs: Sequence[dict[str, Any]], source: Source, problems: list[Problem]) -> dict[str, Any]:
    """Build what differs between configs of the same data; add what is wrong and return facts of the first run."""
    facts: dict[str, Any] = {}
    try:
        prepare_imports(configs[0])
        data = build_data(configs[0], source)
    except RequestError as error:
        problems += error.problems
        return facts
    for config in (same[0] for same in _distinct(configs, PARTS)):
        try:
            with _quiet():
                parameters = _build(config, data)
        except RequestError as error:
            problems += error.problems
            continue
        facts = facts or {
            "train": len(data.train), "val": len(data.val), "test": len(data.test),
            "classes": data.num_classes, "parameters": parameters,
        }  # fmt: skip
    return facts


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's device lines and tips off the screen; they are in the log of each run."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _build(config: dict[str, Any], data: ImageDataModule) -> int:
    net = build_net(config, data)
    lit_module = build_lit_module(config, net, data)
    if config["logger"]["_target_"] is not None:
        component("logger", config["logger"], allowed(config))
    elif config.get("diagnostics_every") is not None:
        message = "has no logger to write to; set logger=tensorboard"
        raise RequestError(Problem("diagnostics_every", str(config["diagnostics_every"]), message))
    build_trainer(config, None, [], [])
    try:
        lit_module.configure_optimizers()
    except (ValueError, TypeError) as error:
        sections = {"optimizer": config["optimizer"], "scheduler": config["scheduler"]}
        raise RequestError(refused(error, sections)) from error
    logits = _logits(config, net, data)
    if tuple(logits.shape) != (2, data.num_classes) or not math.isfinite(float(logits.sum())):
        message = f"gives an output of shape {tuple(logits.shape)} for 2 images and {data.num_classes} classes"
        raise RequestError(Problem("model", config["choices"]["model"], message))
    return sum(parameter.numel() for parameter in net.parameters())


def _logits(config: dict[str, Any], net: nn.Module, data: ImageDataModule) -> Tensor:
    """Let a net see two black images; one that cannot take them is refused with what to set."""
    try:
        return _seen(net, data.image_shape)
    except Exception as error:  # whatever the net raises
        shape = "x".join(str(side) for side in data.image_shape)
        message = f"does not take {shape} images: {_advice(config, net, data) or where(error)}"
        raise RequestError(Problem("model", config["choices"]["model"], message)) from error


@torch.no_grad()
def _seen(net: nn.Module, shape: Sequence[int]) -> Tensor:
    return net.eval()(torch.zeros(2, *shape))


def _advice(config: dict[str, Any], net: nn.Module, data: ImageDataModule) -> str | None:
    """Find out what a net that refuses the data's images would take: other channels, or larger images."""
    channels, *size = data.image_shape
    name = config["choices"]["data"]
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != channels:
        wanted = first.in_channels
        return f"it has {wanted} input channels, data={name} has {channels}; set data.channels={wanted}"
    for side in SIDES:
        if side > max(size) and _takes(net, (channels, side, side)):
            return f"it needs larger ones; {side}x{side} work: set data.image_size={side}, or choose another model"
    return None


def _takes(net: nn.Module, shape: Sequence[int]) -> bool:
    try:
        _seen(net, shape)
    except Exception:  # any refusal means no; the caller reports the first one
        return False
    return True


def _distinct(configs: Sequence[dict[str, Any]], keys: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """Group configs that agree in the sections of the given dotted keys."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for config in configs:
        groups.setdefault(json.dumps([_section(config, key) for key in keys], default=str), []).append(config)
    return list(groups.values())


def _section(config: dict[str, Any], key: str) -> Any:
    return functools.reduce(operator.getitem, key.split("."), config)

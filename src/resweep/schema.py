"""What every config key may hold: checked before anything heavy is imported.

Keys the package relies on have a rule of their own; arguments that several components share (learning rate, dropout,
...) have one by their last name; every other key keeps the type its choice's file gives it. Targets that may be
instantiated are limited to a list that a config extends by name (``allowed_targets``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resweep.config import flatten
from resweep.errors import Problem, nearest_key

ALLOWED_TARGETS = (
    "resweep.data.", "resweep.losses.", "resweep.models.", "resweep.optim.", "resweep.tensorboard.", "resweep.loggers.",
    "torch.optim.", "torch.nn.", "torchvision.models.", "pytorch_lightning.loggers.",
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """What a value must be.

    Args:
        text: the allowed values in words, as the error message says them.
        accepts: true for an allowed value; it is given any plain value.
    """

    text: str
    accepts: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def whole(least: int, most: int | None = None) -> Rule:
    """Return the rule for a whole number in [least, most]."""
    text = f"must be a whole number, at least {least}" + ("" if most is None else f" and at most {most}")
    return Rule(text, lambda value: _is_whole(value) and value >= least and (most is None or value <= most))


def number(least: float, below: float | None = None, *, positive: bool = False) -> Rule:
    """Return the rule for a finite number in [least, below), or above zero when ``positive``."""
    text = "must be a number above 0" if positive else f"must be a number, at least {least:g}"
    text += "" if below is None else f" and below {below:g}"

    def accepts(value: Any) -> bool:
        return _is_number(value) and value >= least and (below is None or value < below) and not (
            positive and value <= 0
        )  # fmt: skip

    return Rule(text, accepts)


def one_of(*names: str) -> Rule:
    """Return the rule for a choice among names."""
    return Rule(f"must be one of {', '.join(names)}", lambda value: value in names)


def or_null(rule: Rule) -> Rule:
    """Return the rule that also admits null."""
    return Rule(f"{rule.text}, or null", lambda value: value is None or rule.accepts(value))


CHANNELS = Rule("must be 1 or 3", lambda value: _is_whole(value) and value in (1, 3))
FACTOR = Rule("must be a number above 0 and at most 1", lambda value: _is_number(value) and 0 < value <= 1)
FLAG = Rule("must be true or false", lambda value: isinstance(value, bool))
TEXT = Rule("must be text", lambda value: isinstance(value, str) and value != "")
NUMBER = Rule("must be a number", _is_number)
WHOLE = Rule("must be a whole number", _is_whole)
SHARE = Rule(
    "must be a share between 0 and 1, or a number of images of at least 2",
    lambda value: (_is_whole(value) and value >= 2) or (isinstance(value, float) and 0 < value < 1),
)
NAME = Rule(
    "must be a folder name without / and not starting with a dot",
    lambda value: isinstance(value, str) and value != "" and "/" not in value and not value.startswith("."),
)
PAIR = Rule(
    "must be two numbers, each at least 0 and below 1",
    lambda value: isinstance(value, list) and len(value) == 2 and all(_is_number(v) and 0 <= v < 1 for v in value),
)
DEVICES = Rule(
    "must be a list of devices, each once, as in [0,1]",
    lambda value: isinstance(value, list) and value != [] and len({str(v) for v in value}) == len(value),
)
SEEDS = Rule(
    "must be a list of seeds, each once, as in [0,1,2]",
    lambda value: (
        isinstance(value, list)
        and value != []
        and all(_is_whole(seed) and 0 <= seed < 2**32 for seed in value)
        and len(set(value)) == len(value)
    ),
)
METRIC = one_of("val/accuracy", "val/loss", "val/f1", "val/map")
OPEN_SHARE = Rule("must be a number above 0 and below 1", lambda value: _is_number(value) and 0 < value < 1)
THRESHOLDS = Rule(
    "must be a number above 0 and below 1, a list of them with one per label, or the word validation",
    lambda value: (
        value == "validation"
        or OPEN_SHARE.accepts(value)
        or (isinstance(value, list) and value != [] and all(map(OPEN_SHARE.accepts, value)))
    ),
)
SEARCHES = ("random", "tpe", "halton", "sobol", "gp", "nsga2")

RULES: dict[str, Rule] = {
    "seed": whole(0, 2**32 - 1),
    "threads": whole(1),
    "channels_last": FLAG,
    "runs_dir": TEXT,
    "sweep_name": or_null(NAME),
    "monitor": METRIC,
    "monitor_mode": one_of("min", "max"),
    "data.content": or_null(TEXT),
    "checkpoint_every": whole(1),
    "thresholds": THRESHOLDS,
    "diagnostics_every": or_null(whole(1)),
    "import_path": or_null(TEXT),
    "logger.histograms_every": or_null(whole(1)),
    "data.name": TEXT,
    "data.batch_size": whole(1),
    "data.val_size": SHARE,
    "data.test_size": or_null(SHARE),
    "data.split_seed": whole(0, 2**32 - 1),
    "data.subset": or_null(SHARE),
    "data.num_workers": whole(0),
    "data.root": or_null(TEXT),
    "data.image_size": or_null(whole(1)),
    "data.channels": or_null(CHANNELS),
    "data.num_folds": or_null(whole(2)),
    "data.fold": or_null(whole(0)),
    "data.label_noise": number(0, 1),
    "data.balance": or_null(one_of("sampling", "weights")),
    "optimizer.layer_decay": FACTOR,
    "scheduler.monitor": METRIC,
    "scheduler.interval": one_of("step", "epoch"),
    "regularizer.l1": number(0),
    "regularizer.max_norm": or_null(number(0, positive=True)),
    "regularizer.sam_rho": number(0),
    "regularizer.sam_adaptive": FLAG,
    "averaging.ema_decay": or_null(OPEN_SHARE),
    "averaging.lookahead_steps": whole(0),
    "averaging.lookahead_alpha": FACTOR,
    "trainer.max_epochs": whole(1),
    "trainer.devices": Rule(
        "must be 1, or a list with one device's number: a run uses one device",
        lambda value: (value == 1 and _is_whole(value)) or (isinstance(value, list) and len(value) == 1),
    ),
    "trainer.accumulate_grad_batches": whole(1),
    "trainer.gradient_clip_val": or_null(number(0, positive=True)),
    "executor.name": one_of("local", "slurm", "ray"),
    "executor.workers": or_null(whole(1)),
    "executor.devices": or_null(DEVICES),
    "executor.runs_per_device": whole(1),
    "executor.retries": whole(0),
    "executor.timeout": or_null(number(0, positive=True)),
    "executor.fail_fast": or_null(whole(1)),
    "executor.partition": or_null(TEXT),
    "executor.account": or_null(TEXT),
    "executor.time": or_null(whole(1)),
    "executor.cpus_per_task": whole(1),
    "executor.memory": or_null(TEXT),
    "executor.gpus_per_node": or_null(whole(1)),
    "executor.signal_delay_s": whole(0),
    "executor.poll_seconds": number(0, positive=True),
    "executor.address": or_null(TEXT),
    "executor.cpus_per_run": number(0, positive=True),
    "executor.gpus_per_run": or_null(number(0)),
    "search.name": one_of("grid", *SEARCHES),
    "search.trials": whole(1),
    "search.seed": whole(0, 2**32 - 1),
    "search.seeds": or_null(SEEDS),
    "search.pruner": or_null(one_of("asha", "hyperband", "median")),
    "search.min_epochs": whole(1),
    "search.reduction_factor": whole(2),
    "search.storage": or_null(TEXT),
    "search.sampler": Rule("must be a mapping of arguments", lambda value: isinstance(value, Mapping)),
}
# By the last name of a key, in whatever component it stands.
ARGUMENT_RULES: dict[str, Rule] = {
    "lr": number(0),
    "weight_decay": number(0),
    "momentum": number(0, 1),
    "dampening": number(0, 1),
    "alpha": number(0, 1),
    "betas": PAIR,
    "rho": number(0, 1),
    "adamw_lr": or_null(number(0)),
    "adjust_lr_fn": one_of("original", "match_rms_adamw"),
    "ns_dtype": one_of("auto", "bfloat16", "float32"),
    "ns_steps": whole(1),
    "line_search_fn": or_null(one_of("strong_wolfe")),
    "history_size": whole(1),
    "max_iter": whole(1),
    "max_eval": or_null(whole(1)),
    "matrix_eps": number(0, positive=True),
    "precondition_frequency": whole(1),
    "eps": number(0, positive=True),
    "dropout": or_null(number(0, 1)),
    "stochastic_depth": number(0, 1),
    "input_dropout": number(0, 1),
    "freeze": Rule(
        "must be none, features or a number of layer groups, at least 0",
        lambda value: value in ("none", "features") or (_is_whole(value) and value >= 0),
    ),
    "pretrained": Rule(
        "must be true, false or the path of a file",
        lambda value: isinstance(value, bool) or (isinstance(value, str) and value != ""),
    ),
    "label_smoothing": number(0, 1),
    "target_threshold": or_null(number(0, 1)),
    "gamma": number(0, positive=True),
    "warmup": number(0),
    "flip": Rule("must be a probability between 0 and 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "cutout": Rule(
        "must be 0 for off, a whole number of pixels, or a share of the shorter side above 0 and below 1",
        lambda value: _is_number(value) and (0 <= value < 1 or (_is_whole(value) and value >= 1)),
    ),
    "crop_padding": whole(0),
    "crop_pct": Rule("must be a share above 0, at most 1", lambda value: _is_number(value) and 0 < value <= 1),
    "depth": whole(1),
    "width": whole(1),
    "widen_factor": whole(1),
    "num_classes": whole(2),
    "channels": CHANNELS,
}
COMPONENTS = ("model", "optimizer", "scheduler", "loss", "augment")


def check(config: Mapping[str, Any], reference: Mapping[str, Any]) -> list[Problem]:
    """Return every problem of a frozen config, best first to read.

    Args:
        config: frozen config (plain values).
        reference: flat, unresolved config of the same group choices without any value changed; gives the type of
            keys that have no rule, and the names that exist.
    """
    checked = (_check_value(key, value, reference) for key, value in flatten(config).items())
    problems = [problem for problem in checked if problem is not None]
    return problems + check_targets(config)


def _check_value(key: str, value: Any, known: Mapping[str, Any]) -> Problem | None:
    if key.startswith(("choices.", "allowed_targets")):
        return None
    above = key.rpartition(".")[0]
    if above in known and known[above] is not None and known[above] != {}:
        return Problem(above, None, f"is a value and has no keys below it, got {key}={value}")
    rule = RULES.get(key) or _argument_rule(key)
    if rule is None and key not in known:
        below = [name.removeprefix(f"{key}.") for name in known if name.startswith(f"{key}.")]
        if below:
            return Problem(key, str(value), f"is a section; give one of its keys: {', '.join(below)}")
        if key.startswith(
            (
                *(f"{name}." for name in COMPONENTS),
                "trainer.",
                "logger.",
                "data.source.",
                "search.sampler.",
                "executor.additional_parameters.",
                "executor.resources.",
            )
        ):
            return None  # an argument added with +, checked against the signature when the parts are built
        names = [name for name in known if not name.startswith("hydra.")]
        return Problem(key, str(value), not_a_key(key, names), nearest_key(key, names))
    if rule is None:
        rule = rule_of_default(known[key])
    if rule is not None and not rule.accepts(value):
        return Problem(key, str(value), f"{rule.text}, got {value!r}")
    return None


def not_a_key(key: str, known: Iterable[str]) -> str:
    """Return what is wrong with a key that does not exist, with the names that its place has."""
    section, names = key.rpartition(".")[0], list(known)
    below = [name[len(section) + 1 :] for name in names if section and name.startswith(f"{section}.")]
    if section == "search" and key in RULES:
        return f"is not for search=grid, which takes every combination; it is a key of search={', '.join(SEARCHES)}"
    if below:
        shown = ", ".join(name for name in below if not name.startswith(("_", "source.")))
        return f"is not a key of the chosen {section}; it has {shown}"
    return f"is not a key of the config; it has {', '.join(dict.fromkeys(name.split('.', 1)[0] for name in names))}"


def _argument_rule(key: str) -> Rule | None:
    return ARGUMENT_RULES.get(key.rsplit(".", 1)[-1]) if "." in key else None


def rule_of_default(default: Any) -> Rule | None:
    """Return the rule that a value keeps the type of its default; None where any value may stand."""
    if isinstance(default, str) and ("${" in default or default == "???"):
        return None  # takes the value, and the type, of another key or of the user
    if isinstance(default, bool):
        return FLAG
    if isinstance(default, int):
        return WHOLE
    if isinstance(default, float):
        return NUMBER
    if isinstance(default, str):
        return Rule("must be text", lambda value: isinstance(value, str))
    if isinstance(default, list):
        return Rule("must be a list", lambda value: isinstance(value, list))
    return None  # null in the file: whatever the component takes


def check_targets(config: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for every target of a config that the allow-list does not let pass."""
    extra = config.get("allowed_targets") or {}
    if not isinstance(extra, Mapping) or not all(isinstance(value, str) for value in extra.values()):
        message = "must map names to module.Class, or to a module with a dot behind"
        return [Problem("allowed_targets", str(extra), message)]
    allowed = (*ALLOWED_TARGETS, *extra.values())
    problems = []
    for key, target in flatten(config).items():
        if key.rsplit(".", 1)[-1] != "_target_" or target is None:
            continue
        if not isinstance(target, str) or not any(covers(entry, target) for entry in allowed):
            message = (
                f"is not a target that configs may name; allowed are {'*, '.join(ALLOWED_TARGETS)}* "
                f"and what is added by name: +allowed_targets.NAME={target}"
            )
            problems.append(Problem(key, str(target), message))
    return problems


def covers(entry: str, target: str) -> bool:
    """Whether an entry of the allow-list, a target or a module with a dot behind, lets a target pass."""
    return target.startswith(entry) if entry.endswith(".") else target == entry

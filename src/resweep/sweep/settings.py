"""Where and how a sweep is carried out: the sections that may change between one command and the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from resweep.config import compose, config_loader, flatten, nested
from resweep.errors import Problem, RequestError, nearest_key
from resweep.schema import RULES, not_a_key
from resweep.sweep.overrides import parse


def with_overrides(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a sweep's settings with another executor or other values for it.

    Args:
        settings: nested sections, ``executor`` among them.
        overrides: ``executor=NAME`` and ``executor.KEY=VALUE``.

    Raises:
        RequestError: with every override that is not about the executor, or not allowed.
    """
    with config_loader() as loader:
        parsed = parse(loader, overrides)
        problems = list(parsed.problems)
        named = [o for o in parsed.groups if o.key_or_group == "executor"]
        flat = flatten({"executor": settings["executor"]})
        if named and not problems:
            composed = compose(loader, [named[-1].input_line])
            flat = flatten({"executor": OmegaConf.to_container(composed.executor)})
    others = [o for o in [*parsed.groups, *parsed.values] if o.key_or_group.split(".")[0] != "executor"]
    message = "cannot be changed any more: a planned sweep keeps its runs; executor and executor.KEY may change"
    more = "is raised by giving the sweep's own command again, with more"
    problems += [
        Problem(o.key_or_group, o.input_line.partition("=")[2], more if o.key_or_group == "search.trials" else message)
        for o in others
    ]
    for override in parsed.values:
        key, value = override.key_or_group, override.value()
        if override in others:
            continue
        if override.is_sweep_override():
            problems.append(Problem(key, override.input_line.partition("=")[2], "has several values; give one"))
            continue
        rule = RULES.get(key)
        if key not in flat and not key.startswith("executor.additional_parameters."):
            problems.append(Problem(key, str(value), not_a_key(key, flat), nearest_key(key, flat)))
        elif rule is not None and not rule.accepts(value):
            problems.append(Problem(key, str(value), f"{rule.text}, got {value!r}"))
        flat[key] = value
    if problems:
        raise RequestError(problems)
    return {**settings, **nested(flat)}

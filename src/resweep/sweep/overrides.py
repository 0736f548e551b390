"""Hydra's override grammar: parsed, sorted into group choices and values, and checked against the groups there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from resweep.config import AXES, flatten
from resweep.errors import Problem, nearest_key, nearest_name
from resweep.schema import RULES, not_a_key

# Keys that every run reads, besides those with a rule: they cannot be deleted with ~KEY.
NEEDED = ("data.source", "trainer.accelerator", "trainer.precision")
# The plain value, the override text that sets it, and the override it comes from.
Setting = tuple[Any, str, Override]


@dataclass(frozen=True)
class Parsed:
    """Override texts, parsed and sorted.

    Args:
        groups: choices of config groups, and Hydra's own overrides: what a config is composed with.
        values: what is set in the composed config.
        problems: texts that cannot be parsed, wrong choices, axes that are given twice.
        repaired: texts of group overrides with a wrong choice, and their settings with the nearest choice instead, so
            that the rest of the request can be checked.
    """

    groups: list[Override]
    values: list[Override]
    problems: list[Problem]
    repaired: dict[str, list[Setting]] = field(default_factory=dict)


def parse(loader: ConfigLoader, overrides: Sequence[str]) -> Parsed:
    """Parse override texts and check the choices they name.

    Args:
        loader: knows the groups and their choices.
        overrides: Hydra's override grammar.
    """
    parser = OverridesParser.create(config_loader=loader)
    known_groups = _groups(loader)
    parsed = Parsed([], [], [])
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except (OverrideParseException, HydraException) as error:
            reason = str(error).splitlines()[0]
            hint = "a value with spaces or signs needs quotes of its own: 'KEY=\"VALUE\"'"
            parsed.problems.append(Problem(text, None, f"is not KEY=VALUE in Hydra's grammar: {reason}; {hint}"))
            continue
        override.config_loader = loader  # which a glob asks for the choices there are
        if override.is_hydra_override():
            parsed.groups.append(override)
        elif override.key_or_group in known_groups and override.is_interval_sweep():
            options = ", ".join(loader.get_group_options(override.key_or_group))
            message = f"is a group and takes names, not numbers; allowed: {options}"
            parsed.problems.append(Problem(override.key_or_group, override.get_value_string(), message))
        elif override.key_or_group.replace("@", "/") in known_groups and not isinstance(override.value(), dict):
            problems, repaired = _check_choice(loader, override)
            parsed.problems.extend(problems)
            if problems:
                parsed.repaired[text] = repaired
            if repaired or not problems:
                parsed.groups.append(override)
        elif override.value_type is ValueType.GLOB_CHOICE_SWEEP:
            message = "is a value; a glob stands for the choices of a group"
            parsed.problems.append(Problem(override.key_or_group, override.get_value_string(), message))
        else:
            parsed.values.append(override)
    parsed.problems.extend(_given_twice([*parsed.groups, *parsed.values]))
    return parsed


def _given_twice(overrides: Iterable[Override]) -> list[Problem]:
    """Return a problem for each key that has two different sweeps, unless a single value after them replaces both."""
    last: dict[str, Override] = {}
    problems: dict[str, Problem] = {}
    for override in overrides:
        key = override.key_or_group
        before = last.get(key)
        last[key] = override
        if not override.is_sweep_override():
            problems.pop(key, None)
        elif before is not None and before.is_sweep_override() and before.input_line != override.input_line:
            message = f"is given twice as an axis, before as {before.get_value_string()}; give it once"
            problems[key] = Problem(key, override.get_value_string(), message)
    return list(problems.values())


def _groups(loader: ConfigLoader) -> set[str]:
    return {name for name in loader.list_groups("") if name != "hydra"}


def _check_choice(loader: ConfigLoader, override: Override) -> tuple[list[Problem], list[Setting]]:
    """Return what is wrong with a group override, and its settings with wrong choices replaced or left out."""
    group = override.key_or_group
    options = loader.get_group_options(group)
    allowed = f"allowed: {', '.join(options)}"
    if override.is_delete():
        needed = group not in ("sweep", "experiment")
        return [Problem(f"~{group}", None, f"cannot be taken away: every run needs one; {allowed}")] * needed, []
    problems, settings = [], []
    if override.is_sweep_override() and not settings_of(override):
        return [Problem(group, override.get_value_string(), f"fits no choice of {group}; {allowed}")], []
    for value, text, _ in settings_of(override):
        names = value if isinstance(value, list) and group not in AXES else [value]
        wrong = [name for name in names if not isinstance(name, str) or name not in options]
        for name in wrong:
            close = nearest_name(str(name), options)
            near = None if close is None else f"{group}={close}"
            shown = text.partition("=")[2] if name is value else str(name)
            problems.append(Problem(group, shown, f"is not a choice of {group}; {allowed}", near))
            if close is not None:
                settings.append((close, f"{override.get_key_element()}={close}", override))
        if not wrong:
            settings.append((value, text, override))
    return problems, settings


def last_wins(overrides: Iterable[Override]) -> list[Override]:
    """Return one override per key, the last one given, at the place of the first."""
    return list({override.get_key_element(): override for override in overrides}.values())


def in_order(texts: Sequence[str], overrides: list[Override]) -> list[Override]:
    """Return overrides in the order in which their texts were given."""
    position = {text: index for index, text in enumerate(texts)}
    return sorted(overrides, key=lambda override: position[override.input_line])


def settings_of(override: Override) -> list[Setting]:
    """Return (plain value, override text, override) for every value of an override."""
    if not override.is_sweep_override():
        return [(override.value(), override.input_line, override)]
    key = override.get_key_element()
    parser = OverridesParser.create(config_loader=override.config_loader)
    texts = [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [(parser.parse_override(text).value(), text, override) for text in texts]


def set_value(composed: DictConfig, value: Any, text: str, override: Override) -> list[Problem]:
    """Apply one setting to a composed config.

    Args:
        composed: is changed.
        value: plain value.
        text: the override text that sets it.
        override: says what kind of change it is: set, add or delete.

    Returns:
        What is wrong with it; the config is then as it was.
    """
    key = override.key_or_group
    given = text.split("=", 1)[1] if "=" in text else None
    parent, _, last = key.rpartition(".")
    try:
        above = OmegaConf.select(composed, parent) if parent else composed
        if override.is_delete():
            if last in above and (not parent or key in RULES or key in NEEDED or last == "_target_"):
                return [Problem(f"~{key}", given, "cannot be taken away: every run needs it")]
            with open_dict(composed):
                del above[last]
        elif above is not None and not isinstance(above, DictConfig):
            return [Problem(key, given, f"cannot be set: {parent} is a value, with no keys below it")]
        else:
            OmegaConf.update(composed, key, value, merge=True, force_add=override.is_add() or override.is_force_add())
    except (OmegaConfBaseException, KeyError, AttributeError, TypeError) as error:
        known = flatten(OmegaConf.to_container(composed))  # type: ignore[arg-type]
        return [_unknown_key(key, given, [name for name in known if not name.startswith("hydra.")], error)]
    return []


def _unknown_key(key: str, given: str | None, known: list[str], error: Exception) -> Problem:
    if key in known:
        return Problem(key, given, str(error).splitlines()[0])
    return Problem(key, given, not_a_key(key, known), nearest_key(key, known))

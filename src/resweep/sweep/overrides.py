"""Hydra's override grammar: parsed, sorted into group choices and values, and checked against the groups there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException

from resweep.config import AXES
from resweep.errors import Problem, nearest_name

# The plain value, the override text that sets it, and the override it comes from.
Setting = tuple[Any, str, Override]


@dataclass(frozen=True)
class Parsed:
    """Override texts, parsed and sorted.

    Args:
        groups: choices of config groups, and Hydra's own overrides: what a config is composed with.
        values: what is set in the composed config.
        problems: texts that cannot be parsed, intervals, wrong choices.
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
        if override.is_hydra_override():
            parsed.groups.append(override)
        elif override.is_sweep_override() and not override.is_discrete_sweep():
            key = override.get_key_element()
            parsed.problems.append(
                Problem(key, text.split("=", 1)[1], "is an interval; search=grid takes lists only: KEY=1,2,3")
            )
        elif override.key_or_group.replace("@", "/") in known_groups and not isinstance(override.value(), dict):
            problems, repaired = _check_choice(loader, override)
            parsed.problems.extend(problems)
            if problems:
                parsed.repaired[text] = repaired
            if repaired or not problems:
                parsed.groups.append(override)
        else:
            parsed.values.append(override)
    return parsed


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

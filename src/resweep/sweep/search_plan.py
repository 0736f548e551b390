"""The plan of a search, complete before its first run: every template and every edge of the space is checked."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resweep.config import digest, dump_yaml, flatten, load_yaml
from resweep.errors import Problem, RequestError
from resweep.schema import check
from resweep.sweep.overrides import Parsed, Setting, set_value, settings_of
from resweep.sweep.plan import SearchPlan, common, distinct_requests, worth_saying
from resweep.sweep.space import Dimension, Space
from resweep.sweep.storage import check_storage, lasting
from resweep.sweep.study import SAMPLERS, check_sampler

MOST_PROBES = 64
# Values that are read from the folder where the command runs, and must mean the same where it is resumed.
FOLDERS = ("runs_dir", "import_path", "data.root", "data.source.root")
PRUNING_KEYS = ("min_epochs", "reduction_factor", "max_epochs")
Templates = Iterable[tuple[Sequence[Setting], DictConfig]]


def plan_search(
    overrides: list[str],
    swept: list[Override],
    values: list[Override],
    templates: Templates,
    problems: list[Problem],
    parsed: Parsed,
) -> SearchPlan:
    """Check a search completely and return its plan.

    Args:
        overrides: the request, as given.
        swept: its axes, in the order of the command line.
        values: overrides of values, fixed and swept.
        templates: the settings of each combination of group choices, and what Hydra composes with them.
        problems: found so far.
        parsed: the request.

    Raises:
        RequestError: with every problem.
    """
    groups = {override.key_or_group for override in parsed.groups}
    dimensions = [
        Dimension.of(override, override.key_or_group in groups, parsed.repaired.get(override.input_line or ""))
        for override in swept
    ]
    found = [problem for one in dimensions for problem in (*one.problems(), *_not_an_axis(one))]
    problems += found
    usable = [one for one in dimensions if one.key not in {problem.key for problem in found}]
    kept, sections, missing = _keep(templates, values, usable, problems)
    usable = [one for one in usable if one.key not in missing]
    if not swept and not problems:
        example = "'optimizer.lr=tag(log,interval(1e-4,1))'"
        problems.append(Problem("search", sections[0]["name"], f"has nothing to search: give an axis, as {example}"))
    content = {"dimensions": [{"text": one.text, "is_group": one.is_group} for one in usable], "templates": kept}
    probes: list[dict[str, Any]] = []
    if len(usable) == len(dimensions) or not any(one.is_group for one in dimensions if one not in usable):
        probes = _probe(Space(load_yaml(dump_yaml(content))), problems)
    problems += _check_method(sections[0], probes)
    if any(one.key == "search" for one in dimensions):  # then what else is said of searches does not matter
        problems = [problem for problem in problems if not problem.key.startswith("search.") or problem in found]
    if problems:
        raise RequestError(worth_saying(problems, parsed.repaired))
    search = _completed(sections[0], probes)
    axes = {one.override.get_key_element(): one.values() for one in dimensions}
    return SearchPlan(
        overrides, axes, [], common(probes), _digest(search, content, probes), search, content,
        distinct_requests(probes)[:MOST_PROBES],
    )  # fmt: skip


def _not_an_axis(dimension: Dimension) -> list[Problem]:
    given = dimension.override.get_value_string()
    if dimension.key.partition(".")[0] == "search":
        return [Problem(dimension.key, given, "cannot be an axis: one sweep is one search; give one value")]
    if dimension.key == "seed":
        message = "cannot be an axis of a search, which compares settings: give search.seeds=[0,1,2] for their mean"
        return [Problem("seed", given, message)]
    if dimension.key in ("monitor", "monitor_mode"):
        return [Problem(dimension.key, given, "is what a search optimizes, and must be one value")]
    if dimension.key in ("data.root", "data.source.root"):
        relative = [value for value, _, _ in dimension.settings if not os.path.isabs(str(value))]
        message = "must be whole paths beginning with /, since a search can be resumed from elsewhere"
        return [Problem(dimension.key, given, message)] * bool(relative)
    return []


def _keep(
    templates: Templates, values: list[Override], usable: list[Dimension], problems: list[Problem]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], set[str]]:
    """Set the fixed values; return the templates as kept, their search sections, and dimensions that do not exist."""
    kept, sections, missing = [], [], set()
    for settings, composed in templates:
        reference = flatten(OmegaConf.to_container(composed, resolve=False))  # type: ignore[arg-type]
        for override in values:
            if not override.is_sweep_override():
                problems += set_value(composed, *settings_of(override)[0])
        for one in usable:
            if not one.is_group and (wrong := set_value(deepcopy(composed), *one.extremes()[0])):
                missing.add(one.key)
                problems += [replace(problem, value=one.override.get_value_string()) for problem in wrong]
        section, wrong = _section(composed, reference)
        sections.append(section)
        problems += wrong
        choices = [text for _, text, override in settings if override.is_sweep_override()]
        kept.append(template_of(choices, composed))
    return kept, sections, missing


def template_of(choices: Sequence[str], composed: DictConfig) -> dict[str, Any]:
    """Return a composed config as it is kept: unresolved, with absolute folders, without Hydra's own node.

    Args:
        choices: the texts of the swept group choices it was composed with.
        composed: as Hydra composes it, with the request's fixed values set.
    """
    config: Any = OmegaConf.to_container(composed, resolve=False)
    choices_made = config.pop("hydra")["runtime"]["choices"]
    runtime = {str(key): value for key, value in choices_made.items() if not str(key).startswith("hydra/")}
    config["search"] = {"name": config["search"]["name"]}  # the rest is the sweep's, and its storage a secret
    for key in FOLDERS:
        *parents, last = key.split(".")
        section = config
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        path = section.get(last) if isinstance(section, dict) else None
        if isinstance(path, str) and path and "${" not in path and path != "???":
            section[last] = os.path.abspath(os.path.expanduser(path))
    config["import_path"] = os.getcwd() if config["import_path"] is None else config["import_path"]
    return {"choices": list(choices), "runtime": runtime, "config": config}


def _section(composed: DictConfig, reference: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the resolved ``search`` section, its storage's address as it may be kept, and what is wrong with it."""
    try:
        section: Any = OmegaConf.to_container(composed.search, resolve=True)
        written = OmegaConf.to_container(composed.search, resolve=False)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "search"
        return dict(composed.search), [Problem(str(key), None, f"cannot be resolved: {str(error).splitlines()[0]}")]
    problems = check({"search": section}, reference)
    if not problems and "trials" not in section:
        message = f"is set without its settings; choose the group: search={section['name']}"
        problems = [Problem("search.name", section["name"], message)]
    if not problems:
        section["address"] = section["storage"]
        section["storage"] = lasting(written["storage"], section["storage"])  # type: ignore[index, call-overload]
    return section, problems


def _probe(space: Space, problems: list[Problem]) -> list[dict[str, Any]]:
    """Freeze and check the space's edges: on each template, one dimension at a time at each of its extremes."""
    made = []
    groups = [one.settings if one.is_group else one.extremes()[:1] for one in space.dimensions]
    for base in filter(space.can_compose, itertools.product(*groups)):
        variants = [list(base)]
        for place, one in enumerate(space.dimensions):
            if not one.is_group:
                variants += [[*base[:place], setting, *base[place + 1 :]] for setting in one.extremes()[1:]]
        for settings in variants:
            try:
                frozen, wrong = space.frozen(settings)
            except RequestError as error:
                problems += error.problems
                continue
            problems += wrong
            made.append((digest(frozen), settings, frozen))
    problems += _idle(made)
    return [frozen for _, _, frozen in made]


def _idle(made: list[tuple[str, list[Setting], dict[str, Any]]]) -> list[Problem]:
    """Return a problem for each dimension whose values compute the same."""
    counts = Counter(one for one, _, _ in made)
    problems = []
    for repeated in (one for one, count in counts.items() if count > 1):
        first, second = [settings for one, settings, _ in made if one == repeated][:2]
        for one, other in zip(first, second, strict=True):
            if one[1] != other[1]:
                key, _, given = other[1].partition("=")
                problems.append(Problem(key, given, f"computes the same as {one[1]}; an axis must change the result"))
    return problems


def _check_method(section: dict[str, Any], probes: list[dict[str, Any]]) -> list[Problem]:
    """Return what is wrong with sampler, pruner and storage; only what can be judged is."""
    if "address" not in section or section["name"] not in SAMPLERS:
        return []
    problems = check_sampler(section)
    if section["address"] is not None:
        problems += check_storage(section["address"])
    lengths = {probe["trainer"]["max_epochs"] for probe in probes}
    if section["pruner"] is None or not all(isinstance(length, int) for length in lengths) or not lengths:
        return problems
    if section["pruner"] == "hyperband" and len(lengths) > 1:
        message = "cannot be an axis of a search with search.pruner=hyperband, which divides a common length"
        problems.append(Problem("trainer.max_epochs", None, message))
    if section["min_epochs"] > max(lengths):
        message = f"must be at most trainer.max_epochs, which is {max(lengths)}"
        problems.append(Problem("search.min_epochs", str(section["min_epochs"]), message))
    return problems


def _completed(section: dict[str, Any], probes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the section as ``sweep.yaml`` keeps it, with what else a study needs to know."""
    first = probes[0]
    kept = {key: value for key, value in section.items() if key != "address"}
    kept["monitor"] = first["monitor"]
    kept["direction"] = {"max": "maximize", "min": "minimize"}[first["monitor_mode"]]
    kept["max_epochs"] = max(probe["trainer"]["max_epochs"] for probe in probes)
    return kept


def _digest(search: dict[str, Any], content: dict[str, Any], probes: list[dict[str, Any]]) -> str:
    """Return the digest of what a search may propose and how; not of how much, nor of where it is kept."""
    left_out = ("trials", "storage", *(PRUNING_KEYS if search["pruner"] is None else ()))
    return digest({
        "templates": [digest(probe) for probe in probes],
        "dimensions": content["dimensions"],
        "method": {key: value for key, value in search.items() if key not in left_out},
    })  # fmt: skip

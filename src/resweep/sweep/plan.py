"""From override strings to frozen runs: expanding, composing and checking, complete before anything starts.

One run is a plan without axes. Every problem of every run is collected and reported at once. Configs are composed once
per combination of group choices; plain values are applied to the composed config.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resweep.config import ID_LENGTH, Freezer, compose, digest, flatten
from resweep.errors import Problem, RequestError
from resweep.schema import check
from resweep.sweep.overrides import Setting, in_order, last_wins, parse, set_value, settings_of

LABEL_LENGTH = 60


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan, with its frozen config.

    Args:
        id: first characters of the digest, unique in the plan.
        label: swept values with short keys, cleaned for file systems, at most ``LABEL_LENGTH`` characters.
        overrides: the axis values of this run as override strings.
        swept: the same as plain values.
    """

    id: str
    label: str
    digest: str
    overrides: tuple[str, ...]
    swept: dict[str, Any]
    config: dict[str, Any]

    @property
    def folder(self) -> str:
        """Name of the run's folder below the sweep's."""
        return f"{self.label}-{self.id}" if self.label else self.id


@dataclass(frozen=True)
class Plan:
    """Everything a request asks for.

    Args:
        axes: swept key to its values as written, in the order of the command line.
        overrides: the request, fixed and swept, as given.
        runs: in the order in which they are started.
        base: the dotted keys that have one value in all runs.
    """

    overrides: list[str]
    axes: dict[str, list[str]]
    runs: list[PlannedRun]
    base: dict[str, Any]
    digest: str = field(default="")

    @property
    def configs(self) -> list[dict[str, Any]]:
        """The frozen configs to try out before anything starts; the first one tells where the sweep lies."""
        return [run.config for run in self.runs]


@dataclass(frozen=True)
class SearchPlan(Plan):
    """A request whose runs are proposed one after the other; ``runs`` is empty.

    Args:
        search: how settings are proposed and compared: the config's section, with ``monitor``, ``direction`` and
            ``max_epochs``.
        space: content of ``space.yaml``: what can be proposed, and what each proposal is composed from.
        probes: frozen configs at the edges of the space.
    """

    search: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)
    probes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def configs(self) -> list[dict[str, Any]]:
        """The frozen configs to try out before anything starts; the first one tells where the sweep lies."""
        return self.probes


# Sections that decide whether a run's parts can be built; the seed, for one, does not.
BUILD_KEYS = (
    "data", "augment", "model", "optimizer", "scheduler", "regularizer", "averaging", "loss", "trainer", "logger",
    "monitor", "thresholds",
)  # fmt: skip


def distinct_requests(configs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one config of each combination that has to be tried out before a sweep starts."""
    return list({json.dumps([one[key] for key in BUILD_KEYS], default=str): one for one in configs}.values())


def make_plan(loader: ConfigLoader, overrides: Sequence[str], *, sweep: bool = False) -> Plan:
    """Expand, compose, freeze and check every run that the overrides ask for.

    Args:
        loader: Hydra's config loader with its search path.
        overrides: Hydra's override grammar; a later one replaces an earlier one with the same key.
        sweep: whether a sweep is asked for; a request with axes is one in any case. Of a single run the ``search``
            section is a machine fact.

    Returns:
        The plan; for any other search than ``grid`` a :class:`SearchPlan`.

    Raises:
        RequestError: with every problem of every run, each said once.
    """
    parsed = parse(loader, overrides)
    groups, values = last_wins(parsed.groups), last_wins(parsed.values)
    problems = list(parsed.problems)
    choices = list(itertools.product(*(parsed.repaired.get(o.input_line) or settings_of(o) for o in groups)))
    composed = (_compose_choices(loader, [text for _, text, _ in one], problems) for one in choices)
    templates = ((one, made) for one, made in zip(choices, composed, strict=True) if made is not None)
    first = next(templates, None)
    swept = [override for override in in_order(overrides, [*groups, *values]) if override.is_sweep_override()]
    searching = any(override.key_or_group == "search" for override in swept)  # refused there
    if first is not None and (sweep or swept) and (searching or search_name(first[1], values) != "grid"):
        from resweep.sweep.search_plan import plan_search  # which needs this module

        return plan_search(list(overrides), swept, values, itertools.chain([first], templates), problems, parsed)
    values = _without_intervals(values, problems)
    runs: list[tuple[dict[str, Any], list[str], dict[str, Any]]] = []
    for one, made in itertools.chain([] if first is None else [first], templates):
        reference = flatten(OmegaConf.to_container(made, resolve=False))  # type: ignore[arg-type]
        runs.extend(_apply_values(made, reference, one, values, problems))
    if problems:
        raise RequestError(worth_saying(problems, parsed.repaired))
    axes = {o.get_key_element(): [text.split("=", 1)[1] for _, text, _ in settings_of(o)] for o in swept}
    return _finish(list(overrides), axes, runs)


def search_name(composed: DictConfig, values: Sequence[Override]) -> Any:
    """Return the name of the search that a composed config and the values set in it ask for."""
    given = [o.value() for o in values if o.key_or_group == "search.name" and not o.is_sweep_override()]
    return given[-1] if given else OmegaConf.select(composed, "search.name")


def _without_intervals(values: list[Override], problems: list[Problem]) -> list[Override]:
    """Return the overrides that a grid can take; say of the others what can."""
    if not any(problem.key == "search" for problem in problems):  # else the search that is meant is not known
        message = "is an interval; search=grid takes lists only: KEY=1,2,3. search=random or search=tpe samples it"
        intervals = [override for override in values if override.is_interval_sweep()]
        problems.extend(Problem(o.get_key_element(), o.get_value_string(), message) for o in intervals)
    return [override for override in values if not override.is_interval_sweep()]


def _compose_choices(loader: ConfigLoader, texts: list[str], problems: list[Problem]) -> DictConfig | None:
    try:
        return compose(loader, texts)
    except (HydraException, OmegaConfBaseException) as error:
        if not problems:  # an unknown choice has been named already, in better words
            cause = error.__cause__ or error
            key = getattr(cause, "full_key", None) or " ".join(texts) or "conf"
            problems.append(Problem(str(key), None, str(cause).splitlines()[0]))
        return None


def _apply_values(
    composed: DictConfig,
    reference: dict[str, Any],
    choices: Sequence[Setting],
    values: list[Override],
    problems: list[Problem],
) -> list[tuple[dict[str, Any], list[str], dict[str, Any]]]:
    """Return (frozen config, override texts of the axes, swept values) of every run with these group choices."""
    runs = []
    fixed = [override for override in values if not override.is_sweep_override()]
    for override in fixed:
        problems.extend(set_value(composed, *settings_of(override)[0]))
    swept_values = [
        override for override in values if override.is_sweep_override() and _can_be_swept(composed, override, problems)
    ]
    # A swept section is merged into what is there, so each run then starts from an untouched config.
    sections = any(isinstance(value, dict) for override in swept_values for value, _, _ in settings_of(override))
    untouched = deepcopy(composed) if sections else None
    freezer = Freezer(composed)
    changed = [override.key_or_group for override in swept_values]
    for combination in itertools.product(*(settings_of(override) for override in swept_values)):
        if untouched is not None:
            composed = deepcopy(untouched)
            freezer = Freezer(composed)
        for setting in combination:
            problems.extend(set_value(composed, *setting))
        try:
            frozen = freezer.freeze(changed)
        except RequestError as error:
            problems.extend(error.problems)
            continue
        problems.extend(check(frozen, reference))
        swept = [setting for setting in (*choices, *combination) if setting[2].is_sweep_override()]
        texts = [text for _, text, _ in swept]
        runs.append((frozen, texts, {o.get_key_element().lstrip("+"): value for value, _, o in swept}))
    return runs


def _can_be_swept(composed: DictConfig, override: Override, problems: list[Problem]) -> bool:
    """Return whether the key of an axis exists; what is wrong with it is said once, not for every value."""
    found = set_value(deepcopy(composed), *settings_of(override)[0])
    given = override.input_line.partition("=")[2] if override.input_line else None
    problems.extend(replace(problem, value=given) for problem in found)
    return not found


def worth_saying(problems: list[Problem], repaired: dict[str, list[Any]]) -> list[Problem]:
    """Return each problem once, without those below a group whose choice is not known."""
    lost = tuple(f"{text.split('=', 1)[0].lstrip('+~')}." for text, settings in repaired.items() if not settings)
    return [problem for problem in dict.fromkeys(problems) if not problem.key.startswith(lost)]


def _finish(
    overrides: list[str],
    axes: dict[str, list[str]],
    made: list[tuple[dict[str, Any], list[str], dict[str, Any]]],
) -> Plan:
    order = {key.lstrip("+"): index for index, key in enumerate(axes)}
    digests = [digest(frozen) for frozen, _, _ in made]
    twice = [digest_ for digest_, count in Counter(digests).items() if count > 1]
    if twice:
        pairs = [[made[i][1] for i, one in enumerate(digests) if one == digest_][:2] for digest_ in twice]
        raise RequestError(dict.fromkeys(_same_run(one, other, axes) for one, other in pairs))
    length = _unique_length(digests)
    runs = []
    for (frozen, texts, swept), run_digest in zip(made, digests, strict=True):
        ordered = dict(sorted(swept.items(), key=lambda item: order[item[0]]))
        texts = sorted(texts, key=lambda text: order[text.split("=", 1)[0].lstrip("+")])
        runs.append(PlannedRun(run_digest[:length], label_of(ordered), run_digest, tuple(texts), ordered, frozen))
    runs = _command_line_order(runs, axes)
    whole = digest({"runs": [run.digest for run in runs]})
    return Plan(overrides, axes, runs, common([run.config for run in runs]), whole)


def _same_run(one: list[str], other: list[str], axes: dict[str, list[str]]) -> Problem:
    for text, again in zip(one, other, strict=True):
        if text != again:
            key, _, given = again.partition("=")
            return Problem(key, given, f"computes the same as {text}; every run must be another one")
    key, values = next((key, values) for key, values in axes.items() if len(set(values)) < len(values))
    repeated = next(value for value in values if values.count(value) > 1)
    return Problem(key, ",".join(values), f"has {repeated} more than once; give every value once")


def common(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the dotted keys that have one value in all configs."""
    common = flatten(configs[0])
    for config in configs[1:]:
        flat = flatten(config)
        common = {key: value for key, value in common.items() if key in flat and flat[key] == value}
    return common


def _command_line_order(runs: list[PlannedRun], axes: dict[str, list[str]]) -> list[PlannedRun]:
    """Return the runs with the last axis changing fastest, as Hydra's own sweeper numbers them."""
    place = {f"{key}={value}": index for key, values in axes.items() for index, value in enumerate(values)}
    return sorted(runs, key=lambda run: [place[text] for text in run.overrides])


def _unique_length(digests: list[str]) -> int:
    length = ID_LENGTH
    while len({one[:length] for one in digests}) < len(digests):
        length += 1
    return length


def label_of(swept: dict[str, Any]) -> str:
    """Return swept values with short keys, cleaned for file systems."""
    lasts = Counter(key.rsplit(".", 1)[-1] for key in swept)
    parts = []
    for key, value in swept.items():
        last = key.rsplit(".", 1)[-1]
        parts.append(f"{last if lasts[last] == 1 else key}={value}")
    return re.sub(r"[^A-Za-z0-9=.,_+-]+", "_", ",".join(parts))[:LABEL_LENGTH].strip("._,-")

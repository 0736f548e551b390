"""Several sweeps as one: their settings in a single ranking, paired by seed, wherever they were carried out.

The values in which the sweeps differ become columns beside those that they sweep. They are found in the frozen config
of one run of each setting; without that file, in the sweep's plan and the run's own swept values.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from resweep.console import value as exact_text
from resweep.errors import Problem, RequestError
from resweep.report.differences import LISTED, other_images
from resweep.report.load import RunRecord, Sweep
from resweep.report.results import override_key, run_overrides
from resweep.report.stats import ROUNDING
from resweep.report.table import REPEATS, Ranking

SWEEP = "sweep"
"""Key of the column with the sweep's name, where the values do not tell two sweeps apart."""

CHOICES = "choices"
NOTHING = exact_text(None)


@dataclass(frozen=True)
class Comparison:
    """What is compared, and what there is to say about it.

    Args:
        sweeps: in the order in which they were named.
        labels: what they are called.
        table: the ranking of the one sweep, or of all settings together.
        warnings: what stands against comparing the runs.
        files: for each folder that was written to the paths by what they hold, the report first.
    """

    sweeps: list[Sweep]
    labels: list[str]
    table: Ranking
    warnings: list[str]
    files: list[dict[str, str]]


@dataclass(kw_only=True)
class JoinedRun(RunRecord):
    """A run of one of several sweeps.

    Args:
        sweep: what the sweep is called.
    """

    sweep: str

    @property
    def folder(self) -> str:
        """Name of the sweep and of the run's folder: two sweeps may have folders of the same name."""
        return f"{self.sweep}/{super().folder}"


@dataclass(frozen=True)
class Setting:
    """The runs of one sweep that differ in the seed and the fold only.

    Args:
        sweep: what the sweep is called.
        runs: its runs.
        config: values by dotted key, groups by their choice; machine facts left out.
    """

    sweep: str
    runs: list[RunRecord]
    config: dict[str, Any]

    def text(self, key: str) -> str | None:
        """The value as an exact text; None where the setting has no such key."""
        return exact_text(self.config[key], exact=True) if key in self.config else None


def sweep_labels(sweeps: Sequence[Sweep]) -> list[str]:
    """Return what several sweeps are called: their names, or their paths where two have the same name.

    Raises:
        RequestError: if a folder is named twice.
    """
    names = [sweep.name for sweep in sweeps]
    folders = [sweep.dir.resolve() for sweep in sweeps]
    twice = {str(sweep.dir) for sweep, folder in zip(sweeps, folders, strict=True) if folders.count(folder) > 1}
    if twice:
        raise RequestError([Problem("SWEEP_DIR", path, "is named more than once") for path in sorted(twice)])
    return [str(sweep.dir) if names.count(sweep.name) > 1 else sweep.name for sweep in sweeps]


def joined(sweeps: Sequence[Sweep], labels: Sequence[str], folder: Path) -> tuple[Sweep, list[str]]:
    """Return one sweep with the runs of several, and what was found in putting them together.

    Settings with equal values become one, so that further seeds in a second sweep add to the first one's. Two sweeps
    stay apart, told by their names, where they have read other data or split it otherwise, or where the same seed of
    the same config has given another result, be it by other software or other hardware; the others become one.

    Args:
        sweeps: loaded sweeps.
        labels: what they are called, all different.
        folder: where the joint report is to lie.

    Returns:
        A sweep whose runs have the values of the columns as their swept values; its ``base`` is what all have in
        common. Then a line for each two sweeps in which runs of the same config and seed have other results.
    """
    settings = [one for sweep, label in zip(sweeps, labels, strict=True) for one in _settings(sweep, label)]
    columns = _columns(sweeps, settings)
    named = dict(zip(labels, sweeps, strict=True))
    twins = _twins(settings, columns)
    places = _places(labels, {*twins, *_on_other_images(settings, columns, named)})
    folds = any("data.fold" in run.swept for sweep in sweeps for run in sweep.runs)
    runs = []
    for setting in settings:
        place = places.get(setting.sweep)
        values = ({} if place is None else {SWEEP: place}) | {key: setting.config.get(key) for key in columns}
        for run in setting.runs:
            runs.append(_joined_run(named[setting.sweep], setting, run, values, folds, place))
    planned = sum(sum(sweep.counts.values()) for sweep in sweeps)
    request = {"base": _common(settings, columns), "counts": {"runs": planned}, "runs": [run.folder for run in runs]}
    damaged = [f"{label}/{line}" for label, sweep in named.items() for line in sweep.damaged]
    whole = Sweep(folder, " + ".join(labels), request, runs, damaged)
    return whole, [_twins_text(one, other, runs) for (one, other), runs in twins.items()]


def config_of(sweep: Sweep, run: RunRecord) -> dict[str, Any]:
    """Return a run's frozen config by dotted key, groups by their choice and without machine facts.

    Where ``config.yaml`` is missing or damaged, the values that the plan and the record tell stand in for it; a damaged
    one is named in the sweep's ``damaged``.
    """
    from resweep.config import flatten, is_machine_fact

    frozen = sweep.config(run)
    # Overrides say what was asked for, the config what was done: "auto" has become a number there.
    flat = sweep.base | run.swept if frozen is None else run.swept | flatten(frozen)
    chosen = {key.partition(".")[2]: value for key, value in flat.items() if key.startswith(f"{CHOICES}.")}
    flat = chosen | {key: value for key, value in flat.items() if not key.startswith(f"{CHOICES}.")}
    return {key: value for key, value in flat.items() if not is_machine_fact(key) and key not in REPEATS}


def _settings(sweep: Sweep, label: str) -> list[Setting]:
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    keys = dict.fromkeys(key for run in sweep.runs for key in run.swept if key not in REPEATS)
    for run in sweep.runs:
        groups.setdefault(tuple(exact_text(run.swept.get(key), exact=True) for key in keys), []).append(run)
    return [Setting(label, runs, config_of(sweep, runs[0])) for runs in groups.values()]


def _columns(sweeps: Sequence[Sweep], settings: Sequence[Setting]) -> list[str]:
    """Return the keys that tell the settings apart: those that were swept or set first, then what else differs.

    A value that only follows from the choice of its group, such as a model's depth, is left out. A key that some
    settings do not have is a difference only where it was asked for: other versions know other keys.
    """
    swept = dict.fromkeys(key for sweep in sweeps for run in sweep.runs for key in run.swept if key not in REPEATS)
    given = dict.fromkeys(override_key(str(text)) for sweep in sweeps for text in sweep.request.get("overrides") or ())
    given |= dict.fromkeys(override_key(text) for sweep in sweeps for run in sweep.runs for text in run.overrides)
    asked = dict.fromkeys(key for key in (*swept, *given) if key not in REPEATS)
    found = dict.fromkeys(key for setting in settings for key in setting.config)
    wanted = [key for key in asked if len({setting.text(key) or NOTHING for setting in settings}) > 1]
    others = [key for key in found if key not in asked and _differs(key, settings)]
    return [*wanted, *(key for key in others if not _follows(key, settings))]


def _differs(key: str, settings: Sequence[Setting]) -> bool:
    return len({setting.text(key) for setting in settings} - {None}) > 1


def _follows(key: str, settings: Sequence[Setting]) -> bool:
    """Whether settings with the same choice of the key's group have the same value."""
    group = key.split(".")[0]
    if group == key or not _differs(group, settings):
        return False
    by_choice: dict[str | None, list[Setting]] = {}
    for setting in settings:
        by_choice.setdefault(setting.text(group), []).append(setting)
    return not any(_differs(key, same) for same in by_choice.values())


def _meetings(settings: Sequence[Setting], columns: Sequence[str]) -> list[tuple[Setting, Setting]]:
    """The pairs of settings of two sweeps that have the same values."""
    same: dict[tuple[str | None, ...], list[Setting]] = {}
    for setting in settings:
        same.setdefault(tuple(setting.text(key) for key in columns), []).append(setting)
    return [pair for group in same.values() for pair in combinations(group, 2) if pair[0].sweep != pair[1].sweep]


def _twins(settings: Sequence[Setting], columns: Sequence[str]) -> dict[tuple[str, str], list[RunRecord]]:
    """For two sweeps the first one's runs that the second one has carried out too, with other results."""
    found: dict[tuple[str, str], list[RunRecord]] = {}
    for one, other in _meetings(settings, columns):
        if runs := _contradicted(one, other):
            found.setdefault((one.sweep, other.sweep), []).extend(runs)
    return found


def _on_other_images(
    settings: Sequence[Setting], columns: Sequence[str], named: Mapping[str, Sweep]
) -> list[tuple[str, str]]:
    """The pairs of sweeps that have settings of the same values and have not seen the same images."""
    meeting = dict.fromkeys((one.sweep, other.sweep) for one, other in _meetings(settings, columns))
    return [labels for labels in meeting if other_images({label: named[label] for label in labels})]


def _places(labels: Sequence[str], apart: Collection[tuple[str, str]]) -> dict[str, str]:
    """What tells each sweep's settings in the joint ranking: its name, or for all that may become one their names."""
    if not apart:
        return {}
    alone = {label for pair in apart for label in pair}
    together = " + ".join(label for label in labels if label not in alone)
    return {label: label if label in alone else together for label in labels}


def _twins_text(one: str, other: str, runs: Sequence[RunRecord]) -> str:
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    ids = ", ".join(run.id for run in runs[:LISTED]) + (" ..." if len(runs) > LISTED else "")
    return f"{count} of the same config and seed have other results in {one} and {other}, which stay apart: {ids}"


def _contradicted(one: Setting, other: Setting) -> list[RunRecord]:
    """The first one's runs of which the other has carried out the same seed with other results."""
    results: dict[tuple[Any, Any], list[RunRecord]] = {}
    for run in other.runs:
        if run.status == "completed":
            results.setdefault((run.seed, run.swept.get("data.fold")), []).append(run)
    return [
        run
        for run in one.runs
        if run.status == "completed"
        and any(_results_differ(run, twin) for twin in results.get((run.seed, run.swept.get("data.fold")), ()))
    ]


def _results_differ(one: RunRecord, other: RunRecord) -> bool:
    """Whether a metric that both have recorded differs by more than rounding."""
    both = [(one.metrics[key], other.metrics[key]) for key in one.metrics if key in other.metrics]
    return any(a != b and (a is None or b is None or not math.isclose(a, b, rel_tol=ROUNDING)) for a, b in both)


def _joined_run(
    sweep: Sweep, setting: Setting, run: RunRecord, values: dict[str, Any], folds: bool, place: str | None
) -> JoinedRun:
    repeat = {} if run.seed is None else {"seed": run.seed}
    if folds:
        repeat["data.fold"] = run.swept.get("data.fold", sweep.base.get("data.fold"))
    given = {field.name: getattr(run, field.name) for field in fields(run)}
    found = JoinedRun(**given, sweep=setting.sweep)
    digest = run.config_digest if place is None or run.config_digest is None else f"{place}:{run.config_digest}"
    return replace(found, swept=values | repeat, overrides=run_overrides(sweep, run), config_digest=digest)


def _common(settings: Sequence[Setting], columns: Sequence[str]) -> dict[str, Any]:
    """Return the values that are the same in all settings that have them."""
    common: dict[str, Any] = {}
    for setting in settings:
        common |= {key: value for key, value in setting.config.items() if key not in common}
    return {key: value for key, value in common.items() if key not in columns and not _differs(key, settings)}

"""What stands against comparing runs: other data, other splits, other numbers of epochs, other software or hardware."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from resweep.report.load import RunRecord, Sweep, changes_since_planned, without_repeats
from resweep.report.table import monitored, shown_metric
from resweep.report.words import value_text

EPOCHS = "trainer.max_epochs"
SPLIT_SEED = "data.split_seed"
SHORT = 8
"""Characters of a digest or a commit that are shown."""

LISTED = 3
"""Runs with the same fault that are named; the others are counted."""

_HARDWARE = {"processor": "processor", "accelerator": "accelerator", "threads": "threads"}


def comparison_warnings(sweeps: Sequence[Sweep], labels: Sequence[str] | None = None) -> list[str]:
    """Return what stands against comparing the runs of one sweep, or of several, a line each.

    Args:
        sweeps: loaded sweeps, in the order in which they were named.
        labels: how the sweeps are called; None for their names.
    """
    named = dict(zip(labels or [sweep.name for sweep in sweeps], sweeps, strict=True))
    lines = {label: (*grouped(sweep.damaged), *changes_since_planned(sweep.request)) for label, sweep in named.items()}
    faults = [f"{label}: {line}" for label, found in lines.items() for line in found]
    return [*faults, *doubts(named)]


def doubts(named: Mapping[str, Sweep]) -> list[str]:
    """Return what makes the runs' figures hard to compare, damaged files and accepted changes left out.

    Args:
        named: the sweeps by what they are called.
    """
    shown = _shown_in(named.values())
    found = {label: [*_unmeasured(sweep, shown), *_within(sweep)] for label, sweep in named.items()}
    warnings = [f"{label}: {text}" for label, texts in found.items() for text in texts]
    if len(named) < 2:
        return warnings
    monitors = {label: str(sweep.base.get("monitor")) for label, sweep in named.items() if sweep.base.get("monitor")}
    if len(set(monitors.values())) > 1:
        warnings.append(f"the sweeps have chosen their checkpoints by other metrics: {_listed(monitors)}")
    return warnings + between(named)


def between(named: Mapping[str, Sweep]) -> list[str]:
    """Return in which recorded facts sweeps differ, a line for data, split, epochs, software and hardware each.

    Args:
        named: the sweeps by what they are called.
    """
    warnings = other_images(named)
    for text, key in (("the sweeps are split by other seeds", SPLIT_SEED), ("the sweeps differ in epochs", EPOCHS)):
        given = {label: _planned(sweep, key) for label, sweep in named.items()}
        known = {label: value for label, value in given.items() if value is not None}
        if len(set(known.values())) > 1:
            warnings.append(f"{text}: {_listed(known)}")
    for text, facts in (("software", software), ("hardware", hardware)):
        parts = _differing_facts(named, facts)
        if parts:
            warnings.append(f"the sweeps differ in {text}: {'; '.join(parts)}")
    return warnings


def other_images(named: Mapping[str, Sweep]) -> list[str]:
    """Return a line each if sweeps that asked for the same data have read other images, or split them otherwise."""
    warnings = []
    for text, fact in (
        ("the sweeps have not read the same data in the same splits, their figures do not compare", _data_text),
        ("the sweeps are split into other numbers of images", _split_text),
    ):
        if (found := _differing_by_data(named, fact)) is not None:
            warnings.append(f"{text}: {_listed(found)}")
    return warnings


def software(run: RunRecord) -> dict[str, str]:
    """Return the versions that a run was carried out with: Python, packages, the code and the commit around it."""
    environment = run.environment
    facts = {"python": environment.get("python")}
    packages = environment.get("packages")
    facts |= packages if isinstance(packages, dict) else {}
    git = environment.get("git")
    if isinstance(git, dict) and git.get("commit"):
        facts["git"] = f"{str(git['commit'])[:SHORT]}{' with uncommitted changes' if git.get('dirty') else ''}"
    code = environment.get("code")
    facts["code"] = None if code is None else str(code)[:SHORT]
    return {name: str(value) for name, value in facts.items() if value is not None}


def hardware(run: RunRecord) -> dict[str, str]:
    """Return what a run was carried out on: processor, accelerator, threads; empty where nothing was recorded."""
    if "processor" not in run.environment:
        return {}
    return {name: str(run.environment.get(key) or "none") for key, name in _HARDWARE.items()}


def _shown_in(sweeps: Iterable[Sweep]) -> dict[str, str | None]:
    """The test metric that goes with each monitored one in all sweeps together."""
    runs: dict[str, list[RunRecord]] = {}
    for sweep in sweeps:
        runs.setdefault(monitored(sweep), []).extend(sweep.runs)
    return {monitor: shown_metric(those, monitor) for monitor, those in runs.items()}


def _unmeasured(sweep: Sweep, shown: Mapping[str, str | None]) -> list[str]:
    """Completed runs in which a compared metric is missing or was not a number: they count in none of its means."""
    monitor = monitored(sweep)
    wanted = [metric for metric in (monitor, shown[monitor]) if metric is not None]
    groups: dict[str, list[str]] = {}
    for run in without_repeats(sweep.runs):
        absent = [metric for metric in wanted if run.metrics.get(metric) is None]
        if run.status == "completed" and absent:
            groups.setdefault(" and ".join(absent), []).append(run.id)
    return [_unmeasured_text(metrics, ids) for metrics, ids in groups.items()]


def _unmeasured_text(metrics: str, ids: Sequence[str]) -> str:
    if len(ids) == 1:
        return f"run {ids[0]} completed without {metrics}"
    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    return f"{len(ids)} runs completed without {metrics}: {', '.join(ids[:LISTED])}{more}"


def _within(sweep: Sweep) -> list[str]:
    """Facts in which the runs of one sweep differ although no axis asks for it."""
    warnings = []
    digests = [len(texts) for texts in _by_data(sweep, _data_text).values()]
    if max(digests, default=0) > 1:
        warnings.append(f"its runs have read {max(digests)} different versions of the data")
    if any(len(texts) > 1 for texts in _by_data(sweep, _split_text).values()):
        warnings.append("its runs are split into different numbers of images")
    for text, facts in (("software", software), ("hardware", hardware)):
        counts = _counted(sweep, facts)
        parts = [
            f"{name} {', '.join(f'{value} ({_runs(count)})' for value, count in values.items())}"
            for name, values in counts.items()
            if len(values) > 1
        ]
        if parts:
            warnings.append(f"its runs differ in {text}: {'; '.join(parts)}")
    return warnings


def grouped(damaged: Sequence[str]) -> list[str]:
    """Return lines ``RUN/FILE: reason``; where many runs have the same fault, one line for all of them.

    Args:
        damaged: such lines, as :attr:`resweep.report.load.Sweep.damaged` has them.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for line in damaged:
        place, _, reason = line.partition(": ")
        run, slash, file = place.rpartition("/")
        groups.setdefault((file if slash else "", reason), []).append(run if slash else place)
    lines = []
    for (file, reason), runs in groups.items():
        if len(runs) <= LISTED:
            lines += [f"{run}{f'/{file}' if file else ''}: {reason}" for run in runs]
        else:
            what = f"{file} {reason}" if file else reason
            lines.append(f"{what} in {len(runs)} runs: {', '.join(runs[:LISTED])} and {len(runs) - LISTED} more")
    return lines


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _counted(sweep: Sweep, facts: Callable[[RunRecord], dict[str, str]]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for run in sweep.runs:
        for name, value in facts(run).items():
            counts.setdefault(name, Counter())[value] += 1
    return counts


def _differing_facts(named: Mapping[str, Sweep], facts: Callable[[RunRecord], dict[str, str]]) -> list[str]:
    """``torch (a 2.11.0, b 2.12.1)`` for each fact that all sweeps have recorded and not all alike."""
    by_sweep = {label: _counted(sweep, facts) for label, sweep in named.items()}
    parts = []
    for name in dict.fromkeys(name for counts in by_sweep.values() for name in counts):
        given = {label: "/".join(sorted(counts[name])) for label, counts in by_sweep.items() if name in counts}
        if len(set(given.values())) > 1:
            parts.append(f"{name} ({_listed(given)})")
    return parts


def _data_text(run: RunRecord) -> str | None:
    return None if run.data_digest is None else run.data_digest[:SHORT]


def _split_text(run: RunRecord) -> str | None:
    return " + ".join(f"{number} {part}" for part, number in run.split_sizes.items()) or None


def _by_data(sweep: Sweep, fact: Callable[[RunRecord], str | None]) -> dict[str, set[str]]:
    """A fact's values for each choice of data that the sweep asked for: other data sets are no accident."""
    found: dict[str, set[str]] = {}
    for run in sweep.runs:
        value = fact(run)
        if value is not None:
            found.setdefault(_asked_data(sweep, run), set()).add(value)
    return found


def _asked_data(sweep: Sweep, run: RunRecord) -> str:
    swept = {key: value for key, value in run.swept.items() if key.split(".")[0] == "data"}
    name = swept.get("data", sweep.base.get("choices.data", sweep.base.get("data.name")))
    return f"{value_text(name)} {sorted((key, value_text(value)) for key, value in swept.items() if key != 'data')}"


def _differing_by_data(named: Mapping[str, Sweep], fact: Callable[[RunRecord], str | None]) -> dict[str, str] | None:
    """The fact's values by sweep, where two sweeps that asked for the same data do not agree."""
    by_sweep = {label: _by_data(sweep, fact) for label, sweep in named.items()}
    for asked in dict.fromkeys(asked for found in by_sweep.values() for asked in found):
        given = {label: "/".join(sorted(found[asked])) for label, found in by_sweep.items() if asked in found}
        if len(set(given.values())) > 1:
            return given
    return None


def _planned(sweep: Sweep, key: str) -> str | None:
    """What was asked for where that is recorded; of epochs else the most that a run completed."""
    asked: set[str] = {value_text(run.swept.get(key, sweep.base.get(key))) for run in sweep.runs} - {"-"}
    if not asked and key == EPOCHS:
        finished = [run.epochs for run in sweep.runs if run.status == "completed" and run.epochs is not None]
        asked = {str(max(finished))} if finished else set()
    return "/".join(sorted(asked, key=_by_size)) or None


def _by_size(text: str) -> tuple[bool, float, str]:
    return not text.isdecimal(), float(text) if text.isdecimal() else 0.0, text


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{label} {value}" for label, value in values.items())

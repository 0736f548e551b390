"""The files of a search: its section and list of trials in ``sweep.yaml``, and the run folders of proposals."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from resweep.config import ID_LENGTH, digest, dump_yaml
from resweep.errors import Problem, RequestError
from resweep.record import SWEEP_FILE, Record, write_atomic
from resweep.sweep.ledger import asking, read_request
from resweep.sweep.overrides import Setting
from resweep.sweep.plan import LABEL_LENGTH, PlannedRun, label_of
from resweep.sweep.space import SPACE_FILE, Space
from resweep.sweep.storage import JOURNAL_FILE, without_password
from resweep.sweep.study import check_name_is_free

# What the run's own side of pruning needs to know.
FOR_PRUNING = ("pruner", "min_epochs", "reduction_factor", "max_epochs")


def search_request(search: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the ``search`` section of a new ``sweep.yaml``.

    Args:
        search: of the plan.
        name: of the sweep, and of the study.

    Raises:
        RequestError: the storage has a study of this name.
    """
    check_name_is_free(search, name)
    return {**search, "id": uuid.uuid4().hex}


def go_on_with(search: Mapping[str, Any], sweep_dir: Path) -> None:
    """Take over how many settings a search that is there is to try.

    Raises:
        RequestError: the study is to be somewhere else than it is.
    """
    with asking(sweep_dir):
        content = read_request(sweep_dir)
        there = content["search"]
        if search["storage"] != there["storage"]:
            place = without_password(there["storage"] or f"{JOURNAL_FILE} in its folder")
            message = f"is not where the sweep's study is: {place}. Give that, or another sweep_name"
            raise RequestError(Problem("search.storage", without_password(str(search["storage"])), message))
        if there["trials"] != search["trials"]:
            there["trials"] = search["trials"]
            write_atomic(sweep_dir / SWEEP_FILE, dump_yaml(content))


def read_search(sweep_dir: Path) -> dict[str, Any]:
    """Return the content of a search's ``sweep.yaml``.

    Raises:
        RequestError: the folder is no sweep, or one without a search.
    """
    content = read_request(sweep_dir)
    if content.get("search") is None or not (sweep_dir / SPACE_FILE).is_file():
        raise RequestError(Problem("SWEEP_DIR", str(sweep_dir), f"holds no search: it has no {SPACE_FILE}"))
    return content


@dataclass(frozen=True)
class Proposal:
    """One run that a search asks for.

    Args:
        settings: of all dimensions.
        number: of the trial.
        seed: None for that of the config.
        first: whether it is the trial's first run, which reports to the pruner.
    """

    settings: Sequence[Setting]
    number: int
    seed: int | None
    first: bool


def planned_run(proposal: Proposal, space: Space, content: Mapping[str, Any], sweep_dir: Path) -> PlannedRun:
    """Return the run of a proposal; its id is longer than usual only where another run has the same.

    Args:
        proposal: what is asked for.
        space: of the search.
        content: of ``sweep.yaml``.
        sweep_dir: folder of the sweep.

    Raises:
        RequestError: the proposal makes no valid config.
    """
    settings, seed = list(proposal.settings), proposal.seed
    if seed is not None:
        settings.append((seed, f"seed={seed}", OverridesParser.create().parse_override(f"seed={seed}")))
    frozen, problems = space.frozen(settings)
    if problems:
        raise RequestError(problems)
    whole = digest(frozen)
    frozen["search"] = _section(content["search"], proposal)
    swept = {override.key_or_group: value for value, _, override in settings}
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in swept.items()}
    label = label_of(rounded)[:LABEL_LENGTH]
    texts = tuple(text for _, text, _ in settings)
    for length in range(ID_LENGTH, len(whole) + 1):
        run = PlannedRun(whole[:length], label, whole, texts, swept, frozen)
        if _is_free(run, content["runs"], sweep_dir):
            return run
    raise AssertionError("two different configs with one digest")


def _section(search: Mapping[str, Any], proposal: Proposal) -> dict[str, Any]:
    """Return what a run's frozen config keeps of the search."""
    pruning = {key: search[key] for key in FOR_PRUNING} if search["pruner"] is not None else {}
    reports = proposal.first and search["pruner"] is not None
    return {"name": search["name"], "trial": proposal.number, "reports": reports, **pruning}


def _is_free(run: PlannedRun, names: Sequence[str], sweep_dir: Path) -> bool:
    """Whether no other run of the sweep has the id; the run's own folder may be there."""
    if any(name.rpartition("-")[2] == run.id and name != run.folder for name in names):
        return False
    folder = sweep_dir / run.folder
    return not folder.exists() or Record.read(folder).config_digest == run.digest

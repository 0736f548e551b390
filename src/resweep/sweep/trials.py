"""The files of a search: its section in ``sweep.yaml``, its ``space.yaml``, and the run folders of proposals."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from resweep.config import ID_LENGTH, digest, load_yaml, read_frozen
from resweep.errors import Problem, RequestError
from resweep.record import SWEEP_FILE, Record
from resweep.sweep.ledger import asking, damage, read_request, write_request
from resweep.sweep.overrides import Setting
from resweep.sweep.plan import LABEL_LENGTH, PlannedRun, label_of
from resweep.sweep.space import SPACE_END, SPACE_FILE, Space
from resweep.sweep.storage import JOURNAL_FILE, without_password
from resweep.sweep.study import check_name_is_free

# What the run's own side of pruning needs to know.
FOR_PRUNING = ("pruner", "min_epochs", "reduction_factor", "max_epochs")
SECTION = ("name", "trials", "seed", "seeds", "sampler", "storage", "monitor", "direction", "id", *FOR_PRUNING)
# What Hydra's grammar and a content of another shape raise.
_UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, HydraException)


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
            write_request(sweep_dir, content)


def read_search(sweep_dir: Path) -> dict[str, Any]:
    """Return the content of a search's ``sweep.yaml``, with that of ``trials.json``.

    Raises:
        RequestError: the folder is no sweep, or one without a search, or a file is damaged.
    """
    content = read_request(sweep_dir)
    section = content.get("search")
    if section is None:
        raise RequestError(Problem("SWEEP_DIR", str(sweep_dir), "holds no search: it is a grid"))
    missing = [key for key in SECTION if key not in section] if isinstance(section, dict) else ["search"]
    if missing or not isinstance(content.get("name"), str):
        raise damage(sweep_dir, SWEEP_FILE, f"its search has no {', '.join(missing) or 'name'}")
    return content


def read_space(sweep_dir: Path) -> Space:
    """Return what a search proposes, as its ``space.yaml`` says.

    Raises:
        RequestError: the file is missing or damaged.
    """
    path = sweep_dir / SPACE_FILE
    try:
        text = path.read_text(encoding="utf-8")
        content = load_yaml(text)
    except FileNotFoundError as error:
        raise RequestError(Problem("SWEEP_DIR", str(sweep_dir), f"holds no search: it has no {SPACE_FILE}")) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise damage(sweep_dir, SPACE_FILE, error) from error
    if not text.endswith(SPACE_END):
        raise damage(sweep_dir, SPACE_FILE, f"its end is missing, a line {SPACE_END.strip()}")
    try:
        space = Space(content)
        space.distributions()
        whole = all({"choices", "runtime", "config"} <= one.keys() for one in space.templates.values())
    except _UNUSABLE as error:
        raise damage(sweep_dir, SPACE_FILE, "it is no list of dimensions and templates") from error
    if not whole or not space.templates:
        raise damage(sweep_dir, SPACE_FILE, "it has no whole templates")
    return space


def read_record(run_dir: Path) -> Record | None:
    """Return a run's record; None when it is missing or damaged."""
    try:
        return Record.read(run_dir)
    except (OSError, ValueError):
        return None


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


def planned_run(
    proposal: Proposal, space: Space, search: Mapping[str, Any], taken: Mapping[str, str], sweep_dir: Path
) -> PlannedRun:
    """Return the run of a proposal; its id is longer than usual only where another run has the same.

    Args:
        proposal: what is asked for.
        space: of the search.
        search: section of ``sweep.yaml``.
        taken: ids of the sweep's runs, and their folders.
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
    frozen["search"] = _section(search, proposal)
    swept = {override.key_or_group: value for value, _, override in settings}
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in swept.items()}
    label = label_of(rounded)[:LABEL_LENGTH]
    texts = tuple(text for _, text, _ in settings)
    for length in range(ID_LENGTH, len(whole) + 1):
        run = PlannedRun(whole[:length], label, whole, texts, swept, frozen)
        if _is_free(run, taken, sweep_dir):
            return run
    raise AssertionError("two different configs with one digest")


def _section(search: Mapping[str, Any], proposal: Proposal) -> dict[str, Any]:
    """Return what a run's frozen config keeps of the search."""
    pruning = {key: search[key] for key in FOR_PRUNING} if search["pruner"] is not None else {}
    reports = proposal.first and search["pruner"] is not None
    return {"name": search["name"], "trial": proposal.number, "reports": reports, **pruning}


def _is_free(run: PlannedRun, taken: Mapping[str, str], sweep_dir: Path) -> bool:
    """Whether no other run of the sweep has the id; the run's own folder may be there."""
    if taken.get(run.id, run.folder) != run.folder:
        return False
    folder = sweep_dir / run.folder
    return not folder.exists() or _digest_of(folder) == run.digest


def _digest_of(run_dir: Path) -> str | None:
    """Return the digest of the run in a folder, by its config if its record cannot be read; None when neither can."""
    if (record := read_record(run_dir)) is not None:
        return record.config_digest
    try:
        return digest(read_frozen(run_dir))
    except RequestError:
        return None


def cause(run_dir: Path, record: Record | None) -> str:
    """Return why a run gives its trial no value, in words."""
    if record is None:
        return f"run {run_dir.name.rpartition('-')[2]} has no record that can be read"
    words = (record.error or {}).get("message")
    return f"run {record.id} {record.status}" + (f": {words}" if words else "")


class Telling:
    """Tells a search what has come out of runs that somebody chose to repeat; proposes none.

    Args:
        ended: takes note of a run, see :meth:`resweep.sweep.search.Search.ended`; returns what follows from it.
    """

    def __init__(self, ended: Callable[[Path], list[Path]]) -> None:
        self.ended = ended

    def pending(self) -> list[Path]:
        """Return nothing: what there is to do has been chosen."""
        return []

    def ask(self) -> list[Path]:
        """Return nothing."""
        return []

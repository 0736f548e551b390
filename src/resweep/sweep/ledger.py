"""A sweep as one object on disk: the request, and one folder per run with its frozen config and its record.

A new sweep is written into a temporary folder and renamed, so that a sweep folder is complete or not there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from resweep import __version__
from resweep.claim import Busy, claim
from resweep.code import code_state
from resweep.config import dump_yaml, is_machine_fact, load_yaml, write_frozen
from resweep.errors import Problem, RequestError
from resweep.record import LOCK_FILE, SWEEP_FILE, Record, utc_now, write_atomic
from resweep.sweep.plan import Plan, PlannedRun, SearchPlan
from resweep.sweep.space import SPACE_END, SPACE_FILE
from resweep.sweep.trial_list import TRIALS_FILE, trials_text, with_trials, without_trials

NAME_LENGTH = 40
ASK_LOCK = ".ask.lock"


def sweep_name(plan: Plan) -> str:
    """Return the folder name of a sweep that was not given one: its axes without the seed, and the plan's digest.

    The same request gives the same name, so that repeating a command finds the finished runs.
    """
    axes = [key.rsplit(".", 1)[-1] for key in plan.axes if key != "seed"] or ["seed"]
    return f"{'-'.join(axes)[:NAME_LENGTH]}-{plan.digest[:5]}"


def new_record(run: PlannedRun) -> Record:
    """Return the record of a run that waits."""
    return Record(
        id=run.id,
        label=run.label,
        seed=run.config["seed"],
        config_digest=run.digest,
        overrides=list(run.overrides),
        swept=run.swept,
    )


def write_run(run: PlannedRun, run_dir: Path) -> None:
    """Write the frozen config and the waiting record of a run into a new folder.

    Raises:
        RequestError: the folder cannot be written.
    """
    temporary = run_dir.with_name(f".{run_dir.name}.{os.getpid()}.tmp")
    with _writable(run_dir.parent):
        try:
            temporary.mkdir(parents=True)
            write_frozen(run.config, temporary)
            new_record(run).write(temporary)
            os.replace(temporary, run_dir)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _writable(runs_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RequestError(Problem("runs_dir", str(runs_dir), f"cannot be written: {error.strerror}")) from error


def check_writable(runs_dir: Path) -> None:
    """Raise RequestError unless new folders can be made at or below ``runs_dir``; nothing is written."""
    place = runs_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        reason = "is not a folder" if not place.is_dir() else "is not writable for this user"
        raise RequestError(Problem("runs_dir", str(runs_dir), f"cannot be written: {place} {reason}"))


def prepare(plan: Plan, sweep_dir: Path) -> bool:
    """Write a planned sweep, or recognize the one that is there.

    Returns:
        True when the sweep was there already.

    Raises:
        RequestError: the folder holds another sweep, or cannot be written.
    """
    if sweep_dir.exists():
        _same_or_refuse(plan, sweep_dir)
        for run in plan.runs:
            if not (sweep_dir / run.folder).exists():  # taken away to have it done again
                write_run(run, sweep_dir / run.folder)
        if isinstance(plan, SearchPlan):
            from resweep.sweep.trials import go_on_with  # which needs this module

            go_on_with(plan.search, sweep_dir)
        return True
    content = request(plan, sweep_dir.name)
    temporary = _temporary(sweep_dir)
    with _writable(sweep_dir.parent):
        try:
            for run in plan.runs:
                folder = temporary / run.folder
                folder.mkdir(parents=True)
                write_frozen(run.config, folder)
                new_record(run).write(folder)
            if isinstance(plan, SearchPlan):
                temporary.mkdir(parents=True)
                write_atomic(temporary / SPACE_FILE, dump_yaml(plan.space) + SPACE_END)
                write_atomic(temporary / TRIALS_FILE, trials_text([], {}))
            write_request(temporary, content)
            os.replace(temporary, sweep_dir)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return prepare(plan, sweep_dir)  # somebody else has just made it
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return False


def _temporary(sweep_dir: Path) -> Path:
    """Return the name under which a sweep is written; what killed processes of this machine have left is removed."""
    start = f".{sweep_dir.name}.{os.uname().nodename}."
    for left in sweep_dir.parent.glob(f"{start}*.tmp"):
        pid = left.name.removeprefix(start).removesuffix(".tmp")
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)
    return sweep_dir.with_name(f"{start}{os.getpid()}.tmp")


def request(plan: Plan, name: str) -> dict[str, Any]:
    """Return the content of ``sweep.yaml``, and of ``trials.json`` when it is that of a search."""
    content = _request(plan, name)
    if isinstance(plan, SearchPlan):
        from resweep.sweep.trials import search_request  # which needs this module

        return {**content, "search": search_request(plan.search, name), "trials": {}}
    return content


def _request(plan: Plan, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "command": ["resweep", "train", *sys.argv[1:]],
        "overrides": plan.overrides,
        "axes": plan.axes,
        "plan_digest": plan.digest,
        "counts": {"runs": len(plan.runs)},
        "created_at": utc_now(),
        "code": code_of(plan.base),
        "versions": {"resweep": __version__, "python": sys.version.split()[0]},
        "runs": [run.folder for run in plan.runs],
        "base": {key: value for key, value in plan.base.items() if not key.startswith("import_path")},
    }


def read_request(sweep_dir: Path) -> dict[str, Any]:
    """Read a sweep's ``sweep.yaml``; that of a search with the trials and runs from ``trials.json``.

    Raises:
        RequestError: the folder is not a sweep, or a file is damaged.
    """
    path = sweep_dir / SWEEP_FILE
    if not path.is_file():
        raise RequestError(Problem("SWEEP_DIR", str(sweep_dir), f"is not a sweep: it has no {SWEEP_FILE}"))
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise damage(sweep_dir, SWEEP_FILE, error) from error
    if not isinstance(content, dict):
        raise damage(sweep_dir, SWEEP_FILE, "it is no mapping")
    if (sweep_dir / SPACE_FILE).is_file() and content.get("search") is None:
        raise damage(sweep_dir, SWEEP_FILE, f"it has no search, though there is {SPACE_FILE}")
    try:
        content = with_trials(content, sweep_dir)
    except ValueError as error:
        raise RequestError(Problem("SWEEP_DIR", str(sweep_dir), f"{TRIALS_FILE} {error}")) from error
    kinds = {"runs": list, "plan_digest": str, "base": dict, "axes": dict}
    if wrong := [key for key, kind in kinds.items() if not isinstance(content.get(key), kind)]:
        raise damage(sweep_dir, SWEEP_FILE, f"it has no {', '.join(wrong)}")
    return content


def write_request(sweep_dir: Path, content: Mapping[str, Any]) -> None:
    """Write ``sweep.yaml``, without what ``trials.json`` holds."""
    write_atomic(sweep_dir / SWEEP_FILE, dump_yaml(without_trials(content)))


def damage(sweep_dir: Path, name: str, reason: Exception | str) -> RequestError:
    """Return the error that says, in one line, what is wrong with a file of a sweep."""
    mark, problem = getattr(reason, "problem_mark", None), getattr(reason, "problem", None)
    words = f"{problem} in line {mark.line + 1}" if mark and problem else " ".join(str(reason).split())
    return RequestError(Problem("SWEEP_DIR", str(sweep_dir), f"{name} is damaged: {words}"))


def _same_or_refuse(plan: Plan, sweep_dir: Path) -> None:
    if not (sweep_dir / SWEEP_FILE).is_file():
        message = f"{sweep_dir} exists and is not a sweep; give another name: sweep_name=NAME"
        raise RequestError(Problem("sweep_name", sweep_dir.name, message))
    there = read_request(sweep_dir)
    if there["plan_digest"] == plan.digest:
        return
    differing = [key for key in {**there["base"], **plan.base} if there["base"].get(key) != plan.base.get(key)]
    differing += [key for key in {**there["axes"], **plan.axes} if there["axes"].get(key) != plan.axes.get(key)]
    differing = [key for key in differing if not is_machine_fact(key)] + _differing_search(plan, there)
    keys = ", ".join(dict.fromkeys(differing)) or "its runs"
    message = f"{sweep_dir} holds another sweep; it differs in {keys}. Give another name: sweep_name=NAME"
    raise RequestError(Problem("sweep_name", sweep_dir.name, message))


def point_latest(runs_dir: Path, folder: Path) -> None:
    """Let ``runs/latest`` point at a run or sweep, unless something that is not a link has that name."""
    link = runs_dir / "latest"
    if link.exists() and not link.is_symlink():
        return
    temporary = runs_dir / f".latest.{os.getpid()}"
    try:
        temporary.symlink_to(os.path.relpath(folder, runs_dir))
        os.replace(temporary, link)
    except OSError:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class PlannedCode:
    """The code that a sweep was planned with.

    Args:
        import_path: folder of the user's modules.
        allowed_targets: the user's classes that configs may name.
        state: see :func:`resweep.code.code_state`.
    """

    import_path: str | None
    allowed_targets: dict[str, str]
    state: dict[str, str]


def code_of(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the code that runs with these common values depend on, for ``sweep.yaml``."""
    prefix = "allowed_targets."
    targets = {key.removeprefix(prefix): value for key, value in base.items() if key.startswith(prefix)}
    path = base.get("import_path")
    return {"import_path": path, "allowed_targets": targets, "state": code_state(path, targets)}


def planned_code(request: Mapping[str, Any]) -> PlannedCode:
    """Return the code that a sweep was planned with."""
    return PlannedCode(**request["code"])


def accept_code(sweep_dir: Path, state: dict[str, str], changes: list[str]) -> None:
    """Write into ``sweep.yaml`` that the sweep goes on with other code; what changed stays on record."""
    with asking(sweep_dir):
        content = read_request(sweep_dir)
        content["code"]["state"] = state
        content.setdefault("changes", []).append({"at": utc_now(), "what": changes})
        write_request(sweep_dir, content)


def _differing_search(plan: Plan, there: Mapping[str, Any]) -> list[str]:
    """Return the search settings in which a request differs from the sweep that is there."""
    asked = plan.search if isinstance(plan, SearchPlan) else {"name": "grid"}
    known = there.get("search") or {"name": "grid"}
    if asked["name"] != known["name"]:
        return ["search.name"]
    own = [key for key in asked if key not in ("trials", "storage", "monitor", "direction", "max_epochs")]
    return [f"search.{key}" for key in own if asked[key] != known[key]]


@contextmanager
def asking(sweep_dir: Path) -> Iterator[None]:
    """Wait until no other process asks, tells or changes ``sweep.yaml``; then keep them waiting."""
    with open(sweep_dir / ASK_LOCK, "a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def run_folders(sweep_dir: Path) -> list[Path]:
    """Return the folders of a sweep's runs in plan order."""
    return [sweep_dir / name for name in read_request(sweep_dir)["runs"]]


@contextmanager
def locked(sweep_dir: Path) -> Iterator[None]:
    """Hold the sweep for this process on this machine; the lock goes with the process, however it ends.

    Other machines that share the file system take runs of the same sweep at the same time; every run is claimed by the
    process that executes it. Each job of a cluster counts as a machine of its own.

    Raises:
        RequestError: another process of this machine carries this sweep out; it is named.
    """
    place = "-".join(filter(None, (os.uname().nodename, os.environ.get("SLURM_JOB_ID"))))
    try:
        with claim(sweep_dir, f"{LOCK_FILE}-{place}"):
            yield
    except Busy as busy:
        raise RequestError(Problem("SWEEP_DIR", str(sweep_dir), f"is being carried out by {busy.holder}")) from busy
    except OSError as error:
        raise RequestError(Problem("SWEEP_DIR", str(sweep_dir), f"cannot be written: {error.strerror}")) from error

"""``trials.json``: the trials and runs of a search, which grow while ``sweep.yaml`` stays as it was planned.

Reading it needs nothing but the standard library, so that ``resweep status`` stays quick.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resweep.record import write_atomic

TRIALS_FILE = "trials.json"
GROWING = ("runs", "counts", "trials")  # what a reader of the request finds in this file
Entry = dict[str, Any]


def trials_text(runs: list[str], trials: Mapping[int, Entry]) -> str:
    """Return the content of ``trials.json``; without line ends, which would take ten times as long.

    Args:
        runs: folder names in the order in which they were proposed.
        trials: number to what is known of it: ``digest`` of its first run, ``runs``, those ``given_up``, and where it
            applies ``same_as`` or ``problem``.
    """
    return json.dumps({"runs": runs, "trials": trials}) + "\n"


def read_trials(sweep_dir: Path) -> tuple[list[str], dict[int, Entry]]:
    """Return what :func:`trials_text` was given.

    Raises:
        ValueError: the file is missing or damaged; the message says which, without the file's name.
    """
    try:
        content = json.loads((sweep_dir / TRIALS_FILE).read_bytes())
    except FileNotFoundError as error:
        raise ValueError("is missing; put it back, or begin anew with another sweep_name") from error
    except (ValueError, OSError) as error:  # text that is no JSON or no UTF-8, too
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ValueError(f"is damaged: {reason}") from error
    try:
        runs, trials = content["runs"], {int(number): entry for number, entry in content["trials"].items()}
        names = [*runs, *(name for one in trials.values() for name in (*one["runs"], *one["given_up"]))]
        leaders = {one["same_as"] for one in trials.values() if "same_as" in one}
        whole = isinstance(runs, list) and leaders <= trials.keys() and all("digest" in one for one in trials.values())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError("is damaged: it is no list of runs and trials") from error
    if not whole or not all(isinstance(name, str) for name in names):
        raise ValueError("is damaged: it is no list of runs and trials")
    return runs, trials


def with_trials(request: Mapping[str, Any], sweep_dir: Path) -> dict[str, Any]:
    """Return the content of ``sweep.yaml`` with that of ``trials.json``, when it is that of a search.

    Raises:
        ValueError: see :func:`read_trials`.
    """
    if request.get("search") is None:
        return dict(request)
    runs, trials = read_trials(sweep_dir)
    return {**request, "counts": {"runs": len(runs)}, "runs": runs, "trials": trials}


def without_trials(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a request belongs into ``sweep.yaml``."""
    if request.get("search") is None:
        return dict(request)
    return {key: value for key, value in request.items() if key not in GROWING}


class Watch:
    """Tells whether a file has been replaced; the file is opened, so that a network file system looks, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: tuple[int, ...] | None = None

    def changed(self) -> bool:
        """Whether the file is another one than at the last call; a missing one has always changed."""
        before = self.seen
        try:
            with open(self.path, "rb") as stream:
                facts = os.fstat(stream.fileno())
        except OSError:
            self.seen = None
        else:
            self.seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        return self.seen is None or self.seen != before


class TrialList:
    """The trials of a search, with what finds one of them quickly. Every use is under the sweep's lock.

    Args:
        sweep_dir: folder of the sweep.
    """

    def __init__(self, sweep_dir: Path) -> None:
        self.sweep_dir = sweep_dir
        self.runs: list[str] = []
        self.trials: dict[int, Entry] = {}
        self.trial_of: dict[str, int] = {}  # run to the trial it was made for
        self.folder_of: dict[str, str] = {}  # id of a run to its folder
        self.first_with: dict[str, int] = {}  # digest to the trial whose runs count
        self.followers: dict[int, list[int]] = {}  # that trial to those that repeat it
        self._watch = Watch(sweep_dir / TRIALS_FILE)

    def refresh(self) -> None:
        """Read the file if another process has changed it.

        Raises:
            ValueError: see :func:`read_trials`.
        """
        if not self._watch.changed():
            return
        seen, self._watch.seen = self._watch.seen, None
        runs, trials = read_trials(self.sweep_dir)
        self.runs, self.trials = runs, {}
        self.trial_of, self.first_with, self.followers = {}, {}, {}
        self.folder_of = {name.rpartition("-")[2]: name for name in runs}
        for number, entry in trials.items():
            self.add(number, entry)
        self._watch.seen = seen

    def forget(self) -> None:
        """Read the file at the next refresh in any case: what is known may not have been written."""
        self._watch.seen = None

    def add(self, number: int, entry: Entry) -> None:
        """Take in a trial."""
        self.trials[number] = entry
        if "same_as" in entry:
            self.followers.setdefault(entry["same_as"], []).append(number)
        elif entry["digest"] is not None:
            self.first_with.setdefault(entry["digest"], number)
        self.trial_of.update(dict.fromkeys(entry["runs"], number))

    def set_runs(self, number: int, names: list[str]) -> None:
        """Take in the runs of a trial."""
        self.trials[number]["runs"] = names
        new = [name for name in names if name not in self.trial_of]
        self.runs += new
        self.trial_of.update(dict.fromkeys(new, number))
        self.folder_of.update({name.rpartition("-")[2]: name for name in new})

    def save(self) -> None:
        """Write the file."""
        write_atomic(self.sweep_dir / TRIALS_FILE, trials_text(self.runs, self.trials))
        self._watch.changed()

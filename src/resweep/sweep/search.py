"""A search under way: an Optuna study beside the sweep's files, asked for settings and told their results.

``sweep.yaml`` lists the runs of every trial. A trial is first asked for in the study, then its run folders are written,
then the list; a process that dies in between leaves something that :meth:`Search.pending` completes. Any number of
processes, on any machines that share the folder, may search together: one at a time asks or tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from resweep.config import dump_yaml, load_yaml
from resweep.errors import Problem, RequestError
from resweep.record import FINISHED, SWEEP_FILE, Record, write_atomic
from resweep.sweep.ledger import asking, write_run
from resweep.sweep.overrides import Setting
from resweep.sweep.plan import PlannedRun
from resweep.sweep.space import SPACE_FILE, Space
from resweep.sweep.storage import heal_journal, quiet
from resweep.sweep.study import make_sampler, open_study
from resweep.sweep.trials import Proposal, planned_run, read_search

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

GIVEN_UP = frozenset({"failed", "lost"})


class Search:
    """Proposes the runs of a sweep and learns from their records.

    Open one with :meth:`open`. A setting that was proposed before is not trained again: the later trial takes the
    result of the earlier one.
    """

    def __init__(self, sweep_dir: Path) -> None:
        self.sweep_dir = sweep_dir
        self.content = read_search(sweep_dir)
        self.section: dict[str, Any] = self.content["search"]
        self.seeds: list[int | None] = self.section["seeds"] or [None]
        self.space = Space(load_yaml((sweep_dir / SPACE_FILE).read_text(encoding="utf-8")))
        self.distributions = self.space.distributions()
        with self._alone():
            self.given_up_before = {name for entry in self.trials.values() for name in entry["given_up"]}
            heal_journal(sweep_dir)
            self.study = open_study(self.content, sweep_dir)
            known, there = len(self.trials), len(self._asked())
            if there < known:
                message = f"has {there} of the {known} trials in {SWEEP_FILE}; its study was lost or replaced"
                raise RequestError(Problem("SWEEP_DIR", str(sweep_dir), message))

    @classmethod
    def open(cls, sweep_dir: Path) -> Search:
        """Return the search of a sweep folder; nothing else is read.

        Raises:
            RequestError: the folder holds no search, its storage cannot be reached, or its study is another one.
        """
        return cls(sweep_dir)

    @property
    def trials(self) -> dict[int, dict[str, Any]]:
        """What ``sweep.yaml`` says about each trial: its runs, in the order of the seeds."""
        return self.content["trials"]

    @property
    def total(self) -> int:
        """Number of runs if none is pruned or proposed twice: trials times seeds."""
        return self.section["trials"] * len(self.seeds)

    def counts(self) -> dict[str, int]:
        """Return the number of trials by state: complete, pruned, failed, running, and those not asked for yet."""
        names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
        states = Counter(trial.state.name for trial in self._asked())
        waiting = max(0, self.section["trials"] - states.total())
        return {**{name: states[state] for state, name in names.items()}, "waiting": waiting}

    def pending(self) -> list[Path]:
        """Return the runs of trials under way that have no result, after completing what a dead process left.

        The first call also returns runs that had been given up before this search was opened, for another attempt. A
        run whose folder was taken away is made anew.
        """
        with self._alone():
            found: list[Path] = []
            for trial in self._asked():
                if trial.state.name == "RUNNING":
                    entry = self.trials.get(trial.number) or self._begin(self._completed(trial))
                    if kept := self.given_up_before & set(entry["given_up"]):
                        entry["given_up"] = [name for name in entry["given_up"] if name not in kept]
                        self._save()
                    self._restore(trial, entry)
                    found += self._advance(trial.number)
                elif entry := self.trials.get(trial.number):
                    found += self._restore(trial, entry)
            self.given_up_before = set()
            return list(dict.fromkeys(found))

    def ask(self) -> list[Path]:
        """Return the run folders of the next trial; none when all trials have been asked for."""
        with self._alone():
            while (number := len(self._asked())) < self.section["trials"]:
                self.study.sampler = make_sampler(self.section, number, self.distributions)
                trial = self.study.ask(self.distributions)
                self._begin(self._frozen(trial.number))
                if todo := self._advance(trial.number):
                    return todo
            return []

    def ended(self, run_dir: Path) -> list[Path]:
        """Take note of a run that has its final record, and tell the study when its trial is complete.

        Args:
            run_dir: a run that has a result, or that is not tried again.

        Returns:
            Further runs that follow from it: those of the other seeds, when the first one was not pruned.
        """
        status = Record.read(run_dir).status
        if status not in FINISHED | GIVEN_UP:
            return []
        with self._alone():
            new: list[Path] = []
            for number, entry in sorted(self.trials.items()):
                if run_dir.name not in self._runs(number):
                    continue
                if status in GIVEN_UP and "same_as" not in entry and run_dir.name not in entry["given_up"]:
                    entry["given_up"].append(run_dir.name)
                    self._save()
                before = set(self._runs(number))
                if self._frozen(number).state.name == "RUNNING":
                    new += [path for path in self._advance(number) if path.name not in before]
            return new

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with asking(self.sweep_dir), quiet():
            self.content = read_search(self.sweep_dir)
            self.section = self.content["search"]
            yield

    def _asked(self) -> list[FrozenTrial]:
        """The study's trials but for those that somebody has queued."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]

    def _frozen(self, number: int) -> FrozenTrial:
        return next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)

    def _completed(self, trial: FrozenTrial) -> FrozenTrial:
        """Ask for the parameters that a process which died while asking did not get."""
        from optuna.trial import Trial

        if self.distributions.keys() <= trial.params.keys():
            return trial
        self.study.sampler = make_sampler(self.section, trial.number, self.distributions)
        again = Trial(self.study, trial._trial_id)
        for name, distribution in self.distributions.items():
            again._suggest(name, distribution)
        return self._frozen(trial.number)

    def _begin(self, trial: FrozenTrial) -> dict[str, Any]:
        """Write the runs of a trial, or note that it repeats an earlier one."""
        entry: dict[str, Any] = {"digest": None, "runs": [], "given_up": []}
        try:
            settings = self.space.settings(trial.params)
            entry["digest"] = self._run(settings, self.seeds[0], trial.number).digest
        except RequestError as error:
            entry["problem"] = str(error).splitlines()[0]
        same = [number for number, other in self.trials.items() if other["digest"] == entry["digest"]]
        if same and entry["digest"] is not None:
            entry["same_as"] = min(same)
            self._note(trial, f"the same settings as trial {min(same)}, whose result it takes")
        self.trials[trial.number] = entry
        if "same_as" in entry or "problem" in entry:
            self._save()
        else:
            self._write(trial, entry, self.seeds[:1] if self.section["pruner"] else self.seeds)
        return entry

    def _write(self, trial: FrozenTrial, entry: dict[str, Any], seeds: Sequence[int | None]) -> None:
        """Write the runs of a trial that are not there, then the list of runs."""
        settings = self.space.settings(trial.params)
        runs = [self._run(settings, seed, trial.number) for seed in seeds]
        for run in runs:
            if not (self.sweep_dir / run.folder).exists():
                write_run(run, self.sweep_dir / run.folder)
        entry["runs"] = [run.folder for run in runs]
        self.content["runs"] = list(dict.fromkeys([*self.content["runs"], *entry["runs"]]))
        self.content["counts"]["runs"] = len(self.content["runs"])
        self.study._storage.set_trial_user_attr(trial._trial_id, "runs", entry["runs"])
        self._save()

    def _restore(self, trial: FrozenTrial, entry: dict[str, Any]) -> list[Path]:
        """Make a trial's runs anew whose folders are gone; return those of its runs that have not been carried out."""
        if gone := [name for name in entry["runs"] if not (self.sweep_dir / name).exists()]:
            settings = self.space.settings(trial.params)
            for run in (self._run(settings, seed, trial.number) for seed in self.seeds[: len(entry["runs"])]):
                if run.folder in gone:
                    write_run(run, self.sweep_dir / run.folder)
        unfinished = FINISHED | GIVEN_UP
        return [path for path in self._paths(entry["runs"]) if Record.read(path).status not in unfinished]

    def _run(self, settings: Sequence[Setting], seed: int | None, number: int) -> PlannedRun:
        proposal = Proposal(settings, number, seed, first=seed == self.seeds[0])
        return planned_run(proposal, self.space, self.content, self.sweep_dir)

    def _runs(self, number: int) -> list[str]:
        """The runs of a trial, which are another trial's when it repeats that."""
        entry = self.trials[number]
        return self.trials[entry["same_as"]]["runs"] if "same_as" in entry else entry["runs"]

    def _paths(self, names: Sequence[str]) -> list[Path]:
        return [self.sweep_dir / name for name in names]

    def _advance(self, number: int) -> list[Path]:
        """Tell the study about a trial when all its runs are over; return the runs to do."""
        entry = self.trials[number]
        if "problem" in entry:
            self._tell(number, "FAIL", note=entry["problem"])
            return []
        leader = self.trials[entry.get("same_as", number)]
        records = {path: Record.read(path) for path in self._paths(leader["runs"])}
        over = {p for p, record in records.items() if record.status in FINISHED or p.name in leader["given_up"]}
        if len(over) < len(records):
            return [] if leader is not entry else [path for path in records if path not in over]
        good = all(record.status == "completed" for record in records.values())
        if good and len(records) < len(self.seeds):
            if leader is not entry:
                return []  # the other trial goes on with the further seeds
            self._write(self._frozen(number), entry, self.seeds)
            return self._advance(number)
        self._conclude(number, list(records.values()))
        return []

    def _conclude(self, number: int, records: list[Record]) -> None:
        """Tell the study what has come out: the mean over the seeds, or why there is none."""
        bad = [record for record in records if record.status != "completed"]
        if failed := [record for record in bad if record.status not in FINISHED]:
            self._tell(number, "FAIL", note=_cause(failed[0]))
            return
        if bad:
            self._tell(number, "PRUNED", note=_cause(bad[0]))
            return
        values = [record.metrics.get(self.section["monitor"]) for record in records]
        if None in values:
            self._tell(number, "FAIL", note=f"no finite {self.section['monitor']} in the record")
            return
        self._tell(number, "COMPLETE", fmean(values))  # type: ignore[arg-type]

    def _tell(self, number: int, state: str, value: float | None = None, note: str | None = None) -> None:
        from optuna.trial import TrialState

        if note is not None:
            self._note(self._frozen(number), note)
        self.study.tell(number, value, state=TrialState[state], skip_if_finished=True)

    def _note(self, trial: FrozenTrial, text: str) -> None:
        if not trial.state.is_finished():
            said = trial.user_attrs.get("note")
            self.study._storage.set_trial_user_attr(trial._trial_id, "note", f"{said}; {text}" if said else text)

    def _save(self) -> None:
        write_atomic(self.sweep_dir / SWEEP_FILE, dump_yaml(self.content))


def _cause(record: Record) -> str:
    words = (record.error or {}).get("message")
    return f"run {record.id} {record.status}" + (f": {words}" if words else "")

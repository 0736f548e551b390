"""A search under way: an Optuna study beside the sweep's files, asked for settings and told their results.

``trials.json`` lists the runs of every trial. A trial is first asked for in the study, then its run folders are
written, then the list; a process that dies in between leaves something that :meth:`Search.pending` completes. Any
number of processes, on any machines that share the folder, may search together: one at a time asks or tells.

A trial whose run has failed for good stays under way in the study, with a note that says why: a later attempt can still
complete it, and a sampler that looks at trials under way keeps away from its settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from resweep.errors import Problem, RequestError
from resweep.record import FINISHED, SWEEP_FILE, Record
from resweep.sweep.ledger import asking, write_run
from resweep.sweep.overrides import Setting
from resweep.sweep.plan import PlannedRun
from resweep.sweep.storage import quiet
from resweep.sweep.study import make_sampler, open_study
from resweep.sweep.trial_list import TRIALS_FILE, Entry, TrialList, Watch
from resweep.sweep.trials import Proposal, Telling, cause, planned_run, read_record, read_search, read_space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class Search:
    """Proposes the runs of a sweep and learns from their records.

    Open one with :meth:`open`. A setting that was proposed before is not trained again: the later trial takes the
    result of the earlier one.
    """

    def __init__(self, sweep_dir: Path) -> None:
        self.sweep_dir = sweep_dir
        self._request = Watch(sweep_dir / SWEEP_FILE)
        self._request.changed()
        self.content: dict[str, Any] = read_search(sweep_dir)
        self.space = read_space(sweep_dir)
        self.distributions = self.space.distributions()
        self.list = TrialList(sweep_dir)
        self.again = False  # whether a run that has failed is to be done
        self._first = True
        with self._alone():
            self.given_up_before = {name for entry in self.trials.values() for name in entry["given_up"]}
            self.study = open_study(self.content, sweep_dir, len(self.trials))

    @classmethod
    def open(cls, sweep_dir: Path) -> Search:
        """Return the search of a sweep folder; nothing else is read.

        Raises:
            RequestError: the folder holds no search, its storage cannot be reached, or its study is another one.
        """
        return cls(sweep_dir)

    @property
    def trials(self) -> dict[int, dict[str, Any]]:
        """What ``trials.json`` says about each trial: its runs, in the order of the seeds."""
        return self.list.trials

    @property
    def section(self) -> dict[str, Any]:
        """How settings are proposed and compared, see ``sweep.yaml``."""
        return self.content["search"]

    @property
    def seeds(self) -> list[int | None]:
        """The seeds that each setting is trained with; None for that of the config."""
        return self.section["seeds"] or [None]

    @property
    def total(self) -> int:
        """Number of runs if none is pruned or proposed twice: trials times seeds."""
        return self.section["trials"] * len(self.seeds)

    def counts(self) -> dict[str, int]:
        """Return the number of trials by state: complete, pruned, failed, running, and those not asked for yet."""
        names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
        states = Counter("FAIL" if self._waits(trial) else trial.state.name for trial in self._asked())
        waiting = max(0, self.section["trials"] - states.total())
        return {**{name: states[state] for state, name in names.items()}, "waiting": waiting}

    def _waits(self, trial: FrozenTrial) -> bool:
        """Whether a trial is under way only because a run of it was given up."""
        entry = self.trials.get(trial.number)
        return entry is not None and not trial.state.is_finished() and bool(self._leader(entry)["given_up"])

    def pending(self, again: bool = True) -> list[Path]:
        """Return the runs that have no result, after completing what a dead process left.

        The first call also returns runs that have failed or had been given up before this search was opened, for
        another attempt. Later calls return neither, and none returns a run whose record cannot be read. A run whose
        folder was taken away is made anew.

        Args:
            again: whether the first call returns runs that have failed.
        """
        self.again = again and self._first
        with self._alone():
            found: list[Path] = []
            for trial in self._asked():
                entry, running = self.trials.get(trial.number), trial.state.name == "RUNNING"
                if entry is None and running:
                    entry = self._begin(self._completed(trial))
                if entry is None:
                    continue
                self._restore(trial, entry)
                self._try_again(entry)
                found += self._advance(trial.number) if running else self._left(entry)
            self.given_up_before, self.again, self._first = set(), False, False
            return list(dict.fromkeys(found))

    def without_proposals(self) -> Telling:
        """Return what takes note of runs as this search does, and asks for none."""
        return Telling(self.ended)

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
        record = read_record(run_dir)
        if record is not None and record.status in ("pending", "running"):
            return []
        with self._alone():
            number = self.list.trial_of.get(run_dir.name)
            if number is None:
                return []
            self._give_up(self.trials[number], run_dir.name, record is None or record.status not in FINISHED)
            before, new = set(self.trials[number]["runs"]), []
            for one in (number, *self.list.followers.get(number, ())):
                if self._frozen(one).state.name == "RUNNING":
                    new += [path for path in self._advance(one) if path.name not in before]
            return new

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with asking(self.sweep_dir), quiet():
            if self._request.changed():
                self.content = read_search(self.sweep_dir)
            try:
                self.list.refresh()
            except ValueError as error:
                raise RequestError(Problem("SWEEP_DIR", str(self.sweep_dir), f"{TRIALS_FILE} {error}")) from error
            try:
                yield
            except BaseException:
                self.list.forget()
                raise

    def _asked(self) -> list[FrozenTrial]:
        """The study's trials but for those that somebody has queued."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]

    def _frozen(self, number: int) -> FrozenTrial:
        storage = self.study._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number))

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

    def _begin(self, trial: FrozenTrial) -> Entry:
        """Write the runs of a trial, or note that it repeats an earlier one."""
        entry: Entry = {"digest": None, "runs": [], "given_up": []}
        try:
            settings = self.space.settings(trial.params)
            entry["digest"] = self._run(settings, self.seeds[0], trial.number).digest
        except RequestError as error:
            entry["problem"] = str(error).splitlines()[0]
        same = self.list.first_with.get(entry["digest"])
        if same is not None:
            entry["same_as"] = same
        self.list.add(trial.number, entry)
        if "same_as" in entry or "problem" in entry:
            self._note(trial.number, None)
            self.list.save()
        else:
            self._write(trial, entry, self.seeds[:1] if self.section["pruner"] else self.seeds)
        return entry

    def _write(self, trial: FrozenTrial, entry: Entry, seeds: Sequence[int | None]) -> None:
        """Write the runs of a trial that are not there, then the list of runs."""
        settings = self.space.settings(trial.params)
        names = list(entry["runs"])
        for seed in seeds[len(names) :]:
            run = self._run(settings, seed, trial.number)
            if not (self.sweep_dir / run.folder).exists():
                write_run(run, self.sweep_dir / run.folder)
            names.append(run.folder)
        self.study._storage.set_trial_user_attr(trial._trial_id, "runs", names)
        self.list.set_runs(trial.number, names)
        self.list.save()

    def _restore(self, trial: FrozenTrial, entry: Entry) -> None:
        """Make a trial's runs anew whose folders are gone."""
        gone = [name for name in entry["runs"] if not (self.sweep_dir / name).exists()]
        if not gone:
            return
        settings = self.space.settings(trial.params)
        for run in (self._run(settings, seed, trial.number) for seed in self.seeds[: len(entry["runs"])]):
            if run.folder in gone:
                write_run(run, self.sweep_dir / run.folder)
                self._give_up(entry, run.folder, False)

    def _run(self, settings: Sequence[Setting], seed: int | None, number: int) -> PlannedRun:
        proposal = Proposal(settings, number, seed, first=seed == self.seeds[0])
        return planned_run(proposal, self.space, self.section, self.list.folder_of, self.sweep_dir)

    def _leader(self, entry: Entry) -> Entry:
        """The trial whose runs count for a trial: itself, or the one that it repeats."""
        return self.trials[entry["same_as"]] if "same_as" in entry else entry

    def _give_up(self, entry: Entry, name: str, given_up: bool) -> None:
        """Note whether a run is not tried again by this search nor by others that are under way."""
        if given_up != (name in entry["given_up"]):
            entry["given_up"] = [*entry["given_up"], name] if given_up else [n for n in entry["given_up"] if n != name]
            self.list.save()

    def _try_again(self, entry: Entry) -> None:
        """Take up the runs of a trial that had been given up before this search was opened."""
        for name in self.given_up_before.intersection(entry["given_up"]):
            record = read_record(self.sweep_dir / name)
            if record is not None and (self.again or record.status != "failed"):
                self._give_up(entry, name, False)

    def _records(self, entry: Entry) -> dict[Path, Record | None]:
        return {self.sweep_dir / name: read_record(self.sweep_dir / name) for name in entry["runs"]}

    def _is_left(self, entry: Entry, run_dir: Path, record: Record | None) -> bool:
        """Whether a run is to be carried out."""
        if record is None or record.status in FINISHED or run_dir.name in entry["given_up"]:
            return False
        return self.again or record.status != "failed"

    def _left(self, entry: Entry) -> list[Path]:
        return [path for path, record in self._records(entry).items() if self._is_left(entry, path, record)]

    def _advance(self, number: int) -> list[Path]:
        """Tell the study about a trial when all its runs have a result; return the runs to do."""
        entry = self.trials[number]
        if "problem" in entry:
            self._tell(number, "FAIL", note=entry["problem"])
            return []
        leader = self._leader(entry)
        found = self._records(leader)
        records = [record for record in found.values() if record is not None and record.status in FINISHED]
        if len(records) < len(found):
            left = [path for path, record in found.items() if self._is_left(leader, path, record)]
            for path, record in found.items():
                if path not in left and (record is None or record.status not in FINISHED):
                    self._note(number, cause(path, record))
            return left if leader is entry else []
        good = all(record.status == "completed" for record in records)
        if good and len(records) < len(self.seeds):
            if leader is not entry:
                return []  # the other trial goes on with the further seeds
            self._write(self._frozen(number), entry, self.seeds)
            return self._advance(number)
        self._conclude(number, list(found), records)
        return []

    def _conclude(self, number: int, run_dirs: list[Path], records: list[Record]) -> None:
        """Tell the study what has come out: the mean over the seeds, or why there is none."""
        bad = [pair for pair in zip(run_dirs, records, strict=True) if pair[1].status != "completed"]
        if bad:
            self._tell(number, "PRUNED", note=cause(*bad[0]))
            return
        values = [record.metrics.get(self.section["monitor"]) for record in records]
        if None in values:
            self._tell(number, "FAIL", note=f"no finite {self.section['monitor']} in the record")
            return
        self._tell(number, "COMPLETE", fmean(values))  # type: ignore[arg-type]

    def _tell(self, number: int, state: str, value: float | None = None, note: str | None = None) -> None:
        from optuna.trial import TrialState

        self._note(number, note)
        self.study.tell(number, value, state=TrialState[state], skip_if_finished=True)

    def _note(self, number: int, text: str | None) -> None:
        """Set the trial's note; it replaces what was said of an earlier attempt."""
        trial, same = self._frozen(number), self.trials[number].get("same_as")
        said = trial.user_attrs.get("note")
        parts = [] if same is None else [f"the same settings as trial {same}, whose result it takes"]
        note = "; ".join([*parts, *filter(None, [text])]) or (said and "its run was repeated")
        if note != said and not trial.state.is_finished():
            self.study._storage.set_trial_user_attr(trial._trial_id, "note", note)

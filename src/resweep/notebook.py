"""Sweeps and runs from Python: ``resweep.load``, ``resweep.train`` and ``resweep.config``.

What these return shows itself in a notebook as plain HTML, so that a saved notebook keeps it; there are no widgets.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from resweep.drawings import Pictures
from resweep.errors import Problem, RequestError, nearest_name
from resweep.record import LOG_FILE
from resweep.trained import Config, TrainedRun, html_table

if TYPE_CHECKING:
    import pandas

    from resweep.report.load import Sweep
    from resweep.report.table import Ranking
    from resweep.sweep.plan import Plan

PROGRESS = ("off", "plain")

LISTED = 6
"""Runs that are named where another one was asked for."""


class RunFailed(RuntimeError):
    """A run ended with an error.

    Args:
        run: its folder, with the record and the whole trace in ``run.log``.
    """

    def __init__(self, run: TrainedRun) -> None:
        self.run = run
        error = run.record.error or {}
        super().__init__(f"{error.get('type')}: {error.get('message')}  (whole trace: {run.dir / LOG_FILE})")


class LoadedSweep:
    """A sweep's runs, curves, ranking and pictures; shown as the table of settings.

    Files are read when they are first asked for, and once: load again to see what has been added.

    Args:
        sweep: as :func:`resweep.report.load.load_sweep` returns it.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.plot = Pictures(self)

    @cached_property
    def runs(self) -> pandas.DataFrame:
        """One row per run, see :func:`resweep.report.frames.runs_frame`."""
        from resweep.report.frames import runs_frame

        return runs_frame(self.sweep)

    @cached_property
    def curves(self) -> pandas.DataFrame:
        """One row per run and epoch, see :func:`resweep.report.frames.curves_frame`."""
        from resweep.report.frames import curves_frame

        return curves_frame(self.sweep)

    @cached_property
    def table(self) -> Ranking:
        """The settings, ranked on validation; ``table.difference(a, b)`` compares two of ``table.rows``."""
        from resweep.report.table import ranking

        return ranking(self.sweep)

    @property
    def answer(self) -> str:
        """What to use, and which differences were shown."""
        from resweep.report.words import answer

        return answer(self.table)

    def best(self) -> TrainedRun:
        """Return the run with the best validation metric among those of the best setting.

        Raises:
            RequestError: no run has completed with a validation result.
        """
        table = self.table
        if table.best is None:
            message = f"has no completed run with {table.monitor}, so none is the best"
            raise RequestError(Problem("SWEEP_DIR", str(self.sweep.dir), message))
        sign = 1.0 if table.mode == "max" else -1.0
        measured = [run for run in table.best.completed if run.metrics.get(table.monitor) is not None]
        return TrainedRun(max(measured, key=lambda run: sign * run.metrics[table.monitor]).dir)

    def run(self, name: str) -> TrainedRun:
        """Return the run with an id or a folder name.

        Raises:
            RequestError: there is none, or several have the id.
        """
        found = [run for run in self.sweep.runs if name in (run.id, run.folder)]
        if len(found) == 1:
            return TrainedRun(found[0].dir)
        if found:
            raise RequestError(Problem("run", str(name), "is the id of several runs; give the folder's name"))
        ids = [run.id for run in self.sweep.runs]
        some = ", ".join(ids[:LISTED]) + (f" and {len(ids) - LISTED} more" if len(ids) > LISTED else "")
        message = f"is no run of this sweep; there are {some or 'none'}"
        near = nearest_name(str(name), [*ids, *(run.folder for run in self.sweep.runs)])
        raise RequestError(Problem("run", str(name), message, near))

    def __repr__(self) -> str:
        from resweep.report.cells import setting_grid
        from resweep.report.layout import aligned

        lines = [self._heading(), aligned(setting_grid(self.table, self.table.rows)), self.answer]
        return "\n".join(lines if self.table.rows else [lines[0], lines[2]])

    def _repr_html_(self) -> str:
        from resweep.report.cells import note, setting_grid

        grid = setting_grid(self.table, self.table.rows)
        about = note(self.table, self.table.rows)
        texts = [self.answer, *([] if about is None else [about]), *self.sweep.damaged]
        table = html_table(grid.columns, grid.cells, grid.marks) if grid.cells else ""
        return f"<p>{html.escape(self._heading())}</p>{table}{''.join(f'<p>{html.escape(text)}</p>' for text in texts)}"

    def _heading(self) -> str:
        from resweep.report.terminal import header_line

        return header_line(self.table)


def load(path: str | os.PathLike[str]) -> LoadedSweep:
    """Return the sweep in a folder.

    Args:
        path: the folder of a sweep, of single runs, or of one run.

    Raises:
        RequestError: the path holds no run; names the closest folder.

    Example:
        >>> sweep = load("runs/demo")  # doctest: +SKIP
        >>> sweep.runs.groupby("optimizer")["test/accuracy"].mean()  # doctest: +SKIP
        >>> model = sweep.best().model()  # doctest: +SKIP
    """
    from resweep.report.load import load_sweep

    if not isinstance(path, (str, os.PathLike)):
        message = f"must be a path as text or pathlib.Path, got {type(path).__name__}"
        raise RequestError(Problem("SWEEP_DIR", repr(path), message))
    return LoadedSweep(load_sweep(path))


def train(overrides: str | Sequence[str] = (), *, config_dirs: Sequence[str] = (), progress: str = "off") -> TrainedRun:
    """Train one run, as ``resweep train`` does: check, freeze, fit, test the best checkpoint, write the record.

    The run is carried out in this process. Ctrl-C, and the button that interrupts a notebook's kernel, save it for
    ``resweep resume``.

    Args:
        overrides: Hydra's override grammar, one text or several: ``["optimizer=adam", "seed=1"]``.
        config_dirs: further config folders.
        progress: ``off``, or ``plain`` for a line per epoch on stderr.

    Returns:
        The run: completed, or diverged.

    Raises:
        RequestError: the request is wrong; nothing was written.
        RunFailed: the run ended with an error.
        KeyboardInterrupt: the run was interrupted and is saved.

    Randomness: seeds the global generators, as every run does; the number of torch's threads is set back afterwards.
    """
    if progress not in PROGRESS:
        message = f"must be one of {', '.join(PROGRESS)}"
        raise RequestError(Problem("progress", str(progress), message, nearest_name(str(progress), PROGRESS)))
    import torch

    from resweep.console import Output
    from resweep.single import carry_out, new_run

    threads = torch.get_num_threads()
    try:
        run_dir, data = new_run(_planned(overrides, config_dirs))
        status = carry_out(run_dir, Output("plain", 0) if progress == "plain" else Output("off", 2), data)
    finally:
        torch.set_num_threads(threads)
    if status > 1:
        raise KeyboardInterrupt(f"interrupted and saved; go on with: resweep resume {run_dir}")
    run = TrainedRun(run_dir)
    if run.status == "failed":
        raise RunFailed(run)
    return run


def config(overrides: str | Sequence[str] = (), *, config_dirs: Sequence[str] = ()) -> Config:
    """Return the config that a request composes, checked, resolved and frozen as a run would have it.

    Args:
        overrides: as for :func:`train`.
        config_dirs: further config folders.

    Raises:
        RequestError: with every problem of the request.

    Example:
        >>> config(["optimizer=adam", "seed=3"])["optimizer"]["_target_"]
        'torch.optim.Adam'
    """
    return Config(_planned(overrides, config_dirs).runs[0].config)


def _planned(overrides: str | Sequence[str], config_dirs: Sequence[str]) -> Plan:
    """Plan the one run that the overrides ask for."""
    from resweep.config import config_loader
    from resweep.sweep.plan import make_plan

    texts, folders = _texts("overrides", overrides), _texts("config_dirs", config_dirs)
    missing = [Problem("config_dirs", folder, "is not a folder") for folder in folders if not Path(folder).is_dir()]
    if missing:
        raise RequestError(missing)
    try:
        with config_loader(tuple(folders)) as loader:
            plan = make_plan(loader, texts)
    except RequestError as error:
        joined = [text for text in texts if len(_words(text)) > 1]
        if not joined:
            raise
        message = "is several overrides in one text; give each its own: {}"
        problems = [Problem("overrides", text, message.format(_words(text))) for text in joined]
        raise RequestError(problems) from error
    message = "has several values, and this is one run; for a sweep: resweep train -m"
    if plan.axes:
        raise RequestError(Problem(key, ",".join(values), message) for key, values in plan.axes.items())
    return plan


def _texts(key: str, given: object) -> list[str]:
    """Return one text or several as a list."""
    if isinstance(given, (str, os.PathLike)):
        return [os.fspath(given)]
    message = "must be a text or a list of texts, such as ['optimizer=adam', 'seed=1']"
    if key == "config_dirs":
        message = "must be a folder or a list of folders"
    if isinstance(given, (Mapping, bytes)) or not isinstance(given, Iterable):
        raise RequestError(Problem(key, repr(given), message))
    texts = list(given)
    if wrong := [text for text in texts if not isinstance(text, (str, os.PathLike))]:
        raise RequestError(Problem(key, repr(text), message) for text in wrong)
    return [os.fspath(text) for text in texts]


def _words(text: str) -> list[str]:
    """Return the overrides that blanks separate in a text; empty where not every word is one."""
    words = text.split()
    return words if all(re.match(r"[+~]*[\w./@:-]+=", word) for word in words) else []

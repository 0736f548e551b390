"""Sweeps and runs from Python: ``resweep.load``, ``resweep.train`` and ``resweep.config``.

What these return shows itself in a notebook as plain HTML, so that a saved notebook keeps it; there are no widgets.
"""

from __future__ import annotations

import html
import os
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from resweep.errors import Problem, RequestError, nearest_name
from resweep.trained import Config, TrainedRun, html_table

if TYPE_CHECKING:
    import pandas

    from resweep.report.load import Sweep
    from resweep.report.plots import Plot
    from resweep.report.table import Ranking
    from resweep.sweep.plan import Plan

PICTURES = {
    "curves": "learning_curves", "settings": "dot_plot", "factors": "factor_effects", "heat_maps": "heat_maps",
    "parallel": "parallel_coordinates", "budget": "budget_plot", "sensitivity": "sensitivity_plot",
    "time_to_target": "time_to_target_plot", "profile": "profile_plot", "anytime": "anytime_plot", "cost": "cost_plot",
    "calibration": "calibration_plot", "gap": "gap_plot", "weight_norms": "weight_norms_plot",
}  # fmt: skip
"""What ``sweep.plot`` can draw, and the function of :mod:`resweep.report.plots` that draws it."""

PROGRESS = ("off", "plain")


class RunFailed(RuntimeError):
    """A run ended with an error.

    Args:
        run: its folder, with the record and the whole trace in ``run.log``.
    """

    def __init__(self, run: TrainedRun) -> None:
        self.run = run
        error = run.record.error or {}
        super().__init__(f"{error.get('type')}: {error.get('message')}  (whole trace: {run.dir / 'run.log'})")


class Picture:
    """Drawings of a sweep with their caption.

    Args:
        plot: what was drawn; None where there is nothing to draw.
        name: name of the picture.
    """

    def __init__(self, plot: Plot | None, name: str) -> None:
        self.name = name
        self.svgs = [] if plot is None else list(plot.svgs)
        self.caption = f"{name}: this sweep has nothing to draw here." if plot is None else plot.caption
        self.legend = [] if plot is None else list(plot.legend)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.svgs)} drawings; {self.caption}>"

    def _repr_html_(self) -> str:
        # As images: drawings in the page itself would share its ids and its colours.
        from resweep.report.plots import PALETTE

        images = "".join(_image(svg, self.caption) for svg in self.svgs)
        line = "border-top:3px solid {};display:inline-block;width:1.6em;margin:0 .4em .25em 1em"
        swatch = f'<span style="{line}"></span>'
        keys = (
            swatch.format("#aaa" if series is None else PALETTE[series]) + html.escape(label)
            for label, series in self.legend
        )
        style = "background:#fff;color:#1c2024;padding:8px;font-size:13px"
        return f'<div style="{style}">{images}<div>{"".join(keys)}</div><div>{html.escape(self.caption)}</div></div>'


class Pictures:
    """The pictures of a sweep, each a method without arguments that returns a :class:`Picture`: see ``dir()``."""

    def __init__(self, sweep: LoadedSweep) -> None:
        self._sweep = sweep

    def __dir__(self) -> list[str]:
        return sorted(PICTURES)

    def __getattr__(self, name: str) -> Callable[[], Picture]:
        if name not in PICTURES:
            near = nearest_name(name, PICTURES)
            hint = "" if near is None else f"; did you mean {near}?"
            raise AttributeError(f"no picture {name!r}: there are {', '.join(sorted(PICTURES))}{hint}")
        from resweep.report import plots

        draw = getattr(plots, PICTURES[name])
        return lambda: Picture(draw(self._sweep.table), name)


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
        """What to use, and whether the difference can be trusted."""
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
        message = "is the id of several runs; give the folder's name" if found else "is no run of this sweep"
        names = [text for run in self.sweep.runs for text in (run.id, run.folder)]
        raise RequestError(Problem("run", name, message, None if found else nearest_name(name, names)))

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

    texts = [overrides] if isinstance(overrides, str) else list(overrides)
    missing = [Problem("config_dirs", folder, "is not a folder") for folder in config_dirs if not Path(folder).is_dir()]
    if missing:
        raise RequestError(missing)
    with config_loader(tuple(config_dirs)) as loader:
        plan = make_plan(loader, texts)
    message = "has several values, and this is one run; for a sweep: resweep train -m"
    if plan.axes:
        raise RequestError(Problem(key, ",".join(values), message) for key, values in plan.axes.items())
    return plan


def _image(svg: str, description: str) -> str:
    """Return an SVG element as an image of its own size, at most as wide as the page."""
    found = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ', svg)
    width = "" if found is None else f"width:{float(found[1]) * 4 / 3:.0f}px;"
    source = b64encode(svg.encode()).decode()
    return (
        f'<img alt="{html.escape(description)}" src="data:image/svg+xml;base64,{source}" style="{width}max-width:100%">'
    )

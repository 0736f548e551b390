"""``resweep compare``: settings over seeds on the terminal or as data, and the files in the sweep's folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from resweep.errors import Problem, RequestError, nearest_name
from resweep.record import CURVES_PARQUET, REPORT_FILE, RESULTS_FILE, RESULTS_PARQUET
from resweep.report import formats
from resweep.report.across import Comparison, joined, sweep_labels
from resweep.report.differences import comparison_warnings, doubts
from resweep.report.layout import aligned, paragraph, printable, wrapped
from resweep.report.load import Sweep, load_sweep
from resweep.report.results import csv_text, write_results_csv
from resweep.report.table import Ranking, ranking
from resweep.report.terminal import screen
from resweep.report.two_runs import ONE_EACH, are_two_runs, hidden_values, pair_grid, two_runs
from resweep.report.view import View, absent_values, shown_runs, shown_settings

FORMATS = ("table", "markdown", "latex", "json", "csv")
ELSEWHERE = "--no-files only prints, --output DIR writes elsewhere"


def compare(
    paths: Sequence[str],
    *,
    format: str = "table",
    runs: bool = False,
    sort: str | None = None,
    top: int | None = None,
    where: str | None = None,
    everything: bool = False,
    output: str | None = None,
    write: bool = True,
    width: int | None = None,
) -> str:
    """Return the comparison of one sweep, or of several together, as text, and write the files.

    Into each sweep's folder go ``report.html``, ``results.csv``, ``results.parquet`` (one row per run) and
    ``curves.parquet`` (one row per run and epoch). Two folders of a single run each are laid side by side instead,
    fact by fact, and nothing is written.

    Args:
        paths: folders of sweeps, of single runs, or of one run.
        format: one of ``FORMATS``; with ``csv`` warnings go to stderr.
        runs: one row per run in place of one per setting.
        sort: column to sort by, see :class:`resweep.report.view.View`.
        top: how many rows are listed at most.
        where: condition on the rows that are listed, see :mod:`resweep.report.where`.
        everything: also list what is the same in all runs.
        output: folder that gets the files, in place of the sweeps' own; of several sweeps the joint report.
        write: whether files are written at all.
        width: columns of the terminal; a wider table is shown as a block per row. None never changes the layout.

    Returns:
        What belongs on stdout, without a final line end.

    Raises:
        RequestError: if a path holds no sweep, an option is wrong, or the files cannot be written.
    """
    if format not in FORMATS:
        message = f"must be one of {', '.join(FORMATS)}"
        raise RequestError(Problem("--format", format, message, nearest_name(format, FORMATS)))
    view = View(runs, sort, top, where, everything)
    view.condition()  # a mistake in it is said before anything is read
    sweeps = _load_all(paths)
    if are_two_runs(sweeps):
        return _two_runs(sweeps, format, everything, width)
    labels = sweep_labels(sweeps)
    for sweep in sweeps:
        sweep.check_files()
    whole, twins = (sweeps[0], []) if len(sweeps) == 1 else joined(sweeps, labels, Path(output or "."))
    table = ranking(whole)
    _check_view(table, view)
    warnings = [*comparison_warnings(sweeps, labels), *twins, *absent_values(table, view)]
    files = _write_all(dict(zip(labels, sweeps, strict=True)), table, output, twins) if write else []
    return _text(Comparison(sweeps, labels, table, warnings, files), view, format, width)


def _text(comparison: Comparison, view: View, form: str, width: int | None) -> str:
    if form == "json":
        return formats.json_text(comparison, view)
    if form == "csv":
        print("".join(f"warning  {printable(text)}\n" for text in comparison.warnings), end="", file=sys.stderr)
        return formats.csv(comparison, view)
    if form == "table":
        return screen(comparison, view, plus_minus(), width)
    return {"markdown": formats.markdown, "latex": formats.latex}[form](comparison, view, plus_minus())


def plus_minus() -> str:
    """Return the sign between mean and standard deviation if stdout can carry it, else ASCII."""
    try:
        "±".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return "+/-"
    return "±"


def _load_all(paths: Sequence[str]) -> list[Sweep]:
    if not paths:
        raise RequestError(Problem("SWEEP_DIR", None, "name at least one sweep folder"))
    sweeps, problems = [], []
    for path in paths:
        try:
            sweeps.append(load_sweep(path))
        except RequestError as error:
            problems += error.problems
    if problems:
        raise RequestError(problems)
    return sweeps


def _check_view(table: Ranking, view: View) -> None:
    """Refuse a wrong column before anything is written."""
    shown_runs(table, view) if view.runs else shown_settings(table, view)


def _write_all(named: dict[str, Sweep], table: Ranking, output: str | None, twins: list[str]) -> list[dict[str, str]]:
    if output is not None:
        folder = Path(output)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(Problem("--output", output, f"cannot be made: {error.strerror}; {ELSEWHERE}")) from error
        return [_write_files(table, folder, "--output", [*doubts(named), *twins])]
    tables = [table] if len(named) == 1 else [ranking(sweep) for sweep in named.values()]
    return [_write_files(one, one.sweep.dir, "SWEEP_DIR") for one in tables]


def _write_files(table: Ranking, folder: Path, key: str, warnings: list[str] | None = None) -> dict[str, str]:
    from resweep.report.frames import write_parquet
    from resweep.report.html import write_report

    try:
        write_results_csv(table.sweep, folder / RESULTS_FILE)
        write_parquet(table.sweep, folder)
        write_report(table.sweep, folder / REPORT_FILE, table, warnings)
    except OSError as error:
        message = f"cannot be written to: {error.strerror}; {ELSEWHERE}"
        raise RequestError(Problem(key, str(folder), message)) from error
    names = {"report": REPORT_FILE, "results": RESULTS_FILE, "results_parquet": RESULTS_PARQUET}
    names |= {"curves": CURVES_PARQUET}
    return {name: str(folder / file) for name, file in names.items()}


def _two_runs(sweeps: list[Sweep], form: str, everything: bool, width: int | None) -> str:
    lines = two_runs(*sweeps)
    names = tuple(sweep_labels(sweeps))
    grid = pair_grid(lines, names, everything)
    if form == "json":
        facts = [asdict(line) | {"change": line.change} for line in lines]
        return formats.dumped({"a": names[0], "b": names[1], "facts": facts, "answer": ONE_EACH})
    if form == "csv":
        rows = [[*asdict(line).values(), line.change] for line in lines]
        return printable(csv_text(["part", "key", *names, "change"], rows), keep="\n\t").rstrip("\n")
    hidden = 0 if everything else hidden_values(lines)
    note = [f"{hidden} equal values hidden (--all)"] if hidden else []
    if form == "markdown":
        return "\n\n".join([formats.markdown_table(grid), *note, ONE_EACH])
    if form == "latex":
        return "\n".join([*(f"% {text}" for text in (*note, ONE_EACH)), formats.latex_table(grid)])
    warnings = [wrapped(text.split(" "), width, "warning  ", " ") for text in comparison_warnings(sweeps, names)]
    return printable("\n".join([aligned(grid, width), *note, "", paragraph(ONE_EACH, width), *warnings]), keep="\n")

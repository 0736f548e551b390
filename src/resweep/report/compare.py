"""``resweep compare``: tables on the terminal, ``results.csv`` and ``report.html`` in the sweep's folder."""

from __future__ import annotations

import html
import json
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resweep.claim import holder
from resweep.console import duration
from resweep.errors import Problem, RequestError
from resweep.record import FINISHED
from resweep.report.load import RunRecord, Sweep, changes_since_planned, load_sweep
from resweep.report.results import csv_text, results_rows, write_results_csv
from resweep.report.stats import MIN_SEEDS, Difference
from resweep.report.table import Ranking, SettingRow, ranking
from resweep.report.words import answer, counts_text, repeats_text, summary_text, value_text


def compare(
    paths: list[str],
    *,
    runs: bool = False,
    as_json: bool = False,
    as_csv: bool = False,
    as_markdown: bool = False,
    write: bool = True,
    width: int | None = None,
) -> str:
    """Return the comparison of one or several sweeps as text, and write each sweep's files.

    Args:
        paths: folders of sweeps, of single runs, or of one run.
        runs: one row per run in place of one per setting.
        as_json: a JSON object in place of the text.
        as_csv: CSV only; warnings then go to stderr.
        as_markdown: Markdown tables.
        write: whether ``results.csv`` and ``report.html`` are written into each sweep's folder.
        width: columns of the terminal; a wider table is shown as a block per row. None never changes the layout.

    Returns:
        What belongs on stdout, without a final line end.

    Raises:
        RequestError: if a path holds no sweep, if two output formats are asked for, or if the files cannot be written.
    """
    sweeps = _load_all(paths)
    if as_json + as_csv + as_markdown > 1:
        raise RequestError(Problem("compare", None, "choose one of --json, --csv and --markdown"))
    tables = [ranking(sweep) for sweep in sweeps]
    written = [_write_files(sweep) for sweep in sweeps] if write else []
    warnings = comparison_warnings(sweeps)
    if as_json:
        return json.dumps(_json_object(tables, warnings, written, runs), indent=2, allow_nan=False, default=str)
    if as_csv:
        print("".join(f"warning  {text}\n" for text in warnings), end="", file=sys.stderr)
        return _csv(tables, runs)
    sign = _plus_minus()
    if as_markdown:
        blocks = [_markdown(table, runs, sign) for table in tables]
        return "\n\n".join([*blocks, *(f"Warning: {text}" for text in warnings)])
    blocks = [_sweep_text(table, runs, sign, width) for table in tables]
    tail = [f"warning  {text}" for text in warnings]
    for report, results in written:
        tail += [f"report  {report}", f"table  {results}"]
    return "\n\n".join([*blocks, "\n".join([*tail, *_next_commands(sweeps)])])


def header_line(table: Ranking) -> str:
    """Return the sweep's name, how many runs completed, what happened to the others, repeats, and what ranks."""
    counts = table.sweep.counts
    rest = counts_text(counts)
    done = f"{counts.get('completed', 0)} of {sum(counts.values())} runs completed{f' ({rest})' if rest else ''}"
    repeats = repeats_text(table)
    done += "" if repeats is None else f", {repeats}"
    shown = f", shown: {table.shown}" if table.shown is not None else ""
    return f"{table.sweep.name}: {done}   ranked by {table.monitor}{shown}"


def render_table(
    rows: list[SettingRow],
    names: dict[str, str],
    *,
    monitor: str = "val/accuracy",
    shown: str | None = "test/accuracy",
    plus_minus: str = "±",
    width: int | None = None,
) -> str:
    """Return the settings as aligned plain text, the best row marked with ``*``.

    Args:
        rows: settings in the order of the lines.
        names: column name by dotted key of the values that differ.
        monitor: heading of the validation column.
        shown: heading of the test column, None to leave it out.
        plus_minus: the sign between mean and standard deviation.
        width: columns available; a wider table becomes one block per row. None: never.

    Returns:
        Lines without a final line end.
    """
    columns, cells = _cells(rows, names, monitor, shown, plus_minus)
    return _aligned(columns, cells, [row.best for row in rows], width)


def comparison_warnings(sweeps: list[Sweep]) -> list[str]:
    """Return what stands against comparing the runs: other data, other numbers of epochs, damaged files."""
    warnings = []
    for sweep in sweeps:
        digests = {run.data_digest for run in sweep.runs} - {None}
        swept_data = any(key.split(".")[0] == "data" for run in sweep.runs for key in run.swept)
        if len(digests) > 1 and not swept_data:
            warnings.append(f"{sweep.name}: its runs have read {len(digests)} different versions of the data")
        warnings += [f"{sweep.name}: {line}" for line in (*sweep.damaged, *changes_since_planned(sweep.request))]
    if len(sweeps) > 1:
        data = [frozenset(run.data_digest for run in sweep.runs) - {None} for sweep in sweeps]
        if len({digests for digests in data if digests}) > 1:
            warnings.append("the sweeps have not read the same data: their figures do not compare")
        epochs = [_planned_epochs(sweep) for sweep in sweeps]
        if len({text for text in epochs if text is not None}) > 1:
            listed = ", ".join(f"{sweep.name} {text}" for sweep, text in zip(sweeps, epochs, strict=True))
            warnings.append(f"the sweeps differ in epochs: {listed}")
    return warnings


def _load_all(paths: list[str]) -> list[Sweep]:
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


def _write_files(sweep: Sweep) -> tuple[Path, Path]:
    from resweep.report.html import write_report

    try:
        results = write_results_csv(sweep, sweep.dir / "results.csv")
        return write_report(sweep, sweep.dir / "report.html"), results
    except OSError as error:
        raise RequestError(Problem("SWEEP_DIR", str(sweep.dir), f"cannot be written to: {error.strerror}")) from error


def _sweep_text(table: Ranking, runs: bool, plus_minus: str, width: int | None) -> str:
    lines = [header_line(table)]
    if runs:
        columns, cells = _run_cells(table.sweep)
        lines += [_aligned(columns, cells, [False] * len(cells), width)] if cells else []
    elif table.rows:
        style = {"monitor": table.monitor, "shown": table.shown, "plus_minus": plus_minus, "width": width}
        lines.append(render_table(table.rows, table.names, **style))
        if any(row.val.n for row in table.rows):
            lines.append(_note(table, plus_minus))
    return "\n".join([*lines, answer(table, plus_minus)])


def _note(table: Ranking, plus_minus: str) -> str:
    note = f"mean {plus_minus} sd over n {table.unit}s"
    if any(0 < row.val.n < MIN_SEEDS for row in table.rows):
        note += f" (below {MIN_SEEDS} {table.unit}s: mean, smallest..largest)"
    differences = [row.difference for row in table.rows if row.difference is not None]
    if differences:
        note += f"; vs best: difference in {table.shown or table.monitor}, paired by {table.unit}, 95 % interval"
        note += " corrected for overlapping training splits" if table.unit == "fold" else ""
        note += ", not corrected for several comparisons"
    if any(difference.sign_test for difference in differences):
        note += f"; where all {table.unit}s differ by the same amount: sign test, which takes 6 {table.unit}s"
    if len({row.broken for row in table.rows if row.val.n}) > 1:
        note += "; settings with failed, diverged or lost runs rank below the others"
    return note


def _cells(
    rows: list[SettingRow], names: dict[str, str], monitor: str, shown: str | None, plus_minus: str
) -> tuple[list[str], list[list[str]]]:
    incomplete = any(row.not_completed for row in rows)
    columns = [*names.values(), "n", monitor, *([shown] if shown is not None else []), "vs best", "time/run"]
    cells = []
    for row in rows:
        n = len(row.completed)
        line = [*(value_text(row.values.get(key)) for key in names), str(n), summary_text(row.val, plus_minus, n)]
        line += [summary_text(row.test, plus_minus, n)] if shown is not None else []
        line += ["best" if row.best else _difference_text(row.difference), duration(row.fit_seconds)]
        cells.append(line + ([counts_text(row.not_completed) or "-"] if incomplete else []))
    return columns + (["not completed"] if incomplete else []), cells


def _difference_text(difference: Difference | None) -> str:
    if difference is None or difference.mean is None:
        return "-" if difference is None else difference.verdict
    return f"{difference.mean:+.4f} {difference.verdict}"


def _run_cells(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    rows = results_rows(sweep)
    kept = [key for key in (rows[0] if rows else ()) if any(row[key] is not None for row in rows) and key != "folder"]
    return kept, [[_number_text(row[key]) for key in kept] for row in rows]


def _number_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else value_text(value)


def _aligned(columns: list[str], cells: list[list[str]], starred: list[bool], width: int | None) -> str:
    """Columns two blanks apart, numbers to the right, nothing cut; a block per row where that is too wide."""
    numeric = [all(_is_number(line[index]) for line in cells) for index in range(len(columns))]
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]

    def line(mark: str, texts: Iterable[str]) -> str:
        padded = (
            text.rjust(size) if right else text.ljust(size)
            for text, size, right in zip(texts, widths, numeric, strict=True)
        )
        return f"{mark}{'  '.join(padded)}".rstrip()

    marks = ["*" if star else " " for star in starred]
    table = [line(" ", columns), *(line(mark, texts) for mark, texts in zip(marks, cells, strict=True))]
    if width is None or max(map(len, table)) <= width:
        return "\n".join(table)
    size = max(map(len, columns))
    blocks = []
    for mark, texts in zip(marks, cells, strict=True):
        pairs = zip(columns, texts, strict=True)
        blocks.append("\n".join(f"{mark} {name.ljust(size)}  {text}" for name, text in pairs))
    return "\n\n".join(blocks)


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("smh*") if text != "-" else "0")
    except ValueError:
        return False
    return True


def _markdown(table: Ranking, runs: bool, plus_minus: str) -> str:
    columns, cells = (
        _run_cells(table.sweep) if runs else _cells(table.rows, table.names, table.monitor, table.shown, plus_minus)
    )
    lines = ["| " + " | ".join(map(_markdown_text, line)) + " |" for line in [columns, *cells]]
    lines.insert(1, "|" + " --- |" * len(columns))
    return "\n".join([f"**{_markdown_text(header_line(table))}**", "", *lines, "", answer(table, plus_minus)])


def _markdown_text(text: str) -> str:
    return " ".join(re.sub(r"([\\|*_`])", r"\\\1", html.escape(text, quote=False)).split())


def _csv(tables: list[Ranking], runs: bool) -> str:
    objects = [
        {"sweep": table.sweep.name} | row
        for table in tables
        for row in (results_rows(table.sweep) if runs else map(_flat, _json_rows(table)))
    ]
    columns = list(dict.fromkeys(key for row in objects for key in row))
    return csv_text(columns, [[row.get(key) for key in columns] for row in objects]).rstrip("\n")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key in ("values", "not_completed"):
            flat |= value if key == "values" else {"not_completed": counts_text(value)}
        elif isinstance(value, dict):
            flat |= {f"{key}_{name}": part for name, part in value.items()}
        else:
            flat[key] = value
    return flat


def _json_rows(table: Ranking) -> list[dict[str, Any]]:
    return [
        {"values": row.values, "best": row.best, "n": len(row.completed), "not_completed": row.not_completed}
        | {"val": asdict(row.val), "test": asdict(row.test), "fit_seconds": row.fit_seconds}
        | {"difference": None if row.difference is None else asdict(row.difference)}
        for row in table.rows
    ]


def _json_object(
    tables: list[Ranking], warnings: list[str], written: list[tuple[Path, Path]], runs: bool
) -> dict[str, Any]:
    sweeps = []
    for table in tables:
        about = {"name": table.sweep.name, "dir": str(table.sweep.dir), "counts": table.sweep.counts}
        about |= {"monitor": table.monitor, "mode": table.mode, "shown": table.shown, "answer": answer(table)}
        about |= {"repeats": table.repeats, "settings": _json_rows(table)} | (
            {"runs": results_rows(table.sweep)} if runs else {}
        )
        sweeps.append(about | {"damaged": table.sweep.damaged})
    files = [{"report": str(report), "table": str(results)} for report, results in written]
    return {"sweeps": sweeps, "warnings": warnings, "files": files}


def _planned_epochs(sweep: Sweep) -> str | None:
    """The epochs asked for where that is recorded, else the most that a run completed."""
    key = "trainer.max_epochs"
    asked = {value_text(run.swept.get(key, sweep.base.get(key))) for run in sweep.runs} - {"-"}
    if not asked:
        finished = [run.epochs for run in sweep.runs if run.status == "completed" and run.epochs is not None]
        asked = {str(max(finished))} if finished else set()
    return "/".join(sorted(asked)) or None


def _next_commands(sweeps: list[Sweep]) -> list[str]:
    commands = []
    for sweep in sweeps:
        if not sweep.request:  # single runs: only each of them can be resumed
            commands += [f"resweep resume {shlex.quote(str(run.dir))}" for run in sweep.runs if _resumable(run)]
        elif set(sweep.counts) - FINISHED:
            commands.append(f"resweep resume {shlex.quote(str(sweep.dir))}")
    boards = ",".join(str(sweep.dir) for sweep in sweeps) if len(sweeps) > 1 else str(sweeps[0].dir)
    option = "--logdir_spec" if len(sweeps) > 1 else "--logdir"
    return [f"next  {command}" for command in [f"tensorboard {option} {shlex.quote(boards)}", *commands][:3]]


def _resumable(run: RunRecord) -> bool:
    return run.status not in FINISHED and not holder(run.dir)


def _plus_minus() -> str:
    """The sign if the stream can carry it, else ASCII."""
    try:
        "±".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return "+/-"
    return "±"

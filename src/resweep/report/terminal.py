"""The screen of ``resweep compare``: header, settings, axes, the answer, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from resweep.report.across import Comparison
from resweep.report.advice import next_commands
from resweep.report.cells import axis_grid, axis_note, note, run_grid, setting_grid
from resweep.report.layout import aligned, paragraph, printable, wrapped
from resweep.report.load import Sweep
from resweep.report.table import Ranking, SettingRow
from resweep.report.view import View, equal_values, hidden_text, shown_runs, shown_settings
from resweep.report.words import answer, counts_text, repeats_text, value_text


def header_line(table: Ranking) -> str:
    """Return the sweep's name, how many runs completed, what happened to the others, repeats, and what ranks."""
    repeats = repeats_text(table)
    done = _done_text(table.sweep) + ("" if repeats is None else f", {repeats}")
    shown = f", shown: {table.shown}" if table.shown is not None else ""
    return f"{table.sweep.name}: {done}   ranked by {table.monitor}{shown}"


def header(comparison: Comparison, width: int | None = None) -> str:
    """Return :func:`header_line`, with a line for each sweep before it where there are several."""
    lines = [paragraph(header_line(comparison.table), width)]
    if len(comparison.sweeps) > 1:
        named = zip(comparison.labels, comparison.sweeps, strict=True)
        lines = [*(f"{label}: {_done_text(sweep)}" for label, sweep in named), *lines]
    return "\n".join(lines)


def render_table(
    table: Ranking, rows: Sequence[SettingRow] | None = None, *, plus_minus: str = "±", width: int | None = None
) -> str:
    """Return the settings as aligned plain text, the best one marked with ``*``.

    Args:
        table: the ranking.
        rows: those of its rows that are listed, in the order of the lines; None for all.
        plus_minus: the sign between mean and standard deviation.
        width: columns available; a wider table becomes one block per row. None: never.

    Returns:
        Lines without a final line end.
    """
    return aligned(setting_grid(table, table.rows if rows is None else rows, plus_minus), width)


def screen(comparison: Comparison, view: View, plus_minus: str = "±", width: int | None = None) -> str:
    """Return the whole screen as text.

    Args:
        comparison: what is compared.
        view: what is listed.
        plus_minus: the sign between mean and standard deviation.
        width: columns of the terminal; None never wraps.

    Raises:
        RequestError: the view names something that is no column.
    """
    table = comparison.table
    listed = _runs(table, view, width) if view.runs else _settings(table, view, plus_minus, width)
    blocks = ["\n".join([header(comparison, width), *listed])]
    if view.everything:
        blocks.append(_equal(table))
    if not view.runs and (axes := _axes(table, plus_minus, width)) is not None:
        blocks.append(axes)
    blocks.append(paragraph(answer(table, plus_minus), width))
    tail = [wrapped(text.split(" "), width, "warning  ", " ") for text in comparison.warnings]
    tail += [line for files in comparison.files for line in _file_lines(files)]
    tail += [printable(f"next  {command}") for command in next_commands(comparison.sweeps, table)]
    return printable("\n\n".join([*blocks, "\n".join(tail)]), keep="\n")


def _settings(table: Ranking, view: View, plus_minus: str, width: int | None) -> list[str]:
    rows = shown_settings(table, view)
    lines = [render_table(table, rows, plus_minus=plus_minus, width=width)] if rows else []
    texts = [note(table, rows, plus_minus), hidden_text(table, view, len(rows), len(table.rows))]
    return lines + [paragraph(text, width) for text in texts if text is not None]


def _runs(table: Ranking, view: View, width: int | None) -> list[str]:
    rows = shown_runs(table, view)
    total = len(table.sweep.runs) + len(table.sweep.unreadable)
    hidden = hidden_text(table, view, len(rows), total)
    return ([aligned(run_grid(rows), width)] if rows else []) + ([] if hidden is None else [hidden])


def _axes(table: Ranking, plus_minus: str, width: int | None) -> str | None:
    found = axis_grid(table, plus_minus)
    if found is None:
        return None
    grid, left_out = found
    return "\n".join([aligned(grid, width), *left_out, paragraph(axis_note(table), width)])


def _file_lines(files: Mapping[str, str]) -> list[str]:
    """The report, and the tables beside it by their names in one folder."""
    report, *tables = files.values()
    first, *others = tables
    return [f"report  {report}", f"tables  {' '.join([first, *(Path(path).name for path in others)])}"]


def _equal(table: Ranking) -> str:
    values = equal_values(table)
    if not values:
        return "no values equal in all runs are recorded"
    size = max(map(len, values))
    return "\n".join(
        ["equal in all runs", *(f" {key.ljust(size)}  {value_text(value)}" for key, value in values.items())]
    )


def _done_text(sweep: Sweep) -> str:
    counts = sweep.counts
    rest = counts_text(counts)
    return f"{counts.get('completed', 0)} of {sum(counts.values())} runs completed{f' ({rest})' if rest else ''}"

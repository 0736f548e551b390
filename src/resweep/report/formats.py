"""A comparison as Markdown, LaTeX, CSV or JSON, with the same figures as on the terminal."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from resweep.report.across import Comparison
from resweep.report.cells import axis_grid, axis_note, note, run_grid, setting_grid
from resweep.report.layout import Grid, printable
from resweep.report.results import csv_text, results_rows
from resweep.report.selection import AxisResult, axis_results
from resweep.report.table import Ranking, SettingRow
from resweep.report.terminal import header_line
from resweep.report.view import View, equal_values, hidden_text, shown_runs, shown_settings
from resweep.report.words import answer, counts_text, value_text

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"\ensuremath{\pm}", "·": r"\ensuremath{\cdot}",
    "…": r"\ldots{}",
}  # fmt: skip


def markdown(comparison: Comparison, view: View, plus_minus: str = "±") -> str:
    """Return the tables in Markdown, values escaped."""
    table = comparison.table
    rows = [] if view.runs else shown_settings(table, view)
    grid = run_grid(shown_runs(table, view)) if view.runs else setting_grid(table, rows, plus_minus)
    blocks = [f"**{_markdown_text(header_line(table))}**", markdown_table(grid)]
    axes = None if view.runs else axis_grid(table, plus_minus, limit=None)
    texts = [] if view.runs else [note(table, rows, plus_minus)]
    texts.append(hidden_text(table, view, len(grid.cells), _total(table, view)))
    blocks += [_markdown_text(text) for text in texts if text is not None]
    if view.everything:
        equal = [[key, value_text(value)] for key, value in equal_values(table).items()]
        blocks.append(markdown_table(Grid(["equal in all runs", "value"], equal)))
    if axes is not None:
        blocks += [markdown_table(axes[0]), _markdown_text(axis_note(table))]
    blocks += [
        _markdown_text(answer(table, plus_minus)),
        *(_markdown_text(f"Warning: {w}") for w in comparison.warnings),
    ]
    return "\n\n".join(block for block in blocks if block)


def markdown_table(grid: Grid) -> str:
    """Return a table in Markdown, the marked rows in bold; empty without columns."""
    if not grid.columns:
        return ""
    lines = ["| " + " | ".join(map(_markdown_text, grid.columns)) + " |"]
    lines.append("|" + "".join(" ---: |" if right else " --- |" for right in grid.numeric))
    for best, texts in zip(grid.marks, grid.cells, strict=True):
        cells = [f"**{_markdown_text(text)}**" if best and text else _markdown_text(text) for text in texts]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def latex(comparison: Comparison, view: View, plus_minus: str = "±") -> str:
    """Return the tables in LaTeX with booktabs, values escaped; what explains them stands in comments."""
    table = comparison.table
    rows = [] if view.runs else shown_settings(table, view)
    grid = run_grid(shown_runs(table, view)) if view.runs else setting_grid(table, rows, plus_minus)
    texts = [r"needs \usepackage{booktabs}", header_line(table), None if view.runs else note(table, rows, plus_minus)]
    texts += [hidden_text(table, view, len(grid.cells), _total(table, view)), answer(table, plus_minus)]
    texts += [f"warning: {text}" for text in comparison.warnings]
    blocks = [_comments([text for text in texts if text is not None]), latex_table(grid)]
    if view.everything:
        equal = [[key, value_text(value)] for key, value in equal_values(table).items()]
        blocks.append(latex_table(Grid(["equal in all runs", "value"], equal)))
    if not view.runs and (axes := axis_grid(table, plus_minus, limit=None)) is not None:
        blocks += [_comments([axis_note(table)]), latex_table(axes[0])]
    return "\n\n".join(block for block in blocks if block)


def latex_table(grid: Grid) -> str:
    """Return a table in LaTeX, the marked rows in bold; empty without columns."""
    if not grid.columns:
        return ""
    lines = [rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in grid.numeric)}}}", r"\toprule"]
    lines += [" & ".join(map(latex_text, grid.columns)) + r" \\", r"\midrule"]
    for best, texts in zip(grid.marks, grid.cells, strict=True):
        cells = [rf"\textbf{{{latex_text(text)}}}" if best and text else latex_text(text) for text in texts]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def latex_text(text: str) -> str:
    """Return a text on one line with everything escaped that LaTeX would read as a command.

    Example:
        >>> latex_text("weight_decay 5 %")
        'weight\\\\_decay 5 \\\\%'
    """
    escaped = "".join(_LATEX.get(sign, sign) for sign in printable(" ".join(text.split())))
    return f"{{}}{escaped}" if escaped.startswith("[") else escaped  # behind \\ a bracket would be a length


def csv(comparison: Comparison, view: View) -> str:
    """Return one CSV table of settings or runs, without a final line end."""
    table = comparison.table
    rows = shown_runs(table, view) if view.runs else [_flat(_row_object(row)) for row in shown_settings(table, view)]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if view.everything:
        equal = {key: value for key, value in equal_values(table).items() if key not in columns}
        columns, rows = [*columns, *equal], [row | equal for row in rows]
    text = csv_text(columns, [[row.get(key) for key in columns] for row in rows])
    return printable(text, keep="\n\t").rstrip("\n")


def json_text(comparison: Comparison, view: View) -> str:
    """Return everything as one JSON object: sweeps, settings, axes with their pairs, answer, warnings, files."""
    table = comparison.table
    sweeps = [
        {"name": label, "dir": str(sweep.dir), "counts": sweep.counts, "damaged": sweep.damaged}
        for label, sweep in zip(comparison.labels, comparison.sweeps, strict=True)
    ]
    about: dict[str, Any] = {"name": table.sweep.name, "sweeps": sweeps, "counts": table.sweep.counts}
    about |= {"monitor": table.monitor, "mode": table.mode, "shown": table.shown, "compared": table.compared}
    about |= {"larger_is_better": table.larger_is_better, "unit": table.unit, "repeats": table.repeats}
    about |= {"comparisons": table.pairs.count, "names": table.names, "answer": answer(table)}
    about |= {"settings": [_row_object(row) for row in shown_settings(table, _of_settings(view))]}
    about |= {"settings_in_all": len(table.rows), "axes": [_axis_object(table, axis) for axis in axis_results(table)]}
    about |= {"runs": shown_runs(table, view)} if view.runs else {}
    about |= {"equal": equal_values(table), "warnings": comparison.warnings, "files": comparison.files}
    return dumped(about)


def dumped(content: Mapping[str, Any]) -> str:
    """Return an object as JSON, a line for each key and for each entry of a list of objects.

    Numbers that JSON does not have, which a config may hold, become texts. Indenting everything would take ten times
    as long: the standard library then leaves its compiled encoder.
    """
    lines = [f" {json.dumps(key)}: {_dumped_value(value)}" for key, value in content.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def _dumped_value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"  {_dumped_value(entry)}" for entry in value) + "\n ]"
    try:
        return json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, default=str)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content


def _of_settings(view: View) -> View:
    """With single runs asked for, the view chooses among them, and all settings are told."""
    return View() if view.runs else view


def _row_object(row: SettingRow) -> dict[str, Any]:
    return {
        "index": row.index, "values": row.values, "best": row.best, "n": len(row.completed),
        "not_completed": row.not_completed, "val": asdict(row.val), "test": asdict(row.test),
        "fit_seconds": row.fit_seconds, "difference": None if row.difference is None else asdict(row.difference),
    }  # fmt: skip


def _axis_object(table: Ranking, axis: AxisResult) -> dict[str, Any]:
    choices = [
        {"value": one.value, "setting": None if one.row is None else one.row.index, "settings": one.settings,
         "runs": one.runs}
        for one in axis.choices
    ]  # fmt: skip
    pairs = [
        {"a": axis.choices[i].value, "b": axis.choices[j].value, "difference": asdict(difference)}
        for i, j, difference in axis.pairs
    ]
    return {"key": axis.key, "name": axis.name, "choices": choices, "pairs": pairs}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "values":
            flat |= value
        elif key == "not_completed":
            flat[key] = counts_text(value)
        elif isinstance(value, dict):
            flat |= {f"{key}_{name}": part for name, part in value.items()}
        elif key not in ("index", "difference"):
            flat[key] = value
    return flat


def _total(table: Ranking, view: View) -> int:
    return len(results_rows(table.sweep)) if view.runs else len(table.rows)


def _comments(texts: Sequence[str]) -> str:
    return "\n".join(f"% {printable(' '.join(text.split()))}" for text in texts)


def _markdown_text(text: str) -> str:
    line = printable(" ".join(text.split()))
    return re.sub(r"([\\|*_`\[\]~])", r"\\\1", html.escape(line, quote=False))

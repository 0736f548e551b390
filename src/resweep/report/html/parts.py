"""The pieces a page is made of: escaped text, table cells, tables, links and figures.

Whatever comes from a config, a class name, a file or an error passes through :func:`escape` here and nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resweep.report.plots.canvas import counted as counted
from resweep.report.words import value_text

if TYPE_CHECKING:
    from resweep.report.plots import Plot

PIXELS_PER_POINT = 1.55
"""Size of the pictures on the screen."""
DASH = "-"
"""What a cell without a value shows."""
HINT = "Wider than the screen: scroll it sideways \N{LEFT RIGHT ARROW}"
"""What stands above a picture on a narrow screen."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: its heading, plain text.
        numeric: whether its cells are numbers, which stand on the right and sort by size.
        filter: whether the page offers its values as a choice to filter by.
        pinned: whether it stays at the right edge while the others scroll sideways.
        below: a second line of the heading, plain text.
    """

    name: str
    numeric: bool = False
    filter: bool = False
    pinned: bool = False
    below: str = ""

    @property
    def html(self) -> str:
        """The heading as an element."""
        kind = " class=num" if self.numeric else " class=cmd" if self.pinned else ""
        below = f",<br> {escape(self.below)}" if self.below else ""
        return f'<th scope="col"{kind}{" data-filter" if self.filter else ""}>{escape(self.name)}{below}</th>'


def table(
    label: str, columns: Iterable[Column], rows: Iterable[str], kind: str = "wide sortable", page: int = 100
) -> str:
    """Return a table with a caption in a region of its own, which scrolls sideways where the screen is narrow.

    Args:
        label: what it lists, plain text; read out by screen readers, not shown.
        columns: its columns.
        rows: rows made by :func:`row`, a cell per column.
        kind: CSS classes: ``sortable`` lets the page's script sort it, ``filterable`` filter it, ``cards`` show each
            row as a block on a narrow screen.
        page: rows that the script shows at first; a button shows more. Without scripts all are there.
    """
    heads = "".join(column.html for column in columns)
    return scroll(
        f'<table class="{kind}" data-rows={page}><caption>{escape(label)}</caption><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table>",
        label,
    )


def scroll(body: str, label: str) -> str:
    """Return a region that scrolls sideways by finger, wheel and keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{body}</div>'


def row(cells: Iterable[str], best: bool = False) -> str:
    """Return a table row of cells."""
    return f"<tr{' class=best' if best else ''}>{''.join(cells)}</tr>\n"


def head_cell(text: str, value: float | None = None, before: str = "") -> str:
    """Return the cell that names its row; ``before`` is HTML that stands in front of the text."""
    data = "" if value is None else f" data-v={value:.9g}"
    return f'<th scope="row"{data}>{before}{escape(text)}</th>'


def cell(text: str, below: str = "") -> str:
    """Return a cell with text, and a second, quieter line if there is one."""
    return f"<td>{escape(text)}{_second_line(below)}</td>"


def long_cell(text: str) -> str:
    """Return a cell whose text breaks into lines."""
    return f"<td class=long>{escape(text)}</td>"


def value_cell(value: Any) -> str:
    """Return a cell with a config value."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number(value_text(value), value) if is_number else cell(value_text(value))


def number(text: str, value: float | None, below: str = "") -> str:
    """Return a cell that sorts by its value, with a second, quieter line if there is one."""
    value_part = _sort_value("" if below else text, value)
    return f"<td class=num{value_part}>{escape(text)}{_second_line(below)}</td>"


def optional(value: float | None, pattern: str = "{}", below: str = "") -> str:
    """Return a number cell; a dash where there is no value."""
    return number(DASH if value is None else pattern.format(value), value, below)


def command_cell(command: str, summary: str = "show") -> str:
    """Return a cell with a folded command; the page's script adds a button that copies it."""
    code = f'<code class="command">{escape(command)}</code>'
    return f"<td class=cmd><details><summary>{escape(summary)}</summary>{code}</details></td>"


def command_block(command: str) -> str:
    """Return a command as a block of its own."""
    return f'<pre class="command">{escape(command)}</pre>'


def facts(pairs: dict[str, str]) -> str:
    """Return names and values as a list of definitions; empty without any."""
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs.items())
    return f'<dl class="facts">{items}</dl>' if items else ""


def bullets(lines: Iterable[str]) -> str:
    """Return plain texts as a list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def note(text: str) -> str:
    """Return a quiet paragraph."""
    return f'<p class="quiet">{escape(text)}</p>'


def folded(summary: str, body: str) -> str:
    """Return a body behind a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def link(path: str, text: str | None = None) -> str:
    """Return a link to a file beside the report; a path that is no valid UTF-8 keeps its bytes."""
    return f'<a href="./{quote(os.fsencode(path))}"><code>{escape(text or path)}</code></a>'


def path_from(folder: Path, path: Path) -> str:
    """Return where a file lies seen from the report's folder, with ``/`` between the parts."""
    return Path(os.path.relpath(path, folder)).as_posix()


def figure(plot: Plot | None, label: str = "") -> str:
    """Return pictures with their legend and caption; empty for None.

    Args:
        plot: pictures, laid side by side.
        label: what a picture shows that cannot be made smaller; on a narrow screen it scrolls sideways in a region
            named by it, below a line that says so.
    """
    from resweep.report.plots import DASHES

    if plot is None:
        return ""
    items = []
    for name, index in plot.legend:
        color = "var(--faint)" if index is None else f"var(--s{index})"
        dash = "" if index is None else DASHES[index % len(DASHES)]
        style = f"stroke: {color}; stroke-width: 2; stroke-dasharray: {dash or 'none'}"
        line = f'<line x1="0" y1="4" x2="28" y2="4" style="{style}"/>'
        items.append(f'<li><svg viewBox="0 0 28 8" aria-hidden="true">{line}</svg>{escape(name)}</li>')
    legend = f'<ul class="legend">{"".join(items)}</ul>' if items else ""
    pictures = "".join(f'<div class="picture" style="width: {_width(svg):.0f}px">{svg}</div>' for svg in plot.svgs)
    caption = f"<figcaption>{escape(plot.caption)}</figcaption>"
    if not label:
        return f'<figure>{legend}<div class="panels">{pictures}</div>{caption}</figure>'
    region = (
        f'<div class="panels single" role="region" tabindex="0" aria-label="Picture: {escape(label)}">{pictures}</div>'
    )
    return f'<figure>{legend}<p class="hint">{HINT}</p>{region}{caption}</figure>'


def _second_line(text: str) -> str:
    return f'<br><span class="small">{escape(text)}</span>' if text else ""


def _sort_value(text: str, value: float | None) -> str:
    """The attribute by which a cell sorts, left out where its text says the same number."""
    if value is None:
        return ""
    exact = f"{value:.9g}"
    return "" if exact == text else f" data-v={exact}"


def _width(svg: str) -> float:
    """The width at which all pictures have letters of the same size, in CSS pixels."""
    box = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ', svg)
    return PIXELS_PER_POINT * float(box.group(1))

"""Tables as plain text: columns two blanks apart, or a block per row where the screen is too narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

INDENT = "  "


@dataclass(frozen=True)
class Grid:
    """A table as texts, before it is laid out.

    Args:
        columns: headings.
        cells: rows of as many texts as there are columns.
        best: for each row whether it is marked; empty for a table without marks.
    """

    columns: list[str]
    cells: list[list[str]]
    best: list[bool] = field(default_factory=list)

    @property
    def numeric(self) -> list[bool]:
        """For each column whether all its texts are numbers or durations, which stand to the right."""
        return [all(is_number(line[index]) for line in self.cells) for index in range(len(self.columns))]

    @property
    def marks(self) -> list[bool]:
        """For each row whether it is marked."""
        return self.best or [False] * len(self.cells)


def aligned(grid: Grid, width: int | None = None) -> str:
    """Return a table in columns; nothing is ever cut.

    Args:
        grid: the table; a marked row begins with ``*``.
        width: columns of the screen. A wider table becomes a block per row: names and texts one after the other,
            wrapped between two of them, without those where a ``-`` says that there is nothing. None: never.

    Returns:
        Lines without a final line end.
    """
    grid = Grid(
        [printable(text) for text in grid.columns], [list(map(printable, line)) for line in grid.cells], grid.best
    )
    widths = [max(len(text) for text in column) for column in zip(grid.columns, *grid.cells, strict=True)]
    numeric = grid.numeric

    def line(mark: str, texts: Iterable[str]) -> str:
        padded = (
            text.rjust(size) if right else text.ljust(size)
            for text, size, right in zip(texts, widths, numeric, strict=True)
        )
        return f"{mark}{'  '.join(padded)}".rstrip()

    marked = zip(grid.marks, grid.cells, strict=True)
    table = [line(" ", grid.columns), *(line("*" if best else " ", texts) for best, texts in marked)]
    if width is None or max(map(len, table)) <= width:
        return "\n".join(table)
    return "\n".join(
        _block(grid.columns, texts, best, width) for best, texts in zip(grid.marks, grid.cells, strict=True)
    )


def wrapped(parts: Sequence[str], width: int | None, first: str = "", gap: str = INDENT) -> str:
    """Return texts one after the other, with a new line before one that would not fit; a long one stays whole.

    Args:
        parts: texts that are never broken.
        width: columns of the screen; None for any number.
        first: what the first line begins with; further ones are indented by as much.
        gap: stands between two parts of a line.
    """
    lines, line = [], first
    for number, part in enumerate(map(printable, parts)):
        begun = number > 0 and line.strip() != ""
        if begun and width is not None and len(line) + len(gap) + len(part) > width:
            lines.append(line)
            line = " " * len(first) + part
        else:
            line += (gap if number else "") + part
    return "\n".join([*lines, line])


def paragraph(text: str, width: int | None) -> str:
    """Return a text wrapped between words, on one line where the number of columns is not known."""
    return wrapped(text.split(" "), width, gap=" ")


def printable(text: str, keep: str = "") -> str:
    """Return a text with control characters written out, so that no value moves the cursor or breaks a line.

    Args:
        text: from a config, a file or an error message.
        keep: characters that stay as they are.

    Example:
        >>> printable("a\\nb")
        'a\\\\nb'
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def is_number(text: str) -> bool:
    """Return whether a text is a number or a duration, or stands for a missing one."""
    try:
        float(text.rstrip("smh*") if text != "-" else "0")
    except ValueError:
        return False
    return True


def _block(columns: Sequence[str], texts: Sequence[str], best: bool, width: int) -> str:
    pairs = [f"{name} {text}" for name, text in zip(columns, texts, strict=True) if text not in ("", "-")]
    return wrapped(pairs, width, "* " if best else "- ", gap="   ")

"""The rows of ``metrics.csv``, one per epoch; read without loading any training code."""

from __future__ import annotations

import csv
from pathlib import Path


def plain(row: dict[str, float]) -> dict[str, str]:
    """Return a row as it is written: ten digits, the epoch as a whole number."""
    return {key: str(int(value)) if key == "epoch" else f"{value:.10g}" for key, value in row.items()}


def read_rows(path: Path) -> list[dict[str, float]]:
    """Read ``metrics.csv``; a last line that was cut off while it was written is left out.

    Args:
        path: the file; a missing one has no rows.

    Raises:
        ValueError: a line before the last one is damaged; the message names it.
    """
    if not path.is_file():
        return []
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    header = lines[0] if lines else []
    rows = []
    for number, line in enumerate(lines[1:], 2):
        try:
            if len(line) != len(header):
                raise ValueError("wrong number of values")
            rows.append({key: float(value) for key, value in zip(header, line, strict=True)})
        except ValueError as error:
            if number != len(lines):
                raise ValueError(f"{path}, line {number}: {error}") from error
    for row in rows:
        row["epoch"] = int(row["epoch"])
    return rows

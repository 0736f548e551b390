"""The report of a sweep: one HTML file that needs no network, no account and no scripts.

Every text that comes from a config, a class name, a file or an error is escaped where it enters the page. The page
lets no script run except its own, which sorts, filters and pages tables and copies commands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from resweep.record import write_atomic
from resweep.report.html.page import report_html
from resweep.report.load import Sweep
from resweep.report.table import Ranking

__all__ = ["report_html", "write_report"]


def write_report(
    sweep: Sweep,
    path: str | os.PathLike[str],
    table: Ranking | None = None,
    warnings: Sequence[str] | None = None,
) -> Path:
    """Write the sweep's report as one HTML file, replaced in one step.

    Args:
        sweep: a loaded sweep.
        path: the file; links to runs and logs are relative to its folder.
        table: the sweep's ranking where it is at hand, such as one across several sweeps; None makes it.
        warnings: what stands against comparing the runs, see :func:`report_html`.

    Returns:
        The path.
    """
    path = Path(path)
    write_atomic(path, report_html(sweep, table, path.parent, warnings))
    return path

"""What did not complete: causes, the ends of the logs, damaged records and missing seeds."""

from __future__ import annotations

from html import escape
from pathlib import Path

from resweep.record import LOG_FILE
from resweep.report.differences import grouped
from resweep.report.html.parts import bullets, counted, folded, link, path_from
from resweep.report.load import RunRecord, Sweep, changes_since_planned, log_tail
from resweep.report.table import Ranking, SettingRow, repeat_of

LISTED_RUNS = 40
"""Runs that are listed for one cause; the table of all runs has every one."""
SHOWN_LOGS = 5
"""Runs of one cause whose log's end is shown."""
LISTED_GAPS = 60
"""Settings with missing seeds that are listed."""
LISTED_FAULTS = 40
"""Lines on files that cannot be read; of a fault that many runs share there is one line."""


def failures(ranked: Ranking, folder: Path) -> str:
    """Return every run that did not complete by its cause, what cannot be read, and which seeds are missing.

    Args:
        ranked: a ranked sweep.
        folder: where the report lies; links to logs start there.
    """
    sweep = ranked.sweep
    reasons: dict[tuple[str, str], list[RunRecord]] = {}
    for run in sweep.runs:
        if run.status != "completed":
            reasons.setdefault((run.status, run.error_text or "no reason recorded"), []).append(run)
    blocks = [_reason(f"{status}: {why}", runs, folder) for (status, why), runs in reasons.items()]
    blocks += [_block("Files that cannot be read", _faults(sweep))] if sweep.damaged else []
    changes = changes_since_planned(sweep.request)
    blocks += [_block("Changed since the sweep was planned", changes)] if changes else []
    unrecorded = sweep.counts.get("pending", 0) - sum(run.status == "pending" for run in sweep.runs)
    if unrecorded > 0:
        verb = "has" if unrecorded == 1 else "have"
        blocks.append(f"<p>{counted(unrecorded, 'planned run')} {verb} no record yet.</p>")
    blocks += _gaps(ranked)
    return "\n".join(blocks) or f"<p>{_none(sweep)}</p>"


def overrides(run: RunRecord) -> str:
    """Return what a run was asked for, as one line."""
    return " ".join(run.overrides) or run.label


def _none(sweep: Sweep) -> str:
    return "None: every planned run completed." if sweep.runs else "No run has been recorded."


def _faults(sweep: Sweep) -> list[str]:
    """What cannot be read, equal faults in one line, the last line counting what is not listed."""
    lines = grouped(sweep.damaged)
    more = len(lines) - LISTED_FAULTS
    return lines if more <= 0 else [*lines[:LISTED_FAULTS], f"and {counted(more, 'further fault')}"]


def _block(title: str, lines: list[str]) -> str:
    return f'<div class="reason"><h3>{escape(title)}</h3>{bullets(lines)}</div>'


def _reason(title: str, runs: list[RunRecord], folder: Path) -> str:
    items = []
    for place, run in enumerate(runs[:LISTED_RUNS]):
        error = run.error or {}
        where = ", ".join(f"{key} {error[key]}" for key in ("epoch", "where") if error.get(key) is not None)
        text = escape(f"{run.id}  {overrides(run)}{f'  ({where})' if where else ''}  ")
        log = _log(run) if place < SHOWN_LOGS else ""
        items.append(f"<li>{text}{link(path_from(folder, run.dir / LOG_FILE))}{log}</li>")
    if len(runs) > LISTED_RUNS:
        items.append(f"<li>and {len(runs) - LISTED_RUNS} more: see the table of all runs</li>")
    number = f"{len(runs)} runs " if len(runs) > 1 else ""
    return f'<div class="reason"><h3>{escape(number + title)}</h3><ul>{"".join(items)}</ul></div>'


def _log(run: RunRecord) -> str:
    """The end of a run's log, folded; empty where it has none."""
    text = log_tail(run)
    if not text:
        return ""
    count = text.count("\n") + 1
    title = f"the last {count} lines of its log" if count > 1 else "the last line of its log"
    return folded(title, f'<pre tabindex="0">{escape(text)}</pre>')


def _gaps(ranked: Ranking) -> list[str]:
    """Settings that lack seeds which other settings have completed or tried."""
    repeats = {repeat for run in ranked.sweep.runs if (repeat := repeat_of(run)) is not None}
    gaps = [(row, missing) for row in ranked.rows if (missing := _missing(row, repeats))]
    if not gaps:
        return []
    lines = []
    for row, missing in gaps[:LISTED_GAPS]:
        names = [str(seed) if fold is None else f"{fold} (seed {seed})" for seed, fold in missing]
        lines.append(f"{ranked.setting(row)}: no completed run for {ranked.unit} {', '.join(names)}")
    if len(gaps) > LISTED_GAPS:
        lines.append(f"and {counted(len(gaps) - LISTED_GAPS, 'more setting')}")
    return [f"<h3>Missing {ranked.unit}s</h3>{bullets(lines)}"]


def _missing(row: SettingRow, repeats: set[tuple[int, int | None]]) -> list[tuple[int, int | None]]:
    return sorted(repeats - {repeat_of(run) for run in row.completed}, key=in_order)


def in_order(repeat: tuple[int, int | None]) -> tuple[int, int]:
    """Sort by seed, then by fold."""
    return repeat[0], -1 if repeat[1] is None else repeat[1]

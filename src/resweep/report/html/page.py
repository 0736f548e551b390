"""The page as a whole: its head, its sections in order, and the template they are put into."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from resweep.console import duration
from resweep.record import CURVES_PARQUET, RESULTS_FILE, RESULTS_PARQUET
from resweep.report import plots
from resweep.report.differences import doubts
from resweep.report.html import best, comparisons, method, runs
from resweep.report.html.failures import failures
from resweep.report.html.parts import command_block, counted, figure, link
from resweep.report.html.settings import leaderboard
from resweep.report.load import Sweep
from resweep.report.results import sweep_command
from resweep.report.selection import axis_results, sensitivity
from resweep.report.table import Ranking, ranking
from resweep.report.words import answer


def report_html(
    sweep: Sweep, table: Ranking | None = None, folder: Path | None = None, warnings: Sequence[str] | None = None
) -> str:
    """Return the report as a complete HTML document; the same files give the same text.

    Args:
        sweep: a loaded sweep.
        table: its ranking where it is at hand; None makes it.
        folder: where the page will lie, from which it links to runs; None: the sweep's folder.
        warnings: what stands against comparing the runs, shown below the answer; None: what the sweep itself shows.
    """
    sweep.check_files()
    table = ranking(sweep) if table is None else table
    folder = sweep.dir if folder is None else folder
    warnings = doubts({sweep.name: sweep}) if warnings is None else warnings
    kept = [(title, re.sub(r"\W+", "-", title.lower()), body) for title, body in _sections(table, folder) if body]
    links = "".join(f'<li><a href="#{anchor}">{escape(title)}</a></li>' for title, anchor, _ in kept)
    bodies = "\n".join(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>\n{body}</section>'
        for title, anchor, body in kept
    )
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
    page = f'{_head(table, warnings)}\n{nav}\n<main id="content">\n{bodies}\n</main>\n{_footer(sweep, folder)}'
    # A name that is no valid UTF-8 is read from disk as lone surrogates, which no file can hold.
    return _fill(f"{escape(sweep.name)} · resweep report", page).encode("utf-8", "replace").decode()


def _sections(table: Ranking, folder: Path) -> Iterator[tuple[str, str]]:
    """Title and body of every section, the body empty where there is nothing to say."""
    axes = axis_results(table)
    yield "Ranking", leaderboard(table)
    yield "Which value?", comparisons.axis_tables(table, axes)
    yield "Differences", comparisons.paired_table(table, axes)
    yield "Failures and gaps", failures(table, folder)
    yield f"Every {table.unit}", figure(plots.dot_plot(table), f"Every {table.unit}")
    yield "What each factor does", figure(plots.factor_effects(table))
    yield "Tuning budget", figure(plots.budget_plot(table))
    yield "Neighbours", comparisons.neighbours(table, sensitivity(table), plots.sensitivity_plot(table))
    yield "Two factors together", figure(plots.heat_maps(table))
    yield "All factors together", figure(plots.parallel_coordinates(table), "All factors together")
    yield "Learning curves", figure(plots.learning_curves(table))
    yield "Speed", _speed(table)
    yield "Cost", figure(plots.cost_plot(table))
    yield "Generalization gap", figure(plots.gap_plot(table), "Generalization gap")
    yield "Confusions of the best setting", best.confusions(table)
    yield "Most confident mistakes", best.mistakes(table)
    yield "Calibration", figure(plots.calibration_plot(table))
    yield "Norms of the weights", figure(plots.weight_norms_plot(table))
    yield "All runs", runs.all_runs(table, folder)
    yield "Settings", runs.config_values(table)
    yield "How it was measured", method.method(table)
    yield "Glossary", method.glossary(table)


def _speed(table: Ranking) -> str:
    parts = [
        ("Time to a target", plots.time_to_target_plot(table)),
        ("Performance profile", plots.profile_plot(table)),
        ("Best so far", plots.anytime_plot(table)),
    ]
    return "".join(f"<h3>{title}</h3>{figure(plot, title)}" for title, plot in parts if plot is not None)


def _fill(title: str, body: str) -> str:
    """Put the parts into the template; the script's hash is what the page's policy lets run."""
    files = resources.files("resweep.report.html")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {"TITLE": title, "BODY": body, "STYLE": style, "SCRIPT": script, "SCRIPT_HASH": f"sha256-{digest}"}
    template = files.joinpath("template.html").read_text(encoding="utf-8")
    return re.sub(r"@@([A-Z_]+)@@", lambda match: parts[match.group(1)], template)


def _head(table: Ranking, warnings: Sequence[str]) -> str:
    sweep = table.sweep
    items = "".join(
        f'<li class="{kind}"><b>{escape(text)}</b><span>{escape(what)}</span></li>'
        for text, what, kind in _tiles(table)
    )
    command = sweep_command(sweep)
    repeat = f'<p class="quiet">Made by</p>{command_block(command)}' if command else ""
    lines = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    against = f'<div class="reason"><h3>Against comparing these runs</h3><ul>{lines}</ul></div>' if lines else ""
    created = str(sweep.request.get("created_at") or "")
    about = " · ".join(["Sweep report", *filter(None, [_date(created), *method.hardware(sweep)])])
    return (
        f'<header><p class="kind">{escape(about)}</p><h1>{escape(sweep.name)}</h1>'
        f'<p class="answer">{escape(answer(table))}</p>{against}<ul class="tiles">{items}</ul>{repeat}</header>'
    )


def _tiles(table: Ranking) -> Iterator[tuple[str, str, str]]:
    """Figure, what it is, and its CSS class, for the boxes below the answer."""
    counts, best_row = table.sweep.counts, table.best
    yield f"{counts.get('completed', 0)} of {sum(counts.values())}", "runs completed", ""
    for status, number in counts.items():
        if status != "completed":
            yield str(number), status, "bad"
    if best_row is not None:
        yield f"{best_row.val.mean:.4f}", f"{table.monitor}, best setting", ""
        if best_row.test.n:
            yield f"{best_row.test.mean:.4f}", f"{table.shown}, same setting", ""
    if len(table.rows) > 1:
        yield f"{len(table.rows):,}", "settings", ""
    seconds = [run.fit_seconds for run in table.sweep.runs if run.fit_seconds is not None]
    if seconds:
        yield duration(sum(seconds)), "training time, all runs", ""


def _footer(sweep: Sweep, folder: Path) -> str:
    names = (RESULTS_FILE, RESULTS_PARQUET, CURVES_PARQUET)
    files = [link(name) for name in names if name == RESULTS_FILE or (folder / name).exists()]
    made = f"Made by resweep from {counted(len(sweep.runs), 'run record')}"
    return f"<footer>{made}. As data: {', '.join(files)}</footer>"


def _date(created: str) -> str:
    return created[:16].replace("T", " ") + (" UTC" if created.endswith(("Z", "+00:00")) else "")

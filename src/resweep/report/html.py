"""The report of a sweep: one HTML file that needs no network, no account and no scripts.

Every text that comes from a config, a class name, a file or an error is escaped where it enters the page. The page
lets no script run except its own, which only sorts and filters tables.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from resweep.console import duration
from resweep.record import write_atomic
from resweep.report import plots
from resweep.report.load import Confusion, RunRecord, Sweep, changes_since_planned, load_confusion
from resweep.report.results import run_command, sweep_command
from resweep.report.stats import MIN_SEEDS, Difference, Summary
from resweep.report.table import Ranking, SettingRow, ranking, repeat_of
from resweep.report.words import answer, counts_text, repeats_text, summary_text, value_text

FOLDS_NOTE = (
    "The runs of a setting are the folds of a cross-validation: every image is tested once. The training parts of two "
    "folds overlap, so the interval against the best is wider than for independent runs, by the corrected resampled "
    "t-test of Nadeau & Bengio 2003."
)
MATRIX_CLASSES = 20
"""Classes up to which the confusion matrix is a table; above it is a picture."""


def write_report(sweep: Sweep, path: str | os.PathLike[str]) -> Path:
    """Write the sweep's report as one HTML file, replaced in one step.

    Args:
        sweep: a loaded sweep.
        path: the file; links to run logs are relative to the sweep's folder.

    Returns:
        The path.
    """
    write_atomic(Path(path), report_html(sweep))
    return Path(path)


def report_html(sweep: Sweep) -> str:
    """Return the report as a complete HTML document; the same files give the same text."""
    table = ranking(sweep)
    sections = [
        ("Ranking", _ranking(table)),
        ("Failures and gaps", _failures(table)),
        (f"Every {table.unit}", _figure(plots.dot_plot(table), "single")),
        ("Learning curves", _figure(plots.learning_curves(table), "panels")),
        ("What each factor does", _figure(plots.factor_effects(table), "panels")),
        ("Learning rate and weight decay", _figure(plots.heat_maps(table), "panels")),
        ("Confusions of the best setting", _confusions(table)),
        ("All runs", _all_runs(table)),
        ("Settings", _settings(table)),
        ("How it was measured", _method(table)),
    ]
    kept = [(title, re.sub(r"\W+", "-", title.lower()), body) for title, body in sections if body]
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for title, anchor, _ in kept)
    bodies = "\n".join(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{title}</h2>\n{body}</section>'
        for title, anchor, body in kept
    )
    page = (
        f'{_head(table)}\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n{bodies}\n{_footer(sweep)}</main>'
    )
    return _fill(f"{escape(sweep.name)} · resweep report", page)


def _fill(title: str, body: str) -> str:
    """Put the parts into the template; the script's hash is what the page's policy lets run."""
    template = resources.files("resweep.report").joinpath("template.html").read_text(encoding="utf-8")
    script = template[template.index("<script>") + len("<script>") : template.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {"TITLE": title, "BODY": body, "SCRIPT_HASH": f"sha256-{digest}"}
    return re.sub(r"@@([A-Z_]+)@@", lambda match: parts[match.group(1)], template)


def _head(table: Ranking) -> str:
    sweep, best, counts = table.sweep, table.best, table.sweep.counts
    total = sum(counts.values())
    tiles = [(f"{counts.get('completed', 0)} of {total}", "runs completed", "")]
    tiles += [(str(n), key, "bad") for key, n in counts.items() if key != "completed"]
    if best is not None:
        tiles.append((f"{best.val.mean:.4f}", f"{table.monitor}, best setting", ""))
        if best.test.n:
            tiles.append((f"{best.test.mean:.4f}", f"{table.shown}, same setting", ""))
    seconds = [run.fit_seconds for run in sweep.runs if run.fit_seconds is not None]
    if seconds:
        tiles.append((duration(sum(seconds)), "training time, all runs", ""))
    items = "".join(
        f'<li class="{kind}"><b>{escape(text)}</b><span>{escape(what)}</span></li>' for text, what, kind in tiles
    )
    command = sweep_command(sweep)
    repeat = f'<p class="quiet">Repeat it with</p><pre class="command">{escape(command)}</pre>' if command else ""
    created = str(sweep.request.get("created_at") or "")
    about = " · ".join(["Sweep report", *filter(None, [_date(created), *_hardware(sweep)])])
    return (
        f'<header><p class="kind">{escape(about)}</p><h1>{escape(sweep.name)}</h1>'
        f'<p class="answer">{escape(answer(table))}</p><ul class="tiles">{items}</ul>{repeat}</header>'
    )


def _ranking(table: Ranking) -> str:
    if not table.rows:
        return "<p>No run has a readable record.</p>"
    compared = table.shown or table.monitor
    heads = [*((name, False) for name in table.names.values()), ("n", True), (table.monitor, True)]
    heads += [(table.shown, True)] if table.shown else []
    heads += [("against best", True), ("verdict", False), ("time/run", True)]
    body = [_row([*_setting_cells(table, row), *_result_cells(table, row)], row.best) for row in table.rows]
    note = (
        f"Ranked by mean {table.monitor}; test metrics are shown, never used to choose. Figures are mean ± standard "
        f"deviation over the n completed {table.unit}s, with smallest..largest below; runs of a "
        "setting that did not complete stand below its n. Against best: mean difference in "
        f"{compared} and its 95 % interval, paired by {table.unit}. Settings with failed, diverged or lost runs rank "
        "below the others."
    )
    repeats = repeats_text(table)
    note += "" if repeats is None else f" {repeats}."
    return f'<p class="quiet">{escape(note)}</p>{_table(heads, _labelled(heads, body), "Settings", "wide cards")}'


def _setting_cells(table: Ranking, row: SettingRow) -> list[str]:
    cells = [_cell(value_text(row.values.get(key)), row.values.get(key)) for key in table.names]
    if row.best and cells:
        cells[0] = cells[0].replace("<td>", '<td><span class="star" title="best on validation">★</span> ', 1)
    return cells


def _result_cells(table: Ranking, row: SettingRow) -> list[str]:
    n = len(row.completed)
    cells = [_number(str(n), n, counts_text(row.not_completed))]
    for summary in (row.val, row.test) if table.shown else (row.val,):
        cells.append(_number(_mean_text(summary, n), summary.mean, _range(summary)))
    mean = None if row.difference is None else row.difference.mean
    cells.append(_number("-" if mean is None else f"{mean:+.4f}", mean, _interval(row.difference)))
    verdict = "best" if row.best else "-" if row.difference is None else row.difference.verdict
    return [*cells, _cell(verdict), _number(duration(row.fit_seconds), row.fit_seconds)]


def _failures(table: Ranking) -> str:
    sweep = table.sweep
    reasons: dict[tuple[str, str], list[RunRecord]] = {}
    for run in sweep.runs:
        if run.status != "completed":
            reasons.setdefault((run.status, run.error_text or "no reason recorded"), []).append(run)
    blocks = [_reason(f"{status}: {why}", runs) for (status, why), runs in reasons.items()]
    if sweep.damaged:
        items = "".join(f"<li>{escape(line)}</li>" for line in sweep.damaged)
        blocks.append(f'<div class="reason"><h3>Records that cannot be read</h3><ul>{items}</ul></div>')
    if changes := changes_since_planned(sweep.request):
        items = "".join(f"<li>{escape(line)}</li>" for line in changes)
        blocks.append(f'<div class="reason"><h3>Changed since the sweep was planned</h3><ul>{items}</ul></div>')
    unrecorded = sweep.counts.get("pending", 0) - sum(run.status == "pending" for run in sweep.runs)
    if unrecorded > 0:
        blocks.append(f"<p>{unrecorded} planned runs have no record yet.</p>")
    repeats = {repeat for run in sweep.runs if (repeat := repeat_of(run)) is not None}
    gaps = []
    for row in table.rows:
        missing = sorted(repeats - {repeat_of(run) for run in row.completed}, key=_in_order)
        if missing:
            names = [str(seed) if fold is None else f"{fold} (seed {seed})" for seed, fold in missing]
            text = f"{table.setting(row)}: no completed run for {table.unit} {', '.join(names)}"
            gaps.append(f"<li>{escape(text)}</li>")
    if gaps:
        blocks.append(f"<h3>Missing {table.unit}s</h3><ul>{''.join(gaps)}</ul>")
    return "\n".join(blocks) or "<p>None: every planned run completed.</p>"


def _reason(title: str, runs: list[RunRecord]) -> str:
    items = []
    for run in runs:
        where = ", ".join(
            f"{key} {run.error[key]}" for key in ("epoch", "where") if (run.error or {}).get(key) is not None
        )
        text = escape(f"{run.id}  {_overrides(run)}{f'  ({where})' if where else ''}  ")
        items.append(f"<li>{text}{_link(f'{run.folder}/run.log')}</li>")
    number = f"{len(runs)} runs " if len(runs) > 1 else ""
    return f'<div class="reason"><h3>{escape(number + title)}</h3><ul>{"".join(items)}</ul></div>'


def _figure(plot: plots.Plot | None, kind: str) -> str:
    if plot is None:
        return ""
    items = []
    for label, index in plot.legend:
        color = "var(--faint)" if index is None else f"var(--s{index})"
        dash = "" if index is None else plots.DASHES[index % len(plots.DASHES)]
        style = f"stroke: {color}; stroke-width: 2; stroke-dasharray: {dash or 'none'}"
        line = f'<line x1="0" y1="4" x2="28" y2="4" style="{style}"/>'
        items.append(f'<li><svg viewBox="0 0 28 8" aria-hidden="true">{line}</svg>{escape(label)}</li>')
    legend = f'<ul class="legend">{"".join(items)}</ul>' if items else ""
    pictures = "".join(f"<div>{svg}</div>" for svg in plot.svgs)
    caption = f"<figcaption>{escape(plot.caption)}</figcaption>"
    return f'<figure>{legend}<div class="{kind}">{pictures}</div>{caption}</figure>'


def _confusions(table: Ranking) -> str:
    if table.best is None:
        return ""
    found = [confusion for run in table.best.completed if (confusion := load_confusion(run)) is not None]
    found = [confusion for confusion in found if confusion.classes == found[0].classes]
    if not found:
        return ""
    size = range(len(found[0].classes))
    counts = tuple(tuple(sum(one.counts[i][j] for one in found) for j in size) for i in size)
    total = Confusion(found[0].classes, counts)
    runs = f"{len(found)} runs" if len(found) > 1 else "one run"
    note = f"Test images of {table.setting(table.best)}, summed over {runs}. Rows: true class, columns: predicted."
    matrix = _matrix(total) if len(size) <= MATRIX_CLASSES else _figure(plots.confusion_picture(total), "single")
    return f'<p class="quiet">{escape(note)}</p>{matrix}<div class="columns">{_pairs(total)}{_per_class(total)}</div>'


def _matrix(confusion: Confusion) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in confusion.classes)
    rows = []
    for i, (name, counts) in enumerate(zip(confusion.classes, confusion.counts, strict=True)):
        whole = sum(counts) or 1
        cells = []
        for j, count in enumerate(counts):
            shade = 0.0 if count == 0 else 0.08 + 0.42 * count / whole
            kind = ' class="right"' if i == j else ""
            cells.append(f'<td{kind} style="background: rgba(var(--heat), {shade:.2f})">{count}</td>')
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    table = f'<table class="matrix"><thead><tr><th></th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return _scroll(table, "Confusion matrix")


def _pairs(confusion: Confusion, limit: int = 8) -> str:
    """The most frequent mistakes, as a list."""
    pairs = [
        (count, confusion.classes[i], confusion.classes[j], sum(counts))
        for i, counts in enumerate(confusion.counts)
        for j, count in enumerate(counts)
        if i != j and count > 0
    ]
    pairs.sort(key=lambda pair: -pair[0])
    rows = [
        _row(
            [_cell(true), _cell(predicted), _number(str(count), count), _number(f"{count / whole:.1%}", count / whole)]
        )
        for count, true, predicted, whole in pairs[:limit]
    ]
    heads = [("true class", False), ("taken for", False), ("images", True), ("of the class", True)]
    body = _table(heads, rows, "Most confused pairs", "plain") if rows else "<p>No mistakes.</p>"
    return f"<div><h3>Most confused pairs</h3>{body}</div>"


def _per_class(confusion: Confusion) -> str:
    rows = []
    shares = [(counts[i] / sum(counts), i, sum(counts)) for i, counts in enumerate(confusion.counts) if sum(counts)]
    for share, index, whole in sorted(shares)[:MATRIX_CLASSES]:
        rows.append(_row([_cell(confusion.classes[index]), _number(f"{share:.4f}", share), _number(str(whole), whole)]))
    heads = [("class", False), ("recognised", True), ("images", True)]
    return f"<div><h3>Accuracy per class, lowest first</h3>{_table(heads, rows, 'Accuracy per class', 'plain')}</div>"


def _all_runs(table: Ranking) -> str:
    sweep = table.sweep
    metrics = [table.monitor, *([table.shown] if table.shown else [])]
    heads = [("run", False), ("state", False), *((name, False) for name in table.names.values()), ("seed", True)]
    heads += [("fold", True)] if table.unit == "fold" else []
    heads += [*((metric, True) for metric in metrics), ("best epoch", True), ("epochs", True), ("time", True)]
    heads += [("images/s", True), ("command", False), ("folder", False)]
    rows = []
    for run in sweep.runs:
        state = f'<td><span class="state-{re.sub(r"[^a-z]", "", run.status)}">{escape(run.status)}</span></td>'
        cells = [f"<td><code>{escape(run.id)}</code></td>", state]
        cells += [_cell(value_text(run.swept.get(key)), run.swept.get(key)) for key in table.names]
        cells.append(_number(value_text(run.seed), run.seed))
        cells += [_optional(run.swept.get("data.fold"), "{}")] if table.unit == "fold" else []
        cells += [_optional(run.metrics.get(metric), "{:.4f}") for metric in metrics]
        cells += [_optional(run.best_epoch, "{}"), _optional(run.epochs, "{}")]
        cells += [_number(duration(run.fit_seconds), run.fit_seconds), _optional(run.images_per_second, "{:,.0f}")]
        command = f'<td><code class="command">{escape(run_command(sweep, run))}</code></td>'
        rows.append(_row([*cells, command, f"<td>{_link(run.folder + '/', run.folder)}</td>"]))
    heads = heads if rows else []
    return _table(heads, rows, "All runs", "wide filterable") if rows else ""


def _in_order(repeat: tuple[int, int | None]) -> tuple[int, int]:
    """Sort by seed, then by fold."""
    return repeat[0], -1 if repeat[1] is None else repeat[1]


def _settings(table: Ranking) -> str:
    sweep = table.sweep
    swept: dict[str, dict[str, None]] = {}
    for run in sweep.runs:
        for key, value in (run.swept | ({} if run.seed is None else {"seed": run.seed})).items():
            swept.setdefault(key, {})[value_text(value)] = None
    fixed = {key: value_text(value) for key, value in sweep.base.items() if key not in swept}
    differing = _facts({key: ", ".join(values) for key, values in swept.items() if len(values) > 1})
    alike = _facts({key: next(iter(values)) for key, values in swept.items() if len(values) == 1} | fixed)
    parts = [f"<h3>Swept</h3>{differing}"] if differing else []
    if alike:
        parts.append(
            f"<details><summary>The same in every run: {alike.count('<dt>')} values</summary>{alike}</details>"
        )
    return "".join(parts)


def _method(table: Ranking) -> str:
    sweep = table.sweep
    split = [
        f"{key}={value_text(sweep.base[key])}" for key in ("data.val_size", "data.split_seed") if key in sweep.base
    ]
    differ = "seed" if table.unit == "seed" else "fold and the seed"
    rules = [
        "Three splits: the net learns from the training part; the checkpoint of each run, its stopping and the ranking "
        f"of settings use the validation part only{split}; the test part is "
        "measured once per run, at its end, with its best checkpoint.",
        f"Means and intervals are over completed runs that differ in the {differ} only. Failed, diverged and "
        "unfinished runs are counted, never averaged in, and a setting with failed, diverged or lost runs ranks below "
        "those without. Of several runs of the same config the newest finished one counts.",
        f"The 95 % interval of a mean is mean ± t(n-1) · sd / √n. From {MIN_SEEDS} shared seeds on, a setting is "
        "called lower or higher than the best if the paired t interval of the per-seed differences leaves out 0, "
        "otherwise not distinguishable. Where all per-seed differences are equal, the interval has no width and says "
        "nothing; a two-sided sign test (2 · 0.5ⁿ < 5 %) then decides, which takes six shared seeds. "
        "The intervals are not corrected for the number of settings."
        + (" " + FOLDS_NOTE if table.unit == "fold" else ""),
    ]
    facts = {"ranked by": f"{table.monitor} ({'larger' if table.mode == 'max' else 'smaller'} is better)"}
    facts |= _environment(sweep.runs)
    digests = sorted({run.data_digest for run in sweep.runs if run.data_digest is not None})
    facts |= {"data digest": ", ".join(digests)} if digests else {}
    facts |= {"parameters": _span([run.parameters for run in sweep.runs], lambda value: f"{value:,}")}
    facts |= {
        "peak memory": _span([run.peak_memory_bytes for run in sweep.runs], lambda value: f"{value / 1e6:,.0f} MB")
    }
    versions = sweep.request.get("versions")
    if isinstance(versions, dict):
        facts["planned with"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "".join(f"<p>{escape(rule)}</p>" for rule in rules) + _facts({k: v for k, v in facts.items() if v})


def _environment(runs: Iterable[RunRecord]) -> dict[str, str]:
    """Each recorded fact with all the values it had in the sweep."""
    seen: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in run.environment.items():
            seen.setdefault(key, {})[_environment_text(key, value)] = None
    return {key: " | ".join(text for text in values if text) for key, values in seen.items()}


def _environment_text(key: str, value: Any) -> str:
    if key == "git" and isinstance(value, dict):
        return f"{value.get('commit')}{' with uncommitted changes' if value.get('dirty') else ''}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return "" if value is None else value_text(value)


def _hardware(sweep: Sweep) -> list[str]:
    facts = _environment(sweep.runs)
    return [facts[key] for key in ("accelerator", "processor") if facts.get(key) and len(facts[key]) < 80]


def _footer(sweep: Sweep) -> str:
    return (
        f"<footer>Made by resweep from {len(sweep.runs)} run records. Figures per run: {_link('results.csv')}</footer>"
    )


def _table(heads: list[tuple[str, bool]], rows: list[str], label: str, kind: str = "wide") -> str:
    columns = "".join(
        f'<th scope="col"{" class=num" if numeric else ""}>{escape(name)}</th>' for name, numeric in heads
    )
    table = f'<table class="{kind} sortable"><thead><tr>{columns}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return _scroll(table, label)


def _labelled(heads: list[tuple[str, bool]], rows: list[str]) -> list[str]:
    """Rows whose cells know their column's name, which a narrow screen shows in place of the heading."""
    labelled = []
    for row in rows:
        names = iter(heads)
        labelled.append(re.sub("<td", lambda _, names=names: f'<td data-l="{escape(next(names)[0])}"', row))
    return labelled


def _scroll(table: str, label: str) -> str:
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{table}</div>'


def _row(cells: list[str], best: bool = False) -> str:
    return f"<tr{' class=best' if best else ''}>{''.join(cells)}</tr>"


def _cell(text: str, value: Any = None) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return _number(text, value) if number else f"<td>{escape(text)}</td>"


def _number(text: str, value: float | None, below: str = "") -> str:
    """A cell that sorts by its value, with a second, quieter line if there is one."""
    data = "" if value is None else f' data-v="{value!r}"'
    second = f'<br><span class="small">{escape(below)}</span>' if below else ""
    return f'<td class="num"{data}>{escape(text)}{second}</td>'


def _optional(value: float | None, pattern: str) -> str:
    return _number("-" if value is None else pattern.format(value), value)


def _facts(facts: dict[str, str]) -> str:
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    return f'<dl class="facts">{items}</dl>' if items else ""


def _link(path: str, text: str | None = None) -> str:
    return f'<a href="./{quote(path)}"><code>{escape(text or path)}</code></a>'


def _mean_text(summary: Summary, expected: int) -> str:
    if 0 < summary.n < MIN_SEEDS:
        return f"{summary.mean:.4f}" + ("" if summary.n == expected else f" (n={summary.n})")
    return summary_text(summary, expected=expected)


def _interval(difference: Difference | None) -> str:
    if difference is None or difference.n < MIN_SEEDS:
        return ""
    if difference.sign_test:
        return "equal in every seed"
    return f"[{difference.low:+.4f}, {difference.high:+.4f}]"


def _range(summary: Summary) -> str:
    return "" if summary.n < 2 else f"{summary.smallest:.4f}..{summary.largest:.4f}"


def _overrides(run: RunRecord) -> str:
    return " ".join(run.overrides) or run.label


def _span(values: Iterable[float | None], text: Callable[[float], str]) -> str:
    """Smallest to largest of what was recorded, one value if all are alike."""
    known = sorted({value for value in values if value is not None})
    if not known:
        return ""
    return text(known[0]) if text(known[0]) == text(known[-1]) else f"{text(known[0])} to {text(known[-1])}"


def _date(created: str) -> str:
    return created[:16].replace("T", " ") + (" UTC" if created.endswith(("Z", "+00:00")) else "")

"""Inside the best setting: what it takes for what, and its most confident mistakes."""

from __future__ import annotations

import base64
from html import escape

from resweep.report.html.parts import Column, cell, counted, figure, head_cell, note, number, row, scroll, table
from resweep.report.load import Confusion, load_confusion, load_mistakes
from resweep.report.plots import confusion_picture
from resweep.report.table import Ranking

MATRIX_CLASSES = 20
"""Classes up to which the confusion matrix is a table; above it is a picture."""
MISTAKE_RUNS = 1
"""Runs whose grid of mistakes is shown; a grid has up to 40 kB."""


def confusions(ranked: Ranking) -> str:
    """Return the best setting's confusion matrix, summed over its runs, its most confused pairs and each class."""
    if ranked.best is None:
        return ""
    found = [confusion for run in ranked.best.completed if (confusion := load_confusion(run)) is not None]
    found = [confusion for confusion in found if confusion.classes == found[0].classes]
    if not found:
        return ""
    size = range(len(found[0].classes))
    counts = tuple(tuple(sum(one.counts[i][j] for one in found) for j in size) for i in size)
    total = Confusion(found[0].classes, counts)
    summed = f", summed over {counted(len(found), 'run')}" if len(found) > 1 else ""
    text = f"Test images of {ranked.setting(ranked.best)}{summed or ' in one run'}. Rows: true class, columns: "
    text += "predicted."
    never = [name for j, name in enumerate(total.classes) if not any(line[j] for line in counts)]
    if never:
        text += f" Never predicted: {', '.join(never[:MATRIX_CLASSES])}{', …' if len(never) > MATRIX_CLASSES else ''}."
    matrix = _matrix(total, summed) if len(size) <= MATRIX_CLASSES else _picture(total)
    return f'{note(text)}{matrix}<div class="columns">{_pairs(total, summed)}{_per_class(total, summed)}</div>'


def mistakes(ranked: Ranking) -> str:
    """Return the most confident mistakes of a run of the best setting as a picture; empty where none were kept."""
    if ranked.best is None:
        return ""
    grids = [(run, data) for run in ranked.best.completed if (data := load_mistakes(run)) is not None]
    parts = []
    for run, data in grids[:MISTAKE_RUNS]:
        text = f"The most confident mistakes of run {run.id}, seed {run.seed}: true class, confidence and prediction"
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        image = f'<img src="{source}" alt="{escape(text)}">'
        parts.append(f'<figure><div class="single">{image}</div><figcaption>{escape(text)}.</figcaption></figure>')
    return "".join(parts)


def _picture(confusion: Confusion) -> str:
    return figure(confusion_picture(confusion), "Confusion matrix")


def _matrix(confusion: Confusion, summed: str) -> str:
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
    caption = f"<caption>Confusion matrix{summed}: rows true class, columns predicted class</caption>"
    heads = f"<thead><tr><td></td>{heads}</tr></thead>"
    return scroll(f'<table class="matrix">{caption}{heads}<tbody>{"".join(rows)}</tbody></table>', "Confusion matrix")


def _pairs(confusion: Confusion, summed: str, limit: int = 8) -> str:
    """The most frequent mistakes, as a list."""
    pairs = [
        (count, confusion.classes[i], confusion.classes[j], sum(counts))
        for i, counts in enumerate(confusion.counts)
        for j, count in enumerate(counts)
        if i != j and count > 0
    ]
    pairs.sort(key=lambda pair: -pair[0])
    rows = []
    for count, true, predicted, whole in pairs[:limit]:
        share = number(f"{count / whole:.1%}", count / whole)
        rows.append(row([cell(true), cell(predicted), number(str(count), count), share]))
    columns = [Column("true class"), Column("taken for"), Column("images", True), Column("of the class", True)]
    label = f"Most confused pairs{summed}"
    body = table(label, columns, rows, "plain sortable") if rows else "<p>No mistakes.</p>"
    return f"<div><h3>{label}</h3>{body}</div>"


def _per_class(confusion: Confusion, summed: str) -> str:
    rows = []
    shares = [(counts[i] / sum(counts), i, sum(counts)) for i, counts in enumerate(confusion.counts) if sum(counts)]
    for share, index, whole in sorted(shares)[:MATRIX_CLASSES]:
        cells = [head_cell(confusion.classes[index]), number(f"{share:.4f}", share), number(str(whole), whole)]
        rows.append(row(cells))
    columns = [Column("class"), Column("recognised", True), Column("images", True)]
    body = table(f"Accuracy per class{summed}", columns, rows, "plain sortable")
    return f"<div><h3>Accuracy per class, lowest first{summed}</h3>{body}</div>"

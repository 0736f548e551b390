"""Reads back what was drawn: the axes of each picture, as matplotlib holds them when the SVG is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resweep.report.load import load_sweep
from resweep.report.plots import Plot
from resweep.report.table import Ranking, ranking


@pytest.fixture
def drawn(monkeypatch) -> Callable[..., tuple[Plot, list[Axes]]]:
    """Call a picture's function; return the plot and the axes of its pictures, in their order."""
    kept: list[Axes] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **options: Any) -> None:
        kept.append(figure.axes[0])
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(picture: Callable[..., Plot | None], *args: Any) -> tuple[Plot, list[Axes]]:
        kept.clear()
        return picture(*args), list(kept)

    return draw


@pytest.fixture
def ranked() -> Callable[..., Ranking]:
    """Write a planted sweep's request and rank it."""
    return lambda sweep, **request: ranking(load_sweep(sweep.finish(**request)))


@pytest.fixture
def tuned(plant, ranked) -> Callable[..., Ranking]:
    """A grid of numbers with one seed, whose validation result is 0.5 + lr + 0.1 decay + 0.01 dropout."""

    def make(optimizers=("sgd",), lrs=(0.001, 0.01, 0.1), decays=(0, 0.0001, 0.01), dropouts=(0.1,)) -> Ranking:
        sweep = plant("tuned")
        for optimizer in optimizers:
            for lr in lrs:
                for decay in decays:
                    for dropout in dropouts:
                        swept = {"optimizer": optimizer, "model.dropout": dropout}
                        swept |= {"optimizer.weight_decay": decay, "optimizer.lr": lr}
                        val = 0.5 + lr + 0.1 * decay + 0.01 * dropout
                        sweep.run(swept, 0, val, val - 0.05)
        return ranked(sweep)

    return make

"""The pictures of a sweep as notebooks show them: images that hold their drawing."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING

from resweep.errors import nearest_name

if TYPE_CHECKING:
    from resweep.notebook import LoadedSweep
    from resweep.report.plots import Plot

PICTURES = {
    "curves": "learning_curves", "settings": "dot_plot", "factors": "factor_effects", "heat_maps": "heat_maps",
    "parallel": "parallel_coordinates", "budget": "budget_plot", "sensitivity": "sensitivity_plot",
    "time_to_target": "time_to_target_plot", "profile": "profile_plot", "anytime": "anytime_plot", "cost": "cost_plot",
    "calibration": "calibration_plot", "gap": "gap_plot", "weight_norms": "weight_norms_plot",
}  # fmt: skip
"""What ``sweep.plot`` can draw, and the function of :mod:`resweep.report.plots` that draws it."""


class Picture:
    """Drawings of a sweep with their caption.

    Args:
        plot: what was drawn; None where there is nothing to draw.
        name: name of the picture.
    """

    def __init__(self, plot: Plot | None, name: str) -> None:
        self.name = name
        self.svgs = [] if plot is None else list(plot.svgs)
        self.caption = f"{name}: this sweep has nothing to draw here." if plot is None else plot.caption
        self.legend = [] if plot is None else list(plot.legend)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.svgs)} drawings; {self.caption}>"

    def _repr_html_(self) -> str:
        # As images: drawings in the page itself would share its ids and its colours.
        from resweep.report.plots import PALETTE

        images = "".join(_image(svg, self.caption) for svg in self.svgs)
        line = "border-top:3px solid {};display:inline-block;width:1.6em;margin:0 .4em .25em 1em"
        swatch = f'<span style="{line}"></span>'
        keys = (
            swatch.format("#aaa" if series is None else PALETTE[series]) + html.escape(label)
            for label, series in self.legend
        )
        style = "background:#fff;color:#1c2024;padding:8px;font-size:13px"
        return f'<div style="{style}">{images}<div>{"".join(keys)}</div><div>{html.escape(self.caption)}</div></div>'


class Pictures:
    """The pictures of a sweep, each a method without arguments that returns a :class:`Picture`: see ``dir()``.

    What is drawn is what the report draws of all runs; other pictures are made of ``sweep.runs`` and ``sweep.curves``.
    """

    def __init__(self, sweep: LoadedSweep) -> None:
        self._sweep = sweep

    def __dir__(self) -> list[str]:
        return sorted(PICTURES)

    def __getattr__(self, name: str) -> Callable[[], Picture]:
        if name not in PICTURES:
            near = nearest_name(name, PICTURES)
            hint = "" if near is None else f"; did you mean {near}?"
            raise AttributeError(f"no picture {name!r}: there are {', '.join(sorted(PICTURES))}{hint}")
        from resweep.report import plots

        draw = getattr(plots, PICTURES[name])

        def picture(*given: object, **options: object) -> Picture:
            if given or options:
                hint = "the figures themselves are in sweep.runs and sweep.curves"
                raise TypeError(f"plot.{name}() takes no arguments, it draws what the report shows; {hint}")
            return Picture(draw(self._sweep.table), name)

        picture.__name__, picture.__qualname__, picture.__doc__ = name, f"plot.{name}", draw.__doc__
        return picture


def _image(svg: str, description: str) -> str:
    """Return an SVG element as an image of its own size, at most as wide as the page."""
    found = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ', svg)
    width = "" if found is None else f"width:{float(found[1]) * 4 / 3:.0f}px;"
    source = b64encode(svg.encode()).decode()
    return (
        f'<img alt="{html.escape(description)}" src="data:image/svg+xml;base64,{source}" style="{width}max-width:100%">'
    )

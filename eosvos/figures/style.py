"""What all plots share: colours that show on a light and on a dark page, bare axes, and the way to a file."""

import io
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

from eosvos.files import write_whole

# A picture does not know the page that it will be shown on: a README, MLflow's pages and a report are light for some
# readers and dark for others, a PNG cannot adapt, and an SVG in an <img> follows the system's theme and not the page's.
# So plots have no background, and only mid-tones. A single colour can have at most 4.35:1 against both white and #111:
# the ink has that; lines and marks have at least 3:1, what WCAG 2.2 asks of graphics (1.4.11).
INK = "#797979"
"""Text and axes. A page that shows an SVG inline can replace this colour by its own, as ``report.py`` does."""
GRID = "#79797940"
SERIES = ("#d04a35", "#3d7fc1", "#2e8b57", "#9a62c7", "#b5762a")
"""Colours of things that have no order, from the first; again from the start where there are more."""
_ORDERED = LinearSegmentedColormap.from_list("ordered", ("#3d7fc1", "#8f6cc0", "#cf4f6d", "#c9701f"))

FONT_SIZE, SMALL_FONT_SIZE = 9, 8
PNG_DPI = 150


def ordered_colours(count: int) -> list[str]:
    """``count`` colours from blue over violet to orange, for values that rise."""
    return [to_hex(_ORDERED(share)) for share in np.linspace(0, 1, count)]


def new_figure(width: float, height: float) -> Figure:
    """A figure of ``width`` x ``height`` inches without a background; without pyplot, so no global state."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def bare(axes: Axes, grid: bool = True) -> None:
    """Takes away what carries no data and gives the rest the ink's colour; ``grid``: lines at the ticks of y."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(which="both", colors=INK, labelsize=SMALL_FONT_SIZE)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=FONT_SIZE)
    if grid:
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """``folder/name.svg`` and ``folder/name.png``, each complete or not there at all; the folder exists."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=PNG_DPI)
    return (
        write_whole(folder / f"{name}.svg", svg_text(figure).encode()),
        write_whole(folder / f"{name}.png", png.getvalue()),
    )


def svg_text(figure: Figure) -> str:
    """The figure as an SVG document; its letters are outlines, so that they are as wide for every reader as here.

    The same plot, made anew, gives the same text.
    """
    svg = io.BytesIO()
    # The date, and ids that matplotlib else draws at random, would make every file another one.
    with rc_context({"svg.hashsalt": "eosvos"}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return svg.getvalue().decode()

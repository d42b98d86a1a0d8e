"""Many settings in one picture: J&F against speed, and the front of those that none beats."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from eosvos.figures.accuracy_speed import draw_published, speed_axes
from eosvos.figures.labels import Label, label_points
from eosvos.figures.published import PublishedResult
from eosvos.figures.style import SERIES, bare, new_figure
from eosvos.metrics.table import Row


def pareto_front(rows: Sequence[Row], published: Sequence[PublishedResult] = ()) -> Figure:
    """J&F against frames per second: filled marks are complete settings, rings stopped ones, the line is the front.

    Args:
        rows: with ``name``, ``status``, ``front``, ``fps`` and ``j_and_f``; those of the front get their names.
        published: of the same dataset; those without ``fps`` are left out.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("no rows, so there is no front to draw")
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    colour = SERIES[0]
    for complete, face in ((True, colour), (False, "none")):
        beaten = [row for row in rows if (row["status"] == "complete") is complete and not row["front"]]
        axes.plot(*_points(beaten), "o", color=colour, markerfacecolor=face, markersize=4, alpha=0.5)
    best = sorted((row for row in rows if row["front"]), key=lambda row: float(row["fps"]))
    fps, scores = _points(best)
    # A step: between two settings of the front there is only the more accurate one, and it is as slow as it is.
    axes.step(fps, scores, where="pre", color=colour, linewidth=1.2)
    axes.plot(fps, scores, "o", color=colour, markersize=5.5)
    labels = [Label(row["name"], x, y, colour) for row, x, y in zip(best, fps, scores, strict=True)]
    labels += draw_published(axes, published)
    speed_axes(axes, "frames per second of one object, fine-tuning included", published)
    bare(axes, grid=False)
    figure.draw_without_rendering()
    label_points(axes, labels, [np.column_stack((fps, scores))] if best else [])
    return figure


def _points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row["fps"] for row in rows], [100 * row["j_and_f"] for row in rows]

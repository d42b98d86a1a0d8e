"""Names beside what they name instead of a legend, placed so that none overlaps another.

Where a name fits is only known once the figure has its layout: the limits and scales of its axes are final, and
``figure.draw_without_rendering()`` has run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from eosvos.figures.style import SMALL_FONT_SIZE

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Where a label may lie from its point, (right, up), in the order of preference."""
DISTANCES = (6, 10, 16, 24, 34, 46, 60, 80)
"""Points (1/72 inch) between a point and its label, the nearest first."""
LEADER_FROM = 16
"""From this distance on a thin line ties a label to its point."""
CLEARANCE = 2.0
"""Points that stay free around a label, and half the size of a mark."""


@dataclass(frozen=True)
class Label:
    """A name of the point (``x``, ``y``), in the units of the axes."""

    text: str
    x: float
    y: float
    colour: str


def label_points(axes: Axes, labels: Sequence[Label], lines: Sequence[NDArray[np.float64]] = ()) -> list[Annotation]:
    """Writes each label near its point, off all points, lines and other labels, and inside the axes.

    A label for which there is no room is left out: a missing name is better than two that cannot be read.

    Args:
        axes: to write in.
        labels: the first ones get the better places.
        lines: (N, 2) each, corners of the lines to keep off, in the units of the axes.

    Returns:
        The labels that were written.
    """
    pixel = axes.figure.dpi / 72
    points = axes.transData.transform([(label.x, label.y) for label in labels]) if labels else np.empty((0, 2))
    drawn = [points, *(_dense(axes.transData.transform(line), 2 * pixel) for line in lines)]
    taken = _boxes(np.concatenate(drawn), CLEARANCE * pixel)
    bounds = axes.get_window_extent()
    written: list[Annotation] = []
    names = np.empty((0, 4))
    for label, point in zip(labels, points, strict=True):
        size = _size(axes, label.text)
        for distance, direction in product(DISTANCES, DIRECTIONS):
            offset = np.array(direction) * distance / np.hypot(*direction)
            near = point + offset * pixel
            corner = near + (np.array(direction) - 1) / 2 * size
            box = np.concatenate((corner, corner + size))
            inside = (corner >= bounds.min).all() and (corner + size <= bounds.max).all()
            leader = _dense(np.array((point, near)), 2 * pixel) if distance >= LEADER_FROM else np.empty((0, 2))
            if inside and not _overlaps(box, taken, CLEARANCE * pixel) and not _any_inside(leader, names):
                written.append(_annotate(axes, label, offset, direction, len(leader) > 0))
                names = np.vstack((names, box))
                taken = np.vstack((taken, box, _boxes(leader, 0)))
                break
    return written


def label_ends(axes: Axes, labels: Sequence[Label]) -> list[Annotation]:
    """Writes labels to the right of the axes, each as near to its height as the others allow.

    Args:
        axes: to write beside.
        labels: of lines that end at (``x``, ``y``).
    """
    ordered = sorted(labels, key=lambda label: label.y)
    heights = axes.transData.transform([(label.x, label.y) for label in ordered])[:, 1] if ordered else np.empty(0)
    step = max((_size(axes, label.text)[1] for label in ordered), default=0.0) + 1
    # Nearest heights that are ``step`` apart: least squares under an order, once the steps are taken out.
    steps = step * np.arange(len(ordered))
    bounds = axes.get_window_extent()
    lowest, highest = bounds.y0 + step / 2, max(bounds.y0, bounds.y1 - step * (len(ordered) - 0.5))
    spread = np.clip(isotonic_regression(heights - steps).x, lowest, max(lowest, highest)) + steps if ordered else []
    return [
        axes.annotate(
            label.text,
            (1, label.y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, (target - height) * 72 / axes.figure.dpi),
            textcoords="offset points",
            va="center_baseline",
            color=label.colour,
            fontsize=SMALL_FONT_SIZE,
            parse_math=False,
        )
        for label, height, target in zip(ordered, heights, spread, strict=True)
    ]


def shorten(text: Text, width: float) -> None:
    """Takes letters out of the middle of a text until it is at most ``width`` pixels wide."""
    whole = text.get_text()
    length = len(whole)
    while text.get_window_extent().width > width and length > 2:
        length -= 1
        text.set_text(f"{whole[: (length + 1) // 2]}…{whole[len(whole) - length // 2 :]}")


def _size(axes: Axes, text: str) -> NDArray[np.float64]:
    """Width and height of a label in pixels."""
    probe = axes.text(0, 0, text, transform=None, fontsize=SMALL_FONT_SIZE, parse_math=False)
    box = probe.get_window_extent()
    probe.remove()
    return np.array((box.width, box.height))


def _annotate(
    axes: Axes, label: Label, offset: NDArray[np.float64], direction: tuple[int, int], leader: bool
) -> Annotation:
    line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2}
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(offset[0], offset[1]),
        textcoords="offset points",
        ha=("right", "center", "left")[direction[0] + 1],
        va=("top", "center", "bottom")[direction[1] + 1],
        color=label.colour,
        fontsize=SMALL_FONT_SIZE,
        parse_math=False,
        arrowprops=line if leader else None,
    )


def _dense(corners: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Points on a line of (N, 2) corners, at most ``step`` apart."""
    parts = [
        start + (end - start) * np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / step))[:, None]
        for start, end in pairwise(corners)
    ]
    return np.concatenate([corners, *parts])


def _boxes(points: NDArray[np.float64], around: float) -> NDArray[np.float64]:
    """(N, 2) points -> (N, 4) boxes (left, bottom, right, top) that reach ``around`` to each side."""
    return np.hstack((points - around, points + around))


def _overlaps(box: NDArray[np.float64], boxes: NDArray[np.float64], clearance: float) -> bool:
    """Whether ``box``, grown by ``clearance``, has something in common with any of ``boxes`` (N, 4)."""
    low, high = box[:2] - clearance, box[2:] + clearance
    return bool(((boxes[:, 2:] > low) & (boxes[:, :2] < high)).all(axis=1).any())


def _any_inside(points: NDArray[np.float64], boxes: NDArray[np.float64]) -> bool:
    """Whether any of the points (N, 2) lies in any of the boxes (M, 4)."""
    return any(_overlaps(np.concatenate((point, point)), boxes, 0) for point in points)

"""J frame by frame, a small panel per sequence."""

import math
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from eosvos.figures.labels import Label, label_ends, shorten
from eosvos.figures.style import FONT_SIZE, INK, bare, new_figure, ordered_colours
from eosvos.metrics.sequence_scores import ObjectScores
from eosvos.metrics.table import ObjectResult

COLUMNS = 4
PANEL = (2.2, 1.35)
"""Width and height of a panel in inches."""
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
"""Of the first, second, ... object of a sequence; again from the start where there are more."""

Scores = Mapping[int, Mapping[str, Sequence[ObjectScores]]]
"""T -> name of a sequence -> its objects' scores."""


def by_sequence(results: Iterable[ObjectResult]) -> dict[str, list[ObjectScores]]:
    """Name of a sequence -> its objects' scores, in order of appearance; the results of one T and learning rate."""
    grouped: dict[str, list[ObjectScores]] = {}
    for result in results:
        grouped.setdefault(result.sequence, []).append(result.scores)
    return grouped


def per_frame(scores: Scores) -> Figure:
    """J against the frame: a panel per sequence, a line per object, a colour per T.

    Objects of one sequence are told apart by their dashes, and the lines of the largest T carry their ids.

    Args:
        scores: the sequences in the order of the panels. A sequence may lack some T. Some dozens of sequences stay
            readable; choose among more.

    Raises:
        ValueError: no sequence.
    """
    names = list(dict.fromkeys(name for sequences in scores.values() for name in sequences))
    if not names:
        raise ValueError("no sequence, so there is nothing to draw frame by frame")
    steps = sorted(scores)
    colours = dict(zip(steps, ordered_colours(len(steps)), strict=True))
    down = math.ceil(len(names) / COLUMNS)
    across = math.ceil(len(names) / down)  # rows of about one length
    figure = new_figure(across * PANEL[0], down * PANEL[1] + 0.6)
    panels = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    for axes in panels[len(names) :]:
        axes.remove()
    # One key for all panels, in words of the lines' colours: a label at each line would be the same in every panel.
    key = [Line2D([], [], color=colours[T], label=f"T = {T}") for T in steps]
    legend = figure.legend(handles=key, loc="outside upper left", ncols=len(steps), frameon=False, fontsize=FONT_SIZE)
    for word, T in zip(legend.get_texts(), steps, strict=True):
        word.set_color(colours[T])
    figure.supxlabel("position of the frame", fontsize=FONT_SIZE, color=INK)
    figure.supylabel("J in %", fontsize=FONT_SIZE, color=INK)
    titles = []
    for axes, name in zip(panels, names, strict=False):
        of_sequence = {T: scores[T][name] for T in steps if name in scores[T]}
        titles.append(_panel(axes, name, of_sequence, colours))
    figure.draw_without_rendering()
    for axes, name in zip(panels, names, strict=False):
        last = max(T for T in steps if name in scores[T])
        objects = scores[last][name]
        if len(objects) > 1:
            label_ends(axes, [_end(one, colours[last]) for one in objects])
    figure.draw_without_rendering()  # the ids have taken some of the panels' width
    for axes, title in zip(panels, titles, strict=False):
        shorten(title, axes.get_window_extent().width)
    return figure


def _panel(axes: Axes, name: str, scores: Mapping[int, Sequence[ObjectScores]], colours: Mapping[int, str]) -> Text:
    """Draws the lines of one sequence; returns the title."""
    positions: set[int] = set()
    for T, objects in scores.items():
        for number, one in enumerate(objects):
            values = [100 * value for value in one.j]
            marker = "." if len(values) == 1 else None  # a line through one point is nothing to see
            dashes = DASHES[number % len(DASHES)]
            axes.plot(one.positions, values, color=colours[T], ls=dashes, linewidth=1.2, marker=marker, clip_on=False)
            positions.update(one.positions)
    first, last = min(positions), max(positions)
    axes.set_xlim(first, max(last, first + 1))
    axes.set_xticks(sorted({first, last}))
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])
    bare(axes)
    ticks = axes.get_xticklabels()
    ticks[-1].set_horizontalalignment("right")  # inwards, off the labels of the next panel
    ticks[0].set_horizontalalignment("left")
    return axes.set_title(name, loc="left", fontsize=FONT_SIZE, color=INK, parse_math=False)


def _end(scores: ObjectScores, colour: str) -> Label:
    return Label(str(scores.object_id), scores.positions[-1], 100 * scores.j[-1], colour)

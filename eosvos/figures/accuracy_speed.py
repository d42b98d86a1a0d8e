"""What fine-tuning buys and what it costs: J&F against frames per second, and both against T (Figures 1 and 3)."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from eosvos.figures.labels import Label, label_ends, label_points
from eosvos.figures.published import PublishedResult
from eosvos.figures.style import INK, SERIES, bare, new_figure
from eosvos.metrics.table import Row

Curves = Mapping[str, Sequence[Row]]
"""Name -> rows of ``eosvos.metrics.table.summarize`` with the columns T, j_and_f, j_and_f_se and fps, T rising."""


def curves(summary: Sequence[Row], name: str) -> dict[str, list[Row]]:
    """The rows of one evaluation as curves over T, one for each learning rate; join those of several with ``|``.

    Args:
        summary: rows with the columns learning_rate (None for learned ones) and T.
        name: of the evaluation. A curve of a single rate has the rate after it.
    """
    grouped: dict[str, list[Row]] = {}
    for row in sorted(summary, key=lambda row: (row["learning_rate"] or 0.0, row["T"])):
        rate = row["learning_rate"]
        grouped.setdefault(name if rate is None else f"{name}, rate {rate:g}", []).append(row)
    return grouped


def accuracy_speed(results: Curves, published: Sequence[PublishedResult] = ()) -> Figure:
    """J&F against frames per second: ours as lines over T, published results as points (the paper's Figure 1).

    Args:
        results: our rows; those without ``fps`` are left out.
        published: of the same dataset; those without ``fps`` are left out.

    Raises:
        ValueError: nothing has a time.
    """
    timed = {name: [row for row in rows if row["fps"] is not None] for name, rows in results.items()}
    others = [result for result in published if result.fps is not None]
    if not any(timed.values()) and not others:
        raise ValueError("no result has a time, so there is no speed to draw")
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    labels, lines = [], []
    for (name, rows), colour in zip(timed.items(), cycle(SERIES), strict=False):
        if not rows:
            continue
        fps, scores = np.array([(row["fps"], 100 * row["j_and_f"]) for row in rows]).T
        axes.plot(fps, scores, "o-", color=colour, linewidth=1.6, markersize=5)
        lines.append(np.column_stack((fps, scores)))
        # The name belongs to the whole line; the row of most steps is where it ends.
        texts = [*(f"T = {row['T']}" for row in rows[:-1]), f"{name}, T = {rows[-1]['T']}"]
        labels += [Label(text, x, y, colour) for text, x, y in zip(texts, fps, scores, strict=True)][::-1]
    labels += draw_published(axes, others)
    speed_axes(axes, "frames per second", others)
    bare(axes, grid=False)  # lines would run through the names
    figure.draw_without_rendering()
    label_points(axes, labels, lines)
    return figure


def draw_published(axes: Axes, published: Sequence[PublishedResult]) -> list[Label]:
    """Marks of published results, those that have a time; returns their names, which are still to write."""
    labels = []
    for result in published:
        if result.fps is not None:
            axes.plot(result.fps, result.j_and_f, "o", color=INK, markersize=4)
            labels.append(Label(result.name + "†" * result.ensemble, result.fps, result.j_and_f, INK))
    return labels


def speed_axes(axes: Axes, speed: str, published: Sequence[PublishedResult]) -> None:
    """Frames per second, called ``speed``, to the right with a logarithm, J&F upwards; when all is drawn."""
    axes.set_xscale("log")
    axes.margins(0.1, 0.12)
    slowest, fastest = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if fastest < 100 * slowest else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{speed}\n{_footnote(published)}" if published else speed)
    axes.set_ylabel("J&F in %")


def _footnote(published: Sequence[PublishedResult]) -> str:
    """What is said of published results: their split, models and hardware are not ours."""
    datasets = ", ".join(dict.fromkeys(result.dataset for result in published))
    ensembles = " († several networks)" if any(result.ensemble for result in published) else ""
    return f"names without T: published on {datasets}, full-size models on other hardware{ensembles}"


def accuracy_and_speed_over_steps(results: Curves) -> Figure:
    """J&F with its standard error, and frames per second below it, against T (the paper's Figure 3).

    Args:
        results: the lower part is left out where no row has ``fps``.

    Raises:
        ValueError: no rows.
    """
    rows = [row for curve in results.values() for row in curve]
    if not rows:
        raise ValueError("no rows, so there is nothing to draw over T")
    timed = any(row["fps"] is not None for row in rows)
    figure = new_figure(7.2, 4.8 if timed else 3)
    heights = (1.6, 1) if timed else (1,)
    panels = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights).flat)
    ends = [_over_steps(panels[0], results, "j_and_f", 100)]
    panels[0].set_ylabel("J&F in %")
    if timed:
        ends.append(_over_steps(panels[1], results, "fps", 1))
        panels[1].set_ylabel("frames per second")
        panels[1].set_ylim(bottom=0)
    steps = sorted({row["T"] for row in rows})
    shared = panels[-1]
    shared.set_xlabel("fine-tuning steps T")
    shared.set_xscale("symlog", linthresh=1, linscale=0.5)  # the first steps change most, and T = 0 has no logarithm
    shared.set_xlim(-0.2, 1.05 * max(1, steps[-1]))
    shared.set_xticks(_ticks(steps))
    shared.set_xticks([], minor=True)
    shared.xaxis.set_major_formatter(FuncFormatter(_plain))
    for axes in panels:
        bare(axes)
    figure.align_ylabels()
    figure.draw_without_rendering()
    for axes, labels in zip(panels, ends, strict=True):
        label_ends(axes, labels)
    return figure


def _over_steps(axes: Axes, results: Curves, column: str, factor: float) -> list[Label]:
    """One line per curve, with bars of one standard error to both sides where the rows have it; the lines' names."""
    labels = []
    for number, ((name, rows), colour) in enumerate(zip(results.items(), cycle(SERIES), strict=False)):
        known = [row for row in rows if row[column] is not None]
        if not known:
            continue
        steps, values = [row["T"] for row in known], [factor * row[column] for row in known]
        axes.plot(steps, values, "o-", color=colour, linewidth=1.6, markersize=4)
        errors = [factor * (row.get(f"{column}_se") or math.nan) for row in known]
        *_, (bars,) = axes.errorbar(steps, values, errors, fmt="none", ecolor=colour, elinewidth=1)
        # Side by side, as the bars of several curves would hide each other.
        aside = ScaledTranslation((number - (len(results) - 1) / 2) / 24, 0, axes.figure.dpi_scale_trans)
        bars.set_transform(axes.transData + aside)
        labels.append(Label(name, steps[-1], values[-1], colour))
    return labels


def _plain(value: float, _: int | None = None) -> str:
    """A number on an axis: 0.01 and not a power of ten."""
    return f"{value:g}"


def _ticks(steps: Sequence[int]) -> list[int]:
    """The values of T that get a tick: from the largest down, each at most 3/4 of the one before, and 0."""
    ticks: list[int] = []
    for step in sorted(steps, reverse=True):
        if not ticks or step <= 0.75 * ticks[-1]:
            ticks.append(step)
    return ticks[::-1]

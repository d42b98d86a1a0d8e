"""How a training went, on one picture."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eosvos.figures.style import INK, SERIES, bare, new_figure

BEFORE, (AFTER, RATE) = INK, SERIES[:2]


def training_curve(
    outer_steps: Sequence[int],
    loss_before: Sequence[float],
    loss_after: Sequence[float],
    mean_rate: Sequence[float],
    inner_steps: str,
    validations: Sequence[tuple[int, float, float]] = (),
) -> Figure:
    """Test loss before and after fine-tuning against the outer step, J&F and the mean rate below.

    Args:
        outer_steps: (N,) in rising order, N >= 1.
        loss_before: (N,) mean test loss of the step's tasks at theta^0; NaN where a step was skipped. (0,) for a
            training without fine-tuning.
        loss_after: (N,) the same at theta^T, or the loss of a training without fine-tuning.
        mean_rate: (N,) mean of the learning rates; (0,) where none are learned.
        inner_steps: T, or its range; empty for a training without fine-tuning.
        validations: outer step, J&F at 0 and J&F at T on held-out sequences, shares; none, no part of the picture.

    Raises:
        ValueError: no steps, or lists of different lengths.
    """
    lengths = {len(outer_steps), len(loss_after), *(len(values) for values in (loss_before, mean_rate) if len(values))}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"a training curve needs lists of one length, not empty; got lengths {sorted(lengths)}")
    heights = [2.4] + [1.4] * (len(validations) > 0) + [1] * (len(mean_rate) > 0)
    figure = new_figure(8, 0.75 + 1.4 * sum(heights))
    parts = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    losses, *others = parts
    if len(loss_before):
        _line(losses, outer_steps, loss_before, BEFORE, "before fine-tuning (T = 0)")
    _line(losses, outer_steps, loss_after, AFTER, f"after fine-tuning (T = {inner_steps})" if inner_steps else "loss")
    _limit_to_usual(losses, [*loss_before, *loss_after])
    losses.set_ylabel("test loss" if inner_steps else "loss")
    losses.legend(frameon=False, labelcolor=INK)
    if validations:
        scores = others.pop(0)
        numbers = [validation[0] for validation in validations]
        for column, colour, name in ((1, BEFORE, "before fine-tuning"), (2, AFTER, "after fine-tuning")):
            points = [100 * validation[column] for validation in validations]
            scores.plot(numbers, points, "o-", color=colour, linewidth=1.6, label=name)
        scores.set_ylabel("held-out J&F")
        if not inner_steps:  # else the colours are those of the losses above
            scores.legend(frameon=False, labelcolor=INK)
    for rates in others:
        rates.plot(outer_steps, mean_rate, color=RATE, linewidth=1.6)
        if max(mean_rate) > 10 * min(mean_rate) > 0:  # on less than a decade a log axis has next to no readable ticks
            rates.set_yscale("log")
        rates.set_ylabel("mean learning rate")
    parts[-1].set_xlabel("outer step")
    for axes in parts:
        bare(axes)
    figure.align_ylabels()
    return figure


def _line(axes: Axes, steps: Sequence[int], values: Sequence[float], colour: str, label: str) -> None:
    """The values thin and pale, over them their running median, which one wild task does not move.

    Without the pale line where nothing is smoothed.
    """
    window = len(values) // 25 | 1
    if window > 1:
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.35)
    axes.plot(steps, _running_median(values, window), color=colour, linewidth=1.8, label=label)


def _limit_to_usual(axes: Axes, losses: Sequence[float]) -> None:
    """An axis up to twice the 95th percentile: a task on which fine-tuning diverges has a loss of any size."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    top = 2 * float(np.percentile(finite, 95)) if finite else 0.0
    if finite and max(finite) > top > 0:
        axes.set_ylim(0, top)


def _running_median(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Median of the ``window`` (odd) values around each one, fewer at the ends, without those that are not finite."""
    padded = np.pad(np.asarray(values, dtype=np.float64), window // 2, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, window)
    finite = (part[np.isfinite(part)] for part in around)
    return np.array([np.median(known) if known.size else np.nan for known in finite])

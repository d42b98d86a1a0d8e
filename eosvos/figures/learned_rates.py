"""Learned learning rates, layer by layer, on one picture."""

from collections.abc import Mapping
from itertools import groupby

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eosvos.figures.style import INK, SERIES, SMALL_FONT_SIZE, bare, new_figure

WEIGHTS, OTHERS = SERIES[:2]
SECTIONS = {
    "backbone.body": "backbone",
    "backbone.fpn": "pyramid",
    "rpn": "proposals",
    "roi_heads.box": "box head",
    "roi_heads.mask": "mask head",
}
"""First letters of parameters' names -> what they are part of."""


def learned_rates(rates: Mapping[str, NDArray[np.floating]], initial_rate: float | None) -> Figure:
    """Per tensor of the model the median and the range of the middle 80 % of its learning rates.

    Args:
        rates: parameter's name -> its learning rates, of any shape, at least 0; in the model's order.
        initial_rate: where they started, a dashed line; None where each started elsewhere.

    Raises:
        ValueError: no rates.
    """
    if not rates:
        raise ValueError("there are no learning rates to draw")
    low, middle, high = np.array([np.quantile(values, (0.1, 0.5, 0.9)) for values in rates.values()]).T
    is_weight = np.array([values.ndim > 1 for values in rates.values()])
    places = np.arange(len(rates))
    figure = new_figure(9, 3.6)
    axes = figure.subplots()
    for chosen, colour, label in ((is_weight, WEIGHTS, "weights"), (~is_weight, OTHERS, "biases and normalization")):
        if chosen.any():
            axes.vlines(places[chosen], low[chosen], high[chosen], color=colour, alpha=0.45, linewidth=1.6)
            axes.plot(places[chosen], middle[chosen], ".", color=colour, markersize=4, label=label)
    if initial_rate is not None:
        axes.axhline(initial_rate, color=INK, linewidth=1, linestyle="--", label="start")
    if low.min() > 0:
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=max(float(high.max()), 1e-12) / 1000)
    first = 0
    for number, (section, names) in enumerate(groupby(rates, _section)):
        count = len(list(names))
        if first > 0:
            axes.axvline(first - 0.5, color=INK, linewidth=0.6)
        middle_of, height = first + (count - 1) / 2, (1.02, 1.09)[number % 2]  # in turns, as narrow sections are short
        axes.text(
            middle_of,
            height,
            section,
            transform=axes.get_xaxis_transform(),
            ha="center",
            color=INK,
            fontsize=SMALL_FONT_SIZE,
        )
        first += count
    axes.set_xlim(-0.8, len(rates) - 0.2)
    axes.set_xticks([])
    axes.set_xlabel("tensors of the model, input to output; dot: median, bar: middle 80 %")
    axes.set_ylabel("learning rate")
    bare(axes)
    axes.legend(frameon=False, fontsize=SMALL_FONT_SIZE, labelcolor=INK, ncols=3)
    return figure


def _section(name: str) -> str:
    return next((section for prefix, section in SECTIONS.items() if name.startswith(prefix)), "")

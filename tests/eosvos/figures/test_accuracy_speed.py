"""Points lie where the rows say, and every name can be read."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from eosvos.figures.accuracy_speed import _ticks, accuracy_and_speed_over_steps, accuracy_speed, curves
from eosvos.figures.published import DAVIS_2016, DAVIS_2017, at_davis_2016_speed, published_on
from eosvos.figures.style import INK, SERIES

Unreadable = Callable[[Figure], list[str]]

STEPS = (0, 1, 5, 10, 30)


def rows(scores: tuple[float, ...], fps: tuple[float | None, ...], rate: float | None = None) -> list[dict[str, Any]]:
    return [
        {"learning_rate": rate, "T": T, "j_and_f": score, "j_and_f_se": 0.03, "fps": speed}
        for T, score, speed in zip(STEPS, scores, fps, strict=False)
    ]


META = rows((0.68, 0.681, 0.704, 0.711, 0.714), (7.24, 4.97, 3.28, 2.39, 1.17))
PARENT = rows((0.676, 0.684, 0.701, 0.708, 0.7137), (11.7, 9.87, 5.6, 3.64, 1.56))
OURS = {"meta-learned": META, "parent": PARENT}


def points(axes: Axes) -> dict[str, np.ndarray]:
    """Colour -> (N, 2), everything that is drawn in it as a line or as marks."""
    found: dict[str, list[np.ndarray]] = {}
    for line in axes.get_lines():
        found.setdefault(to_hex(line.get_color()), []).append(line.get_xydata())
    return {colour: np.concatenate(parts) for colour, parts in found.items()}


def test_one_curve_per_rate() -> None:
    grid = rows((0.5, 0.6), (2.0, 1.0), 0.01) + rows((0.4, 0.7), (2.0, 1.0), 0.001)
    found = curves([*META[::-1], *grid], "run")
    assert list(found) == ["run", "run, rate 0.001", "run, rate 0.01"]
    assert [row["T"] for row in found["run"]] == list(STEPS)
    assert found["run, rate 0.01"] == grid[:2]


@pytest.mark.parametrize("published", [published_on(DAVIS_2016), at_davis_2016_speed(published_on(DAVIS_2017))])
def test_accuracy_speed(unreadable: Unreadable, published: tuple[Any, ...]) -> None:
    figure = accuracy_speed(OURS, published)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    found = points(axes)
    for curve, colour in zip(OURS.values(), SERIES, strict=False):
        np.testing.assert_allclose(found[colour], [(row["fps"], 100 * row["j_and_f"]) for row in curve])
    np.testing.assert_allclose(found[INK], [(row.fps, row.j_and_f) for row in published])
    names = [text.get_text() for text in axes.texts]
    assert {row.name + ("†" if row.ensemble else "") for row in published} < set(names)
    assert names.count("T = 0") == names.count("T = 10") == 2
    assert {"meta-learned, T = 30", "parent, T = 30"} < set(names)
    assert len(names) == len(published) + 2 * len(STEPS)
    assert f"published on {published[0].dataset}, full-size models" in axes.get_xlabel()
    assert "† several networks" in axes.get_xlabel()
    assert unreadable(figure) == []


def test_labels_are_near_their_points() -> None:
    figure = accuracy_speed(OURS, published_on(DAVIS_2016))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    named = {row.name: (row.fps, row.j_and_f) for row in published_on(DAVIS_2016)}
    for text in axes.texts:
        if (name := text.get_text().rstrip("†")) in named:
            assert text.xy == pytest.approx(named[name])
            assert to_hex(text.get_color()) == INK


def test_without_times_or_others(unreadable: Unreadable) -> None:
    partly = rows((0.5, 0.6, 0.7), (None, 2.0, None))
    figure = accuracy_speed({"partly": partly, "never": rows((0.5,), (None,))})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["partly, T = 1"]
    np.testing.assert_allclose(points(axes)[SERIES[0]], [(2.0, 60.0)])
    assert axes.get_xlabel() == "frames per second"
    assert unreadable(figure) == []
    assert len(accuracy_speed({}, published_on(DAVIS_2016)).axes[0].texts) == 12
    with pytest.raises(ValueError, match="no result has a time"):
        accuracy_speed({"never": rows((0.5,), (None,))}, published_on(DAVIS_2017))


@pytest.mark.parametrize("fps", [(3.0,), (2.1, 4.4), (3.1, 3.3), (1.2, 7.3), (0.2, 9.0), (0.04, 30.0), (0.001, 900.0)])
def test_any_speed_has_numbers_on_its_axis(
    unreadable: Unreadable, words: Callable[[Figure], dict[Text, Bbox]], fps: tuple[float, ...]
) -> None:
    figure = accuracy_speed({"run": rows((0.5, 0.6), fps)})
    assert unreadable(figure) == []
    drawn = words(figure)
    numbers = [float(label.get_text()) for label in figure.axes[0].get_xticklabels() if label in drawn]
    low, high = figure.axes[0].get_xlim()
    assert len([number for number in numbers if low <= number <= high]) >= 2


def test_a_curve_has_one_colour_in_both_figures() -> None:
    ours = {"untimed": rows((0.4,), (None,)), "timed": META}
    for figure in (accuracy_speed(ours), accuracy_and_speed_over_steps(ours)):
        (last,) = (text for text in figure.axes[-1].texts if text.get_text().startswith("timed"))
        assert to_hex(last.get_color()) == SERIES[1]


def test_over_steps(unreadable: Unreadable) -> None:
    figure = accuracy_and_speed_over_steps(OURS)
    accuracy, speed = figure.axes
    for curve, colour in zip(OURS.values(), SERIES, strict=False):
        np.testing.assert_allclose(points(accuracy)[colour], [(row["T"], 100 * row["j_and_f"]) for row in curve])
        np.testing.assert_allclose(points(speed)[colour], [(row["T"], row["fps"]) for row in curve])
    bars = [bar for bar in accuracy.collections if isinstance(bar, LineCollection)]
    for curve, bar in zip(OURS.values(), bars, strict=True):
        ends = np.array([segment[:, 1] for segment in bar.get_segments()])
        np.testing.assert_allclose(ends, [(100 * row["j_and_f"] - 3, 100 * row["j_and_f"] + 3) for row in curve])
    assert {text.get_text() for text in accuracy.texts} == {text.get_text() for text in speed.texts} == set(OURS)
    assert speed.get_ylim()[0] == 0
    assert speed.get_xticks().tolist() == list(STEPS)
    assert [label.get_text() for label in speed.get_xticklabels()] == ["0", "1", "5", "10", "30"]
    assert unreadable(figure) == []


def test_over_steps_without_times_or_errors(unreadable: Unreadable) -> None:
    untimed = [row | {"j_and_f_se": None, "fps": None} for row in META]
    figure = accuracy_and_speed_over_steps({"run": untimed})
    assert len(figure.axes) == 1
    assert unreadable(figure) == []
    single = accuracy_and_speed_over_steps({"run": META[:1], "untimed": untimed})
    np.testing.assert_allclose(points(single.axes[1])[SERIES[0]], [(0, 7.24)])
    assert SERIES[1] not in points(single.axes[1])
    assert [text.get_text() for text in single.axes[1].texts] == ["run"]
    assert unreadable(single) == []
    with pytest.raises(ValueError, match="no rows"):
        accuracy_and_speed_over_steps({"run": []})


def test_more_curves_than_colours(unreadable: Unreadable) -> None:
    many = {f"run {number}": [row | {"j_and_f": row["j_and_f"] + number / 500} for row in META] for number in range(7)}
    figure = accuracy_and_speed_over_steps(many)
    assert len(figure.axes[0].texts) == 7
    assert unreadable(figure) == []


def test_many_steps_have_ticks_apart(unreadable: Unreadable) -> None:
    assert _ticks(range(8)) == [0, 1, 2, 3, 5, 7]
    assert _ticks([0]) == [0]
    every = [META[0] | {"T": T, "j_and_f": 0.7 + T / 1000, "fps": 10 / (1 + T)} for T in range(101)]
    figure = accuracy_and_speed_over_steps({"run": every})
    assert figure.axes[1].get_xticks().tolist()[-1] == 100
    assert unreadable(figure) == []

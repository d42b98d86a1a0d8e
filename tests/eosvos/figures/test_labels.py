"""Labels near what they name, off everything else."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from eosvos.figures.labels import CLEARANCE, DISTANCES, Label, label_ends, label_points, shorten
from eosvos.figures.style import INK, new_figure

Unreadable = Callable[[Figure], list[str]]


@pytest.fixture
def axes() -> Axes:
    axes = new_figure(6, 4).subplots()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.figure.draw_without_rendering()
    return axes


def box(text: Text) -> Bbox:
    text.get_figure(root=True).draw_without_rendering()  # only then a label knows its place
    return Text.get_window_extent(text)


def test_the_check_finds_what_it_looks_for(axes: Axes, unreadable: Unreadable) -> None:
    assert unreadable(axes.figure) == []
    axes.text(0.5, 0.5, "one")
    axes.text(0.52, 0.5, "other")
    axes.figure.text(0.99, 0.9, "far right")
    assert unreadable(axes.figure) == ["'one' over 'other'", "'far right' cut off"]


@pytest.mark.parametrize("seed", range(4))
def test_crowded_points(axes: Axes, unreadable: Unreadable, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0.3, 0.7, (16, 2))
    line = np.array([(0.2, 0.2), (0.8, 0.8)])
    labels = [Label(f"method {number}", x, y, INK) for number, (x, y) in enumerate(points.tolist())]
    written = label_points(axes, labels, [line])
    assert [text.get_text() for text in written] == [label.text for label in labels]
    assert unreadable(axes.figure) == []
    inside = axes.get_window_extent().padded(0.5)
    on_line = axes.transData.transform(line[0] + (line[1] - line[0]) * np.linspace(0, 1, 500)[:, None])
    for text, place in zip(written, axes.transData.transform(points), strict=True):
        box = Text.get_window_extent(text)
        assert inside.contains(box.x0, box.y0)
        assert inside.contains(box.x1, box.y1)
        for x, y in (*axes.transData.transform(points), *on_line):  # a mark is CLEARANCE wide to each side
            assert not box.padded(CLEARANCE).contains(x, y)
        gap = np.hypot(*np.maximum(0, np.maximum(box.min - place, place - box.max)))
        assert gap <= DISTANCES[-1] * axes.figure.dpi / 72 + 1


def test_the_first_place_is_to_the_right(axes: Axes) -> None:
    (text,) = label_points(axes, [Label("a", 0.5, 0.5, INK)])
    x, y = axes.transData.transform((0.5, 0.5))
    assert box(text).x0 == pytest.approx(x + DISTANCES[0] * axes.figure.dpi / 72, abs=1)
    assert box(text).y0 < y < box(text).y1
    assert text.arrow_patch is None
    (at_the_border,) = label_points(axes, [Label("a", 1.0, 0.9, INK)])
    assert box(at_the_border).x1 < axes.get_window_extent().x1


def test_a_label_far_away_has_a_leader_that_crosses_no_name(axes: Axes, unreadable: Unreadable) -> None:
    places = [(0.5 + 0.02 * (number % 3), 0.5 + 0.04 * (number // 3)) for number in range(9)]
    written = label_points(axes, [Label(f"point {number}", *place, INK) for number, place in enumerate(places)])
    assert len(written) == len(places)
    assert written[0].arrow_patch is None
    led = [text for text in written if text.arrow_patch is not None]
    assert led
    assert unreadable(axes.figure) == []
    boxes = {text: box(text) for text in written}
    for text in led:
        corners = text.arrow_patch.get_transform().transform(text.arrow_patch.get_path().vertices)
        for x, y in corners[0] + (corners[-1] - corners[0]) * np.linspace(0, 1, 50)[:, None]:
            assert not any(other.padded(-1).contains(x, y) for name, other in boxes.items() if name is not text)


def test_one_point_with_more_names_than_room(axes: Axes, unreadable: Unreadable) -> None:
    written = label_points(axes, [Label("the same place", 0.5, 0.5, INK)] * 12)
    assert 4 <= len(written) < 12
    assert unreadable(axes.figure) == []


def test_a_label_without_room_is_left_out(axes: Axes) -> None:
    assert label_points(axes, [Label("x" * 200, 0.5, 0.5, INK)]) == []
    assert label_points(axes, []) == []


def test_dollars_are_letters(axes: Axes) -> None:
    for text in (*label_points(axes, [Label("$a$", 0.5, 0.5, INK)]), *label_ends(axes, [Label("$\\x", 1, 0.5, INK)])):
        assert not text.get_parse_math()
    axes.figure.draw_without_rendering()


@pytest.mark.parametrize("heights", [(0.5,), (0.5, 0.5, 0.5), (1.0, 0.99, 0.98), (0.0, 0.01, 0.9), (0.4, 0.8, 0.41)])
def test_ends_keep_their_order_and_their_distance(
    axes: Axes, unreadable: Unreadable, heights: tuple[float, ...]
) -> None:
    written = label_ends(axes, [Label(f"line {number}", 1, y, INK) for number, y in enumerate(heights)])
    assert sorted(text.get_text() for text in written) == [f"line {number}" for number in range(len(heights))]
    assert unreadable(axes.figure) == []
    middles = {text.get_text(): (box(text).y0 + box(text).y1) / 2 for text in written}
    area = axes.get_window_extent()
    for number, y in enumerate(heights):
        middle = middles[f"line {number}"]
        assert area.y0 <= middle <= area.y1
        crowded = [other for other in heights if abs(other - y) < 0.15]
        wanted = axes.transData.transform((1, y))[1]
        assert abs(middle - wanted) < (2.0 if len(crowded) == 1 and 0.05 < y < 0.95 else 18 * len(crowded))
        assert all(middles[f"line {other}"] > middle for other, height in enumerate(heights) if height > y)
    assert all(box(text).x0 > area.x1 for text in written)


def test_three_lines_of_one_height_lie_around_it(axes: Axes) -> None:
    written = label_ends(axes, [Label(name, 1, 0.5, INK) for name in "abc"])
    middles = [box(text).y0 / 2 + box(text).y1 / 2 for text in written]
    assert np.mean(middles) == pytest.approx(axes.transData.transform((1, 0.5))[1], abs=2)


def test_shorten(axes: Axes) -> None:
    text = axes.text(0, 0, "a-name-that-is-much-too-long")
    whole = box(text).width
    shorten(text, whole + 1)
    assert text.get_text() == "a-name-that-is-much-too-long"
    shorten(text, whole / 2)
    start, end = text.get_text().split("…")
    assert "a-name-that-is-much-too-long".startswith(start)
    assert "a-name-that-is-much-too-long".endswith(end)
    assert abs(len(start) - len(end)) <= 1
    assert 0.35 * whole < box(text).width <= whole / 2
    shorten(text, 0)  # ends, though nothing is that narrow

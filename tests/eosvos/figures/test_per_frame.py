"""Every object's J in its sequence's panel, in the colour of its T."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from eosvos.figures.per_frame import by_sequence, per_frame
from eosvos.figures.style import ordered_colours
from eosvos.metrics.sequence_scores import ObjectScores
from eosvos.metrics.table import ObjectResult

Unreadable = Callable[[Figure], list[str]]


def scores(object_id: int, count: int, seed: int = 0) -> ObjectScores:
    j = np.random.default_rng((seed, object_id)).uniform(0, 1, count).tolist()
    return ObjectScores(object_id, tuple(range(1, 1 + 2 * count, 2)), tuple(j), tuple(j))


def drawn(axes: Axes, colour: str) -> list[np.ndarray]:
    return [line.get_xydata() for line in axes.get_lines() if to_hex(line.get_color()) == colour]


def test_lines_are_the_scores(unreadable: Unreadable) -> None:
    of = {T: {"bear": [scores(1, 20, T)], "pigs": [scores(i, 30, T) for i in (1, 2, 7)]} for T in (10, 0, 1)}
    figure = per_frame(of)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["bear", "pigs"]
    for T, colour in zip((0, 1, 10), ordered_colours(3), strict=True):
        for name, axes in panels.items():
            lines = drawn(axes, colour)
            assert len(lines) == len(of[T][name])
            for line, result in zip(lines, of[T][name], strict=True):
                np.testing.assert_allclose(line, np.column_stack((result.positions, 100 * np.array(result.j))))
    assert panels["bear"].get_xticks().tolist() == [1, 39]
    assert panels["pigs"].get_ylim() == (0, 100)
    assert len({line.get_linestyle() + str(line._dash_pattern) for line in panels["pigs"].get_lines()}) == 3
    assert not panels["bear"].texts  # one object needs no id
    assert sorted(text.get_text() for text in panels["pigs"].texts) == ["1", "2", "7"]
    assert {to_hex(text.get_color()) for text in panels["pigs"].texts} == {ordered_colours(3)[-1]}
    (key,) = figure.legends
    assert [(word.get_text(), to_hex(word.get_color())) for word in key.get_texts()] == list(
        zip(("T = 0", "T = 1", "T = 10"), ordered_colours(3), strict=True)
    )
    assert unreadable(figure) == []


def test_ids_stand_at_the_ends_of_their_lines(unreadable: Unreadable) -> None:
    ends = {1: 0.9, 2: 0.5, 3: 0.1}
    objects = [ObjectScores(i, (1, 2, 3), (0.5, 0.5, end), (0.5,) * 3) for i, end in ends.items()]
    figure = per_frame({5: {"three": objects}})
    assert unreadable(figure) == []
    (axes,) = figure.axes
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.x0 > axes.get_window_extent().x1
        wanted = axes.transData.transform((3, 100 * ends[int(text.get_text())]))[1]
        assert (box.y0 + box.y1) / 2 == pytest.approx(wanted, abs=3)


@pytest.mark.parametrize("count", [1, 3, 5, 13])
def test_any_number_of_sequences(unreadable: Unreadable, count: int) -> None:
    names = [f"sequence-{number}-of-a-name-that-is-too-long-for-it" for number in range(count)]
    figure = per_frame({10: {name: [scores(i, 9) for i in range(1, 6)] for name in names}})
    assert len(figure.axes) == count
    assert unreadable(figure) == []
    for axes in figure.axes:
        assert "…" in axes.get_title(loc="left")
    rows = {round(axes.get_position().y0, 3) for axes in figure.axes}
    assert len(rows) == -(-count // 4)


def test_what_is_missing_or_odd(unreadable: Unreadable) -> None:
    figure = per_frame({0: {"a$x$_{": [scores(1, 1)]}, 10: {"<b> & --": [scores(1, 5), scores(2, 5)]}})
    first, second = figure.axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("a$x$_{", "<b> & --")
    assert first.get_lines()[0].get_marker() == "."  # a single value is a dot
    assert [len(axes.get_lines()) for axes in figure.axes] == [1, 2]
    assert unreadable(figure) == []
    with pytest.raises(ValueError, match="no sequence"):
        per_frame({10: {}})


def test_by_sequence() -> None:
    results = [ObjectResult("d", name, 9, None, scores(i, 3)) for name, i in (("b", 1), ("a", 1), ("b", 2))]
    grouped = by_sequence(results)
    assert list(grouped) == ["b", "a"]
    assert grouped["b"] == [results[0].scores, results[2].scores]

"""The front's picture: which marks are filled, which settings have names."""

import pytest
from matplotlib.text import Annotation

from eosvos.figures.pareto_front import pareto_front
from eosvos.figures.published import DAVIS_2016, published_on


def _row(name: str, fps: float, score: float, front: bool, status: str = "complete") -> dict[str, object]:
    return {"name": name, "fps": fps, "j_and_f": score, "front": front, "status": status}


ROWS = [
    _row("T=0", 10, 0.5, True),
    _row("T=5", 4, 0.7, True),
    _row("T=5,transforms=0", 3, 0.6, False),
    _row("T=50", 1, 0.4, False, "stopped"),
]


def test_only_the_front_has_names_and_what_was_stopped_is_a_ring() -> None:
    (axes,) = pareto_front(ROWS).axes
    names = {text.get_text() for text in axes.texts if isinstance(text, Annotation)}
    assert names == {"T=0", "T=5"}
    rings = [line for line in axes.lines if line.get_markerfacecolor() == "none" and line.get_marker() == "o"]
    assert [list(map(float, line.get_xdata())) for line in rings] == [[1.0]]
    assert axes.get_xscale() == "log"


def test_beside_published_results() -> None:
    (axes,) = pareto_front(ROWS, published_on(DAVIS_2016)).axes
    names = {text.get_text() for text in axes.texts if isinstance(text, Annotation)}
    assert {"STM", "e-OSVOS-50-OnA"} <= names
    assert "published on DAVIS 2016 val, full-size models on other hardware" in axes.get_xlabel()


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no rows"):
        pareto_front([])

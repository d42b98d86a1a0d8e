"""What a reader must not meet in any plot: words over words, and words cut off."""

from collections.abc import Callable
from itertools import combinations

import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def _words(figure: Figure) -> dict[Text, Bbox]:
    """Every text that is drawn -> its box in pixels, without the arrow that a label may have."""
    figure.draw_without_rendering()
    hidden: set[Text] = set()
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())  # matplotlib keeps ticks outside of it, and does not draw them
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
    return {
        text: Text.get_window_extent(text)
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    }


def _unreadable(figure: Figure) -> list[str]:
    words = {text: box.padded(-0.5) for text, box in _words(figure).items()}
    over = [
        f"{one.get_text()!r} over {other.get_text()!r}"
        for (one, box), (other, other_box) in combinations(words.items(), 2)
        if box.overlaps(other_box)
    ]
    page = figure.bbox
    cut = [
        f"{text.get_text()!r} cut off"
        for text, box in words.items()
        if not (page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1))
    ]
    return over + cut


@pytest.fixture
def unreadable() -> Callable[[Figure], list[str]]:
    """Figure -> which words lie over others or leave the page; nothing where all is well."""
    return _unreadable


@pytest.fixture
def words() -> Callable[[Figure], dict[Text, Bbox]]:
    """Figure -> every text that is drawn, with its box in pixels."""
    return _words

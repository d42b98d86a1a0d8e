"""Windows of consecutive frames: where they lie, and which are left out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eosvos.data.windows import windows

ALWAYS = [tuple(range(100))]
"""One object, always seen."""


@pytest.mark.parametrize(
    ("length", "frames", "count", "expected"),
    [
        (30, 8, 1, [(0, 7)]),
        (30, 8, 2, [(0, 7), (22, 29)]),
        (30, 8, 3, [(0, 7), (11, 18), (22, 29)]),
        (16, 8, 3, [(0, 7), (8, 15)]),
        (15, 8, 3, [(0, 7)]),
        (5, 8, 3, [(0, 4)]),
    ],
)
def test_where_every_frame_has_a_mask(length: int, frames: int, count: int, expected: list[tuple[int, int]]) -> None:
    found = windows(range(length), ALWAYS, frames, count)
    assert found == [tuple(range(first, last + 1)) for first, last in expected]


def test_frames_without_a_mask_are_in_it_too() -> None:
    assert windows(range(0, 100, 5), ALWAYS, 4, 2) == [tuple(range(0, 16)), tuple(range(80, 96))]


def test_nothing_to_follow_or_to_score_leaves_a_window_out() -> None:
    """In the second nothing is seen at first, in the third the object is gone at once; the last has a frame of it."""
    seen = (*range(8), *range(10, 14), 16, 24, 26)
    assert windows(range(32), [seen], 8, 4) == [tuple(range(8)), tuple(range(24, 32))]
    assert windows(range(32), [(0, 12), (8,), (24, 31)], 8, 4) == [tuple(range(32))]


@given(
    annotated=st.sets(st.integers(0, 80), min_size=1).map(sorted),
    frames=st.integers(3, 12),
    count=st.integers(1, 6),
    share=st.integers(1, 4),
)
def test_windows_of_any_sequence(annotated: list[int], frames: int, count: int, share: int) -> None:
    visible = [annotated[::share]]
    found = windows(annotated, visible, frames, count)
    assert 1 <= len(found) <= count
    assert all(before[-1] < after[0] for before, after in pairwise(found))
    for window in found:
        assert list(window) == list(range(window[0], window[-1] + 1))
        assert {window[0], window[-1]} <= {*annotated}
        assert len({*window} & {*annotated}) == min(frames, len(annotated)) or found == [
            tuple(range(annotated[0], annotated[-1] + 1))
        ]
    if share == 1 and len(annotated) >= max(3, frames):
        assert len(found) == min(count, len(annotated) // frames)
        assert found[0][0] == annotated[0]
        assert len(found) == 1 or found[-1][-1] == annotated[-1]

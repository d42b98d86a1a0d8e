"""What is given and what counts, for masks of any kind: late, hidden, void, empty, missing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eosvos.metrics.config import DAVIS, YOUTUBE_VOS, Protocol, protocol_of
from eosvos.metrics.sequence_scores import SequenceScorer

PIXELS = 6
IDS = st.sampled_from((0, 0, 1, 2, 9, 254, 255))
MASKS = st.lists(st.none() | st.lists(IDS, min_size=PIXELS, max_size=PIXELS), min_size=1, max_size=7)


def _counted(masks: list[list[int] | None], protocol: Protocol) -> dict[int, tuple[int, ...]]:
    """Object -> positions, word for word as the protocols say it."""
    ids = [None if mask is None else set(mask) - {0, 255} for mask in masks]
    given_in = range(len(masks)) if protocol.late_objects else range(1)
    first: dict[int, int] = {}
    for position in given_in:
        for number in sorted(ids[position] or ()):
            first.setdefault(number, position)
    last = len(masks) - (not protocol.last_frame)
    counted = {
        number: tuple(p for p in range(start + 1, last) if ids[p] is not None) for number, start in first.items()
    }
    annotated = {position for positions in counted.values() for position in positions}
    tells_more = any(not ids[p] or {n for n in ids[p] or () if first.get(n) != p} for p in annotated)
    return {number: positions for number, positions in counted.items() if positions and tells_more}


@given(MASKS, st.sampled_from((DAVIS, YOUTUBE_VOS)))
def test_each_object_counts_where_the_protocol_says(masks: list[list[int] | None], protocol: Protocol) -> None:
    arrays = [None if mask is None else np.array([mask], np.uint8) for mask in masks]
    entered = protocol.entered(None if mask is None else sorted(set(mask) - {0, 255}) for mask in masks)
    scorer = SequenceScorer(entered, protocol.frames(len(masks)), "video")
    for position, array in enumerate(arrays):
        scorer.add(position, array, array)
    scores = scorer.scores()
    assert {one.object_id: one.positions for one in scores} == _counted(masks, protocol)
    assert all(set(one.j) == {1.0} for one in scores)


def test_what_is_known_by_name() -> None:
    """As in data that was encoded before there were protocols; the dataset's name and the layout's are not the same."""
    assert {protocol_of(name) for name in ("davis2016", "davis2017", "synthetic")} == {DAVIS}
    assert {protocol_of(name) for name in ("youtube_vos", "youtube-vos", "frames", "mine")} == {YOUTUBE_VOS}

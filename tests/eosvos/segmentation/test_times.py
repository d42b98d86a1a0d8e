"""What takes which time, by a clock that only the parts of segmentation move."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch import Tensor

from eosvos.data import views
from eosvos.learning.optimization import Optimization
from eosvos.segmentation import adaptation, one_shot
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.merging import SegmentedFrame
from eosvos.segmentation.one_shot import OneShotSegmenter
from tests.eosvos.segmentation.objects import BARE, IDS, Video

READ, RESIZE, STEP, DETECT, MERGE, AFTER = 1.0, 20.0, 300.0, 4_000.0, 50_000.0, 600_000.0
"""Seconds of a frame's decoding, of its resizing, of a fine-tuning step of an object, of its detection in a frame, of
merging a frame, and of what is done with it afterwards."""


class Clock:
    """Says how late it is; goes on only by what runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def slow(self, function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        """The function, which takes so long."""

        def slowed(*arguments: Any, **more: Any) -> Any:
            result = function(*arguments, **more)
            self.now += seconds
            return result

        return slowed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(views, "resize", clock.slow(views.resize, RESIZE))
    monkeypatch.setattr(one_shot, "merge", clock.slow(one_shot.merge, MERGE))
    monkeypatch.setattr(adaptation, "fine_tune", clock.slow(adaptation.fine_tune, STEP))
    monkeypatch.setattr(OneShotSegmenter, "find", clock.slow(OneShotSegmenter.find, DETECT))
    return clock


def segment(
    clock: Clock, optimization: Optimization, video: Video, T: int, adapted: dict[int, AdaptedObject]
) -> list[SegmentedFrame]:
    """All frames, as somebody has them who decodes them one by one, and does something with each."""

    def decoded() -> Iterator[Tensor]:
        for frame in video[0]:
            clock.now += READ
            yield frame

    found = []
    for frame in OneShotSegmenter(optimization, BARE).segment(decoded(), {0: video[1]}, T, adapted=adapted):
        clock.now += AFTER
        found.append(frame)
    return found


def test_the_parts_add_up_to_the_clock(clock: Clock, optimization: Optimization, video: Video) -> None:
    """Fine-tuning is each object's, the rest is its frame's; what is done with the frames is nobody's."""
    adapted: dict[int, AdaptedObject] = {}
    frames = segment(clock, optimization, video, 2, adapted)
    assert [frame.loading_seconds for frame in frames] == [READ + RESIZE] * 4
    of_all = len(IDS) * DETECT
    assert [frame.seconds for frame in frames] == [READ + RESIZE + MERGE + of_all * (place > 0) for place in range(4)]
    for one in adapted.values():
        assert (one.fine_tuning_seconds, one.segmentation_seconds) == (2 * STEP, 3 * DETECT)
    fine_tuning = sum(one.fine_tuning_seconds for one in adapted.values())
    assert sum(frame.seconds for frame in frames) + fine_tuning == clock.now - 4 * AFTER


def test_a_second_pass_counts_the_steps_of_the_first(clock: Clock, optimization: Optimization, video: Video) -> None:
    """So that each T has the time that it would have by itself, however many of its steps were taken before."""
    adapted: dict[int, AdaptedObject] = {}
    segment(clock, optimization, video, 1, adapted)
    began = clock.now
    frames = segment(clock, optimization, video, 3, adapted)
    fine_tuning = sum(one.fine_tuning_seconds for one in adapted.values())
    assert fine_tuning == len(IDS) * 3 * STEP
    of_the_first = len(IDS) * STEP
    assert sum(frame.seconds for frame in frames) + fine_tuning == clock.now - began - 4 * AFTER + of_the_first

"""Frames per second of an object and of the whole video: sums of the times that belong to each."""

from typing import Any

import pytest

from eosvos.metrics.speed import Seconds, speed, speed_of_objects


def times(seconds: float | None, loading: float | None, video: float | None) -> Seconds:
    return {"seconds": seconds, "loading_seconds": loading, "video_seconds": video}


def row(sequence: str, frames: int, seconds: float | None, loading: float | None, video: float | None) -> Any:
    return {"dataset": "d", "sequence": sequence, "frames": frames, **times(seconds, loading, video)}


def test_of_an_object_and_of_the_video() -> None:
    found = speed(10, 10, times(3.0, 1.0, 8.0))
    assert (found["fps"], found["video_fps"]) == (2.5, 1.25)
    assert {name: found[name] for name in times(0, 0, 0)} == times(3.0, 1.0, 8.0)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (times(3.0, None, None), (None, None)),  # as older versions measured
        (times(3.0, None, 5.0), (None, 2.0)),
        (times(3.0, 2.0, None), (2.0, None)),
        (times(None, None, None), (None, None)),
        (times(0.0, 0.0, 0.0), (None, None)),
    ],
)
def test_what_is_missing_is_said(known: Seconds, expected: tuple[float | None, float | None]) -> None:
    found = speed(10, 10, known)
    assert (found["fps"], found["video_fps"]) == expected


def test_loading_counts_for_every_object_and_a_video_once() -> None:
    """Two videos: one of 10 frames with three objects, one of 4 with one, at two settings that are put together."""
    rows = [row("a", 10, 2.0, 1.0, 8.0)] * 3 + [row("b", 4, 1.0, 0.5, 2.0), row("b", 4, 3.0, 0.5, 4.0)]
    found = speed_of_objects(rows)
    assert found["seconds"] == 10.0
    assert found["loading_seconds"] == 4.0
    assert found["video_seconds"] == 8.0 + 3.0
    assert found["fps"] == pytest.approx((3 * 10 + 2 * 4) / 14)
    assert found["video_fps"] == pytest.approx((10 + 4) / 11)


def test_one_object_without_a_time_leaves_the_others_without() -> None:
    found = speed_of_objects([row("a", 10, 2.0, 1.0, 8.0), row("b", 10, 2.0, None, None)])
    assert found == {**times(4.0, None, None), "fps": None, "video_fps": None}

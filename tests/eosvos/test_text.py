"""Durations as text."""

import pytest

from eosvos.text import hours_text, minutes_seconds, time_left


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (187, "3:07"), (7265, "121:05")]
)
def test_minutes_and_seconds(seconds: float, text: str) -> None:
    assert minutes_seconds(seconds) == text


def test_time_left_is_at_the_pace_so_far() -> None:
    assert time_left(30, 2, 4) == "1:00 left"
    assert time_left(30, 0, 4) == ""


def test_hours() -> None:
    assert [hours_text(hours) for hours in (0.5, 12.5, 54)] == ["30 minutes", "12.5 hours", "2.2 days"]

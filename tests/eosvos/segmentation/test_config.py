"""Settings of test time."""

from typing import Any

import pytest

from eosvos.segmentation.config import SegmentationConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"transforms": -1}, "^transforms: must be at least 0, got -1"),
        ({"online_steps": 0}, "^online_steps: must be at least 1"),
        ({"online_interval": 1}, "^online_frames: an interval of 1 frames does not hold 2"),
        ({"online_interval": 2, "online_choice": "release"}, "besides the first one"),
        ({"online_threshold": 1.0}, "^online_threshold: must be above 0 and below 1"),
        ({"online_void": 0.0}, "^online_void: must be above 0 and below online_threshold, 0.5, got 0.0"),
        ({"online_void": 0.5}, "^online_void: must be above 0 and below online_threshold, 0.5, got 0.5"),
        ({"online_first_weight": 0.0}, "^online_first_weight: must be above 0, got 0.0"),
        ({"online_first_weight": float("inf")}, "^online_first_weight: must be above 0, got inf"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationConfig(**values)

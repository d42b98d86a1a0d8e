"""Views: windows within the frame, around their object, and there and back again without a shift."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eosvos.data.config import ViewConfig
from eosvos.data.resizing import input_size, resize, resize_mask
from eosvos.data.views import ROOM, Seen, View, around, whole

SIDES = (240, 480)
sizes = st.tuples(st.integers(4, 900), st.integers(4, 900))
configs = st.builds(
    ViewConfig,
    extent=st.floats(1, 6),
    least=st.floats(0.01, 1),
    shape=st.sampled_from(["frame", "square"]),
)


@st.composite
def boxes(draw: st.DrawFn, frame: tuple[int, int]) -> torch.Tensor:
    """Anywhere in a frame (H, W), down to a pixel, and up to all of it."""
    ends = [sorted(draw(st.tuples(st.floats(0, side - 1), st.floats(0, side - 1)))) for side in (frame[1], frame[0])]
    return torch.tensor([ends[0][0], ends[1][0], ends[0][1] + 1, ends[1][1] + 1], dtype=torch.float64)


@st.composite
def views(draw: st.DrawFn) -> tuple[View, torch.Tensor, ViewConfig, float]:
    """A view, the box that it is around, how it was asked for, and how much wider."""
    frame, config, widening = draw(sizes), draw(configs), draw(st.sampled_from([1.0, 1.3, 4.0, 1e6]))
    box = draw(boxes(frame))
    return around(box, frame, SIDES, config, widening), box, config, widening


@given(views())
def test_it_lies_within_the_frame_and_has_its_shape(drawn: tuple[View, torch.Tensor, ViewConfig, float]) -> None:
    view, _, config, widening = drawn
    top, left, height, width = view.window
    assert 0 <= top <= top + height <= view.frame[0]
    assert 0 <= left <= left + width <= view.frame[1]
    assert min(height, width) >= 1
    if view.is_whole:
        assert view.size == input_size(view.frame, *SIDES)
        return
    assert height >= min(config.least, 1) * view.frame[0] - 0.5
    if config.shape == "square":
        assert view.size == (240, 240)
        assert abs(height - width) <= 1
    else:
        assert view.size == input_size(view.frame, *SIDES)
        assert abs(width / height - view.frame[1] / view.frame[0]) <= (1 + view.frame[1] / view.frame[0]) / height
    assert widening < 1e6  # so much wider it is the whole frame


@given(views())
def test_the_object_is_inside_with_room_around_it(drawn: tuple[View, torch.Tensor, ViewConfig, float]) -> None:
    view, box, config, _ = drawn
    x0, y0, x1, y1 = view.box_inside(box).tolist()
    slack = 0.51 * max(scale for scale in (view.size[0] / view.extent[0], view.size[1] / view.extent[1]))
    assert min(x0, y0) >= -slack
    assert x1 <= view.size[1] + slack
    assert y1 <= view.size[0] + slack
    if not view.is_whole:
        share = max((x1 - x0) / view.size[1], (y1 - y0) / view.size[0])
        largest = config.shape == "square" and min(view.extent) == min(view.frame)
        assert share <= max(1 / config.extent, 1 / ROOM if largest else 0) * (1 + 1 / min(view.extent))


@given(views(), st.integers(0, 2**32 - 1))
def test_boxes_and_points_come_back(drawn: tuple[View, torch.Tensor, ViewConfig, float], seed: int) -> None:
    view = drawn[0]
    rng = np.random.default_rng(seed)
    box = torch.from_numpy(rng.uniform(-50, 950, 4)).float()
    assert (view.box_outside(view.box_inside(box)) - box).abs().max() <= 0.05
    other = whole(view.frame, SIDES)
    assert (Seen(view.box_inside(box), view).inside(other) - other.box_inside(box)).abs().max() <= 0.05
    assert Seen(box, view).inside(view) is box


@given(views(), st.integers(0, 2**32 - 1))
def test_a_mask_comes_back(drawn: tuple[View, torch.Tensor, ViewConfig, float], seed: int) -> None:
    """What lies in the window, to the pixel where the window is not made smaller, and 0 elsewhere."""
    view = drawn[0]
    mask = torch.from_numpy(np.random.default_rng(seed).integers(0, 2, view.frame, dtype=np.uint8))
    mask[0, 0] = mask[-1, -1] = 1
    top, left, height, width = view.window
    seen = view.mask(mask)
    assert seen.shape == view.size
    inside = mask[top : top + height, left : left + width]
    assert torch.equal(seen, resize_mask(inside, view.size))
    placed = view.place(inside)
    expected = torch.zeros(view.frame, dtype=torch.uint8)
    expected[top : top + height, left : left + width] = inside
    assert torch.equal(placed, expected)


@pytest.mark.parametrize("frame", [(480, 854), (853, 480), (128, 128)])
def test_the_whole_frame_is_what_resizing_gives(frame: tuple[int, int]) -> None:
    view = around(torch.tensor([3.0, 4.0, 9.0, 30.0]), frame, SIDES, ViewConfig())
    assert view == whole(frame, SIDES)
    assert view.is_whole
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (3, *frame), dtype=np.uint8))
    assert torch.equal(view.image(image), resize(image, view.size))
    window = torch.rand(frame)
    assert view.place(window) is window


def test_at_the_border_the_window_is_moved_inside() -> None:
    config = ViewConfig(extent=2.0, least=0.01)
    view = around(torch.tensor([0.0, 440.0, 40.0, 480.0]), (480, 854), SIDES, config)
    assert view.window == (400, 0, 80, 142)
    assert view.box_inside(torch.tensor([0.0, 400.0, 142.0, 480.0])).tolist() == [0.0, 0.0, 427.0, 240.0]


@pytest.mark.parametrize("values", [{"extent": 0.5}, {"extent": float("inf")}, {"least": 0.0}, {"least": 1.5}])
def test_what_a_view_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="view"):
        ViewConfig(**values)

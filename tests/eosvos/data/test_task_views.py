"""A task's frames as views: around its object, apart by so much, of one size."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eosvos.data.augment import task_frames
from eosvos.data.config import AugmentationConfig, TaskViewsConfig
from eosvos.data.sequence import EncodedFrame, Sequence
from eosvos.data.task_views import TaskViews
from eosvos.data.tasks import Donor, Task
from tests.eosvos.data.test_augment import IDENTITY, _png

SIDES = (48, 96)
VIEWS = TaskViewsConfig(task_view=(1.7, 3.5), task_view_least=0.1, task_view_whole=0.0)
FIXED = replace(VIEWS, task_view_least=0.01, task_view=(2.0, 2.0), task_view_zoom=(1.0, 1.0), task_view_shift=0.0)
FRAME = (200, 320)


def _box(x: float, y: float, width: float, height: float) -> Tensor:
    return torch.tensor([x, y, x + width, y + height])


@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 250), st.integers(0, 150), st.integers(1, 70), st.integers(1, 50)),
        min_size=1,
        max_size=4,
    ),
    shape=st.sampled_from(["frame", "square"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_all_of_one_size_each_with_its_object(boxes: list[tuple[int, ...]], shape: Any, seed: int) -> None:
    config = replace(VIEWS, task_view_shape=shape)
    rng = np.random.default_rng(seed)
    drawn = TaskViews.draw(config, SIDES, rng)
    assert 1.7 <= drawn.extent <= 3.5
    views = drawn.of([FRAME] * len(boxes), [_box(*box) for box in boxes], rng)
    assert len({view.size for view in views}) == 1
    for view, box in zip(views, boxes, strict=True):
        inside = view.box_inside(_box(*box))
        slack = 0.51 * max(view.size[0] / view.extent[0], view.size[1] / view.extent[1])
        # A window of 1.7 * 0.85 boxes has 0.22 of a box on each side of it, and a shift takes 0.2.
        assert float(inside.min()) >= -slack
        assert float((inside - torch.tensor([0, 0, view.size[1], view.size[0]]))[2:].max()) <= slack


def test_the_shares(sequences: tuple[Sequence, ...]) -> None:
    config = replace(VIEWS, task_view_whole=0.25)
    drawn = [TaskViews.draw(config, SIDES, np.random.default_rng(seed)) for seed in range(2000)]
    assert 0.22 < np.mean([one.extent == 0 for one in drawn]) < 0.28
    extents = [one.extent for one in drawn if one.extent]
    assert (min(extents), max(extents)) == pytest.approx((1.7, 3.5), abs=0.01)
    assert all(TaskViews.draw(TaskViewsConfig(), SIDES, np.random.default_rng(seed)).extent == 0 for seed in range(9))


def test_a_frame_without_the_object_shows_where_it_was() -> None:
    """With one that is too large for a view all are whole."""
    views = TaskViews(2.0, SIDES, FIXED)
    rng = np.random.default_rng(0)
    first, second = views.of([FRAME, FRAME], [_box(100, 50, 20, 30), None], rng)
    assert first == second
    assert not first.is_whole
    assert all(view.is_whole for view in views.of([FRAME, FRAME], [None, None], rng))
    large = [_box(100, 50, 20, 30), _box(10, 10, 300, 180)]
    square = replace(views, config=replace(FIXED, task_view_shape="square"))
    assert all(view.is_whole for view in square.of([FRAME, FRAME], large, rng))


@pytest.fixture(scope="module")
def sequences() -> tuple[Sequence, ...]:
    """Two videos of small objects, at different sizes."""
    return _video(FRAME, (8, 10)), _video((120, 160), (30, 24))


def _video(size: tuple[int, int], of_object: tuple[int, int]) -> Sequence:
    frames = []
    for position in range(3):
        mask = np.zeros(size, np.uint8)
        top, left = 20 + 15 * position, 30 + 20 * position
        mask[top : top + of_object[0], left : left + of_object[1]] = 1
        image = np.where(mask[..., None] > 0, [200, 60, 30], [30, 30, 120]).astype(np.uint8)
        frames.append(EncodedFrame(_png(image), _png(mask), "image", "mask"))
    return Sequence("made", "one", ("0", "1", "2"), False, frames.__getitem__)


def _share(mask: Tensor) -> float:
    """Of the frame's height that the object has."""
    return int((mask == 1).any(dim=1).sum()) / mask.shape[0]


def test_an_object_has_the_size_that_is_asked_for(sequences: tuple[Sequence, ...]) -> None:
    """And so has one that is pasted in, whatever the size in its own video."""
    config = replace(IDENTITY, windows=FIXED)
    plain = Task(0, 0, 0, 0, 1, (0, 2), 1, None)
    whole, seen = (task_frames(sequences, plain, one, 0, *SIDES) for one in (IDENTITY, config))
    assert seen.train_images.shape == whole.train_images.shape
    for mask, at_first in ((seen.train_masks[0], whole.train_masks[0]), (seen.test_masks[0], whole.test_masks[0])):
        assert _share(mask) == pytest.approx(0.5, abs=0.06)
        assert _share(at_first) < 0.1
    # The border cuts off some of what is pasted at random places.
    tasks = [replace(plain, index=index, donor=Donor(1, 1, (0, 2), is_target=True)) for index in range(8)]
    shares = [_share(task_frames(sequences, task, config, 0, *SIDES).train_masks[0]) for task in tasks]
    assert max(shares) == pytest.approx(0.5, abs=0.06)


def test_image_and_mask_are_cut_alike(sequences: tuple[Sequence, ...]) -> None:
    config = replace(IDENTITY, windows=replace(VIEWS, task_view_shape="square"))
    for index in range(5):
        frames = task_frames(sequences, Task(0, index, index, 0, 1, (0, 2), 1, None), config, 0, *SIDES)
        assert frames.train_images.shape[2:] == (48, 48)
        image, mask = frames.train_images[0], frames.train_masks[0]
        red = image[0] > image[2]
        assert (red == (mask == 1)).float().mean() > 0.97  # but for the edge


def test_no_other_draw_depends_on_views(sequences: tuple[Sequence, ...]) -> None:
    """All tasks whole is no views at all, to the bit."""
    task = Task(0, 3, 3, 0, 1, (0, 2), 1, Donor(1, 1, (0, 1), is_target=False))
    augmentation = AugmentationConfig()
    plain = task_frames(sequences, task, augmentation, 0, *SIDES)
    whole = task_frames(sequences, task, replace(augmentation, windows=replace(VIEWS, task_view_whole=1.0)), 0, *SIDES)
    for name in vars(plain):
        assert torch.equal(getattr(plain, name), getattr(whole, name))


@pytest.mark.parametrize(
    "bad",
    [
        {"task_view": (0.5, 2.0)},
        {"task_view": (3.0, 2.0)},
        {"task_view_zoom": (0.0, 1.0)},
        {"task_view_least": 0.0},
        {"task_view_shift": -0.1},
        {"task_view_whole": 1.1},
    ],
)
def test_what_it_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        TaskViewsConfig(**bad)

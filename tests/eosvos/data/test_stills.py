"""Views of one frame: apart from each other, with mask and image together, and only where they are asked for."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eosvos.data.augment import task_frames
from eosvos.data.config import AugmentationConfig, StillsConfig
from eosvos.data.sequence import VOID
from eosvos.data.stills import degraded, moved
from eosvos.data.tasks import Task
from eosvos.data.warps import LabelledFrame

STILL = AugmentationConfig(flip=0, rotation=0, scale=(1, 1), brightness=0, contrast=0, saturation=0, hue=0)
OBJECT, REST = (250, 20, 20), (20, 20, 250)


def _disk(height: int = 60, width: int = 80, radius: int = 12) -> LabelledFrame:
    """A red disk in the middle of blue."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    mask = ((y - height // 2) ** 2 + (x - width // 2) ** 2 <= radius**2).to(torch.uint8)
    colours = torch.tensor([REST, OBJECT], dtype=torch.uint8)
    return LabelledFrame(colours[mask.long()].permute(2, 0, 1).contiguous(), mask)


def _red(image: Tensor) -> Tensor:
    return (image[0] > 128) & (image[2] < 128)


def _config(**views: float) -> AugmentationConfig:
    return replace(STILL, views=StillsConfig(**views))


def _agreement(frame: LabelledFrame) -> float:
    """Intersection over union of the mask and what is red."""
    red, shown = _red(frame.image), frame.shown
    return float((red & shown).sum() / (red | shown).sum())


@pytest.mark.parametrize("views", [{"apart": 0.2}, {"elastic": 0.1}, {"apart": 0.2, "elastic": 0.1}])
def test_the_mask_follows_the_object(views: dict[str, float]) -> None:
    frame, centres = _disk(), []
    for seed in range(20):
        view = moved(frame, _config(**views), np.random.default_rng(seed))
        assert _agreement(view) > 0.9
        ys, xs = torch.where(view.shown)
        centres.append((float(ys.float().mean()) - 30, float(xs.float().mean()) - 40))
    reach = 0.2 * 80 + 0.1 * 60
    assert max(abs(x) for _, x in centres) <= reach
    assert np.std([x for _, x in centres]) > 1.5
    assert np.std([y for y, _ in centres]) > 1.5


def test_where_the_object_was_is_background() -> None:
    """All that is left is blue, and nothing but the object and its place has changed."""
    frame = _disk()
    view = moved(frame, _config(apart=0.3), np.random.default_rng(1))
    outside = ~view.shown
    assert not _red(view.image)[outside].any()
    near = torch.nn.functional.max_pool2d(frame.shown[None, None].float(), 7, 1, 3)[0, 0] > 0
    untouched = outside & ~near
    assert torch.equal(view.image[:, untouched], frame.image[:, untouched])


def test_void_stays_where_it_is_but_under_the_object() -> None:
    frame = _disk()
    frame.mask[:5] = VOID
    view = moved(frame, _config(apart=0.3), np.random.default_rng(3))
    assert ((view.mask[:5] == VOID) | view.shown[:5]).all()
    assert not (view.mask[5:] == VOID).any()


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 1000),
    views=st.builds(StillsConfig, **{name: st.sampled_from([0.0, 0.3, 1.0]) for name in vars(StillsConfig())}),
)
@settings(max_examples=60, deadline=None)
def test_any_shape(height: int, width: int, seed: int, views: StillsConfig) -> None:
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    mask = torch.from_numpy(rng.integers(0, 2, (height, width), dtype=np.uint8))
    mask[0, 0] = 1
    view = moved(LabelledFrame(image, mask), replace(STILL, views=views), rng)
    assert (view.image.shape, view.image.dtype) == (image.shape, torch.uint8)
    assert (view.mask.shape, view.mask.dtype) == (mask.shape, torch.uint8)
    assert view.shown.any()
    worse = degraded(view.image, views, rng)
    assert (worse.shape, worse.dtype) == (image.shape, torch.uint8)


def test_motion_blur_is_along_a_line() -> None:
    """Of a single bright pixel there is a line as long as was drawn, with all of its light."""
    image = torch.zeros((3, 101, 101), dtype=torch.uint8)
    image[:, 50, 50] = 255
    lengths = []
    for seed in range(20):
        blurred = degraded(image, StillsConfig(motion_blur=0.3), np.random.default_rng(seed))[0]
        ys, xs = torch.where(blurred > 0)
        assert int(blurred.sum()) == pytest.approx(255, abs=len(ys))
        spread = torch.stack((ys, xs)).double().cov() if len(ys) > 1 else torch.zeros(2, 2)
        assert float(torch.linalg.eigvalsh(spread)[0]) < 0.3  # no wider than a pixel
        lengths.append(math.hypot(int(ys.max() - ys.min()), int(xs.max() - xs.min())))
    assert max(lengths) <= 31
    assert np.std(lengths) > 4


def test_jpeg_noise_is_as_frequent_as_asked_for() -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8))
    rng = np.random.default_rng(1)
    changed = [not torch.equal(degraded(image, StillsConfig(jpeg=0.4), rng), image) for _ in range(200)]
    assert np.mean(changed) == pytest.approx(0.4, abs=0.1)


def test_views_are_of_tasks_that_see_one_frame_alone(make_sequence: Any) -> None:
    masks = [np.pad(np.ones((20, 20), np.uint8), 20)] * 2
    sequences = (make_sequence("one", masks),)
    views = replace(STILL, views=StillsConfig(apart=0.2, elastic=0.1, motion_blur=0.1, jpeg=1.0))

    def frames(positions: tuple[int, ...], config: AugmentationConfig) -> list[Tensor]:
        made = task_frames(sequences, Task(0, 3, 3, 0, 1, positions, 1, None), config, 0, 60, 60)
        return list(vars(made).values())

    assert all(map(torch.equal, frames((0, 1), views), frames((0, 1), STILL)))
    assert not any(map(torch.equal, frames((1, 1), views), frames((1, 1), STILL)))
    assert all(map(torch.equal, frames((1, 1), views), frames((1, 1), views)))
    train, _, test, _ = frames((1, 1), views)
    assert not torch.equal(train, test)


@pytest.mark.parametrize("name", list(vars(StillsConfig())))
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: must be within 0 and 1"):
        StillsConfig(**{name: value})

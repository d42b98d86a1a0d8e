"""A perfect mask, learned and pasted back, is where the object is: its offset and its Jaccard index on many grids."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eosvos.data.augment import transform
from eosvos.data.config import AugmentationConfig, StillsConfig
from eosvos.data.resizing import input_size, resize, resize_mask
from eosvos.data.stills import moved
from eosvos.data.views import tight_box
from eosvos.data.warps import LabelledFrame
from eosvos.model import losses
from eosvos.model.boxes import scale_box
from eosvos.model.losses import mask_loss
from eosvos.model.roi_heads import MASK_SHIFT, PASTINGS, Detection, paste_mask

VIDEO, HD, SQUARE = (480, 854), (720, 1280), (128, 128)
# Size of the video, short and long side of the input, side of the mask, the object's radius, least mean Jaccard index.
GRIDS = [
    (VIDEO, 240, 480, 28, 20, 0.930),
    (VIDEO, 240, 480, 28, 40, 0.956),
    (VIDEO, 240, 480, 28, 80, 0.966),
    (VIDEO, 360, 720, 28, 20, 0.930),
    (VIDEO, 360, 720, 28, 80, 0.966),
    (HD, 240, 480, 28, 40, 0.955),
    (HD, 240, 480, 28, 80, 0.966),
    (SQUARE, 128, 256, 28, 12, 0.975),
    (SQUARE, 128, 256, 28, 20, 0.962),
    (VIDEO, 750, 1333, 56, 20, 0.961),
    (VIDEO, 750, 1333, 56, 80, 0.988),
    (VIDEO, 800, 1333, 56, 40, 0.966),
    ((375, 501), 240, 480, 28, 40, 0.956),
    ((281, 499), 240, 480, 28, 33, 0.956),
]


def disk(size: tuple[int, int], radius: float, centre: Tensor) -> Tensor:
    """(H, W) uint8, 1 where a pixel's centre is in the disk."""
    y, x = (torch.arange(side) + 0.5 - place for side, place in zip(size, centre.tolist(), strict=True))
    return (y[:, None] ** 2 + x[None] ** 2 <= radius**2).to(torch.uint8)


def learned_targets(mask: Tensor, box: Tensor, side: int, aligned: bool, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """(M, M), what the mask loss compares with."""
    seen: list[Tensor] = []

    def watched(logits: Tensor, targets: Tensor) -> Tensor:
        seen.append(targets)
        return logits.sum(dim=1)

    monkeypatch.setitem(losses.MASK_LOSSES, "watched", watched)
    mask_loss("watched", torch.zeros(1, side, side), [box[None]], [mask], aligned=aligned)
    return seen[0].view(side, side)


def pasted_back(
    mask: Tensor, grid: tuple[Any, ...], kind: str, pasting: str, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """What test time makes of a mask (H, W) that a model has learned to perfection, in a box that is right."""
    small = resize_mask(mask, input_size((mask.shape[0], mask.shape[1]), grid[1], grid[2]))
    box = tight_box(small)
    assert box is not None
    logits = 100 * (learned_targets(small, box, grid[3], kind == "aligned", monkeypatch) - 0.5)
    detection = Detection(box, 1.0, 1.0, logits, box + MASK_SHIFT[kind])
    size = (small.shape[0], small.shape[1])
    return PASTINGS[pasting](detection, size, (mask.shape[0], mask.shape[1])) >= 0.5


def offset_and_jaccard(
    grid: tuple[Any, ...], kind: str, pasting: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[float], float]:
    """Mean offset (y, x) in pixels of the video, and mean Jaccard index, of disks anywhere between two pixels.

    For each disk its mirror image is taken too, so that what rounding does to one it does to the other the other way
    round, and the mean offset is that of the program.
    """
    size, radius = grid[0], grid[4]
    draws = torch.Generator().manual_seed(radius)
    offsets, jaccards = [], []
    for _ in range(6):
        centre = torch.tensor(size) / 2 + 8 * (torch.rand(2, generator=draws) - 0.5)
        for place in (centre, torch.tensor(size) - centre):
            mask = disk(size, radius, place)
            pasted = pasted_back(mask, grid, kind, pasting, monkeypatch)
            middles = [torch.stack(torch.where(part)).double().mean(dim=1) for part in (pasted, mask > 0)]
            offsets.append(middles[0] - middles[1])
            jaccards.append(float((pasted & (mask > 0)).sum() / (pasted | (mask > 0)).sum()))
    return torch.stack(offsets).mean(dim=0).tolist(), float(np.mean(jaccards))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_perfect_mask_is_where_the_object_is(grid: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    offset, jaccard = offset_and_jaccard(grid, "aligned", "exact", monkeypatch)
    assert max(map(abs, offset)) <= 0.05
    assert jaccard >= grid[-1]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_releases_masks_are_up_and_left(grid: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    offset, _ = offset_and_jaccard(grid, "shifted", "release", monkeypatch)
    assert max(offset) < -0.3 * grid[0][0] / grid[1]


def test_shifted_targets_are_those_of_the_box_that_test_time_puts_them_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (60, 70), dtype=np.uint8))
    box = torch.tensor([9.3, 12.8, 41.7, 30.1])
    shifted = learned_targets(mask, box, 14, False, monkeypatch)
    assert torch.equal(shifted, learned_targets(mask, box + MASK_SHIFT["shifted"], 14, True, monkeypatch))
    assert not torch.equal(shifted, learned_targets(mask, box, 14, True, monkeypatch))


@given(st.integers(0, 2**32 - 1))
def test_pasting_is_bilinear_sampling(seed: int) -> None:
    """torch's ``grid_sample`` of the mask at the pixels' centres, which is 0 outside it."""
    rng = np.random.default_rng(seed)
    (height, width), side = rng.integers(1, 60, 2).tolist(), int(rng.integers(1, 30))
    start = rng.uniform(-10, 50, 2)
    box = torch.tensor([*start, *(start + rng.uniform(0.5, 60, 2))])
    logits = torch.from_numpy(rng.normal(0, 2, (side, side)))
    detection = Detection(box, 1.0, 1.0, logits, box)
    input_size = (int(rng.integers(1, 90)), int(rng.integers(1, 90)))
    x0, y0, x1, y1 = scale_box(box, input_size, (height, width)).tolist()
    y = 2 * (torch.arange(height, dtype=torch.float64) + 0.5 - y0) / (y1 - y0) - 1
    x = 2 * (torch.arange(width, dtype=torch.float64) + 0.5 - x0) / (x1 - x0) - 1
    grid = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)
    expected = F.grid_sample(logits.sigmoid()[None, None], grid[None], align_corners=False)[0, 0].float()
    torch.testing.assert_close(paste_mask(detection, input_size, (height, width)), expected, atol=2e-4, rtol=0)


def centroid(weights: Tensor) -> Tensor:
    """(H, W) -> (y, x) of its mean place, in pixels."""
    values = weights.double()
    places = [(torch.arange(side) + 0.5) for side in values.shape]
    along = torch.stack([(values.sum(dim=1 - axis) * place).sum() for axis, place in enumerate(places)])
    return along / values.sum()


def pictured(mask: Tensor) -> LabelledFrame:
    """A frame that shows its mask."""
    return LabelledFrame((255 * mask)[None].repeat(3, 1, 1), mask)


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid[4] > 30], ids=str)
def test_a_frame_and_its_mask_are_resized_alike(grid: tuple[Any, ...]) -> None:
    size, short, long, _, radius, _ = grid
    to, off = input_size(size, short, long), []
    for centre in torch.tensor(size) / 2 + 8 * (torch.rand((12, 2), generator=torch.Generator().manual_seed(0)) - 0.5):
        frame = pictured(disk(size, radius, centre))
        small = LabelledFrame(resize(frame.image, to), resize_mask(frame.mask, to))
        off.append(centroid(small.image[0]) - centroid(small.mask))
    assert torch.stack(off).mean(dim=0).abs().max() <= 0.05


@pytest.mark.parametrize(
    "config",
    [
        AugmentationConfig(flip=1, rotation=0, scale=(1, 1), translation=0),
        AugmentationConfig(flip=0, rotation=30, scale=(1, 1), translation=0),
        AugmentationConfig(flip=0, rotation=0, scale=(0.75, 1.25), translation=0),
        AugmentationConfig(flip=0.5, rotation=30, scale=(0.75, 1.25), translation=0.15),
    ],
    ids=["flip", "rotation", "scale", "all"],
)
@pytest.mark.parametrize("elastic", [0.0, 0.05])
def test_a_frame_and_its_mask_are_warped_alike(config: AugmentationConfig, elastic: float) -> None:
    rng = np.random.default_rng(0)
    config = replace(config, views=StillsConfig(elastic=elastic))
    off = []
    for _ in range(40):
        frame = pictured(disk((97, 140), 21, torch.tensor([48.0, 70.0]) + torch.from_numpy(rng.uniform(-4, 4, 2))))
        moved_frame = moved(transform(frame, config, rng), config, rng)
        off.append(centroid(moved_frame.image[0]) - centroid(moved_frame.mask))
    assert torch.stack(off).mean(dim=0).abs().max() <= 0.05

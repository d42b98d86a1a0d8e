"""Box propagation: which box goes on, and the proposals that are made of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from eosvos.learning.optimization import Optimization
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.one_shot import OneShotSegmenter
from tests.eosvos.segmentation.objects import BARE, SIZE, FakedSegmenter, Video, segment_masks


def test_boxes_follow_the_last_mask(optimization: Optimization, video: Video) -> None:
    mask = torch.zeros(SIZE, dtype=torch.uint8)
    mask[20:60, 56:84] = 9
    moved, nothing = torch.zeros(SIZE), torch.full(SIZE, 0.49)
    moved[30:50, 56:84] = 0.5
    faked = FakedSegmenter(optimization, {(1, 9): moved, (2, 9): nothing, (3, 9): moved})
    segment_masks(faked, (video[0], mask), 0)
    x, y = 90 / 112, 64 / 80
    assert faked.boxes[0].tolist() == pytest.approx([56 * x, 20 * y, 84 * x, 60 * y], abs=1)
    assert faked.boxes[1].tolist() == pytest.approx([56 * x, 30 * y, 84 * x, 50 * y])
    assert torch.equal(faked.boxes[2], faked.boxes[0])  # nothing was found: back to the given mask's


def test_boxes_go_on_from_the_mask_before_an_online_adaptation(optimization: Optimization, video: Video) -> None:
    """And where that was empty, there is none to go on from until the object is seen again."""
    mask = (video[1] > 0).to(torch.uint8)
    moved, nothing = torch.zeros(SIZE), torch.zeros(SIZE)
    moved[30:50, 56:84] = 0.6
    config = replace(BARE, online_interval=2, online_steps=1)
    for before, expected in ((moved, [56 * 90 / 112, 30 * 0.8, 84 * 90 / 112, 50 * 0.8]), (nothing, None)):
        maps = {(1, 1): nothing, (2, 1): before, (3, 1): nothing, (4, 1): nothing}
        faked = FakedSegmenter(optimization, maps, config)
        list(faked.segment([*video[0], video[0][0]], {0: mask}, 1))
        assert torch.equal(faked.boxes[0], faked.boxes[1])  # nothing was found: back to the given mask's
        for box in faked.boxes[2:]:
            assert (box is None) if expected is None else box.tolist() == pytest.approx(expected)
    without = FakedSegmenter(optimization, maps, replace(config, online_interval=0))
    list(without.segment([*video[0], video[0][0]], {0: mask}, 1))
    assert all(torch.equal(box, without.boxes[0]) for box in without.boxes)


@pytest.mark.parametrize("box_propagation", [False, True])
def test_extra_proposals(
    optimization: Optimization, video: Video, monkeypatch: pytest.MonkeyPatch, box_propagation: bool
) -> None:
    segmenter = OneShotSegmenter(optimization, replace(BARE, box_propagation=box_propagation))
    seen: list[Tensor | None] = []
    monkeypatch.setattr(MaskRCNN, "detect", lambda self, image, extra, *_: seen.append(extra) or [])
    adapted: dict[int, AdaptedObject] = {}
    masks = segment_masks(segmenter, (video[0][:3], video[1]), 0, adapted=adapted)
    assert not torch.stack(masks[1:]).any()  # nothing detected
    assert len(seen) == 4
    if not box_propagation:
        assert seen == [None] * 4
        return
    for extra, target in zip(seen, list(adapted.values()) * 2, strict=True):
        assert extra is not None
        assert extra.shape == (optimization.config.proposals_test // 2, 4)
        assert target.start_box is not None
        widths, starts = extra - target.start_box.box, target.start_box.box
        assert bool((widths[:, :2] <= 0).all() and (widths[:, 2:] >= 0).all())
        assert bool((widths.abs() <= 0.1 * (starts[2:] - starts[:2]).repeat(2) + 1e-4).all())
    assert not torch.equal(seen[0], seen[2])  # type: ignore[arg-type]

"""Masks that are given: first ones, corrections, and those that cannot be used."""

from dataclasses import replace

import pytest
import torch

from eosvos.data.augment import transform
from eosvos.data.config import SPATIAL
from eosvos.data.resizing import resize_mask
from eosvos.draws import Stream
from eosvos.errors import BadInput
from eosvos.learning.inner_loop import fine_tune
from eosvos.learning.optimization import Optimization
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.one_shot import OneShotSegmenter
from tests.eosvos.segmentation.objects import BARE, IDS, SIZE, FakedSegmenter, Video, adapt, all_equal, model_state


def test_objects_enter_with_their_first_mask_and_never_before(optimization: Optimization, video: Video) -> None:
    frames, first = video
    everywhere = torch.ones(SIZE)
    masks = {1: (first == 7) * first, 2: (first == 3) * first}
    faked = FakedSegmenter(optimization, {(2, 7): everywhere * 0.6, (3, 7): everywhere * 0.6, (3, 3): everywhere * 0.9})
    result = list(faked.segment(frames, masks, 1))
    assert faked.seen == [(2, 7), (3, 3), (3, 7)]
    assert not result[0].mask.any()
    assert torch.equal(result[1].mask, masks[1])
    assert torch.equal(result[2].mask, torch.where(masks[2] > 0, 3, 7).to(torch.uint8))  # a given mask wins
    assert (result[3].mask == 3).all()


def test_a_correction_is_the_truth_from_there_on(optimization: Optimization, video: Video) -> None:
    frames, first = video
    correction = torch.zeros(SIZE, dtype=torch.uint8)
    correction[5:30, 5:40] = 3
    probability = torch.full(SIZE, 0.6)
    faked = FakedSegmenter(optimization, {(p, i): probability * (i == 7) for p in range(1, 4) for i in IDS})
    adapted: dict[int, AdaptedObject] = {}
    result = list(faked.segment(frames, {0: first, 2: correction}, 1, adapted=adapted))
    assert faked.seen == [(1, 3), (1, 7), (2, 7), (3, 3), (3, 7)]
    assert torch.equal(result[2].mask, torch.where(correction > 0, 3, 7).to(torch.uint8))
    target = adapted[3]
    assert (target.start, target.steps, len(target.given)) == (2, 1, 2)
    assert [int(frame.mask.sum()) for frame in target.given] == [
        int(resize_mask((mask == 3).to(torch.uint8), (64, 90)).sum()) for mask in (first, correction)
    ]
    assert faked.boxes[3].tolist() == pytest.approx([5 * 90 / 112, 5 * 0.8, 40 * 90 / 112, 30 * 0.8], abs=1)
    model = optimization.model()  # fine-tuned anew, on both
    batch = model.batch([frame.image for frame in target.given], [frame.mask for frame in target.given])
    fine_tune(model, batch, optimization.fine_tuning_rates(), [0], (0, 3))
    assert all_equal(list(model.state_dict().values()), model_state({3: target}))


def test_given_frames_are_learned_from_in_turn(optimization: Optimization, video: Video) -> None:
    """Also where a step takes one transform: of the first frame, then of the correction."""
    correction = torch.zeros(SIZE, dtype=torch.uint8)
    correction[5:30, 5:40] = 3
    adapted: dict[int, AdaptedObject] = {}
    segmenter = OneShotSegmenter(optimization, replace(BARE, transforms=1))
    list(segmenter.segment(video[0][:3], {0: (video[1] == 3) * video[1], 2: correction}, 2, adapted=adapted))
    target, model = adapted[3], optimization.model()
    for step, frame in enumerate(target.given):
        drawn = transform(frame, SPATIAL, Stream.TRANSFORMS.numpy(0, 3, step))
        fine_tune(model, model.batch([drawn.image], [drawn.mask]), optimization.fine_tuning_rates(), [step], (0, 3))
    assert all_equal(list(model.state_dict().values()), model_state(adapted))


def test_corrections_keep_the_times_of_what_went_before(optimization: Optimization, video: Video) -> None:
    adapted: dict[int, AdaptedObject] = {}
    segmenter = OneShotSegmenter(optimization, SegmentationConfig(online_interval=1, online_frames=1, online_steps=1))
    seconds = []
    for _ in segmenter.segment(video[0], {0: video[1], 3: video[1]}, 1, adapted=adapted):
        target = adapted[3]
        seconds.append((target.fine_tuning_seconds, target.adaptation_seconds, target.segmentation_seconds))
    assert seconds[3][0] > seconds[2][0] > 0
    assert seconds[3][1:] == seconds[2][1:] > (0, 0)


def test_an_object_too_small_for_the_input_keeps_what_it_touches(optimization: Optimization) -> None:
    large = torch.zeros((3, 640, 640), dtype=torch.uint8)
    sliver = torch.zeros((640, 640), dtype=torch.uint8)
    sliver[100:200, 1] = 4
    (target,) = adapt(OneShotSegmenter(optimization, BARE), ([large], sliver), 0).values()
    assert target.given[0].mask.nonzero().tolist() == [[row, 0] for row in range(10, 20)]


def test_masks_that_cannot_be_used(optimization: Optimization, video: Video) -> None:
    segmenter = OneShotSegmenter(optimization)
    large = torch.zeros((3, 640, 640), dtype=torch.uint8)
    for frames, masks, message in (
        (video[0], {}, "no mask is given"),
        (video[0], {0: video[1] * 0}, "the first mask has no object"),
        (video[0], {0: video[1] * 0, 1: video[1] * 0}, "the mask of frame 1 has no object"),
        (video[0], {0: video[1].T}, "the first mask has 80x112 pixels, its frame 112x80"),
        (video[0], {0: video[1], 9: video[1]}, "the mask of frame 9 is beyond the video, which has 4 frames"),
        ([video[0][0], large], {0: video[1]}, "frame 1 has 640x640 pixels, the first one 112x80"),
    ):
        with pytest.raises(BadInput, match=message):
            list(segmenter.segment(frames, masks, 0))

"""One-shot segmentation: a mask for every frame, each object by a model of its target."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eosvos.data.resizing import input_size, resize
from eosvos.learning.optimization import Optimization, load, save
from eosvos.model.config import ModelConfig
from eosvos.model.roi_heads import paste_mask
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.one_shot import OneShotSegmenter
from tests.eosvos.segmentation.objects import (
    BARE,
    IDS,
    SIZE,
    FakedSegmenter,
    Video,
    adapt,
    all_equal,
    model_state,
    segment_masks,
)


@pytest.mark.parametrize(
    "config",
    [
        BARE,
        SegmentationConfig(),
        SegmentationConfig(online_interval=2, online_steps=2, online_frames=1),
    ],
)
def test_masks(optimization: Optimization, video: Video, config: SegmentationConfig) -> None:
    segmenter = OneShotSegmenter(optimization, config)
    stream = segmenter.segment(video[0], {0: video[1]}, 2)
    assert torch.equal(next(stream).mask, video[1])
    frames = list(stream)
    assert len(frames) == 3
    for frame in frames:
        assert frame.mask.dtype == torch.uint8
        assert frame.mask.shape == SIZE
        assert {int(value) for value in frame.mask.unique()} <= {0, *IDS}
        assert {int(value) for value in frame.mask.unique()} - {0} <= set(frame.boxes)
        for object_id, box in frame.boxes.items():
            assert 0 <= box[0] < box[2] <= SIZE[1] + 1e-3
            assert 0 <= box[1] < box[3] <= SIZE[0] + 1e-3
            assert 0.5 < frame.scores[object_id] <= 1
    assert any(bool(frame.mask.any()) for frame in frames)
    torch.manual_seed(123)
    expected = [video[1], *(frame.mask for frame in frames)]
    assert all_equal(segment_masks(segmenter, video), expected)
    assert all_equal(segment_masks(OneShotSegmenter(optimization, config), video), expected)
    other = OneShotSegmenter(optimization, config, seed=1)
    assert not all_equal(model_state(adapt(segmenter, video, 2)), model_state(adapt(other, video, 2)))


def test_without_steps_it_is_the_initialization_frame_by_frame(
    optimization: Optimization, video: Video, micro: ModelConfig
) -> None:
    frames, first = video
    merged = (first > 0).to(torch.uint8)
    masks = segment_masks(OneShotSegmenter(optimization, replace(BARE, transforms=3)), (frames, merged), T=0)
    model, seen = optimization.model(), 0
    for frame, mask in zip(frames[1:], masks[1:], strict=True):
        small = resize(frame, (64, 90))
        assert small.shape == (3, 64, 90)
        expected = torch.zeros(SIZE)
        for detection in model.detect(small):
            expected = paste_mask(detection, (64, 90), SIZE)
        assert torch.equal(mask, (expected >= 0.5).to(torch.uint8))
        seen += int(mask.sum())
    assert seen > 0


def test_frames_and_masks_are_read_one_by_one(optimization: Optimization, video: Video) -> None:
    read: list[int] = []

    def frames() -> Any:
        for position, frame in enumerate(video[0]):
            read.append(position)
            yield frame

    stream = OneShotSegmenter(optimization).segment(frames(), {0: video[1]}, 0)
    for position, _ in enumerate(stream):
        assert read == list(range(position + 1))
    assert len(read) == 4
    assert list(OneShotSegmenter(optimization).segment([], {0: video[1]}, 0)) == []


def test_every_object_has_a_model_of_its_own(optimization: Optimization, video: Video) -> None:
    """What is done for one object does not depend on the others, and the Optimization stays as it is."""
    before = {name: value.clone() for name, value in optimization.initialization.items()}
    segmenter = OneShotSegmenter(optimization)
    both = adapt(segmenter, video, 2)
    alone = adapt(segmenter, (video[0], video[1] * (video[1] == IDS[1])), 2)
    assert list(both) == list(IDS)
    assert all_equal(model_state({7: both[7]}), model_state(alone))
    assert not all_equal(model_state({3: both[3]}), model_state(alone))
    assert all(torch.equal(value, before[name]) for name, value in optimization.initialization.items())


def test_an_optimization_from_a_file_does_the_same(optimization: Optimization, video: Video, tmp_path: Path) -> None:
    assert optimization.rates is not None
    draws = torch.Generator().manual_seed(0)
    rates = {
        name: rate + torch.randn(rate.shape, generator=draws) / 2 for name, rate in optimization.rates.learned.items()
    }
    uneven = replace(optimization, rates=replace(optimization.rates, learned=rates))
    save(uneven, tmp_path / "file")
    states = [
        model_state(adapt(OneShotSegmenter(one), video, 2)) for one in (uneven, load(tmp_path / "file"), optimization)
    ]
    assert all_equal(states[0], states[1])
    assert not all_equal(states[0], states[2])


def test_a_pixel_goes_to_the_largest_probability(optimization: Optimization, video: Video) -> None:
    pairs = torch.tensor(
        [[0.0, 0.0], [0.49, 0.2], [0.5, 0.1], [0.1, 0.5], [0.5, 0.49], [0.6, 0.7], [0.9, 0.8], [1.0, 0.0], [0.7, 0.7]]
    )
    expected = [0, 0, 3, 7, 3, 7, 3, 3, 3]
    maps = torch.zeros((2, *SIZE))
    maps[:, 10, : len(pairs)] = pairs.T
    faked = FakedSegmenter(optimization, {(1, 3): maps[0], (1, 7): maps[1]})
    mask = segment_masks(faked, (video[0][:2], video[1]), 0)[1]
    assert mask[10, : len(pairs)].tolist() == expected
    assert int(mask.count_nonzero()) == 7


def test_input_size_of_the_videos_here(micro: ModelConfig) -> None:
    assert input_size(SIZE, micro.short_side, micro.long_side) == (64, 90)

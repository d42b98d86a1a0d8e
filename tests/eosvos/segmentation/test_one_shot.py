"""One-shot segmentation: fine-tuning per object, following, merging, box propagation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eosvos.data.augment import input_size, resized
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization, load, save
from eosvos.learning.rates import RatesConfig, initial_rates
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import paste
from eosvos.model.weights import initial_model
from eosvos.segmentation.one_shot import (
    AdaptedObject,
    OneShotSegmenter,
    SegmentationConfig,
    jittered_boxes,
)

SIZE = (80, 112)  # the video's; the model's input is 64x90
IDS = (3, 7)


@pytest.fixture(scope="module")
def optimization(micro: ModelConfig) -> Optimization:
    """A random model that is sure to see an object wherever it looks, with rates that fine-tune gently."""
    model, _ = initial_model(micro, "none", seed=0)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight *= 10
        model.roi_heads.box_predictor.cls_score.bias += torch.tensor([-2.0, 2.0])
        model.roi_heads.mask_predictor.mask_fcn_logits.weight *= 10
    return Optimization(micro, model.state_dict(), initial_rates(model, RatesConfig()))


@pytest.fixture(scope="module")
def video(scene: Callable[..., Any]) -> tuple[list[Tensor], Tensor]:
    """Four frames with a bright ellipse, and a first mask that calls its left part 3 and its right part 7."""
    image, mask = scene(3, *SIZE)
    frames = [image.roll(3 * k, dims=2) for k in range(4)]
    xs = torch.where(mask > 0)[1]
    first = mask * IDS[0]
    first[:, int(xs.double().mean()) :] = first[:, int(xs.double().mean()) :] // IDS[0] * IDS[1]
    return frames, first


def _config(**values: Any) -> SegmentationConfig:
    return SegmentationConfig(**({"T": 2} | values))


def _masks(segmenter: OneShotSegmenter, video: tuple[list[Tensor], Tensor]) -> list[Tensor]:
    return list(segmenter.segment(*video))


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("box_propagation", [False, True])
def test_masks(optimization: Optimization, video: tuple[list[Tensor], Tensor], box_propagation: bool) -> None:
    segmenter = OneShotSegmenter(optimization, _config(box_propagation=box_propagation))
    stream = segmenter.segment(*video)
    assert torch.equal(next(stream), video[1])
    masks = list(stream)
    assert len(masks) == 3
    for mask in masks:
        assert mask.dtype == torch.uint8
        assert mask.shape == SIZE
        assert {int(value) for value in mask.unique()} <= {0, *IDS}
    assert any(bool(mask.any()) for mask in masks)
    torch.manual_seed(123)
    assert _equal(_masks(segmenter, video), [video[1], *masks])
    other = OneShotSegmenter(optimization, _config(box_propagation=box_propagation))
    assert _equal(_masks(other, video), [video[1], *masks])


def test_without_steps_it_is_the_initialization_frame_by_frame(
    optimization: Optimization, video: tuple[list[Tensor], Tensor], micro: ModelConfig
) -> None:
    frames, first = video
    merged = (first > 0).to(torch.uint8)
    masks = _masks(OneShotSegmenter(optimization, _config(T=0, box_propagation=False)), (frames, merged))
    model, seen = optimization.model(), 0
    for frame, mask in zip(frames[1:], masks[1:], strict=True):
        small = resized(frame, micro.short_side, micro.long_side)
        assert small.shape == (3, 64, 90)
        detection = model.detect(small)
        expected = torch.zeros(SIZE) if detection is None else paste(detection, (64, 90), SIZE)
        assert torch.equal(mask, (expected >= 0.5).to(torch.uint8))
        seen += int(mask.sum())
    assert seen > 0


def test_frames_are_read_one_by_one(optimization: Optimization, video: tuple[list[Tensor], Tensor]) -> None:
    read: list[int] = []

    def frames() -> Any:
        for position, frame in enumerate(video[0]):
            read.append(position)
            yield frame

    for position, _ in enumerate(OneShotSegmenter(optimization, _config(T=0)).segment(frames(), video[1])):
        assert read == list(range(position + 1))
    assert len(read) == 4
    assert list(OneShotSegmenter(optimization, _config(T=0)).segment([], video[1])) == []


def _state(objects: list[AdaptedObject]) -> list[Tensor]:
    return [value for adapted in objects for value in adapted.model.state_dict().values()]


def test_steps_can_be_taken_in_parts(optimization: Optimization, video: tuple[list[Tensor], Tensor]) -> None:
    segmenter = OneShotSegmenter(optimization, _config())
    at_once, in_parts, fewer = (segmenter.begin(video[0][0], video[1]) for _ in range(3))
    segmenter.fine_tune(at_once, 4)
    segmenter.fine_tune(in_parts, 2)
    assert [adapted.steps for adapted in in_parts] == [2, 2]
    segmenter.fine_tune(in_parts, 4)
    segmenter.fine_tune(fewer, 2)
    assert _equal(_state(at_once), _state(in_parts))
    assert not _equal(_state(at_once), _state(fewer))
    assert all(adapted.fine_tuning_seconds > 0 for adapted in at_once)


def test_every_object_has_a_model_of_its_own(optimization: Optimization, video: tuple[list[Tensor], Tensor]) -> None:
    """What is done for one object does not depend on the others, and the Optimization stays as it is."""
    before = {name: value.clone() for name, value in optimization.initialization.items()}
    segmenter = OneShotSegmenter(optimization, _config())
    both = segmenter.begin(video[0][0], video[1])
    (alone,) = segmenter.begin(video[0][0], video[1] * (video[1] == IDS[1]))
    assert [adapted.id for adapted in both] == list(IDS)
    for objects in (both, [alone]):
        segmenter.fine_tune(objects, 2)
    assert _equal(_state([both[1]]), _state([alone]))
    assert not _equal(_state([both[0]]), _state([alone]))
    assert all(torch.equal(value, before[name]) for name, value in optimization.initialization.items())


def test_an_optimization_from_a_file_does_the_same(
    optimization: Optimization, video: tuple[list[Tensor], Tensor], tmp_path: Path
) -> None:
    assert optimization.rates is not None
    draws = torch.Generator().manual_seed(0)
    rates = {
        name: rate + torch.randn(rate.shape, generator=draws) / 2 for name, rate in optimization.rates.learned.items()
    }
    uneven = replace(optimization, rates=replace(optimization.rates, learned=rates))
    save(uneven, tmp_path / "file")
    states = []
    for one in (uneven, load(tmp_path / "file"), optimization):
        segmenter = OneShotSegmenter(one, _config())
        objects = segmenter.begin(video[0][0], video[1])
        segmenter.fine_tune(objects, 2)
        states.append(_state(objects))
    assert _equal(states[0], states[1])
    assert not _equal(states[0], states[2])


def test_start_box_is_the_first_masks(optimization: Optimization) -> None:
    mask = torch.zeros(SIZE, dtype=torch.uint8)
    mask[20:60, 56:84] = 5
    image = torch.zeros((3, *SIZE), dtype=torch.uint8)
    (adapted,) = OneShotSegmenter(optimization, _config()).begin(image, mask)
    scale = 64 / 80
    assert adapted.start_box.tolist() == pytest.approx([56 * scale, 20 * scale, 84 * scale, 60 * scale], abs=1)


class _Faked(OneShotSegmenter):
    """Segments with given probabilities: per position and object."""

    def __init__(self, optimization: Optimization, probabilities: dict[tuple[int, int], Tensor]) -> None:
        super().__init__(optimization, SegmentationConfig(T=0))
        self.probabilities = probabilities
        self.boxes: list[Tensor] = []

    def _probability(
        self, adapted: AdaptedObject, small: Tensor, size: tuple[int, int], box: Tensor, position: int
    ) -> Tensor:
        assert size == SIZE
        self.boxes.append(box)
        return self.probabilities[position, adapted.id]


def test_a_pixel_goes_to_the_largest_probability(
    optimization: Optimization, video: tuple[list[Tensor], Tensor]
) -> None:
    pairs = torch.tensor(
        [[0.0, 0.0], [0.49, 0.2], [0.5, 0.1], [0.1, 0.5], [0.5, 0.49], [0.6, 0.7], [0.9, 0.8], [1.0, 0.0]]
    )
    expected = [0, 0, 3, 7, 3, 7, 3, 3]
    maps = torch.zeros((2, *SIZE))
    maps[:, 10, : len(pairs)] = pairs.T
    faked = _Faked(optimization, {(1, 3): maps[0], (1, 7): maps[1]})
    mask = list(faked.segment(video[0][:2], video[1]))[1]
    assert mask[10, : len(pairs)].tolist() == expected
    assert int(mask.count_nonzero()) == 6


def test_boxes_follow_the_last_mask(optimization: Optimization, video: tuple[list[Tensor], Tensor]) -> None:
    first = (video[1] > 0).to(torch.uint8) * 9
    moved, nothing = torch.zeros(SIZE), torch.full(SIZE, 0.49)
    moved[30:50, 56:84] = 0.5
    faked = _Faked(optimization, {(1, 9): moved, (2, 9): nothing, (3, 9): moved})
    list(faked.segment(video[0], first))
    start = faked.begin(video[0][0], first)[0].start_box
    assert torch.equal(faked.boxes[0], start)
    x, y = 90 / 112, 64 / 80
    assert faked.boxes[1].tolist() == pytest.approx([56 * x, 30 * y, 84 * x, 50 * y])
    assert torch.equal(faked.boxes[2], start)  # nothing was found: back to the first frame's


@pytest.mark.parametrize("box_propagation", [False, True])
def test_extra_proposals(
    optimization: Optimization,
    video: tuple[list[Tensor], Tensor],
    monkeypatch: pytest.MonkeyPatch,
    box_propagation: bool,
) -> None:
    segmenter = OneShotSegmenter(optimization, _config(T=0, box_propagation=box_propagation))
    objects = segmenter.begin(video[0][0], video[1])
    seen: list[Tensor | None] = []
    for adapted in objects:
        monkeypatch.setattr(adapted.model, "detect", lambda image, extra: seen.append(extra))
    masks = list(segmenter.follow(objects, video[0][1:3]))
    assert not torch.stack(masks).any()  # nothing detected
    assert len(seen) == 4
    if not box_propagation:
        assert seen == [None] * 4
        return
    for extra, adapted in zip(seen, objects * 2, strict=True):
        assert extra is not None
        assert extra.shape == (optimization.config.proposals_test // 2, 4)
        widths, starts = extra - adapted.start_box, adapted.start_box
        assert bool((widths[:, :2] <= 0).all() and (widths[:, 2:] >= 0).all())
        assert bool((widths.abs() <= 0.1 * (starts[2:] - starts[:2]).repeat(2) + 1e-4).all())
    assert not torch.equal(seen[0], seen[2])  # type: ignore[arg-type]


@given(
    corner=st.tuples(st.floats(0, 80), st.floats(0, 50)),
    extent=st.tuples(st.floats(0.5, 60), st.floats(0.5, 60)),
    seed=st.integers(0, 1000),
)
def test_jitter_moves_sides_outwards(corner: tuple[float, float], extent: tuple[float, float], seed: int) -> None:
    height, width = 64, 90
    x1, y1 = min(corner[0] + extent[0], width), min(corner[1] + extent[1], height)
    box = torch.tensor([*corner, x1, y1])
    boxes = jittered_boxes(box, 20, (height, width), torch.Generator().manual_seed(seed))
    assert boxes.shape == (20, 4)
    reach = 0.1 * (box[2:] - box[:2]).repeat(2) + 1e-4
    assert bool((boxes[:, :2] <= box[:2]).all() and (boxes[:, 2:] >= box[2:]).all())
    assert bool(((boxes - box).abs() <= reach).all())
    assert bool((boxes >= 0).all() and (boxes[:, 0::2] <= width).all() and (boxes[:, 1::2] <= height).all())
    assert torch.equal(boxes, jittered_boxes(box, 20, (height, width), torch.Generator().manual_seed(seed)))


def test_jitter_reaches_a_tenth() -> None:
    boxes = jittered_boxes(
        torch.tensor([100.0, 100.0, 200.0, 150.0]), 500, (400, 400), torch.Generator().manual_seed(0)
    )
    assert boxes.amin(dim=0).tolist()[:2] == pytest.approx([90, 95], abs=0.2)
    assert boxes.amax(dim=0).tolist()[2:] == pytest.approx([210, 155], abs=0.2)
    assert len(boxes.unique(dim=0)) == 500


def test_first_masks_that_cannot_be_used(optimization: Optimization, video: tuple[list[Tensor], Tensor]) -> None:
    segmenter = OneShotSegmenter(optimization, _config())
    with pytest.raises(BadInput, match="first mask has no object"):
        next(segmenter.segment(video[0], video[1] * 0))
    large = torch.zeros((3, 640, 640), dtype=torch.uint8)
    speck = torch.zeros((640, 640), dtype=torch.uint8)
    speck[0, 0] = 4
    with pytest.raises(BadInput, match="object 4 of the first mask vanishes at the model's input size"):
        next(segmenter.segment([large], speck))


@pytest.mark.parametrize("T", [1, 2, 5])
def test_an_infinite_learning_rate_is_an_error(
    optimization: Optimization, video: tuple[list[Tensor], Tensor], T: int
) -> None:
    infinite = optimization.with_single_rate(float("inf"))
    with pytest.raises(FloatingPointError, match="object 3"):
        _masks(OneShotSegmenter(infinite, _config(T=T)), video)


def test_an_object_that_diverges_leaves_the_others_alone(
    optimization: Optimization, video: tuple[list[Tensor], Tensor]
) -> None:
    frames, first = video
    infinite = OneShotSegmenter(optimization.with_single_rate(float("inf")), _config())
    segmenter = OneShotSegmenter(optimization, _config())
    lost, kept = infinite.begin(frames[0], first)[1], segmenter.begin(frames[0], first)[0]
    infinite.fine_tune([lost], 1)
    segmenter.fine_tune([lost, kept], 3)
    assert (lost.diverged, lost.steps) == (True, 1)
    assert (kept.diverged, kept.steps) == (False, 3)
    masks = list(segmenter.follow([lost, kept], frames[1:]))
    assert any(bool(mask.any()) for mask in masks)
    assert _equal(masks, list(segmenter.follow([kept], frames[1:])))


def test_a_parent_needs_a_rate(optimization: Optimization, video: tuple[list[Tensor], Tensor]) -> None:
    parent = replace(optimization, rates=None)
    with pytest.raises(BadInput, match="--learning-rate"):
        OneShotSegmenter(parent, _config())
    assert len(_masks(OneShotSegmenter(parent, _config(T=0)), video)) == 4


def test_steps_below_zero() -> None:
    with pytest.raises(ValueError, match=r"^T: must be at least 0, got -1"):
        SegmentationConfig(T=-1)


def test_input_size_of_the_videos_here(micro: ModelConfig) -> None:
    assert input_size(SIZE, micro.short_side, micro.long_side) == (64, 90)

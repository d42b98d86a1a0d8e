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

from eosvos.data.augment import LabelledFrame, input_size, resize, transform
from eosvos.data.config import SPATIAL
from eosvos.draws import Stream
from eosvos.errors import BadInput
from eosvos.learning.config import RatesConfig
from eosvos.learning.inner_loop import fine_tune, load_parameters
from eosvos.learning.optimization import Optimization, load, save
from eosvos.learning.rates import initial_rates
from eosvos.model.boxes import jittered_boxes
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.roi_heads import paste_mask
from eosvos.model.weights import initial_model
from eosvos.segmentation import adaptation
from eosvos.segmentation.adaptation import (
    AdaptedObject,
    adapt_online,
    fine_tune_object,
    remember,
)
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.merging import Prediction, SegmentedFrame
from eosvos.segmentation.one_shot import OneShotSegmenter

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


BARE = SegmentationConfig(transforms=0, box_propagation=False)
Video = tuple[list[Tensor], Tensor]


def _masks(segmenter: OneShotSegmenter, video: Video, T: int = 2, **more: Any) -> list[Tensor]:
    return [frame.mask for frame in segmenter.segment(video[0], {0: video[1]}, T, **more)]


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def _adapted(segmenter: OneShotSegmenter, video: Video, T: int) -> dict[int, AdaptedObject]:
    """The objects after fine-tuning on the first frame alone."""
    adapted: dict[int, AdaptedObject] = {}
    list(segmenter.segment(video[0][:1], {0: video[1]}, T, adapted=adapted))
    return adapted


def _state(objects: dict[int, AdaptedObject]) -> list[Tensor]:
    return [value for own in objects.values() for value in own.model.state_dict().values()]


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
    assert _equal(_masks(segmenter, video), expected)
    assert _equal(_masks(OneShotSegmenter(optimization, config), video), expected)
    other = OneShotSegmenter(optimization, config, seed=1)
    assert not _equal(_state(_adapted(segmenter, video, 2)), _state(_adapted(other, video, 2)))


def test_without_steps_it_is_the_initialization_frame_by_frame(
    optimization: Optimization, video: Video, micro: ModelConfig
) -> None:
    frames, first = video
    merged = (first > 0).to(torch.uint8)
    masks = _masks(OneShotSegmenter(optimization, replace(BARE, transforms=3)), (frames, merged), T=0)
    model, seen = optimization.model(), 0
    for frame, mask in zip(frames[1:], masks[1:], strict=True):
        small = resize(frame, micro.short_side, micro.long_side)
        assert small.shape == (3, 64, 90)
        detection = model.detect(small)
        expected = torch.zeros(SIZE) if detection is None else paste_mask(detection, (64, 90), SIZE)
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


@pytest.mark.parametrize("transforms", [0, 3])
def test_steps_can_be_taken_in_parts(optimization: Optimization, video: Video, transforms: int) -> None:
    """A second pass with a larger T goes on from the first, whatever online adaptation did in between."""
    config = SegmentationConfig(transforms=transforms, online_interval=1, online_frames=1, online_steps=1)
    segmenter = OneShotSegmenter(optimization, config)
    adapted: dict[int, AdaptedObject] = {}
    few = _masks(segmenter, video, 1, adapted=adapted)
    kept = [value.clone() for value in adapted[3].fine_tuned]
    more = _masks(segmenter, video, 3, adapted=adapted)
    assert [own.steps for own in adapted.values()] == [3, 3]
    assert _equal(few, _masks(segmenter, video, 1))
    assert _equal(more, _masks(segmenter, video, 3))
    assert not _equal(kept, adapted[3].fine_tuned)
    assert all(own.fine_tuning_seconds > 0 and own.adaptation_seconds > 0 for own in adapted.values())


def test_every_object_has_a_model_of_its_own(optimization: Optimization, video: Video) -> None:
    """What is done for one object does not depend on the others, and the Optimization stays as it is."""
    before = {name: value.clone() for name, value in optimization.initialization.items()}
    segmenter = OneShotSegmenter(optimization)
    both = _adapted(segmenter, video, 2)
    alone = _adapted(segmenter, (video[0], video[1] * (video[1] == IDS[1])), 2)
    assert list(both) == list(IDS)
    assert _equal(_state({7: both[7]}), _state(alone))
    assert not _equal(_state({3: both[3]}), _state(alone))
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
        _state(_adapted(OneShotSegmenter(one), video, 2)) for one in (uneven, load(tmp_path / "file"), optimization)
    ]
    assert _equal(states[0], states[1])
    assert not _equal(states[0], states[2])


def test_transforms_are_drawn_anew_in_each_step(optimization: Optimization, video: Video) -> None:
    """As plain steps on the transformed frames, made here by the same draws."""
    config = replace(BARE, transforms=2)
    (own,) = _adapted(
        OneShotSegmenter(optimization, config, seed=5), (video[0], (video[1] == 7) * video[1]), 2
    ).values()
    frame = own.given[0]
    model, seen = optimization.model(), []
    for step in range(2):
        rng = Stream.TRANSFORMS.numpy(5, 7, step)
        drawn = [transform(frame, SPATIAL, rng) for _ in range(2)]
        seen += [one.image for one in drawn]
        assert all(one.image.shape == frame.image.shape for one in drawn)
        assert all(set(one.mask.unique().tolist()) == {0, 1} for one in drawn)
        batch = model.batch([one.image for one in drawn], [one.mask for one in drawn])
        fine_tune(model, batch, optimization.fine_tuning_rates(), [step], (5, 7))
    assert all(not torch.equal(a, b) for k, a in enumerate(seen) for b in [*seen[:k], frame.image])
    assert _equal(list(model.state_dict().values()), _state({7: own}))


def test_given_frames_are_learned_from_in_turn(optimization: Optimization, video: Video) -> None:
    """Also where a step takes one transform: of the first frame, then of the correction."""
    correction = torch.zeros(SIZE, dtype=torch.uint8)
    correction[5:30, 5:40] = 3
    adapted: dict[int, AdaptedObject] = {}
    segmenter = OneShotSegmenter(optimization, replace(BARE, transforms=1))
    list(segmenter.segment(video[0][:3], {0: (video[1] == 3) * video[1], 2: correction}, 2, adapted=adapted))
    own, model = adapted[3], optimization.model()
    for step, frame in enumerate(own.given):
        drawn = transform(frame, SPATIAL, Stream.TRANSFORMS.numpy(0, 3, step))
        fine_tune(model, model.batch([drawn.image], [drawn.mask]), optimization.fine_tuning_rates(), [step], (0, 3))
    assert _equal(list(model.state_dict().values()), _state(adapted))


class _Faked(OneShotSegmenter):
    """Segments with given probabilities: per position and object; keeps the boxes that it was given."""

    def __init__(
        self,
        optimization: Optimization,
        probabilities: dict[tuple[int, int], Tensor],
        config: SegmentationConfig = BARE,
    ) -> None:
        super().__init__(optimization, config)
        self.probabilities = probabilities
        self.boxes: list[Any] = []
        self.seen: list[tuple[int, int]] = []

    def predict(self, adapted: AdaptedObject, small: Tensor, size: tuple[int, int], position: int) -> Prediction:
        assert size == SIZE
        self.boxes.append(adapted.propagated_box)
        self.seen.append((position, adapted.id))
        return Prediction(self.probabilities[position, adapted.id])


def test_a_pixel_goes_to_the_largest_probability(optimization: Optimization, video: Video) -> None:
    pairs = torch.tensor(
        [[0.0, 0.0], [0.49, 0.2], [0.5, 0.1], [0.1, 0.5], [0.5, 0.49], [0.6, 0.7], [0.9, 0.8], [1.0, 0.0], [0.7, 0.7]]
    )
    expected = [0, 0, 3, 7, 3, 7, 3, 3, 3]
    maps = torch.zeros((2, *SIZE))
    maps[:, 10, : len(pairs)] = pairs.T
    faked = _Faked(optimization, {(1, 3): maps[0], (1, 7): maps[1]})
    mask = _masks(faked, (video[0][:2], video[1]), 0)[1]
    assert mask[10, : len(pairs)].tolist() == expected
    assert int(mask.count_nonzero()) == 7


def test_boxes_follow_the_last_mask(optimization: Optimization, video: Video) -> None:
    mask = torch.zeros(SIZE, dtype=torch.uint8)
    mask[20:60, 56:84] = 9
    moved, nothing = torch.zeros(SIZE), torch.full(SIZE, 0.49)
    moved[30:50, 56:84] = 0.5
    faked = _Faked(optimization, {(1, 9): moved, (2, 9): nothing, (3, 9): moved})
    _masks(faked, (video[0], mask), 0)
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
        faked = _Faked(optimization, maps, config)
        list(faked.segment([*video[0], video[0][0]], {0: mask}, 1))
        assert torch.equal(faked.boxes[0], faked.boxes[1])  # nothing was found: back to the given mask's
        for box in faked.boxes[2:]:
            assert (box is None) if expected is None else box.tolist() == pytest.approx(expected)
    without = _Faked(optimization, maps, replace(config, online_interval=0))
    list(without.segment([*video[0], video[0][0]], {0: mask}, 1))
    assert all(torch.equal(box, without.boxes[0]) for box in without.boxes)


def test_objects_enter_with_their_first_mask_and_never_before(optimization: Optimization, video: Video) -> None:
    frames, first = video
    everywhere = torch.ones(SIZE)
    masks = {1: (first == 7) * first, 2: (first == 3) * first}
    faked = _Faked(optimization, {(2, 7): everywhere * 0.6, (3, 7): everywhere * 0.6, (3, 3): everywhere * 0.9})
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
    faked = _Faked(optimization, {(p, i): probability * (i == 7) for p in range(1, 4) for i in IDS})
    adapted: dict[int, AdaptedObject] = {}
    result = list(faked.segment(frames, {0: first, 2: correction}, 1, adapted=adapted))
    assert faked.seen == [(1, 3), (1, 7), (2, 7), (3, 3), (3, 7)]
    assert torch.equal(result[2].mask, torch.where(correction > 0, 3, 7).to(torch.uint8))
    own = adapted[3]
    assert (own.start, own.steps, len(own.given)) == (2, 1, 2)
    assert [int(frame.mask.sum()) for frame in own.given] == [
        int(resize((mask == 3).to(torch.uint8), 64, 128).sum()) for mask in (first, correction)
    ]
    assert faked.boxes[3].tolist() == pytest.approx([5 * 90 / 112, 5 * 0.8, 40 * 90 / 112, 30 * 0.8], abs=1)
    model = optimization.model()  # fine-tuned anew, on both
    batch = model.batch([frame.image for frame in own.given], [frame.mask for frame in own.given])
    fine_tune(model, batch, optimization.fine_tuning_rates(), [0], (0, 3))
    assert _equal(list(model.state_dict().values()), _state({3: own}))


@pytest.mark.parametrize("box_propagation", [False, True])
def test_extra_proposals(
    optimization: Optimization, video: Video, monkeypatch: pytest.MonkeyPatch, box_propagation: bool
) -> None:
    segmenter = OneShotSegmenter(optimization, replace(BARE, box_propagation=box_propagation))
    seen: list[Tensor | None] = []
    monkeypatch.setattr(MaskRCNN, "detect", lambda self, image, extra: seen.append(extra))
    adapted: dict[int, AdaptedObject] = {}
    masks = _masks(segmenter, (video[0][:3], video[1]), 0, adapted=adapted)
    assert not torch.stack(masks[1:]).any()  # nothing detected
    assert len(seen) == 4
    if not box_propagation:
        assert seen == [None] * 4
        return
    for extra, own in zip(seen, list(adapted.values()) * 2, strict=True):
        assert extra is not None
        assert extra.shape == (optimization.config.proposals_test // 2, 4)
        assert own.start_box is not None
        widths, starts = extra - own.start_box, own.start_box
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


ONLINE = replace(BARE, online_interval=5, online_steps=2)


@pytest.mark.parametrize(("choice", "expected"), [("latest", [4, 5]), ("release", [2, 3])])
@pytest.mark.parametrize("reset", ["first_frame", "none", "initialization"])
def test_online_adaptation(
    optimization: Optimization, video: Video, choice: Any, expected: list[int], reset: Any
) -> None:
    """Before frame 6 = m of the video: the last two frames, or m - 4 and m - 3 as in the release (facts, section 4)."""
    config = replace(ONLINE, online_choice=choice, online_reset=reset)
    (own,) = _adapted(OneShotSegmenter(optimization, config), (video[0], (video[1] > 0).to(torch.uint8)), 1).values()
    mask = own.given[0].mask
    past = {p: LabelledFrame(own.given[0].image.roll(p, dims=2), mask.roll(p, dims=1)) for p in range(1, 6)}
    for position, frame in past.items():
        remember(own, frame.image, frame.mask, position, config)
    rates, initialization = optimization.fine_tuning_rates(), list(optimization.model().parameters())
    states = {"first_frame": own.fine_tuned, "none": list(own.model.parameters()), "initialization": initialization}
    model = optimization.model()
    load_parameters(model, states[reset])
    frames = [own.given[0], *(past[p] for p in expected)]
    batch = model.batch([frame.image for frame in frames], [frame.mask for frame in frames])
    fine_tune(model, batch, rates, range(2), Stream.ONLINE.ids(0, 1, 6))
    for position in (1, 3, 5, 7):  # none of these is due
        before = [value.clone() for value in own.model.parameters()]
        adapt_online(own, lambda: initialization, rates, position, config, 0)
        assert _equal(before, list(own.model.parameters()))
    adapt_online(own, lambda: initialization, rates, 6, config, 0)
    assert _equal(list(own.model.state_dict().values()), list(model.state_dict().values()))
    assert not _equal(own.fine_tuned, list(own.model.parameters()))


@pytest.mark.parametrize("choice", ["latest", "release"])
def test_no_more_frames_are_kept_than_learned_from(optimization: Optimization, video: Video, choice: Any) -> None:
    config = replace(ONLINE, online_interval=100, online_choice=choice)
    adapted: dict[int, AdaptedObject] = {}
    maps = {(position, 1): torch.ones(SIZE) for position in range(1, 8)}
    list(
        _Faked(optimization, maps, config).segment(
            [*video[0], *video[0]], {0: video[1].clamp(max=1)}, 0, adapted=adapted
        )
    )
    assert len(adapted[1].recent) == config.online_frames


def test_online_adaptation_takes_the_frames_that_were_segmented(optimization: Optimization, video: Video) -> None:
    """Frames without a pixel above the threshold are left out; where that is all, the state is the first frame's."""
    frames, first = [*video[0], *video[0]], (video[1] > 0).to(torch.uint8)
    low, high, nothing = torch.zeros(SIZE), torch.zeros(SIZE), torch.zeros(SIZE)
    low[20:50, 30:70], high[20:50, 30:70] = 0.6, 0.9
    config = replace(ONLINE, online_interval=2, online_threshold=0.7)
    states = []
    for second in (nothing, low, high):
        maps = {(p, 1): second if p == 2 else nothing for p in range(1, 4)}
        adapted: dict[int, AdaptedObject] = {}
        list(_Faked(optimization, maps, config).segment(frames[:4], {0: first}, 1, adapted=adapted))
        states.append(list(adapted[1].model.parameters()))
        assert _equal(adapted[1].fine_tuned, states[0])
    assert _equal(states[0], states[1])
    assert not _equal(states[0], states[2])


def test_an_interval_longer_than_the_clip_is_no_online_adaptation(optimization: Optimization, video: Video) -> None:
    without = list(OneShotSegmenter(optimization).segment(video[0], {0: video[1]}, 2))
    config = SegmentationConfig(online_interval=4, online_steps=3)
    assert _same(without, list(OneShotSegmenter(optimization, config).segment(video[0], {0: video[1]}, 2)))
    shorter = replace(config, online_interval=2)
    assert not _same(without, list(OneShotSegmenter(optimization, shorter).segment(video[0], {0: video[1]}, 2)))


def _same(a: list[SegmentedFrame], b: list[SegmentedFrame]) -> bool:
    return all(
        torch.equal(x.mask, y.mask) and x.boxes == y.boxes and x.scores == y.scores for x, y in zip(a, b, strict=True)
    )


def _a_step_takes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def step(*arguments: Any) -> Any:
        now[0] += 1
        return fine_tune(*arguments)

    monkeypatch.setattr(adaptation, "fine_tune", step)
    monkeypatch.setattr(adaptation.time, "perf_counter", lambda: now[0])


def test_a_time_budget_leaves_the_best_state(
    optimization: Optimization, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that a step moves by one second: three steps fit into 2.5; a bad rate makes the start the best.

    The steps are on transforms, the states are rated on the frame as it is.
    """
    config = replace(BARE, transforms=3)
    (own,) = _adapted(OneShotSegmenter(optimization, config), (video[0], (video[1] > 0).to(torch.uint8)), 0).values()
    _a_step_takes_a_second(monkeypatch)
    batch = own.model.batch([own.given[0].image], [own.given[0].mask])

    def loss() -> float:
        return float(own.model.loss(batch, Stream.STATE.torch(0, 1, 0)).detach())

    before = loss()
    rates = [rate * 0.1 for rate in optimization.fine_tuning_rates()]
    fine_tune_object(own, rates, 50, config, 0, 2.5)
    assert (own.steps, own.diverged) == (3, False)
    assert own.state > 0
    assert loss() < before
    plain = optimization.model()  # the state is the one after so many steps
    (other,) = _adapted(OneShotSegmenter(optimization, config), (video[0], (video[1] > 0).to(torch.uint8)), 0).values()
    other.model = plain
    fine_tune_object(other, rates, own.state, config, 0)
    state = [value.clone() for value in own.model.parameters()]
    assert _equal(state, list(plain.parameters()))
    huge, taken = [torch.full_like(value, 1e3) for value in own.model.parameters()], own.state
    fine_tune_object(own, huge, 50, config, 0, 1.5)
    assert (own.steps, own.state, own.diverged) == (5, taken, False)
    assert _equal(state, list(own.model.parameters()))


def test_objects_share_the_time_budget_of_a_mask(
    optimization: Optimization, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes a second: of 5 seconds the first object has two and a half, the second what is left at its turn."""
    _a_step_takes_a_second(monkeypatch)
    adapted: dict[int, AdaptedObject] = {}
    segmenter = OneShotSegmenter(optimization, BARE)
    list(segmenter.segment(video[0][:1], {0: video[1]}, 50, time_budget=5.0, adapted=adapted))
    assert [own.steps for own in adapted.values()] == [3, 2]


def test_an_online_adaptation_that_diverges_is_undone(optimization: Optimization, video: Video) -> None:
    config = replace(ONLINE, online_interval=2)
    (own,) = _adapted(OneShotSegmenter(optimization, config), (video[0], (video[1] > 0).to(torch.uint8)), 1).values()
    own.recent.extend(own.given * 2)
    infinite = [torch.full_like(value, torch.inf) for value in own.model.parameters()]
    adapt_online(own, lambda: [], infinite, 3, config, 0)
    assert (own.diverged_adaptations, own.diverged) == (1, False)
    assert _equal(own.fine_tuned, list(own.model.parameters()))


def test_an_object_too_small_for_the_input_keeps_what_it_touches(optimization: Optimization) -> None:
    large = torch.zeros((3, 640, 640), dtype=torch.uint8)
    sliver = torch.zeros((640, 640), dtype=torch.uint8)
    sliver[100:200, 1] = 4
    (own,) = _adapted(OneShotSegmenter(optimization), ([large], sliver), 0).values()
    assert own.given[0].mask.nonzero().tolist() == [[row, 0] for row in range(10, 20)]


def test_corrections_keep_the_times_of_what_went_before(optimization: Optimization, video: Video) -> None:
    adapted: dict[int, AdaptedObject] = {}
    segmenter = OneShotSegmenter(optimization, SegmentationConfig(online_interval=1, online_frames=1, online_steps=1))
    seconds = []
    for _ in segmenter.segment(video[0], {0: video[1], 3: video[1]}, 1, adapted=adapted):
        own = adapted[3]
        seconds.append((own.fine_tuning_seconds, own.adaptation_seconds, own.segmentation_seconds))
    assert seconds[3][0] > seconds[2][0] > 0
    assert seconds[3][1:] == seconds[2][1:] > (0, 0)


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


@pytest.mark.parametrize("T", [1, 2, 5])
def test_an_infinite_learning_rate_is_an_error(optimization: Optimization, video: Video, T: int) -> None:
    infinite = optimization.with_single_rate(float("inf"))
    with pytest.raises(FloatingPointError, match="object 3"):
        _masks(OneShotSegmenter(infinite), video, T)


def test_an_object_that_diverges_leaves_the_others_alone(optimization: Optimization, video: Video) -> None:
    """Object 7 has a parameter that is not a number."""
    kept = _adapted(OneShotSegmenter(optimization), video, 1)
    with torch.no_grad():
        next(kept[7].model.parameters()).fill_(torch.nan)
    masks = _masks(OneShotSegmenter(optimization), video, 3, adapted=kept, keep_going=True)
    assert (kept[7].diverged, kept[3].diverged) == (True, False)
    assert (kept[7].steps, kept[3].steps) == (1, 3)
    assert any(bool(mask.any()) for mask in masks[1:])
    alone = _masks(OneShotSegmenter(optimization), (video[0], video[1] * (video[1] == 3)), 3)
    assert _equal(masks[1:], alone[1:])


def test_a_parent_needs_a_rate(optimization: Optimization, video: Video) -> None:
    parent = replace(optimization, rates=None)
    with pytest.raises(BadInput, match="--learning-rate"):
        _masks(OneShotSegmenter(parent), video, 1)
    assert len(_masks(OneShotSegmenter(parent), video, 0)) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"transforms": -1}, "^transforms: must be at least 0, got -1"),
        ({"online_steps": 0}, "^online_steps: must be at least 1"),
        ({"online_interval": 1}, "^online_frames: an interval of 1 frames does not hold 2"),
        ({"online_interval": 2, "online_choice": "release"}, "besides the first one"),
        ({"online_threshold": 1.0}, "^online_threshold: must be above 0 and below 1"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationConfig(**values)


def test_input_size_of_the_videos_here(micro: ModelConfig) -> None:
    assert input_size(SIZE, micro.short_side, micro.long_side) == (64, 90)

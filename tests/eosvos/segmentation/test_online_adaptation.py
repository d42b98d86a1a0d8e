"""Online adaptation: when it is due, what it learns from, where it starts."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from eosvos.data.sequence import VOID
from eosvos.data.views import tight_box
from eosvos.data.warps import LabelledFrame
from eosvos.draws import Stream, generator
from eosvos.learning.inner_loop import fine_tune, load_parameters
from eosvos.learning.optimization import Optimization
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.merging import SegmentedFrame
from eosvos.segmentation.one_shot import OneShotSegmenter
from eosvos.segmentation.online import adapt_online, online_mask, remember
from tests.eosvos.segmentation.objects import BARE, SIZE, FakedSegmenter, Video, adapt, all_equal

ONLINE = replace(BARE, online_interval=5, online_steps=2)


@pytest.mark.parametrize(("choice", "expected"), [("latest", [4, 5]), ("release", [2, 3])])
@pytest.mark.parametrize("reset", ["first_frame", "none", "initialization"])
def test_online_adaptation(
    optimization: Optimization, video: Video, choice: Any, expected: list[int], reset: Any
) -> None:
    """Before frame 6 = m of the video: the last two frames, or m - 4 and m - 3 as in the release."""
    config = replace(ONLINE, online_choice=choice, online_reset=reset)
    (target,) = adapt(OneShotSegmenter(optimization, config), (video[0], (video[1] > 0).to(torch.uint8)), 1).values()
    mask = target.given[0].mask
    past = {p: LabelledFrame(target.given[0].image.roll(p, dims=2), mask.roll(p, dims=1)) for p in range(1, 6)}
    for position, frame in past.items():
        remember(target, frame.image, frame.mask, position, config)
    rates, initialization = optimization.fine_tuning_rates(), list(optimization.model().parameters())
    states = {
        "first_frame": target.fine_tuned,
        "none": list(target.model.parameters()),
        "initialization": initialization,
    }
    model = optimization.model()
    load_parameters(model, states[reset])
    frames = [target.given[0], *(past[p] for p in expected)]
    batch = model.batch([frame.image for frame in frames], [frame.mask for frame in frames])
    fine_tune(model, batch, rates, range(2), Stream.ONLINE.ids(0, 1, 6))
    for position in (1, 3, 5, 7):  # none of these is due
        before = [value.clone() for value in target.model.parameters()]
        adapt_online(target, lambda: initialization, rates, position, config, 0)
        assert all_equal(before, list(target.model.parameters()))
    adapt_online(target, lambda: initialization, rates, 6, config, 0)
    assert all_equal(list(target.model.state_dict().values()), list(model.state_dict().values()))
    assert not all_equal(target.fine_tuned, list(target.model.parameters()))


@pytest.mark.parametrize("choice", ["latest", "release"])
def test_no_more_frames_are_remembered_than_learned_from(optimization: Optimization, video: Video, choice: Any) -> None:
    config = replace(ONLINE, online_interval=100, online_choice=choice)
    adapted: dict[int, AdaptedObject] = {}
    maps = {(position, 1): torch.ones(SIZE) for position in range(1, 8)}
    list(
        FakedSegmenter(optimization, maps, config).segment(
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
        list(FakedSegmenter(optimization, maps, config).segment(frames[:4], {0: first}, 1, adapted=adapted))
        states.append(list(adapted[1].model.parameters()))
        assert all_equal(adapted[1].fine_tuned, states[0])
    assert all_equal(states[0], states[1])
    assert not all_equal(states[0], states[2])


def test_what_is_neither_clearly_object_nor_background_is_void() -> None:
    probability = torch.tensor([[0.0, 0.19, 0.2, 0.49, 0.5, 0.69, 0.7, 1.0]])
    masks = {
        config: online_mask(probability, config).tolist()
        for config in (ONLINE, replace(ONLINE, online_void=0.2), replace(ONLINE, online_void=0.2, online_threshold=0.7))
    }
    assert list(masks.values()) == [
        [[0, 0, 0, 0, 1, 1, 1, 1]],
        [[0, 0, VOID, VOID, 1, 1, 1, 1]],
        [[0, 0, VOID, VOID, VOID, VOID, 1, 1]],
    ]


def test_doubtful_pixels_of_past_frames_are_ignored(optimization: Optimization, video: Video) -> None:
    """They are void at the model's input size, the box is of the sure pixels, and a frame without any is left out."""
    first, nothing = (video[1] > 0).to(torch.uint8), torch.zeros(SIZE)
    doubtful, sure = nothing.clone(), nothing.clone()
    doubtful[10:60, 20:90] = sure[10:60, 20:90] = 0.3
    sure[20:50, 30:70] = 0.9
    config = replace(ONLINE, online_void=0.2)
    adapted: dict[int, AdaptedObject] = {}
    maps = {(1, 1): doubtful, (2, 1): sure, (3, 1): sure}
    list(FakedSegmenter(optimization, maps, config).segment(video[0], {0: first}, 0, adapted=adapted))
    frame = adapted[1].recent[-1]
    assert frame is not None
    assert set(frame.mask.unique().tolist()) == {0, 1, VOID}
    assert (frame.mask == VOID).sum() > frame.shown.sum()
    (target,) = optimization.model().batch([frame.image], [frame.mask]).targets
    box = tight_box(frame.shown)
    assert box is not None
    assert torch.equal(target["boxes"], box[None])
    assert torch.equal(target["masks"][0, : frame.mask.shape[0], : frame.mask.shape[1]], frame.mask)
    maps = dict.fromkeys(maps, doubtful)
    list(FakedSegmenter(optimization, maps, config).segment(video[0], {0: first}, 0, adapted=adapted))
    assert list(adapted[1].recent) == [None, None]


@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_the_first_frame_may_weigh_more(optimization: Optimization, video: Video, weight: float) -> None:
    """A step is that of automatic differentiation on the mean of the frames, in which the first counts so often."""
    config = replace(ONLINE, online_interval=2, online_steps=1, online_first_weight=weight)
    (target,) = adapt(OneShotSegmenter(optimization, config), (video[0], (video[1] > 0).to(torch.uint8)), 1).values()
    (given,), rates = target.given, optimization.fine_tuning_rates()
    recent = [LabelledFrame(given.image.roll(p, dims=2), given.mask.roll(p, dims=1)) for p in (5, 9)]
    target.recent.extend(recent)
    model = optimization.model()
    load_parameters(model, target.fine_tuned)
    draws = generator(*Stream.ONLINE.ids(0, 1, 3), 0)
    of_given = model.loss(model.batch([given.image], [given.mask]), draws)
    of_recent = model.loss(model.batch([one.image for one in recent], [one.mask for one in recent]), draws)
    ((weight * of_given + 2 * of_recent) / (weight + 2)).backward()
    adapt_online(target, lambda: [], rates, 3, config, 0)
    for adapted, start, rate in zip(target.model.parameters(), model.parameters(), rates, strict=True):
        assert start.grad is not None
        torch.testing.assert_close(adapted, (start - rate * start.grad).detach(), rtol=1e-5, atol=1e-7)
    assert not all_equal(target.fine_tuned, list(target.model.parameters()))


def test_where_the_object_is_in_no_recent_frame_the_release_learns_from_the_first_alone(
    optimization: Optimization, video: Video
) -> None:
    frames, first, nothing = [*video[0], *video[0]], (video[1] > 0).to(torch.uint8), torch.zeros(SIZE)
    config = replace(ONLINE, online_interval=3, online_choice="release")
    adapted: dict[int, AdaptedObject] = {}
    maps = {(position, 1): nothing for position in range(1, 5)}
    list(FakedSegmenter(optimization, maps, config).segment(frames[:5], {0: first}, 1, adapted=adapted))
    model, target = optimization.model(), adapted[1]
    load_parameters(model, target.fine_tuned)
    (given,) = target.given
    draws = Stream.ONLINE.ids(0, 1, 4)
    fine_tune(model, model.batch([given.image], [given.mask]), optimization.fine_tuning_rates(), range(2), draws)
    assert all_equal(list(model.parameters()), list(target.model.parameters()))
    assert not all_equal(target.fine_tuned, list(target.model.parameters()))


def test_an_interval_longer_than_the_clip_is_no_online_adaptation(optimization: Optimization, video: Video) -> None:
    without = list(OneShotSegmenter(optimization, SegmentationConfig()).segment(video[0], {0: video[1]}, 2))
    config = SegmentationConfig(online_interval=4, online_steps=3)
    assert _same(without, list(OneShotSegmenter(optimization, config).segment(video[0], {0: video[1]}, 2)))
    shorter = replace(config, online_interval=2)
    assert not _same(without, list(OneShotSegmenter(optimization, shorter).segment(video[0], {0: video[1]}, 2)))


def _same(a: list[SegmentedFrame], b: list[SegmentedFrame]) -> bool:
    return all(
        torch.equal(x.mask, y.mask) and x.boxes == y.boxes and x.scores == y.scores for x, y in zip(a, b, strict=True)
    )


def test_an_online_adaptation_that_diverges_is_taken_back(optimization: Optimization, video: Video) -> None:
    config = replace(ONLINE, online_interval=2)
    (target,) = adapt(OneShotSegmenter(optimization, config), (video[0], (video[1] > 0).to(torch.uint8)), 1).values()
    target.recent.extend(target.given * 2)
    infinite = [torch.full_like(value, torch.inf) for value in target.model.parameters()]
    adapt_online(target, lambda: [], infinite, 3, config, 0)
    assert (target.diverged_adaptations, target.diverged) == (1, False)
    assert all_equal(target.fine_tuned, list(target.model.parameters()))


@pytest.mark.parametrize(("least", "learned"), [(0.0, [True, True, True]), (0.5, [True, False, True])])
def test_a_frame_off_the_path_is_not_learned_from(
    optimization: Optimization, video: Video, least: float, learned: list[bool]
) -> None:
    """The second mask is elsewhere; the third goes on from there."""
    first = torch.zeros(SIZE, dtype=torch.uint8)
    first[20:40, 20:40] = 9
    maps = {(position, 9): torch.zeros(SIZE) for position in (1, 2, 3)}
    maps[1, 9][22:42, 22:42] = 1
    maps[2, 9][50:70, 80:100] = 1
    maps[3, 9][52:72, 80:100] = 1
    config = replace(ONLINE, online_interval=5, online_frames=3, online_path=least)
    adapted: dict[int, AdaptedObject] = {}
    list(FakedSegmenter(optimization, maps, config).segment(video[0][:4], {0: first}, 0, adapted=adapted))
    assert [frame is not None for frame in adapted[9].recent] == learned

"""Fine-tuning of each object: transforms, parts, time budgets, divergence."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from eosvos.data.augment import transform
from eosvos.data.config import SPATIAL
from eosvos.draws import Stream
from eosvos.errors import BadInput
from eosvos.learning.inner_loop import fine_tune
from eosvos.learning.optimization import Optimization
from eosvos.segmentation import adaptation
from eosvos.segmentation.adaptation import AdaptedObject, fine_tune_object
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.one_shot import OneShotSegmenter
from tests.eosvos.segmentation.objects import BARE, Video, adapt, all_equal, model_state, segment_masks


@pytest.mark.parametrize("transforms", [0, 3])
def test_steps_can_be_taken_in_parts(optimization: Optimization, video: Video, transforms: int) -> None:
    """A second pass with a larger T goes on from the first, whatever online adaptation did in between."""
    config = SegmentationConfig(transforms=transforms, online_interval=1, online_frames=1, online_steps=1)
    segmenter = OneShotSegmenter(optimization, config)
    adapted: dict[int, AdaptedObject] = {}
    few = segment_masks(segmenter, video, 1, adapted=adapted)
    before = [value.clone() for value in adapted[3].fine_tuned]
    more = segment_masks(segmenter, video, 3, adapted=adapted)
    assert [target.steps for target in adapted.values()] == [3, 3]
    assert all_equal(few, segment_masks(segmenter, video, 1))
    assert all_equal(more, segment_masks(segmenter, video, 3))
    assert not all_equal(before, adapted[3].fine_tuned)
    assert all(target.fine_tuning_seconds > 0 and target.adaptation_seconds > 0 for target in adapted.values())


def test_transforms_are_drawn_anew_in_each_step(optimization: Optimization, video: Video) -> None:
    """As plain steps on the transformed frames, made here by the same draws."""
    config = replace(BARE, transforms=2)
    segmenter = OneShotSegmenter(optimization, config, seed=5)
    (target,) = adapt(segmenter, (video[0], (video[1] == 7) * video[1]), 2).values()
    frame = target.given[0]
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
    assert all_equal(list(model.state_dict().values()), model_state({7: target}))


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
    (target,) = adapt(OneShotSegmenter(optimization, config), (video[0], (video[1] > 0).to(torch.uint8)), 0).values()
    _a_step_takes_a_second(monkeypatch)
    batch = target.model.batch([target.given[0].image], [target.given[0].mask])

    def loss() -> float:
        return float(target.model.loss(batch, Stream.STATE.torch(0, 1, 0)).detach())

    before = loss()
    rates = [rate * 0.1 for rate in optimization.fine_tuning_rates()]
    fine_tune_object(target, rates, 50, config, 0, 2.5)
    assert (target.steps, target.diverged) == (3, False)
    assert target.state > 0
    assert loss() < before
    plain = optimization.model()  # the state is the one after so many steps
    (other,) = adapt(OneShotSegmenter(optimization, config), (video[0], (video[1] > 0).to(torch.uint8)), 0).values()
    other.model = plain
    fine_tune_object(other, rates, target.state, config, 0)
    state = [value.clone() for value in target.model.parameters()]
    assert all_equal(state, list(plain.parameters()))
    huge, taken = [torch.full_like(value, 1e3) for value in target.model.parameters()], target.state
    fine_tune_object(target, huge, 50, config, 0, 1.5)
    assert (target.steps, target.state, target.diverged) == (5, taken, False)
    assert all_equal(state, list(target.model.parameters()))


def test_objects_share_the_time_budget_of_a_mask(
    optimization: Optimization, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes a second: of 5 seconds the first object has two and a half, the second what is left at its turn."""
    _a_step_takes_a_second(monkeypatch)
    adapted: dict[int, AdaptedObject] = {}
    segmenter = OneShotSegmenter(optimization, BARE)
    list(segmenter.segment(video[0][:1], {0: video[1]}, 50, time_budget=5.0, adapted=adapted))
    assert [target.steps for target in adapted.values()] == [3, 2]


@pytest.mark.parametrize("T", [1, 2, 5])
def test_an_infinite_learning_rate_is_an_error(optimization: Optimization, video: Video, T: int) -> None:
    infinite = optimization.with_single_rate(float("inf"))
    with pytest.raises(FloatingPointError, match="object 3"):
        segment_masks(OneShotSegmenter(infinite), video, T)


def test_an_object_that_diverges_leaves_the_others_alone(optimization: Optimization, video: Video) -> None:
    """Object 7 has a parameter that is not a number."""
    config = SegmentationConfig()
    adapted = adapt(OneShotSegmenter(optimization, config), video, 1)
    with torch.no_grad():
        next(adapted[7].model.parameters()).fill_(torch.nan)
    masks = segment_masks(OneShotSegmenter(optimization, config), video, 3, adapted=adapted, keep_going=True)
    assert (adapted[7].diverged, adapted[3].diverged) == (True, False)
    assert (adapted[7].steps, adapted[3].steps) == (1, 3)
    assert any(bool(mask.any()) for mask in masks[1:])
    alone = segment_masks(OneShotSegmenter(optimization, config), (video[0], video[1] * (video[1] == 3)), 3)
    assert all_equal(masks[1:], alone[1:])


def test_a_parent_needs_a_rate(optimization: Optimization, video: Video) -> None:
    parent = replace(optimization, rates=None)
    with pytest.raises(BadInput, match="--learning-rate"):
        segment_masks(OneShotSegmenter(parent), video, 1)
    assert len(segment_masks(OneShotSegmenter(parent), video, 0)) == 4

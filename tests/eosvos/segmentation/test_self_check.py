"""After fine-tuning an object is found in its own first frame, by a later state or by an earlier one."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from eosvos.learning.optimization import Optimization
from eosvos.model.roi_heads import PASTINGS
from eosvos.segmentation import self_check
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.one_shot import OneShotSegmenter
from tests.eosvos.segmentation.objects import BARE, Video, adapt, all_equal

CHECKED = replace(BARE, self_check=0.5)


@pytest.fixture
def one(video: Video) -> Video:
    """With a single object."""
    frames, first = video
    return frames, (first > 0).to(torch.uint8)


def _parameters(adapted: AdaptedObject) -> list[Tensor]:
    return [parameter.detach() for parameter in adapted.model.parameters()]


def _after(optimization: Optimization, video: Video, T: int, config: SegmentationConfig = BARE) -> AdaptedObject:
    return adapt(OneShotSegmenter(optimization, config), video, T)[1]


@pytest.fixture
def overlaps(monkeypatch: pytest.MonkeyPatch, optimization: Optimization, one: Video) -> dict[int, float]:
    """Number of steps -> overlap that the check finds after so many; the states are told by their parameters."""
    known = [_parameters(_after(optimization, one, T)) for T in range(17)]
    given: dict[int, float] = {}

    def overlap(adapted: AdaptedObject, config: SegmentationConfig) -> float:
        (steps,) = (T for T, state in enumerate(known) if all_equal(state, _parameters(adapted)))
        return given.get(steps, 0.0)

    monkeypatch.setattr(self_check, "_overlap", overlap)
    return given


@pytest.mark.parametrize(
    ("found", "state"),
    [
        ({3: 0.8}, 3),  # as it is
        ({3: 0.4, 4: 0.1, 5: 0.6, 6: 0.9}, 5),  # the first later one that is right
        ({3: 0.1, 1: 0.3, 9: 0.2}, 1),  # none is: the best of all
        ({0: 0.6, 2: 0.55}, 0),
        ({}, 3),
    ],
)
def test_the_state_that_is_taken(
    optimization: Optimization, one: Video, overlaps: dict[int, float], found: dict[int, float], state: int
) -> None:
    overlaps.update(found)
    adapted = _after(optimization, one, 3, CHECKED)
    assert (adapted.steps, adapted.state) == (3, state)
    assert adapted.overlap == found.get(state, 0.0)
    assert all_equal(_parameters(adapted), _parameters(_after(optimization, one, state)))


def test_a_larger_number_goes_on_from_the_steps_and_not_from_the_state(
    optimization: Optimization, one: Video, overlaps: dict[int, float]
) -> None:
    overlaps.update({1: 0.8, 5: 0.7})
    segmenter = OneShotSegmenter(optimization, replace(CHECKED, online_interval=3))
    adapted: dict[int, AdaptedObject] = {}
    for T, state in ((2, 5), (3, 5), (5, 5), (6, 1)):
        list(segmenter.segment(one[0][:1], {0: one[1]}, T, adapted=adapted))
        assert (adapted[1].steps, adapted[1].state) == (T, state)
        expected = _parameters(_after(optimization, one, state))
        assert all_equal(_parameters(adapted[1]), expected)
        assert all_equal(adapted[1].fine_tuned, expected)


def test_without_steps_and_unasked_nothing_is_checked(
    optimization: Optimization, one: Video, overlaps: dict[int, float]
) -> None:
    assert _after(optimization, one, 0, CHECKED).overlap is None
    assert _after(optimization, one, 2).overlap is None


def test_a_time_budget_is_kept(optimization: Optimization, one: Video, overlaps: dict[int, float]) -> None:
    adapted: dict[int, AdaptedObject] = {}
    segmenter = OneShotSegmenter(optimization, CHECKED)
    list(segmenter.segment(one[0][:1], {0: one[1]}, 2, time_budget=1000, adapted=adapted))
    assert (adapted[1].steps, adapted[1].overlap) == (2, None)


def test_the_overlap_is_that_of_what_is_segmented(optimization: Optimization, one: Video) -> None:
    """In the given frame itself, at the model's size."""
    adapted = _after(optimization, one, 2, replace(BARE, self_check=0.001))
    (detection,) = adapted.model.detect(adapted.given[0].image)
    size = adapted.view.size
    mask = PASTINGS["exact"](detection, size, size) >= 0.5
    shown = adapted.given[0].shown
    assert adapted.overlap == pytest.approx(float((mask & shown).sum() / (mask | shown).sum()))
    assert adapted.overlap > 0

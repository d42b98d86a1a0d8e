"""Which detection each object takes, and to whom pixels go."""

import pytest
import torch
from torch import Tensor

from eosvos.data.config import ViewConfig
from eosvos.data.views import View, around, whole
from eosvos.learning.optimization import Optimization
from eosvos.model.roi_heads import Detection
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.following import Found, chosen
from eosvos.segmentation.merging import Prediction, merge
from eosvos.segmentation.one_shot import Frame, OneShotSegmenter
from tests.eosvos.segmentation.objects import IDS, SIZE, Video, adapt

FRAME = (80, 120)
VIEW = whole(FRAME, (40, 60))
LEFT, RIGHT, MIDDLE = (10.0, 20.0, 40.0, 60.0), (70.0, 20.0, 100.0, 60.0), (14.0, 20.0, 44.0, 60.0)


def _found(*detections: tuple[tuple[float, ...], float], view: View = VIEW) -> Found:
    """Boxes in pixels of the frame, and ranks."""
    boxes = [view.box_inside(torch.tensor(box)) for box, _ in detections]
    logits = torch.zeros(4, 4)
    return Found(
        view, [Detection(box, 0.9, rank, logits, box) for box, (_, rank) in zip(boxes, detections, strict=True)]
    )


def test_two_in_one_place_are_told_apart_by_who_is_surer() -> None:
    found = {1: _found((LEFT, 0.8), (RIGHT, 0.5)), 2: _found((LEFT, 0.9), (RIGHT, 0.7)), 3: _found()}
    assert chosen(found, 0.0) == {1: 0, 2: 0}
    assert chosen(found, 0.7) == {1: 1, 2: 0}


def test_one_without_another_place_stays() -> None:
    """Objects occlude each other: to lose one for it costs more than it brings."""
    found = {1: _found((LEFT, 0.8)), 2: _found((LEFT, 0.9)), 4: _found((LEFT, 0.7), (MIDDLE, 0.6))}
    assert chosen(found, 0.7) == {1: 0, 2: 0, 4: 0}


def test_how_much_of_an_overlap_is_one_place() -> None:
    found = {1: _found((LEFT, 0.9)), 2: _found((MIDDLE, 0.8), (RIGHT, 0.7))}  # 26 of 34 columns
    assert chosen(found, 0.76) == {1: 0, 2: 1}
    assert chosen(found, 0.77) == {1: 0, 2: 0}


@pytest.mark.parametrize("shape", ["frame", "square"])
def test_each_looks_at_a_view_of_its_own(shape: str) -> None:
    view = around(torch.tensor(LEFT), FRAME, (40, 60), ViewConfig(1.2, shape=shape))  # type: ignore[arg-type]
    assert not view.is_whole
    found = {1: _found((LEFT, 0.9), view=view), 2: _found((LEFT, 0.8), (RIGHT, 0.7))}
    assert chosen(found, 0.9) == {1: 0, 2: 1}


def test_an_object_that_is_lost_for_ever(optimization: Optimization, video: Video) -> None:
    """Its view grows until it is the whole frame, and no further."""
    segmenter = OneShotSegmenter(optimization, SegmentationConfig(view=1.2))
    adapted = adapt(segmenter, (video[0], (video[1] == IDS[0]).to(torch.uint8)), 0)[1]
    adapted.lost = 1_000_000
    frame = Frame(video[0][0], whole(SIZE, (64, 128)))
    assert segmenter.find(adapted, frame, 1).view.is_whole


def _merged(by_score: bool, *predictions: tuple[float, float]) -> Tensor:
    """Ids of one pixel, of objects 1, 2, ... with probability and score."""
    box = torch.tensor(LEFT)
    given = [(number, Prediction(torch.full((1, 1), p), box, s)) for number, (p, s) in enumerate(predictions, 1)]
    return merge(given, (1, 1), by_score).mask


def test_a_pixel_goes_by_probability_or_by_score_too() -> None:
    assert _merged(False, (0.9, 0.4), (0.8, 0.9)).item() == 1
    assert _merged(True, (0.9, 0.4), (0.8, 0.9)).item() == 2
    for by_score in (False, True):
        assert _merged(by_score, (0.5, 0.3)).item() == 1  # whatever the score
        assert _merged(by_score, (0.49, 1.0)).item() == 0
        assert _merged(by_score, (0.8, 0.6), (0.8, 0.6)).item() == 1


def test_a_given_mask_wins_by_score_too() -> None:
    given = Prediction(torch.full((1, 1), 2.0))
    seen = Prediction(torch.full((1, 1), 1.0), torch.tensor(LEFT), 1.0)
    assert merge([(1, seen), (2, given)], (1, 1), by_score=True).mask.item() == 2

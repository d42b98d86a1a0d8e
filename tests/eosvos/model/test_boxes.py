"""Boxes: jitter goes outwards, by a tenth at most."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eosvos.model.boxes import jittered_boxes


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

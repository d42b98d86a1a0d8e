"""J and F against the definition written out pixel by pixel, on masks of any shape."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eosvos.metrics import measures
from eosvos.metrics.measures import boundary_f, jaccard, jaccard_and_boundary_f, statistics

Mask = np.ndarray


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[Mask, Mask]:
    """Two masks of one shape: noise, a rectangle at any border, one pixel, empty or full."""
    shape = draw(st.tuples(st.integers(1, 19), st.integers(1, 23)))

    def mask() -> Mask:
        kind = draw(st.sampled_from(["noise", "rectangle", "pixel", "empty", "full"]))
        if kind == "noise":
            return draw(hnp.arrays(np.bool_, shape))
        result = np.full(shape, kind == "full")
        if kind in ("rectangle", "pixel"):
            top, left = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
            bottom = draw(st.integers(top, shape[0] - 1)) if kind == "rectangle" else top
            right = draw(st.integers(left, shape[1] - 1)) if kind == "rectangle" else left
            result[top : bottom + 1, left : right + 1] = True
        return result

    return mask(), mask()


def slow_jaccard(prediction: Mask, truth: Mask) -> float:
    pixels = list(zip(prediction.flat, truth.flat, strict=True))
    union = sum(p or t for p, t in pixels)
    return sum(p and t for p, t in pixels) / union if union else 1.0


def slow_boundary(mask: Mask) -> list[tuple[int, int]]:
    """The definition: differs from east, south or south-east; at the last row and column the neighbour is itself."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            down, right = min(y + 1, height - 1), min(x + 1, width - 1)
            if y == height - 1 or x == width - 1:
                differs = mask[y, x] != mask[y, right] or mask[y, x] != mask[down, x]
            else:
                differs = any(mask[y, x] != mask[v, u] for v, u in ((y, right), (down, x), (down, right)))
            if differs:
                found.append((y, x))
    return found


def slow_boundary_f(prediction: Mask, truth: Mask, bound: float) -> float:
    radius = math.ceil(bound * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))

    def share_near(points: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        near = sum(any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points)
        return near / len(points)

    predicted, true = slow_boundary(prediction), slow_boundary(truth)
    if not predicted and not true:
        precision, recall = 1.0, 1.0
    elif not predicted:
        precision, recall = 1.0, 0.0
    elif not true:
        precision, recall = 0.0, 1.0
    else:
        precision, recall = share_near(predicted, true), share_near(true, predicted)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@given(mask_pairs())
@settings(deadline=None, max_examples=150)
def test_jaccard_is_the_definition(masks: tuple[Mask, Mask]) -> None:
    assert jaccard(*masks) == pytest.approx(slow_jaccard(*masks), abs=1e-12)


# Small masks have a radius of 1 at the evaluator's bound; wider ones try the disks of large frames.
@given(masks=mask_pairs(), bound=st.sampled_from([0.008, 0.08, 0.16, 0.3, 1.1]))
@settings(deadline=None, max_examples=200)
def test_boundary_f_is_the_definition(masks: tuple[Mask, Mask], bound: float) -> None:
    usual = measures.BOUND
    measures.BOUND = bound
    try:
        assert boundary_f(*masks) == pytest.approx(slow_boundary_f(*masks, bound), abs=1e-12)
        assert jaccard_and_boundary_f(*masks) == (jaccard(*masks), boundary_f(*masks))
    finally:
        measures.BOUND = usual


@pytest.mark.parametrize("radius", [1, 2, 8, 9, 12])
def test_the_disk_of_video_sizes_is_exact(radius: int) -> None:
    point = np.zeros((41, 35), dtype=np.bool_)
    point[17, 20] = True
    stride = 48  # 35 columns and at least a radius of zeros
    dilated = measures._dilate(measures._pack(point, stride), radius, stride)
    bits = np.unpackbits(np.frombuffer(dilated.to_bytes(41 * stride // 8), dtype=np.uint8)).reshape(41, stride)
    y, x = np.mgrid[:41, :35]
    assert np.array_equal(bits[:, :35], (y - 17) ** 2 + (x - 20) ** 2 <= radius**2)


def test_empty_masks() -> None:
    empty, full = np.zeros((20, 30), dtype=np.bool_), np.ones((20, 30), dtype=np.bool_)
    square = empty.copy()
    square[5:9, 6:11] = True
    assert (jaccard(empty, empty), boundary_f(empty, empty)) == (1.0, 1.0)
    assert (jaccard(empty, square), boundary_f(empty, square)) == (0.0, 0.0)
    assert (jaccard(square, empty), boundary_f(square, empty)) == (0.0, 0.0)
    assert (jaccard(full, empty), boundary_f(full, empty)) == (0.0, 1.0)  # neither has a boundary


def test_other_arrays_are_refused() -> None:
    mask = np.zeros((4, 5), dtype=np.bool_)
    for measure in (jaccard, boundary_f):
        with pytest.raises(ValueError, match="prediction: type uint8"):
            measure(mask.astype(np.uint8), mask)
        with pytest.raises(ValueError, match="truth: type bool, shape"):
            measure(mask, mask[None])
        with pytest.raises(ValueError, match="must agree"):
            measure(mask, mask.T)


def test_statistics_by_hand() -> None:
    result = statistics([1.0, 0.5, 0.75, 0.25, 0.0])
    assert result.mean == 0.5
    assert result.recall == 0.4  # 0.5 itself is not above 0.5
    assert result.decay == 0.75 - 0.125  # borders 0 1 2 3 4: frames 0, 1 against frames 3, 4
    assert statistics([0.7]).decay == 0.0
    with pytest.raises(ValueError, match="no values"):
        statistics([])


def test_decay_of_long_sequences_does_not_wrap() -> None:
    """A ramp from 1 to 0 over 400 frames: 0.749, where the evaluator's uint8 gives 0.108."""
    assert statistics(np.linspace(1, 0, 400).tolist()).decay == pytest.approx(0.749, abs=5e-4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=900))
def test_statistics_are_the_definition(values: list[float]) -> None:
    n = len(values)
    borders = [math.floor(1 + i * (n - 1) / 4 + 0.5 + 1e-9) - 1 for i in range(5)]
    first, last = values[borders[0] : borders[1] + 1], values[borders[3] : borders[4] + 1]
    result = statistics(values)
    assert result.mean == pytest.approx(sum(values) / n, abs=1e-9)
    assert result.recall == pytest.approx(sum(v > 0.5 for v in values) / n, abs=1e-9)
    assert result.decay == pytest.approx(sum(first) / len(first) - sum(last) / len(last), abs=1e-9)

"""J and F of one object in one frame, and the three statistics of a sequence, as the DAVIS evaluator defines them.

Source of every definition: davisvideochallenge/davis2017-evaluation at ac7c43f, ``davis2017/metrics.py`` and
``davis2017/utils.py``. Names are those of Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video
Object Segmentation", CVPR 2016.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

BOUND = 0.008
"""The boundary's tolerance as a share of the image's diagonal."""


def jaccard(prediction: Mask, truth: Mask) -> float:
    """Region similarity J: intersection over union, 1 where both masks are empty (``db_eval_iou``).

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        J in [0, 1].

    Raises:
        ValueError: not two boolean arrays of one shape (H, W).
    """
    _check(prediction, truth)
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else 1.0


def jaccard_and_boundary_f(prediction: Mask, truth: Mask) -> tuple[float, float]:
    """``jaccard`` and ``boundary_f``, faster: both look at nothing but the part of the frame that holds the masks."""
    _check(prediction, truth)
    window = _window(prediction | truth)
    return jaccard(prediction[window], truth[window]), _boundary_f(prediction[window], truth[window], truth.shape)


def boundary_f(prediction: Mask, truth: Mask) -> float:
    """Contour accuracy F: harmonic mean of the boundaries' precision and recall (``f_measure``).

    A boundary pixel of one mask is right where a boundary pixel of the other lies within
    r = ceil(0.008 * sqrt(H^2 + W^2)) pixels, that is, within the disk x^2 + y^2 <= r^2.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        F in [0, 1]; 1 where neither mask has a boundary (a mask that covers the frame has none), 0 where one has.

    Raises:
        ValueError: not two boolean arrays of one shape (H, W).
    """
    _check(prediction, truth)
    window = _window(prediction | truth)
    return _boundary_f(prediction[window], truth[window], truth.shape)


def _boundary_f(prediction: Mask, truth: Mask, size: tuple[int, ...]) -> float:
    """Of the ``_window`` of two masks of ``size`` (H, W)."""
    radius = math.ceil(BOUND * math.hypot(*size))
    stride = 8 * math.ceil((prediction.shape[1] + radius) / 8)
    predicted, true = _boundary(prediction, stride), _boundary(truth, stride)
    predicted_length, true_length = predicted.bit_count(), true.bit_count()
    if predicted_length == 0 or true_length == 0:
        # The evaluator sets precision 1 and recall 0, or the opposite, which makes F = 0; both empty is 1 and 1.
        return float(predicted_length == true_length)
    precision = (predicted & _dilate(true, radius, stride)).bit_count() / predicted_length
    recall = (true & _dilate(predicted, radius, stride)).bit_count() / true_length
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


@dataclass(frozen=True)
class Statistics:
    """What the evaluator reports of one measure of one object over a sequence (``db_statistics``).

    Attributes:
        mean: over the frames.
        recall: share of the frames above 0.5, strictly.
        decay: mean of the first quarter minus mean of the last; positive where the measure falls.
    """

    mean: float
    recall: float
    decay: float


def statistics(values: Sequence[float]) -> Statistics:
    """Mean, recall and decay of one measure, frame by frame in order.

    The quarters share their border frames: with b = round(linspace(1, n, 5)) - 1 the first is b_0 .. b_1 and the
    last b_3 .. b_4, both inclusive. The official evaluator keeps b as uint8, so its decay is wrong above 256 frames;
    here b has no such limit.

    Raises:
        ValueError: no values.
    """
    if len(values) == 0:
        raise ValueError("no values: the statistics of no frames are not defined")
    array = np.asarray(values, dtype=np.float64)
    # 1e-10 turns numpy's rounding of halves to even into rounding up, as the evaluator does.
    borders = np.round(np.linspace(1, len(array), 5) + 1e-10).astype(np.int64) - 1
    first, last = array[borders[0] : borders[1] + 1], array[borders[3] : borders[4] + 1]
    return Statistics(
        mean=float(array.mean()), recall=float((array > 0.5).mean()), decay=float(first.mean() - last.mean())
    )


def _check(prediction: Mask, truth: Mask) -> None:
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(f"{name}: type {mask.dtype}, shape {mask.shape}; J and F take boolean arrays (H, W)")
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction of shape {prediction.shape}, truth of shape {truth.shape}: they must agree")


def _window(mask: Mask) -> tuple[slice, slice]:
    """Rows and columns that hold all of a mask's boundary: its box and one pixel around it, cut at the frame.

    One pixel before the box because a boundary pixel lies up and left of the change; one pixel behind it so that the
    special last row and column of ``_boundary`` are background, unless they are the frame's own.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return slice(0, 0), slice(0, 0)
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


# Below, a mask is one integer with a bit for each pixel, the first pixel's the highest, and rows of ``stride`` bits
# that end with at least a radius of zeros. So the neighbours of all pixels are a shift away, many to a machine word.


def _pack(mask: Mask, stride: int) -> int:
    rows = np.zeros((mask.shape[0], stride), dtype=np.bool_)
    rows[:, : mask.shape[1]] = mask
    return int.from_bytes(np.packbits(rows).tobytes())


def _boundary(mask: Mask, stride: int) -> int:
    """Pixels that differ from their east, south or south-east neighbour (``_seg2bmap``), packed.

    The last row knows an east neighbour only, the last column a south one, and the corner between them none.
    """
    (height, width), packed = mask.shape, _pack(mask, stride)
    if height == 0:
        return 0
    row = ((1 << width) - 1) << (stride - width)
    eastern = row & row << 1  # all but the last column
    has_east = int.from_bytes(eastern.to_bytes(stride // 8) * height)
    has_south = int.from_bytes(row.to_bytes(stride // 8) * (height - 1)) << stride
    differs_east, differs_south = packed ^ packed << 1, packed ^ packed << stride
    differs_south_east = packed ^ packed << stride + 1
    return differs_east & has_east | differs_south & has_south | differs_south_east & has_east & has_south


def _dilate(mask: int, radius: int, stride: int) -> int:
    """Dilation of a packed mask by the disk x^2 + y^2 <= radius^2; bits outside of the frame mean nothing.

    The disk is a stack of horizontal bars, the longer the nearer to its middle. So the rows are widened step by step,
    and every width is laid over the result at the two heights at which the disk has it.
    """
    widened, half_width, dilated = mask, 0, 0
    for dy in range(radius, 0, -1):
        widened, half_width = _widen(widened, half_width, math.isqrt(radius * radius - dy * dy))
        dilated |= widened << dy * stride | widened >> dy * stride
    return dilated | _widen(widened, half_width, radius)[0]


def _widen(mask: int, half_width: int, to: int) -> tuple[int, int]:
    """A packed mask whose pixels are bars of ``half_width``, with bars of ``to``; and that number."""
    while half_width < to:
        step = min(to - half_width, 2 * half_width + 1)  # further, the copies would leave a gap
        mask |= mask << step | mask >> step
        half_width += step
    return mask, half_width

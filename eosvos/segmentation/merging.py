"""What is seen of each object in a frame, and one mask of all objects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """What is seen of one object in one frame.

    Attributes:
        probability: (H, W) float in [0, 1], at the video's size.
        box: (4,) float, x0 y0 x1 y1 of the detection in pixels of the video; None where the object is not seen.
        score: of the detection, in (0.5, 1]; 0 where the object is not seen.
    """

    probability: Tensor
    box: Tensor | None = None
    score: float = 0.0


@dataclass(frozen=True)
class SegmentedFrame:
    """One frame of the result.

    Attributes:
        mask: (H, W) uint8 object ids, 0 for the background.
        boxes: object id -> x0, y0, x1, y1 of its detection in pixels of the video, for the objects that were seen;
            of objects whose mask is given in this frame there is none.
        scores: object id -> score of that detection.
        seconds: on the clock from asking for the frame to this mask of it, but for fine-tuning: reading, resizing,
            adaptation and segmentation of all objects, merging.
        loading_seconds: those of reading and resizing the frame.
    """

    mask: Tensor
    boxes: Mapping[int, tuple[float, ...]]
    scores: Mapping[int, float]
    seconds: float = 0.0
    loading_seconds: float = 0.0


def merge(
    predictions: Iterable[tuple[int, Prediction]], size: tuple[int, int], by_score: bool = False
) -> SegmentedFrame:
    """Each pixel goes to the object with the largest probability, or to the background where all are below 0.5.

    Args:
        predictions: object ids and what is seen of them; of equal probabilities the first one counts.
        size: (H, W) of the frame.
        by_score: of the objects whose probability is 0.5 or more the one counts with the largest product of that and
            its score.
    """
    largest, ids = torch.zeros(size), torch.zeros(size, dtype=torch.uint8)
    boxes, scores = {}, {}
    for object_id, prediction in predictions:
        if prediction.box is not None:
            boxes[object_id] = tuple(prediction.box.tolist())
            scores[object_id] = prediction.score
        probability = prediction.probability
        weight = probability * prediction.score if by_score and prediction.box is not None else probability
        better = (probability >= 0.5) & (weight > largest)
        largest, ids[better] = torch.where(better, weight, largest), object_id
    return SegmentedFrame(ids, boxes, scores)

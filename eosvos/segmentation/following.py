"""Which of its detections each object of a video takes in a frame."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from eosvos.data.views import View
from eosvos.model.roi_heads import PASTINGS, Detection
from eosvos.segmentation.merging import Prediction

CANDIDATES = 4
"""Detections of an object that are looked at, where objects are told apart."""


@dataclass(frozen=True)
class Found:
    """What the model of one object found in a frame.

    Attributes:
        view: that it looked at.
        detections: best first.
    """

    view: View
    detections: list[Detection]

    def box(self, place: int) -> Tensor:
        """(4,) float, of a detection, in pixels of the frame, on the CPU."""
        return self.view.box_outside(self.detections[place].box).cpu()

    def prediction(self, place: int | None, pasting: str) -> Prediction:
        """Of the detection at a place, pasted into the frame; None: nothing is seen."""
        if place is None:
            return Prediction(torch.zeros(self.view.frame))
        detection = self.detections[place]
        pasted = PASTINGS[pasting](detection, self.view.size, self.view.extent)
        return Prediction(self.view.place(pasted).cpu(), self.box(place), detection.score)


def chosen(found: Mapping[int, Found], overlap: float) -> dict[int, int]:
    """Object id -> place of the detection that it takes, for those that found any.

    The object with the highest rank takes its best one, and so on; each of the others the best one that is not where
    another object is, or its very best if all are: objects do occlude each other.

    Args:
        found: by object id.
        overlap: intersection over union, above 0, from which on two boxes are one place; 0: each takes its best one.
    """
    seen = {object_id: one for object_id, one in found.items() if one.detections}
    if overlap == 0:
        return dict.fromkeys(seen, 0)
    places: dict[int, int] = {}
    taken: list[Tensor] = []
    for object_id, one in sorted(seen.items(), key=lambda item: -item[1].detections[0].rank):
        boxes = [one.box(place) for place in range(len(one.detections))]
        free = (place for place, box in enumerate(boxes) if not _overlaps(box, taken, overlap))
        places[object_id] = next(free, 0)
        taken.append(boxes[places[object_id]])
    return places


def _overlaps(box: Tensor, others: list[Tensor], overlap: float) -> bool:
    return bool(others) and float(box_iou(box[None], torch.stack(others)).max()) >= overlap

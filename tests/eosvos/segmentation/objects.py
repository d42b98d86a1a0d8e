"""What the tests of test time share: sizes, settings, short ways to the objects, a segmenter with given detections."""

from typing import Any

import torch
from torch import Tensor

from eosvos.data.views import View
from eosvos.learning.optimization import Optimization
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.following import Found
from eosvos.segmentation.merging import Prediction
from eosvos.segmentation.one_shot import Frame, OneShotSegmenter

SIZE = (80, 112)  # the video's; the model's input is 64x90
IDS = (3, 7)
BARE = SegmentationConfig(transforms=0, box_propagation=False)
Video = tuple[list[Tensor], Tensor]


def segment_masks(segmenter: OneShotSegmenter, video: Video, T: int = 2, **more: Any) -> list[Tensor]:
    """The masks of all frames, by fine-tuning on the first one."""
    return [frame.mask for frame in segmenter.segment(video[0], {0: video[1]}, T, **more)]


def all_equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def adapt(segmenter: OneShotSegmenter, video: Video, T: int) -> dict[int, AdaptedObject]:
    """The objects after fine-tuning on the first frame alone."""
    adapted: dict[int, AdaptedObject] = {}
    list(segmenter.segment(video[0][:1], {0: video[1]}, T, adapted=adapted))
    return adapted


def model_state(objects: dict[int, AdaptedObject]) -> list[Tensor]:
    """All parameters and buffers of the objects' models."""
    return [value for target in objects.values() for value in target.model.state_dict().values()]


class Given(Found):
    """A detection whose prediction is given."""

    def __init__(self, view: View, given: Prediction) -> None:
        super().__init__(view, [])
        object.__setattr__(self, "given", given)

    def prediction(self, place: int | None, pasting: str) -> Prediction:
        given: Prediction = self.__dict__["given"]
        return given


class FakedSegmenter(OneShotSegmenter):
    """Segments with given probabilities, per position and object; remembers the boxes that were propagated."""

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

    def find(self, adapted: AdaptedObject, frame: Frame, position: int) -> Found:
        assert frame.whole.frame == SIZE
        box = adapted.propagated_box
        self.boxes.append(box and box.box)
        self.seen.append((position, adapted.id))
        return Given(frame.whole, Prediction(self.probabilities[position, adapted.id]))

"""One-shot segmentation: fine-tune on the first mask of each object, then follow them all through the video."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from eosvos.data.augment import resized
from eosvos.data.sequence import object_ids
from eosvos.draws import Stream
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization
from eosvos.model.mask_rcnn import MaskRCNN, paste
from eosvos.segmentation.adaptation import (
    AdaptedObject,
    FineTuner,
    LabelledFrame,
    adapt_online,
    fine_tune_object,
    remember,
)
from eosvos.segmentation.config import DEFAULTS, SegmentationConfig


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
    """

    mask: Tensor
    boxes: Mapping[int, tuple[float, ...]]
    scores: Mapping[int, float]


class OneShotSegmenter:
    """Segments objects whose first mask is given in all later frames."""

    def __init__(
        self,
        optimization: Optimization,
        config: SegmentationConfig = DEFAULTS,
        seed: int = 0,
        device: str = "cpu",
        fine_tuner: FineTuner = fine_tune_object,
    ) -> None:
        """What to segment with, and how.

        Args:
            optimization: initialization and learning rates.
            config: settings of test time.
            seed: of the transforms, of the samples drawn while fine-tuning, and of the jitter; at least 0.
            device: of the models.
            fine_tuner: takes an object's fine-tuning steps, ``fine_tune_object`` or a way around some of them.
        """
        self.optimization = optimization
        self.config = config
        self.seed = seed
        self.device = torch.device(device)
        self._fine_tuner = fine_tuner
        model = optimization.config
        self._sides = round(config.input_scale * model.short_side), round(config.input_scale * model.long_side)

    def segment(
        self,
        frames: Iterable[Tensor],
        masks: Mapping[int, Tensor],
        T: int = 10,
        time_budget: float = math.inf,
        adapted: dict[int, AdaptedObject] | None = None,
        keep_going: bool = False,
        on_step: Callable[[int, int], None] = lambda object_id, steps: None,
    ) -> Iterator[SegmentedFrame]:
        """Object ids for every frame, one by one; frames are asked for as they are needed, masks too.

        An object appears in the frame with its first mask and never before. A later mask of it is a correction: that
        frame has this mask, and the object's model is fine-tuned anew on its first and this one. A pixel goes to the
        object with the largest probability, or to the background where all are below 0.5; a given mask wins.

        Args:
            frames: (3, H, W) uint8 RGB each, all of one size.
            masks: position of a frame -> (H, W) uint8 object ids of those whose mask is given there, 0 elsewhere.
            T: fine-tuning steps for each object.
            time_budget: seconds of fine-tuning for each given mask, shared by its objects, after which no further step
                begins. With one, the best of the states before and after each step is taken, as in
                ``fine_tune_object``.
            adapted: filled with the objects by id. Those of an earlier pass over the same video, without corrections
                and with a T at most as large, go on from where they were.
            keep_going: an object whose fine-tuning diverges is not seen any more, and marked so, instead of an error.
            on_step: called with an object's id and the number of its fine-tuning steps, after each.

        Raises:
            BadInput: no mask with an object, a mask or frame of another size than the first frame, a mask beyond the
                last frame, or T above 0 or online adaptation with a checkpoint that has no learning rates.
            FloatingPointError: fine-tuning diverged; the learning rates are too high.
        """
        if not masks:
            raise BadInput("no mask is given; give one of the first frame, with a value above 0 for each object")
        rates = self._rates() if T > 0 or self.config.online_interval else []
        adapted = {} if adapted is None else adapted
        earlier, alive = dict(adapted), dict[int, AdaptedObject]()
        size: tuple[int, int] = (0, 0)
        position = -1
        for position, image in enumerate(frames):
            own = (image.shape[1], image.shape[2])
            size = size if position else own
            if own != size:
                raise BadInput(
                    f"frame {position} has {_by(own)} pixels, the first one {_by(size)}; export all frames at one size"
                )
            small = resized(image, *self._sides)
            given = self._given(masks, position, size) if position in masks else {}
            if not alive and not given and position == max(masks):
                raise BadInput(f"{_mask_of(position)} has no object; draw at least one value above 0 into it")
            began = time.perf_counter()
            for number, (object_id, mask) in enumerate(given.items(), 1):
                new = _same(earlier.pop(object_id, None), position, alive.get(object_id))
                new = new or self._new(object_id, small, mask, position, alive.get(object_id))
                left = time_budget * number / len(given) - (time.perf_counter() - began)
                self._fine_tuner(new, rates, T, self.config, self.seed, left, partial(on_step, object_id))
                if new.diverged and not keep_going:
                    raise FloatingPointError(
                        f"object {object_id}: fine-tuning on frame {position} diverged within {T} steps; lower the "
                        "learning rates or the number of steps"
                    )
                alive[object_id] = adapted[object_id] = new
            yield self._frame(image, small, given, [alive[object_id] for object_id in sorted(alive)], position, rates)
        if position >= 0 and max(masks) > position:
            raise BadInput(f"{_mask_of(max(masks))} is beyond the video, which has {position + 1} frames")

    def predict(self, adapted: AdaptedObject, small: Tensor, size: tuple[int, int], position: int) -> Prediction:
        """The best detection of one object in the frame at ``position``.

        Args:
            adapted: the object, with the box that goes on from its last mask.
            small: (3, h, w) uint8, the frame at the model's input size.
            size: (H, W) of the video.
            position: of the frame.
        """
        extra = None
        input_size = (small.shape[1], small.shape[2])
        box = adapted.propagated_box
        if self.config.box_propagation and box is not None:
            draws = Stream.JITTER.torch(self.seed, adapted.id, position)
            count = self.optimization.config.proposals_test // 2
            extra = jittered_boxes(box, count, input_size, draws).to(self.device)
        detection = adapted.model.detect(small, extra)
        if detection is None:
            return Prediction(torch.zeros(size))
        return Prediction(
            paste(detection, input_size, size).cpu(), _scaled(detection.box, input_size, size).cpu(), detection.score
        )

    def _frame(
        self,
        image: Tensor,
        small: Tensor,
        given: Mapping[int, Tensor],
        objects: list[AdaptedObject],
        position: int,
        rates: list[Tensor],
    ) -> SegmentedFrame:
        """Adapts online where it is due, predicts each object that is not given, and merges."""
        size = (image.shape[1], image.shape[2])
        largest, ids = torch.zeros(size), torch.zeros(size, dtype=torch.uint8)
        boxes, scores = {}, {}
        for adapted in objects:
            if adapted.id in given:
                probability = 2.0 * given[adapted.id]  # more than any other
            elif adapted.diverged:
                continue
            else:
                initialization = partial(self._initialization, adapted.model)
                adapt_online(adapted, initialization, rates, position, self.config, self.seed)
                began = time.perf_counter()
                prediction = self.predict(adapted, small, size, position)
                probability = prediction.probability
                self._remember(adapted, small, probability, position)
                adapted.segmentation_seconds += time.perf_counter() - began
                if prediction.box is not None:
                    boxes[adapted.id] = tuple(prediction.box.tolist())
                    scores[adapted.id] = prediction.score
            better = (probability >= 0.5) & (probability > largest)
            largest, ids[better] = torch.where(better, probability, largest), adapted.id
        return SegmentedFrame(ids, boxes, scores)

    def _remember(self, adapted: AdaptedObject, small: Tensor, probability: Tensor, position: int) -> None:
        """The last box for box propagation, the frame for online adaptation."""
        box = _tight_box(probability >= 0.5)
        input_size, size = (small.shape[1], small.shape[2]), (probability.shape[0], probability.shape[1])
        adapted.box = None if box is None else _scaled(box, size, input_size)
        if self.config.online_interval:
            mask = resized((probability >= self.config.online_threshold).to(torch.uint8), *self._sides)
            remember(adapted, small, mask, position, self.config)

    def _given(self, masks: Mapping[int, Tensor], position: int, size: tuple[int, int]) -> dict[int, Tensor]:
        """Object id -> its mask (H, W) bool at ``position``."""
        mask = masks[position]
        if mask.shape != size:
            raise BadInput(
                f"{_mask_of(position)} has {_by(mask.shape)} pixels, its frame {_by(size)}; export both at one size"
            )
        return {object_id: mask == object_id for object_id in object_ids(mask)}

    def _new(
        self, object_id: int, small: Tensor, mask: Tensor, position: int, earlier: AdaptedObject | None
    ) -> AdaptedObject:
        """An object with a model that holds the initialization, to learn from its first and this mask."""
        began = time.perf_counter()
        own = resized(mask.to(torch.uint8), *self._sides)
        given = (*(earlier.given[:1] if earlier else ()), LabelledFrame(small, own))
        model = self.optimization.model().to(self.device)
        box = _tight_box(own)
        recent = deque[LabelledFrame | None](maxlen=self.config.online_frames)
        new = AdaptedObject(object_id, position, model, given, box, box, recent)
        if earlier is not None:
            new.fine_tuning_seconds = earlier.fine_tuning_seconds
            new.adaptation_seconds, new.segmentation_seconds = earlier.adaptation_seconds, earlier.segmentation_seconds
            new.undone = earlier.undone
        new.fine_tuning_seconds += time.perf_counter() - began
        return new

    def _rates(self) -> list[Tensor]:
        scale = self.config.rate_scale
        return [scale * rate.to(self.device) for rate in self.optimization.fine_tuning_rates()]

    def _initialization(self, model: MaskRCNN) -> list[Tensor]:
        return [self.optimization.initialization[name].to(self.device) for name, _ in model.named_parameters()]


def jittered_boxes(box: Tensor, count: int, size: tuple[int, int], draws: torch.Generator) -> Tensor:
    """Copies of a box with each side moved outwards by up to a tenth of the box's extent, as the release does.

    Args:
        box: (4,) float, x0 y0 x1 y1, on the CPU.
        count: number of copies.
        size: (H, W) to clamp to.
        draws: CPU generator.

    Returns:
        (count, 4) float.
    """
    amounts = torch.rand((count, 4), generator=draws) * 0.1
    width, height = box[2] - box[0], box[3] - box[1]
    outwards = torch.stack((-width, -height, width, height))
    return clip_boxes_to_image(box + amounts * outwards, size)  # type: ignore[no-any-return]


def _same(adapted: AdaptedObject | None, position: int, alive: AdaptedObject | None) -> AdaptedObject | None:
    """An object of an earlier pass, as at the start of one, where it is what is looked for: not after a correction."""
    if adapted is None or alive is not None or adapted.start != position or len(adapted.given) > 1:
        return None
    adapted.start_box = adapted.box = _tight_box(adapted.given[-1].mask)
    adapted.recent.clear()
    adapted.adaptation_seconds = adapted.segmentation_seconds = 0.0
    adapted.undone = 0
    return adapted


def _tight_box(mask: Tensor) -> Tensor | None:
    """(H, W) -> (4,) float x0 y0 x1 y1 around what is not 0, ends one beyond it; None where all is 0."""
    ys, xs = torch.where(mask)
    if len(ys) == 0:
        return None
    return torch.stack((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).float()


def _scaled(box: Tensor, size: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """A box (4,) in pixels of a frame of ``size`` (H, W), in pixels of one of another size."""
    return box * box.new_tensor([to[1] / size[1], to[0] / size[0]] * 2)


def _by(size: Iterable[int]) -> str:
    """(H, W) as people write it."""
    height, width = size
    return f"{width}x{height}"


def _mask_of(position: int) -> str:
    return "the first mask" if position == 0 else f"the mask of frame {position}"

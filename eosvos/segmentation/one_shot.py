"""One-shot segmentation: fine-tune on the first mask of each object, then follow them all through the video."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from eosvos.data.augment import resize, resize_mask
from eosvos.data.sequence import VOID, object_ids, size_text
from eosvos.data.warps import LabelledFrame
from eosvos.draws import Stream
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization
from eosvos.model.boxes import jittered_boxes, scale_box, tight_box
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.roi_heads import PASTINGS
from eosvos.segmentation.adaptation import (
    AdaptedObject,
    FineTuner,
    adapt_online,
    fine_tune_object,
    online_mask,
    remember,
)
from eosvos.segmentation.config import DEFAULTS, SegmentationConfig
from eosvos.segmentation.merging import Prediction, SegmentedFrame, merge


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
            masks: position of a frame -> (H, W) of integers: ids of the objects whose mask is given there, 0 elsewhere;
                below 0 where nobody knows, at which no loss looks.
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
                last frame, or a T above 0 or online adaptation with a checkpoint that has no learning rates.
            FloatingPointError: fine-tuning diverged; the learning rates are too high.
        """
        if not masks:
            raise BadInput("no mask is given; give one of the first frame, with a value above 0 for each object")
        rates = self._rates() if T > 0 or self.config.online_interval else []
        adapted = {} if adapted is None else adapted
        earlier, alive = dict(adapted), dict[int, AdaptedObject]()
        size: tuple[int, int] = (0, 0)
        position = -1
        for position, (image, reading) in enumerate(_timed(frames)):
            asked = time.perf_counter() - reading
            frame_size = (image.shape[1], image.shape[2])
            size = size if position else frame_size
            if frame_size != size:
                raise BadInput(
                    f"frame {position} has {size_text(frame_size)} pixels, the first one {size_text(size)}; "
                    "export all frames at one size"
                )
            small = resize(image, *self._sides)
            loading = time.perf_counter() - asked
            given = _split(masks[position], position, size) if position in masks else {}
            if not alive and not given and position == max(masks):
                raise BadInput(f"{_mask_of(position)} has no object; draw at least one value above 0 into it")
            began = time.perf_counter()
            for number, (object_id, mask) in enumerate(given.items(), 1):
                new = None if object_id in alive else _resume(earlier.get(object_id), position)
                new = new or self._begin(object_id, position, small, mask, alive.get(object_id))
                left = time_budget * number / len(given) - (time.perf_counter() - began)
                self._fine_tuner(new, rates, T, self.config, self.seed, left, partial(on_step, object_id))
                if new.diverged and not keep_going:
                    raise FloatingPointError(
                        f"object {object_id}: fine-tuning on frame {position} diverged within {T} steps; lower the "
                        "learning rates or the number of steps"
                    )
                alive[object_id] = adapted[object_id] = new
            fine_tuning = time.perf_counter() - began
            objects = [alive[object_id] for object_id in sorted(alive)]
            merged = merge(self._predictions(objects, small, size, given, position, rates), size)
            seconds = time.perf_counter() - asked - fine_tuning
            yield replace(merged, seconds=seconds, loading_seconds=loading)
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
        probability = PASTINGS[self.config.pasting](detection, input_size, size)
        return Prediction(probability.cpu(), scale_box(detection.box, input_size, size).cpu(), detection.score)

    def _predictions(
        self,
        objects: list[AdaptedObject],
        small: Tensor,
        size: tuple[int, int],
        given: Mapping[int, Tensor],
        position: int,
        rates: list[Tensor],
    ) -> Iterator[tuple[int, Prediction]]:
        """Object ids and predictions, each made as it is asked for, after online adaptation where that is due.

        Args:
            objects: in the order of their ids.
            small: (3, h, w) uint8, the frame at the model's input size.
            size: (H, W) of the video.
            given: object id -> its mask as in a ``LabelledFrame``, for those whose mask is given in this frame.
            position: of the frame.
            rates: learning rates of online adaptation.
        """
        for adapted in objects:
            if adapted.id in given:
                yield adapted.id, Prediction(2.0 * (given[adapted.id] == 1))  # more than any other
            elif not adapted.diverged:
                initialization = partial(self._initialization, adapted.model)
                adapt_online(adapted, initialization, rates, position, self.config, self.seed)
                began = time.perf_counter()
                prediction = self.predict(adapted, small, size, position)
                self._remember(adapted, small, prediction.probability, position)
                adapted.segmentation_seconds += time.perf_counter() - began
                yield adapted.id, prediction

    def _remember(self, adapted: AdaptedObject, small: Tensor, probability: Tensor, position: int) -> None:
        """The last box for box propagation, the frame for online adaptation."""
        box = tight_box(probability >= 0.5)
        input_size, size = (small.shape[1], small.shape[2]), (probability.shape[0], probability.shape[1])
        adapted.box = None if box is None else scale_box(box, size, input_size)
        if self.config.online_interval:
            mask = resize_mask(online_mask(probability, self.config), *self._sides)
            remember(adapted, small, mask, position, self.config)

    def _begin(
        self, object_id: int, position: int, small: Tensor, mask: Tensor, before: AdaptedObject | None
    ) -> AdaptedObject:
        """An object with a model that holds the initialization, to learn from its first mask and this one.

        Args:
            object_id, position: of the object, and of the frame.
            small: (3, h, w) uint8, the frame at the model's input size.
            mask: (H, W) uint8 as in a ``LabelledFrame``, given in this frame.
            before: the same object before, where this mask corrects it.
        """
        began = time.perf_counter()
        frame = LabelledFrame(small, resize_mask(mask, *self._sides))
        given = (*(before.given[:1] if before else ()), frame)
        model = self.optimization.model().to(self.device)
        box = tight_box(frame.shown)
        recent = deque[LabelledFrame | None](maxlen=self.config.online_frames)
        new = AdaptedObject(object_id, position, model, given, box, box, recent)
        if before is not None:
            new.fine_tuning_seconds = before.fine_tuning_seconds
            new.adaptation_seconds, new.segmentation_seconds = before.adaptation_seconds, before.segmentation_seconds
            new.diverged_adaptations = before.diverged_adaptations
        new.fine_tuning_seconds += time.perf_counter() - began
        return new

    def _rates(self) -> list[Tensor]:
        scale = self.config.rate_scale
        return [scale * rate.to(self.device) for rate in self.optimization.fine_tuning_rates()]

    def _initialization(self, model: MaskRCNN) -> list[Tensor]:
        return [self.optimization.initialization[name].to(self.device) for name, _ in model.named_parameters()]


def _timed(frames: Iterable[Tensor]) -> Iterator[tuple[Tensor, float]]:
    """Each frame with the seconds that it took to come."""
    source = iter(frames)
    while True:
        began = time.perf_counter()
        try:
            image = next(source)
        except StopIteration:
            return
        yield image, time.perf_counter() - began


def _split(mask: Tensor, position: int, size: tuple[int, int]) -> dict[int, Tensor]:
    """Object id -> its mask as in a ``LabelledFrame``, of the mask (H, W) that is given at ``position``."""
    if mask.shape != size:
        raise BadInput(
            f"{_mask_of(position)} has {size_text(mask.shape)} pixels, its frame {size_text(size)}; "
            "export both at one size"
        )
    rest = torch.where(mask < 0, VOID, 0).to(torch.uint8)
    return {object_id: torch.where(mask == object_id, 1, rest) for object_id in object_ids(mask)}


def _resume(earlier: AdaptedObject | None, position: int) -> AdaptedObject | None:
    """The object of an earlier pass at its start, unless it began elsewhere or has learned from a correction."""
    if earlier is None or earlier.start != position or len(earlier.given) > 1:
        return None
    earlier.rewind()
    return earlier


def _mask_of(position: int) -> str:
    return "the first mask" if position == 0 else f"the mask of frame {position}"

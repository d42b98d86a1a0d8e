"""One-shot segmentation: fine-tune on the first mask of each object, then follow them all through the video."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import box_iou

from eosvos.data.sequence import VOID, object_ids, size_text
from eosvos.data.views import WIDENING, View, around, tight_box, whole
from eosvos.data.warps import LabelledFrame
from eosvos.draws import Stream
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization
from eosvos.model.boxes import jittered_boxes
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.roi_heads import Following
from eosvos.segmentation.adaptation import AdaptedObject, FineTuner, fine_tune_object
from eosvos.segmentation.config import FOLLOWING, SegmentationConfig
from eosvos.segmentation.following import CANDIDATES, Found, chosen
from eosvos.segmentation.merging import Prediction, SegmentedFrame, merge
from eosvos.segmentation.online import adapt_online, online_mask, remember
from eosvos.segmentation.self_check import check_itself

_WIDEST = 100
"""Frames after which a view grows no more: it is the whole frame by then, and a float has an end."""


class Frame:
    """A frame of the video, and the views of it that were asked for."""

    def __init__(self, image: Tensor, whole: View) -> None:
        """The image (3, H, W) uint8; all of it is looked at, at once, as most often it is asked for."""
        self.whole = whole
        self._image = image
        self._views = {whole: whole.image(image)}

    def seen_in(self, view: View) -> Tensor:
        """(3, h, w) uint8."""
        if view not in self._views:
            self._views[view] = view.image(self._image)
        return self._views[view]


class OneShotSegmenter:
    """Segments objects whose first mask is given in all later frames."""

    def __init__(
        self,
        optimization: Optimization,
        config: SegmentationConfig = FOLLOWING,
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
            frame = Frame(image, whole(size, self._sides))
            loading = time.perf_counter() - asked
            given = _split(masks[position], position, size) if position in masks else {}
            if not alive and not given and position == max(masks):
                raise BadInput(f"{_mask_of(position)} has no object; draw at least one value above 0 into it")
            began = time.perf_counter()
            for number, (object_id, mask) in enumerate(given.items(), 1):
                new = None if object_id in alive else _resume(earlier.get(object_id), position)
                new = new or self._begin(object_id, position, frame, mask, alive.get(object_id))
                left = time_budget * number / len(given) - (time.perf_counter() - began)
                self._fine_tuner(new, rates, T, self.config, self.seed, left, partial(on_step, object_id))
                if math.isinf(time_budget):  # else the state was chosen within the time
                    check_itself(new, partial(self._initialization, new.model), rates, self.config, self.seed)
                if new.diverged and not keep_going:
                    raise FloatingPointError(
                        f"object {object_id}: fine-tuning on frame {position} diverged within {T} steps; lower the "
                        "learning rates or the number of steps"
                    )
                alive[object_id] = adapted[object_id] = new
            fine_tuning = time.perf_counter() - began
            objects = [alive[object_id] for object_id in sorted(alive)]
            predictions = self._predictions(objects, frame, given, position, rates)
            merged = merge(predictions, size, self.config.merging == "score")
            seconds = time.perf_counter() - asked - fine_tuning
            yield replace(merged, seconds=seconds, loading_seconds=loading)
        if position >= 0 and max(masks) > position:
            raise BadInput(f"{_mask_of(max(masks))} is beyond the video, which has {position + 1} frames")

    def find(self, adapted: AdaptedObject, frame: Frame, position: int) -> Found:
        """What one object's model finds in its view of the frame at ``position``."""
        view = self._view(adapted, frame)
        extra = following = None
        box = adapted.propagated_box
        if self.config.box_propagation and box is not None:
            draws = Stream.JITTER.torch(self.seed, adapted.id, position)
            count = self.optimization.config.proposals_test // 2
            extra = jittered_boxes(box.inside(view), count, view.size, draws).to(self.device)
        if adapted.last_seen is not None:
            threshold = 0.5 if adapted.lost else self.config.follow_threshold
            following = Following(adapted.last_seen.inside(view), self.config.continuity, threshold)
        count = CANDIDATES if self.config.tell_apart else 1
        return Found(view, adapted.model.detect(frame.seen_in(view), extra, following, count))

    def _view(self, adapted: AdaptedObject, frame: Frame) -> View:
        """Around where the object was seen last, wider for each frame since then."""
        if adapted.last_seen is None:
            return frame.whole
        box = adapted.last_seen.in_frame
        return around(box, frame.whole.frame, self._sides, self.config.window, WIDENING ** min(adapted.lost, _WIDEST))

    def _predictions(
        self,
        objects: list[AdaptedObject],
        frame: Frame,
        given: Mapping[int, Tensor],
        position: int,
        rates: list[Tensor],
    ) -> Iterator[tuple[int, Prediction]]:
        """Object ids and predictions, each made as it is asked for, after online adaptation where that is due.

        Args:
            objects: in the order of their ids.
            frame: to segment.
            given: object id -> its mask as in a ``LabelledFrame``, for those whose mask is given in this frame.
            position: of the frame.
            rates: learning rates of online adaptation.
        """
        followed = [adapted for adapted in objects if adapted.id not in given and not adapted.diverged]
        found: dict[int, Found] = {}
        for adapted in followed:
            adapt_online(adapted, partial(self._initialization, adapted.model), rates, position, self.config, self.seed)
            with adapted.segmenting():
                found[adapted.id] = self.find(adapted, frame, position)
        places = chosen(found, self.config.tell_apart)
        for object_id in given:
            yield object_id, Prediction(2.0 * (given[object_id] == 1))  # more than any other
        for adapted in followed:
            with adapted.segmenting():
                prediction = found[adapted.id].prediction(places.get(adapted.id), self.config.pasting)
                self._remember(adapted, frame, found[adapted.id].view, prediction.probability, position)
            yield adapted.id, prediction

    def _remember(self, adapted: AdaptedObject, frame: Frame, view: View, probability: Tensor, position: int) -> None:
        """The last box for box propagation and views, the frame for online adaptation."""
        box, before = tight_box(probability >= 0.5), adapted.last_seen
        adapted.see(None if box is None else view.box_inside(box), view)
        if self.config.online_interval:
            mask = view.mask(online_mask(probability, self.config))
            if box is not None and before is not None:
                on_the_path = float(box_iou(box[None], before.in_frame[None])) >= self.config.online_path
                mask = mask if on_the_path else torch.zeros_like(mask)
            remember(adapted, frame.seen_in(view), mask, position, self.config)

    def _begin(
        self, object_id: int, position: int, frame: Frame, mask: Tensor, before: AdaptedObject | None
    ) -> AdaptedObject:
        """An object with a model that holds the initialization, to learn from its first mask and this one.

        Args:
            object_id, position: of the object, and of the frame.
            frame: with the mask.
            mask: (H, W) uint8 as in a ``LabelledFrame``.
            before: the same object before, where this mask corrects it.
        """
        began = time.perf_counter()
        view, box = frame.whole, tight_box(mask == 1)
        if box is not None:
            view = around(box, view.frame, self._sides, self.config.window)
        own = LabelledFrame(frame.seen_in(view), view.mask(mask))
        given = (*(before.given[:1] if before else ()), own)
        model = self.optimization.model().to(self.device)
        recent = deque[LabelledFrame | None](maxlen=self.config.online_frames)
        new = AdaptedObject(object_id, position, model, given, view, recent)
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

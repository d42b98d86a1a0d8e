"""One-shot segmentation: fine-tune on the first frame, then follow the objects through the video."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from eosvos.data.augment import input_size, resized
from eosvos.data.sequence import object_ids
from eosvos.errors import BadInput
from eosvos.learning.inner_loop import fine_tune, generator
from eosvos.learning.optimization import Optimization
from eosvos.model.mask_rcnn import Batch, MaskRCNN, paste


@dataclass(frozen=True)
class SegmentationConfig:
    """Test time (the authors' release: ``util/evaluate.py``)."""

    T: int = 10
    """Fine-tuning steps on the first frame."""
    box_propagation: bool = True
    """Add jittered copies of the object's last box to the proposals; they replace the lower-ranked half."""
    seed: int = 0
    """Of the samples drawn while fine-tuning and of the jitter."""

    def __post_init__(self) -> None:
        if self.T < 0:
            raise ValueError(f"T: must be at least 0, got {self.T}")


@dataclass
class AdaptedObject:
    """One object and the model that is fine-tuned to it.

    Attributes:
        id: its value in the first mask.
        model: fine-tuned in place.
        batch: the first frame and the object's mask, at the model's input size.
        start_box: (4,) float, the first mask's box in pixels of the model's input.
        steps: fine-tuning steps taken so far.
        diverged: a loss or a parameter is not finite any more; the object is taken as never visible.
        fine_tuning_seconds, segmentation_seconds: time spent on this object; the second is of the last ``follow``.
    """

    id: int
    model: MaskRCNN
    batch: Batch
    start_box: Tensor
    steps: int = 0
    diverged: bool = False
    fine_tuning_seconds: float = 0.0
    segmentation_seconds: float = 0.0


class OneShotSegmenter:
    """Segments the objects of a first mask in all later frames."""

    def __init__(self, optimization: Optimization, config: SegmentationConfig, device: str = "cpu") -> None:
        """Raises BadInput where fine-tuning is asked of a checkpoint without learning rates."""
        self.optimization = optimization
        self.config = config
        self.device = torch.device(device)
        self._rates = (
            [rate.to(self.device) for rate in optimization.fine_tuning_rates()]
            if config.T > 0 or optimization.rates is not None
            else []
        )

    def segment(self, frames: Iterable[Tensor], first_mask: Tensor) -> Iterator[Tensor]:
        """Masks for every frame, one by one.

        Args:
            frames: (3, H, W) uint8 RGB each, all of one size.
            first_mask: (H, W) uint8, object ids of the first frame, 0 for the background.

        Yields:
            (H, W) uint8 object ids; the first one is ``first_mask``.

        Raises:
            BadInput: a first mask without an object.
            FloatingPointError: fine-tuning diverged; the learning rates are too high.
        """
        remaining = iter(frames)
        first = next(remaining, None)
        if first is None:
            return
        objects = self.begin(first, first_mask)
        self.fine_tune(objects, self.config.T)
        if lost := [adapted.id for adapted in objects if adapted.diverged]:
            raise FloatingPointError(
                f"object {lost[0]}: fine-tuning diverged within {self.config.T} steps; lower the rates"
            )
        yield first_mask
        yield from self.follow(objects, remaining)

    def begin(self, image: Tensor, mask: Tensor) -> list[AdaptedObject]:
        """Every object of the first mask with a model of its own that holds the initialization.

        Args:
            image: (3, H, W) uint8.
            mask: (H, W) uint8 object ids.

        Raises:
            BadInput: a mask without an object or of another size, or an object too small for the model's input.
        """
        if mask.shape != image.shape[1:]:
            raise BadInput(
                f"the first mask has {mask.shape[1]}x{mask.shape[0]} pixels, the first frame "
                f"{image.shape[2]}x{image.shape[1]}; export both at one size"
            )
        config = self.optimization.config
        small = resized(image, config.short_side, config.long_side)
        objects = []
        for object_id in object_ids(mask):
            own = resized((mask == object_id).to(torch.uint8), config.short_side, config.long_side)
            if not own.any():
                raise BadInput(
                    f"object {object_id} of the first mask vanishes at the model's input size ({own.shape[1]}x"
                    f"{own.shape[0]}); use a model with a larger short_side, or leave the object out"
                )
            model = self.optimization.model().to(self.device)
            batch = model.batch([small], [own])
            objects.append(AdaptedObject(object_id, model, batch, batch.targets[0]["boxes"][0]))
        if not objects:
            raise BadInput("the first mask has no object; draw at least one value above 0 into it")
        return objects

    def fine_tune(self, objects: list[AdaptedObject], T: int) -> None:
        """Takes, for every object that has not diverged, the steps that are missing to T."""
        for adapted in objects:
            if adapted.diverged:
                continue
            start = time.perf_counter()
            steps = range(adapted.steps, T)
            losses = fine_tune(adapted.model, adapted.batch, self._rates, steps, (self.config.seed, adapted.id))
            adapted.diverged = not (
                all(map(math.isfinite, losses))
                and all(bool(parameter.isfinite().all()) for parameter in adapted.model.parameters())
            )
            adapted.steps = T
            adapted.fine_tuning_seconds += time.perf_counter() - start

    def follow(self, objects: list[AdaptedObject], frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Segments all objects in lockstep, frame by frame, and merges them.

        A pixel goes to the object with the largest probability, or to the background where all are below 0.5.

        Args:
            objects: of ``begin``.
            frames: those after the first, (3, H, W) uint8 each.

        Yields:
            (H, W) uint8 object ids per frame.
        """
        ids = torch.tensor([adapted.id for adapted in objects], dtype=torch.uint8)
        boxes = [adapted.start_box for adapted in objects]
        for adapted in objects:
            adapted.segmentation_seconds = 0.0
        for position, image in enumerate(frames, start=1):
            small = resized(image, self.optimization.config.short_side, self.optimization.config.long_side)
            probabilities = []
            for k, adapted in enumerate(objects):
                start = time.perf_counter()
                probability = self._probability(adapted, small, (image.shape[1], image.shape[2]), boxes[k], position)
                boxes[k] = self._last_box(adapted, probability)
                probabilities.append(probability)
                adapted.segmentation_seconds += time.perf_counter() - start
            best, index = torch.stack(probabilities).max(dim=0)
            yield torch.where(best >= 0.5, ids[index], 0)

    def _probability(
        self, adapted: AdaptedObject, small: Tensor, size: tuple[int, int], box: Tensor, position: int
    ) -> Tensor:
        if adapted.diverged:
            return torch.zeros(size)
        extra = None
        if self.config.box_propagation:
            count = self.optimization.config.proposals_test // 2
            draws = generator(self.config.seed, adapted.id, position, 1)
            extra = jittered_boxes(box, count, (small.shape[1], small.shape[2]), draws)
        detection = adapted.model.detect(small, extra)
        if detection is None:
            return torch.zeros(size)
        return paste(detection, (small.shape[1], small.shape[2]), size).cpu()

    def _last_box(self, adapted: AdaptedObject, probability: Tensor) -> Tensor:
        """Tight box, in the model's input, of a probability map at 0.5; the first frame's where that is empty."""
        ys, xs = torch.where(probability >= 0.5)
        if len(ys) == 0:
            return adapted.start_box
        config = self.optimization.config
        height, width = probability.shape
        small_height, small_width = input_size((height, width), config.short_side, config.long_side)
        sides = torch.stack((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).to(adapted.start_box)
        scale = sides.new_tensor([small_width / width, small_height / height] * 2)
        return sides * scale


def jittered_boxes(box: Tensor, count: int, size: tuple[int, int], draws: torch.Generator) -> Tensor:
    """Copies of a box with each side moved outwards by up to a tenth of the box's extent, as the release does.

    Args:
        box: (4,) float, x0 y0 x1 y1.
        count: number of copies.
        size: (H, W) to clamp to.
        draws: CPU generator.

    Returns:
        (count, 4) float, on the device of ``box``.
    """
    amounts = torch.rand((count, 4), generator=draws).to(box) * 0.1
    width, height = box[2] - box[0], box[3] - box[1]
    outwards = torch.stack((-width, -height, width, height))
    return clip_boxes_to_image(box + amounts * outwards, size)  # type: ignore[no-any-return]

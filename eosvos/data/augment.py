"""A task's frames as the learner sees them: resized, warped, pasted over, recoloured; image and mask together."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from eosvos.data.config import AugmentationConfig, Targets
from eosvos.data.sequence import VOID, Sequence, object_ids
from eosvos.data.stills import degraded, moved
from eosvos.data.task_views import TaskViews
from eosvos.data.tasks import MIN_AREA, Task
from eosvos.data.views import View, tight_box
from eosvos.data.warps import MIN_REMAINING, TARGET, TRIES, LabelledFrame, least_remaining, warp, warp_keeping_object
from eosvos.draws import Stream
from eosvos.errors import BadInput


@dataclass(frozen=True)
class TaskFrames:
    """A task as the learner sees it: frames (N, 3, H, W) uint8, masks (N, H, W) uint8, as in a ``LabelledFrame``."""

    train_images: Tensor
    train_masks: Tensor
    test_images: Tensor
    test_masks: Tensor


def task_frames(
    sequences: tuple[Sequence, ...],
    task: Task,
    config: AugmentationConfig,
    seed: int,
    short_side: int,
    long_side: int,
    targets: Targets = "one",
) -> TaskFrames:
    """Reads, decodes and augments just the frames that ``task`` names.

    The same (task, config, seed, sides) gives the same pixels anywhere: draws depend on (seed, epoch, index). The
    ``targets`` decide on the masks alone: no frame, warp or place is drawn for the sake of another object than the
    task's. So of the others, what a warp moves out of the frame or a donor covers is not in the mask; a donor is an
    object like them.

    Args:
        sequences: the dataset that the task's numbers refer to.
        task: what to make.
        config: ranges.
        seed: of the training.
        short_side, long_side: frames are first resized to these, as by ``input_size``.
        targets: which objects the masks hold.

    Raises:
        BadInput: a frame that cannot be decoded, has no mask, or does not show the object that the task names.
    """
    rng = Stream.AUGMENTATION.numpy(seed, task.epoch, task.index)
    look = _Look.draw(config, rng)
    view_rng = Stream.VIEWS.numpy(seed, task.epoch, task.index)
    views = TaskViews.draw(config.windows, (short_side, long_side), view_rng)
    own = _read(sequences[task.sequence], task.frames, task.object_id, task.hidden)
    given = _see(own, views, view_rng, targets)
    donated: list[LabelledFrame] = []
    if (donor := task.donor) is not None:
        donated = _see(_read(sequences[donor.sequence], donor.frames, donor.object_id), views, view_rng)
    frames: list[LabelledFrame] = []
    for place, frame in enumerate(given):
        if look.flip:
            frame = frame.flip()
        if task.is_still:
            frame = moved(frame, config, rng)
        frame = warp_keeping_object(frame, config, rng, _least_visible(frame))
        if donor is not None:
            frame = _paste(frame, donated[place], donor.is_target, config, rng)
        image = look.apply(frame.image)
        mask = _wanted(frame.mask, targets, donor is not None and donor.is_target)
        frames.append(LabelledFrame(degraded(image, config.views, rng) if task.is_still else image, mask))
    train, test = frames[: task.train_frames], frames[task.train_frames :]
    return TaskFrames(
        torch.stack([frame.image for frame in train]),
        torch.stack([frame.mask for frame in train]),
        torch.stack([frame.image for frame in test]),
        torch.stack([frame.mask for frame in test]),
    )


def transform(frame: LabelledFrame, config: AugmentationConfig, rng: np.random.Generator) -> LabelledFrame:
    """The frame with one random flip, rotation, zoom and shift; no colour.

    Where no draw leaves ``MIN_REMAINING`` of the object's pixels in the frame, there is only the flip.
    """
    if rng.random() < config.flip:
        frame = frame.flip()
    return warp_keeping_object(frame, config, rng, least_remaining(frame))


def transform_batch(
    frames: tuple[LabelledFrame, ...], step: int, count: int, config: AugmentationConfig, rng: np.random.Generator
) -> list[LabelledFrame]:
    """The ``count`` frames that fine-tuning step ``step`` learns from, each by a new ``transform``.

    ``frames`` are taken in turn, on from step to step, so that each is learned from even where a step takes fewer than
    there are.
    """
    places = range(step * count, (step + 1) * count)
    return [transform(frames[place % len(frames)], config, rng) for place in places]


@dataclass(frozen=True)
class _Look:
    """What the frames of a task share."""

    flip: bool
    factors: tuple[float, float, float, float]
    channels: tuple[int, ...]

    @staticmethod
    def draw(config: AugmentationConfig, rng: np.random.Generator) -> "_Look":
        flip = bool(rng.random() < config.flip)
        brightness, contrast, saturation = (
            float(rng.uniform(1 - amount, 1 + amount))
            for amount in (config.brightness, config.contrast, config.saturation)
        )
        hue = float(rng.uniform(-config.hue, config.hue))
        permuted = rng.random() < config.channel_permutation
        order = rng.permutation(3)
        return _Look(flip, (brightness, contrast, saturation, hue), tuple(order.tolist()) if permuted else (0, 1, 2))

    def apply(self, image: Tensor) -> Tensor:
        brightness, contrast, saturation, hue = self.factors
        image = F.adjust_brightness(image, brightness)
        image = F.adjust_contrast(image, contrast)
        image = F.adjust_saturation(image, saturation)
        if hue:
            image = F.adjust_hue(image, hue)
        return image[list(self.channels)].contiguous()


@dataclass(frozen=True)
class _Read:
    """A frame as it lies in a dataset: image (3, H, W) uint8, ids (H, W), and the object that is asked for."""

    image: Tensor
    ids: Tensor
    object_id: int

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]


def _read(video: Sequence, positions: tuple[int, ...], object_id: int, hidden: tuple[int, ...] = ()) -> list[_Read]:
    """Frames with an object that is in them, but not in those at the places ``hidden``."""
    frames = []
    for place, position in enumerate(positions):
        image, ids = video.frame(position)
        if ids is None or bool((ids == object_id).any()) == (place in hidden):
            raise BadInput(
                f"{video.dataset}/{video.name}/{video.frame_names[position]}: object {object_id} "
                f"{'is' if place in hidden else 'is not'} in its mask, though the index says otherwise; encode the "
                "dataset again"
            )
        frames.append(_Read(image, ids, object_id))
    return frames


def _see(
    frames: list[_Read], views: TaskViews, rng: np.random.Generator, targets: Targets = "one"
) -> list[LabelledFrame]:
    """What is in the views of frames, at the model's input size."""
    boxes = [tight_box(frame.ids == frame.object_id) for frame in frames]
    seen = views.of([frame.size for frame in frames], boxes, rng)
    return [_labelled(frame, view, targets) for frame, view in zip(frames, seen, strict=True)]


def _labelled(frame: _Read, view: View, targets: Targets) -> LabelledFrame:
    """Merged, all objects as one come last, so that there is no seam where two of them touch."""
    ids, object_id = frame.ids, frame.object_id
    mask = view.mask(torch.where(ids == VOID, VOID, ids == object_id).to(torch.uint8))
    others: list[Tensor] = []
    if targets != "one":
        others = [ids == other for other in object_ids(ids) if other not in (VOID, object_id)]
    if targets == "merged":
        others.append((ids > 0) & (ids != VOID))
    for number, other in enumerate(others, TARGET + 1):
        its = view.mask(other.to(torch.uint8))
        value = number if targets == "instances" else TARGET + 1
        mask = torch.where((its == 1) & ((mask == 0) | (mask == VOID)), value, mask)
    return LabelledFrame(view.image(frame.image), mask)


def _wanted(mask: Tensor, targets: Targets, target_is_pasted: bool) -> Tensor:
    """A frame's mask with the objects that are to be found; void is where an object of the frame itself may be."""
    if targets == "instances":
        return mask
    if targets == "merged":
        return torch.where(mask == VOID, VOID, mask > 0).to(torch.uint8)
    return torch.where(mask == VOID, 0 if target_is_pasted else VOID, mask == TARGET).to(torch.uint8)


def _paste(
    frame: LabelledFrame,
    donor: LabelledFrame,
    donor_is_target: bool,
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> LabelledFrame:
    """The frame with the donor's object over it, under a warp of its own, with its centre at a random place.

    Where no place leaves the target visible, a donor that is the target is pasted as it is, and another not at all.
    """
    height, width = frame.mask.shape
    donor = _crop(donor, height, width)
    ys, xs = torch.where(donor.shown)
    centre = (float(xs.double().mean()), float(ys.double().mean())) if len(ys) else (width / 2, height / 2)
    for _ in range(TRIES):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        shift = (float(x) - centre[0], float(y) - centre[1])
        pasted = _over(frame, warp(donor, config, rng, shift, centre), donor_is_target)
        visible = pasted.shown.sum()
        remains = donor_is_target or visible >= MIN_REMAINING * frame.shown.sum()
        if visible >= _least_visible(frame) and remains:
            return pasted
    return _over(frame, donor, donor_is_target) if donor_is_target else frame


def _over(frame: LabelledFrame, donor: LabelledFrame, donor_is_target: bool) -> LabelledFrame:
    """The frame with the donor's object over it, as one of the others, or as the target in place of the frame's own."""
    other = min({*range(TARGET + 1, VOID)} - {*object_ids(frame.mask)})
    mask = torch.where(frame.shown, other, frame.mask) if donor_is_target else frame.mask
    return LabelledFrame(
        torch.where(donor.shown, donor.image, frame.image),
        torch.where(donor.shown, TARGET if donor_is_target else other, mask),
    )


def _crop(frame: LabelledFrame, height: int, width: int) -> LabelledFrame:
    """The ``height`` x ``width`` of a frame that hold most of the object, zeros where the frame is smaller."""
    top, left = (
        int(counts.unfold(0, min(side, len(counts)), 1).sum(dim=1).argmax())
        for counts, side in ((frame.shown.sum(dim=1), height), (frame.shown.sum(dim=0), width))
    )
    image, mask = (part[..., top : top + height, left : left + width] for part in (frame.image, frame.mask))
    padding = (0, width - mask.shape[1], 0, height - mask.shape[0])
    return LabelledFrame(torch.nn.functional.pad(image, padding), torch.nn.functional.pad(mask, padding))


def _least_visible(frame: LabelledFrame) -> float:
    """Pixels that a warp has to leave of an object: none where it is hidden."""
    return max(MIN_AREA * frame.mask.numel(), 4) if frame.shown.any() else 0

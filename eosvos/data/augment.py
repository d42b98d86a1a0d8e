"""From a task's frames to what is learned from: resizing, pasting, warping, colour; image and mask together."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from eosvos.data.config import AugmentationConfig
from eosvos.data.sequence import Sequence
from eosvos.data.tasks import MIN_AREA, Task
from eosvos.draws import Stream
from eosvos.errors import BadInput

MIN_REMAINING = 0.4
"""A target that something is pasted over keeps at least this share of its pixels."""
TRIES = 10
"""A warp or a place that loses the object is drawn again this often, then left out."""


@dataclass(frozen=True)
class TaskFrames:
    """A task as the learner sees it: frames (N, 3, H, W) uint8 and the target's masks (N, H, W) uint8, 0 or 1."""

    train_images: Tensor
    train_masks: Tensor
    test_images: Tensor
    test_masks: Tensor


def task_frames(
    sequences: tuple[Sequence, ...], task: Task, config: AugmentationConfig, seed: int, short_side: int, long_side: int
) -> TaskFrames:
    """Reads, decodes and augments just the frames that ``task`` names.

    The same (task, config, seed, sides) gives the same pixels anywhere: draws depend on (seed, epoch, index).

    Args:
        sequences: the dataset that the task's numbers refer to.
        task: what to make.
        config: ranges.
        seed: of the training.
        short_side, long_side: frames are resized to these first, as in ``resized``.

    Raises:
        BadInput: a frame that cannot be decoded, has no mask, or does not show the object that the task names.
    """
    rng = Stream.AUGMENTATION.numpy(seed, task.epoch, task.index)
    look = _Look.draw(config, rng)
    images: list[Tensor] = []
    masks: list[Tensor] = []
    for place, frame in enumerate(task.frames):
        image, mask = _object(sequences, task.sequence, frame, task.object_id, short_side, long_side)
        if look.flip:
            image, mask = F.horizontal_flip(image), F.horizontal_flip(mask)
        image, mask = _warp_keeping_object(image, mask, config, rng, _least_visible(mask))
        if task.donor is not None:
            donor = _object(
                sequences, task.donor.sequence, task.donor.frames[place], task.donor.object_id, short_side, long_side
            )
            image, mask = _paste(image, mask, *donor, task.donor.is_target, config, rng)
        images.append(look.apply(image))
        masks.append(mask)
    first = task.train_frames
    return TaskFrames(*(torch.stack(p) for p in (images[:first], masks[:first], images[first:], masks[first:])))


def transformed(
    image: Tensor, mask: Tensor, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A frame (3, H, W) uint8 and mask (H, W) uint8 with one random flip, rotation, zoom and shift; no colour.

    Where no draw leaves ``MIN_REMAINING`` of the object's pixels in the frame, there is only the flip.
    """
    if rng.random() < config.flip:
        image, mask = F.horizontal_flip(image), F.horizontal_flip(mask)
    return _warp_keeping_object(image, mask, config, rng, max(MIN_REMAINING * int(mask.sum()), 1))


def transforms(
    frames: list[tuple[Tensor, Tensor]], step: int, count: int, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    """What fine-tuning step ``step`` learns from: ``count`` images and their masks, each ``transformed`` anew.

    ``frames`` (image, mask) are taken in turn, on from step to step, so that each is learned from even where a step
    takes fewer than there are.
    """
    places = range(step * count, (step + 1) * count)
    pairs = [transformed(*frames[place % len(frames)], config, rng) for place in places]
    return [image for image, _ in pairs], [mask for _, mask in pairs]


def resized(image: Tensor, short_side: int, long_side: int) -> Tensor:
    """A frame (3, H, W) uint8 or mask (H, W) uint8 at the model's input size.

    The shorter side becomes ``short_side``, or less where the longer side would exceed ``long_side``. Frames are
    filtered bilinearly with antialiasing; masks take the nearest pixel, but what would be lost for it keeps every pixel
    that it touches.
    """
    size = input_size((image.shape[-2], image.shape[-1]), short_side, long_side)
    if image.dim() == 2:
        mask: Tensor = F.resize(image[None], list(size), interpolation=InterpolationMode.NEAREST_EXACT)
        if image.any() and not mask.any():
            mask = torch.nn.functional.adaptive_max_pool2d(image[None].float(), size).to(image.dtype)
        return mask[0]
    frame: Tensor = F.resize(image, list(size), interpolation=InterpolationMode.BILINEAR, antialias=True)
    return frame


def input_size(size: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """(H, W) of a frame -> (H, W) of the model's input; the aspect ratio is kept to the nearest pixel."""
    factor = min(short_side / min(size), long_side / max(size))
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


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


def _object(
    sequences: tuple[Sequence, ...], sequence: int, position: int, object_id: int, short_side: int, long_side: int
) -> tuple[Tensor, Tensor]:
    source = sequences[sequence]
    image, ids = source.frame(position)
    if ids is None or not bool((ids == object_id).any()):
        raise BadInput(
            f"{source.dataset}/{source.name}/{source.frame_names[position]}: object {object_id} is not in its mask, "
            "though the index says so; encode the dataset again"
        )
    return resized(image, short_side, long_side), resized((ids == object_id).to(torch.uint8), short_side, long_side)


def _warp(
    image: Tensor,
    mask: Tensor,
    config: AugmentationConfig,
    rng: np.random.Generator,
    shift: tuple[float, float],
    centre: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Rotation and zoom about ``centre`` (x, y; the frame's own by default), then a shift (x, y), all in pixels.

    The canvas stays, its border is black.
    """
    angle = float(rng.uniform(-config.rotation, config.rotation))
    zoom = float(rng.uniform(*config.scale))
    warped = [
        F.affine(
            part,
            angle=angle,
            translate=list(shift),
            scale=zoom,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,  # of the image; a tv_tensors.Mask takes its nearest pixel
            center=None if centre is None else list(centre),
        )
        for part in (tv_tensors.Image(image), tv_tensors.Mask(mask))
    ]
    return warped[0].as_subclass(Tensor), warped[1].as_subclass(Tensor)


def _warp_keeping_object(
    image: Tensor, mask: Tensor, config: AugmentationConfig, rng: np.random.Generator, least: float
) -> tuple[Tensor, Tensor]:
    """A warp that leaves at least so many pixels of the object."""
    height, width = mask.shape
    for _ in range(TRIES):
        x, y = rng.uniform(-config.translation, config.translation, size=2)
        warped_image, warped_mask = _warp(image, mask, config, rng, (x * width, y * height))
        if int(warped_mask.sum()) >= least:
            return warped_image, warped_mask
    return image, mask


def _paste(
    image: Tensor,
    mask: Tensor,
    donor_image: Tensor,
    donor_mask: Tensor,
    donor_is_target: bool,
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """The donor's object, warped on its own, over ``image``, with its centre at a random place of the frame.

    Where no place leaves the target visible, a donor that is the target is pasted as it is, and another not at all.
    """
    height, width = mask.shape
    donor_image, donor_mask = _fitted(donor_image, donor_mask, height, width)
    ys, xs = torch.where(donor_mask > 0)
    centre = (float(xs.double().mean()), float(ys.double().mean())) if len(ys) else (width / 2, height / 2)
    for _ in range(TRIES):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        shift = (float(x) - centre[0], float(y) - centre[1])
        pasted_image, pasted_mask = _warp(donor_image, donor_mask, config, rng, shift, centre)
        remaining = mask * (1 - pasted_mask)
        target = pasted_mask if donor_is_target else remaining
        if _visible(target) and (donor_is_target or remaining.sum() >= MIN_REMAINING * mask.sum()):
            return torch.where(pasted_mask.bool(), pasted_image, image), target
    if donor_is_target:
        return torch.where(donor_mask.bool(), donor_image, image), donor_mask
    return image, mask


def _fitted(image: Tensor, mask: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The ``height`` x ``width`` of a frame and its mask that hold most of the object, zeros where they are smaller."""
    top, left = (
        int(counts.unfold(0, min(side, len(counts)), 1).sum(dim=1).argmax())
        for counts, side in ((mask.sum(dim=1), height), (mask.sum(dim=0), width))
    )
    image, mask = (part[..., top : top + height, left : left + width] for part in (image, mask))
    padding = (0, width - mask.shape[1], 0, height - mask.shape[0])
    return torch.nn.functional.pad(image, padding), torch.nn.functional.pad(mask, padding)


def _visible(mask: Tensor) -> bool:
    return int(mask.sum()) >= _least_visible(mask)


def _least_visible(mask: Tensor) -> float:
    return max(MIN_AREA * mask.numel(), 4)

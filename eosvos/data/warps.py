"""A frame with its object and perhaps others, and its affine warps: image and mask together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from eosvos.data.config import AugmentationConfig

TARGET = 1
"""In a mask, the object that a task is about."""
MIN_REMAINING = 0.4
"""An object that is covered, or moved, keeps at least this share of its pixels."""
TRIES = 10
"""A warp or a place that loses the object is drawn again this often, then left out."""


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with the mask of one object, and of others where they are to be found, too.

    Attributes:
        image: (3, H, W) uint8, RGB.
        mask: (H, W) uint8, ``TARGET`` on the object, another number on each of the others, else 0, and ``VOID`` where
            nobody knows. The numbers of the others mean nothing in another frame.
    """

    image: Tensor
    mask: Tensor

    @property
    def shown(self) -> Tensor:
        """(H, W) bool, where the object is for sure."""
        return self.mask == TARGET

    def flip(self) -> "LabelledFrame":
        """Left and right exchanged."""
        return LabelledFrame(F.horizontal_flip(self.image), F.horizontal_flip(self.mask))


def warp(
    frame: LabelledFrame,
    config: AugmentationConfig,
    rng: np.random.Generator,
    shift: tuple[float, float],
    centre: tuple[float, float] | None = None,
) -> LabelledFrame:
    """Rotation and zoom about ``centre`` (x, y; by default the frame's centre), then a shift (x, y), all in pixels.

    The canvas stays, its border is black.
    """
    angle = float(rng.uniform(-config.rotation, config.rotation))
    zoom = float(rng.uniform(*config.scale))
    image, mask = (
        F.affine(
            part,
            angle=angle,
            translate=list(shift),
            scale=zoom,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,  # of the image; a tv_tensors.Mask takes its nearest pixel
            center=None if centre is None else list(centre),
        )
        for part in (tv_tensors.Image(frame.image), tv_tensors.Mask(frame.mask))
    )
    return LabelledFrame(image.as_subclass(Tensor), mask.as_subclass(Tensor))


def warp_keeping_object(
    frame: LabelledFrame, config: AugmentationConfig, rng: np.random.Generator, least: float
) -> LabelledFrame:
    """A warp that leaves at least so many pixels of the object; the frame as it is where there is none."""
    height, width = frame.mask.shape

    def warped() -> LabelledFrame:
        x, y = rng.uniform(-config.translation, config.translation, size=2)
        return warp(frame, config, rng, (x * width, y * height))

    return keeping_object(frame, warped, least)


def keeping_object(frame: LabelledFrame, draw: Callable[[], LabelledFrame], least: float) -> LabelledFrame:
    """What ``draw`` gives where it has at least so many pixels of the object, by ``TRIES``; else the frame as it is."""
    for _ in range(TRIES):
        drawn = draw()
        if int(drawn.shown.sum()) >= least:
            return drawn
    return frame


def least_remaining(frame: LabelledFrame) -> float:
    """Pixels of the object that are ``MIN_REMAINING`` of it, and one at least."""
    return max(MIN_REMAINING * int(frame.shown.sum()), 1)

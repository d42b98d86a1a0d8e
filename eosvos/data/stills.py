"""Views of one and the same frame, drawn far apart, so that a photograph is a task as hard as a video.

An affine warp alone is too easy: learning rates that memorize the frame pay.
"""

import io
import math

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from eosvos.data.config import AugmentationConfig, StillsConfig
from eosvos.data.sequence import decode_image
from eosvos.data.warps import LabelledFrame, keeping_object, least_remaining, warp

_NODES = 4
"""An elastic warp is smooth: it is drawn on a grid of so many nodes to a side."""
_MARGIN = 2
"""Pixels around the object that are filled as well, as they show some of it."""
_BLUR = 0.02
"""Of what is filled, as a share of the frame's shorter side."""
_QUALITY = (20, 80)
"""Of JPEG noise, as libjpeg counts it."""


def moved(frame: LabelledFrame, config: AugmentationConfig, rng: np.random.Generator) -> LabelledFrame:
    """The frame with its object moved against the background, then all of it bent, as ``config.views`` says.

    Each is left out where no draw leaves ``MIN_REMAINING`` of the object's pixels.
    """
    if config.views.apart > 0:
        frame = keeping_object(frame, lambda: _apart(frame, config, rng), least_remaining(frame))
    if config.views.elastic > 0:
        frame = keeping_object(frame, lambda: _bent(frame, config.views.elastic, rng), least_remaining(frame))
    return frame


def degraded(image: Tensor, config: StillsConfig, rng: np.random.Generator) -> Tensor:
    """An image (3, H, W) uint8 with motion blur, then JPEG noise."""
    if config.motion_blur > 0:
        image = _blurred(image, rng.uniform(0, config.motion_blur * min(image.shape[1:])), rng.uniform(0, math.pi))
    if config.jpeg > 0 and rng.random() < config.jpeg:
        data = io.BytesIO()
        quality = int(rng.integers(*_QUALITY, endpoint=True))
        Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(data, "JPEG", quality=quality)
        image = decode_image(data.getvalue(), "JPEG noise")
    return image


def _apart(frame: LabelledFrame, config: AugmentationConfig, rng: np.random.Generator) -> LabelledFrame:
    """The object cut out, turned and zoomed about its centre, and shifted, over a background without it."""
    height, width = frame.mask.shape
    ys, xs = torch.where(frame.shown)
    shift = rng.uniform(-config.views.apart, config.views.apart, size=2) * (width, height)
    centre = float(xs.double().mean()), float(ys.double().mean())
    there = warp(frame, config, rng, (float(shift[0]), float(shift[1])), centre)
    background = torch.where(frame.shown, 0, frame.mask)
    return LabelledFrame(
        torch.where(there.shown, there.image, _without_object(frame)),
        torch.where(there.shown, 1, background).to(frame.mask.dtype),
    )


def _without_object(frame: LabelledFrame) -> Tensor:
    """The image with the object's place filled by what is around it: the nearest pixels, blurred."""
    hole = ndimage.binary_dilation(frame.shown.numpy(), iterations=_MARGIN)
    if hole.all():
        return frame.image
    nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    filled = frame.image.numpy()[:, nearest[0], nearest[1]]
    smooth = ndimage.gaussian_filter(filled, sigma=_BLUR * min(hole.shape), mode="nearest", axes=(1, 2))
    return torch.where(torch.from_numpy(hole), torch.from_numpy(smooth), frame.image)


def _bent(frame: LabelledFrame, amount: float, rng: np.random.Generator) -> LabelledFrame:
    """Warped smoothly by up to ``amount`` of the shorter side."""
    height, width = frame.mask.shape
    nodes = torch.from_numpy(rng.uniform(-1, 1, size=(1, 2, _NODES, _NODES))).float()
    smooth = torch.nn.functional.interpolate(nodes, size=(height, width), mode="bicubic", align_corners=True)
    # torchvision counts a side as 2.
    scale = 2 * amount * min(height, width) / torch.tensor([width, height])
    displacement = smooth.permute(0, 2, 3, 1) * scale
    image, mask = (
        F.elastic(part, displacement) for part in (tv_tensors.Image(frame.image), tv_tensors.Mask(frame.mask))
    )
    return LabelledFrame(image.as_subclass(Tensor), mask.as_subclass(Tensor))


def _blurred(image: Tensor, length: float, angle: float) -> Tensor:
    """The mean of the image along a line of ``length`` pixels at ``angle``, in radians."""
    reach = math.ceil(length / 2)
    if reach == 0:
        return image
    places = np.linspace(-length / 2, length / 2, 4 * reach + 1)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    rows, columns = (np.rint(reach + places * part(angle)).astype(int) for part in (np.sin, np.cos))
    np.add.at(kernel, (rows, columns), 1 / len(places))
    padded = torch.nn.functional.pad(image[None].float(), [reach] * 4, mode="replicate")
    weights = torch.from_numpy(kernel).expand(3, 1, -1, -1)
    return torch.nn.functional.conv2d(padded, weights, groups=3)[0].round().clamp(0, 255).to(torch.uint8)

"""Frames and masks at the model's input size."""

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from eosvos.data.sequence import VOID


def input_size(size: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """(H, W) of a frame -> (H, W) of the model's input; the aspect ratio is kept to the nearest pixel."""
    factor = min(short_side / min(size), long_side / max(size))
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A frame (3, H, W) uint8 at ``size`` (h, w), filtered bilinearly with antialiasing."""
    frame: Tensor = F.resize(image, list(size), interpolation=InterpolationMode.BILINEAR, antialias=True)
    return frame


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask of a ``LabelledFrame`` (H, W) uint8 at ``size`` (h, w), as ``resize`` of its frame.

    A pixel is the object's where that covers half of it or more; but an object that would be lost for it keeps every
    pixel that it touches. A pixel is void where it is not the object's, but might be.
    """
    shown = _resized(mask == 1, size)
    if not bool((mask == VOID).any()):
        return shown.to(torch.uint8)
    return torch.where(_resized(mask > 0, size) > shown, VOID, shown).to(torch.uint8)


def _resized(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) bool -> ``size`` (h, w) bool."""
    covered = _covered(mask, size)
    half = 2 * covered >= mask.numel()
    return half if half.any() else covered > 0


def _covered(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """How much of each pixel of a grid of ``size`` (h, w) a mask (H, W) bool covers, of H x W parts: (h, w) int64.

    In whole numbers, so that one half is one half anywhere: along an axis a pixel of the mask has as many parts as the
    grid has pixels. Only what is around the mask is looked at.
    """
    covered = torch.zeros(size, dtype=torch.int64)
    ys, xs = (torch.where(mask.any(dim=axis))[0] for axis in (1, 0))
    if len(ys) == 0:
        return covered
    top, left = int(ys[0]), int(xs[0])
    parts = mask[top : int(ys[-1]) + 1, left : int(xs[-1]) + 1].long()
    touched = []
    for length, count, start in zip(size, mask.shape, (top, left), strict=True):
        first, end = start * length // count, -(-(start + len(parts)) * length // count)
        pixels = torch.nn.functional.pad(parts, (0, 0, 0, 1))
        edges = (torch.arange(first, end + 1) * count - start * length).clamp(0, len(parts) * length)
        whole, rest = edges // length, edges % length
        before = pixels.cumsum(dim=0) - pixels
        parts = (before[whole] * length + pixels[whole] * rest[:, None]).diff(dim=0).T
        touched.append(slice(first, end))
    covered[touched[0], touched[1]] = parts
    return covered

"""Object masks painted over their frame."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eosvos.data.palette import DAVIS_PALETTE

OPACITY = 0.45
"""Share of the object's colour inside its contour; the frame keeps the rest."""


def overlay(image: Tensor, mask: Tensor | NDArray[np.uint8]) -> Tensor:
    """The frame with each object in a translucent colour inside a crisp contour.

    Colours are those of the DAVIS palette, brightened, for the palette is dark over video. The contour lies inside
    the object and grows with the frame (2 pixels at 480p), so that it still shows on a thumbnail.

    Args:
        image: (3, H, W) uint8, RGB.
        mask: (H, W) uint8, object ids with 0 for the background.

    Returns:
        (3, H, W) uint8, RGB; the background as it was.

    Raises:
        ValueError: not uint8, or a mask of another size than the image.
    """
    frame, ids = np.asarray(image), np.asarray(mask)
    if frame.dtype != np.uint8 or ids.dtype != np.uint8:
        raise ValueError(f"image of type {frame.dtype}, mask of type {ids.dtype}: both must be uint8")
    if frame.ndim != 3 or frame.shape != (3, *ids.shape):
        raise ValueError(f"image of shape {frame.shape}, mask of shape {ids.shape}: need (3, H, W) and (H, W)")
    colours = np.minimum(DAVIS_PALETTE * (255 / 191), 255)  # 191 is the brightest value of the palette's colours
    # One look-up per pixel: what the frame's pixel is multiplied by, and what is added, for the three kinds of pixel.
    fill = np.where(ids > 0, OPACITY, 0.0)
    painted = frame * (1 - fill) + colours[ids].transpose(2, 0, 1) * fill
    edge = _contour(ids, width=max(1, round(min(ids.shape) / 240)))
    painted[:, edge] = ((colours + 255) / 2)[ids[edge]].T  # half way to white, to stand out from its own fill
    return torch.from_numpy(np.round(painted).astype(np.uint8))


def _contour(ids: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Object pixels with another id at most ``width`` away; the frame's border is no contour."""
    height, breadth = ids.shape
    padded = np.pad(ids, width, mode="edge")
    edge = np.zeros(ids.shape, dtype=np.bool_)
    for dy in range(-width, width + 1):
        for dx in range(-width, width + 1):
            if 0 < dy * dy + dx * dx <= width * width:
                edge |= padded[width + dy : width + dy + height, width + dx : width + dx + breadth] != ids
    return edge & (ids > 0)

"""The colours of the DAVIS annotations, and the indexed PNG that every mask of ours is written as."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eosvos.errors import BadInput


def _davis_palette() -> NDArray[np.uint8]:
    """The table that the DAVIS 2017 annotations carry, made by its rule.

    The first 22 colours deal the bits of the index over red, green and blue, as PASCAL VOC does, with 191 where VOC
    has 192; from there on colour i is the gray (i, i, i).
    """
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for index in range(22):
        for channel in range(3):
            bits = (index >> channel & 1) << 7 | (index >> channel + 3 & 1) << 6
            palette[index, channel] = min(bits, 191)
    palette.setflags(write=False)
    return palette


DAVIS_PALETTE: NDArray[np.uint8] = _davis_palette()
"""(256, 3) uint8, RGB of every object id; read-only."""


def encode_mask(ids: NDArray[np.uint8] | Tensor) -> bytes:
    """Object ids (H, W) uint8 -> PNG bytes, mode P with the DAVIS palette: pixel values are the ids themselves.

    Raises:
        BadInput: another type or shape; such a mask would be written with other ids than it holds.
    """
    values = np.asarray(ids)
    if values.dtype != np.uint8 or values.ndim != 2 or values.size == 0:
        raise BadInput(f"a mask of type {values.dtype} and shape {values.shape}: pass object ids as (H, W) uint8")
    image = Image.fromarray(values)
    image.putpalette(DAVIS_PALETTE.tobytes())
    data = io.BytesIO()
    image.save(data, format="PNG")
    return data.getvalue()

"""The palette's known colours, and masks that come back from their PNG as they went in."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.data.palette import DAVIS_PALETTE, encode_mask
from eosvos.data.sequence import decode_mask
from eosvos.errors import BadInput


def test_known_colours() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128)}
    known |= {8: (64, 0, 0), 9: (191, 0, 0), 18: (0, 191, 0), 21: (128, 64, 128), 22: (22, 22, 22), 255: (255,) * 3}
    assert DAVIS_PALETTE.shape == (256, 3)
    assert DAVIS_PALETTE.dtype == np.uint8
    for index, colour in known.items():
        assert tuple(DAVIS_PALETTE[index]) == colour


def test_every_id_survives_the_png() -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(8, 32)
    data = encode_mask(ids)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        assert image.getpalette() == DAVIS_PALETTE.flatten().tolist()
    assert np.array_equal(decode_mask(data, "mask.png", merge_objects=False).numpy(), ids)
    assert encode_mask(torch.from_numpy(ids)) == data


@pytest.mark.parametrize("ids", [np.zeros((4, 4), np.int64), np.zeros((1, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)])
def test_other_types_and_shapes_are_refused(ids: np.ndarray) -> None:
    with pytest.raises(BadInput, match="uint8"):
        encode_mask(ids)

"""Decoding: damaged bytes give a picture or a clear word, never another exception."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eosvos.data.palette import encode_mask
from eosvos.data.sequence import EncodedFrame, Sequence, decode_image, decode_mask
from eosvos.errors import BadInput

RNG = np.random.default_rng(0)
MASK = encode_mask(RNG.integers(0, 4, (11, 13), dtype=np.uint8))
_buffer = io.BytesIO()
Image.fromarray(RNG.integers(0, 256, (11, 13, 3), dtype=np.uint8)).save(_buffer, "JPEG")
IMAGE = _buffer.getvalue()


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what the damaged bytes claim to be
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_bytes(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["image", "mask"]))
    damaged = bytearray(IMAGE if kind == "image" else MASK)
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=3)):
        damaged[place] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    try:
        decode_image(bytes(damaged), "a.jpg") if kind == "image" else decode_mask(bytes(damaged), "a.jpg", False)
    except BadInput as error:
        message = str(error)
    else:
        return
    assert message.startswith("a.jpg: ")
    assert "0x" not in message


def test_damaged_chunk_of_a_mask() -> None:
    """Pillow raises ValueError for it, not OSError."""
    header_of_5_bytes = MASK[:11] + b"\x05" + MASK[12:]
    with pytest.raises(BadInput, match=r"^a\.png: not a readable mask"):
        decode_mask(header_of_5_bytes, "a.png", False)


@pytest.mark.parametrize(
    ("frames", "count", "expected"), [(9, 3, [0, 4, 8]), (9, 20, list(range(9))), (2, 2, [0, 1]), (10, 4, [0, 3, 6, 9])]
)
def test_thinned(frames: int, count: int, expected: list[int]) -> None:
    names = tuple(f"{position:05d}" for position in range(frames))
    whole = Sequence("made", "up", names, False, lambda position: EncodedFrame(b"", None, str(position), ""))
    thin = whole.thin(count)
    assert thin.frame_names == tuple(names[position] for position in expected)
    assert [thin.read(position).image_source for position in range(len(thin))] == [str(p) for p in expected]

"""Masks as people draw them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.data.palette import encode_mask
from eosvos.data.readers.clip import Clip
from eosvos.data.readers.masks import open_masks, read_mask
from eosvos.errors import BadInput

IDS = np.array([[0, 0, 1, 1], [0, 5, 5, 0], [200, 0, 0, 0]], dtype=np.uint8)
SHAPE = np.array([[0, 255, 255, 0], [0, 3, 255, 0], [0, 200, 0, 0]], dtype=np.uint8)
VOIDED = np.array([[0, 1, 255, 0], [0, 2, 255, 0], [0, 0, 0, 0]], dtype=np.uint8)


def _clip(names: tuple[str, ...] | None = ("f7", "f8", "f9")) -> Clip:
    return Clip(Path("clip"), (3, 4), 3, names, lambda: iter(()))


def _palette(ids: np.ndarray) -> bytes:  # type: ignore[type-arg]
    return encode_mask(np.ascontiguousarray(ids))


def _rgba() -> Image.Image:
    """White where the object is, white but transparent elsewhere."""
    pixels = np.full((3, 4, 4), 255, dtype=np.uint8)
    pixels[..., 3] = (SHAPE > 0) * 255
    return Image.fromarray(pixels)


def _two_colours(palette: tuple[int, ...]) -> Image.Image:
    image = Image.fromarray((SHAPE > 0).astype(np.uint8)).convert("P")
    image.putpalette(palette)
    return image


KINDS: dict[str, tuple[Callable[[], Image.Image], np.ndarray]] = {  # type: ignore[type-arg]
    "gray ids": (lambda: Image.fromarray(IDS), IDS),
    "gray, one id": (lambda: Image.fromarray((IDS == 5).astype(np.uint8) * 5), (IDS == 5) * 5),
    "black and white": (lambda: Image.fromarray(SHAPE), SHAPE > 0),
    "black and white, one bit": (lambda: Image.fromarray(SHAPE > 0), SHAPE > 0),
    "black and white, three channels": (lambda: Image.fromarray(SHAPE).convert("RGB"), SHAPE > 0),
    "black and white with alpha": (lambda: Image.fromarray(SHAPE).convert("LA"), SHAPE > 0),
    "transparent background": (_rgba, SHAPE > 0),
    "black and white, 16 bits": (lambda: Image.fromarray(SHAPE.astype(np.uint16) * 257), SHAPE > 0),
    "black and white, palette": (lambda: Image.fromarray((SHAPE > 0).astype(np.uint8) * 255).convert("P"), SHAPE > 0),
    "ids and 255 in a gray palette": (lambda: Image.fromarray(VOIDED).convert("P"), VOIDED % 255),
    "anti-aliased, palette": (lambda: Image.fromarray(SHAPE).convert("P"), SHAPE > 0),
    "white is the first of a palette": (lambda: _two_colours((255, 255, 255, 0, 0, 0)), SHAPE == 0),
    "two colours are one object": (lambda: _two_colours((0, 0, 0, 128, 0, 0)), SHAPE > 0),
    "16-bit ids": (lambda: Image.fromarray(IDS.astype(np.uint16)), IDS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_masks(tmp_path: Path, kind: str) -> None:
    make, expected = KINDS[kind]
    make().save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == torch.uint8
    assert np.array_equal(mask.numpy(), expected.astype(np.uint8))


def test_values_of_a_palette_are_ids_but_for_255(tmp_path: Path) -> None:
    values = IDS.copy()
    values[2, 3] = 255
    (tmp_path / "mask.png").write_bytes(_palette(values))
    assert np.array_equal(read_mask(tmp_path / "mask.png").numpy(), IDS)
    (tmp_path / "mask.png").write_bytes(_palette((values == 255).astype(np.uint8) * 255))
    assert not read_mask(tmp_path / "mask.png").any()


def test_one_mask_is_of_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "anything.png").write_bytes(_palette(IDS))
    masks = open_masks(tmp_path / "anything.png", _clip())
    assert (list(masks), masks.objects) == ([0], {1: 0, 5: 0, 200: 0})
    assert np.array_equal(masks[0].numpy(), IDS)


def test_a_folder_of_masks(tmp_path: Path) -> None:
    """An empty mask says nothing; objects enter with their first mask, and later ones are corrections."""
    later = np.where(IDS == 1, 9, IDS).astype(np.uint8)
    for name, ids in {"f7": IDS * 0, "f8": IDS, "f9": later}.items():
        (tmp_path / f"{name}.png").write_bytes(_palette(ids))
    (tmp_path / "readme.txt").write_text("no mask")
    masks = open_masks(tmp_path, _clip())
    assert dict(masks.ids) == {1: (1, 5, 200), 2: (5, 9, 200)}
    assert masks.objects == {1: 1, 5: 1, 200: 1, 9: 2}
    assert np.array_equal(masks[2].numpy(), later)
    assert 0 not in masks
    first_only = open_masks(tmp_path, _clip(), corrections=False)
    assert dict(first_only.ids) == {1: (1, 5, 200), 2: (9,)}
    assert np.array_equal(first_only[2].numpy(), np.where(later == 9, 9, 0))


def test_masks_of_a_video_file_are_named_by_number(tmp_path: Path) -> None:
    for name in ("frame_000002", "00000"):
        (tmp_path / f"{name}.png").write_bytes(_palette(IDS))
    assert sorted(open_masks(tmp_path, _clip(None))) == [0, 2]
    (tmp_path / "2.png").write_bytes(_palette(IDS))
    with pytest.raises(BadInput, match=r"there is also frame_000002\.png for this frame"):
        open_masks(tmp_path, _clip(None))


def test_masks_that_cannot_be_used(tmp_path: Path) -> None:
    colours = np.zeros((3, 4, 3), dtype=np.uint8)
    colours[0, 0] = (255, 0, 0)
    files = {
        "size.png": Image.fromarray(IDS[:2]),
        "none.png": Image.fromarray(IDS * 0),
        "many.png": Image.fromarray(IDS.astype(np.uint16) * 100),
        "colours.png": Image.fromarray(colours),
        "blurred.jpg": Image.fromarray(IDS),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "f10.png").write_bytes(_palette(IDS))
    for name, message in {
        "missing.png": "no such mask; name a PNG for the first frame",
        "size.png": "the mask has 4x2 pixels, clip has 4x3",
        "none.png": "a mask with no object; draw at least one value above 0",
        "many.png": "holds the value 20000; there can be at most 255 objects",
        "colours.png": "a mask in colours has no object ids",
        "blurred.jpg": "a mask as JPEG, which blurs the objects' values; save it as PNG",
        "text.png": "not a readable mask",
        "empty": "a folder without masks",
        "names": "f10.png: clip has no frame of this name; its frames are called f7 to f9",
    }.items():
        with pytest.raises(BadInput, match=message):
            open_masks(tmp_path / name, _clip())

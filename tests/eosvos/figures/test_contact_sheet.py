"""Sizes of a contact sheet, and the right picture in the right cell."""

import numpy as np
import pytest
import torch

from eosvos.figures.contact_sheet import CELL, GAP, MARGIN, MIDDLE_INK, PAPER, contact_sheet


def plain(colour: tuple[int, int, int], height: int, width: int) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, height, width)


RED, GREEN, BLUE, GRAY = (200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)


def test_cells_without_labels() -> None:
    sheet = contact_sheet([("", [plain(RED, 480, 854), plain(GREEN, 480, 854)]), ("", [plain(BLUE, 480, 854)])])
    assert sheet.mode == "RGB"
    width, height = 240, 135
    assert sheet.size == (2 * MARGIN + 2 * width + GAP, 2 * MARGIN + 2 * height + GAP)
    for row, column, colour in ((0, 0, RED), (0, 1, GREEN), (1, 0, BLUE), (1, 1, PAPER)):
        left, top = MARGIN + column * (width + GAP), MARGIN + row * (height + GAP)
        for x, y in ((left, top), (left + width - 1, top + height - 1), (left + width // 2, top + height // 2)):
            assert sheet.getpixel((x, y)) == colour
    assert sheet.getpixel((MARGIN + width + GAP // 2, MARGIN + 5)) == PAPER


def test_labels_and_headings_take_room_and_ink() -> None:
    images = [plain(RED, 90, 160), plain(GREEN, 90, 160)]
    bare = contact_sheet([("", images)])
    sheet = contact_sheet([("bear\nJ 88.1", images)], columns=["frame 0", "frame 9"])
    assert sheet.width > bare.width + 30
    assert sheet.height > bare.height + 10
    pixels = np.asarray(sheet)
    right, below = sheet.width - bare.width, sheet.height - bare.height
    assert sheet.getpixel((right + MARGIN, below + MARGIN)) == RED
    dark = (pixels < 100).all(axis=2)
    assert dark[below + MARGIN :, : right + MARGIN].any()  # the label
    for left in (right + MARGIN, right + MARGIN + 160 + GAP):  # a heading above each column
        assert dark[: below + MARGIN, left : left + 160].any()
    assert not dark[:MARGIN].any()
    assert not dark[:, : MARGIN - 2].any()  # a letter such as J hangs over by a pixel


def test_portrait_frames_are_limited_by_height_and_centred() -> None:
    sheet = contact_sheet([("", [plain(RED, 480, 854)]), ("", [plain(GRAY, 854, 480)])])
    assert sheet.size == (2 * MARGIN + CELL[0], 2 * MARGIN + 135 + GAP + CELL[1])
    middle = MARGIN + 135 + GAP + CELL[1] // 2
    assert sheet.getpixel((sheet.width // 2, middle)) == GRAY
    assert sheet.getpixel((MARGIN + 5, middle)) == sheet.getpixel((sheet.width - MARGIN - 5, middle)) == PAPER


def test_a_transparent_sheet_is_the_same_without_paper() -> None:
    rows, columns = [("bear", [plain(RED, 90, 160), plain(GREEN, 90, 160)])], ["first", "last"]
    sheet, bare = contact_sheet(rows, columns), contact_sheet(rows, columns, transparent=True)
    assert (bare.mode, bare.size) == ("RGBA", sheet.size)
    pixels, opacity = np.asarray(sheet), np.asarray(bare)[..., 3]
    assert np.array_equal(opacity == 0, (pixels == PAPER).all(axis=2))
    images = (pixels == RED).all(axis=2) | (pixels == GREEN).all(axis=2)
    assert (opacity[images] == 255).all()
    assert np.array_equal(np.asarray(bare)[images][:, :3], pixels[images])
    assert {tuple(colour) for colour in np.asarray(bare)[~images][:, :3].tolist()} == {MIDDLE_INK}


@pytest.mark.parametrize("rows", [[], [("bear", [])]])
def test_no_images_no_sheet(rows: list) -> None:
    with pytest.raises(ValueError, match="no images"):
        contact_sheet(rows)

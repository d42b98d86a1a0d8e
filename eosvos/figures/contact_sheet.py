"""Many frames on one page: a row per sequence, a column per frame or method."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL = (240, 180)
"""Width and height that a thumbnail fits in; portrait frames are limited by the height."""
GAP = 6
MARGIN = 14
FONT_SIZE = 15
PAPER, INK = (255, 255, 255), (40, 40, 40)
MIDDLE_INK = (121, 121, 121)
"""Of labels without paper behind them: shows on a light and on a dark page (see ``style.py``)."""


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Tensor]]], columns: Sequence[str] = (), transparent: bool = False
) -> Image.Image:
    """Frames as thumbnails in rows, each row with its label to the left.

    Args:
        rows: (label, images); a label may have several lines, an image is (3, H, W) uint8 RGB of any size. Rows may
            be of different lengths.
        columns: headings above the columns, from the left; none, no line for them.
        transparent: no paper, and labels that show on a light and on a dark page.

    Returns:
        An RGB image, RGBA where it is transparent; ``save`` it as PNG.

    Raises:
        ValueError: no image at all.
    """
    if not any(images for _, images in rows):
        raise ValueError("a contact sheet of no images")
    font = _font()
    cells = [(label, [_thumbnail(image) for image in images]) for label, images in rows]
    widths = [
        max(images[column].width for _, images in cells if column < len(images))
        for column in range(max(len(images) for _, images in cells))
    ]
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    boxes = [ruler.multiline_textbbox((0, 0), label, font=font) for label, _ in cells]
    heights = [
        max([int(box[3]), *(image.height for image in images)]) for box, (_, images) in zip(boxes, cells, strict=True)
    ]
    heading_height = FONT_SIZE + GAP if columns else 0
    labels_width = max(int(box[2]) for box in boxes) + (MARGIN if any(label for label, _ in cells) else 0)
    lefts = [MARGIN + labels_width + sum(widths[:column]) + GAP * column for column in range(len(widths))]
    size = (lefts[-1] + widths[-1] + MARGIN, 2 * MARGIN + heading_height + sum(heights) + GAP * (len(heights) - 1))
    ink = MIDDLE_INK if transparent else INK
    # Transparent paper has the ink's colour, so that letters have no rim of another one.
    sheet = Image.new("RGBA", size, (*ink, 0)) if transparent else Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for heading, left, width in zip(columns, lefts, widths, strict=False):
        draw.text((left + width // 2, MARGIN), heading, fill=ink, font=font, anchor="ma")
    top = MARGIN + heading_height
    for (label, images), height in zip(cells, heights, strict=True):
        draw.multiline_text((MARGIN, top + height // 2), label, fill=ink, font=font, anchor="lm")
        for image, left, width in zip(images, lefts, widths, strict=False):
            sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        top += height + GAP
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans where matplotlib is installed, which brings it; else Pillow's font, which has little but ASCII."""
    matplotlib = find_spec("matplotlib")  # found, not imported: segmenting a video does without it
    if matplotlib is not None and matplotlib.origin is not None:
        path = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(path, FONT_SIZE)
    return ImageFont.load_default(FONT_SIZE)


def _thumbnail(image: Tensor) -> Image.Image:
    """(3, H, W) uint8 -> at most ``CELL``, its proportions kept; a smaller image stays as it is."""
    thumbnail = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    thumbnail.thumbnail(CELL, Image.Resampling.LANCZOS)
    return thumbnail

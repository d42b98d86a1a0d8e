"""Views: windows of a frame that the model looks at, so that an object has about the same size whatever the video's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eosvos.data.config import ViewConfig
from eosvos.data.resizing import input_size, resize, resize_mask

WIDENING = 1.3
"""Factor of a view's extent for each frame in which its object was not seen."""
ROOM = 1.25
"""A square as large as the frame's shorter side still does for an object this much smaller, while it is seen."""


def tight_box(mask: Tensor) -> Tensor | None:
    """(H, W) -> (4,) float around what is not 0; None where all is 0."""
    ys, xs = torch.where(mask)
    if len(ys) == 0:
        return None
    return torch.stack((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).float()


@dataclass(frozen=True)
class View:
    """A window of a frame at the model's input size; the whole frame is one, too.

    The window is of whole pixels, so that what is cut out is what is there, and lies within the frame.

    Attributes:
        frame: (H, W) of the frame.
        window: top, left, height, width in pixels of the frame.
        size: (h, w) of the model's input.
    """

    frame: tuple[int, int]
    window: tuple[int, int, int, int]
    size: tuple[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether the window is the frame."""
        return self.window == (0, 0, *self.frame)

    def image(self, frame: Tensor) -> Tensor:
        """(3, H, W) uint8 -> (3, h, w) uint8."""
        return resize(self._cut(frame), self.size)

    def mask(self, mask: Tensor) -> Tensor:
        """The mask of a ``LabelledFrame``, (H, W) uint8 -> (h, w) uint8, by ``resize_mask``; 0 where none is inside."""
        return resize_mask(self._cut(mask), self.size)

    def box_inside(self, box: Tensor) -> Tensor:
        """Boxes (..., 4) float, x0 y0 x1 y1 in pixels of the frame -> of the model's input."""
        return (box - box.new_tensor(self._corner)) * box.new_tensor(self._scale)

    def box_outside(self, box: Tensor) -> Tensor:
        """Boxes (..., 4) float in pixels of the model's input -> of the frame."""
        _, _, height, width = self.window
        return box * box.new_tensor([width / self.size[1], height / self.size[0]] * 2) + box.new_tensor(self._corner)

    def place(self, window: Tensor) -> Tensor:
        """What was made of the window, at its size in the frame, in the whole frame: 0 elsewhere."""
        if self.is_whole:
            return window
        top, left, height, width = self.window
        placed = window.new_zeros(self.frame)
        placed[top : top + height, left : left + width] = window
        return placed

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the window, in pixels of the frame."""
        return self.window[2], self.window[3]

    def _cut(self, values: Tensor) -> Tensor:
        top, left, height, width = self.window
        return values[..., top : top + height, left : left + width]

    @property
    def _corner(self) -> list[float]:
        top, left, _, _ = self.window
        return [float(left), float(top)] * 2

    @property
    def _scale(self) -> list[float]:
        _, _, height, width = self.window
        return [self.size[1] / width, self.size[0] / height] * 2


def whole(frame: tuple[int, int], sides: tuple[int, int]) -> View:
    """All of a frame (H, W), its shorter and longer side at most ``sides``."""
    return View(frame, (0, 0, *frame), input_size(frame, *sides))


def around(
    box: Tensor, frame: tuple[int, int], sides: tuple[int, int], config: ViewConfig, widening: float = 1.0
) -> View:
    """The view of an object.

    It is centred on the box as far as the frame's border lets it. Where it would be as large as the frame it is the
    whole frame; but a square is no larger than the frame's shorter side as long as the object is seen and fits.

    Args:
        box: (4,) float, x0 y0 x1 y1 in pixels of the frame.
        frame: (H, W).
        sides: shorter and longer side of the model's input.
        config: extent, least extent and shape.
        widening: factor of the extent, at least 1.
    """
    all_of_it = whole(frame, sides)
    if config.extent == 0:
        return all_of_it
    (height, width), size = frame, all_of_it.size
    aspect = width / height
    if config.shape == "square":
        aspect, size = 1.0, (min(sides), min(sides))
    x0, y0, x1, y1 = box.tolist()
    tall = max(config.extent * max(y1 - y0, (x1 - x0) / aspect), config.least * height) * widening
    if config.shape == "square" and widening == 1 and ROOM * max(y1 - y0, x1 - x0) <= min(frame):
        tall = min(tall, min(frame))
    rows, columns = max(round(tall), 1), max(round(tall * aspect), 1)
    if (rows, columns) == frame or rows > height or columns > width:
        return all_of_it
    top = min(max(round((y0 + y1 - rows) / 2), 0), height - rows)
    left = min(max(round((x0 + x1 - columns) / 2), 0), width - columns)
    return View(frame, (top, left, rows, columns), size)


@dataclass(frozen=True)
class Seen:
    """A box in the view that it was seen in.

    Attributes:
        box: (4,) float, x0 y0 x1 y1 in pixels of the view's input.
        view: of the frame.
    """

    box: Tensor
    view: View

    @property
    def in_frame(self) -> Tensor:
        """(4,) float, in pixels of the frame."""
        return self.view.box_outside(self.box)

    def inside(self, view: View) -> Tensor:
        """(4,) float, in pixels of another view's input; as it is in its own."""
        return self.box if view == self.view else view.box_inside(self.in_frame)

"""Pictures of a clip that take its frames one after another: a video of the overlays, and a contact sheet."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from PIL import Image
from torch import Tensor

from eosvos.data.resizing import input_size, resize
from eosvos.figures.contact_sheet import contact_sheet

SHEET_FRAMES, SHEET_COLUMNS = 12, 4
SHEET_CELL = 180, 320
"""Shorter and longer side of a frame on the sheet, at most."""
TIME_BASE = Fraction(1, 90_000)
"""Unit of the overlay video's times, in seconds: the usual one of MPEG."""


class OverlayVideo:
    """An mp4 file that any player shows, with the times of the frames as they were."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self._container = av.open(str(path.absolute()), "w")
        self._stream = self._container.add_stream("libx264", options={"crf": "20", "preset": "veryfast"})
        # 4:2:0 needs even sides; an odd one repeats its last row or column.
        self._padding = [(0, 0), (0, size[0] % 2), (0, size[1] % 2)]
        self._stream.height, self._stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = TIME_BASE
        self._last = -1

    def add(self, image: Tensor, seconds: Fraction) -> None:
        """The next frame, (3, H, W) uint8."""
        pixels = np.pad(image.numpy(), self._padding, mode="edge").transpose(1, 2, 0)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self._last = max(round(seconds / TIME_BASE), self._last + 1)  # times must rise
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "OverlayVideo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode())
        self._container.close()


@dataclass
class ClipSheet:
    """Frames spread evenly over a clip whose length nobody knows: every second one goes when there are too many."""

    stride: int = 1
    seen: int = 0
    frames: list[tuple[str, Tensor]] = field(default_factory=list)

    def add(self, name: str, image: Tensor) -> None:
        """The next frame, (3, H, W) uint8, and its name."""
        if self.seen % self.stride == 0:
            self.frames.append((name, resize(image, input_size((image.shape[1], image.shape[2]), *SHEET_CELL))))
            if len(self.frames) > 2 * SHEET_FRAMES:
                self.frames = self.frames[::2]
                self.stride *= 2
        self.seen += 1

    def image(self) -> Image.Image:
        """A sheet of at most ``SHEET_FRAMES``, among them the first and the last of ``frames``.

        Each row starts with the name of its first frame.
        """
        places = np.linspace(0, len(self.frames) - 1, min(SHEET_FRAMES, len(self.frames))).round().astype(int)
        chosen = [self.frames[place] for place in places]
        rows = [chosen[k : k + SHEET_COLUMNS] for k in range(0, len(chosen), SHEET_COLUMNS)]
        return contact_sheet([(row[0][0], [image for _, image in row]) for row in rows])

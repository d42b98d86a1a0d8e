"""A video to segment, from a file or a folder of frames: decoded one frame after another, as they are needed."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch
from torch import Tensor

from eosvos.data.readers.files import file_bytes
from eosvos.data.sequence import UNREADABLE, decode_image, open_image, size_text, unreadable_reason
from eosvos.errors import BadInput

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FOLDER_RATE = Fraction(24)
"""Frames per second of a folder of frames, which has none of its own; DAVIS is shown at 24."""


@dataclass(frozen=True)
class ClipFrame:
    """One frame of a clip.

    Attributes:
        name: of its file without the ending, or its number with five digits or more in a video file.
        image: (3, H, W) uint8 RGB, turned as a player shows it.
        time: seconds from the start.
    """

    name: str
    image: Tensor
    time: Fraction


@dataclass(frozen=True)
class Clip:
    """A video that is read from its start, as often as one likes.

    Attributes:
        source: file or folder.
        size: (H, W) of its frames.
        count: number of frames.
        frame_names: of a folder of frames, in order; None for a video file, whose frames are named by their numbers.
        read: a new pass over the frames.
    """

    source: Path
    size: tuple[int, int]
    count: int
    frame_names: tuple[str, ...] | None
    read: Callable[[], Iterator[ClipFrame]]

    def position(self, name: str) -> int | None:
        """Position of the frame called ``name``, or None where no frame has that name.

        In a video file it is the number at the end of the name, and the first frame is 0: ``00012`` and ``frame_12``
        are the thirteenth.
        """
        if self.frame_names is not None:
            return self.frame_names.index(name) if name in self.frame_names else None
        number = re.search(r"[0-9]+$", name)
        return int(number[0]) if number and int(number[0]) < self.count else None


def frame_name(position: int) -> str:
    """Name of a frame of a video file: 00000, 00001, ..."""
    return f"{position:05d}"


def open_clip(path: Path) -> Clip:
    """A video file (whatever FFmpeg reads: mp4, mov, webm, gif, ...) or a folder of images.

    Images are taken in the order of the numbers in their names, which need not start at 0. Gray, 16-bit and transparent
    frames become 8-bit RGB; a rotation that the file asks for is applied.

    Raises:
        BadInput: nothing there, a file that is no video or has no frame, a folder without images or with images of
            several sizes or equal names. The passes raise it for what cannot be decoded.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such video; name a video file or a folder of frames")
    first = next(_video_frames(path), None)
    if first is None:
        raise BadInput(f"{path}: a video without a frame; export it again")
    # What a file says of its length may be missing or wrong; its packets are quick to count. Some may be there only to
    # decode the first frame of a clip that was cut out.
    with _container(path) as container:
        count = sum(packet.size > 0 and not packet.is_discard for packet in container.demux(_stream(container)))
    return Clip(path, (first.image.shape[1], first.image.shape[2]), count, None, lambda: _video_frames(path))


def _container(path: Path) -> "av.container.InputContainer":
    try:
        container = av.open(str(path.absolute()))  # absolute, as FFmpeg takes what stands before a colon for a protocol
    except (av.FFmpegError, OSError) as error:
        raise BadInput(f"{path}: not a readable video ({error.strerror}); export it again, as mp4 say") from error
    if not container.streams.video:
        container.close()
        raise BadInput(f"{path}: holds no video; name a video file or a folder of frames")
    return container


def _stream(container: "av.container.InputContainer") -> "av.VideoStream":
    """The stream of the video, not of an attached picture."""
    stream = container.streams.best("video")
    assert isinstance(stream, av.VideoStream)
    return stream


def _video_frames(path: Path) -> Iterator[ClipFrame]:
    position, start = 0, Fraction(0)
    with _container(path) as container:
        stream = _stream(container)
        stream.thread_type = "AUTO"
        rate = stream.average_rate or FOLDER_RATE
        try:
            for frame in container.decode(stream):
                pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                # The display matrix turns counterclockwise; so does rot90.
                pixels = torch.rot90(pixels, round(frame.rotation / 90) % 4)
                time = position / rate if frame.pts is None else frame.pts * (frame.time_base or 1 / rate)
                start = start if position else Fraction(time)
                yield ClipFrame(frame_name(position), pixels.permute(2, 0, 1).contiguous(), Fraction(time) - start)
                position += 1
        except av.FFmpegError as error:
            raise BadInput(
                f"{path}: cannot be decoded after {position} frames ({error.strerror}); export it again"
            ) from error


def _open_folder(path: Path) -> Clip:
    files = sorted(
        (file for file in path.iterdir() if file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".")),
        key=lambda file: natural_order(file.name),
    )
    if not files:
        raise BadInput(f"{path}: a folder without frames; it needs images ({', '.join(IMAGE_ENDINGS)})")
    names = tuple(file.stem for file in files)
    by_name: dict[str, Path] = {}
    for file in files:
        if (other := by_name.setdefault(file.stem, file)) is not file:
            raise BadInput(f"{file}: there is also {other.name}; keep one image for each frame")
    sizes = [_size(file) for file in files]
    for file, size in zip(files, sizes, strict=True):
        if size != sizes[0]:
            raise BadInput(
                f"{file}: has {size_text(size)} pixels, {files[0].name} has {size_text(sizes[0])}; "
                "export all frames at one size"
            )

    def read() -> Iterator[ClipFrame]:
        for position, file in enumerate(files):
            yield ClipFrame(file.stem, decode_image(file_bytes(file), str(file)), position / FOLDER_RATE)

    return Clip(path, sizes[0], len(files), names, read)


def natural_order(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """A key that sorts names by the numbers in them: frame2 before frame10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(part[0].isdecimal(), int(part) if part[0].isdecimal() else 0, part) for part in parts], name


def _size(file: Path) -> tuple[int, int]:
    """(H, W) of the image that ``decode_image`` makes of a file, by the header alone."""
    try:
        with open_image(file) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8) and image.format != "TIFF"  # Pillow turned that
            return (image.width, image.height) if turned else (image.height, image.width)
    except UNREADABLE as error:
        raise BadInput(f"{file}: not a readable image ({unreadable_reason(error)}); replace the file") from error

"""The noun that every part shares: a video, its masks, its object ids, its names."""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from eosvos.errors import BadInput

VOID = 255
"""Value of the pixels of a mask that nobody decided on, where its values are object ids."""
MAX_PIXELS = 2**30 // 12
"""Of an image or a mask, as of Pillow's warning: 8K has 33 million; a small file that claims more is to fill memory."""
# What Pillow raises for damaged files; ValueError comes from damaged PNG chunks, NotImplementedError from odd variants.
UNREADABLE = (OSError, SyntaxError, ValueError, NotImplementedError, Image.DecompressionBombError)


@dataclass(frozen=True)
class EncodedFrame:
    """One frame as it came: JPEG bytes, the mask's PNG bytes (None where there is none), and where both came from."""

    image: bytes
    mask: bytes | None
    image_source: str
    mask_source: str


@dataclass(frozen=True)
class Sequence:
    """A video with object masks; frames are read and decoded when asked for.

    Attributes:
        dataset: name of the dataset, for example ``davis2016``.
        name: name of the sequence, unique within the dataset.
        frame_names: one name per frame, in order, without a file ending.
        merge_objects: True where any mask value above 0 is object 1 (DAVIS 2016); False where values are object ids,
            1 to 254, and ``VOID``.
        read: position of a frame -> its encoded bytes.
        categories: object id -> what it is, where that is known.
    """

    dataset: str
    name: str
    frame_names: tuple[str, ...]
    merge_objects: bool
    read: Callable[[int], EncodedFrame]
    categories: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame_names)

    def frame(self, position: int) -> tuple[Tensor, Tensor | None]:
        """The decoded frame at ``position``.

        Returns:
            image: (3, H, W) uint8, RGB.
            mask: (H, W) uint8, object ids with 0 for the background and ``VOID``, or None where the frame has no
                annotation.

        Raises:
            BadInput: an image or a mask that cannot be decoded, or a mask of another size than its frame.
        """
        return decode(self.read(position), self.merge_objects)

    def thin(self, count: int) -> "Sequence":
        """The same video with at most ``count`` frames (2 or more): evenly spaced, first and last among them."""
        return self.take(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int).tolist())

    def take(self, positions: SequenceOf[int]) -> "Sequence":
        """The same video with the frames at ``positions`` alone."""
        names = tuple(self.frame_names[position] for position in positions)
        return replace(self, frame_names=names, read=lambda position: self.read(positions[position]))

    def mask(self, position: int) -> Tensor | None:
        """The mask alone, (H, W) uint8 object ids, or None; the image is not decoded."""
        encoded = self.read(position)
        if encoded.mask is None:
            return None
        return decode_mask(encoded.mask, encoded.mask_source, self.merge_objects)


def decode(encoded: EncodedFrame, merge_objects: bool) -> tuple[Tensor, Tensor | None]:
    """Image (3, H, W) uint8 RGB and mask (H, W) uint8, or None. Raises BadInput as ``Sequence.frame`` does."""
    image = decode_image(encoded.image, encoded.image_source)
    if encoded.mask is None:
        return image, None
    mask = decode_mask(encoded.mask, encoded.mask_source, merge_objects)
    if mask.shape != image.shape[1:]:
        raise BadInput(
            f"{encoded.mask_source}: the mask has {size_text(mask.shape)} pixels, its frame "
            f"{encoded.image_source} has {size_text(image.shape[1:])}; export both at one size"
        )
    return image, mask


@contextmanager
def open_image(file: bytes | Path) -> Iterator[Image.Image]:
    """An image, of which the header has been read alone.

    Raises:
        one of ``UNREADABLE``: it cannot be read, or has more than ``MAX_PIXELS``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of what is refused below
        image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{size_text(image.size[::-1])} is more than {MAX_PIXELS:,} pixels")
        yield image


def decode_image(data: bytes, source: str) -> Tensor:
    """JPEG (or any still image Pillow reads) -> (3, H, W) uint8 RGB, turned as its EXIF data asks.

    Raises:
        BadInput: not an image, naming ``source``.
    """
    try:
        with open_image(data) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit gray, which Pillow would cut off at 255
                upright = Image.fromarray((np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8))
            if "transparency" in upright.info:
                upright = upright.convert("RGBA")
            return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1).contiguous()
    except UNREADABLE as error:
        raise BadInput(f"{source}: not a readable image ({unreadable_reason(error)}); replace the file") from error


def decode_mask(data: bytes, source: str, merge_objects: bool) -> Tensor:
    """PNG -> (H, W) uint8 object ids; palette and gray values are ids as they are.

    Where a mask has several channels the first is taken: ``bear/00077`` of DAVIS 2016 has gray and alpha. Colour
    without a palette has no ids, so it is taken for merged objects only.

    Raises:
        BadInput: not a PNG that can be read, a JPEG, or colours where object ids are needed.
    """
    try:
        with open_image(data) as image:
            image.load()
            if image.mode in ("1", "L", "P", "LA", "PA"):
                values = np.array(image)
                values = values[..., 0] if values.ndim == 3 else values
            elif merge_objects and image.mode in ("RGB", "RGBA"):
                values = np.array(image.convert("RGB")).max(axis=2)
            else:
                raise BadInput(f"{source}: a mask of mode {image.mode} has no object ids; save it as a palette PNG")
            if image.format == "JPEG":
                raise BadInput(f"{source}: a mask as JPEG, which blurs the objects' values; save it as PNG")
    except UNREADABLE as error:
        raise BadInput(f"{source}: not a readable mask ({unreadable_reason(error)}); replace the file") from error
    ids = values.astype(np.uint8)
    return torch.from_numpy((ids > 0).astype(np.uint8) if merge_objects else ids)


def unreadable_reason(error: Exception) -> str:
    """Why an image cannot be read, after one of ``UNREADABLE``.

    Pillow's own words, but for its message that shows the address of a buffer.
    """
    return "no known image format" if isinstance(error, UnidentifiedImageError) else str(error)


def size_text(size: Iterable[int]) -> str:
    """(H, W) as people write it: ``854x480`` for 480 rows of 854 pixels."""
    height, width = size
    return f"{width}x{height}"


def object_ids(mask: Tensor) -> tuple[int, ...]:
    """Ids present in a mask (H, W) of integers, in rising order: the values above 0.

    The pixels of uint8, as all masks of ours are, are counted: ``torch.unique`` would sort them.
    """
    values = torch.bincount(mask.flatten()).nonzero() if mask.dtype == torch.uint8 else torch.unique(mask)
    return tuple(value for value in values.flatten().tolist() if value > 0)

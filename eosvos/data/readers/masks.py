"""Masks that a person gives for a clip: one image for the first frame, or a folder with some for later ones."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eosvos.data.readers.clip import Clip, frame_name, natural_order
from eosvos.data.sequence import UNREADABLE, VOID, object_ids, open_image, size_text, unreadable_reason
from eosvos.errors import BadInput


@dataclass(frozen=True)
class MaskFiles(Mapping[int, Tensor]):
    """Position of a frame -> its mask (H, W) uint8, read when asked for.

    Attributes:
        files: the image for each position.
        ids: for each position the objects that are taken from it.
    """

    files: Mapping[int, Path]
    ids: Mapping[int, tuple[int, ...]]

    def __getitem__(self, position: int) -> Tensor:
        mask = read_mask(self.files[position])
        return torch.where(torch.isin(mask, torch.tensor(self.ids[position], dtype=torch.uint8)), mask, 0)

    def __contains__(self, position: object) -> bool:
        return position in self.ids

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def objects(self) -> dict[int, int]:
        """Object id -> position of its first mask."""
        first: dict[int, int] = {}
        for position in sorted(self.ids):
            for object_id in self.ids[position]:
                first.setdefault(object_id, position)
        return first


def open_masks(path: Path, clip: Clip, corrections: bool = True) -> MaskFiles:
    """The masks for a clip: an image for its first frame, or a folder of images named as frames are.

    All are read once, to find what is wrong with them before any work.

    Args:
        path: image file or folder.
        clip: what they are for.
        corrections: also take the masks of an object after its first one.

    Raises:
        BadInput: nothing there, an image that is no mask, one of another size than the clip or with a name that no
            frame has, or no object in any.
    """
    if path.is_dir():
        files: dict[int, Path] = {}
        for file in sorted(path.iterdir(), key=lambda file: natural_order(file.name)):
            if file.suffix.lower() != ".png" or file.name.startswith("."):
                continue
            position = clip.position(file.stem)
            if position is None:
                names = clip.frame_names or (frame_name(0), frame_name(clip.count - 1))
                raise BadInput(
                    f"{file}: {clip.source} has no frame of this name; its frames are called {names[0]} to {names[-1]}"
                )
            if position in files:
                raise BadInput(f"{file}: there is also {files[position].name} for this frame; keep one of them")
            files[position] = file
        if not files:
            raise BadInput(f"{path}: a folder without masks; it needs a PNG named as a frame is")
    elif path.is_file():
        files = {0: path}
    else:
        raise BadInput(f"{path}: no such mask; name a PNG for the first frame, or a folder of them")
    ids: dict[int, tuple[int, ...]] = {}
    seen: set[int] = set()
    for position, file in sorted(files.items()):
        mask = read_mask(file)
        if mask.shape != clip.size:
            raise BadInput(
                f"{file}: the mask has {size_text(mask.shape)} pixels, {clip.source} has {size_text(clip.size)}; "
                "export both at one size"
            )
        objects = tuple(i for i in object_ids(mask) if corrections or i not in seen)
        seen.update(objects)
        if objects:
            ids[position] = objects
    if not ids:
        raise BadInput(f"{path}: a mask with no object; draw at least one value above 0 into it")
    return MaskFiles(files, ids)


def read_mask(file: Path) -> Tensor:
    """An image as object ids, (H, W) uint8.

    The values of a palette image are ids, but for 255, which is void. So are those of a gray image, unless the
    largest possible value is among them: then it is black and white, and any value above 0 is object 1. A palette image
    is such an image where its palette has grays alone and it shows white, but no small ids. Colours must be gray, too;
    what is transparent is background.

    Raises:
        BadInput: a file that is no image, a JPEG, colours, or a value above 255.
    """
    try:
        with open_image(file) as image:
            if image.format == "JPEG":
                raise BadInput(f"{file}: a mask as JPEG, which blurs the objects' values; save it as PNG")
            image.load()
            values, palette = _values(image, file), image.mode in ("P", "PA")
            if image.mode == "P" and (grays := _grays(image, values)) is not None:
                values, palette = grays, False
    except UNREADABLE as error:
        raise BadInput(f"{file}: not a readable mask ({unreadable_reason(error)}); replace the file") from error
    largest = values.max(initial=0)
    if palette:
        values = np.where(values == VOID, 0, values)
    elif largest in (255, 65535):
        values = (values > 0).astype(values.dtype)
    elif largest > 255:
        raise BadInput(
            f"{file}: holds the value {values.max()}; there can be at most 255 objects, with values 1 to 255"
        )
    return torch.from_numpy(values.astype(np.uint8))


def _grays(
    image: Image.Image, values: "np.ndarray[tuple[int, ...], np.dtype[np.integer]]"
) -> "np.ndarray[tuple[int, ...], np.dtype[np.integer]] | None":
    """The shades of a palette image that is black and white; None where its values are ids."""
    if not has_gray_palette(image):
        return None
    shades = np.zeros(256, dtype=np.int64)
    palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))
    shades[: len(palette)] = palette[:, 0]
    used = np.unique(values)
    edges = used[(used != 0) & (used != VOID)]
    are_ids = len(edges) and edges.max() <= VOID // 2 and (shades[edges] == edges).all()
    return shades[values] if (shades[used] == VOID).any() and not are_ids else None


def has_gray_palette(image: Image.Image) -> bool:
    """Whether an image has a palette of grays alone, as gray images get that become palette images."""
    palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))
    return image.mode == "P" and not (palette != palette[:, :1]).any()


def is_black_and_white(data: bytes) -> bool:
    """Whether a mask that can be read is gray with white in it, and with no small ids; its edges may be smooth."""
    with open_image(data) as image:
        if image.mode not in ("L", "LA") and not has_gray_palette(image):
            return False
        used = set(np.unique(np.asarray(image.getchannel(0))).tolist())
    return VOID in used and max(used - {VOID}, default=0) not in range(1, VOID // 2 + 1)


def _values(image: Image.Image, file: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.integer]]":
    if image.mode in ("P", "L", "I") or image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.int64)
    if image.mode == "1":
        return np.asarray(image).astype(np.int64) * 255
    if image.mode == "PA":
        return np.asarray(image)[..., 0].astype(np.int64)
    if image.mode in ("LA", "RGB", "RGBA"):
        pixels = np.asarray(image.convert("RGBA")).astype(np.int64)
        if (pixels[..., :3] != pixels[..., :1])[pixels[..., 3] > 0].any():
            raise BadInput(
                f"{file}: a mask in colours has no object ids; save it as a palette PNG, or in black and white for one "
                "object"
            )
        return np.where(pixels[..., 3] > 0, pixels[..., 0], 0)
    raise BadInput(f"{file}: a mask of mode {image.mode} has no object ids; save it as a palette PNG")

"""COCO: a JSON file of instances with its folder of images; each image is a sequence of one frame."""

import json
import logging
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

from eosvos.data.palette import encode_mask
from eosvos.data.readers.clip import natural_order
from eosvos.data.readers.files import file_bytes
from eosvos.data.readers.folders import Folder, is_name, plain_text
from eosvos.data.sequence import MAX_PIXELS, VOID, EncodedFrame, Sequence, size_text
from eosvos.errors import BadInput

LAYOUT = "the layout coco"
MAX_LENGTH = 1_000_000
"""Of an outline, and how far from the image it may be, in pixels; the library keeps five points for each."""
_COUNT = re.compile(r"[P-o]{0,6}[0-O]")  # five bits a character, the least first; P to o say that more follow
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Instances:
    """Position 0 -> the encoded frame of one image, its mask drawn when it is asked for.

    Attributes:
        image: its file.
        size: (H, W).
        objects: (id of the annotation, its segmentation), in the order of these ids.
        source: of the annotations.
    """

    image: Path
    size: tuple[int, int]
    objects: tuple[tuple[int, Any], ...]
    source: str

    def __call__(self, position: int) -> EncodedFrame:
        """Raises BadInput for a file that cannot be read, or a segmentation that cannot be drawn."""
        regions = []
        for number, segmentation in self.objects:
            try:
                regions.append(_counts(segmentation, self.size))
            except ValueError as error:
                raise BadInput(
                    f"{self.source}: the segmentation of annotation {number} {error}; correct or remove it"
                ) from error
        mask = encode_mask(_draw(regions, self.size))
        return EncodedFrame(file_bytes(self.image), mask, str(self.image), f"{self.source}: {self.image.name}")


def read_coco(root: Path, annotations: Path) -> list[Sequence]:
    """The images that have annotations, by the names of their files below ``root``, without the endings.

    The annotations of an image are objects 1, 2, ... in the order of their ids; ``iscrowd`` ones, which are no single
    objects, do not count. Where objects overlap the smaller one is on top, and of equal ones that with the higher
    number. What lies outside the image is cut off; an object of which nothing is left keeps its number. Objects'
    categories are known by name. Images without objects are left out, and how many is logged.

    Args:
        root: folder of the images; ``file_name`` may have folders.
        annotations: ``instances_*.json``; polygons, or RLE as a list or a text.

    Raises:
        BadInput: a file or folder that is missing, JSON of another form, an id or file name that occurs twice, an
            annotation of an unknown image or category, a ``file_name`` that leaves the root, more than 254 objects in
            an image, or no object at all.
    """
    folder = Folder.named(root, LAYOUT)
    content = _read_json(Path(annotations))
    try:
        categories = {number: plain_text(one["name"]) for number, one in _by_id(content, "categories").items()}
        images = _by_id(content, "images")
        objects: dict[int, list[Mapping[str, Any]]] = {number: [] for number in images}
        for number, one in sorted(_by_id(content, "annotations").items()):
            image, category, crowd = one["image_id"], one["category_id"], one.get("iscrowd", 0)
            if image not in images or category not in categories or crowd not in (0, 1):
                raise ValueError(
                    f"annotation {number} has image_id {image!r}, category_id {category!r} and iscrowd {crowd!r}, one "
                    "of which is unknown"
                )
            if not crowd:
                objects[image].append(one)
        sequences = [
            _sequence(folder, images[number], ones, categories, str(annotations))
            for number, ones in objects.items()
            if ones
        ]
        _check_different(sequences)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{annotations}: not in the form of COCO's instances ({error!r}); export it again") from error
    except ValueError as error:
        raise BadInput(f"{annotations}: {error}; correct the file") from error
    if not sequences:
        raise BadInput(f"{annotations}: no image has an annotation that is an object; name a file of instances")
    if left_out := len(images) - len(sequences):
        _log.info("%s: %d of %d images have no object and are left out", annotations, left_out, len(images))
    return sorted(sequences, key=lambda sequence: natural_order(sequence.name))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"), object_hook=_compact)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); correct --annotations") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a JSON file ({error}); restore it") from error


def _compact(values: dict[str, Any]) -> dict[str, Any]:
    """An annotation with what is needed of it alone, its polygons as arrays: all of COCO's are 40 million numbers."""
    if not isinstance(values.get("segmentation"), list):
        return values
    kept = {key: values[key] for key in ("id", "image_id", "category_id", "iscrowd") if key in values}
    try:
        return kept | {"segmentation": [array("d", polygon) for polygon in values["segmentation"]]}
    except (TypeError, OverflowError):
        return kept | {"segmentation": "not a list of polygons"}  # refused when it is to be drawn


def _by_id(content: Mapping[str, Any], kind: str) -> dict[int, Mapping[str, Any]]:
    """Raises ValueError for an id that occurs twice."""
    found: dict[int, Mapping[str, Any]] = {}
    for one in content[kind]:
        if found.setdefault(_whole(one["id"]), one) is not one:
            raise ValueError(f"id {one['id']} occurs twice among the {kind}")
    return found


def _sequence(
    folder: Folder,
    image: Mapping[str, Any],
    objects: list[Mapping[str, Any]],
    categories: Mapping[int, str],
    source: str,
) -> Sequence:
    """One image with its annotations, in the order of their ids. Raises ValueError for what it is not."""
    file_name, size = plain_text(image["file_name"]), (_whole(image["height"]), _whole(image["width"]))
    if not all(map(is_name, file_name.split("/"))):
        raise ValueError(
            f"image {image['id']} has the file_name {file_name!r}, which is no path below the folder of images"
        )
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"image {image['id']} has {size_text(size)} pixels; there can be 1 to {MAX_PIXELS:,}")
    if len(objects) >= VOID:
        raise ValueError(f"image {image['id']} has {len(objects)} objects; a mask has room for {VOID - 1}")
    path = folder.file(file_name)
    if not path.is_file():
        raise BadInput(f"{path}: no such image, but {source} names it; restore it or correct --root")
    segmentations = tuple((one["id"], one["segmentation"]) for one in objects)
    return Sequence(
        "coco",
        str(PurePosixPath(file_name).with_suffix("")),
        (path.stem,),
        False,
        _Instances(path, size, segmentations, source),
        {number: categories[one["category_id"]] for number, one in enumerate(objects, start=1)},
    )


def _check_different(sequences: list[Sequence]) -> None:
    seen: set[str] = set()
    for sequence in sequences:
        if sequence.name in seen:
            raise ValueError(f"two images have a file_name like {sequence.name}")
        seen.add(sequence.name)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def _counts(segmentation: Any, size: tuple[int, int]) -> list[int]:
    """Run lengths of polygons or RLE: pixels off and on in turn, column by column.

    Raises ValueError with what is wrong, for a sentence.
    """
    if isinstance(segmentation, dict):
        return _checked(segmentation, size)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("holds no polygons and no RLE")
    parts = []
    for polygon in segmentation:
        corners = np.array(polygon)
        if len(corners) % 2 or not np.isfinite(corners).all():
            raise ValueError("has a polygon that is not pairs of numbers")
        points = corners.reshape(-1, 2)
        length = np.abs(np.diff(points, axis=0, append=points[:1])).sum()
        if length > MAX_LENGTH or np.abs(corners).max(initial=0) > MAX_LENGTH:
            raise ValueError(f"has a polygon that is longer than {MAX_LENGTH:,} pixels, or farther away")
        if len(points) > 2:  # the library takes two corners for a box; there is nothing between them
            parts.append(corners)
    if not parts:
        return [size[0] * size[1]]
    rle = coco_masks.merge(coco_masks.frPyObjects(parts, *size))
    return _decoded(rle["counts"].decode())


def _checked(rle: Mapping[str, Any], size: tuple[int, int]) -> list[int]:
    counts = rle.get("counts")
    if isinstance(counts, str):
        counts = _decoded(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("has RLE counts that are not whole numbers")
    if rle.get("size") != list(size) or sum(counts) != size[0] * size[1]:
        raise ValueError(f"has RLE of size {rle.get('size')!r} for {sum(counts)} pixels, but its image is {list(size)}")
    return counts


def _decoded(text: str) -> list[int]:
    """Compressed counts. The library's own decoding reads on behind the end of a damaged text."""
    groups = _COUNT.findall(text)
    if "".join(groups) != text:
        raise ValueError("has RLE counts in a damaged text")
    counts: list[int] = []
    for group in groups:
        count = sum((ord(character) - 48 & 31) << 5 * place for place, character in enumerate(group))
        if ord(group[-1]) - 48 & 16:  # the sign
            count -= 1 << 5 * len(group)
        counts.append(count + counts[-2] if len(counts) > 2 else count)
    return counts


def _draw(regions: list[list[int]], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Regions 1, 2, ... by their run lengths in one mask (H, W), smaller ones on top, and of equal ones the later."""
    ids = np.zeros(size[0] * size[1], np.uint8)
    for index in sorted(range(len(regions)), key=lambda index: -sum(regions[index][1::2])):
        counts = regions[index]
        ids[np.repeat(np.arange(len(counts)) % 2 == 1, counts)] = index + 1
    return ids.reshape(size, order="F")

"""What is written of a frame beside its bytes, and the hash of a sequence."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from eosvos.data.sequence import VOID, EncodedFrame, Sequence, decode


def describe(sequence: Sequence, position: int, encoded: EncodedFrame) -> dict[str, Any]:
    """The columns of a frame's row but for its bytes, and ``merge_objects`` and ``categories`` of the index.

    The frame is decoded in full, so that a broken file is found here and not in training.

    Raises:
        BadInput: an image or a mask that cannot be decoded, or that differ in size.
    """
    image, mask = decode(encoded, sequence.merge_objects)
    row: dict[str, Any] = {
        "dataset": sequence.dataset,
        "sequence": sequence.name,
        "position": position,
        "name": sequence.frame_names[position],
        "merge_objects": sequence.merge_objects,
        "height": image.shape[1],
        "width": image.shape[2],
    }
    if mask is None:
        return row | dict.fromkeys(("ids", "areas", "boxes", "categories"))
    values = mask.numpy()
    areas = np.bincount(values.ravel(), minlength=1)
    ids = [number for number in np.flatnonzero(areas).tolist() if number not in (0, VOID)]
    slices = ndimage.find_objects(values)
    spans = [slices[number - 1] for number in ids]
    return row | {
        "ids": ids,
        "areas": [int(areas[number]) for number in ids],
        "boxes": [[x.start, y.start, x.stop, y.stop] for y, x in spans],
        "categories": [sequence.categories.get(number) for number in ids],
    }


class ContentHash:
    """SHA-256 over names, images and masks of frames, with the lengths, so that no two contents read the same."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, row: Mapping[str, Any], encoded: EncodedFrame) -> None:
        """The next frame, with what ``describe`` says of it."""
        labels = [row[key] for key in ("dataset", "sequence", "position", "name", "merge_objects")]
        labels += [row["categories"]] if any(row["categories"] or ()) else []
        lengths = [len(encoded.image), None if encoded.mask is None else len(encoded.mask)]
        self._digest.update(json.dumps([*labels, *lengths]).encode())
        self._digest.update(encoded.image)
        self._digest.update(encoded.mask or b"")

    def hex(self) -> str:
        return self._digest.hexdigest()


def hash_of_all(hashes: Iterable[str]) -> str:
    """The hash of a dataset, of those of its sequences in their order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

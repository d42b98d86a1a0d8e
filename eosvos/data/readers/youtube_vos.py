"""YouTube-VOS 2018 and 2019 in their official layout: a folder for each split, with meta.json."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosvos.data.readers.folders import Folder, is_name, plain_text, video
from eosvos.data.sequence import VOID, Sequence
from eosvos.errors import BadInput

LAYOUT = "the official layout of YouTube-VOS"
ALL_FRAMES = "_all_frames"
"""Ends the name of a split that has all frames; its masks and meta.json are those of the split without it."""


@dataclass(frozen=True)
class VideoMeta:
    """What ``meta.json`` says of a video.

    Attributes:
        categories: object id -> category, of the objects that have one.
        frames: object id -> names of the frames in which it is.
    """

    categories: Mapping[int, str]
    frames: Mapping[int, tuple[str, ...]]


def read_youtube_vos(root: Path, split: str) -> list[Sequence]:
    """The videos that ``meta.json`` of a split names; values of masks are object ids, and 255 is void.

    Masks are of every fifth frame, or of those alone in which an object is first seen. Objects may enter late.

    Args:
        root: folder that holds the folder of the split.
        split: ``train``, ``valid``, ``valid_all_frames``, ``test``, ``test_all_frames``, or a folder of your own.

    Raises:
        BadInput: a folder, ``meta.json``, a video, a frame or a mask that is missing, or a video that ``meta.json``
            does not name.
    """
    if not is_name(split):
        raise BadInput(f"--split {split}: not the name of a folder in {root}; give train, valid, or test")
    named = Folder.named(root, LAYOUT)
    images = ((named / split).existing() / "JPEGImages").existing()
    with_masks = split if (named / split / "Annotations").path.is_dir() else split.removesuffix(ALL_FRAMES)
    masks = (named / with_masks / "Annotations").existing()
    meta = (named / with_masks).file("meta.json")
    videos = read_meta(meta)
    there = set(images.folders())
    for name in sorted(there - videos.keys()):
        raise BadInput(f"{images / name}: {meta} does not name this video; take its meta.json or remove the folder")
    for name in sorted(set(masks.folders()) - videos.keys()):
        raise BadInput(f"{masks / name}: masks without frames; restore {images / name} or remove the folder")
    sequences = []
    for name, said in sorted(videos.items()):
        if name not in there:
            raise BadInput(f"{images / name}: no such folder, but {meta} names the video; unpack the archive again")
        sequence = video("youtube_vos", name, images / name, masks / name, categories=said.categories)
        frames = set(sequence.frame_names)
        for number, shown in said.frames.items():
            for frame in shown:
                if frame not in frames:
                    raise BadInput(
                        f"{images / name / frame}.jpg: no such frame, but {meta} says that object {number} is in it; "
                        "unpack the archive again"
                    )
        sequences.append(sequence)
    return sequences


def read_meta(path: Path) -> dict[str, VideoMeta]:
    """Name of a video -> what is said of it.

    Raises:
        BadInput: a file that is missing, cannot be read, has another form, or names no video.
    """
    if not path.is_file():
        raise BadInput(f"{path}: missing, but {LAYOUT} has it; unpack the archive again")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_different)
        found = {name: _video_meta(values["objects"]) for name, values in content["videos"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path}: not in the official form ({error!r}); unpack the archive again") from error
    for name in found:
        if not is_name(name):
            raise BadInput(f"{path}: {name!r} is not the name of a video; unpack the archive again")
    if not found:
        raise BadInput(f"{path}: names no video; unpack the archive again")
    return found


def _video_meta(objects: Mapping[str, Mapping[str, Any]]) -> VideoMeta:
    by_id = {_object_id(number): one for number, one in objects.items()}
    categories = {number: plain_text(one.get("category") or "") for number, one in by_id.items()}
    return VideoMeta(
        {number: category for number, category in categories.items() if category},
        {number: tuple(map(plain_text, one.get("frames", ()))) for number, one in by_id.items()},
    )


def _object_id(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,2}", text) or int(text) >= VOID:
        raise ValueError(f"object {text!r}, but ids are 1 to {VOID - 1}")
    return int(text)


def _different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different; json itself takes the last of two."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"{twice} occurs twice")
    return values


def read_categories(path: Path) -> frozenset[str]:
    """The categories that a ``meta.json`` names. Raises BadInput as ``read_meta``."""
    return frozenset(category for said in read_meta(path).values() for category in said.categories.values())

"""Folders of frames and folders of masks beside them: what readers of datasets share."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from eosvos.data.readers.clip import IMAGE_ENDINGS, natural_order
from eosvos.data.readers.files import FrameFiles
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput

MASK_ENDINGS = (".png",)
Annotated = Literal["all", "first", "some"]
"""Which frames of a video must have a mask."""


def existing(folder: Path, layout: str) -> Path:
    """``folder``, which is there. Raises BadInput where it is not, naming the ``layout`` that has it."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; {layout} has it, unpack the archive again or correct --root")
    return folder


def stems(folder: Path, endings: Collection[str]) -> dict[str, Path]:
    """Name without its ending -> file, of the files in a folder with one of the ``endings``, in any case.

    One listing of the folder, which is fast on network file systems too. Hidden files do not count; a folder that is
    not there has none.

    Raises:
        BadInput: two files of one name, or a symbolic link that leaves the folder.
    """
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = folder / entry.name
            if entry.name.startswith(".") or path.suffix.lower() not in endings:
                continue
            if entry.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                raise BadInput(f"{path}: a symbolic link that leaves its folder; put the file itself there")
            if (other := found.setdefault(path.stem, path)) is not path:
                raise BadInput(f"{path}: there is also {other.name}; keep one file for each frame")
    return found


def read_names(path: Path) -> list[str]:
    """The names of a list, one to a line; a byte order mark, blank lines and lines that begin with ``#`` do not count.

    Raises:
        BadInput: a list that is missing, cannot be read or is empty, or a name that occurs twice or leaves the folder.
    """
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.txt"))) or "none"
        raise BadInput(f"{path}: no such list; splits that exist here: {known}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a readable list ({error}); replace the file") from error
    names: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        if not is_name(name):
            raise BadInput(f"{path}, line {number}: {name!r} is not the name of a sequence; correct the line")
        if name in names:
            raise BadInput(f"{path}, line {number}: {name} is also in line {names[name]}; remove one of them")
        names[name] = number
    if not names:
        raise BadInput(f"{path}: the split is empty; list at least one sequence")
    return list(names)


def is_name(text: str) -> bool:
    """Whether it names a file or folder in a folder, and none elsewhere."""
    return text not in ("", ".", "..") and not set(text) & set("/\\\0")


def video(
    dataset: str,
    name: str,
    images: Path,
    masks: Path,
    *,
    annotated: Annotated = "some",
    merge_objects: bool = False,
    categories: Mapping[int, str] | None = None,
) -> Sequence:
    """All frames of the folder ``images``, with the masks of the same names in the folder ``masks``.

    Frames are in the order of the numbers in their names. No image is opened here.

    Args:
        dataset, name: of the sequence.
        images: folder of its frames.
        masks: folder of its masks.
        annotated: which frames must have a mask.
        merge_objects: as of ``Sequence``.
        categories: object id -> what it is, where that is known.

    Raises:
        BadInput: no frame, a mask that is missing, or one without a frame.
    """
    frames, labels = stems(images, IMAGE_ENDINGS), stems(masks, MASK_ENDINGS)
    if not frames:
        raise BadInput(f"{images}: no such folder, or no frame in it; restore it, or leave {name} out")
    for stem in sorted(labels.keys() - frames.keys(), key=natural_order):
        raise BadInput(f"{labels[stem]}: a mask without a frame; restore {images / stem}.jpg or remove the mask")
    names = tuple(sorted(frames, key=natural_order))
    for stem in {"all": names, "first": names[:1], "some": ()}[annotated]:
        if stem not in labels:
            raise BadInput(f"{masks / stem}.png: no such mask, though there is a frame; restore it")
    if not labels:
        raise BadInput(f"{masks}: no such folder, or no mask in it; restore it, or leave {name} out")
    files = FrameFiles(tuple(frames[stem] for stem in names), tuple(labels.get(stem) for stem in names))
    return Sequence(dataset, name, names, merge_objects, files, categories or {})

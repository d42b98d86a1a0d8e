"""DAVIS 2016 in its official layout: JPEGImages/480p, Annotations/480p and lists in ImageSets/480p."""

from pathlib import Path

from eosvos.data.readers.davis2017 import read_davis2016_of_2017
from eosvos.data.readers.files import FrameFiles
from eosvos.data.readers.folders import MASK_ENDINGS, Folder, is_name, read_lines
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput

LAYOUT = "the official DAVIS 2016 layout"
_IMAGES = ("JPEGImages", "480p")
_MASKS = ("Annotations", "480p")


def read_davis2016(root: Path, split: str) -> list[Sequence]:
    """The sequences that ``ImageSets/480p/<split>.txt`` lists, by name; their frames are the listed ones, by name.

    Of the archive of DAVIS 2017, which has ``ImageSets/2016`` instead, all frames of the sequences listed there. Masks
    hold one object: every value above 0 is object 1. No image is opened here.

    Args:
        root: folder that holds ``JPEGImages``, ``Annotations`` and ``ImageSets``.
        split: name of a list, for example ``train`` or ``val``.

    Raises:
        BadInput: a folder, a list, a listed frame or a listed annotation that is missing, a list that is empty or
            has a line that cannot be read, or an annotation without a frame.
    """
    named = Folder.named(root, LAYOUT)
    lists = named / "ImageSets" / "480p"
    if (named / "ImageSets" / "2016").path.is_dir() and not lists.path.is_dir():
        return read_davis2016_of_2017(root, split)
    for parts in (_IMAGES, _MASKS):
        (named / "/".join(parts)).existing()
    listed = _read_list(lists.existing(), split)
    return [_sequence(named, name, lines) for name, lines in sorted(listed.items())]


def _read_list(lists: Folder, split: str) -> dict[str, dict[str, str]]:
    """Sequence name -> frame name -> where it is listed (file and line, for messages)."""
    listed: dict[str, dict[str, str]] = {}
    for where, line in read_lines(lists, split):
        sequence, frame = _read_line(line, where)
        frames = listed.setdefault(sequence, {})
        if frame in frames:
            raise BadInput(f"{where}: {sequence}/{frame} is listed twice; remove one of the lines")
        frames[frame] = where
    return listed


def _read_line(line: str, where: str) -> tuple[str, str]:
    """``/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png`` -> ``("bear", "00000")``."""
    paths = [tuple(text.removeprefix("/").split("/")) for text in line.split()]
    if len(paths) == 2 and all(len(path) == 4 for path in paths):
        (*image_top, sequence, image), (*mask_top, mask_sequence, mask) = paths
        frame = image.removesuffix(".jpg")
        right = (tuple(image_top), tuple(mask_top), mask_sequence) == (_IMAGES, _MASKS, sequence)
        if right and is_name(sequence) and frame and (f"{frame}.jpg", f"{frame}.png") == (image, mask):
            return sequence, frame
    raise BadInput(
        f"{where}: {line!r} is not '/JPEGImages/480p/SEQUENCE/FRAME.jpg /Annotations/480p/SEQUENCE/FRAME.png' "
        "with one sequence and frame; correct the line"
    )


def _sequence(named: Folder, name: str, lines: dict[str, str]) -> Sequence:
    images, masks = (named / "/".join(parts) / name for parts in (_IMAGES, _MASKS))
    image_stems, mask_stems = images.stems((".jpg",)), masks.stems(MASK_ENDINGS)
    frames = sorted(lines)
    for frame in frames:
        if frame not in image_stems:
            raise BadInput(
                f"{images / frame}.jpg: no such frame, but {lines[frame]} lists it; restore the file or remove the line"
            )
        if frame not in mask_stems:
            raise BadInput(
                f"{masks / frame}.png: no such annotation, but {lines[frame]} lists it; "
                "restore the file or remove the line"
            )
    for frame in sorted(mask_stems.keys() - image_stems.keys()):
        raise BadInput(
            f"{masks / frame}.png: an annotation without a frame; restore {images / frame}.jpg or remove the annotation"
        )
    read = FrameFiles(tuple(image_stems[f] for f in frames), tuple(mask_stems[f] for f in frames))
    return Sequence("davis2016", name, tuple(frames), True, read)

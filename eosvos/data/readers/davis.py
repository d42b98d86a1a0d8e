"""DAVIS 2016 in its official layout: JPEGImages/480p, Annotations/480p and lists in ImageSets/480p."""

from pathlib import Path

from eosvos.data.readers.davis2017 import read_davis2016_of_2017
from eosvos.data.readers.files import FrameFiles
from eosvos.data.readers.folders import MASK_ENDINGS, stems
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput

_IMAGES = ("JPEGImages", "480p")
_MASKS = ("Annotations", "480p")
_LISTS = ("ImageSets", "480p")


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
    root = Path(root).resolve()
    if not root.is_dir():
        raise BadInput(f"{root}: no such folder; give the folder that holds JPEGImages, Annotations and ImageSets")
    if (root / "ImageSets" / "2016").is_dir() and not root.joinpath(*_LISTS).is_dir():
        return read_davis2016_of_2017(root, split)
    for parts in (_IMAGES, _MASKS, _LISTS):
        folder = root.joinpath(*parts)
        if not folder.is_dir():
            raise BadInput(f"{folder}: no such folder; the official DAVIS 2016 layout has it, unpack the archive again")
    listed = _read_list(root.joinpath(*_LISTS), split)
    return [_sequence(root, name, lines) for name, lines in sorted(listed.items())]


def _read_list(folder: Path, split: str) -> dict[str, dict[str, str]]:
    """Sequence name -> frame name -> where it is listed (file and line, for messages)."""
    path = folder / f"{split}.txt"
    if not path.is_file() or path.parent != folder:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.txt"))) or "none"
        raise BadInput(f"{path}: no such list; splits that exist here: {known}")
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a readable list ({error}); replace the file") from error
    listed: dict[str, dict[str, str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        sequence, frame = _read_line(line, where)
        frames = listed.setdefault(sequence, {})
        if frame in frames:
            raise BadInput(f"{where}: {sequence}/{frame} is listed twice; remove one of the lines")
        frames[frame] = where
    if not listed:
        raise BadInput(f"{path}: the split is empty; list at least one frame with its annotation")
    return listed


def _read_line(line: str, where: str) -> tuple[str, str]:
    """``/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png`` -> ``("bear", "00000")``."""
    paths = [tuple(text.removeprefix("/").split("/")) for text in line.split()]
    if len(paths) == 2 and all(len(path) == 4 for path in paths):
        (*image_top, sequence, image), (*mask_top, mask_sequence, mask) = paths
        frame = image.removesuffix(".jpg")
        right = (tuple(image_top), tuple(mask_top), mask_sequence) == (_IMAGES, _MASKS, sequence)
        if right and frame and sequence not in ("", ".", "..") and (f"{frame}.jpg", f"{frame}.png") == (image, mask):
            return sequence, frame
    raise BadInput(
        f"{where}: {line.strip()!r} is not '/JPEGImages/480p/SEQUENCE/FRAME.jpg /Annotations/480p/SEQUENCE/FRAME.png' "
        "with one sequence and frame; correct the line"
    )


def _sequence(root: Path, name: str, lines: dict[str, str]) -> Sequence:
    images, masks = root.joinpath(*_IMAGES, name), root.joinpath(*_MASKS, name)
    # One listing of each folder instead of a question per frame: fast on network file systems too.
    image_stems, mask_stems = stems(images, (".jpg",)), stems(masks, MASK_ENDINGS)
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

"""Anybody's PNGs against ground truth on disk: which files belong together, and what is wrong with them."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eosvos.data.readers.clip import natural_order
from eosvos.data.readers.masks import has_gray_palette, read_mask
from eosvos.data.sequence import UNREADABLE, VOID, decode_mask, size_text
from eosvos.errors import BadInput
from eosvos.metrics.config import Layout
from eosvos.metrics.measures import jaccard_and_boundary_f
from eosvos.metrics.sequence_scores import ObjectScores

MASKS = "masks"
Ids = NDArray[np.uint8]


@dataclass(frozen=True)
class AnnotatedFolder:
    """The ground truth of one sequence.

    Attributes:
        name: of the sequence; predictions are in a folder of this name.
        masks: the annotated frames, in order.
        layout: says which frames and objects count, and what values mean.
    """

    name: str
    masks: tuple[Path, ...]
    layout: Layout


@dataclass(frozen=True)
class FolderScores:
    """The scores of one sequence; ``frame_names`` are those that the positions in ``objects`` mean."""

    name: str
    frame_names: tuple[str, ...]
    objects: tuple[ObjectScores, ...]


def annotated_folders(root: Path, layout: Layout, split: str) -> list[AnnotatedFolder]:
    """The sequences of a dataset that have ground truth.

    Args:
        root: for ``davis2016`` and ``davis2017`` the folder with ``Annotations/480p/SEQUENCE/FRAME.png`` and, where a
            split is named, ``ImageSets/480p/SPLIT.txt`` or ``ImageSets/2017/SPLIT.txt``; for ``frames`` a folder
            with one folder per sequence.
        layout: of the folders.
        split: name of a list; empty for all sequences.

    Raises:
        BadInput: a folder or a list that is missing, or a sequence with too few masks.
    """
    folder = root if layout == "frames" else root / "Annotations" / "480p"
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; --ground-truth names the folder that {_needs(layout)}")
    if layout == "frames" and split:
        raise BadInput(f"--split {split}: layout frames has no splits; leave it out")
    all_names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    names = _read_split(root, layout, split) if split else all_names
    if not names:
        raise BadInput(
            f"{folder}: holds no folder of a sequence; --ground-truth names the folder that {_needs(layout)}"
        )
    sequences = []
    for name in names:
        masks = _pngs(folder / name)
        least = 2 if layout == "frames" else 3
        if len(masks) < least:
            raise BadInput(f"{folder / name}: {len(masks)} masks; a sequence needs at least {least} to be scored")
        sequences.append(AnnotatedFolder(name, masks, layout))
    return sequences


def _pngs(folder: Path) -> tuple[Path, ...]:
    """In the order of the numbers in their names."""
    files = (path for path in folder.glob("*.png") if not path.name.startswith("."))
    return tuple(sorted(files, key=lambda path: natural_order(path.name)))


def _needs(layout: Layout) -> str:
    return "has a folder of masks for each sequence" if layout == "frames" else "holds Annotations/480p"


def _read_split(root: Path, layout: Layout, split: str) -> list[str]:
    """Sequence names of a list: one to a line, or DAVIS 2016's lines with the paths of a frame and its mask."""
    path = root / "ImageSets" / ("480p" if layout == "davis2016" else "2017") / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.txt"))) or "none"
        raise BadInput(f"{path}: no such list; splits that exist there: {known}")
    try:
        lines = [line.split()[0].strip("/") for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a readable list ({error}); replace the file") from error
    return sorted({line.split("/")[-2] if "/" in line else line for line in lines})


def check_predictions(sequences: list[AnnotatedFolder], root: Path) -> None:
    """Raises BadInput that names the first prediction that is missing, before anything is scored."""
    if not root.is_dir():
        raise BadInput(f"{root}: no such folder; --predictions names the folder with one of PNGs for each sequence")
    for sequence in sequences:
        folder = _predictions(sequence, root)
        if not folder.is_dir():
            raise BadInput(f"{folder}: no predictions for this sequence; segment it, or name a --split")
        there = {path.name for path in folder.iterdir()}
        for position in _scored_positions(sequence):
            if (name := sequence.masks[position].name) not in there:
                raise BadInput(f"{folder / name}: no such prediction; segment this frame too")


def _predictions(sequence: AnnotatedFolder, root: Path) -> Path:
    """Folder of a sequence's predictions: its own, or ``masks`` in it, where jobs/segment.py writes them."""
    folder = root / sequence.name
    return folder / MASKS if (folder / MASKS).is_dir() else folder


def _scored_positions(sequence: AnnotatedFolder) -> range:
    """Positions of the frames that count: DAVIS leaves out the first and the last, others only the first."""
    return range(1, len(sequence.masks) - (sequence.layout != "frames"))


def score_folder(sequence: AnnotatedFolder, root: Path) -> FolderScores:
    """J and F of every object of one sequence.

    DAVIS scores the objects up to the largest id of the first mask. In ``frames`` all objects count, each in the
    annotated frames after its first one; one that is first seen in the last frame has none and is left out.

    Args:
        sequence: its ground truth.
        root: folder with the predictions' folders.

    Raises:
        BadInput: a mask that cannot be read, a prediction of another size than its ground truth or with an object that
            the ground truth does not have, or no object at all.
    """
    black_and_white = sequence.layout == "frames" and _is_black_and_white(sequence)
    objects = _objects(sequence, black_and_white)
    if not objects:
        raise BadInput(f"{sequence.masks[0].parent}: no object in the ground truth; there is nothing to score")
    values: dict[int, list[tuple[int, float, float]]] = {object_id: [] for object_id in objects}
    for position in _scored_positions(sequence):
        truth = _truth(sequence, position, black_and_white)
        prediction = _prediction(sequence, position, root, truth.shape, objects)
        for object_id, first in objects.items():
            if position > first:
                pair = prediction == object_id, truth == object_id
                values[object_id].append((position, *jaccard_and_boundary_f(*pair)))
    scores = tuple(
        ObjectScores(object_id, *(tuple(column) for column in zip(*frames, strict=True)))
        for object_id, frames in values.items()
        if frames
    )
    return FolderScores(sequence.name, tuple(path.stem for path in sequence.masks), scores)


def _prediction(
    sequence: AnnotatedFolder, position: int, root: Path, size: tuple[int, ...], objects: dict[int, int]
) -> Ids:
    path = _predictions(sequence, root) / sequence.masks[position].name
    # A prediction decides on every pixel: 255 in a gray file is white where there is one object, and else an id that is
    # unknown; in a palette file it is void, which here means background.
    prediction = _read(path, sequence, black_and_white=set(objects) == {1})
    if prediction.shape != size:
        raise BadInput(
            f"{path}: has {size_text(prediction.shape)} pixels, the ground truth {size_text(size)}; "
            "write predictions at its size"
        )
    if unknown := set(np.unique(prediction).tolist()) - {0, *objects}:
        raise BadInput(
            f"{path}: holds object {max(unknown)}, the ground truth has {', '.join(map(str, objects))}; "
            "write its ids alone"
        )
    return prediction


def score_folders(sequences: list[AnnotatedFolder], root: Path, processes: int) -> Iterator[FolderScores]:
    """``score_folder`` of each sequence, in order, in several processes."""
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(score_folder, sequences, [root] * len(sequences))


def _objects(sequence: AnnotatedFolder, black_and_white: bool) -> dict[int, int]:
    """Object id -> position of its first mask, after which it is scored."""
    if sequence.layout != "frames":
        return dict.fromkeys(range(1, int(_truth(sequence, 0, black_and_white).max()) + 1), 0)
    first: dict[int, int] = {}
    for position in range(len(sequence.masks)):
        for object_id in np.unique(_truth(sequence, position, black_and_white)).tolist():
            first.setdefault(object_id, position)
    return {object_id: position for object_id, position in sorted(first.items()) if object_id}


def _is_black_and_white(sequence: AnnotatedFolder) -> bool:
    """Whether the gray masks of a sequence show one object in white, with soft edges or without, or else hold ids.

    Ids are few and small, and 255 is then what nobody decided on. All masks are asked, as a single one may hold no id.
    """
    values = {
        value for path in sequence.masks if _is_gray(path) for value in np.unique(_decode(path, sequence)).tolist()
    }
    shades = values - {0, VOID}
    return VOID in values and (not shades or max(shades) > VOID // 2)


def _truth(sequence: AnnotatedFolder, position: int, black_and_white: bool) -> Ids:
    ids = _read(sequence.masks[position], sequence, black_and_white)
    return ids if sequence.layout == "davis2016" else np.where(ids == VOID, 0, ids).astype(np.uint8)


def _read(path: Path, sequence: AnnotatedFolder, black_and_white: bool) -> Ids:
    """Object ids; of a gray image in ``frames`` the values as they are, unless it is black and white."""
    if sequence.layout != "frames" or (_is_gray(path) and not black_and_white):
        return _decode(path, sequence)
    return read_mask(path).numpy()


def _is_gray(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode == "L" or has_gray_palette(image)
    except UNREADABLE:  # said by whoever reads it
        return False


def _decode(path: Path, sequence: AnnotatedFolder) -> Ids:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    return decode_mask(data, str(path), merge_objects=sequence.layout == "davis2016").numpy()

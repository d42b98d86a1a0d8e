"""Anybody's PNGs against ground truth on disk: which files belong together, and what is wrong with them."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eosvos.data.readers.files import file_bytes
from eosvos.data.readers.masks import has_gray_palette, read_mask
from eosvos.data.sequence import UNREADABLE, VOID, decode_mask, open_image, size_text
from eosvos.errors import BadInput
from eosvos.metrics.config import protocol_of
from eosvos.metrics.ground_truth import AnnotatedFolder
from eosvos.metrics.sequence_scores import ObjectScores, SequenceScorer

MASKS = "masks"
Ids = NDArray[np.uint8]


@dataclass(frozen=True)
class FolderScores:
    """The scores of one sequence; ``frame_names`` are those that the positions in ``objects`` mean."""

    name: str
    frame_names: tuple[str, ...]
    objects: tuple[ObjectScores, ...]


def check_predictions(sequences: list[AnnotatedFolder], root: Path) -> None:
    """Raises BadInput that names the first prediction that is missing, before anything is scored."""
    if not root.is_dir():
        raise BadInput(f"{root}: no such folder; --predictions names the folder with one of PNGs for each sequence")
    for sequence in sequences:
        folder = predictions_of(sequence.name, root)
        if not folder.is_dir():
            raise BadInput(f"{folder}: no predictions for this sequence; segment it, or name a --split")
        there = {path.name for path in folder.iterdir()}
        for position in _counted(sequence):
            if (name := sequence.masks[position].name) not in there:
                raise BadInput(f"{folder / name}: no such prediction; segment this frame too")


def predictions_of(name: str, root: Path) -> Path:
    """Folder of a sequence's predictions: its own, or ``masks`` in it, where jobs/segment.py writes them."""
    folder = root / name
    return folder / MASKS if (folder / MASKS).is_dir() else folder


def _counted(sequence: AnnotatedFolder) -> range:
    """Positions of the masks that count."""
    return protocol_of(sequence.layout).frames(len(sequence.masks))


def score_folder(sequence: AnnotatedFolder, root: Path) -> FolderScores:
    """J and F of every object of one sequence.

    DAVIS scores the objects up to the largest id of the first mask. In other layouts all objects count, each in the
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
    scorer = SequenceScorer(objects, _counted(sequence), sequence.name)
    for position in _counted(sequence):
        truth = _truth(sequence, position, black_and_white)
        scorer.add(position, _prediction(sequence, position, root, truth.shape, objects), truth)
    return FolderScores(sequence.name, tuple(path.stem for path in sequence.masks), scorer.scores())


def _prediction(
    sequence: AnnotatedFolder, position: int, root: Path, size: tuple[int, ...], objects: dict[int, int]
) -> Ids:
    path = predictions_of(sequence.name, root) / sequence.masks[position].name
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
    protocol = protocol_of(sequence.layout)
    truths = (_truth(sequence, position, black_and_white) for position in range(len(sequence.masks)))
    # The evaluator of DAVIS takes all ids up to the largest one.
    ids = (np.unique(truth) if protocol.late_objects else np.arange(truth.max() + 1) for truth in truths)
    entered = protocol.entered([number for number in present.tolist() if number] for present in ids)
    return dict(sorted(entered.items()))


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
        with open_image(path) as image:
            return image.mode == "L" or has_gray_palette(image)
    except UNREADABLE:  # said by whoever reads it
        return False


def _decode(path: Path, sequence: AnnotatedFolder) -> Ids:
    return decode_mask(file_bytes(path), str(path), merge_objects=sequence.layout == "davis2016").numpy()

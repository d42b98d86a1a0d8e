"""The sequences that went best and worst, and frames of each to see why."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eosvos.figures.contact_sheet import contact_sheet
from eosvos.figures.overlay import overlay
from eosvos.metrics.table import Row, summarize

SHEET_FRAMES = 5


@dataclass(frozen=True)
class SequenceScore:
    """Mean J&F over the objects of one sequence, a share."""

    dataset: str
    sequence: str
    j_and_f: float


@dataclass(frozen=True)
class Segmented:
    """A segmented video of which some frames are looked at.

    Attributes:
        label: what stands beside its frames; may have several lines.
        length: number of frames, at least 1.
        frame: position -> image (3, H, W) uint8 RGB and object ids (H, W) uint8; called only for the frames shown.
    """

    label: str
    length: int
    frame: Callable[[int], tuple[Tensor, Tensor | NDArray[np.uint8]]]

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length: must be at least 1, got {self.length}")


def best_and_worst(
    rows: Iterable[Row], T: int, count: int
) -> tuple[tuple[SequenceScore, ...], tuple[SequenceScore, ...]]:
    """The ``count`` sequences of highest J&F, best first, and the ``count`` of lowest, worst first.

    No sequence is in both: of fewer than twice ``count`` the better half is best, a middle one too.

    Args:
        rows: of ``eosvos.metrics.table.object_rows``, with the column T; of one evaluation and one learning rate.
        T: the rows to look at.
        count: at least 1.

    Raises:
        ValueError: no row with that T, an object that is there twice (as with several learning rates), or a count
            below 1.
    """
    chosen = [row for row in rows if row["T"] == T]
    if not chosen:
        raise ValueError(f"no row with T = {T}")
    if len({(row["dataset"], row["sequence"], row["object"]) for row in chosen}) < len(chosen):
        raise ValueError(f"an object has several rows with T = {T}: pass those of one evaluation and learning rate")
    if count < 1:
        raise ValueError(f"count: must be at least 1, got {count}")
    scores = [
        SequenceScore(row["dataset"], row["sequence"], row["j_and_f"])
        for row in summarize(chosen, by=("dataset", "sequence"))
    ]
    ordered = sorted(scores, key=lambda score: (-score.j_and_f, score.dataset, score.sequence))
    best = ordered[: min(count, (len(ordered) + 1) // 2)]
    worst = ordered[len(best) :][::-1][:count]
    return tuple(best), tuple(worst)


def sheet_of_sequences(sequences: Sequence[Segmented], frames: int = SHEET_FRAMES) -> Image.Image:
    """A contact sheet: a row per sequence with at most ``frames`` evenly spaced frames, first and last among them.

    It has no paper, so that it suits a light and a dark page.

    Args:
        sequences: from the top.
        frames: at least 2.

    Raises:
        ValueError: no sequence, or fewer than 2 frames.
    """
    if frames < 2:
        raise ValueError(f"frames: must be at least 2, got {frames}")
    rows = []
    for sequence in sequences:
        positions = np.linspace(0, sequence.length - 1, min(frames, sequence.length)).round().astype(int).tolist()
        rows.append((sequence.label, [overlay(*sequence.frame(position)) for position in positions]))
    return contact_sheet(rows, transparent=True)

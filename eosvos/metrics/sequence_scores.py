"""J and F of the objects of one sequence, over the frames that the DAVIS evaluator counts."""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Frames
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eosvos.errors import BadInput
from eosvos.metrics.measures import Statistics, jaccard_and_boundary_f, statistics

IdMap = NDArray[np.uint8] | Tensor
"""(H, W) uint8, object ids with 0 for the background."""


@dataclass(frozen=True)
class ObjectScores:
    """J and F of one object, frame by frame.

    Attributes:
        object_id: the value of the object in the id maps.
        positions: of the frames that were scored, in the sequence.
        j: one value in [0, 1] for each of them.
        f: one value in [0, 1] for each of them.
    """

    object_id: int
    positions: tuple[int, ...]
    j: tuple[float, ...]
    f: tuple[float, ...]

    @cached_property
    def j_statistics(self) -> Statistics:
        """Mean, recall and decay of J."""
        return statistics(self.j)

    @cached_property
    def f_statistics(self) -> Statistics:
        """Mean, recall and decay of F."""
        return statistics(self.f)

    @property
    def j_and_f(self) -> float:
        """J&F, the mean of the mean J and the mean F."""
        return (self.j_statistics.mean + self.f_statistics.mean) / 2


def score_sequence(
    predictions: Frames[IdMap | None],
    truths: Frames[IdMap | None],
    object_ids: Iterable[int],
    name: str,
) -> tuple[ObjectScores, ...]:
    """J and F of every object of a sequence, first and last frame left out (``evaluation.py:evaluate``).

    Args:
        predictions: one id map (H, W) uint8 per frame, or None for a frame that does not count; an id that is not in
            ``object_ids`` counts as background, and an object that is missing has an empty mask.
        truths: one id map (H, W) uint8 per frame, or None where the frame has no annotation.
        object_ids: the objects to score. The evaluator takes those of the first annotation, without 255.
        name: of the sequence, for messages.

    Returns:
        One result per object, in the order of ``object_ids``.

    Raises:
        BadInput: not as many predictions as frames, no annotated frame between the first and the last, no
            prediction for a frame that counts, or one of another size than its annotation.
    """
    return score_entering(predictions, truths, dict.fromkeys(object_ids, 0), name)


def score_entering(
    predictions: Frames[IdMap | None], truths: Frames[IdMap | None], entered: Mapping[int, int], name: str
) -> tuple[ObjectScores, ...]:
    """As ``score_sequence``, of objects that may enter late: each counts in the frames after its first mask.

    Args:
        predictions, truths, name: as of ``score_sequence``.
        entered: object id -> position of its first mask.

    Returns:
        One result per object that has a frame that counts, in the order of ``entered``.
    """
    counted = inner_annotated(truths)
    after = {object_id: tuple(p for p in counted if p > first) for object_id, first in entered.items()}
    if not any(after.values()):
        raise BadInput(
            f"{name}: no annotated frame between the first and the last of its {len(truths)}, and those two do not "
            "count; give masks for frames in between"
        )
    return tuple(
        score_object(predictions, truths, object_id, positions, name)
        for object_id, positions in after.items()
        if positions
    )


def inner_annotated(truths: Frames[IdMap | None]) -> tuple[int, ...]:
    """Positions of the frames that the DAVIS evaluator counts: annotated, neither first nor last."""
    return tuple(position for position in range(1, len(truths) - 1) if truths[position] is not None)


def score_object(
    predictions: Frames[IdMap | None],
    truths: Frames[IdMap | None],
    object_id: int,
    positions: Frames[int],
    name: str,
) -> ObjectScores:
    """J and F of one object at the frames ``positions``, all of them annotated; else as ``score_sequence``."""
    if len(predictions) != len(truths):
        raise BadInput(f"{name}: {len(predictions)} predictions for {len(truths)} frames; give one for each frame")
    pairs: list[tuple[float, float]] = []
    for position in positions:
        prediction, truth = predictions[position], truths[position]
        if prediction is None or truth is None:
            missing = "prediction" if prediction is None else "annotation"
            raise BadInput(f"{name}, frame {position}: no {missing}; a frame that counts needs both")
        predicted, true = np.asarray(prediction), np.asarray(truth)
        if predicted.shape != true.shape:
            raise BadInput(
                f"{name}, frame {position}: the prediction has shape {predicted.shape}, the annotation {true.shape}; "
                "write predictions at the size of the annotation"
            )
        pairs.append(jaccard_and_boundary_f(predicted == object_id, true == object_id))
    return ObjectScores(object_id, tuple(positions), tuple(j for j, _ in pairs), tuple(f for _, f in pairs))

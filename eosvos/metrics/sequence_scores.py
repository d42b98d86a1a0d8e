"""J and F of the objects of one sequence, taken frame by frame."""

from collections.abc import Container, Iterable, Mapping
from collections.abc import Sequence as Frames
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eosvos.data.sequence import VOID
from eosvos.errors import BadInput
from eosvos.metrics.config import DAVIS
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


class SequenceScorer:
    """J and F of the objects of one sequence as its frames come: each counts in those after its first mask.

    Nothing counts where every mask is a first one, as in data whose ground truth is kept back: such a mask shows what
    enters and says nothing of the other objects.
    """

    def __init__(self, entered: Mapping[int, int], frames: Container[int], name: str) -> None:
        """Of no frame yet.

        Args:
            entered: object id -> position of its first mask.
            frames: positions that count, where they are annotated.
            name: of the sequence, for messages.
        """
        self._entered, self._frames, self._name = entered, frames, name
        self._values: dict[int, list[tuple[int, float, float]]] = {object_id: [] for object_id in entered}
        self._knows_more = False

    def add(self, position: int, prediction: IdMap | None, truth: IdMap | None) -> None:
        """Scores the frame at ``position``, where it counts.

        Args:
            position: of the frame in the sequence, rising from call to call.
            prediction: id map, or None for a frame that does not count; an id that is no object's counts as
                background, and an object that is missing has an empty mask.
            truth: id map, or None where the frame has no annotation.

        Raises:
            BadInput: no prediction for a frame that counts, or one of another size than its annotation.
        """
        objects = [object_id for object_id, first in self._entered.items() if first < position]
        if truth is None or position not in self._frames or not objects:
            return
        if prediction is None:
            raise BadInput(f"{self._name}, frame {position}: no prediction; a frame that counts needs one")
        predicted, true = np.asarray(prediction), np.asarray(truth)
        if predicted.shape != true.shape:
            raise BadInput(
                f"{self._name}, frame {position}: the prediction has shape {predicted.shape}, the annotation "
                f"{true.shape}; write predictions at the size of the annotation"
            )
        self._knows_more = self._knows_more or self._is_more_than_first_masks(position, true)
        for object_id in objects:
            pair = predicted == object_id, true == object_id
            self._values[object_id].append((position, *jaccard_and_boundary_f(*pair)))

    def scores(self) -> tuple[ObjectScores, ...]:
        """One result for each object that has a frame that counts, in the order of ``entered``."""
        return tuple(
            ObjectScores(object_id, *(tuple(column) for column in zip(*frames, strict=True)))
            for object_id, frames in self._values.items()
            if frames and self._knows_more
        )

    def _is_more_than_first_masks(self, position: int, truth: NDArray[np.uint8]) -> bool:
        present = set(np.unique(truth).tolist()) - {0, VOID}
        return not present or any(self._entered.get(object_id) != position for object_id in present)


def score_sequence(
    predictions: Frames[IdMap | None],
    truths: Frames[IdMap | None],
    object_ids: Iterable[int],
    name: str,
) -> tuple[ObjectScores, ...]:
    """J and F of every object of a sequence, first and last frame left out (``evaluation.py:evaluate``).

    Args:
        predictions: of each frame, as of ``SequenceScorer.add``.
        truths: of each frame, as of ``SequenceScorer.add``.
        object_ids: the objects to score. The evaluator takes those of the first annotation, without 255.
        name: of the sequence, for messages.

    Returns:
        One result per object, in the order of ``object_ids``.

    Raises:
        BadInput: not as many predictions as frames, no annotated frame between the first and the last, or what
            ``SequenceScorer.add`` refuses.
    """
    if len(predictions) != len(truths):
        raise BadInput(f"{name}: {len(predictions)} predictions for {len(truths)} frames; give one for each frame")
    scorer = SequenceScorer(dict.fromkeys(object_ids, 0), DAVIS.frames(len(truths)), name)
    for position, pair in enumerate(zip(predictions, truths, strict=True)):
        scorer.add(position, *pair)
    if not (scores := scorer.scores()):
        raise BadInput(
            f"{name}: no annotated frame between the first and the last of its {len(truths)}, and those two do not "
            "count; give masks for frames in between"
        )
    return scores

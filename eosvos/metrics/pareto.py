"""Accuracy against time: which settings are worth having, and which of them to take."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from eosvos.metrics.table import AnyRow, Row

STANDARD_ERRORS = 2.0
"""Of the paired difference, by which a setting must be better for that to count as more than chance."""


def clearly_better(scores: ArrayLike, others: ArrayLike) -> bool:
    """Whether scores are above others of the same objects by two paired standard errors; never with a single object.

    Args:
        scores, others: (objects,) of any unit, in the same order.

    Raises:
        ValueError: the two are not of the same number of objects.
    """
    one, two = np.asarray(scores, dtype=float), np.asarray(others, dtype=float)
    if one.shape != two.shape:
        raise ValueError(f"{one.size} objects and {two.size} objects cannot be paired: they must be the same")
    if one.size < 2:
        return False
    differences = one - two
    error = float(differences.std(ddof=1)) / math.sqrt(differences.size)
    return float(differences.mean()) > STANDARD_ERRORS * error


def front(rows: Sequence[AnyRow]) -> list[AnyRow]:
    """The rows that no other one beats: none is better in ``j_and_f`` and not slower, or faster and not worse.

    Args:
        rows: with ``j_and_f`` and ``seconds_per_frame``.

    Returns:
        the fastest first; of rows that are equal in both, each.
    """
    ordered = sorted(rows, key=lambda row: (row["seconds_per_frame"], -row["j_and_f"]))
    return [row for row in ordered if not any(_beats(other, row) for other in ordered)]


def _beats(row: Row, other: Row) -> bool:
    slower = float(row["seconds_per_frame"] - other["seconds_per_frame"])
    better = float(row["j_and_f"] - other["j_and_f"])
    return slower <= 0 <= better and (slower < 0 or better > 0)


def recommend(rows: Sequence[AnyRow], target_fps: float | None = None, target_score: float | None = None) -> AnyRow:
    """The setting to take: the most accurate of those that reach the speed, or the fastest that reaches the score.

    Where none reaches the target it is the one that comes nearest to it. Without a target it is the most accurate one.

    Args:
        rows: with ``j_and_f`` and ``seconds_per_frame``; at least one.
        target_fps: frames per second, fine-tuning included.
        target_score: J&F, as a share.
    """
    best = front(rows)
    if target_score is not None:
        return next((row for row in best if row["j_and_f"] >= target_score), best[-1])
    if target_fps is not None:
        return next((row for row in reversed(best) if row["seconds_per_frame"] * target_fps <= 1), best[0])
    return best[-1]

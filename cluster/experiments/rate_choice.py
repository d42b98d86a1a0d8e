"""A parent's learning rate, chosen for each number of steps on the sequences that it was not trained on."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate
from eosvos.learning.optimization import load
from eosvos.metrics.table import Row, SummaryRow, best_at_each_T
from eosvos.segmentation.config import SegmentationConfig

log = logging.getLogger(__name__)

WIDENINGS = 6
"""How often a grid of rates is widened, at most."""
FACTOR = 3.0
"""Between the edge of a grid and the rate by which it is widened."""


@dataclass(frozen=True)
class RateChoice:
    """A parent's best learning rate for each number of steps T above 0, on sequences that it was not trained on.

    Attributes:
        rates: at each T.
        j_and_f: at each T, with that rate; mean over objects.
    """

    rates: Mapping[int, float]
    j_and_f: Mapping[int, float]

    @property
    def score(self) -> float:
        """J&F, mean over T."""
        return statistics.mean(self.j_and_f.values())

    def by_rate(self, steps: Sequence[int]) -> dict[float, tuple[int, ...]]:
        """Rate -> those of ``steps`` at which it is best; T = 0, where no rate matters, goes with the first."""
        groups = {
            rate: tuple(T for T in steps if T > 0 and self.rates[T] == rate)
            for rate in dict.fromkeys(self.rates.values())
        }
        first = next(iter(groups))
        return groups | {first: (0, *groups[first])} if 0 in steps else groups


def choose_rates(
    parent: Path,
    train_data: str,
    steps: Sequence[int],
    rates: Sequence[float],
    folder: Path,
    segmentation: SegmentationConfig,
) -> RateChoice:
    """Evaluates a parent on the sequences that it was not trained on; what is evaluated already is not again.

    Args:
        parent: its checkpoint.
        train_data: encoded dataset that it was trained on, all but the held-out sequences.
        steps: numbers of fine-tuning steps T; 0, where no rate matters, is left out.
        rates: to choose from, widened until the best is not at an edge.
        folder: of the evaluations.
        segmentation: as in the evaluation that the rates are for.
    """
    names = tuple(load(parent).facts["held_out"])
    positive = tuple(T for T in steps if T > 0)

    def scores(rates: tuple[float, ...]) -> list[SummaryRow]:
        label = "_".join(f"{rate:g}" for rate in rates)
        subject = Subject(parent, train_data, names, learning_rate=rates)
        return evaluate(Evaluation(subject, positive, segmentation), folder / label).summary

    rows = scores(tuple(sorted(rates)))
    for _ in range(WIDENINGS):
        if wider := wider_rates(rows):
            rows += scores(wider)
    if wider_rates(rows):
        log.warning("warning: after %d widenings the parent's best rate is still at the grid's edge", WIDENINGS)
    best = best_at_each_T(rows)
    choice = RateChoice(
        {T: row["learning_rate"] or 0.0 for T, row in best.items()}, {T: row["j_and_f"] for T, row in best.items()}
    )
    for T, rate in choice.rates.items():
        log.info("%s: best rate at T=%d on %s: %g", parent.parent, T, ", ".join(names), rate)
    return choice


def wider_rates(rows: Sequence[Row]) -> tuple[float, ...]:
    """The rates by which to widen a grid whose best at some T is at its edge; none where it is wide enough.

    Args:
        rows: with ``T``, ``learning_rate`` and ``j_and_f``.
    """
    rates = sorted({row["learning_rate"] for row in rows})
    best = {row["learning_rate"] for row in best_at_each_T(list(rows)).values()}
    beyond = {rates[0]: rates[0] / FACTOR, rates[-1]: rates[-1] * FACTOR}
    return tuple(float(f"{value:.1g}") for edge, value in beyond.items() if edge in best)

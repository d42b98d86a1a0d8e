"""The fair parent: of those that trained for as long as the others, the one that is best on held-out sequences."""

import logging
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from cluster.experiments.config import Comparison
from cluster.experiments.rate_choice import RateChoice, choose_rates, wider_rates
from cluster.training import checkpoints, progress
from cluster.training.config import ParentTraining
from cluster.training.driver import COMPLETE, train
from eosvos.data.config import Targets

log = logging.getLogger(__name__)

FAIR_FOLDER = "fair_parent"
"""The run folder of the candidate that is trained as the preset says; those of the others begin with it."""
CHOICE_FOLDER = "choice"
"""Of the evaluations that the candidates are chosen by, with a folder for each."""
MARGIN = 1.1
"""A candidate gets this much of the time, as its pace is known only from the past."""
WIDENINGS = 2
"""How often the outer learning rates are widened, at most: each takes a whole training."""


@dataclass(frozen=True)
class Candidate:
    """A parent that trained for as long as the others.

    Attributes:
        name: of its folder; another one for each.
        targets: what it learns to find in a frame.
        outer_rate: its outer learning rate.
        checkpoint: the one of its training that counts.
        seconds: in its outer steps.
        choice: its fine-tuning rate at each T, and how good it is with that, on the held-out sequences.
    """

    name: str
    targets: Targets
    outer_rate: float
    checkpoint: Path
    seconds: float
    choice: RateChoice


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The one with the highest J&F on the held-out sequences, mean over T; of equals the first."""
    return max(candidates, key=lambda candidate: candidate.choice.score)


@dataclass(frozen=True)
class Search:
    """How candidates are trained.

    Attributes:
        parent: as the preset says.
        steps: outer steps of each.
        seconds: a candidate that is there and took at least as long stays, whatever its steps.
        comparison: where and how they are compared.
        folder: of the seed, with a run folder for each.
    """

    parent: ParentTraining
    steps: int
    seconds: float
    comparison: Comparison
    folder: Path

    def candidates(self) -> list[Candidate]:
        """One of each kind of targets; then, with the best kind, other outer learning rates.

        What is trained and evaluated already is not again.
        """
        own = self.parent.outer.learning_rate
        kinds = sorted(get_args(Targets), key=lambda kind: kind != self.parent.parent_targets)  # the preset's first
        found = [self._candidate(kind, own) for kind in kinds]
        at_best = [best(found)]
        targets = at_best[0].targets
        rates = tuple(float(f"{factor * own:.2g}") for factor in self.comparison.outer_factors)
        for _ in range(1 + WIDENINGS if rates else 0):
            at_best += [self._candidate(targets, rate) for rate in rates if rate != own]
            rates = wider_rates(
                [{"T": 0, "learning_rate": one.outer_rate, "j_and_f": one.choice.score} for one in at_best]
            )
        if rates:
            log.warning("warning: the fair parent's best outer learning rate is still at the edge of those tried")
        return found + at_best[1:]

    def _candidate(self, targets: Targets, outer_rate: float) -> Candidate:
        other_targets = f"-{targets}" if targets != self.parent.parent_targets else ""
        other_rate = f"-{outer_rate:g}" if outer_rate != self.parent.outer.learning_rate else ""
        name = f"{FAIR_FOLDER}{other_targets}{other_rate}"
        log.info("%s: a parent of %s, outer learning rate %g", name, targets, outer_rate)
        run, steps, comparison = self.folder / name, self.steps, self.comparison
        if (run / COMPLETE).is_file() and seconds_of(run) >= self.seconds:
            steps = progress.read(run)[-1]["step"]
        outer = replace(self.parent.outer, steps=steps, learning_rate=outer_rate)
        training = replace(self.parent, parent_targets=targets, outer=outer)
        checkpoint = checkpoints.counted(train(training, run))
        choice = choose_rates(
            checkpoint,
            comparison.train_data,
            comparison.T,
            comparison.rates,
            self.folder / CHOICE_FOLDER / name,
            comparison.segmentation,
        )
        return Candidate(name, targets, outer_rate, checkpoint, seconds_of(run), choice)


def seconds_of(run: Path) -> float:
    """What the outer steps of a run took."""
    return float(sum(row["seconds"] for row in progress.read(run)))


def fair_steps(rows: Sequence[progress.StepRow], seconds: float) -> int:
    """Outer steps that fill ``seconds`` at the median pace of a training's progress, with a margin."""
    pace: float = statistics.median(row["seconds"] for row in rows)
    return math.ceil(MARGIN * seconds / pace)

"""What the evaluation of a sequence gives."""

from collections.abc import Iterable
from dataclasses import dataclass

from eosvos.errors import BadInput
from eosvos.metrics.table import ObjectResult


@dataclass(frozen=True)
class FineTuning:
    """How a checkpoint is fine-tuned.

    Attributes:
        learning_rate: one for every neuron, or None for the checkpoint's own.
        T: steps.
    """

    learning_rate: float | None
    T: int

    @property
    def folder(self) -> str:
        """Name of a folder, another one for each."""
        return f"T={self.T}" if self.learning_rate is None else f"T={self.T}_rate={self.learning_rate!r}"

    def __str__(self) -> str:
        return f"T={self.T}" if self.learning_rate is None else f"T={self.T} rate={self.learning_rate!r}"


@dataclass(frozen=True)
class SequenceResult:
    """One sequence with one fine-tuning.

    Attributes:
        sequence: its name.
        fine_tuning: learning rate and T.
        objects: scores and times; none where no mask is there to score against.
        diverged: adaptation of an object diverged, so that its masks are empty.
        computed_steps: fine-tuning steps of all objects that were computed for it; others were known from a smaller T,
            or from a cache.
    """

    sequence: str
    fine_tuning: FineTuning
    objects: tuple[ObjectResult, ...]
    diverged: bool
    computed_steps: int = 0

    @property
    def T(self) -> int:  # noqa: N802 - T is the field's name
        """Fine-tuning steps."""
        return self.fine_tuning.T

    @property
    def j_and_f(self) -> float:
        """Mean over the objects, of which there is at least one."""
        return sum(one.scores.j_and_f for one in self.objects) / len(self.objects)


def check_scored(results: Iterable[SequenceResult]) -> None:
    """Raises BadInput that names a sequence without scores."""
    for result in results:
        if not result.objects:
            raise BadInput(
                f"{result.sequence}: no mask to score against beside those that are given; leave the sequence out, or "
                "encode it with more of its masks"
            )

"""J and F of seen and of unseen categories, as the server of YouTube-VOS gives them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from eosvos.errors import BadInput
from eosvos.metrics.ground_truth import AnnotatedFolder
from eosvos.metrics.table import ObjectRow
from eosvos.tables import Column, terminal_text


@dataclass(frozen=True)
class SeenAndUnseen:
    """Means over objects, as shares; None where there is no such object.

    Attributes:
        j_seen, f_seen: of the objects whose category is among those of the training.
        j_unseen, f_unseen: of the others.
    """

    j_seen: float | None
    f_seen: float | None
    j_unseen: float | None
    f_unseen: float | None

    @property
    def overall(self) -> float | None:
        """The mean of the four."""
        four = [self.j_seen, self.f_seen, self.j_unseen, self.f_unseen]
        values = [value for value in four if value is not None]
        return sum(values) / 4 if len(values) == 4 else None


def categories_of(sequences: Iterable[AnnotatedFolder]) -> dict[str, Mapping[int, str]]:
    """Sequence -> object id -> category."""
    return {sequence.name: sequence.categories for sequence in sequences}


def seen_and_unseen(
    rows: Iterable[ObjectRow], categories: Mapping[str, Mapping[int, str]], seen: Collection[str]
) -> SeenAndUnseen:
    """Means over the objects of seen and of unseen categories.

    Args:
        rows: one per object.
        categories: as of ``categories_of``.
        seen: those of the training.

    Raises:
        BadInput: an object without a category.
    """
    groups: dict[bool, list[ObjectRow]] = {True: [], False: []}
    for row in rows:
        category = categories[row["sequence"]].get(row["object"])
        if category is None:
            raise BadInput(
                f"{row['sequence']}: meta.json gives object {row['object']} no category; take the one of these masks"
            )
        groups[category in seen].append(row)

    def mean(is_seen: bool, name: str) -> float | None:
        values = [row[name] for row in groups[is_seen]]  # type: ignore[literal-required]
        return float(np.mean(values)) if values else None

    return SeenAndUnseen(mean(True, "j_mean"), mean(True, "f_mean"), mean(False, "j_mean"), mean(False, "f_mean"))


def seen_and_unseen_text(scores: SeenAndUnseen, title: str) -> str:
    """As a table for the terminal, in percent, in the order of the published ones."""
    names = {
        "overall": "overall",
        "J seen": "j_seen",
        "J unseen": "j_unseen",
        "F seen": "f_seen",
        "F unseen": "f_unseen",
    }
    return terminal_text([scores], [_column(heading, name) for heading, name in names.items()], title)


def _column(heading: str, name: str) -> Column[SeenAndUnseen]:
    def cell(scores: SeenAndUnseen) -> str:
        value = getattr(scores, name)
        return "-" if value is None else f"{100 * value:.1f}"

    return Column(heading, cell)

"""From the results of many objects to rows, means with standard errors and differences.

The rows of several evaluations, told apart by key columns such as ``T`` and ``label``, go in one list; ``summarize``
then compares them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, TypeVar, cast

import numpy as np

from eosvos.metrics.sequence_scores import ObjectScores
from eosvos.metrics.speed import SECONDS, Seconds, Speed, mean, speed, speed_of_objects
from eosvos.tables import Column, terminal_text

Row = Mapping[str, Any]
"""Any row, to be read only."""
AnyRow = TypeVar("AnyRow", bound=Row)


class Measures(TypedDict):
    """What is measured of an object, as shares: mean, recall and decay of J and of F, and J&F."""

    j_mean: float
    j_recall: float
    j_decay: float
    f_mean: float
    f_recall: float
    f_decay: float
    j_and_f: float


MEASURES = tuple(Measures.__annotations__)
"""Their names."""
SPEEDS = {"FPS": "fps", "video FPS": "video_fps"}
"""Heading -> speed."""


class StandardErrors(TypedDict):
    """Of means over objects; None for a single object."""

    j_mean_se: float | None
    j_recall_se: float | None
    j_decay_se: float | None
    f_mean_se: float | None
    f_recall_se: float | None
    f_decay_se: float | None
    j_and_f_se: float | None


class Keys(TypedDict, total=False):
    """What tells the rows of several evaluations apart."""

    data: str
    label: str
    method: str
    seed: int
    learning_rate: float | None
    T: int


class ObjectRow(Keys, Measures, Speed):
    """One object of one evaluation; ``frames`` and times are means after ``over_seeds``."""

    dataset: str
    sequence: str
    object: int
    frames: float
    scored_frames: int


class SummaryRow(Keys, Measures, StandardErrors, Speed):
    """Means over objects; ``frames`` is a sum, times and speeds are as of ``speed_of_objects``."""

    dataset: NotRequired[str]
    sequence: NotRequired[str]
    objects: int
    frames: float


@dataclass(frozen=True)
class ObjectResult:
    """One object of one sequence, segmented and scored.

    Attributes:
        dataset: name of the dataset.
        sequence: name of the sequence.
        frames: how many frames were segmented (at least those that were scored).
        seconds: as in ``Seconds``; None where it was not measured.
        scores: J and F, frame by frame.
        loading_seconds, video_seconds: the same; older versions did not measure them.
    """

    dataset: str
    sequence: str
    frames: int
    seconds: float | None
    scores: ObjectScores
    loading_seconds: float | None = None
    video_seconds: float | None = None

    @property
    def times(self) -> Seconds:
        """What was measured."""
        return {
            "seconds": self.seconds,
            "loading_seconds": self.loading_seconds,
            "video_seconds": self.video_seconds,
        }


def object_rows(results: Iterable[ObjectResult], keys: Keys | None = None) -> list[ObjectRow]:
    """One row per object.

    Args:
        results: any number of objects of any number of sequences.
        keys: columns that are the same in all rows and come first, for example ``{"label": "meta", "T": 10}``. Give
            a key one type in all evaluations of a table: a column of Parquet has one.

    Returns:
        Rows with ``keys`` first.
    """
    rows: list[ObjectRow] = []
    for result in results:
        j, f = result.scores.j_statistics, result.scores.f_statistics
        rows.append(
            {
                **(keys or Keys()),
                "dataset": result.dataset,
                "sequence": result.sequence,
                "object": result.scores.object_id,
                "frames": result.frames,
                "scored_frames": len(result.scores.positions),
                "j_mean": j.mean,
                "j_recall": j.recall,
                "j_decay": j.decay,
                "f_mean": f.mean,
                "f_recall": f.recall,
                "f_decay": f.decay,
                "j_and_f": result.scores.j_and_f,
                **speed(result.frames, result.frames, result.times),
            }
        )
    return rows


def with_keys(row: ObjectRow, keys: Keys) -> ObjectRow:
    """The row with more key columns, which come first."""
    return cast(ObjectRow, {**keys, **row})


def summarize(rows: Iterable[Row], by: Sequence[str] = ()) -> list[SummaryRow]:
    """Means over objects, not over sequences, as the DAVIS evaluator takes them.

    Args:
        rows: of ``object_rows``, of one or several evaluations.
        by: key columns; one row of the summary per combination of their values, in order of appearance. Without any,
            one row for all.

    Returns:
        Rows with the columns ``by``, ``objects`` (count), for each of ``MEASURES`` the mean and, as ``<name>_se``, its
        standard error over objects, ``frames``, times and speeds.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    return [
        cast(SummaryRow, dict(zip(by, values, strict=True)) | _mean_over_objects(group))
        for values, group in groups.items()
    ]


def best_at_each_T(summary: Iterable[AnyRow]) -> dict[int, AnyRow]:  # noqa: N802 - T is the field's name
    """Of a summary's rows at each T the one whose learning rate has the highest J&F."""
    rows: dict[int, AnyRow] = {}
    for row in summary:
        if row["T"] not in rows or row["j_and_f"] > rows[row["T"]]["j_and_f"]:
            rows[row["T"]] = row
    return rows


def over_seeds(rows: Iterable[ObjectRow], by: Sequence[str]) -> list[ObjectRow]:
    """One row per object and combination of ``by`` from the rows of several seeds: the means of the numbers.

    A standard error over its rows then counts each object once; how far trainings differ is another question.

    Args:
        rows: of ``object_rows``, where every seed has the same objects.
        by: key columns.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        values: Row = row
        groups.setdefault(tuple(values[key] for key in (*by, "dataset", "sequence", "object")), []).append(values)
    return [cast(ObjectRow, {**group[0], **_over_seeds(group)}) for group in groups.values()]


def _over_seeds(rows: list[Row]) -> dict[str, Any]:
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("frames", *MEASURES)}
    times = cast(Seconds, {name: mean([row[name] for row in rows]) for name in SECONDS})
    return {**means, **speed(means["frames"], means["frames"], times)}


def paired_difference(rows: Iterable[Row], others: Iterable[Row], measure: str = "j_and_f") -> tuple[float, float]:
    """Mean over objects of ``rows`` minus ``others``, and its standard error (the paired one; NaN for one object).

    Raises:
        ValueError: the two are not of the same objects.
    """
    values, subtracted = (
        {(row["dataset"], row["sequence"], row["object"]): row[measure] for row in part} for part in (rows, others)
    )
    if values.keys() != subtracted.keys() or not values:
        raise ValueError(f"{len(values)} objects and {len(subtracted)} objects cannot be paired: they must be the same")
    differences = np.array([values[key] - subtracted[key] for key in values])
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return float(differences.mean()), error


def summary_columns(summary: Sequence[SummaryRow]) -> list[Column[SummaryRow]]:
    """The DAVIS table: key columns, then mean, recall and decay of J and of F, and J&F, in percent.

    J&F has its standard error. Keys that no row has, and speed that nobody took, have no column.

    Args:
        summary: rows of ``summarize``.
    """
    names = list(summary[0])[: list(summary[0]).index("objects")] if summary else []
    columns = [_key_column(name, summary) for name in names if _has(summary, name)]
    headings = ("J", "recall", "decay", "F", "recall", "decay")
    columns += [_share_column(heading, name) for heading, name in zip(headings, MEASURES[:-1], strict=True)]
    columns.append(Column("J&F", lambda row: percent(row, "j_and_f"), fold=False))
    columns += [_speed_column(heading, name) for heading, name in SPEEDS.items() if _has(summary, name)]
    columns.append(Column("objects", lambda row: str(row["objects"])))
    return columns


def summary_text(summary: Sequence[SummaryRow], title: str) -> str:
    """A summary as the DAVIS table for the terminal, below a title."""
    return terminal_text(summary, summary_columns(summary), title)


def _key_column(name: str, summary: Sequence[SummaryRow]) -> Column[SummaryRow]:
    def cell(row: SummaryRow) -> str:
        value = _value(row, name)
        return "-" if value is None else str(value)

    return Column(name.removeprefix("learning_"), cell, is_text=isinstance(_value(summary[0], name), str))


def _speed_column(heading: str, name: str) -> Column[SummaryRow]:
    return Column(heading, lambda row: per_second(row, name))


def _has(summary: Sequence[SummaryRow], name: str) -> bool:
    return any(_value(row, name) is not None for row in summary)


def _share_column(heading: str, name: str) -> Column[SummaryRow]:
    return Column(heading, lambda row: f"{100 * _value(row, name):.1f}")


def _value(row: Row, name: str) -> Any:
    return row[name]


def percent(row: Row, name: str) -> str:
    """A measure of a summary's row in percent, with its standard error where there is one: ``70.1 ± 3.4``."""
    error = row[f"{name}_se"]
    return f"{100 * row[name]:.1f}" if error is None else f"{100 * row[name]:.1f} ± {100 * error:.1f}"


def per_second(row: Row, name: str) -> str:
    """A speed of a row: ``2.50``, or ``-`` where nobody took the time."""
    return "-" if row[name] is None else f"{row[name]:.2f}"


def signed_percent(difference: tuple[float, float]) -> str:
    """A paired difference in percent, with its standard error: ``+1.0 ± 1.7``."""
    mean, error = difference
    return f"{100 * mean:+.1f} ± {100 * error:.1f}"


def _mean_over_objects(rows: list[Row]) -> dict[str, Any]:
    summary: dict[str, Any] = {"objects": len(rows)}
    for name in MEASURES:
        values = np.array([row[name] for row in rows])
        summary[name] = float(values.mean())
        summary[f"{name}_se"] = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return {**summary, "frames": sum(row["frames"] for row in rows), **speed_of_objects(rows)}

"""From the results of many objects to rows, means with standard errors, files and a table for the terminal.

A row is a plain dict. The rows of several evaluations, told apart by key columns such as ``T`` and ``label``, go in
one list; ``summarize`` then compares them.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.box import SIMPLE_HEAD
from rich.console import JustifyMethod
from rich.table import Table

from eosvos.files import write_whole
from eosvos.metrics.sequence_scores import ObjectScores

Row = dict[str, Any]

MEASURES = ("j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay", "j_and_f")


@dataclass(frozen=True)
class ObjectResult:
    """One object of one sequence, segmented and scored.

    Attributes:
        dataset: name of the dataset.
        sequence: name of the sequence.
        frames: how many frames were segmented (at least those that were scored).
        seconds: what fine-tuning and segmentation of this object took; None where it was not measured.
        scores: J and F, frame by frame.
    """

    dataset: str
    sequence: str
    frames: int
    seconds: float | None
    scores: ObjectScores


def object_rows(
    results: Iterable[ObjectResult], keys: Mapping[str, str | int | float | None] | None = None
) -> list[Row]:
    """One row per object.

    Args:
        results: any number of objects of any number of sequences.
        keys: columns that are the same in all rows and come first, for example ``{"label": "meta", "T": 10}``. Give
            a key one type in all evaluations of a table: a column of Parquet has one.

    Returns:
        Rows with ``keys``, ``dataset``, ``sequence``, ``object``, ``frames``, ``scored_frames``, the seven measures
        of ``MEASURES`` as shares (not percent), ``seconds`` and ``fps`` (frames of this object per second).
    """
    rows = []
    for result in results:
        j, f = result.scores.j_statistics, result.scores.f_statistics
        rows.append(
            {
                **(keys or {}),
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
                "seconds": result.seconds,
                "fps": _per_second(result.frames, result.seconds),
            }
        )
    return rows


def summarize(rows: Iterable[Row], by: Sequence[str] = ()) -> list[Row]:
    """Means over objects, not over sequences, as the DAVIS evaluator takes them.

    Args:
        rows: of ``object_rows``, of one or several evaluations.
        by: key columns; one row of the summary per combination of their values, in order of appearance. Without any,
            one row for all.

    Returns:
        Rows with the columns ``by``, ``objects`` (count), for each of ``MEASURES`` the mean and, as ``<name>_se``, its
        standard error over objects (None for a single object), ``frames``, ``seconds`` (sums) and ``fps`` (their
        ratio: frames times objects per second, the paper's FPS; None where any object has no time).
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    return [dict(zip(by, values, strict=True)) | _mean_over_objects(group) for values, group in groups.items()]


def best_at_each_T(summary: Iterable[Row]) -> dict[int, Row]:  # noqa: N802 - T is the field's name
    """Of a summary's rows at each T the one whose learning rate has the highest J&F."""
    rows: dict[int, Row] = {}
    for row in summary:
        if row["T"] not in rows or row["j_and_f"] > rows[row["T"]]["j_and_f"]:
            rows[row["T"]] = row
    return rows


def over_seeds(rows: Iterable[Row], by: Sequence[str]) -> list[Row]:
    """One row per object and combination of ``by`` from the rows of several seeds: the means of the numbers.

    A standard error over its rows then counts each object once; how far trainings differ is another question.

    Args:
        rows: of ``object_rows``, where every seed has the same objects.
        by: key columns.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in (*by, "dataset", "sequence", "object")), []).append(row)
    means = ("frames", *MEASURES, "seconds")
    return [
        group[0] | {name: float(np.mean([row[name] for row in group])) for name in means} for group in groups.values()
    ]


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


def write_table(rows: Sequence[Row], folder: Path, name: str) -> tuple[Path, Path]:
    """Rows -> ``folder/name.parquet`` and ``folder/name.csv``, each complete or not there at all.

    Rows may lack columns that others have; such cells are null (empty in the CSV). The folder is made.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = pa.table({column: [row.get(column) for row in rows] for column in columns})
    for index, field in enumerate(table.schema):
        if pa.types.is_null(field.type):  # a column without any value, such as times that nobody took
            table = table.set_column(index, field.name, table.column(index).cast(pa.float64()))
    folder.mkdir(parents=True, exist_ok=True)
    parquet, csv = io.BytesIO(), io.BytesIO()
    pa.parquet.write_table(table, parquet)
    pa.csv.write_csv(table, csv)
    return (
        write_whole(folder / f"{name}.parquet", parquet.getvalue()),
        write_whole(folder / f"{name}.csv", csv.getvalue()),
    )


def terminal_table(summary: Sequence[Row], title: str) -> Table:
    """A summary as the DAVIS table: key columns, then mean, recall and decay of J and of F, and J&F, in percent.

    J&F has its standard error. Keys that no row has, and speed that nobody took, have no column.

    Args:
        summary: rows of ``summarize``.
        title: above the table.
    """
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    keys = list(summary[0])[: list(summary[0]).index("objects")] if summary else []
    keys = [key for key in keys if any(row[key] is not None for row in summary)]
    timed = any(row["fps"] is not None for row in summary)
    for key in keys:
        justify: JustifyMethod = "left" if isinstance(summary[0][key], str) else "right"
        table.add_column(key.replace("_", " "), justify=justify, overflow="fold")
    for heading in ("J", "recall", "decay", "F", "recall", "decay", "J&F", *["FPS"] * timed, "objects"):
        table.add_column(heading, justify="right", no_wrap=heading == "J&F")
    for row in summary:
        keyed = ["-" if row[key] is None else str(row[key]) for key in keys]
        measures = [f"{100 * row[name]:.1f}" for name in MEASURES[:-1]]
        fps = ["-" if row["fps"] is None else f"{row['fps']:.2f}"] * timed
        table.add_row(*keyed, *measures, percent(row, "j_and_f"), *fps, str(row["objects"]))
    return table


def percent(row: Row, name: str) -> str:
    """A measure of a summary's row in percent, with its standard error where there is one: ``70.1 ± 3.4``."""
    error = row[f"{name}_se"]
    return f"{100 * row[name]:.1f}" if error is None else f"{100 * row[name]:.1f} ± {100 * error:.1f}"


def signed_percent(difference: tuple[float, float]) -> str:
    """A paired difference in percent, with its standard error: ``+1.0 ± 1.7``."""
    mean, error = difference
    return f"{100 * mean:+.1f} ± {100 * error:.1f}"


def _mean_over_objects(rows: list[Row]) -> Row:
    summary: Row = {"objects": len(rows)}
    for name in MEASURES:
        values = np.array([row[name] for row in rows])
        summary[name] = float(values.mean())
        summary[f"{name}_se"] = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    seconds = [row["seconds"] for row in rows]
    summary["frames"] = sum(row["frames"] for row in rows)
    summary["seconds"] = None if None in seconds else sum(seconds)
    summary["fps"] = _per_second(summary["frames"], summary["seconds"])
    return summary


def _per_second(frames: int, seconds: float | None) -> float | None:
    return frames / seconds if seconds else None

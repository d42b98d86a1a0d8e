"""A training's progress: a line of JSON per outer step in the run's folder. A kill leaves no gap and nothing twice."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from eosvos.learning.learner import Measures, TaskLosses

FILE = "progress.jsonl"
"""A line per outer step, by worker 0."""
VALIDATION_FILE = "validation.jsonl"
"""A line per validation, by the driver."""


class TaskRow(TaskLosses, total=False):
    """One task of an outer step: what is to be segmented in which frames (positions), and its losses."""

    sequence: str
    object: int
    frames: list[int]


class StepRow(Measures, total=False):
    """One outer step."""

    step: int
    """Number of outer steps taken, this one counted."""
    seconds: float
    """What it took."""
    tasks: list[TaskRow]


class ValidationRow(TypedDict):
    """One validation: means over the objects of the held-out sequences, of each over its windows."""

    step: int
    """Number of outer steps taken."""
    validation_j_and_f_at_0: float
    """J&F before fine-tuning."""
    validation_j_and_f_at_T: float
    """J&F after T steps, with the best of the single learning rates where such are tried."""
    validation_learning_rate: NotRequired[float]
    """That rate."""
    validation_windows: NotRequired[int]
    """Windows that were scored. Versions without it had frames spread over each sequence instead."""


def append(folder: Path, row: Mapping[str, Any], name: str = FILE) -> None:
    """Adds a row; do it before the checkpoint of its step is written."""
    with (folder / name).open("a") as file:
        file.write(json.dumps(row) + "\n")


def read(folder: Path) -> list[StepRow]:
    """The outer steps so far. A kill may have cut the last line, which is then left out."""
    return _lines(folder / FILE)


def read_validations(folder: Path) -> list[ValidationRow]:
    """The validations so far, as ``read``."""
    return _lines(folder / VALIDATION_FILE)


def best_validation(rows: Iterable[ValidationRow]) -> ValidationRow:
    """The one with the highest J&F after T steps, of equal ones the latest; of at least one row.

    One by an older version, which measured something else, counts where there is no other.
    """
    return max(rows, key=lambda row: ("validation_windows" in row, row["validation_j_and_f_at_T"], row["step"]))


def forget_after(folder: Path, step: int, name: str = FILE) -> None:
    """Takes out what a killed run did after ``step``, that of its last checkpoint."""
    temporary = folder / f".{name}"
    rows = _lines(folder / name)
    temporary.write_text("".join(f"{json.dumps(row)}\n" for row in rows if row["step"] <= step))
    temporary.replace(folder / name)


def measures(row: StepRow | ValidationRow) -> dict[str, float]:
    """What MLflow is told of a row: its numbers, but for the step."""
    return {name: value for name, value in row.items() if name not in ("step", "tasks")}  # type: ignore[misc]


def _lines(path: Path) -> list[Any]:
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]

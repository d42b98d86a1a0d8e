"""A training's progress: a line of JSON per outer step in the run's folder. A kill leaves no gap and nothing twice."""

import json
from pathlib import Path
from typing import Any

FILE = "progress.jsonl"
"""A line per outer step, by worker 0."""
VALIDATION_FILE = "validation.jsonl"
"""A line per validation, by the driver."""

Row = dict[str, Any]


def append(folder: Path, row: Row, name: str = FILE) -> None:
    """Adds an outer step; do it before its checkpoint is written."""
    with (folder / name).open("a") as file:
        file.write(json.dumps(row) + "\n")


def read(folder: Path, name: str = FILE) -> list[Row]:
    """The outer steps so far. A kill may have cut the last line, which is then left out."""
    path = folder / name
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def forget_after(folder: Path, step: int, name: str = FILE) -> None:
    """Takes out what a killed run did after ``step``, that of its last checkpoint."""
    temporary = folder / f".{name}"
    temporary.write_text("".join(f"{json.dumps(row)}\n" for row in read(folder, name) if row["step"] <= step))
    temporary.replace(folder / name)

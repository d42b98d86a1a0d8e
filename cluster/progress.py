"""A training's progress: a line of JSON per outer step in the run's folder. A kill leaves no gap and nothing twice."""

import json
from pathlib import Path
from typing import Any

FILE = "progress.jsonl"

Row = dict[str, Any]


def append(folder: Path, row: Row) -> None:
    """Adds an outer step; do it before its checkpoint is written."""
    with (folder / FILE).open("a") as file:
        file.write(json.dumps(row) + "\n")


def read(folder: Path) -> list[Row]:
    """The outer steps so far. A kill may have cut the last line, which is then left out."""
    path = folder / FILE
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def forget_after(folder: Path, step: int) -> None:
    """Takes out what a killed run did after ``step``, that of its last checkpoint."""
    temporary = folder / f".{FILE}"
    temporary.write_text("".join(f"{json.dumps(row)}\n" for row in read(folder) if row["step"] <= step))
    temporary.replace(folder / FILE)

"""Tables: columns said once, from which text for a terminal and Markdown are made; rows as Parquet and CSV."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from eosvos.files import make_folder, write_whole

Row = TypeVar("Row")


_UNLIMITED = 10_000
"""Characters that are more than any table has in a line."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column.

    Attributes:
        heading: above it.
        cell: its text in a row.
        is_text: words, which stand to the left; numbers stand to the right.
        fold: whether a narrow terminal may break a cell.
    """

    heading: str
    cell: Callable[[Row], str]
    is_text: bool = False
    fold: bool = True


def terminal_text(
    rows: Sequence[Row], columns: Sequence[Column[Row]], title: str = "", caption: str = "", width: int | None = None
) -> str:
    """A table as lines of text.

    Args:
        rows: of the table.
        columns: from the left.
        title: above the table.
        caption: below the table.
        width: in characters, at most; as wide as the terminal unless given.
    """
    # Text, as rich would read square brackets as marks; a title of the table itself would be as narrow as the table.
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        justify: JustifyMethod = "left" if column.is_text else "right"
        table.add_column(Text(column.heading), justify=justify, overflow="fold", no_wrap=not column.fold)
    for row in rows:
        table.add_row(*(Text(column.cell(row)) for column in columns))
    shown = io.StringIO()
    console = Console(file=shown, width=width, force_terminal=False)
    if console.measure(table, options=console.options.update_width(_UNLIMITED)).maximum > console.width:
        table.padding = (0, 0, 0, 0)  # less between the columns, before words and numbers are broken
    console.print(*(Text(title),) if title else (), table, *(Text(caption),) if caption else (), sep="\n")
    return "\n".join(line.rstrip() for line in shown.getvalue().splitlines())


def markdown(rows: Sequence[Row], columns: Sequence[Column[Row]]) -> str:
    """A table as Markdown, without a line's end at its end."""
    lines = [
        [column.heading for column in columns],
        ["---" if column.is_text else "---:" for column in columns],
        *([column.cell(row) for column in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_table(rows: Sequence[Mapping[str, Any]], folder: Path, name: str) -> tuple[Path, Path]:
    """Rows -> ``folder/name.parquet`` and ``folder/name.csv``, each complete or not there at all.

    Rows may lack columns that others have; such cells are null (empty in the CSV). The folder is made.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = pa.table({column: [row.get(column) for row in rows] for column in columns})
    for index, field in enumerate(table.schema):
        if pa.types.is_null(field.type):  # a column without any value, such as times that nobody took
            table = table.set_column(index, field.name, table.column(index).cast(pa.float64()))
    make_folder(folder)
    parquet, csv = io.BytesIO(), io.BytesIO()
    pa.parquet.write_table(table, parquet)
    pa.csv.write_csv(table, csv)
    return (
        write_whole(folder / f"{name}.parquet", parquet.getvalue()),
        write_whole(folder / f"{name}.csv", csv.getvalue()),
    )

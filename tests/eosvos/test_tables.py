"""One table from the same columns as text, Markdown and files."""

from pathlib import Path

import pyarrow.csv
import pyarrow.parquet

from eosvos.tables import Column, markdown, terminal_text, write_table

Pair = tuple[str, float]
COLUMNS: list[Column[Pair]] = [
    Column("name", lambda row: row[0], is_text=True),
    Column("percent", lambda row: f"{100 * row[1]:.1f}", fold=False),
]
ROWS: list[Pair] = [("[bold] one", 0.5), ("two", 1.0)]
RECORDS = [{"name": name, "T": 10, "value": value, "seconds": None} for name, value in ROWS]


def test_terminal() -> None:
    title, headings, rule, *rows, caption = terminal_text(ROWS, COLUMNS, "a title", "a caption", width=40).splitlines()
    assert (title.strip(), caption.strip()) == ("a title", "a caption")
    assert headings.split() == ["name", "percent"]
    assert set(rule.strip()) == {"─"}
    assert [row.rsplit(maxsplit=1) for row in rows] == [
        ["[bold] one", "50.0"],
        ["two", "100.0"],
    ]  # brackets are text, not style


def test_a_narrow_terminal_breaks_words_and_no_numbers() -> None:
    lines = terminal_text(ROWS, COLUMNS, width=14).splitlines()
    assert any(line.endswith(" 100.0") for line in lines)
    assert max(map(len, lines)) <= 14


def test_no_rows() -> None:
    assert terminal_text([], COLUMNS, width=40).splitlines()[0].split() == ["name", "percent"]
    assert markdown([], COLUMNS) == "| name | percent |\n| --- | ---: |"


def test_markdown() -> None:
    assert markdown(ROWS, COLUMNS).splitlines() == [
        "| name | percent |",
        "| --- | ---: |",
        "| [bold] one | 50.0 |",
        "| two | 100.0 |",
    ]


def test_files_hold_the_rows(tmp_path: Path) -> None:
    """A row without a column that others have has nothing there; the folder is made, and nothing else is left in it."""
    rows = [*RECORDS, {"name": "three", "value": 0.25, "seconds": 2.0}]
    parquet, csv = write_table(rows, tmp_path / "new" / "folder", "scores.v1")
    assert (parquet.name, csv.name) == ("scores.v1.parquet", "scores.v1.csv")
    assert sorted(path.name for path in parquet.parent.iterdir()) == ["scores.v1.csv", "scores.v1.parquet"]
    stored = pyarrow.parquet.read_table(parquet).to_pylist()
    assert stored[:2] == rows[:2]
    assert stored[2] == rows[2] | {"T": None}
    assert pyarrow.csv.read_csv(csv).to_pylist() == stored


def test_a_column_without_values_can_be_written(tmp_path: Path) -> None:
    parquet, csv = write_table(RECORDS, tmp_path, "untimed")
    assert str(pyarrow.parquet.read_schema(parquet).field("seconds").type) == "double"
    assert csv.read_text().splitlines()[0] == '"name","T","value","seconds"'

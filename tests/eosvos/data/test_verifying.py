"""Reading back: whatever is damaged is named, and nothing else."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eosvos.data.parquet import encode, parts
from eosvos.data.parquet.layout import INDEX, METADATA_KEY, OLD_INDEX
from eosvos.data.parquet.reading import read_index
from eosvos.data.parquet.rows import ContentHash
from eosvos.data.parquet.verifying import verify
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.errors import BadInput

FOUR = synthetic("train", 4, SyntheticSettings(size=32, frames=3))
SECOND = "data-00001.parquet"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files with two sequences each."""
    monkeypatch.setattr(parts, "LEAST_FRAMES", 6)
    monkeypatch.setattr(parts, "MOST_FRAMES", 6)
    encode(FOUR, tmp_path / "out", {"layout": "made"})
    return tmp_path / "out"


def _rewritten(path: Path, change: Callable[[list[dict[str, object]]], object]) -> None:
    """A file with other rows, a row group each, and all else as it was."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    with pq.ParquetWriter(path, table.schema) as writer:
        for row in rows:
            writer.write_table(pa.Table.from_pylist([row], table.schema))


def _edited(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    index = pq.read_table(folder / INDEX)
    content = json.loads(index.schema.metadata[METADATA_KEY])
    change(content)
    pq.write_table(index.replace_schema_metadata({METADATA_KEY: json.dumps(content)}), folder / INDEX)


def _file_changed(change: Callable[[list[dict[str, object]]], object]) -> Callable[[Path], None]:
    """Of the second file; the index has its new length, so that it is what is in it that gives it away."""

    def damage(folder: Path) -> None:
        _rewritten(folder / SECOND, change)
        size = (folder / SECOND).stat().st_size
        _edited(folder, lambda content: content["files"].update({SECOND: size}))  # type: ignore[attr-defined]

    return damage


def _flip(folder: Path) -> None:
    """A byte in the middle of the last image."""
    path = folder / SECOND
    content = bytearray(path.read_bytes())
    place = content.rindex(FOUR[3].read(2).image) + 300
    content[place] ^= 255
    path.write_bytes(content)


def _other_image(rows: list[dict[str, object]]) -> None:
    rows[4]["image"] = FOUR[0].read(0).image


def _other_mask(rows: list[dict[str, object]]) -> None:
    rows[1]["mask"] = FOUR[0].read(0).mask


DAMAGED: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a byte": (_flip, [f"{SECOND}, sequence train-00003: it has another hash"]),
    "another image": (_file_changed(_other_image), ["sequence train-00003: it has another hash"]),
    "another mask": (_file_changed(_other_mask), ["sequence train-00002, position 1: image and mask have other"]),
    "no mask": (
        _file_changed(lambda rows: rows[0].update(mask=None)),
        ["train-00002, position 0: image and"],
    ),
    "other ids": (_file_changed(lambda rows: rows[5].update(ids=[9])), ["position 2: the file has other ids than"]),
    "swapped": (
        _file_changed(list.reverse),
        ["train-00002, position 0: the", "train-00003, position 0: the"],
    ),
    "fewer": (_file_changed(list.pop), [f"{SECOND}, sequence train-00003, position 2: cannot be read"]),
    "cut": (
        lambda folder: os.truncate(folder / SECOND, 900),
        [
            f"{SECOND}: 900 bytes, the index says",
            "train-00002, position 0: cannot be",
            "train-00003, position 0: cannot",
        ],
    ),
    "gone": (
        lambda folder: (folder / "data-00000.parquet").unlink(),
        ["data-00000.parquet: missing", "train-00000, position 0: cannot be", "train-00001, position 0: cannot be"],
    ),
    "one more": (
        lambda folder: (folder / "data-00009.parquet").write_bytes((folder / SECOND).read_bytes()),
        ["data-00009.parquet: not of this dataset"],
    ),
    "area in the index": (
        lambda folder: _rewritten(folder / INDEX, lambda rows: rows[7].update(areas=[1, 2, 3])),
        ["train-00002, position 1: the file has other areas than the index"],
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_damaged_is_named(folder: Path, case: str) -> None:
    assert verify(folder) == []
    damage, expected = DAMAGED[case]
    damage(folder)
    found = verify(folder)
    assert len(found) == len(expected), found
    for fault, part in zip(found, expected, strict=True):
        assert part in fault
        assert "\n" not in fault


def test_a_dataset_of_an_older_version_has_one_hash(folder: Path) -> None:
    content = ContentHash()
    rows = read_index(folder).dataset.index.to_pylist()
    for number, row in enumerate(rows):
        content.add(row, FOUR[number // 3].read(number % 3))
    _edited(folder, lambda facts: (facts.pop("sequences"), facts.update(hash=content.hex())))
    (folder / INDEX).rename(folder / OLD_INDEX)
    assert verify(folder) == []
    _rewritten(folder / SECOND, _other_image)
    faults = verify(folder)
    assert len(faults) == 2
    assert f"{SECOND}: " in faults[0]
    assert faults[1].endswith("the dataset has another hash than the index says; encode it again")


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"_index.parquet: missing, so the folder is no encoded dataset"):
        verify(tmp_path)

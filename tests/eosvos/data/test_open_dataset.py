"""Opening what is no dataset, or a damaged one: the file is named, with what to do about it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eosvos.data.parquet import encode, open_dataset
from eosvos.data.parquet.layout import INDEX, METADATA_KEY, OLD_INDEX
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.errors import BadInput

SPEC = {"layout": "made"}
TINY = SyntheticSettings(size=32, frames=3)


def _edit_index(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        table = pq.read_table(folder / INDEX)
        content = json.loads(table.schema.metadata[METADATA_KEY])
        change(content)
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(content)}), folder / INDEX)

    return damage


DATA = "data-00000.parquet"
BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda f: f.rename(f.parent / "elsewhere"), "out: no such folder"),
    "no index": (lambda f: (f / INDEX).unlink(), f"out/{INDEX}: missing, so the folder is no encoded dataset"),
    "garbage": (lambda f: (f / INDEX).write_bytes(b"PAR1 no PAR1"), f"out/{INDEX}: not a readable index"),
    "cut index": (lambda f: os.truncate(f / INDEX, 700), f"out/{INDEX}: not a readable index"),
    "other table": (lambda f: pq.write_table(pa.table({"a": [1]}), f / INDEX), f"out/{INDEX}: not the index of"),
    "version": (_edit_index(lambda c: c.update(version=2)), f"out/{INDEX}: format version 2, this program reads 1"),
    "no data": (lambda f: (f / DATA).unlink(), f"out/{DATA}: missing, though the index names it"),
    "cut data": (lambda f: os.truncate(f / DATA, 1000), f"out/{DATA}: 1000 bytes, the index says"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_what_is_no_dataset_is_named(tmp_path: Path, case: str) -> None:
    damage, message = BAD_FOLDERS[case]
    encode(synthetic("train", 1, TINY), tmp_path / "out", SPEC)
    damage(tmp_path / "out")
    with pytest.raises(BadInput) as raised:
        open_dataset(tmp_path / "out")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_address_that_nothing_opens() -> None:
    with pytest.raises(BadInput, match=r"^gopher://data: not an address"):
        open_dataset("gopher://data")


def test_damage_found_while_reading(tmp_path: Path) -> None:
    encode(synthetic("train", 1, TINY), tmp_path / "out", SPEC)
    path = tmp_path / "out" / DATA
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BadInput, match=rf"{DATA}, sequence train-00000, position 1: cannot be read"):
        open_dataset(tmp_path / "out").sequences[0].read(1)


def test_an_index_of_the_old_name(tmp_path: Path) -> None:
    encode(synthetic("train", 2, TINY), tmp_path / "out", SPEC)
    new = open_dataset(tmp_path / "out")
    (tmp_path / "out" / INDEX).rename(tmp_path / "out" / OLD_INDEX)
    old = open_dataset(tmp_path / "out")
    assert (old.hash, old.spec, old.index) == (new.hash, new.spec, new.index)
    assert old.sequences[1].read(2) == new.sequences[1].read(2)
    assert not encode(synthetic("train", 2, TINY), tmp_path / "out", SPEC)
    (tmp_path / "out" / OLD_INDEX).write_bytes(b"")
    with pytest.raises(BadInput, match=rf"out/{OLD_INDEX}: not a readable index"):
        open_dataset(tmp_path / "out")

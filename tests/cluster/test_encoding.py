"""Encoding and verifying by Ray tasks, on disk and on S3."""

from dataclasses import replace
from pathlib import Path

import pytest
import ray

from cluster.encoding import encode, verify
from eosvos.data import parquet
from eosvos.data.parquet import open_dataset
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.sequence import EncodedFrame, Sequence
from eosvos.errors import BadInput

SPEC = {"layout": "made"}
MANY = synthetic("train", 30, SyntheticSettings(size=32, frames=5))
"""Three parts."""


def test_the_same_files_as_in_one_process(tmp_path: Path, ray_here: None) -> None:
    assert encode(reversed(MANY), str(tmp_path / "out"), SPEC)
    assert not encode(MANY, str(tmp_path / "out"), SPEC)
    parquet.encode(MANY, tmp_path / "one", SPEC)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert names[-1] == "data-00002.parquet"
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_on_s3(tmp_path: Path, s3: str, ray_here: None) -> None:
    out = f"{s3}/cluster"
    assert encode(MANY, out, SPEC)
    parquet.encode(MANY, tmp_path / "one", SPEC)
    assert open_dataset(out).hash == open_dataset(tmp_path / "one").hash
    assert verify(out) == []


def test_the_first_bad_one_ends_it_and_what_is_whole_is_kept(tmp_path: Path, ray_here: None) -> None:
    def read(position: int) -> EncodedFrame:
        return replace(MANY[-1].read(position), image=b"no image")

    sequences: list[Sequence] = [*MANY[:-1], replace(MANY[-1], read=read)]
    with pytest.raises(BadInput, match=r"train-00029 .*, frame 00000: not a readable image .*; replace the file$"):
        encode(sequences, str(tmp_path / "out"), SPEC)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out.partial").glob("_part-*")}
    assert 1 <= len(kept) <= 2
    assert encode(sequences, str(tmp_path / "out"), SPEC, skip_bad=True)
    assert len(open_dataset(tmp_path / "out").sequences) == 29
    assert verify(str(tmp_path / "out")) == []


@pytest.mark.slow
def test_ray_reads_the_folder_as_one_table_of_frames(tmp_path: Path, ray_here: None) -> None:
    parquet.encode(MANY, tmp_path / "out", SPEC)
    table = ray.data.read_parquet(str(tmp_path / "out")).select_columns(["sequence", "position"])
    rows = sorted((row["sequence"], row["position"]) for row in table.take_all())
    assert rows == [(one.name, position) for one in MANY for position in range(5)]

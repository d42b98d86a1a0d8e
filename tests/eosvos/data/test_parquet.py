"""Encoded datasets: what goes in comes out, and nothing half-written looks whole."""

import hashlib
import io
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import fs

from eosvos.data.parquet import encode, open_dataset, parts, reading
from eosvos.data.readers.davis import read_davis2016
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.sequence import VOID, EncodedFrame, Sequence
from eosvos.errors import BadInput

Make = Callable[..., Sequence]
SPEC = {"layout": "made", "size": 7}
TINY = SyntheticSettings(size=32, frames=3)


def _assert_same(sequence: Sequence, again: Sequence) -> None:
    assert (again.dataset, again.name, again.frame_names) == (sequence.dataset, sequence.name, sequence.frame_names)
    assert again.merge_objects == sequence.merge_objects
    for position in range(len(sequence)):
        before, after = sequence.read(position), again.read(position)
        assert (after.image, after.mask) == (before.image, before.mask)


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 37),
    width=st.integers(1, 37),
    count=st.integers(1, 4),
    merge=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(height: int, width: int, count: int, merge: bool, seed: int, make_sequence: Make) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.choice(256, 4).astype(np.uint8)
    masks = [rng.choice(ids, (height, width)) if rng.random() < 0.8 else None for _ in range(count)]
    sequence = make_sequence("odd", masks, merge=merge)
    with tempfile.TemporaryDirectory() as folder:
        assert encode([sequence], Path(folder) / "out", SPEC)
        dataset = open_dataset(Path(folder) / "out")
        _assert_same(sequence, dataset.sequences[0])
        for row, mask in zip(dataset.index.to_pylist(), masks, strict=True):
            if mask is None:
                assert (row["ids"], row["areas"], row["boxes"]) == (None, None, None)
                continue
            values = (mask > 0).astype(np.uint8) if merge else mask
            present = [int(number) for number in np.unique(values) if number not in (0, VOID)]
            assert row["ids"] == present
            assert row["areas"] == [int((values == number).sum()) for number in present]
            for number, box in zip(present, row["boxes"], strict=True):
                y, x = np.nonzero(values == number)
                assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert (row["height"], row["width"]) == (height, width)


def test_sequences_come_sorted_and_files_are_split(tmp_path: Path) -> None:
    sequences = synthetic("train", 5, TINY)
    one_frame = max(len(s.read(p).image) + len(s.read(p).mask or b"") for s in sequences for p in range(3))
    assert encode(reversed(sequences), tmp_path / "split", SPEC, file_bytes=4 * one_frame)
    dataset = open_dataset(tmp_path / "split")
    files = sorted(path.name for path in (tmp_path / "split").glob("data-*.parquet"))
    assert 3 <= len(files) <= 5
    assert sorted(set(dataset.index["file"].to_pylist())) == files
    for before, after in zip(sequences, dataset.sequences, strict=True):
        _assert_same(before, after)
    encode(sequences, tmp_path / "whole", SPEC)
    assert open_dataset(tmp_path / "whole").hash == dataset.hash


def test_a_file_holds_no_more_frames_than_its_footer_bears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 4)
    encode(synthetic("train", 3, TINY), tmp_path / "out", SPEC)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.index["row_group"].to_pylist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert pq.ParquetFile(tmp_path / "out" / "data-00000.parquet").metadata.num_row_groups == 4
    _assert_same(synthetic("train", 3, TINY)[1], dataset.sequences[1])  # in two files


def test_a_sequence_is_read_without_the_others(tmp_path: Path) -> None:
    """Bytes are counted by the file system that all reading goes through."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    image = io.BytesIO()
    Image.fromarray(noise).save(image, format="PNG")
    frame = EncodedFrame(image.getvalue(), None, "noise", "")
    names = tuple(f"{position:05d}" for position in range(5))
    sequences = [Sequence("noise", f"{number:05d}", names, False, lambda _: frame) for number in range(12)]
    encode(sequences, tmp_path / "out", SPEC)
    (file,) = (tmp_path / "out").glob("data-*")
    counting = _Counting()
    with pytest.MonkeyPatch.context() as patch:
        filesystem = fs.PyFileSystem(counting)
        patch.setattr(reading, "filesystem_of", lambda address: (filesystem, address))
        sequence = open_dataset(tmp_path / "out").sequences[7]
        counting.read.clear()
        for position in range(5):
            sequence.read(position)
    for opened in counting.opened:
        opened.close()
    metadata = pq.ParquetFile(file).metadata
    assert metadata.num_row_groups == 60
    groups = sum(
        metadata.row_group(35 + position).column(column).total_compressed_size
        for position in range(5)
        for column in range(metadata.num_columns)
    )
    footer = max(metadata.serialized_size + 8, 64 * 2**10)  # pyarrow reads so much of the end at least
    assert file.stat().st_size > 60 * len(frame.image)
    assert 5 * len(frame.image) < sum(counting.read) <= groups + footer


class _Counting(fs.FSSpecHandler):
    """Local files, with the bytes of each read."""

    def __init__(self) -> None:
        super().__init__(LocalFileSystem())
        self.read: list[int] = []
        self.opened: list[_CountingFile] = []

    def open_input_file(self, path: str) -> pa.PythonFile:
        self.opened.append(_CountingFile(path, self.read))
        return pa.PythonFile(self.opened[-1], mode="r")


class _CountingFile(io.FileIO):
    def __init__(self, path: str, read: list[int]) -> None:
        super().__init__(path)
        self._read = read

    def read(self, size: int = -1) -> bytes:
        content = super().read(size)
        self._read.append(len(content))
        return content


def test_hash_is_of_the_content(tmp_path: Path, make_sequence: Make) -> None:
    mask = np.eye(6, dtype=np.uint8)
    variants = [
        make_sequence("a", [mask, mask]),
        make_sequence("b", [mask, mask]),
        make_sequence("a", [mask, None]),
        make_sequence("a", [mask, mask], merge=True),
    ]
    for number, variant in enumerate([*variants, variants[0]]):
        encode([variant], tmp_path / str(number), SPEC | {"number": number})
    hashes = [open_dataset(tmp_path / str(number)).hash for number in range(5)]
    assert hashes[4] == hashes[0]
    assert len(set(hashes)) == 4


def test_visible_frames_and_areas(tmp_path: Path, make_sequence: Make) -> None:
    def mask(*ids: int) -> np.ndarray:
        values = np.zeros((5, 5), np.uint8)
        for number in ids:
            values[number % 5, :number] = number
        return values

    masks = {"a": [mask(2, 3), None, mask(3), mask()], "b": [mask(), None], "c": [mask(1), mask(1, 4), mask(4)]}
    encode([make_sequence(name, values) for name, values in masks.items()], tmp_path / "out", SPEC)
    dataset = open_dataset(tmp_path / "out")
    assert [dataset.visible(i) for i in range(3)] == [{2: (0,), 3: (0, 2)}, {}, {1: (0, 1), 4: (1, 2)}]
    assert [dataset.areas(i) for i in range(3)] == [{2: (2,), 3: (3, 3)}, {}, {1: (1, 1), 4: (4, 4)}]
    encode([make_sequence("b", masks["b"])], tmp_path / "nothing visible", SPEC)
    assert open_dataset(tmp_path / "nothing visible").visible(0) == {}


def test_travels_without_the_data(tmp_path: Path) -> None:
    sequences = synthetic("train", 4, TINY)
    encode(sequences, tmp_path / "out", SPEC)
    dataset = open_dataset((tmp_path / "out").as_uri())
    dataset.sequences[0].read(0)  # an open file must not hinder it
    assert len(pickle.dumps(dataset)) < 500
    for before, after in zip(sequences, pickle.loads(pickle.dumps(dataset.sequences)), strict=True):
        assert len(pickle.dumps(after)) < 1000
        _assert_same(before, after)
    code = (
        "import pickle, sys, hashlib; d, s = pickle.load(sys.stdin.buffer); "
        "print(hashlib.sha256(s.read(1).image + d.sequences[2].read(0).image).hexdigest())"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((dataset, dataset.sequences[3])),
        capture_output=True,
        cwd="/",
        check=True,
    )
    here = hashlib.sha256(sequences[3].read(1).image + sequences[2].read(0).image).hexdigest()
    assert elsewhere.stdout.decode().strip() == here


def test_a_replaced_dataset_is_noticed(tmp_path: Path) -> None:
    encode(synthetic("train", 1, TINY), tmp_path / "out", SPEC)
    frozen = pickle.dumps(open_dataset(tmp_path / "out"))
    (tmp_path / "out").rename(tmp_path / "old")
    encode(synthetic("held", 1, TINY), tmp_path / "out", SPEC)
    with pytest.raises(BadInput, match="replaced while it was in use"):
        pickle.loads(frozen)


def test_the_same_again_is_no_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is as good as none
    assert encode(synthetic("train", 1, TINY), out, SPEC)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert not encode(iter(()), out, SPEC)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(BadInput, match=r"differs in size \(7 there, 8 now\), split \(nothing there, x now\); choose"):
        encode(iter(()), out, SPEC | {"size": 8, "split": "x"})


def _with(frame: Callable[[EncodedFrame], EncodedFrame]) -> Callable[[], list[Sequence]]:
    def sequences() -> list[Sequence]:
        whole, broken = synthetic("train", 2, TINY)
        return [whole, replace(broken, read=lambda position: frame(broken.read(position)))]

    return sequences


_other = synthetic("held", 1, SyntheticSettings(size=40, frames=1))[0]
BAD_FRAMES: dict[str, tuple[Callable[[], list[Sequence]], str]] = {
    "truncated image": (_with(lambda f: replace(f, image=f.image[:-99])), "frame 00000: not a readable image"),
    "no image": (_with(lambda f: replace(f, image=b"")), "frame 00000: not a readable image"),
    "truncated mask": (_with(lambda f: replace(f, mask=(f.mask or b"")[:80])), "mask: not a readable mask"),
    "colours": (_with(lambda f: replace(f, mask=f.image)), "mask: a mask of mode RGB has no object ids"),
    "sizes": (_with(lambda f: replace(f, mask=_other.read(0).mask)), "mask: the mask has 40x40 pixels, its frame"),
    "nothing": (list, "out: there are no sequences"),
    "twice": (lambda: synthetic("train", 1, TINY) * 2, "synthetic/train-00000: occurs twice"),
    "no frames": (lambda: [replace(_other, frame_names=())], "synthetic/held-00000: has no frames"),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_bad_input_leaves_nothing_behind(tmp_path: Path, case: str) -> None:
    sequences, message = BAD_FRAMES[case]
    with pytest.raises(BadInput) as raised:
        encode(sequences(), tmp_path / "below" / "out", SPEC)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["below"])


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"is no encoded dataset; choose another folder"):
        encode(synthetic("train", 1, TINY), tmp_path / "notes", SPEC)
    for out in (tmp_path / "notes" / "todo.txt", tmp_path / "notes" / "todo.txt" / "out"):
        with pytest.raises(BadInput, match=r"todo\.txt(/out)?: a file is there or above it"):
            encode(synthetic("train", 1, TINY), out, SPEC)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["notes", "todo.txt"]


def test_from_folders(tmp_path: Path, davis_root: Path) -> None:
    sequences = read_davis2016(davis_root, "train")
    encode(sequences, tmp_path / "out", {"layout": "davis2016"})
    dataset = open_dataset(tmp_path / "out")
    assert dataset.spec == {"layout": "davis2016"}
    for before, after in zip(sequences, dataset.sequences, strict=True):
        _assert_same(before, after)
    assert dataset.visible(1) == {1: (0, 1)}  # the last mask of surf is empty

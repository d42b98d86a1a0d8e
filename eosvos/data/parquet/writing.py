"""Sequences -> an encoded dataset; the folder appears whole or not at all."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import ndimage

from eosvos.data.parquet.layout import DATA_SCHEMA, FORMAT, INDEX, INDEX_SCHEMA, MAX_ROWS, METADATA_KEY, VERSION
from eosvos.data.parquet.reading import open_dataset
from eosvos.data.sequence import VOID, EncodedFrame, Sequence, decode
from eosvos.errors import BadInput
from eosvos.files import locked

Progress = Callable[[int, int], None]


def encode(
    sequences: Iterable[Sequence],
    out: Path,
    spec: Mapping[str, Any],
    progress: Progress | None = None,
    file_bytes: int = 256 * 2**20,
) -> bool:
    """Write an encoded dataset; image and mask bytes go in as they came.

    Every frame is decoded in full first, so that a broken file is found here and not in training.

    Args:
        sequences: with names that are unique within their dataset; they are sorted by dataset and name.
        out: folder to make; its parents are made too.
        spec: JSON-ready values that say what the dataset is made from. The same again on the same folder is no work.
        progress: called with (frames done, frames in all).
        file_bytes: about how many bytes of images and masks go into one file.

    Returns:
        True where it was written, False where ``out`` already holds a dataset of the same ``spec``.

    Raises:
        BadInput: an image or a mask that cannot be decoded or differ in size, no frames, a name that occurs twice,
            or a folder ``out`` that holds something else. Then ``out`` is as it was.
    """
    if ":/" in str(out):
        raise BadInput(f"{out}: datasets are written to local folders; encode to one and copy it to where it belongs")
    out = Path(out).resolve()
    spec = json.loads(json.dumps(spec))
    if _occupied(out):
        _check_same(out, spec)
        return False
    ordered = sorted(sequences, key=lambda sequence: (sequence.dataset, sequence.name))
    _check_sequences(ordered, out)
    with _partial_folder(out) as partial:
        _write(ordered, partial, spec, progress, file_bytes)
        try:
            partial.rename(out)
        except OSError:
            if not _occupied(out):
                raise
            _check_same(out, spec)  # another process was faster
            return False
    return True


def _occupied(out: Path) -> bool:
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))


def _check_same(out: Path, spec: Mapping[str, Any]) -> None:
    if not (out / INDEX).is_file():
        raise BadInput(f"{out}: exists and is no encoded dataset; choose another folder or remove it")
    there = open_dataset(out).spec
    missing = "nothing"
    differences = [
        f"{field} ({there.get(field, missing)} there, {spec.get(field, missing)} now)"
        for field in sorted({*there, *spec})
        if there.get(field, missing) != spec.get(field, missing)
    ]
    if differences:
        raise BadInput(
            f"{out}: holds a dataset that differs in {', '.join(differences)}; choose another folder or remove it"
        )


def _check_sequences(ordered: list[Sequence], out: Path) -> None:
    if not ordered:
        raise BadInput(f"{out}: there are no sequences to encode; give at least one")
    for sequence, following in zip(ordered, [*ordered[1:], None], strict=True):
        if len(sequence) == 0:
            raise BadInput(f"{sequence.dataset}/{sequence.name}: has no frames; leave the sequence out")
        if following and (sequence.dataset, sequence.name) == (following.dataset, following.name):
            raise BadInput(f"{sequence.dataset}/{sequence.name}: occurs twice; give each sequence a name of its own")


@contextmanager
def _partial_folder(out: Path) -> Iterator[Path]:
    """A locked folder beside ``out`` that is gone afterwards, unless it was renamed; dead runs' folders go first."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadInput(f"{out.parent}: not a folder, so nothing can be written below it; choose another") from error
    for left_over in out.parent.glob(f"{glob.escape(out.name)}.partial-*"):
        with locked(left_over) as is_ours:
            if is_ours:
                shutil.rmtree(left_over, ignore_errors=True)
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        with locked(partial):
            yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(
    ordered: list[Sequence], folder: Path, spec: Mapping[str, Any], progress: Progress | None, file_bytes: int
) -> None:
    total = sum(len(sequence) for sequence in ordered)
    rows: list[dict[str, Any]] = []
    digest = hashlib.sha256()
    with _DataFiles(folder, file_bytes) as files:
        for sequence in ordered:
            for position, name in enumerate(sequence.frame_names):
                encoded = sequence.read(position)
                row: dict[str, Any] = {
                    "dataset": sequence.dataset,
                    "sequence": sequence.name,
                    "position": position,
                    "name": name,
                }
                row |= _describe(encoded, sequence.merge_objects)
                file, row_group = files.write(row | {"image": encoded.image, "mask": encoded.mask})
                row |= {"file": file, "row_group": row_group, "merge_objects": sequence.merge_objects}
                row |= {"categories": _categories(row["ids"], sequence.categories)}
                rows.append(row)
                _digest(digest, row, encoded)
                if progress:
                    progress(len(rows), total)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    content = {"format": FORMAT, "version": VERSION, "spec": spec, "hash": digest.hexdigest(), "files": sizes}
    index = pa.Table.from_pylist(rows, INDEX_SCHEMA.with_metadata({METADATA_KEY: json.dumps(content)}))
    pq.write_table(index, folder / INDEX)


def _describe(encoded: EncodedFrame, merge_objects: bool) -> dict[str, Any]:
    """The columns from ``ids`` on. Raises BadInput for what cannot be decoded."""
    image, mask = decode(encoded, merge_objects)
    row: dict[str, Any] = {"ids": None, "areas": None, "boxes": None}
    row |= {"height": image.shape[1], "width": image.shape[2]}
    if mask is not None:
        values = mask.numpy()
        areas = np.bincount(values.ravel(), minlength=1)
        ids = [number for number in np.flatnonzero(areas).tolist() if number not in (0, VOID)]
        slices = ndimage.find_objects(values)
        spans = [slices[number - 1] for number in ids]
        row["ids"], row["areas"] = ids, [int(areas[number]) for number in ids]
        row["boxes"] = [[x.start, y.start, x.stop, y.stop] for y, x in spans]
    return row


def _categories(ids: list[int] | None, known: Mapping[int, str]) -> list[str | None] | None:
    return None if ids is None else [known.get(number) for number in ids]


def _digest(digest: Any, row: Mapping[str, Any], encoded: EncodedFrame) -> None:
    """Over names and bytes, with the lengths, so that no two contents read the same."""
    labels = [row[key] for key in ("dataset", "sequence", "position", "name", "merge_objects")]
    labels += [row["categories"]] if any(row["categories"] or ()) else []
    lengths = [len(encoded.image), None if encoded.mask is None else len(encoded.mask)]
    digest.update(json.dumps([*labels, *lengths]).encode())
    digest.update(encoded.image)
    digest.update(encoded.mask or b"")


class _DataFiles:
    """Writes rows to ``data-00000.parquet`` and on, a row group each."""

    def __init__(self, folder: Path, file_bytes: int) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._count = self._rows = self._bytes = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_DataFiles":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    def write(self, row: Mapping[str, Any]) -> tuple[str, int]:
        """Name of the file and number of the row group that the row went to."""
        size = len(row["image"]) + len(row["mask"] or b"")
        full = self._rows == MAX_ROWS or (self._rows > 0 and self._bytes + size > self._file_bytes)
        if self._writer is None or full:
            if self._writer:
                self._writer.close()
                self._count += 1
            self._rows = self._bytes = 0
            # JPEG and PNG do not compress further; statistics and dictionaries would swell the footer.
            self._writer = pq.ParquetWriter(
                self._path(), DATA_SCHEMA, compression="none", use_dictionary=False, write_statistics=False
            )
        self._writer.write_table(pa.Table.from_pylist([row], DATA_SCHEMA))
        self._rows += 1
        self._bytes += size
        return self._path().name, self._rows - 1

    def _path(self) -> Path:
        return self._folder / f"data-{self._count:05d}.parquet"

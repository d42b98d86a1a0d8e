"""Opening an encoded dataset and reading single frames of it."""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from eosvos.data.parquet.layout import FORMAT, INDEX, METADATA_KEY, VERSION
from eosvos.data.sequence import EncodedFrame, Sequence
from eosvos.errors import BadInput


@dataclass(frozen=True)
class _Rows:
    """Position -> encoded frame of one sequence; small, so that it travels to tasks without the data."""

    uri: str
    hash: str
    label: str
    files: tuple[str, ...]
    row_groups: tuple[int, ...]

    def __call__(self, position: int) -> EncodedFrame:
        """Raises BadInput naming a data file that cannot be read."""
        file, group = self.files[position], self.row_groups[position]
        source = f"{self.uri}/{file}, {self.label}, position {position}"
        try:
            opened = _open_file(self.uri, file, self.hash, threading.get_ident())
            row = opened.read_row_group(group, columns=["image", "mask"], use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise BadInput(f"{source}: cannot be read ({_one_line(error)}); encode the dataset again") from error
        image, mask = row["image"][0].as_py(), row["mask"][0].as_py()
        return EncodedFrame(image, mask, f"{source}, image", f"{source}, mask")


@dataclass(frozen=True, eq=False)
class EncodedDataset:
    """An encoded dataset; nothing of the images is in memory.

    It pickles to its address and hash: whoever unpickles it reads the index again, once per process.

    Attributes:
        uri: absolute path or URI of its folder.
        index: one row per frame, sorted by dataset, sequence and position: dataset, sequence, position, name, file,
            row_group, merge_objects, ids, areas, boxes (x0, y0, x1, y1, ends exclusive), height, width. ids, areas
            and boxes are null where a frame has no mask.
        spec: what it was made from, as given to ``encode``.
        hash: SHA-256, in hex, over names, images and masks.
    """

    uri: str
    index: pa.Table
    spec: Mapping[str, Any]
    hash: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.uri, self.hash)

    @cached_property
    def _starts(self) -> list[int]:
        """First row of each sequence, and the number of rows."""
        return [*np.flatnonzero(self.index["position"].to_numpy() == 0).tolist(), self.index.num_rows]

    @cached_property
    def sequences(self) -> tuple[Sequence, ...]:
        """All sequences, each reading a frame when it is asked for; they pickle to a few bytes per frame."""
        columns = ("dataset", "sequence", "name", "file", "row_group", "merge_objects")
        datasets, labels, names, files, groups, merged = (self.index[column].to_pylist() for column in columns)
        categories = self._categories
        sequences = []
        for index, (first, last) in enumerate(zip(self._starts[:-1], self._starts[1:], strict=True)):
            label = f"sequence {labels[first]}"
            read = _Rows(self.uri, self.hash, label, tuple(files[first:last]), tuple(groups[first:last]))
            frames = tuple(names[first:last])
            sequences.append(Sequence(datasets[first], labels[first], frames, merged[first], read, categories[index]))
        return tuple(sequences)

    @cached_property
    def _categories(self) -> list[dict[int, str]]:
        """Per sequence: object id -> category; empty where none is known, as in an index of an older version."""
        found: list[dict[int, str]] = [{} for _ in self._starts[:-1]]
        if "categories" not in self.index.column_names:
            return found
        ids, categories = (self.index[column].combine_chunks() for column in ("ids", "categories"))
        flat = pc.list_flatten(categories)
        if flat.null_count < len(flat):
            owners = np.searchsorted(self._starts, pc.list_parent_indices(ids).to_numpy(), side="right") - 1
            for owner, number, category in zip(owners, pc.list_flatten(ids).to_pylist(), flat.to_pylist(), strict=True):
                if category is not None:
                    found[owner][number] = category
        return found

    @cached_property
    def _objects(self) -> list[dict[int, tuple[tuple[int, ...], tuple[int, ...]]]]:
        """Per sequence: object id -> positions where it is visible, and its areas there."""
        ids, areas = (self.index[column].combine_chunks() for column in ("ids", "areas"))
        rows = pc.list_parent_indices(ids).to_numpy()
        flat_ids, flat_areas = pc.list_flatten(ids).to_numpy(), pc.list_flatten(areas).to_numpy()
        rows, flat_ids, flat_areas = (values[flat_areas > 0] for values in (rows, flat_ids, flat_areas))
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.lexsort((rows, flat_ids, owners))
        rows, flat_ids, flat_areas, owners = (values[order] for values in (rows, flat_ids, flat_areas, owners))
        positions = self.index["position"].to_numpy()[rows]
        changes = np.flatnonzero((np.diff(owners) != 0) | (np.diff(flat_ids) != 0)) + 1
        objects: list[dict[int, tuple[tuple[int, ...], tuple[int, ...]]]] = [{} for _ in self._starts[:-1]]
        for group in np.split(np.arange(len(rows)), changes):
            if group.size:
                found = tuple(positions[group].tolist()), tuple(flat_areas[group].tolist())
                objects[owners[group[0]]][int(flat_ids[group[0]])] = found
        return objects

    @cached_property
    def annotated(self) -> list[tuple[int, ...]]:
        """Per sequence the positions of the frames that have a mask, rising."""
        rows = np.flatnonzero(self.index["ids"].combine_chunks().is_valid().to_numpy(zero_copy_only=False))
        cuts = np.searchsorted(rows, self._starts)
        return [
            tuple((rows[cut:end] - start).tolist())
            for cut, end, start in zip(cuts, cuts[1:], self._starts, strict=False)
        ]

    def visible(self, sequence_index: int) -> dict[int, tuple[int, ...]]:
        """Object id -> positions of the frames in which it is visible, both rising. The first call takes a while."""
        return {number: positions for number, (positions, _) in self._objects[sequence_index].items()}

    def areas(self, sequence_index: int) -> dict[int, tuple[int, ...]]:
        """Object id -> its area in pixels in each of the frames that ``visible`` names."""
        return {number: areas for number, (_, areas) in self._objects[sequence_index].items()}


def open_dataset(uri: str | Path) -> EncodedDataset:
    """Open what ``eosvos.data.parquet.encode`` wrote; reads the index only.

    Args:
        uri: a local folder, or a URI that pyarrow knows, such as ``file:///...`` or ``s3://...``.

    Raises:
        BadInput: no such folder, no dataset in it, another format version, or a data file that is missing or of
            another length than the index says.
    """
    address = str(uri) if "://" in str(uri) else str(Path(uri).resolve())
    filesystem, folder = _filesystem(address)
    path = f"{address}/{INDEX}"
    there, index_there = _infos(address, folder, f"{folder}/{INDEX}")
    if there.type != fs.FileType.Directory:
        raise BadInput(f"{address}: no such folder; encode a dataset with jobs/encode_dataset.py")
    if index_there.type != fs.FileType.File:
        raise BadInput(f"{path}: missing, so the folder is no encoded dataset; make one with jobs/encode_dataset.py")
    try:
        # The file itself and not `read_table`, which takes a folder named like a=b for a partition.
        with pq.ParquetFile(f"{folder}/{INDEX}", filesystem=filesystem) as file:
            index = file.read()
        content = json.loads((index.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a readable index ({_one_line(error)}); encode the dataset again") from error
    if content.get("format") != FORMAT:
        raise BadInput(f"{path}: not the index of an encoded dataset; make one with jobs/encode_dataset.py")
    if content["version"] != VERSION:
        raise BadInput(f"{path}: format version {content['version']}, this program reads {VERSION}; encode it again")
    found = _infos(address, *(f"{folder}/{name}" for name in content["files"]))
    for (name, size), info in zip(content["files"].items(), found, strict=True):
        if info.type != fs.FileType.File:
            raise BadInput(f"{address}/{name}: missing, though the index names it; copy it here or encode again")
        if info.size != size:
            raise BadInput(f"{address}/{name}: {info.size} bytes, the index says {size}; copy it again or encode again")
    return EncodedDataset(address, index, content["spec"], content["hash"])


def _infos(uri: str, *paths: str) -> list[fs.FileInfo]:
    """What is at these paths of the file system that ``uri`` is on. Raises BadInput where it does not answer."""
    try:
        infos: list[fs.FileInfo] = _filesystem(uri)[0].get_file_info(list(paths))
    except OSError as error:
        raise BadInput(f"{uri}: does not answer ({_one_line(error)}); check the address and the access") from error
    return infos


@lru_cache(maxsize=8)
def _reopen(uri: str, content_hash: str) -> EncodedDataset:
    dataset = open_dataset(uri)
    if dataset.hash != content_hash:
        raise BadInput(f"{uri}: the dataset was replaced while it was in use; start again")
    return dataset


@lru_cache(maxsize=8)
def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    if "://" not in uri:
        return fs.LocalFileSystem(), uri
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (OSError, pa.ArrowInvalid, NotImplementedError) as error:
        raise BadInput(f"{uri}: not an address that pyarrow can open ({_one_line(error)})") from error
    return filesystem, path.rstrip("/")


@lru_cache(maxsize=64)
def _open_file(uri: str, file: str, content_hash: str, thread: int) -> pq.ParquetFile:
    """Open files are kept per thread, as a reader serves one at a time; the hash tells a replaced dataset apart."""
    filesystem, folder = _filesystem(uri)
    return pq.ParquetFile(f"{folder}/{file}", filesystem=filesystem, pre_buffer=not uri.startswith(os.sep))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

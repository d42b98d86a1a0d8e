"""Opening an encoded dataset and reading single frames of it."""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eosvos.data.parquet.layout import CLAIM, FORMAT, INDEX, METADATA_KEY, OLD_INDEX, VERSION
from eosvos.data.parquet.storage import address_of, contents, filesystem_of, one_line, shown
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
        source = f"{shown(self.uri)}/{file}, {self.label}, position {position}"
        try:
            opened = _kept_file(self.uri, file, self.hash, threading.get_ident())
            row = opened.read_row_group(group, columns=["image", "mask"], use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise BadInput(f"{source}: cannot be read ({one_line(error)}); encode the dataset again") from error
        image, mask = row["image"][0].as_py(), row["mask"][0].as_py()
        return EncodedFrame(image, mask, f"{source}, image", f"{source}, mask")


@dataclass(frozen=True, eq=False)
class EncodedDataset:
    """An encoded dataset; nothing of the images is in memory.

    It pickles to its address and hash: whoever unpickles it reads the index again, once per process.

    Attributes:
        uri: absolute path or URI of its folder.
        index: one row per frame, sorted by dataset, sequence and position: dataset, sequence, position, name, file,
            row_group, merge_objects, ids, areas, boxes (x0, y0, x1, y1, ends exclusive), height, width, and but for
            older ones categories. ids, areas, boxes and categories are null where a frame has no mask.
        spec: what it was made from, as given to ``encode``.
        hash: SHA-256, in hex, of names, categories, images and masks.
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
            for (cut, end), start in zip(pairwise(cuts.tolist()), self._starts[:-1], strict=True)
        ]

    def rows(self, sequence_index: int) -> tuple[int, int]:
        """First row of a sequence in the index, and one beyond its last."""
        return self._starts[sequence_index], self._starts[sequence_index + 1]

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
            another length than the index says; a storage that does not answer or refuses.
    """
    found = read_index(uri)
    for fault in found.file_faults:
        raise BadInput(fault)
    return found.dataset


@dataclass(frozen=True)
class Index:
    """All that an index file says, and what is there beside it.

    Attributes:
        dataset: what the index is of; its data files may be missing.
        files: data file -> its bytes, as the index says.
        sequence_hashes: of the sequences in order; none in an index of an older version.
        there: names in the folder -> bytes, None for a folder.
    """

    dataset: EncodedDataset
    files: Mapping[str, int]
    sequence_hashes: tuple[str, ...]
    there: Mapping[str, int | None]

    @property
    def file_faults(self) -> list[str]:
        """A line for each data file that is missing or has another length."""
        faults = []
        for name, size in self.files.items():
            path, found = f"{shown(self.dataset.uri)}/{name}", self.there.get(name)
            if found is None:
                faults.append(f"{path}: missing, though the index names it; copy it here or encode again")
            elif found != size:
                faults.append(f"{path}: {found} bytes, the index says {size}; copy it again or encode again")
        return faults


def read_index(uri: str | Path) -> Index:
    """The index of an encoded dataset. Raises BadInput as ``open_dataset`` does, but for its data files."""
    address = address_of(uri)
    there = contents(address)
    if there is None:
        raise BadInput(f"{shown(address)}: no such folder; encode a dataset with jobs/encode_dataset.py")
    name = OLD_INDEX if OLD_INDEX in there and INDEX not in there else INDEX
    path = f"{shown(address)}/{name}"
    if CLAIM in there and INDEX not in there:
        raise BadInput(f"{shown(address)}: the encoding has not ended; the same command resumes it")
    if there.get(name) is None:
        raise BadInput(f"{path}: missing, so the folder is no encoded dataset; make one with jobs/encode_dataset.py")
    filesystem, folder = filesystem_of(address)
    try:
        # The file itself and not `read_table`, which takes a folder named like a=b for a partition.
        with pq.ParquetFile(f"{folder}/{name}", filesystem=filesystem) as file:
            index = file.read()
        content = json.loads((index.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a readable index ({one_line(error)}); encode the dataset again") from error
    if content.get("format") != FORMAT:
        raise BadInput(f"{path}: not the index of an encoded dataset; make one with jobs/encode_dataset.py")
    if content["version"] != VERSION:
        raise BadInput(f"{path}: format version {content['version']}, this program reads {VERSION}; encode it again")
    dataset = EncodedDataset(address, index, content["spec"], content["hash"])
    return Index(dataset, content["files"], tuple(content.get("sequences", ())), there)


@lru_cache(maxsize=8)
def _reopen(uri: str, content_hash: str) -> EncodedDataset:
    dataset = open_dataset(uri)
    if dataset.hash != content_hash:
        raise BadInput(f"{shown(uri)}: the dataset was replaced while it was in use; start again")
    return dataset


def open_data_file(uri: str, file: str) -> pq.ParquetFile:
    """A data file of the dataset at an address. Raises OSError and ArrowInvalid where it cannot be read."""
    filesystem, folder = filesystem_of(uri)
    return pq.ParquetFile(f"{folder}/{file}", filesystem=filesystem, pre_buffer=not uri.startswith(os.sep))


@lru_cache(maxsize=32)  # of a thousand frames each takes 9 MB, and 9 ms to be opened again
def _kept_file(uri: str, file: str, content_hash: str, thread: int) -> pq.ParquetFile:
    """Open files are kept per thread, as a reader serves one at a time; the hash tells a replaced dataset apart."""
    return open_data_file(uri, file)

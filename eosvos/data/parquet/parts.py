"""A dataset is encoded in parts: consecutive sequences, each part on its own, whichever process takes it."""

import json
import math
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eosvos.data.parquet import storage
from eosvos.data.parquet.layout import DATA_SCHEMA, INDEX_SCHEMA, MAX_ROWS, METADATA_KEY
from eosvos.data.parquet.rows import ContentHash, describe
from eosvos.data.readers.masks import is_black_and_white
from eosvos.data.sequence import EncodedFrame, Sequence, size_text
from eosvos.errors import BadInput

MOST_FRAMES, LEAST_FRAMES, PARTS = 1024, 64, 16
"""Frames of a part: about a file's worth, of a small dataset a share that keeps some cores busy."""
_PART, _DATA = "_part-", "data-"


@dataclass(frozen=True)
class Part:
    """Consecutive sequences of a dataset; it travels to the process that encodes it, without the data."""

    number: int
    sequences: tuple[Sequence, ...]

    @property
    def frames(self) -> int:
        """How many there are."""
        return sum(map(len, self.sequences))

    @property
    def file(self) -> str:
        """The part's index: where it is, the part is whole."""
        return f"{_PART}{self.number:05d}.parquet"


@dataclass(frozen=True)
class EncodedPart:
    """What the index has to know of a part.

    Attributes:
        index: of the part, as the dataset's.
        files: its data files, with their bytes.
        hashes: of its sequences that are encoded, in order.
        skipped: ``DATASET/NAME`` of a sequence that was left out -> what is wrong with it.
    """

    index: pa.Table
    files: Mapping[str, int]
    hashes: tuple[str, ...]
    skipped: Mapping[str, str]


def cut(ordered: SequenceOf[Sequence]) -> tuple[Part, ...]:
    """Sorted sequences as parts; how depends on their numbers of frames alone."""
    total = sum(map(len, ordered))
    most = min(max(math.ceil(total / PARTS), LEAST_FRAMES), MOST_FRAMES)
    groups: list[list[Sequence]] = []
    room = 0
    for sequence in ordered:
        if len(sequence) > room:
            groups.append([])
            room = most
        groups[-1].append(sequence)
        room -= len(sequence)
    return tuple(Part(number, tuple(group)) for number, group in enumerate(groups))


def encode_part(part: Part, address: str, file_bytes: int, skip_bad: bool) -> None:
    """Writes the data files of a part, and its index when they are whole.

    Args:
        part: which.
        address: of a folder that is there.
        file_bytes: about how many bytes of images and masks go into one file.
        skip_bad: leave out sequences that cannot be read or decoded.

    Raises:
        BadInput: a sequence that cannot be encoded, or a file that cannot be written.
    """
    skipped: dict[str, str] = {}
    try:
        encoded = _write(part, part.sequences, address, file_bytes)
    except BadInput:
        # A row group that is written stays in its file, so the part begins anew without all that is bad in it.
        skipped = {full_name(one): fault for one in part.sequences if (fault := _fault(one))} if skip_bad else {}
        if not skipped:
            raise
        good = [one for one in part.sequences if full_name(one) not in skipped]
        encoded = _write(part, good, address, file_bytes)
    content = {"files": encoded.files, "hashes": encoded.hashes, "skipped": skipped}
    table = encoded.index.replace_schema_metadata({METADATA_KEY: json.dumps(content)})
    storage.write(address, part.file, parquet_bytes(table))


def read_part(part: Part, address: str) -> EncodedPart:
    """What ``encode_part`` has written. Raises BadInput where it cannot be read."""
    content = storage.read(address, part.file)
    try:
        index = pq.read_table(pa.BufferReader(content))
        facts = json.loads(index.schema.metadata[METADATA_KEY])
    except (OSError, ValueError) as error:
        raise BadInput(f"{address}/{part.file}: not readable ({storage.one_line(error)}); remove the file") from error
    return EncodedPart(index, facts["files"], tuple(facts["hashes"]), facts["skipped"])


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the content of a file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def is_data_file(name: str) -> bool:
    """Whether a file is one that ``encode_part`` writes images and masks to."""
    return name.startswith(_DATA)


def is_part(name: str) -> bool:
    """Whether a file is the index of a part."""
    return name.startswith(_PART)


def full_name(sequence: Sequence) -> str:
    """``DATASET/NAME``."""
    return f"{sequence.dataset}/{sequence.name}"


def _fault(sequence: Sequence) -> str | None:
    """What is wrong with a sequence; None where all of it can be read and decoded."""
    try:
        for _ in _frames(sequence):
            pass
    except BadInput as error:
        return str(error)
    return None


def _frames(sequence: Sequence) -> Iterator[tuple[EncodedFrame, dict[str, Any]]]:
    """Each frame, decoded in full, with its row.

    Raises:
        BadInput: as ``describe``; frames of several sizes; a black and white mask, of which all would be void.
    """
    first: tuple[int, int] | None = None
    for position in range(len(sequence)):
        encoded = sequence.read(position)
        row = describe(sequence, position, encoded)
        size = row["height"], row["width"]
        first = first or size
        if size != first:
            raise BadInput(
                f"{encoded.image_source}: has {size_text(size)} pixels, the first frame has {size_text(first)}; "
                "export all frames of a video at one size"
            )
        if encoded.mask is not None and not sequence.merge_objects and is_black_and_white(encoded.mask):
            raise BadInput(
                f"{encoded.mask_source}: a mask in black and white, but values are object ids and 255 is void; save "
                "white as 1, or, where void is meant, with a palette of colours"
            )
        yield encoded, row


def _write(part: Part, sequences: SequenceOf[Sequence], address: str, file_bytes: int) -> EncodedPart:
    rows: list[dict[str, Any]] = []
    hashes = []
    with _data_files(part, address, file_bytes) as files:
        for sequence in sequences:
            content = ContentHash()
            for encoded, row in _frames(sequence):
                file, row_group = files.write(row | {"image": encoded.image, "mask": encoded.mask})
                rows.append(row | {"file": file, "row_group": row_group})
                content.add(row, encoded)
            hashes.append(content.hex())
    return EncodedPart(pa.Table.from_pylist(rows, INDEX_SCHEMA), files.sizes, tuple(hashes), {})


class _DataFiles:
    """Writes rows to the data files of a part, a row group each.

    Attributes:
        sizes: bytes of each file that is whole.
    """

    def __init__(self, part: Part, address: str, file_bytes: int, stack: ExitStack) -> None:
        self._part, self._address, self._file_bytes = part, address, file_bytes
        self._stack = stack
        self._rows = self._bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self.sizes: dict[str, int] = {}

    def write(self, row: Mapping[str, Any]) -> tuple[str, int]:
        """Name of the file and number of the row group that the row went to."""
        size = len(row["image"]) + len(row["mask"] or b"")
        if self._rows == MAX_ROWS or (self._rows > 0 and self._bytes + size > self._file_bytes):
            self.end_file()
        if self._writer is None:
            self._stream = self._stack.enter_context(storage.writing(self._address, self._name))
            # JPEG and PNG do not compress further; statistics and dictionaries would swell the footer.
            self._writer = pq.ParquetWriter(
                self._stream, DATA_SCHEMA, compression="none", use_dictionary=False, write_statistics=False
            )
        self._writer.write_table(pa.Table.from_pylist([row], DATA_SCHEMA))
        self._rows += 1
        self._bytes += size
        return self._name, self._rows - 1

    def end_file(self) -> None:
        """Makes the file that is open, if one is, whole."""
        if self._writer is None:
            return
        self._writer.close()
        self.sizes[self._name] = self._stream.tell()
        self._stack.close()
        self._writer = None
        self._rows = self._bytes = 0

    def abandon(self) -> None:
        """Leaves the file that is open, if one is, without its footer, so that it does not look whole."""
        if self._writer is not None:
            self._writer.is_open = False

    @property
    def _name(self) -> str:
        """Names sort as the rows do: ``data-00007.parquet`` comes before ``data-00007_01.parquet``."""
        more = len(self.sizes)
        return f"{_DATA}{self._part.number:05d}{f'_{more:02d}' if more else ''}.parquet"


@contextmanager
def _data_files(part: Part, address: str, file_bytes: int) -> Iterator[_DataFiles]:
    with ExitStack() as stack:
        files = _DataFiles(part, address, file_bytes, stack)
        try:
            yield files
        except BaseException:
            files.abandon()
            raise
        files.end_file()

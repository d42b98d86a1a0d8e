"""Reading an encoded dataset back, all of it: are its data files what its index says, and can they be decoded?"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from eosvos.data.parquet.layout import DATA_SCHEMA, OLD_INDEX
from eosvos.data.parquet.parts import cut
from eosvos.data.parquet.reading import Index, open_data_file, read_index
from eosvos.data.parquet.rows import ContentHash, describe
from eosvos.data.parquet.storage import one_line, shown
from eosvos.data.sequence import EncodedFrame
from eosvos.errors import BadInput

Check = Callable[[], list[str]]
"""Part of a verification, for any process: a line for each thing that is wrong."""
Files = Callable[[str], pq.ParquetFile]
_LABELS = [name for name in DATA_SCHEMA.names if name not in ("image", "mask")]


def verify(uri: str | Path) -> list[str]:
    """Reads an encoded dataset back in this process.

    Args:
        uri: as of ``open_dataset``.

    Returns:
        a line for each file or sequence that is damaged.

    Raises:
        BadInput: there is no dataset, or its index cannot be read.
    """
    return [fault for check in checks(uri) for fault in check()]


def checks(uri: str | Path) -> list[Check]:
    """A verification as parts, in order; they travel without the data. Raises BadInput as ``verify``."""
    found = read_index(uri)
    address = found.dataset.uri
    work: list[Check] = [partial(_files, found)]
    first = 0
    for part in cut(found.dataset.sequences):
        work.append(partial(_sequences, address, first, first + len(part.sequences)))
        first += len(part.sequences)
    if not found.sequence_hashes:
        work.append(partial(_hash_of_all, address))
    return work


def _files(found: Index) -> list[str]:
    """What is wrong with the files themselves, and files that nobody knows, which pyarrow would read with them."""
    known = {*found.files, OLD_INDEX}
    return found.file_faults + [
        f"{shown(found.dataset.uri)}/{name}: not of this dataset; move it elsewhere"
        for name in sorted(found.there.keys() - known)
        if not name.startswith(("_", "."))
    ]


def _sequences(uri: str, first: int, last: int) -> list[str]:
    """The first thing that is wrong with each of the sequences from ``first`` up to but without ``last``."""
    found, files = read_index(uri), _files_of(uri)
    return [fault for index in range(first, last) for fault in [_sequence(found, files, index)] if fault]


def _files_of(uri: str) -> Files:
    """Opens data files anew, as one that is kept open may have been replaced; one at a time, as rows are in order."""
    return lru_cache(maxsize=1)(partial(open_data_file, uri))


def _sequence(found: Index, files: Files, index: int) -> str | None:
    sequence, content = found.dataset.sequences[index], ContentHash()
    try:
        for position, (row, encoded) in enumerate(_frames(found, files, index)):
            where = f"{shown(found.dataset.uri)}/{row['file']}, sequence {sequence.name}, position {position}"
            described = describe(sequence, position, encoded)
            wrong = [name for name in described if name in row and described[name] != row[name]]
            if wrong:
                return f"{where}: image and mask have other {', '.join(wrong)} than the index; encode the dataset again"
            content.add(described, encoded)
    except BadInput as error:
        return str(error)
    if found.sequence_hashes and content.hex() != found.sequence_hashes[index]:
        file = f"{shown(found.dataset.uri)}/{row['file']}"
        return f"{file}, sequence {sequence.name}: it has another hash than the index says; encode the dataset again"
    return None


def _frames(found: Index, files: Files, index: int) -> Iterator[tuple[dict[str, object], EncodedFrame]]:
    """The index's row and the data file's frame of each position. Raises BadInput where they are not of one frame."""
    dataset = found.dataset
    first, last = dataset.rows(index)
    for row in dataset.index.slice(first, last - first).to_pylist():
        where = f"{shown(dataset.uri)}/{row['file']}, sequence {row['sequence']}, position {row['position']}"
        try:
            (there,) = files(row["file"]).read_row_group(row["row_group"], use_threads=False).to_pylist()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise BadInput(f"{where}: cannot be read ({one_line(error)}); encode the dataset again") from error
        wrong = [name for name in _LABELS if there.get(name) != row[name]]
        if wrong:
            raise BadInput(f"{where}: the file has other {', '.join(wrong)} than the index; encode the dataset again")
        yield row, EncodedFrame(there["image"], there["mask"], f"{where}, image", f"{where}, mask")


def _hash_of_all(uri: str) -> list[str]:
    """The one hash that an index of an older version has, over all frames."""
    found, files = read_index(uri), _files_of(uri)
    content = ContentHash()
    try:
        for index in range(len(found.dataset.sequences)):
            for row, encoded in _frames(found, files, index):
                content.add({"categories": None} | row, encoded)
    except BadInput:
        return []  # the check of that sequence names it
    fault = f"{shown(uri)}: the dataset has another hash than the index says; encode it again"
    return [] if content.hex() == found.dataset.hash else [fault]

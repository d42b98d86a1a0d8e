"""Sequences -> an encoded dataset: what is to be done, what is done already, and the index at the end."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from eosvos.data.parquet import storage
from eosvos.data.parquet.card import card
from eosvos.data.parquet.layout import (
    CARD,
    CLAIM,
    FILE_BYTES,
    FORMAT,
    INDEX,
    METADATA_KEY,
    OLD_INDEX,
    SKIPPED,
    VERSION,
)
from eosvos.data.parquet.parts import Part, cut, encode_part, full_name, is_data_file, is_part, parquet_bytes, read_part
from eosvos.data.parquet.reading import EncodedDataset, open_dataset
from eosvos.data.parquet.rows import hash_of_all
from eosvos.data.parquet.storage import shown
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput
from eosvos.files import locked


@dataclass(frozen=True)
class Encoding:
    """An encoded dataset in the making. Parts may be encoded by any process, in any order.

    Attributes:
        place: address of the folder that its files are written to.
        spec: what it is made from.
        parts: all of them, whole or not.
        skip_bad: leave out sequences that cannot be encoded.
        file_bytes: about how many bytes of images and masks go into one file.
    """

    place: str
    spec: Mapping[str, Any]
    parts: tuple[Part, ...]
    skip_bad: bool
    file_bytes: int

    @property
    def frames(self) -> int:
        """Of all parts."""
        return sum(part.frames for part in self.parts)

    def missing(self) -> list[Part]:
        """The parts that are not whole. Without ``skip_bad`` one that leaves a sequence out is not."""
        there = storage.contents(self.place) or {}
        return [
            part
            for part in self.parts
            if part.file not in there or (not self.skip_bad and read_part(part, self.place).skipped)
        ]

    def finish(self) -> None:
        """Writes the card and then the index, which makes the dataset whole.

        Raises:
            BadInput: all sequences were left out, or a file that cannot be written.
        """
        parts = [read_part(part, self.place) for part in self.parts]
        skipped = {name: fault for part in parts for name, fault in part.skipped.items()}
        index = pa.concat_tables([part.index.replace_schema_metadata() for part in parts]).combine_chunks()
        if index.num_rows == 0:
            raise BadInput(f"no sequence can be encoded, the first because of {next(iter(skipped.values()))}")
        files = {name: size for part in parts for name, size in part.files.items()}
        hashes = [one for part in parts for one in part.hashes]
        spec = {**self.spec, **({"skipped": list(skipped)} if skipped else {})}
        dataset = EncodedDataset(self.place, index, spec, hash_of_all(hashes))
        content = {"format": FORMAT, "version": VERSION, "spec": spec, "hash": dataset.hash}
        content |= {"files": files, "sequences": hashes}
        for name in (storage.contents(self.place) or {}).keys() - files.keys():
            if is_data_file(name) or storage.is_unfinished(name):
                storage.remove(self.place, name)  # of a run that was killed
        if skipped:
            report = "".join(f"{name}\t{fault}\n" for name, fault in skipped.items())
            storage.write(self.place, SKIPPED, report.encode())
        storage.write(self.place, CARD, card(dataset, sum(files.values()), hashes).encode())
        table = index.replace_schema_metadata({METADATA_KEY: json.dumps(content)})
        storage.write(self.place, INDEX, parquet_bytes(table))


def encode(
    sequences: Iterable[Sequence],
    out: str | Path,
    spec: Mapping[str, Any],
    file_bytes: int = FILE_BYTES,
    skip_bad: bool = False,
) -> bool:
    """Write an encoded dataset in this process; image and mask bytes go in as they came.

    Every frame is decoded in full first, so that a broken file is found here and not in training. Killed and begun
    again it keeps the parts that are whole.

    Args:
        sequences: with names that are unique within their dataset; they are sorted by dataset and name.
        out: folder or URI to make; its parents are made too.
        spec: JSON-ready values that say what the dataset is made from. The same again on the same folder is no work.
        file_bytes: about how many bytes of images and masks go into one file.
        skip_bad: leave out sequences that cannot be encoded, and name them in ``_skipped.txt`` and in the spec.

    Returns:
        True where it was written, False where ``out`` already holds a dataset of the same ``spec``.

    Raises:
        BadInput: as ``begun``; an image or a mask that cannot be decoded or differ in size.
    """
    with begun(sequences, out, spec, file_bytes, skip_bad) as encoding:
        if encoding is None:
            return False
        for part in encoding.missing():
            encode_part(part, encoding.place, file_bytes, skip_bad)
        encoding.finish()
    return True


@contextmanager
def begun(
    sequences: Iterable[Sequence],
    out: str | Path,
    spec: Mapping[str, Any],
    file_bytes: int = FILE_BYTES,
    skip_bad: bool = False,
) -> Iterator[Encoding | None]:
    """Begins an encoding or takes up one that was interrupted; arguments as of ``encode``.

    On a local file system all is written to ``OUT.partial`` beside, which one process at a time has, and which is
    renamed once the block has ended well and the index is there. Elsewhere files are written where they belong, the
    index last.

    Yields:
        what there is to do; None where ``out`` already holds a dataset of the same ``spec``.

    Raises:
        BadInput: no frames, a name that occurs twice, a folder ``out`` that holds something else or another
            encoding, another process that encodes to it, or a place that nothing can be written to.
    """
    address = storage.address_of(out)
    spec = json.loads(json.dumps(spec))
    if _is_done(address, spec, skip_bad):
        yield None
        return
    local = storage.local_folder(address)
    place = str(local.with_name(f"{local.name}.partial")) if local else address
    ordered = sorted(sequences, key=lambda sequence: (sequence.dataset, sequence.name))
    _check_sequences(ordered, address)
    storage.make_folder(place)
    with _alone(place):
        if local and _is_done(place, spec, skip_bad):  # of a run that was killed after its index
            _publish(place, local)
        if _is_done(address, spec, skip_bad):  # or another process has ended meanwhile
            yield None
            return
        encoding = Encoding(place, spec, cut(ordered), skip_bad, file_bytes)
        try:
            _claim(encoding, ordered)
            yield encoding
        except BaseException:
            if local:
                _remove_if_useless(Path(place))
            raise
        _publish(place, local)


def _remove_if_useless(place: Path) -> None:
    """Removes a folder in which no part is whole: there is nothing to resume."""
    if not any(is_part(path.name) for path in place.iterdir()):
        shutil.rmtree(place, ignore_errors=True)  # a task that ends may still write


def _publish(place: str, local: Path | None) -> None:
    """Removes what no dataset has, and makes the folder ``place`` the ``local`` one."""
    for name in storage.contents(place) or {}:
        if name == CLAIM or is_part(name):
            storage.remove(place, name)
    if local is None:
        return
    try:
        if local.is_dir():
            local.rmdir()  # it was empty
        Path(place).rename(local)
    except OSError as error:
        raise BadInput(f"{local}: {error.strerror}; move it away, and the same command uses {place}") from error


@contextmanager
def _alone(place: str) -> Iterator[None]:
    if storage.local_folder(place) is None:
        yield  # nothing to lock there; whoever encodes the same at the same time writes the same
        return
    with locked(Path(place)) as ours:
        if ours is False:
            raise BadInput(f"{place}: another process encodes there; wait for it, or choose another --out")
        yield


def _is_done(address: str, spec: Mapping[str, Any], skip_bad: bool) -> bool:
    """Whether this dataset is there. Raises BadInput where another one is, or something else."""
    there = [name for name in storage.contents(address) or {} if not storage.is_unfinished(name)]
    if not there or (CLAIM in there and INDEX not in there):
        return False
    if INDEX not in there and OLD_INDEX not in there:
        raise BadInput(f"{shown(address)}: exists and is no encoded dataset; choose another folder or remove it")
    before = dict(open_dataset(address).spec)
    if skip_bad:
        before.pop("skipped", None)
    _check_same(address, before, spec)
    return True


def _check_same(address: str, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    missing = "nothing"
    differences = [
        f"{field} ({there.get(field, missing)} there, {now.get(field, missing)} now)"
        for field in sorted({*there, *now})
        if there.get(field, missing) != now.get(field, missing)
    ]
    if differences:
        raise BadInput(
            f"{shown(address)}: holds a dataset that differs in {', '.join(differences)}; "
            "choose another folder or remove it"
        )


def _claim(encoding: Encoding, ordered: SequenceOf[Sequence]) -> None:
    """Makes the place that of this encoding. Raises BadInput where it is that of another, or cannot be written to."""
    names = [[full_name(one), one.frame_names, one.merge_objects, sorted(one.categories.items())] for one in ordered]
    content = {
        **encoding.spec,
        "number of sequences": len(ordered),
        "number of frames": encoding.frames,
        "names and categories": hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16],
        "bytes of a file": encoding.file_bytes,
        "parts": len(encoding.parts),
    }
    if CLAIM in (storage.contents(encoding.place) or {}):
        _check_same(encoding.place, json.loads(storage.read(encoding.place, CLAIM)), content)
    else:
        storage.write(encoding.place, CLAIM, json.dumps(content, indent=2).encode())


def _check_sequences(ordered: list[Sequence], address: str) -> None:
    if not ordered:
        raise BadInput(f"{shown(address)}: there are no sequences to encode; give at least one")
    for sequence, following in zip(ordered, [*ordered[1:], None], strict=True):
        if len(sequence) == 0:
            raise BadInput(f"{full_name(sequence)}: has no frames; leave the sequence out")
        if following and (sequence.dataset, sequence.name) == (following.dataset, following.name):
            raise BadInput(f"{full_name(sequence)}: occurs twice; give each sequence a name of its own")

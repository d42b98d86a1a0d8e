"""Zips of masks as the servers of DAVIS 2017 and of YouTube-VOS take them: what is asked for, written and checked."""

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from eosvos.data.palette import encode_mask
from eosvos.data.parquet import EncodedDataset
from eosvos.data.readers.clip import natural_order
from eosvos.data.readers.youtube_vos import read_meta
from eosvos.data.sequence import UNREADABLE, decode_mask, open_image, size_text
from eosvos.errors import BadInput
from eosvos.files import write_result
from eosvos.metrics.config import protocol_of
from eosvos.metrics.folders import predictions_of

SERVERS = {"davis2017": PurePosixPath(), "youtube_vos": PurePosixPath("Annotations")}
"""Dataset -> the folder in the zip that holds a folder for each sequence."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip, so that the same masks are the same bytes."""


@dataclass(frozen=True)
class Asked:
    """What is asked for of one sequence.

    Attributes:
        frames: their names.
        size: (H, W) of its frames.
        ids: of the objects whose masks are given.
    """

    frames: tuple[str, ...]
    size: tuple[int, int]
    ids: frozenset[int]

    def problem(self, ids: NDArray[np.uint8]) -> str:
        """What is wrong with the predicted ids of a frame; empty where nothing is."""
        if ids.shape != self.size:
            return f"has {size_text(ids.shape)} pixels, its frame {size_text(self.size)}"
        if unknown := sorted(set(np.unique(ids).tolist()) - {0, *self.ids}):
            return f"holds object {unknown[-1]}, given are {', '.join(map(str, sorted(self.ids)))}"
        return ""


def asked_for(dataset: EncodedDataset, meta: Path | None) -> dict[PurePosixPath, Asked]:
    """Folder in the zip -> what is asked for in it, of each sequence.

    Args:
        dataset: the split of the server, with the masks that are given.
        meta: ``meta.json`` of YouTube-VOS's split, which names the frames that are asked for; of DAVIS all are.

    Raises:
        BadInput: a dataset that no server is for, a ``meta.json`` that is missing or one too many, or a sequence or
            frame that it names and the dataset does not have.
    """
    found = {sequence.dataset for sequence in dataset.sequences}
    if len(found) != 1 or not found <= SERVERS.keys():
        raise BadInput(f"{dataset.uri}: holds {', '.join(sorted(found))}; there are servers for {', '.join(SERVERS)}")
    (name,) = found
    if name == "youtube_vos" and meta is None:
        raise BadInput("--meta: missing; YouTube-VOS's meta.json of the split names the frames that are asked for")
    if name != "youtube_vos" and meta is not None:
        raise BadInput("--meta: goes with YouTube-VOS only; leave it out")
    all_frames = dict(_all_frames(dataset))
    asked = all_frames if meta is None else _named(all_frames, meta, dataset)
    return {SERVERS[name] / sequence: one for sequence, one in sorted(asked.items())}


def _all_frames(dataset: EncodedDataset) -> Iterator[tuple[str, Asked]]:
    columns = (
        dataset.index[column].to_pylist() for column in ("dataset", "sequence", "name", "height", "width", "ids")
    )
    rows = zip(*columns, strict=True)
    for (name, sequence), group in groupby(rows, key=lambda row: row[:2]):
        _, _, frames, heights, widths, ids = zip(*group, strict=True)
        yield sequence, Asked(frames, (heights[0], widths[0]), frozenset(protocol_of(name).entered(ids)))


def _named(all_frames: Mapping[str, Asked], meta: Path, dataset: EncodedDataset) -> dict[str, Asked]:
    """Of each sequence the frames that ``meta.json`` names."""
    named = {}
    for sequence, said in read_meta(meta).items():
        frames = sorted({frame for shown in said.frames.values() for frame in shown}, key=natural_order)
        if sequence not in all_frames or not set(frames) <= set(all_frames[sequence].frames):
            raise BadInput(f"{dataset.uri}: lacks frames of {sequence} that {meta} names; encode that split")
        if not frames:
            raise BadInput(f"{meta}: names no frame of {sequence}; take the one of the split")
        whole = all_frames[sequence]
        named[sequence] = Asked(tuple(frames), whole.size, whole.ids)
    return named


def write_submission(asked: Mapping[PurePosixPath, Asked], predictions: Path, out: Path) -> None:
    """Writes the zip, whole or not at all; the same predictions give the same bytes.

    Args:
        asked: as of ``asked_for``.
        predictions: folder with ``SEQUENCE/FRAME.png``, or ``SEQUENCE/masks/FRAME.png``.
        out: the zip, which is replaced where it is there.

    Raises:
        BadInput: a prediction that is missing, cannot be read, or is not what is asked for; the zip cannot be written.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:  # a PNG is compressed
        for folder, one in asked.items():
            source = predictions_of(folder.name, predictions)
            for frame in one.frames:
                entry = zipfile.ZipInfo(f"{folder}/{frame}.png", _EPOCH)
                entry.create_system, entry.external_attr = 3, 0o644 << 16  # whatever system writes it
                archive.writestr(entry, encode_mask(_prediction(source / f"{frame}.png", one)))
    write_result(out, content.getvalue())


def _prediction(path: Path, asked: Asked) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); evaluate all frames of all sequences") from error
    ids: NDArray[np.uint8] = decode_mask(data, str(path), merge_objects=False).numpy()
    if problem := asked.problem(ids):
        raise BadInput(f"{path}: {problem}; evaluate the same data again")
    return ids


def problems(asked: Mapping[PurePosixPath, Asked], file: Path) -> list[str]:
    """All that is wrong with a zip, a line for each folder and kind, with the names of the files.

    Args:
        asked: as of ``asked_for``.
        file: the zip.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            found = list(_problems(asked, archive))
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{file}: not a readable zip ({error}); write it again") from error
    kinds: dict[tuple[str, str], list[str]] = {}
    for path, problem in found:
        kinds.setdefault((str(path.parent), problem), []).append(path.name)
    return [f"{folder}: {problem}: {', '.join(names)}" for (folder, problem), names in kinds.items()]


def _problems(asked: Mapping[PurePosixPath, Asked], archive: zipfile.ZipFile) -> Iterator[tuple[PurePosixPath, str]]:
    """File and what is wrong with it."""
    wanted = {folder / f"{frame}.png": one for folder, one in asked.items() for frame in one.frames}
    counts = Counter(info.filename for info in archive.infolist() if not info.is_dir())
    there = {name: PurePosixPath(name) for name in counts}
    missing = wanted.keys() - set(there.values())
    yield from ((path, "missing") for path in wanted if path in missing)
    for name, path in there.items():
        if name != str(path) or path.is_absolute() or ".." in path.parts or "\\" in name:
            yield path, "not the name of a file in the zip"
        elif path not in wanted:
            yield path, "not asked for"
        elif counts[name] > 1:
            yield path, "there more than once"
        elif problem := _problem_in(archive, archive.getinfo(name), wanted[path]):
            yield path, problem


def _problem_in(archive: zipfile.ZipFile, info: zipfile.ZipInfo, asked: Asked) -> str:
    height, width = asked.size
    if info.file_size > 2 * height * width + 2**16:  # a small zip may claim to hold more than fits into memory
        return "larger than any mask of its size"
    try:
        with open_image(archive.read(info)) as image:
            if (image.format, image.mode) != ("PNG", "P"):
                return f"a {image.format} of mode {image.mode}, not a PNG with a palette"
            if image.size != (width, height):  # before its pixels are decoded
                return f"has {size_text(image.size[::-1])} pixels, its frame {size_text(asked.size)}"
            return asked.problem(np.array(image))
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: of a password
        return f"cannot be read ({error})"

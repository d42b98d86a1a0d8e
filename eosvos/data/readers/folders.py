"""Folders of frames and folders of masks beside them: what readers of datasets share."""

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from eosvos.data.readers.clip import IMAGE_ENDINGS, natural_order
from eosvos.data.readers.files import FrameFiles
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput

MASK_ENDINGS = (".png",)
WithMask = Literal["all", "first", "some"]
"""Which frames of a video must have a mask."""


@dataclass(frozen=True)
class Folder:
    """A folder of a dataset, out of which nothing leads.

    The root may be a symbolic link, as people link their data, and links may lead to anywhere in it. One that leads
    elsewhere is refused when it is met.

    Attributes:
        path: where it is, or would be.
        root: the folder that a person named, resolved; ``path`` is that or below it.
        layout: of the dataset, for messages.
    """

    path: Path
    root: Path
    layout: str

    @staticmethod
    def named(root: Path, layout: str) -> "Folder":
        """The root itself. Raises BadInput where it is not there."""
        resolved = _resolved(Path(root))
        return Folder(resolved, resolved, layout).existing()

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> "Folder":
        return replace(self, path=self.path / name)

    def existing(self) -> "Folder":
        """Itself. Raises BadInput where it is not there, or in a link that leaves the root."""
        if not self.file("").is_dir():
            raise BadInput(f"{self}: no such folder; {self.layout} has it, unpack the archive again or correct --root")
        return self

    def file(self, name: str) -> Path:
        """The path of a file in it, which need not be there. Raises BadInput for a link that leaves the root."""
        path = self.path / name
        if not _resolved(path).is_relative_to(self.root):
            raise BadInput(f"{path}: a symbolic link that leaves {self.root}; put what it leads to there itself")
        return path

    def stems(self, endings: Collection[str]) -> dict[str, Path]:
        """Name without its ending -> file, of the files with one of the ``endings``, in any case.

        Hidden files do not count; a folder that is not there has none.

        Raises:
            BadInput: two files of one name, a name that not every system takes, or a link that leaves the root.
        """
        found: dict[str, Path] = {}
        for entry in self._entries():
            path = self.path / entry.name
            if path.suffix.lower() not in endings:
                continue
            if not is_name(entry.name):
                raise BadInput(f"{self}: {entry.name!r} is a name that not every system takes; rename the file")
            if entry.is_symlink():
                self.file(entry.name)
            if (other := found.setdefault(path.stem, path)) is not path:
                raise BadInput(f"{path}: there is also {other.name}; keep one file for each frame")
        return found

    def folders(self) -> list[str]:
        """Names of the folders in it, but for hidden ones.

        Raises:
            BadInput: a name that not every system takes, or a link that leaves the root or leads nowhere.
        """
        names = []
        for entry in self._entries():
            if entry.is_symlink() and not self.file(entry.name).exists():
                raise BadInput(f"{self.path / entry.name}: a symbolic link that leads nowhere; restore what it means")
            if entry.is_dir():
                if not is_name(entry.name):
                    raise BadInput(f"{self}: {entry.name!r} is a name that not every system takes; rename the folder")
                names.append(entry.name)
        return names

    def _entries(self) -> list[os.DirEntry[str]]:
        """By name. One listing instead of a question per file: fast on network file systems too."""
        if not self.path.is_dir():
            return []
        self.file("")
        try:
            with os.scandir(self.path) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise BadInput(f"{self}: cannot be listed ({error.strerror}); make it readable") from error
        return sorted(visible, key=lambda entry: entry.name)


def _resolved(path: Path) -> Path:
    """Without links, as far as they lead somewhere; ``Path.resolve`` fails where they lead in a circle."""
    return Path(os.path.realpath(path))


def is_name(text: str) -> bool:
    """Whether it names a file or folder in a folder, and none elsewhere, on every system."""
    return _is_plain(text) and text not in ("", ".", "..") and not set(text) & set("/\\")


def plain_text(value: object) -> str:
    """A value as it is. Raises ValueError for what is no text, has line breaks or the like, or is no Unicode."""
    if not isinstance(value, str) or not _is_plain(value):
        raise ValueError(f"{value!r} is no plain text")
    return value


def _is_plain(text: str) -> bool:
    return all(unicodedata.category(character) not in ("Cc", "Cs") for character in text)


def read_lines(lists: Folder, split: str) -> Iterator[tuple[str, str]]:
    """(file and line, for messages; text) of the lines of ``SPLIT.txt`` in a folder of lists.

    A byte order mark, blank lines, white space around a line, and lines that begin with ``#`` do not count.

    Raises:
        BadInput: a list that is missing, cannot be read or is empty.
    """
    if not is_name(split):
        raise BadInput(f"--split {split}: not the name of a list; {_known(lists)}")
    path = lists.file(f"{split}.txt")
    if not path.is_file():
        raise BadInput(f"{path}: no such list; {_known(lists)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a readable list ({error}); replace the file") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    said = [(f"{path}, line {number}", line) for number, line in lines if line and not line.startswith("#")]
    if not said:
        raise BadInput(f"{path}: the split is empty; list at least one sequence")
    yield from said


def _known(lists: Folder) -> str:
    return f"splits that exist here: {', '.join(lists.stems(('.txt',))) or 'none'}"


def read_names(lists: Folder, split: str) -> list[str]:
    """The names in ``SPLIT.txt``, one to a line; what does not count is said at ``read_lines``.

    Raises:
        BadInput: as ``read_lines``, or a name that occurs twice or leaves the folder.
    """
    names: dict[str, str] = {}
    for where, name in read_lines(lists, split):
        if not is_name(name):
            raise BadInput(f"{where}: {name!r} is not the name of a sequence; correct the line")
        if name in names:
            raise BadInput(f"{where}: {name} is also in {names[name].rpartition(', ')[2]}; remove one of them")
        names[name] = where
    return list(names)


def video(
    dataset: str,
    name: str,
    images: Folder,
    masks: Folder,
    *,
    with_mask: WithMask = "some",
    merge_objects: bool = False,
    categories: Mapping[int, str] | None = None,
) -> Sequence:
    """All frames of the folder ``images``, with the masks of the same names in the folder ``masks``.

    Frames are in the order of the numbers in their names. No image is opened here.

    Args:
        dataset, name: of the sequence.
        images: folder of its frames.
        masks: folder of its masks.
        with_mask: which frames must have a mask.
        merge_objects: as of ``Sequence``.
        categories: object id -> what it is, where that is known.

    Raises:
        BadInput: no frame, a mask that is missing, or one without a frame.
    """
    frames, labels = images.stems(IMAGE_ENDINGS), masks.stems(MASK_ENDINGS)
    if not frames:
        raise BadInput(f"{images}: no such folder, or no frame in it; restore it, or leave {name} out")
    for stem in sorted(labels.keys() - frames.keys(), key=natural_order):
        raise BadInput(f"{labels[stem]}: a mask without a frame; restore {images / stem}.jpg or remove the mask")
    names = tuple(sorted(frames, key=natural_order))
    for stem in {"all": names, "first": names[:1], "some": ()}[with_mask]:
        if stem not in labels:
            raise BadInput(f"{masks / stem}.png: no such mask, though there is a frame; restore it")
    if not labels:
        raise BadInput(f"{masks}: no such folder, or no mask in it; restore it, or leave {name} out")
    files = FrameFiles(tuple(frames[stem] for stem in names), tuple(labels.get(stem) for stem in names))
    return Sequence(dataset, name, names, merge_objects, files, categories or {})

"""The sequences of a dataset that have ground truth on disk, found by its layout."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eosvos.data.readers.clip import natural_order
from eosvos.data.readers.folders import Folder, is_name, read_lines
from eosvos.data.readers.youtube_vos import read_meta
from eosvos.errors import BadInput
from eosvos.metrics.config import TruthLayout, protocol_of

HOLDS: Mapping[TruthLayout, str] = {
    "davis2016": "Annotations/480p",
    "davis2017": "Annotations/480p",
    "youtube-vos": "SPLIT/Annotations",
    "frames": "a folder of masks for each sequence",
}
"""What the folder of the ground truth has."""


@dataclass(frozen=True)
class AnnotatedFolder:
    """The ground truth of one sequence.

    Attributes:
        name: of the sequence; predictions are in a folder of this name.
        masks: the annotated frames, in order.
        layout: says which frames and objects count, and what values mean.
        categories: object id -> what it is, where the layout knows.
    """

    name: str
    masks: tuple[Path, ...]
    layout: TruthLayout
    categories: Mapping[int, str] = field(default_factory=dict)


def annotated_folders(root: Path, layout: TruthLayout, split: str) -> list[AnnotatedFolder]:
    """The sequences of a dataset that have ground truth.

    Args:
        root: for ``davis2016`` and ``davis2017`` the folder with ``Annotations/480p/SEQUENCE/FRAME.png`` and, where a
            split is named, ``ImageSets/480p/SPLIT.txt`` or ``ImageSets/2017/SPLIT.txt``; for ``youtube-vos`` the one
            with ``SPLIT/Annotations/SEQUENCE/FRAME.png`` and ``SPLIT/meta.json``; for ``frames`` a folder with one
            folder per sequence.
        layout: of the folders.
        split: name of a list, or for ``youtube-vos`` of a folder; empty for all sequences.

    Raises:
        BadInput: a folder, a list or ``meta.json`` that is missing, or a sequence with too few masks.
    """
    if layout == "youtube-vos":
        return _youtube_vos(root, split)
    folder = _existing(root if layout == "frames" else root / "Annotations" / "480p", layout)
    if layout == "frames" and split:
        raise BadInput(f"--split {split}: layout frames has no splits; leave it out")
    all_names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    names = _read_split(root, layout, split) if split else all_names
    if not names:
        raise BadInput(
            f"{folder}: holds no folder of a sequence; --ground-truth names the folder that holds {HOLDS[layout]}"
        )
    return [_annotated(folder / name, layout) for name in names]


def _youtube_vos(root: Path, split: str) -> list[AnnotatedFolder]:
    """Of all videos that ``meta.json`` names."""
    if not split:
        raise BadInput("--split: missing; --layout youtube-vos needs the name of the folder that holds Annotations")
    folder = _existing(root / split / "Annotations", "youtube-vos")
    videos = read_meta(root / split / "meta.json")
    return [_annotated(folder / name, "youtube-vos", said.categories) for name, said in sorted(videos.items())]


def _existing(folder: Path, layout: TruthLayout) -> Path:
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; --ground-truth names the folder that holds {HOLDS[layout]}")
    return folder


def _annotated(folder: Path, layout: TruthLayout, categories: Mapping[int, str] | None = None) -> AnnotatedFolder:
    masks = _pngs(folder)
    least = 2 if protocol_of(layout).last_frame else 3
    if len(masks) < least:
        raise BadInput(f"{folder}: {len(masks)} masks; a sequence needs at least {least} to be scored")
    return AnnotatedFolder(folder.name, masks, layout, categories or {})


def _pngs(folder: Path) -> tuple[Path, ...]:
    """In the order of the numbers in their names."""
    files = (path for path in folder.glob("*.png") if not path.name.startswith("."))
    return tuple(sorted(files, key=lambda path: natural_order(path.name)))


def _read_split(root: Path, layout: TruthLayout, split: str) -> list[str]:
    """Sequence names of a list: one to a line, or DAVIS 2016's lines with the paths of a frame and its mask."""
    lists = Folder.named(root, f"the layout {layout}") / "ImageSets" / ("480p" if layout == "davis2016" else "2017")
    names = set()
    for where, line in read_lines(lists, split):
        path = line.split()[0].strip("/").split("/")
        name = path[-2] if len(path) > 1 else path[0]
        if not is_name(name):
            raise BadInput(f"{where}: {line!r} names no sequence; correct the line")
        names.add(name)
    return sorted(names)

"""DAVIS 2017 in its official layout: JPEGImages/RESOLUTION, Annotations/RESOLUTION and lists in ImageSets/2017."""

from pathlib import Path
from typing import Literal

from eosvos.data.readers.folders import Folder, WithMask, read_names, video
from eosvos.data.sequence import Sequence

Resolution = Literal["480p", "Full-Resolution"]
LAYOUT = "the official layout of DAVIS 2017"


def read_davis2017(root: Path, split: str, resolution: Resolution = "480p") -> list[Sequence]:
    """The sequences that ``ImageSets/2017/SPLIT.txt`` names; values of masks are object ids, and 255 is void.

    A split whose name begins with ``test`` has masks of its first frames alone.

    Args:
        root: folder that holds ``JPEGImages``, ``Annotations`` and ``ImageSets``.
        split: name of a list: ``train``, ``val``, ``test-dev``, ``test-challenge``, or one of your own.
        resolution: folder of the frames and of the masks.

    Raises:
        BadInput: a folder, a list, a listed sequence, a frame or a mask that is missing.
    """
    return _listed("davis2017", root, "2017", split, resolution, merge_objects=False)


def read_davis2016_of_2017(root: Path, split: str) -> list[Sequence]:
    """DAVIS 2016 out of the archive of DAVIS 2017, whose masks have ids: every value above 0 is object 1.

    The sequences are those of ``ImageSets/2016/SPLIT.txt``. Raises BadInput as ``read_davis2017``.
    """
    return _listed("davis2016", root, "2016", split, "480p", merge_objects=True)


def _listed(dataset: str, root: Path, year: str, split: str, resolution: str, *, merge_objects: bool) -> list[Sequence]:
    named = Folder.named(root, LAYOUT)
    images, masks, lists = (
        (named / top / name).existing()
        for top, name in (("JPEGImages", resolution), ("Annotations", resolution), ("ImageSets", year))
    )
    with_mask: WithMask = "first" if split.startswith("test") else "all"
    return [
        video(dataset, name, images / name, masks / name, with_mask=with_mask, merge_objects=merge_objects)
        for name in sorted(read_names(lists, split))
    ]

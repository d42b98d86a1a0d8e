"""The layouts of datasets: how the files of each lie, which flags it takes and what reads it.

Quick to import, as ``--help`` shows all of it: a reader is imported when it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from eosvos.data.sequence import Sequence


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        help: where its files lie; lines but the last one end in a line break.
        reader: module in this package and function in it: what the dataset is made from, as keywords -> sequences.
        needs: flags that it cannot do without.
        takes: flags that it has besides.
        completer: as ``reader``: the flags that are given -> all that the dataset is made from; these alone if empty.
    """

    help: str
    reader: str
    needs: tuple[str, ...] = ("root",)
    takes: tuple[str, ...] = ()
    completer: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        """All of its flags."""
        return (*self.needs, *self.takes)

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All that the dataset is made from, as ready for JSON as ``given``. Raises BadInput for a bad value."""
        return dict(_function(self.completer)(**given) if self.completer else given)

    def read(self, made_from: Mapping[str, Any]) -> "list[Sequence]":
        """The sequences of what ``complete`` gave. Raises BadInput for what the reader refuses."""
        sequences: list[Sequence] = _function(self.reader)(**made_from)
        return sequences


def _function(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(import_module(f"eosvos.data.readers.{module}"), function)


LAYOUTS: Mapping[str, Layout] = {
    "davis2016": Layout(
        "ROOT/{JPEGImages,Annotations,ImageSets}/480p; or the archive of DAVIS 2017, by ROOT/ImageSets/2016",
        "davis.read_davis2016",
        needs=("root", "split"),
    ),
    "davis2017": Layout(
        "ROOT/{JPEGImages,Annotations}/480p, ROOT/ImageSets/2017",
        "davis2017.read_davis2017",
        needs=("root", "split"),
        takes=("resolution",),
    ),
    "youtube-vos": Layout(
        "ROOT/SPLIT/{JPEGImages,Annotations,meta.json}, of 2018 and 2019",
        "youtube_vos.read_youtube_vos",
        needs=("root", "split"),
    ),
    "frames": Layout(
        "ROOT/VIDEO/*.jpg and MASKS/VIDEO/*.png, or one video: ROOT/*.jpg and MASKS/*.png; masks of all frames or\n"
        "of some",
        "frames.read_frames",
        needs=("root", "masks"),
    ),
    "coco": Layout(
        "ROOT/**/NAME.jpg and the JSON of instances ANNOTATIONS; polygons or RLE, but for iscrowd",
        "coco.read_coco",
        needs=("root", "annotations"),
    ),
    "images": Layout(
        "ROOT/images/**/NAME.jpg and ROOT/masks/**/NAME.png",
        "images.read_images",
        takes=("split",),
    ),
    "voc": Layout(
        "ROOT/{JPEGImages,SegmentationObject,ImageSets/Segmentation}",
        "images.read_voc",
        needs=("root", "split"),
    ),
    "synthetic": Layout(
        "videos made up by a seeded generator",
        "synthetic.read_synthetic",
        needs=("split",),
        takes=("sequences", "frames", "size", "objects", "seed"),
        completer="synthetic.complete_synthetic",
    ),
}
"""Name -> layout."""

if TYPE_CHECKING:
    LayoutName = str
else:
    LayoutName = Literal[tuple(LAYOUTS)]
    """One of ``LAYOUTS``, as the command line checks it."""


def layouts_help() -> str:
    """A line or more for each layout."""
    width = max(map(len, LAYOUTS)) + 2
    return "\n".join(
        f"  {name:{width}}" + layout.help.replace("\n", "\n" + " " * (width + 2)) for name, layout in LAYOUTS.items()
    )

"""Frames and masks as they lie in folders, or made up, to Parquet: `--help` has examples."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eosvos import cli
from eosvos.config import to_dict
from eosvos.errors import BadInput
from eosvos.paths import absolute_address, absolute_path

if TYPE_CHECKING:
    from eosvos.data.sequence import Sequence

DESCRIPTION = """Encode a dataset to Parquet, the form that training and evaluation read.

Layouts, as the official archives are unpacked; values of masks are object ids, and 255 is void, but in davis2016:
  davis2016    ROOT/{JPEGImages,Annotations,ImageSets}/480p; or the archive of DAVIS 2017, by ROOT/ImageSets/2016
  davis2017    ROOT/{JPEGImages,Annotations}/480p, ROOT/ImageSets/2017
  youtube-vos  ROOT/SPLIT/{JPEGImages,Annotations,meta.json}, of 2018 and 2019
  frames       ROOT/VIDEO/*.jpg and MASKS/VIDEO/*.png, or one video: ROOT/*.jpg and MASKS/*.png; masks of all frames or
               of some
  images       ROOT/images/**/NAME.jpg and ROOT/masks/**/NAME.png
  voc          ROOT/{JPEGImages,SegmentationObject,ImageSets/Segmentation}
  synthetic    videos made up by a seeded generator

Examples:
  python jobs/encode_dataset.py --layout davis2017 --root DAVIS --split train --out runs/data/train
  python jobs/encode_dataset.py --layout youtube-vos --root YouTube-VOS --split train --out runs/data/youtube-vos
  python jobs/encode_dataset.py --layout frames --root frames --masks masks --out runs/data/mine
  python jobs/encode_dataset.py --layout synthetic --split held --sequences 40 --out runs/data/synthetic-held
"""
SYNTHETIC_FLAGS = ("sequences", "frames", "size", "objects", "seed")
OF_ALL = ("layout", "out", "skip_bad", "verify")
"""What goes with every layout."""
Layout = Literal["davis2016", "davis2017", "youtube-vos", "frames", "images", "voc", "synthetic"]
FLAGS: dict[str, tuple[str, ...]] = {
    "davis2016": ("root", "split"),
    "davis2017": ("root", "split", "resolution"),
    "youtube-vos": ("root", "split"),
    "frames": ("root", "masks"),
    "images": ("root", "split"),
    "voc": ("root", "split"),
    "synthetic": ("split", *SYNTHETIC_FLAGS),
}
"""What each layout takes."""
NEEDED = {layout: flags[:2] for layout, flags in FLAGS.items()} | {"images": ("root",), "synthetic": ("split",)}
"""What each layout cannot do without."""


@dataclass(frozen=True)
class EncodeDataset:
    """What to encode and where to."""

    layout: Layout
    """How the files lie; see above."""
    out: str
    """Folder to make, or a URI such as s3://bucket/train; it is a dataset when everything is in it. The same command
    again resumes an encoding that was interrupted, or finds that all is done."""
    split: str | None = None
    """davis2016, davis2017, voc: name of a list; youtube-vos: folder in --root; images: folder in images, all unless
    given; synthetic: train or held."""
    root: Path | None = None
    """Folder of the dataset, or of the frames; not for synthetic."""
    masks: Path | None = None
    """frames: folder of the masks."""
    resolution: Literal["480p", "Full-Resolution"] | None = None
    """davis2017: folder of the frames and masks, 480p unless given."""
    sequences: int | None = None
    """synthetic: number of sequences, 400 unless given."""
    frames: int | None = None
    """synthetic: frames per sequence, 8 unless given."""
    size: int | None = None
    """synthetic: height and width in pixels, 128 unless given."""
    objects: int | None = None
    """synthetic: objects per sequence, 3 or more, 3 unless given."""
    seed: int | None = None
    """synthetic: another seed makes other videos, 0 unless given."""
    skip_bad: bool = False
    """Leave out sequences that cannot be encoded, and name them here and in _skipped.txt; else the first ends it."""
    verify: bool = False
    """Read all of it back afterwards, as jobs/verify_dataset.py does."""


def read(config: EncodeDataset) -> "tuple[list[Sequence], dict[str, Any]]":
    """The sequences to encode, and the specification that says what the dataset is made from.

    Raises:
        BadInput: flags of another layout or one that is missing, a value out of range, or what the readers refuse.
    """
    given: dict[str, Any] = {
        field.name: value
        for field in fields(config)
        if field.name not in ("layout", "out", "skip_bad", "verify")
        and (value := getattr(config, field.name)) is not None
    }
    for name in given.keys() - set(FLAGS[config.layout]):
        layouts = [layout for layout, flags in FLAGS.items() if name in flags]
        raise BadInput(f"--{name}: goes with --layout {', '.join(layouts)} only; leave it out")
    for name in NEEDED[config.layout]:
        if name not in given:
            raise BadInput(f"--{name}: missing; --layout {config.layout} needs it")
    if config.layout == "synthetic":
        return _synthetic(**given)
    places: dict[str, Any] = {
        name: absolute_path(given[name], f"--{name}") for name in ("root", "masks") if name in given
    }
    spec = {"layout": config.layout} | given | {name: str(path) for name, path in places.items()}
    return _from_files(config.layout, **(given | places)), spec


def _from_files(layout: Layout, **given: Any) -> "list[Sequence]":
    from eosvos.data.readers.davis import read_davis2016
    from eosvos.data.readers.davis2017 import read_davis2017
    from eosvos.data.readers.frames import read_frames
    from eosvos.data.readers.images import read_images, read_voc
    from eosvos.data.readers.youtube_vos import read_youtube_vos

    readers: dict[str, Callable[..., list[Sequence]]] = {
        "davis2016": read_davis2016,
        "davis2017": read_davis2017,
        "youtube-vos": read_youtube_vos,
        "frames": read_frames,
        "images": read_images,
        "voc": read_voc,
    }
    return readers[layout](**given)


def _synthetic(
    split: str, sequences: int = 400, seed: int = 0, **given: int
) -> "tuple[list[Sequence], dict[str, Any]]":
    from eosvos.data.readers.synthetic import GENERATOR_VERSION, SyntheticSettings, synthetic

    try:
        settings = SyntheticSettings(**given)
    except ValueError as error:
        raise BadInput(f"--{error}") from error
    spec = {"layout": "synthetic", "split": split, "sequences": sequences, "seed": seed, "generator": GENERATOR_VERSION}
    return synthetic(split, sequences, settings, seed), spec | to_dict(settings)


def main() -> None:
    config = cli.parse(EncodeDataset, description=DESCRIPTION)
    # Late, here and above, so that --help is quick.
    from rich.console import Console

    from cluster.encoding import encode, verify
    from eosvos.data.parquet.card import facts
    from eosvos.data.parquet.reading import read_index

    out = absolute_address(config.out, "--out")
    console = Console(soft_wrap=True, highlight=False)
    sequences, spec = read(config)
    console.print("\n".join(f"{name:12} {value}" for name, value in spec.items()))
    written = encode(sequences, out, spec, config.skip_bad)
    console.print("encoded" if written else "already encoded, nothing to do")
    found = read_index(out)
    lines = facts(found.dataset, sum(found.files.values())) | {"where": out}
    console.print("\n".join(f"{name:12} {value}" for name, value in lines.items()))
    for name in found.dataset.spec.get("skipped", ()):
        console.print(f"skipped: {name}")
    if config.verify:
        faults = verify(out)
        for fault in faults[1:]:
            console.print(fault)
        if faults:
            raise BadInput(faults[0])
        console.print("verified: all frames are as the index says")


if __name__ == "__main__":
    cli.run(main)

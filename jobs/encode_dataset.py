"""Frames and masks as they lie in folders, or made up, to Parquet: `--help` has examples."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eosvos import cli
from eosvos.data.readers.layouts import LAYOUTS, LayoutName, layouts_help
from eosvos.errors import BadInput
from eosvos.paths import absolute_address, absolute_path

if TYPE_CHECKING:
    from eosvos.data.sequence import Sequence

DESCRIPTION = f"""Encode a dataset to Parquet, the form that training and evaluation read.

Layouts, as the official archives are unpacked; values of masks are object ids, and 255 is void, but in davis2016:
{layouts_help()}

Examples:
  python jobs/encode_dataset.py --layout davis2017 --root DAVIS --split train --out runs/data/train
  python jobs/encode_dataset.py --layout youtube-vos --root YouTube-VOS --split train --out runs/data/youtube-vos
  python jobs/encode_dataset.py --layout frames --root frames --masks masks --out runs/data/mine
  python jobs/encode_dataset.py --layout coco --root train2017 --annotations annotations/instances_train2017.json \\
    --out runs/data/coco
  python jobs/encode_dataset.py --layout synthetic --split held --sequences 40 --out runs/data/synthetic-held
"""
OF_ALL = ("layout", "out", "without", "skip_bad", "verify")
"""What goes with every layout."""


@dataclass(frozen=True)
class EncodeDataset:
    """What to encode and where to."""

    layout: LayoutName
    """How the files lie; see above."""
    out: str
    """Folder to make, or a URI such as s3://bucket/train; it is a dataset when everything is in it. The same command
    again resumes an encoding that was interrupted, or finds that all is done."""
    split: str | None = None
    """davis2016, davis2017, voc: name of a list; youtube-vos: folder in --root; images: folder in images, all unless
    given; synthetic: train or held."""
    root: Path | None = None
    """Folder of the dataset, of the frames, or of coco's images; not for synthetic."""
    masks: Path | None = None
    """frames: folder of the masks."""
    annotations: Path | None = None
    """coco: JSON file of the instances."""
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
    without: tuple[str, ...] = ()
    """Names of sequences to leave out, such as those that another dataset is to be scored on."""
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
        if field.name not in OF_ALL and (value := getattr(config, field.name)) is not None
    }
    layout = LAYOUTS[config.layout]
    for name in given:
        if name not in layout.flags:
            takers = [taker for taker, other in LAYOUTS.items() if name in other.flags]
            raise BadInput(f"--{name}: goes with --layout {', '.join(takers)} only; leave it out")
    for name in layout.needs:
        if name not in given:
            raise BadInput(f"--{name}: missing; --layout {config.layout} needs it")
    paths = {name: str(absolute_path(path, f"--{name}")) for name, path in given.items() if isinstance(path, Path)}
    made_from = layout.complete(given | paths)
    sequences = layout.read(made_from)
    if missing := {*config.without} - {sequence.name for sequence in sequences}:
        raise BadInput(f"--without {' '.join(sorted(missing))}: no sequence of that name; see --split, or leave it out")
    left = [sequence for sequence in sequences if sequence.name not in config.without]
    if not left:
        raise BadInput("--without: leaves no sequence to encode; leave out fewer")
    spec = {"layout": config.layout} | made_from
    return left, spec | ({"without": sorted(config.without)} if config.without else {})


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

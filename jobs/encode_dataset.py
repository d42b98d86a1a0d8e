"""Frames and masks as they lie in folders, or made up, to Parquet: `--help` has examples."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eosvos import cli
from eosvos.data.readers.layouts import LAYOUTS, LayoutName, layouts_help
from eosvos.errors import BadInput
from eosvos.paths import absolute_path

if TYPE_CHECKING:
    from eosvos.data.parquet import EncodedDataset
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


@dataclass(frozen=True)
class EncodeDataset:
    """What to encode and where to."""

    layout: LayoutName
    """How the files lie; see above."""
    out: Path
    """Folder to make; it appears when everything is in it. The same command again finds it and does nothing."""
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


def read(config: EncodeDataset) -> "tuple[list[Sequence], dict[str, Any]]":
    """The sequences to encode, and the specification that says what the dataset is made from.

    Raises:
        BadInput: flags of another layout or one that is missing, a value out of range, or what the readers refuse.
    """
    given: dict[str, Any] = {
        field.name: value
        for field in fields(config)
        if field.name not in ("layout", "out") and (value := getattr(config, field.name)) is not None
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
    return layout.read(made_from), {"layout": config.layout} | made_from


def with_progress(work: Callable[[Callable[[int, int], None]], bool]) -> bool:
    """Runs ``work`` with a function that shows frames done, frames in all and the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("encoding"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("left")) as bar:
        task = bar.add_task("encoding", visible=False)  # there may be nothing to do
        return work(lambda done, total: bar.update(task, completed=done, total=total, visible=True))


def summary(dataset: "EncodedDataset", out: Path) -> str:
    """What is in the folder, in a few lines."""
    objects = sum(len(dataset.visible(index)) for index in range(len(dataset.sequences)))
    size = sum(path.stat().st_size for path in out.iterdir())
    return (
        f"sequences  {len(dataset.sequences)}\n"
        f"frames     {dataset.index.num_rows}\n"
        f"objects    {objects}\n"
        f"bytes      {size:,}\n"
        f"hash       {dataset.hash}\n"
        f"where      {dataset.uri}"
    )


def main() -> None:
    config = cli.parse(EncodeDataset, description=DESCRIPTION)
    # Late, here and above, so that --help is quick.
    from rich.console import Console

    from eosvos.data.parquet import encode, open_dataset

    config = replace(config, out=absolute_path(config.out, "--out"))
    console = Console(soft_wrap=True, highlight=False)
    sequences, spec = read(config)
    console.print("\n".join(f"{name:10} {value}" for name, value in spec.items()))
    written = with_progress(lambda progress: encode(sequences, config.out, spec, progress))
    console.print("encoded" if written else "already encoded, nothing to do")
    console.print(summary(open_dataset(config.out), config.out))


if __name__ == "__main__":
    cli.run(main)

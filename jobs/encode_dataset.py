"""Frames and masks as they lie in folders, or made up, to Parquet: `--help` has examples."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eosvos import cli
from eosvos.config import to_dict
from eosvos.errors import BadInput
from eosvos.paths import absolute_path

if TYPE_CHECKING:
    from eosvos.data.parquet import EncodedDataset
    from eosvos.data.sequence import Sequence

DESCRIPTION = """Encode a dataset to Parquet, the form that training and evaluation read.

Examples:
  python jobs/encode_dataset.py --layout davis2016 --root DAVIS --split train --out runs/data/train
  python jobs/encode_dataset.py --layout synthetic --split held --sequences 40 --out runs/data/synthetic-held
"""
SYNTHETIC_FLAGS = ("sequences", "frames", "size", "objects", "seed")


@dataclass(frozen=True)
class EncodeDataset:
    """What to encode and where to."""

    layout: Literal["davis2016", "synthetic"]
    """davis2016: the official folders; synthetic: videos made up by a seeded generator."""
    split: str
    """davis2016: name of a list in ImageSets/480p; synthetic: train or held."""
    out: Path
    """Folder to make; it appears when everything is in it. The same command again finds it and does nothing."""
    root: Path | None = None
    """davis2016: folder that holds JPEGImages, Annotations and ImageSets."""
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
        BadInput: flags of the other layout, a value out of range, or what the readers refuse.
    """
    from eosvos.data.readers.davis import read_davis2016
    from eosvos.data.readers.synthetic import GENERATOR_VERSION, SyntheticSettings, synthetic

    spec: dict[str, Any] = {"layout": config.layout, "split": config.split}
    given = {name: value for name in SYNTHETIC_FLAGS if (value := getattr(config, name)) is not None}
    if config.layout == "davis2016":
        if given:
            raise BadInput(f"--{next(iter(given))}: goes with --layout synthetic only; leave it out")
        if config.root is None:
            raise BadInput("--root: missing; --layout davis2016 needs the folder that holds JPEGImages")
        root = absolute_path(config.root, "--root")
        return read_davis2016(root, config.split), spec | {"root": str(root)}
    if config.root is not None:
        raise BadInput(f"--root {config.root}: --layout synthetic reads no files; leave it out")
    count, seed = given.pop("sequences", 400), given.pop("seed", 0)
    try:
        settings = SyntheticSettings(**given)
    except ValueError as error:
        raise BadInput(f"--{error}") from error
    spec |= {"sequences": count, "seed": seed, "generator": GENERATOR_VERSION} | to_dict(settings)
    return synthetic(config.split, count, settings, seed), spec


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

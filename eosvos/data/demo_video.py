"""The synthetic video of the demo and of everything that runs without data of its own."""

from pathlib import Path

from eosvos.data.parquet import encode
from eosvos.data.readers.synthetic import GENERATOR_VERSION, synthetic

SEQUENCES = {"train": 240, "held": 12}


def demo_video(folder: Path, split: str) -> Path:
    """Encodes a split, ``train`` or ``held``, to ``folder``/data-``split``, unless it is there; returns that folder."""
    count, out = SEQUENCES[split], folder / f"data-{split}"
    spec = {"layout": "synthetic", "split": split, "sequences": count, "seed": 0, "generator": GENERATOR_VERSION}
    encode(synthetic(split, count), out, spec)
    return out

"""A checkpoint in one go: a parent from videos and photographs, then meta-training on the videos."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.training.presets import META, PARENT
from eosvos.cli import parse_preset, run
from eosvos.config import to_dict
from eosvos.errors import BadInput
from eosvos.paths import absolute_address, absolute_path

DESCRIPTION = """Train a checkpoint from encoded data: first a parent, from videos and photographs, then the
meta-training, from the videos. The same command again goes on where it was.

Example, which makes the checkpoint of this package (docs/train.md says how to encode the data):
    python jobs/recipe.py --videos runs/data/davis2016 runs/data/davis2017 --images runs/data/images \\
        --weights 2 1 7 --backbone-weights mobilenet_v2.safetensors --package real_small.safetensors
"""


@dataclass(frozen=True)
class Recipe:
    """What to train on, and where to."""

    videos: tuple[str, ...] = ()
    """Encoded datasets of videos."""
    images: tuple[str, ...] = ()
    """Encoded datasets of photographs, for the parent alone: tasks of one photograph make learning rates that memorize
    it."""
    weights: tuple[int, ...] = ()
    """How many of the parent's tasks each dataset of --videos, then of --images, gives; unless given, as many as one
    pass over it has."""
    backbone_weights: str = ""
    """Initial weights instead of the preset's: coco, imagenet, none, or a safetensors file."""
    seed: int = 0
    """Of everything random."""
    out: Path | None = None
    """Folder of both runs; runs/recipe/PRESET by default."""
    package: Path | None = None
    """Also write the checkpoint to this file in half precision."""


PRESETS = {name: Recipe() for name in ("real-small", "davis2016-small")}


def main() -> None:
    config, preset = parse_preset(Recipe, PRESETS, DESCRIPTION)
    # Late, so that --help is quick.
    from cluster.training import checkpoints
    from cluster.training.driver import train
    from cluster.training.start import check_weights
    from eosvos.data.mixture import open_mixture
    from eosvos.learning.optimization import load, save

    if not config.videos:
        raise BadInput("--videos: name an encoded dataset; make one with jobs/encode_dataset.py")
    videos, images = (
        tuple(absolute_address(address, flag) for address in given)
        for given, flag in ((config.videos, "--videos"), (config.images, "--images"))
    )
    out = absolute_path(config.out or Path("runs/recipe") / preset, "--out")
    package = config.package and absolute_path(config.package, "--package")
    print(json.dumps(to_dict(replace(config, videos=videos, images=images, out=out, package=package)), indent=2))
    both: dict[str, Any] = {
        "seed": config.seed,
        "backbone_weights": config.backbone_weights or PARENT[preset].backbone_weights,
    }
    parent = replace(PARENT[preset], data=(*videos, *images), data_weights=config.weights, **both)
    meta = replace(META[preset], data=videos, **both)
    check_weights(parent)
    for training in (parent, meta):  # to refuse what is wrong with the second before the first has taken its time
        open_mixture(training.data, training.data_weights).held_out(training.held_out, training.seed)
    start = train(parent, out / "parent")
    learned = checkpoints.counted(train(replace(meta, parent=start), out / "meta"))
    print(f"checkpoint: {learned}")
    if package is not None:
        save(load(learned), package, half=True)
        print(f"in half precision: {package}")


if __name__ == "__main__":
    run(main)

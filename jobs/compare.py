"""The fair comparison: parent, meta-training, parents that train as long as both; one table of the best of each."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from cluster import run_folder
from cluster.experiments.config import Comparison
from cluster.training.presets import trainings
from eosvos.cli import parse_preset, run
from eosvos.config import check_different, to_dict
from eosvos.paths import absolute_address, absolute_path

DESCRIPTION = """Train and compare the meta-learned optimization with a parent of equal cost, for several seeds.

The parent has the same initial weights, stream, augmentation and held-out sequences, and as many steps as fill the time
of parent and meta-training together and a tenth more at its usual pace; where it took less all the same, the table says
so. On the held-out sequences its learning rate is chosen for each T, and so are its targets (one object, all as one, or
all by themselves) and then its outer learning rate, for which each candidate is trained for the whole time: five to
seven trainings for a seed. Each is validated as often as the meta-training, and of all the best checkpoint there
counts. The same command again goes on where it was.

Example:
    python jobs/compare.py --preset davis2016-small --train-data runs/data/train --data runs/data/val --seeds 0 1 2
"""


@dataclass(frozen=True)
class Compare:
    """What to train on, what to report on."""

    train_data: str = ""
    """Encoded dataset to train on."""
    data: str = ""
    """Encoded dataset to report on; nothing is chosen there."""
    out: Path | None = None
    """Folder of all runs and the table; runs/compare/PRESET by default."""
    seeds: tuple[int, ...] = (0,)
    """A training of everything for each; seeds that are done in the folder are in the table, too."""
    T: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["-T"])] = Comparison.T
    """Numbers of fine-tuning steps."""
    rates: tuple[float, ...] = Comparison.rates
    """The parent's learning rates to choose from, widened until the best is not at an edge."""
    outer_factors: tuple[float, ...] = Comparison.outer_factors
    """The fair parent's outer learning rates to choose from beside its preset's, as multiples of that; widened, at most
    twice, while the best is at an edge. With none the preset's is taken."""
    backbone_weights: str = ""
    """Initial weights instead of the preset's: coco, imagenet, none, or a safetensors file."""

    def __post_init__(self) -> None:
        check_different("seeds", self.seeds)
        check_different("T", self.T)
        if max(self.T) < 1:
            raise ValueError(f"T: needs a value above 0, got {self.T}")
        check_different("rates", self.rates, positive=True)
        if self.outer_factors:
            check_different("outer_factors", self.outer_factors, positive=True)


PRESETS = {name: Compare() for name in ("davis2016-small", "real-small", "demo")}
FREE = ("out", "seeds")
"""Further seeds go into the same folder."""


def main() -> None:
    config, preset = parse_preset(Compare, PRESETS, DESCRIPTION)
    # Late, so that --help is quick.
    from cluster.experiments.comparison import compare
    from cluster.experiments.pair import finished_seeds, train_pair
    from cluster.training.start import check_weights
    from eosvos.data.parquet import open_dataset

    train_data, data = absolute_address(config.train_data, "--train-data"), absolute_address(config.data, "--data")
    out = absolute_path(config.out or Path("runs/compare") / preset, "--out")
    for address in (train_data, data):
        open_dataset(address)  # to refuse what is not one before anything is written
    config = replace(config, out=out, train_data=train_data, data=data)
    run_folder.check(out, config, free=FREE)
    print(json.dumps(to_dict(config), indent=2))
    parent, meta = trainings(preset, train_data, config.backbone_weights)
    check_weights(parent)
    with run_folder.claimed(out, config, free=FREE):
        comparison = Comparison(
            train_data, data, config.T, config.rates, config.outer_factors, segmentation=meta.segmentation
        )
        pairs = [
            train_pair(replace(parent, seed=seed), replace(meta, seed=seed), comparison, out / f"seed-{seed}")
            for seed in sorted({*config.seeds, *finished_seeds(out)})
        ]
        compare(pairs, comparison, out / "comparison")


if __name__ == "__main__":
    run(main)

"""Ablations: what each part of the method adds (the paper's Table 1), and what other choices would give."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cluster import run_folder
from cluster.experiments.ablation_rows import choices, table_1
from cluster.experiments.config import Ablation
from cluster.training.presets import trainings
from eosvos.cli import parse_preset, run
from eosvos.config import check_different, to_dict
from eosvos.paths import absolute_address, absolute_path

DESCRIPTION = """Train and evaluate every row of a table, and write it.

--table paper: the rows of the paper's Table 1, its figures beside ours, from a parent of all objects as one with one
searched rate to the whole method, one part at a time. --table choices: the preset's meta-training beside a single rate,
a multi-step loss and the second order, for as many outer steps and for as long. Rows share what they can, and every
training takes the preset's steps. The same command again goes on where it was.

Examples:
    python jobs/ablate.py                    # on synthetic video that it makes itself
    python jobs/ablate.py --table choices --seeds 0 1 2 -T 5
    python jobs/ablate.py --preset davis2016-small --train-data runs/data/train --data runs/data/val
"""


@dataclass(frozen=True)
class Ablate:
    """What to train on, what to report on."""

    table: Literal["paper", "choices"] = "paper"
    """Which rows."""
    train_data: str = ""
    """Encoded dataset to train on; preset demo makes its own."""
    data: str = ""
    """Encoded dataset to report on; preset demo makes its own."""
    out: Path | None = None
    """Folder of all runs and the table; runs/ablate/PRESET-TABLE by default."""
    seeds: tuple[int, ...] = (0,)
    """Everything is trained once with each; seeds that are done in the folder are in the table, too."""
    T: Annotated[int, tyro.conf.arg(aliases=["-T"])] = 10
    """Fine-tuning steps of the rows that are compared."""
    more_T: tuple[int, ...] = (50,)
    """Further numbers of steps, of the paper's first row and of the last ones."""
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03)
    """The parent's learning rates to choose from, widened until the best is not at an edge."""
    backbone_weights: str = ""
    """Initial weights instead of the preset's: coco, imagenet, none, or a safetensors file."""

    def __post_init__(self) -> None:
        steps = (self.T, *(self.more_T if self.table == "paper" else ()))
        check_different("T, more_T", steps, positive=True)
        check_different("seeds", self.seeds)
        check_different("rates", self.rates, positive=True)


FREE = ("out", "seeds")
"""Further seeds go into the same folder."""


def main() -> None:
    names = ("demo", "davis2016-small")
    config, preset = parse_preset(Ablate, {name: Ablate() for name in names}, DESCRIPTION)
    # Late, so that --help is quick.
    from cluster.experiments.ablation import ablate, finished_seeds
    from cluster.training.start import check_weights
    from eosvos.data.demo_video import demo_video
    from eosvos.data.parquet import open_dataset

    out = absolute_path(config.out or Path("runs/ablate") / f"{preset}-{config.table}", "--out")
    print(json.dumps(to_dict(config), indent=2))
    config = replace(config, out=out)
    run_folder.check(out, config, free=FREE)
    train_data, data = config.train_data, config.data
    if preset == "demo" and not train_data and not data:
        with run_folder.claimed(out, config, free=FREE):
            train_data, data = (str(demo_video(out, split)) for split in ("train", "held"))
    train_data, data = absolute_address(train_data, "--train-data"), absolute_address(data, "--data")
    for address in (train_data, data):
        open_dataset(address)  # to refuse what is not one before anything is written
    parent, meta = trainings(preset, train_data, config.backbone_weights)
    check_weights(parent)
    rows = choices(parent, meta, config.T)
    if config.table == "paper":
        rows = table_1(parent, meta, config.T, config.more_T)
    with run_folder.claimed(out, config, free=FREE):
        seeds = tuple(sorted({*config.seeds, *finished_seeds(rows, out)}))
        ablate(rows, Ablation(data, config.rates, seeds), out)


if __name__ == "__main__":
    run(main)

"""Train a parent: Mask R-CNN as a plain segmenter of the targets, the start of meta-training."""

import json
from dataclasses import replace
from pathlib import Path

from cluster.config import Training
from cluster.presets import PARENT
from cluster.training import train
from eosvos.cli import parse_preset, run, to_dict

DESCRIPTION = """Train a parent on an encoded dataset. The same command again resumes.

Example:
    python jobs/parent_train.py --preset davis2016-small --data runs/data/fit --backbone-weights mobilenet.safetensors
"""


def main() -> None:
    training, preset = parse_preset(Training, PARENT, DESCRIPTION)
    training = replace(training, out=training.out or Path("runs/parent_train") / preset)
    print(json.dumps(to_dict(training), indent=2))
    print(f"last checkpoint: {train(training)}")


if __name__ == "__main__":
    run(main)

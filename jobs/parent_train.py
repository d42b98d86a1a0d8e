"""Train a parent: Mask R-CNN as a plain segmenter of the targets, the start of meta-training."""

import json
from dataclasses import replace
from pathlib import Path

from cluster.training.config import Training
from cluster.training.driver import train
from cluster.training.dry_run import what_would_run
from cluster.training.presets import PARENT
from eosvos.cli import parse_preset, run, take_switch
from eosvos.config import to_dict

DESCRIPTION = """Train a parent on an encoded dataset. The same command again resumes.

Example:
    python jobs/parent_train.py --preset davis2016-small --data runs/data/fit --backbone-weights mobilenet.safetensors

--dry-run: print what would run, and stop: data, model, memory, steps, and the time to expect.
"""


def main() -> None:
    dry_run, arguments = take_switch("--dry-run")
    training, preset = parse_preset(Training, PARENT, DESCRIPTION, arguments)
    training = replace(training, out=training.out or Path("runs/parent_train") / preset)
    print(json.dumps(to_dict(training), indent=2))
    if dry_run:
        print(what_would_run(training))
        return
    print(f"last checkpoint: {train(training)}")


if __name__ == "__main__":
    run(main)

"""Meta-train: learn an initialization and one learning rate per neuron so that T fine-tuning steps segment."""

import json
from dataclasses import replace
from pathlib import Path

from cluster.training.checkpoints import BEST
from cluster.training.config import MetaTraining
from cluster.training.driver import train
from cluster.training.dry_run import what_would_run
from cluster.training.presets import META
from eosvos.cli import parse_preset, run, take_switch
from eosvos.config import to_dict

DESCRIPTION = """Meta-train on an encoded dataset. The same command again resumes.

Examples:
    python jobs/meta_train.py --preset davis2016-small --data runs/data/fit \\
        --parent runs/parent_train/davis2016-small/last.safetensors
    ray job submit --working-dir . --runtime-env runtime_env.yaml -- python jobs/meta_train.py \\
        --preset davis2016-small --data /shared/data/fit --out /shared/runs/meta
    python jobs/meta_train.py --preset paper --data runs/data/fit --gpu False --dry-run

--dry-run: print what would run, and stop: data, model, memory, steps, and the time to expect.
"""


def main() -> None:
    dry_run, arguments = take_switch("--dry-run")
    training, preset = parse_preset(MetaTraining, META, DESCRIPTION, arguments)
    training = replace(training, out=training.out or Path("runs/meta_train") / preset)
    print(json.dumps(to_dict(training), indent=2))
    if dry_run:
        print(what_would_run(training))
        return
    last = train(training)
    print(f"last checkpoint: {last}")
    if training.held_out > 0:
        print(f"best checkpoint: {last.with_name(BEST)}")


if __name__ == "__main__":
    run(main)

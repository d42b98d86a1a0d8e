"""Meta-train: learn an initialization and one learning rate per neuron so that T fine-tuning steps segment."""

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.training.config import MetaTraining
from cluster.training.presets import META
from eosvos.cli import parse_preset, run
from eosvos.config import to_dict

DESCRIPTION = """Meta-train on encoded datasets. The same command again resumes.

Examples:
    python jobs/meta_train.py --preset davis2016-small --data runs/data/train \\
        --parent runs/parent_train/davis2016-small/last.safetensors
    ray job submit --working-dir . --runtime-env runtime_env.yaml -- python jobs/meta_train.py \\
        --preset davis2016-small --data /shared/data/fit --out /shared/runs/meta
    python jobs/meta_train.py --preset paper --data runs/data/train --no-gpu --dry-run
"""


@dataclass(frozen=True)
class MetaTrain:
    """What to train on, how, and where."""

    training: MetaTraining = MetaTraining()
    out: Path | None = None
    """Run folder; runs/meta_train/PRESET by default. The same command on the same folder resumes."""
    dry_run: bool = False
    """Print what would run, and stop: data, model, memory, steps, and the time to expect."""
    preview: Path | None = None
    """Draw the first 20 tasks to this PNG, and stop."""


PRESETS = {name: MetaTrain(training) for name, training in META.items()}


def main() -> None:
    config, preset = parse_preset(MetaTrain, PRESETS, DESCRIPTION)
    # Late, so that --help is quick.
    from cluster.training.checkpoints import BEST
    from cluster.training.driver import train
    from cluster.training.dry_run import what_would_run
    from cluster.training.preview import draw_preview

    training, folder = config.training, config.out or Path("runs/meta_train") / preset
    print(json.dumps(to_dict(training) | {"out": str(folder)}, indent=2))
    if config.dry_run:
        print(what_would_run(training, folder))
        return
    if config.preview:
        print(f"the first tasks: {draw_preview(training, config.preview)}")
        return
    last = train(training, folder)
    print(f"last checkpoint: {last}")
    if training.held_out > 0:
        print(f"best checkpoint: {last.with_name(BEST)}")


if __name__ == "__main__":
    run(main)

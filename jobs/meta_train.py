"""Meta-train: learn an initialization and one learning rate per neuron so that T fine-tuning steps segment."""

from dataclasses import dataclass
from pathlib import Path

from cluster.training.config import MetaTraining
from cluster.training.presets import META
from eosvos.cli import parse_preset, run

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
    from cluster.training.command import carry_out  # late, so that --help is quick

    carry_out(config.training, config.out or Path("runs/meta_train") / preset, config.dry_run, config.preview)


if __name__ == "__main__":
    run(main)

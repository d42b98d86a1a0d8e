"""Train a parent: Mask R-CNN as a plain segmenter of the targets, the start of meta-training."""

from dataclasses import dataclass
from pathlib import Path

from cluster.training.config import ParentTraining
from cluster.training.presets import PARENT
from eosvos.cli import parse_preset, run

DESCRIPTION = """Train a parent on encoded datasets. The same command again resumes.

Example:
    python jobs/parent_train.py --preset davis2016-small --data runs/data/train --backbone-weights mobilenet.safetensors
"""


@dataclass(frozen=True)
class ParentTrain:
    """What to train on, how, and where."""

    training: ParentTraining = ParentTraining()
    out: Path | None = None
    """Run folder; runs/parent_train/PRESET by default. The same command on the same folder resumes."""
    dry_run: bool = False
    """Print what would run, and stop: data, model, memory, steps, and the time to expect."""
    preview: Path | None = None
    """Draw the first 20 tasks to this PNG, and stop."""


PRESETS = {name: ParentTrain(training) for name, training in PARENT.items()}


def main() -> None:
    config, preset = parse_preset(ParentTrain, PRESETS, DESCRIPTION)
    from cluster.training.command import carry_out  # late, so that --help is quick

    carry_out(config.training, config.out or Path("runs/parent_train") / preset, config.dry_run, config.preview)


if __name__ == "__main__":
    run(main)

"""Sweep test-time settings: which number of steps, which online adaptation, for the accuracy and speed you need."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.sweep.config import Sweep
from cluster.sweep.presets import SWEEP
from eosvos.cli import parse_preset, run
from eosvos.config import to_dict
from eosvos.paths import absolute_path

DESCRIPTION = """Try test-time settings on an encoded dataset: a table, the front of J&F against speed, one to take.

Every setting sees the sequences in the same order. One that another clearly beats, and not slower, is stopped. The same
command again resumes. Writes sweep.md, sweep.csv, figures/ and recommended.json, which jobs/evaluate.py and
jobs/segment.py take with --config.

Examples:
    python jobs/sweep.py --preset demo
    python jobs/sweep.py --preset figure3 --checkpoint best.safetensors --data runs/data/val
    python jobs/sweep.py --preset schedule --checkpoint best.safetensors --data runs/data/val \\
        --target-fps 2
    python jobs/sweep.py -T 5 10 20 --online-interval 0 5 --online-steps 2 5 10 --checkpoint x.safetensors \\
        --data runs/data/val
"""


@dataclass(frozen=True)
class SweepCommand:
    """Which settings to try on what, how, and where."""

    sweep: Sweep = Sweep()
    data: str = ""
    """Encoded dataset to evaluate on; with preset demo synthetic video unless given."""
    out: Path | None = None
    """Folder of the results; runs/sweep/PRESET by default. The same command on the same folder resumes."""


PRESETS = {name: SweepCommand(sweep) for name, sweep in SWEEP.items()}


def main() -> None:
    command, preset = parse_preset(SweepCommand, PRESETS, DESCRIPTION)
    # Late, so that --help is quick.
    from cluster import run_folder
    from cluster.evaluation.setup import resolve
    from cluster.sweep.driver import FREE, sweep
    from eosvos.data.demo_video import demo_video
    from eosvos.learning.optimization import load

    folder = absolute_path(command.out or Path("runs/sweep") / preset, "--out")
    subject = command.sweep.subject
    data = command.data or subject.data
    needs_video = preset == "demo" and not data
    if needs_video:
        data = str(folder / "data-held")
    config = replace(command.sweep, subject=resolve(replace(subject, data=data)))
    print(json.dumps(to_dict(config) | {"out": str(folder)}, indent=2))
    if needs_video:
        load(config.subject.checkpoint)  # to refuse what is none before anything is written
        with run_folder.claimed(folder, config, free=FREE):
            demo_video(folder, "held")
    sweep(config, folder)


if __name__ == "__main__":
    run(main)

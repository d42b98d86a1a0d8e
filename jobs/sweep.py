"""Sweep test-time settings: which number of steps, which online adaptation, for the accuracy and speed you need."""

import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cluster import run_folder
from cluster.evaluation.setup import resolved
from cluster.sweep.config import Sweep
from cluster.sweep.driver import FREE, sweep
from cluster.sweep.presets import SWEEP
from eosvos.cli import parse_preset, run
from eosvos.config import to_dict
from eosvos.data.demo_video import demo_video
from eosvos.learning.optimization import load
from eosvos.paths import absolute_path

DESCRIPTION = """Try test-time settings on an encoded dataset: a table, the front of J&F against speed, one to take.

Every setting sees the sequences in the same order. One that another clearly beats, and not slower, is stopped. The same
command again goes on where it was. Writes sweep.md, sweep.csv, figures/ and recommended.json, which jobs/evaluate.py
and jobs/segment.py take with --config.

Examples:
    python jobs/sweep.py --preset demo
    python jobs/sweep.py --preset figure3 --checkpoint runs/meta_train/x/best.safetensors --data runs/data/val
    python jobs/sweep.py --preset schedule --checkpoint runs/meta_train/x/best.safetensors --data runs/data/val \\
        --target-fps 2
    python jobs/sweep.py -T 5 10 20 --online-interval 0 5 --online-steps 2 5 10 --checkpoint x.safetensors \\
        --data runs/data/val
"""


def main() -> None:
    config, preset = parse_preset(Sweep, SWEEP, DESCRIPTION)
    out = absolute_path(config.out or Path("runs/sweep") / preset, "--out")
    own_video = preset == "demo" and not config.data
    config = resolved(replace(config, out=out, data=str(out / "data-held") if own_video else config.data))
    print(json.dumps(to_dict(config), indent=2))
    if own_video:
        load(config.checkpoint)  # to refuse what is none before anything is written
        with run_folder.claimed(out, config, free=FREE):
            demo_video(out, "held")
    sweep(config, Console(soft_wrap=True, highlight=False))


if __name__ == "__main__":
    run(main)

"""Evaluate a checkpoint: fine-tune on each first frame, segment the rest, score it."""

import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cluster.evaluation.config import Evaluation
from cluster.evaluation.driver import evaluate_all
from cluster.evaluation.presets import EVALUATION
from cluster.evaluation.setup import default_folder
from cluster.training.dry_run import what_would_be_evaluated
from eosvos.cli import parse_preset, run, take_switch, take_values
from eosvos.config import to_dict

DESCRIPTION = """Evaluate a checkpoint on an encoded dataset: J and F per object at several T, the fine-tuning steps.

--data takes several datasets; each has a folder of its own, with --out a folder in there.

Examples:
    python jobs/evaluate.py --checkpoint runs/meta_train/demo/last.safetensors --data runs/data/held -T 0 1 5 10
    python jobs/evaluate.py --checkpoint runs/parent_train/demo/last.safetensors --data runs/data/held -T 5 \\
        --learning-rate 0.002 0.005 0.01 0.02
    python jobs/evaluate.py --preset e-osvos-50-ona --checkpoint runs/meta_train/x/best.safetensors --data D --dry-run
    python jobs/evaluate.py --preset e-osvos-100-ona --checkpoint runs/meta_train/x/best.safetensors \\
        --data runs/data/davis2016 runs/data/davis2017

--dry-run: print what would run, and stop: data, model, what a step and a frame cost here, and the time to expect.
"""


def main() -> None:
    dry_run, arguments = take_switch("--dry-run")
    datasets, rest = take_values("--data", arguments)
    evaluations = []
    for arguments in [["--data", data] for data in datasets] or [[]]:
        evaluation, preset = parse_preset(Evaluation, EVALUATION, DESCRIPTION, [*rest, *arguments])
        out = evaluation.out or default_folder(evaluation, preset)
        if len(datasets) > 1 and evaluation.out is not None:
            out /= Path(evaluation.data).name
        evaluations.append(replace(evaluation, out=out))
    for evaluation in evaluations:
        print(json.dumps(to_dict(evaluation), indent=2))
        if dry_run:
            print(what_would_be_evaluated(evaluation))
    if dry_run:
        return
    evaluate_all(evaluations, Console(soft_wrap=True))


if __name__ == "__main__":
    run(main)

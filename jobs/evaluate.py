"""Evaluate a checkpoint: fine-tune on each first frame, segment the rest, score it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cluster.config import Evaluation
from cluster.evaluation import SequencesFailedError, evaluate_all
from cluster.presets import EVALUATION
from eosvos.cli import parse_preset, run, take_values, to_dict

DESCRIPTION = """Evaluate a checkpoint on an encoded dataset: J and F per object at several T, the fine-tuning steps.

--data takes several datasets; each has a folder of its own, with --out a folder in there.

Examples:
    python jobs/evaluate.py --checkpoint runs/meta_train/demo/last.safetensors --data runs/data/held -T 0 1 5 10
    python jobs/evaluate.py --checkpoint runs/parent_train/demo/last.safetensors --data runs/data/held -T 5 \\
        --learning-rate 0.002 0.005 0.01 0.02
    python jobs/evaluate.py --preset e-osvos-100-ona --checkpoint runs/meta_train/x/best.safetensors \\
        --data runs/data/davis2016 runs/data/davis2017
"""


def main() -> None:
    datasets, rest = take_values("--data", sys.argv[1:])
    evaluations = []
    for arguments in [["--data", data] for data in datasets] or [[]]:
        evaluation, _ = parse_preset(Evaluation, EVALUATION, DESCRIPTION, [*rest, *arguments])
        if len(datasets) > 1 and evaluation.out is not None:
            evaluation = replace(evaluation, out=evaluation.out / Path(evaluation.data).name)
        evaluations.append(evaluation)
    for evaluation in evaluations:
        print(json.dumps(to_dict(evaluation), indent=2))
    try:
        evaluate_all(evaluations, Console(soft_wrap=True))
    except SequencesFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run(main)

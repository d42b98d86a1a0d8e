"""Evaluate a checkpoint: fine-tune on each first frame, segment the rest, score it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.evaluation.config import Evaluation
from cluster.evaluation.presets import EVALUATION
from eosvos.cli import parse_preset, run
from eosvos.config import to_dict

DESCRIPTION = """Evaluate a checkpoint on an encoded dataset: J and F per object at several T, the fine-tuning steps.

The same command again evaluates what is missing.

Examples:
    python jobs/evaluate.py --checkpoint runs/meta_train/demo/last.safetensors --data runs/data/held -T 0 1 5 10
    python jobs/evaluate.py --checkpoint runs/parent_train/demo/last.safetensors --data runs/data/held -T 5 \\
        --learning-rate 0.002 0.005 0.01 0.02
    python jobs/evaluate.py --preset e-osvos-50-ona --checkpoint best.safetensors --data D --dry-run
    python jobs/evaluate.py --preset e-osvos-100-ona --checkpoint best.safetensors \\
        --data runs/data/val runs/data/other
"""


@dataclass(frozen=True)
class Evaluate:
    """What to evaluate on what, how, and where."""

    evaluation: Evaluation = Evaluation()
    data: tuple[str, ...] = ()
    """Encoded datasets to evaluate on; several have a folder each, with --out in there."""
    out: Path | None = None
    """Folder of the results; runs/evaluate/JOB-RUN-FILE-on-DATA-PRESET-T5 by default, after the checkpoint."""
    dry_run: bool = False
    """Print what would run, and stop: data, model, what a step and a frame cost here, and the time to expect."""


PRESETS = {name: Evaluate(evaluation) for name, evaluation in EVALUATION.items()}


def main() -> None:
    config, preset = parse_preset(Evaluate, PRESETS, DESCRIPTION)
    # Late, so that --help is quick.
    from cluster.evaluation.driver import evaluate_all
    from cluster.evaluation.dry_run import what_would_be_evaluated
    from cluster.evaluation.setup import default_folder

    subject = config.evaluation.subject
    datasets = config.data or (subject.data,)
    evaluations = []
    for data in datasets:
        evaluation = replace(config.evaluation, subject=replace(subject, data=data))
        folder = config.out or default_folder(evaluation, preset)
        if len(datasets) > 1 and config.out is not None:
            folder /= Path(data).name
        print(json.dumps(to_dict(evaluation) | {"out": str(folder)}, indent=2))
        if config.dry_run:
            print(what_would_be_evaluated(evaluation))
        evaluations.append((evaluation, folder))
    if not config.dry_run:
        evaluate_all(evaluations)


if __name__ == "__main__":
    run(main)

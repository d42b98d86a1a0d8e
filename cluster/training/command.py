"""What the commands of both trainings do, once their flags are read."""

import json
from pathlib import Path

from cluster.training.checkpoints import BEST
from cluster.training.config import Training
from cluster.training.driver import train
from cluster.training.dry_run import what_would_run
from cluster.training.preview import draw_preview
from eosvos.config import to_dict


def carry_out(training: Training, folder: Path, dry_run: bool, preview: Path | None) -> None:
    """Trains in a run's folder, or says what would run, or draws the first tasks; prints what it does.

    Raises:
        BadInput: what ``train``, ``what_would_run`` or ``draw_preview`` refuses.
    """
    print(json.dumps(to_dict(training) | {"out": str(folder)}, indent=2))
    if dry_run:
        print(what_would_run(training, folder))
    if preview:
        print(f"the first tasks: {draw_preview(training, preview)}")
    if dry_run or preview:
        return
    last = train(training, folder)
    print(f"last checkpoint: {last}")
    if (best := last.with_name(BEST)).is_file():
        print(f"best checkpoint: {best}")

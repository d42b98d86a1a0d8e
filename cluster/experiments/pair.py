"""The trainings of one seed that are compared: meta-learned, and a parent of the same cost."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.run_folder import CONFIG_FILE
from cluster.training import checkpoints, progress
from cluster.training.config import MetaTraining, ParentTraining
from cluster.training.driver import COMPLETE, train
from eosvos.config import read_json
from eosvos.errors import BadInput

FAIR_FOLDER = "fair_parent"
"""The fair parent's run folder, in that of its seed."""
MARGIN = 1.1
"""The fair parent gets this much of the time, as its pace is known only from the past."""


@dataclass(frozen=True)
class Pair:
    """What one seed's trainings gave.

    Attributes:
        seed: of both.
        meta: the meta-learned checkpoint that did best on the held-out sequences.
        fair: the fair parent's last checkpoint.
        meta_seconds: in the outer steps of parent and meta-training together.
        fair_seconds: in the outer steps of the fair parent.
    """

    seed: int
    meta: Path
    fair: Path
    meta_seconds: float
    fair_seconds: float


def train_pair(parent: ParentTraining, meta: MetaTraining, folder: Path) -> Pair:
    """Trains parent, meta-training and fair parent in ``folder``, or goes on where they were.

    The fair parent has the parent's configuration and as many steps as fill the time of the other two; one that is
    there and took at least that time stays, as after another meta-training.

    Raises:
        BadInput: what ``train`` refuses, or no held-out sequences.
    """
    if meta.held_out == 0 or parent.held_out != meta.held_out:
        raise BadInput("--held-out: a comparison chooses on held-out sequences; give both trainings the same share")
    start = train(parent, folder / "parent")
    train(replace(meta, parent=start), folder / "meta")
    spent = _seconds(folder / "parent") + _seconds(folder / "meta")
    steps = fair_steps(progress.read(folder / "parent"), spent)
    if (folder / FAIR_FOLDER / COMPLETE).is_file() and _seconds(folder / FAIR_FOLDER) >= spent:
        steps = progress.read(folder / FAIR_FOLDER)[-1]["step"]
    fair = train(replace(parent, outer=replace(parent.outer, steps=steps)), folder / FAIR_FOLDER)
    return Pair(meta.seed, folder / "meta" / checkpoints.BEST, fair, spent, _seconds(folder / FAIR_FOLDER))


def finished_seeds(out: Path) -> list[int]:
    """The seeds whose trainings are done in ``out``, which has a folder ``seed-N`` for each."""
    folders = (path.parent.parent for path in out.glob(f"seed-*/{FAIR_FOLDER}/{COMPLETE}"))
    done = [path / "meta" for path in folders if (path / "meta" / COMPLETE).is_file()]
    return [int(read_json(path / CONFIG_FILE)["seed"]) for path in done]


def fair_steps(rows: Sequence[progress.StepRow], seconds: float) -> int:
    """Outer steps that fill ``seconds`` at the median pace of a training's progress, with a margin."""
    pace: float = statistics.median(row["seconds"] for row in rows)
    return math.ceil(MARGIN * seconds / pace)


def _seconds(folder: Path) -> float:
    return float(sum(row["seconds"] for row in progress.read(folder)))

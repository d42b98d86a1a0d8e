"""The trainings of one seed that are compared: meta-learned, and parents of the same cost."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.experiments.config import Comparison
from cluster.experiments.fair_parent import FAIR_FOLDER, Candidate, Search, best, fair_steps, seconds_of
from cluster.run_folder import CONFIG_FILE
from cluster.training import checkpoints, progress
from cluster.training.config import MetaTraining, ParentTraining
from cluster.training.driver import COMPLETE, train
from eosvos.config import read_json
from eosvos.errors import BadInput


@dataclass(frozen=True)
class Pair:
    """What one seed's trainings gave.

    Attributes:
        seed: of all.
        meta: the meta-learned checkpoint that did best on the held-out sequences.
        meta_seconds: in the outer steps of parent and meta-training together.
        candidates: the parents of the same cost.
    """

    seed: int
    meta: Path
    meta_seconds: float
    candidates: tuple[Candidate, ...]

    @property
    def fair(self) -> Candidate:
        """The fair parent: the best of them on the held-out sequences."""
        return best(self.candidates)


def train_pair(parent: ParentTraining, meta: MetaTraining, comparison: Comparison, folder: Path) -> Pair:
    """Trains parent, meta-training and the candidates for the fair parent in ``folder``, or goes on where they were.

    A candidate has the parent's configuration but for its targets and its outer learning rate, and as many steps as
    fill the time of the other two. It is validated as often as the meta-training, and in the same way.

    Raises:
        BadInput: what ``train`` and ``evaluate`` refuse, or no held-out sequences.
    """
    if meta.held_out == 0 or parent.held_out != meta.held_out:
        raise BadInput("--held-out: a comparison chooses on held-out sequences; give both trainings the same share")
    start = train(parent, folder / "parent")
    learned = checkpoints.counted(train(replace(meta, parent=start), folder / "meta"))
    spent = seconds_of(folder / "parent") + seconds_of(folder / "meta")
    steps = fair_steps(progress.read(folder / "parent"), spent)
    candidate = replace(
        parent,
        validate_every=math.ceil(steps * meta.validate_every / meta.outer.steps),
        validation_frames=meta.validation_frames,
        validation_windows=meta.validation_windows,
        validation_T=meta.T,
        validation_rates=comparison.rates,
        segmentation=meta.segmentation,
    )
    return Pair(meta.seed, learned, spent, tuple(Search(candidate, steps, spent, comparison, folder).candidates()))


def finished_seeds(out: Path) -> list[int]:
    """The seeds whose meta-training and first candidate are done in ``out``, which has a folder ``seed-N`` for each."""
    folders = (path.parent.parent for path in out.glob(f"seed-*/{FAIR_FOLDER}/{COMPLETE}"))
    done = [path / "meta" for path in folders if (path / "meta" / COMPLETE).is_file()]
    return [int(read_json(path / CONFIG_FILE)["seed"]) for path in done]

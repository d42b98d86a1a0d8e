"""Which checkpoint of a training counts."""

from pathlib import Path

from cluster.training.checkpoints import BEST
from cluster.training.config import Training


def counted(training: Training, last: Path) -> Path:
    """Of a training that is done, whose last checkpoint is ``last``.

    Returns:
        the best one on the held-out sequences where the training is validated there, else the last.
    """
    return last if training.validation is None else last.with_name(BEST)

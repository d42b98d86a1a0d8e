"""Configuration of evaluations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eosvos.config import check_different
from eosvos.packaged import CHECKPOINTS, DEFAULT
from eosvos.segmentation.config import SegmentationConfig


@dataclass(frozen=True)
class Subject:
    """Which checkpoint is evaluated on which data, and on what it runs."""

    checkpoint: Path = CHECKPOINTS[DEFAULT]
    """Checkpoint of jobs/meta_train.py, or of jobs/parent_train.py with --learning-rate, or the name of one in this
    package: real-small or synthetic."""
    data: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = ""  # the commands have the flag; one takes several
    """Encoded dataset to evaluate on."""
    sequences: tuple[str, ...] = ()
    """Names of the sequences to evaluate on; all of the dataset's unless given."""
    frames: int = 0
    """Frames of each sequence, at most, evenly spaced; 0 for all."""
    learning_rate: tuple[float, ...] = ()
    """One learning rate for every neuron instead of learned ones; several make a grid in an evaluation."""
    seed: int = 0
    """Of everything random at test time, and of a sweep's order of the sequences and its search."""
    threads_per_task: int = 1
    """Threads, and CPUs, of each sequence's task."""
    gpus_per_task: float = 0.0
    """GPU, or share of one, of each sequence's task: 0.25 for four at once on one. 0: the CPU."""

    def __post_init__(self) -> None:
        if self.learning_rate:
            check_different("learning_rate", self.learning_rate, positive=True)
        if self.threads_per_task < 1:
            raise ValueError(f"threads_per_task: must be at least 1, got {self.threads_per_task}")
        if self.seed < 0:
            raise ValueError(f"seed: must be at least 0, got {self.seed}")
        if not (0 <= self.gpus_per_task <= 1 or (self.gpus_per_task.is_integer() and self.gpus_per_task > 0)):
            raise ValueError(f"gpus_per_task: must be a share of one, or a whole number, got {self.gpus_per_task}")
        if self.frames != 0 and self.frames < 3:
            raise ValueError(f"frames: must be at least 3, or 0 for all, got {self.frames}")


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate on what, and how."""

    subject: Subject = Subject()
    T: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["-T"])] = (0, 1, 5, 10)
    """Numbers of fine-tuning steps to evaluate."""
    segmentation: SegmentationConfig = SegmentationConfig()

    def __post_init__(self) -> None:
        check_different("T", self.T)

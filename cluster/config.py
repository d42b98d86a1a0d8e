"""Configuration of trainings and evaluations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from cluster.sweep_space import Space
from eosvos.cli import check_different
from eosvos.data.augment import AugmentationConfig
from eosvos.data.tasks import INNER_STEPS, PlanConfig
from eosvos.learning.meta_gradient import Order, last_only, multi_step
from eosvos.learning.outer_loop import OuterConfig
from eosvos.learning.rates import RatesConfig
from eosvos.model.config import ModelConfig
from eosvos.packaged import CHECKPOINT
from eosvos.segmentation.config import SegmentationConfig

PLACEMENT = ("out", "workers", "threads_per_worker", "gpu", "checkpoint_every")
"""Fields that say where and how a training runs, not what it computes; a resumed run may change them."""


@dataclass(frozen=True)
class Training:
    """A parent's training; the base of meta-training."""

    data: str = ""
    """Encoded dataset to train on: a folder or URI that jobs/encode_dataset.py wrote."""
    out: Path | None = None
    """Run folder; runs/<job>/<preset> by default. The same command on the same folder resumes."""
    seed: int = 0
    """Of everything random."""
    backbone_weights: str = "coco"
    """Initial weights: coco, imagenet, none, or a safetensors file with torchvision's names."""
    workers: int = 1
    """Training workers, each with a CPU or GPU of its own; they share the tasks of each meta-batch."""
    threads_per_worker: int = 1
    """Threads of each worker's arithmetic."""
    gpu: bool = False
    """Give each worker a GPU."""
    checkpoint_every: int = 25
    """Outer steps between checkpoints."""
    held_out: float = 0.0
    """Share of the sequences that is not trained on: meta-training picks its best checkpoint there, a comparison the
    parent's rates. The seed draws them; a checkpoint names them."""
    model: ModelConfig = ModelConfig()
    plan: PlanConfig = PlanConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    outer: OuterConfig = OuterConfig()

    def __post_init__(self) -> None:
        for name in ("workers", "threads_per_worker", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed: must be at least 0, got {self.seed}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out: must be at least 0 and below 1, got {self.held_out}")


@dataclass(frozen=True)
class MetaTraining(Training):
    """Meta-training of the initialization and its learning rates (e-OSVOS, Meinhardt and Leal-Taixé 2020)."""

    T: Annotated[int, tyro.conf.arg(aliases=["-T"])] = 5
    """Fine-tuning steps of the inner loop."""
    min_T: int = 0
    """Draw each task's number of steps from this up to T; 0: always T."""
    order: Order = "first"
    """first: step gradients are constants (the paper's); second: they are differentiated too, at three to four times
    the cost; second_in_heads: so in the RoI heads alone."""
    inner_transforms: int = 0
    """Copies of the training frames in each inner step's batch, every one flipped, turned, zoomed and shifted anew, as
    at test time; 0: the frames as they are, in all steps."""
    multi_step: float = 0.0
    """Over this first share of the outer steps the test loss after every inner step counts, less and less (MAML++)."""
    rates: RatesConfig = RatesConfig()
    parent: Path | None = None
    """Checkpoint to start from, instead of --backbone-weights: of jobs/parent_train.py, or of jobs/meta_train.py, whose
    learning rates are taken over; with --rates-learning-rate 0 they stay as they are, while the initialization is
    specialized to another dataset."""
    validate_every: int = 50
    """Outer steps between validations on the held-out sequences; the last step has one too."""
    validation_frames: int = 8
    """Frames of each held-out sequence that are validated on, at most: evenly spaced, first and last do not count."""
    segmentation: SegmentationConfig = SegmentationConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.T < 1:
            raise ValueError(f"T: must be at least 1, got {self.T}")
        if not 0 <= self.min_T <= self.T:
            raise ValueError(f"min_T: must be within 0 and T ({self.T}), got {self.min_T}")
        if self.inner_transforms < 0:
            raise ValueError(f"inner_transforms: must be at least 0, got {self.inner_transforms}")
        if not 0 <= self.multi_step <= 1:
            raise ValueError(f"multi_step: must be within 0 and 1, got {self.multi_step}")
        if self.validate_every < 1:
            raise ValueError(f"validate_every: must be at least 1, got {self.validate_every}")
        if self.validation_frames < 3:
            raise ValueError(f"validation_frames: must be at least 3, got {self.validation_frames}")

    @property
    def steps_named(self) -> str:
        """T, or the range it is drawn from, for people."""
        return f"{self.min_T} to {self.T}" if self.min_T else str(self.T)

    def inner_steps(self, epoch: int, index: int) -> int:
        """Of a task, named by its epoch and index."""
        if self.min_T == 0:
            return self.T
        return int(np.random.default_rng((INNER_STEPS, self.seed, epoch, index)).integers(self.min_T, self.T + 1))

    def loss_weights(self, step: int, inner_steps: int) -> tuple[float, ...]:
        """Of the test losses after 0 to ``inner_steps`` inner steps, in outer step ``step``, counted from 0."""
        annealing = self.multi_step * self.outer.steps
        return multi_step(inner_steps, step / annealing) if step < annealing else last_only(inner_steps)

    def validates_at(self, step: int) -> bool:
        """Whether the state after ``step`` outer steps is to be validated."""
        return self.held_out > 0 and step > 0 and (step % self.validate_every == 0 or step == self.outer.steps)


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate on what, and how."""

    checkpoint: Path = CHECKPOINT
    """Checkpoint of jobs/meta_train.py, or of jobs/parent_train.py with --learning-rate; by default the small one of
    this package."""
    data: str = ""
    """Encoded dataset to evaluate on."""
    out: Path | None = None
    """Folder of the results; runs/evaluate/JOB-RUN-FILE-on-DATA-PRESET-T5 by default, after the checkpoint."""
    T: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["-T"])] = (0, 1, 5, 10)
    """Numbers of fine-tuning steps to evaluate."""
    learning_rate: tuple[float, ...] = ()
    """One learning rate for every neuron instead of learned ones; several make a grid."""
    sequences: tuple[str, ...] = ()
    """Names of the sequences to evaluate on; all of the dataset's unless given."""
    frames: int = 0
    """Frames of each sequence, at most, evenly spaced; 0 for all."""
    segmentation: SegmentationConfig = SegmentationConfig()
    seed: int = 0
    """Of everything random at test time."""
    threads_per_task: int = 1
    """Threads, and CPUs, of each sequence's task."""
    gpus_per_task: float = 0.0
    """GPU, or share of one, of each sequence's task: 0.25 for four at once on one. 0: the CPU."""

    def __post_init__(self) -> None:
        check_different("T", self.T)
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
class Sweep:
    """Which settings of test time to try on what, and how."""

    checkpoint: Path = CHECKPOINT
    """Checkpoint of jobs/meta_train.py, or of jobs/parent_train.py with --learning-rate; by default the small one of
    this package."""
    data: str = ""
    """Encoded dataset to evaluate on; with preset demo synthetic video unless given."""
    out: Path | None = None
    """Folder of the results; runs/sweep/PRESET by default. The same command on the same folder goes on."""
    space: Space = Space()
    search: Literal["grid", "random", "optuna"] = "grid"
    """All settings of the space, a random part of them, or what Optuna suggests from the results so far."""
    samples: int = 40
    """Settings to try, of a random part and with Optuna."""
    objective: Literal["front", "score"] = "front"
    """J&F and speed, where a trial is stopped when another is clearly better and not slower; or J&F alone, by ASHA."""
    stop_early: bool = True
    """Stop trials at the rungs; False: every setting sees every sequence."""
    rungs: tuple[int, ...] = (5, 10, 20, 40)
    """Numbers of sequences after which trials are compared; ASHA takes the first, its double, and so on."""
    target_fps: float | None = None
    """Recommend the most accurate setting with at least so many frames of an object per second ..."""
    target_score: float | None = None
    """... or the fastest with at least this J&F in percent; without either, the most accurate of all."""
    learning_rate: float | None = None
    """One learning rate for every neuron instead of learned ones."""
    sequences: tuple[str, ...] = ()
    """Names of the sequences to evaluate on; all of the dataset's unless given."""
    frames: int = 0
    """Frames of each sequence, at most, evenly spaced; 0 for all."""
    seed: int = 0
    """Of the order of the sequences, the search, and everything random at test time."""
    threads_per_task: int = 1
    """Threads, and CPUs, of each trial."""
    gpus_per_task: float = 0.0
    """GPU, or share of one, of each trial. 0: the CPU."""
    cache_gib: float = 4.0
    """Size of the cache of fine-tuned models, at most; it is removed at the end."""

    def __post_init__(self) -> None:
        # What both have has the same limits.
        shared = ("frames", "seed", "threads_per_task", "gpus_per_task")
        Evaluation(**{name: getattr(self, name) for name in shared})
        if self.samples < 1:
            raise ValueError(f"samples: must be at least 1, got {self.samples}")
        if not self.rungs or min(self.rungs) < 2 or list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs: needs rising numbers of at least 2, got {self.rungs}")
        if self.target_fps is not None and self.target_score is not None:
            raise ValueError("target_score: give it or target_fps, not both")
        if self.target_fps is not None and not self.target_fps > 0:
            raise ValueError(f"target_fps: must be above 0, got {self.target_fps}")
        if self.target_score is not None and not 0 < self.target_score <= 100:
            raise ValueError(f"target_score: must be above 0 and at most 100, got {self.target_score}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"learning_rate: must be above 0, got {self.learning_rate}")
        if not self.cache_gib >= 0:
            raise ValueError(f"cache_gib: must be at least 0, got {self.cache_gib}")

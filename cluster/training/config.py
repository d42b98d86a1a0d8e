"""Configuration of trainings."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import tyro

from eosvos.data.config import AugmentationConfig, PlanConfig, Targets
from eosvos.learning.config import Order, OuterConfig, RatesConfig
from eosvos.model.config import ModelConfig
from eosvos.paths import absolute_address, absolute_path
from eosvos.segmentation.config import SegmentationConfig

if TYPE_CHECKING:
    from eosvos.learning.learner import Learner, MetaLearner, ParentLearner

MAX_WEIGHT = 10_000
"""Of a dataset: whose turn it is is counted out for as many tasks as the weights are together."""
PLACEMENT = ("out", "workers", "threads_per_worker", "gpu", "checkpoint_every")
"""Fields that say where and how a training runs, not what it computes; a resumed run may change them. Folders of older
versions have ``out``."""


@dataclass(frozen=True)
class ValidationSettings:
    """How a training is validated on the sequences that it holds out.

    Attributes:
        T: numbers of fine-tuning steps; the last one decides which checkpoint is best.
        every: outer steps between validations; the last step has one too.
        last_step: of the training.
        frames: of each sequence, at most.
        segmentation: test time.
    """

    T: tuple[int, ...]
    every: int
    last_step: int
    frames: int
    segmentation: SegmentationConfig

    def is_due(self, step: int) -> bool:
        """Whether the state after ``step`` outer steps is to be validated."""
        return step > 0 and (step % self.every == 0 or step == self.last_step)


@dataclass(frozen=True)
class Training(ABC):
    """What every training has; a ``ParentTraining`` or a ``MetaTraining``."""

    job: ClassVar[str]
    """Name of the command, and of MLflow's experiment."""

    data: tuple[str, ...] = ()
    """Encoded datasets to train on: folders or URIs that jobs/encode_dataset.py wrote."""
    data_weights: tuple[int, ...] = ()
    """Of how many tasks each dataset gives how many, such as 5 3 2; unless given, as many as one pass over it has."""
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
    """Share of each dataset's videos that is not trained on: meta-training picks its best checkpoint there, a
    comparison the parent's rates. The seed draws them; a checkpoint names them."""
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
        if not all(1 <= weight <= MAX_WEIGHT for weight in self.data_weights):
            raise ValueError(f"data_weights: must be within 1 and {MAX_WEIGHT}, got {self.data_weights}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out: must be at least 0 and below 1, got {self.held_out}")

    @property
    def start(self) -> Path | None:
        """The checkpoint to start from instead of the initial weights."""
        return None

    @property
    def targets(self) -> Targets:
        """Which objects of its frames are to be found."""
        return "one"

    @property
    def validation(self) -> ValidationSettings | None:
        """None where nothing is validated while the training runs."""
        return None

    def with_absolute_paths(self) -> Self:
        """Raises BadInput for relative paths in a submitted job."""
        return replace(self, data=tuple(absolute_address(address, "--data") for address in self.data))

    @abstractmethod
    def learner(self) -> "Learner":
        """What is learned, and how."""


@dataclass(frozen=True)
class ParentTraining(Training):
    """A parent's training."""

    job: ClassVar[str] = "parent_train"

    parent_targets: Targets = "one"
    """What is to be found in a frame. one: the task's object, the others are background; merged: all objects as a
    single one, with one box and one mask (the paper's parent); instances: all objects, each with a box and a mask of
    its own. Tasks and images are the same: with --draw image a frame comes once whatever its number of objects."""

    @property
    def targets(self) -> Targets:
        return self.parent_targets

    def learner(self) -> "ParentLearner":
        from eosvos.learning.learner import ParentLearner  # late, so that a configuration is read without torch

        return ParentLearner(self.seed, learns_statistics=self.backbone_weights == "none")


@dataclass(frozen=True)
class MetaTraining(Training):
    """Meta-training of the initialization and its learning rates (e-OSVOS, Meinhardt and Leal-Taixé 2020)."""

    job: ClassVar[str] = "meta_train"

    T: Annotated[int, tyro.conf.arg(aliases=["-T"])] = 5
    """Fine-tuning steps of the inner loop."""
    min_T: int = 0
    """Draw each task's number of steps from this up to T; 0: always T."""
    order: Order = "first"
    """first: step gradients are constants (the paper's); second: they are differentiated too, at three to four times
    the cost; second_of_heads: those of the RoI heads are, with respect to all parameters, as the authors' release can;
    second_in_heads: those of the heads with respect to the heads alone."""
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
        if not 0 <= self.multi_step <= 1:
            raise ValueError(f"multi_step: must be within 0 and 1, got {self.multi_step}")
        if self.validate_every < 1:
            raise ValueError(f"validate_every: must be at least 1, got {self.validate_every}")
        if self.validation_frames < 3:
            raise ValueError(f"validation_frames: must be at least 3, got {self.validation_frames}")

    @property
    def start(self) -> Path | None:
        return self.parent

    @property
    def validation(self) -> ValidationSettings | None:
        if self.held_out == 0:
            return None
        return ValidationSettings(
            (0, self.T), self.validate_every, self.outer.steps, self.validation_frames, self.segmentation
        )

    def with_absolute_paths(self) -> Self:
        absolute = super().with_absolute_paths()
        return replace(absolute, parent=self.parent and absolute_path(self.parent, "--parent"))

    def learner(self) -> "MetaLearner":
        from eosvos.learning.learner import MetaLearner  # late, so that a configuration is read without torch

        return MetaLearner(self.T, self.min_T, self.order, self.multi_step, self.outer.steps, self.rates, self.seed)

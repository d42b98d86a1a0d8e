"""Configuration of trainings."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import tyro

from eosvos.config import check_different
from eosvos.data.config import AugmentationConfig, PlanConfig, Targets
from eosvos.learning.config import Order, OuterConfig, RatesConfig
from eosvos.model.config import ModelConfig
from eosvos.paths import absolute_address, absolute_path
from eosvos.segmentation.config import SegmentationConfig

if TYPE_CHECKING:
    from eosvos.learning.learner import Learner, MetaLearner, ParentLearner

MAX_WEIGHT = 10_000
"""Of a dataset: whose turn it is is counted out for as many tasks as the weights are together."""
PLACEMENT = ("out", "workers", "threads_per_worker", "gpu", "checkpoint_every", "validate_every")
"""Fields that say where and how a training runs, not what it learns or how well it does; a resumed run may change them.
Folders of older versions have ``out``."""


@dataclass(frozen=True)
class ValidationSettings:
    """How a training is validated on the sequences that it holds out.

    Attributes:
        T: fine-tuning steps after which a checkpoint is judged; what it does before the first one is said, too.
        learning_rates: single ones of which the best counts; none: the checkpoint's own.
        every: outer steps between validations; the last step has one too.
        last_step: of the training.
        frames: of a window.
        windows: of each sequence, at most.
        segmentation: test time.
    """

    T: int
    learning_rates: tuple[float, ...]
    every: int
    last_step: int
    frames: int
    windows: int
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
    """Share of each dataset's videos that is not trained on: a training picks its best checkpoint there, a comparison
    the parent's rates. The seed draws them; a checkpoint names them."""
    validate_every: int = 0
    """Outer steps between validations on the held-out sequences; the last step has one too. 0: none."""
    validation_frames: int = 8
    """Frames with a mask of a window of consecutive frames that is validated on: fine-tuned on the first, the others
    segmented in order, with the frames between them where not all have a mask."""
    validation_windows: int = 2
    """Windows of each held-out sequence at most, spread over it, the first at its beginning. They do not overlap, so a
    short sequence has fewer; one whose first frame shows no object is left out. Each costs a fine-tuning."""
    model: ModelConfig = ModelConfig()
    plan: PlanConfig = PlanConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    outer: OuterConfig = OuterConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    """Test time of validation."""

    def __post_init__(self) -> None:
        at_least = {"workers": 1, "threads_per_worker": 1, "checkpoint_every": 1, "seed": 0}
        for name, least in (at_least | {"validate_every": 0, "validation_frames": 3, "validation_windows": 1}).items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: must be at least {least}, got {getattr(self, name)}")
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
        if self.held_out == 0 or self.validate_every == 0:
            return None
        T, learning_rates = self.fine_tuning()
        return ValidationSettings(
            T=T,
            learning_rates=learning_rates,
            every=self.validate_every,
            last_step=self.outer.steps,
            frames=self.validation_frames,
            windows=self.validation_windows,
            segmentation=self.segmentation,
        )

    @abstractmethod
    def fine_tuning(self) -> tuple[int, tuple[float, ...]]:
        """Steps of a validation, and single learning rates of which the best counts; none: the checkpoint's own."""

    def with_absolute_paths(self) -> Self:
        """Raises BadInput for relative paths in a submitted job."""
        return replace(self, data=tuple(absolute_address(address, "--data") for address in self.data))

    @abstractmethod
    def learner(self) -> "Learner":
        """What is learned, and how."""


def shared(training: Training) -> dict[str, Any]:
    """The fields that every training has, to make one of another kind with."""
    return {field.name: getattr(training, field.name) for field in fields(Training)}


@dataclass(frozen=True)
class ParentTraining(Training):
    """A parent's training."""

    job: ClassVar[str] = "parent_train"

    parent_targets: Targets = "one"
    """What is to be found in a frame. one: the task's object, the others are background; merged: all objects as a
    single one, with one box and one mask (the paper's parent); instances: all objects, each with a box and a mask of
    its own. Tasks and images are the same: with --draw image a frame comes once whatever its number of objects."""

    validation_T: int = 5
    """Fine-tuning steps after which a parent is validated ..."""
    validation_rates: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01)
    """... with each of these single learning rates, of which the best counts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation_T < 1:
            raise ValueError(f"validation_T: must be at least 1, got {self.validation_T}")
        check_different("validation_rates", self.validation_rates, positive=True)

    def fine_tuning(self) -> tuple[int, tuple[float, ...]]:
        return self.validation_T, self.validation_rates

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
    """Outer steps between validations on the held-out sequences; the last step has one too. 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.T < 1:
            raise ValueError(f"T: must be at least 1, got {self.T}")
        if not 0 <= self.min_T <= self.T:
            raise ValueError(f"min_T: must be within 0 and T ({self.T}), got {self.min_T}")
        if not 0 <= self.multi_step <= 1:
            raise ValueError(f"multi_step: must be within 0 and 1, got {self.multi_step}")

    @property
    def start(self) -> Path | None:
        return self.parent

    def fine_tuning(self) -> tuple[int, tuple[float, ...]]:
        return self.T, ()

    def with_absolute_paths(self) -> Self:
        absolute = super().with_absolute_paths()
        return replace(absolute, parent=self.parent and absolute_path(self.parent, "--parent"))

    def learner(self) -> "MetaLearner":
        from eosvos.learning.learner import MetaLearner  # late, so that a configuration is read without torch

        return MetaLearner(self.T, self.min_T, self.order, self.multi_step, self.outer.steps, self.rates, self.seed)

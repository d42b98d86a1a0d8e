"""Configuration of the trainings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eosvos.data.augment import AugmentationConfig
from eosvos.data.tasks import PlanConfig
from eosvos.learning.meta_gradient import Order, last_only, multi_step
from eosvos.learning.outer_loop import OuterConfig
from eosvos.learning.rates import RatesConfig
from eosvos.model.config import ModelConfig

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
    order: Order = "first"
    """first: step gradients are constants (the paper's); second: they are differentiated too, at about three times the
    cost; second_in_heads: so in the RoI heads alone."""
    multi_step: float = 0.0
    """Over this first share of the outer steps the test loss after every inner step counts, less and less (MAML++)."""
    rates: RatesConfig = RatesConfig()
    parent: Path | None = None
    """Checkpoint of jobs/parent_train.py to start from, instead of --backbone-weights."""
    validate_every: int = 50
    """Outer steps between validations on the held-out sequences; the last step has one too."""
    validation_frames: int = 8
    """Frames of each held-out sequence that are validated on, at most: evenly spaced, first and last do not count."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.T < 1:
            raise ValueError(f"T: must be at least 1, got {self.T}")
        if not 0 <= self.multi_step <= 1:
            raise ValueError(f"multi_step: must be within 0 and 1, got {self.multi_step}")
        if self.validate_every < 1:
            raise ValueError(f"validate_every: must be at least 1, got {self.validate_every}")
        if self.validation_frames < 3:
            raise ValueError(f"validation_frames: must be at least 3, got {self.validation_frames}")

    def loss_weights(self, step: int) -> tuple[float, ...]:
        """Of the test losses after 0 to T inner steps, in outer step ``step``, counted from 0."""
        annealing = self.multi_step * self.outer.steps
        return multi_step(self.T, step / annealing) if step < annealing else last_only(self.T)

    def validates_at(self, step: int) -> bool:
        """Whether the state after ``step`` outer steps is to be validated."""
        return self.held_out > 0 and step > 0 and (step % self.validate_every == 0 or step == self.outer.steps)

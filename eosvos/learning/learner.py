"""Learners: what a training learns from its tasks. Parent and meta-training are the two behind one contract."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypedDict

from eosvos.data.augment import TaskFrames
from eosvos.data.tasks import Task
from eosvos.draws import Stream, generator
from eosvos.errors import BadInput
from eosvos.learning.config import Order, RatesConfig
from eosvos.learning.inner_loop import gradient, load_parameters
from eosvos.learning.meta_gradient import last_only, meta_gradient, multi_step
from eosvos.learning.optimization import Optimization, skeleton
from eosvos.learning.outer_loop import Learned, Losses, TaskGradient
from eosvos.learning.rates import initial_rates
from eosvos.model.mask_rcnn import Batch, MaskRCNN
from eosvos.model.normalization import FrozenBatchNorm, frozen_batch_norms, seen_statistics


class Measures(TypedDict, total=False):
    """What an outer step measures, as means over the tasks that count; names are those of MLflow's metrics."""

    mean_rate: float
    """Mean of the learning rates."""
    kept: int
    """Number of tasks that count: those whose losses and gradients are finite."""
    loss_at_0: float
    """Test loss before fine-tuning."""
    helped: float
    """Share of the tasks on which fine-tuning lowers the test loss."""
    loss_at_T: float
    """Test loss after fine-tuning; a parent's loss."""
    gain: float
    """By how much fine-tuning lowers the test loss."""


class TaskLosses(TypedDict, total=False):
    """The losses of one task; None where it does not count."""

    loss_at_0: float | None
    loss_at_T: float | None


class Learner(Protocol):
    """What a training needs to know of what it learns."""

    @property
    def fine_tuning_steps(self) -> str:
        """The inner steps of a task as a person reads them; empty where there are none."""

    def start(self, given: Optimization, source: str) -> Optimization:
        """What the first outer step starts from.

        Args:
            given: the initialization, and learning rates where the checkpoint that it is from has some.
            source: of ``given``, which errors name.

        Raises:
            BadInput: nothing that this learner can start from.
        """

    def prepare(self, model: MaskRCNN) -> list[FrozenBatchNorm]:
        """Makes the model ready; returns the normalization layers whose statistics are learned, too."""

    def gradient(self, model: MaskRCNN, learned: Learned, frames: TaskFrames, task: Task, step: int) -> TaskGradient:
        """Of one task.

        Args:
            model: is left holding other parameters.
            learned: the values to differentiate at.
            frames: of the task.
            task: whose epoch and index decide every draw.
            step: outer step that the task is of, from 0.
        """

    def measures(self, losses: Sequence[Losses | None], learned: Learned) -> Measures:
        """Of an outer step, after it is taken.

        Args:
            losses: of its tasks; None for those that do not count.
            learned: the values after the step.
        """

    def task_losses(self, losses: Losses | None) -> TaskLosses:
        """Of one task, for the progress of the training."""

    def describe(self, measures: Measures) -> str:
        """A step's measures as a person reads them; at least one task counts."""

    def phases(self) -> list[tuple[float, "Learner"]]:
        """Learners with tasks that all cost alike, in the place of this one, each with its share of the outer steps."""


@dataclass(frozen=True)
class ParentLearner:
    """A plain segmenter of the targets, without fine-tuning in mind (the baseline of the paper's Table 1, row 1).

    Attributes:
        seed: of the training.
        learns_statistics: find the statistics of frozen batch normalization, for a model that starts from nothing.
    """

    seed: int
    learns_statistics: bool

    fine_tuning_steps = ""

    def start(self, given: Optimization, source: str) -> Optimization:
        """Without learning rates."""
        return replace(given, rates=None)

    def prepare(self, model: MaskRCNN) -> list[FrozenBatchNorm]:
        norms = frozen_batch_norms(model) if self.learns_statistics else []
        for norm in norms:
            norm.live = True
        return norms

    def gradient(self, model: MaskRCNN, learned: Learned, frames: TaskFrames, task: Task, step: int) -> TaskGradient:
        """All frames of the task are learned from alike, with all objects that their masks hold."""
        images, masks = [*frames.train_images, *frames.test_images], [*frames.train_masks, *frames.test_masks]
        load_parameters(model, learned.initialization_views)
        batch = model.batch(images, masks, may_be_hidden=True)
        loss, gradients = gradient(model, batch, generator(self.seed, task.epoch, task.index))
        live = [norm for norm in frozen_batch_norms(model) if norm.live]
        return TaskGradient(gradients, [], Losses(float(loss), float(loss)), seen_statistics(live))

    def measures(self, losses: Sequence[Losses | None], learned: Learned) -> Measures:
        counted = [one for one in losses if one is not None]
        if not counted:
            return {"kept": 0}
        return {"kept": len(counted), "loss_at_T": sum(one.at_T for one in counted) / len(counted)}

    def task_losses(self, losses: Losses | None) -> TaskLosses:
        return {"loss_at_T": losses and losses.at_T}

    def describe(self, measures: Measures) -> str:
        return f"loss {measures['loss_at_T']:.3f}"

    def phases(self) -> list[tuple[float, Learner]]:
        return [(1.0, self)]


@dataclass(frozen=True)
class MetaLearner:
    """The initialization and its learning rates (e-OSVOS, Meinhardt and Leal-Taixé 2020, section 3).

    Attributes:
        T: fine-tuning steps of the inner loop.
        min_T: each task's number of steps is drawn from this up to T; 0: always T.
        order: of the meta-gradient.
        multi_step: share of the outer steps over which the test loss after every inner step counts, less and less.
        outer_steps: of the training.
        rates: which learning rates are learned, and where they start.
        seed: of the training.
    """

    T: int
    min_T: int
    order: Order
    multi_step: float
    outer_steps: int
    rates: RatesConfig
    seed: int

    @property
    def fine_tuning_steps(self) -> str:
        return f"{self.min_T} to {self.T}" if self.min_T else str(self.T)

    def start(self, given: Optimization, source: str) -> Optimization:
        """With the learning rates that are given, or with new ones.

        Raises:
            BadInput: learning rates of another kind.
        """
        config, rates = self.rates, given.rates
        wanted = f"{config.rate_level}, {config.rate_form}"
        if rates is not None and f"{rates.level}, {rates.form}" != wanted:
            raise BadInput(
                f"{source}: its learning rates are {rates.level}, {rates.form}, not {wanted}; set --rate-level "
                f"{rates.level} --rate-form {rates.form} to go on with them"
            )
        facts = {"T": self.T, "order": self.order, "initial_rate": None if rates else config.initial_rate}
        like = given.initialization[given.parameter_names()[0]]
        rates = rates or initial_rates(skeleton(given.config), config, self.seed, like)
        return replace(given, rates=rates, facts={**given.facts, **facts})

    def prepare(self, model: MaskRCNN) -> list[FrozenBatchNorm]:
        return []

    def gradient(self, model: MaskRCNN, learned: Learned, frames: TaskFrames, task: Task, step: int) -> TaskGradient:
        """Fine-tunes on the train frames, and differentiates the loss on the test frames."""
        train: Batch = model.batch(list(frames.train_images), list(frames.train_masks))
        test: Batch = model.batch(list(frames.test_images), list(frames.test_masks), may_be_hidden=True)
        weights = self.loss_weights(step, self.inner_steps(task.epoch, task.index))
        return meta_gradient(model, learned, train, test, weights, (self.seed, task.epoch, task.index), self.order)

    def inner_steps(self, epoch: int, index: int) -> int:
        """Of a task, named by its epoch and index."""
        if self.min_T == 0:
            return self.T
        return int(Stream.INNER_STEPS.numpy(self.seed, epoch, index).integers(self.min_T, self.T + 1))

    def loss_weights(self, step: int, inner_steps: int) -> tuple[float, ...]:
        """Of the test losses after 0 to ``inner_steps`` inner steps, in outer step ``step``, counted from 0."""
        annealing = self.multi_step * self.outer_steps
        return multi_step(inner_steps, step / annealing) if step < annealing else last_only(inner_steps)

    def measures(self, losses: Sequence[Losses | None], learned: Learned) -> Measures:
        counted = [one for one in losses if one is not None]
        measures: Measures = {"mean_rate": learned.mean_rate(), "kept": len(counted)}
        if not counted:
            return measures
        at_0, at_T = (sum(values) / len(counted) for values in zip(*counted, strict=True))
        helped = sum(one.at_T < one.at_0 for one in counted) / len(counted)
        return {**measures, "loss_at_0": at_0, "helped": helped, "loss_at_T": at_T, "gain": at_0 - at_T}

    def task_losses(self, losses: Losses | None) -> TaskLosses:
        return {"loss_at_0": losses and losses.at_0, "loss_at_T": losses and losses.at_T}

    def describe(self, measures: Measures) -> str:
        return (
            f"test loss {measures['loss_at_0']:.3f} at 0, {measures['loss_at_T']:.3f} at {self.fine_tuning_steps}, "
            f"mean rate {measures['mean_rate']:.4f}"
        )

    def phases(self) -> list[tuple[float, Learner]]:
        """With the mean number of inner steps: one whose first outer step has the test loss after every inner step,
        and one without."""
        mean = round((self.min_T + self.T) / 2) if self.min_T else self.T
        typical = replace(self, T=mean, min_T=0)
        plain: list[tuple[float, Learner]] = [(1 - self.multi_step, replace(typical, multi_step=0.0))]
        return plain + ([(self.multi_step, typical)] if self.multi_step > 0 else [])

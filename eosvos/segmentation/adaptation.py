"""One object's model: fine-tuned on the frames whose mask is given, and online on what it segmented lately."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from eosvos.data.augment import transform_batch
from eosvos.data.config import SPATIAL
from eosvos.data.views import Seen, View, tight_box
from eosvos.data.warps import LabelledFrame
from eosvos.draws import Stream, generator
from eosvos.learning.inner_loop import fine_tune, load_parameters
from eosvos.model.mask_rcnn import Batch, MaskRCNN
from eosvos.segmentation.config import SegmentationConfig


@dataclass
class AdaptedObject:
    """One object and the model that is adapted to it.

    Attributes:
        id: its value in the masks.
        start: position of the frame with its latest given mask; it is segmented in those that follow.
        model: adapted in place.
        given: the frames with a given mask to learn from: the first one, and the latest one.
        view: of the latest given frame.
        start_box: around the latest given mask, or the mask before the last online adaptation; None where it is empty.
        box: around the last frame's mask; None where it is empty.
        last_seen: the last of these that was not None.
        lost: frames since then.
        recent: the frames that the next online adaptation learns from; None where the object is not seen.
        steps: fine-tuning steps taken on the given frames.
        state: how many of them lead to the state that the model has: all, unless there is a time budget, or fewer or
            more, as ``check_itself`` says.
        computed: how many of them were computed here: all, unless a cache knew some.
        fine_tuned: parameters of that state; none where online adaptation never goes back to them.
        unchecked: parameters after all of the steps, where the model was left in another state by ``check_itself``.
        overlap: of what the model finds in the latest given frame with the mask there, as intersection over union; None
            where it was not looked at.
        diverged: a loss or a parameter is not finite after fine-tuning; the object is taken as never visible.
        diverged_adaptations: how many online adaptations diverged, so that ``fine_tuned`` was taken in their place.
        fine_tuning_seconds, adaptation_seconds, segmentation_seconds: time spent on this object; fine-tuning in all,
            the others in the last pass over the video.
    """

    id: int
    start: int
    model: MaskRCNN
    given: tuple[LabelledFrame, ...]
    view: View
    recent: deque[LabelledFrame | None]
    start_box: Seen | None = None
    box: Seen | None = None
    last_seen: Seen | None = None
    lost: int = 0
    steps: int = 0
    state: int = 0
    computed: int = 0
    fine_tuned: list[Tensor] = field(default_factory=list)
    unchecked: list[Tensor] = field(default_factory=list)
    overlap: float | None = None
    diverged: bool = False
    diverged_adaptations: int = 0
    fine_tuning_seconds: float = 0.0
    adaptation_seconds: float = 0.0
    segmentation_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._begin_anew()

    @property
    def propagated_box(self) -> Seen | None:
        """The box that box propagation jitters; None where nothing is seen since the last online adaptation."""
        return self.start_box if self.box is None else self.box

    @property
    def seconds(self) -> float:
        """Fine-tuning, adaptation and segmentation together."""
        return self.fine_tuning_seconds + self.adaptation_seconds + self.segmentation_seconds

    @contextmanager
    def segmenting(self) -> Iterator[None]:
        """Counts the time within as segmentation."""
        began = time.perf_counter()
        yield
        self.segmentation_seconds += time.perf_counter() - began

    def rewind(self) -> None:
        """Goes back to the start of a pass over the video; what fine-tuning gave stays."""
        self._begin_anew()
        self.recent.clear()
        self.adaptation_seconds = self.segmentation_seconds = 0.0
        self.diverged_adaptations = 0

    def see(self, box: Tensor | None, view: View) -> None:
        """Takes in the box (4,) around the object in a frame, in pixels of the view's input; None: it is not seen."""
        self.box = None if box is None else Seen(box, view)
        self.last_seen = self.box or self.last_seen
        self.lost = self.lost + 1 if self.box is None else 0

    def _begin_anew(self) -> None:
        self.last_seen = None
        self.see(tight_box(self.given[-1].shown), self.view)
        self.start_box = self.box


class FineTuner(Protocol):
    """``fine_tune_object``, or what gives the same state by another way."""

    def __call__(
        self,
        adapted: AdaptedObject,
        rates: list[Tensor],
        T: int,
        config: SegmentationConfig,
        seed: int,
        time_budget: float,
        on_step: Callable[[int], None],
    ) -> None:
        """As ``fine_tune_object``."""


def fine_tune_object(
    adapted: AdaptedObject,
    rates: list[Tensor],
    T: int,
    config: SegmentationConfig,
    seed: int,
    time_budget: float = math.inf,
    on_step: Callable[[int], None] = lambda steps: None,
) -> None:
    """Takes the fine-tuning steps that are missing to T; none where the object has diverged.

    The draws of a step depend on the seed, the object and the step's number alone, so that steps can be taken in parts.

    Args:
        adapted: changed in place.
        rates: learning rates, broadcastable to the model's parameters.
        T: number of steps in all.
        config: how many transforms.
        seed: of all draws.
        time_budget: seconds after which no further step begins. With a finite one the state that is left is the one,
            of those before and after each step, with the lowest loss on the given frames as they are.
        on_step: called with the number of steps taken, after each.
    """
    if adapted.diverged:
        return
    began = time.perf_counter()
    if at_T := adapted.unchecked or adapted.fine_tuned:
        load_parameters(adapted.model, at_T)
    if adapted.unchecked:
        adapted.state = adapted.steps
    adapted.unchecked, adapted.overlap = [], None
    best = _Best(adapted, seed) if math.isfinite(time_budget) else None
    draws = Stream.FINE_TUNING.ids(seed, adapted.id)
    for step in range(adapted.steps, T):
        if time.perf_counter() - began >= time_budget:
            break
        losses = fine_tune(adapted.model, step_batch(adapted, config, seed, step), rates, [step], draws)
        adapted.diverged = not is_finite(adapted.model, losses)
        if adapted.diverged:
            break
        adapted.steps = adapted.state = step + 1
        adapted.computed += 1
        on_step(adapted.steps)
        if best is not None:
            best.consider(adapted.steps)
    if best is not None:
        adapted.state = best.restore()
        adapted.diverged = False
    goes_back = config.online_interval and not adapted.diverged
    adapted.fine_tuned = parameters_of(adapted.model) if goes_back else []
    adapted.fine_tuning_seconds += time.perf_counter() - began


def parameters_of(model: MaskRCNN) -> list[Tensor]:
    """Copies of a model's parameters, in its order."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def step_batch(adapted: AdaptedObject, config: SegmentationConfig, seed: int, step: int) -> Batch:
    """What a fine-tuning step learns from: the given frames, transformed as ``config`` says, drawn by ``seed``."""
    if config.transforms == 0:
        return batch_of(adapted.model, adapted.given)
    rng = Stream.TRANSFORMS.numpy(seed, adapted.id, step)
    return batch_of(adapted.model, transform_batch(adapted.given, step, config.transforms, SPATIAL, rng))


def batch_of(model: MaskRCNN, frames: Sequence[LabelledFrame]) -> Batch:
    """Frames as the model takes them."""
    return model.batch([frame.image for frame in frames], [frame.mask for frame in frames])


def is_finite(model: MaskRCNN, losses: Sequence[float]) -> bool:
    """Whether inner steps went well: losses and parameters are finite."""
    finite = all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    return finite and all(map(math.isfinite, losses))


class _Best:
    """The state with the lowest loss on the given frames as they are, of all that were considered."""

    def __init__(self, adapted: AdaptedObject, seed: int) -> None:
        self._model, self._batch = adapted.model, batch_of(adapted.model, adapted.given)
        self._seed = Stream.STATE.ids(seed, adapted.id, 0)
        self._loss, self._parameters = math.inf, parameters_of(adapted.model)
        self._state = adapted.state
        self.consider(adapted.state)

    def consider(self, state: int) -> None:
        with torch.no_grad():
            loss = float(self._model.loss(self._batch, generator(*self._seed)))  # the same samples every time
            if loss < self._loss:
                self._loss, self._state = loss, state
                torch._foreach_copy_(self._parameters, list(self._model.parameters()))

    def restore(self) -> int:
        load_parameters(self._model, self._parameters)
        return self._state

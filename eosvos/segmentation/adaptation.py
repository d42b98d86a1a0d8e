"""One object's model: fine-tuned on the frames whose mask is given, and online on what it segmented lately."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from eosvos.data.augment import transform_batch
from eosvos.data.config import SPATIAL
from eosvos.data.sequence import VOID
from eosvos.data.views import Seen, View, tight_box
from eosvos.data.warps import LabelledFrame
from eosvos.draws import Stream, generator
from eosvos.learning.inner_loop import descend, fine_tune, load_parameters
from eosvos.model.mask_rcnn import Batch, MaskRCNN
from eosvos.model.roi_heads import PASTINGS, Following
from eosvos.segmentation.config import SegmentationConfig

MORE_STEPS = 10
"""Fine-tuning steps that the check of an object may add."""


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
    adapted.unchecked, adapted.overlap, adapted.state = [], None, adapted.steps
    best = _Best(adapted, seed) if math.isfinite(time_budget) else None
    draws = Stream.FINE_TUNING.ids(seed, adapted.id)
    for step in range(adapted.steps, T):
        if time.perf_counter() - began >= time_budget:
            break
        losses = fine_tune(adapted.model, _step_batch(adapted, config, seed, step), rates, [step], draws)
        adapted.diverged = not _is_finite(adapted.model, losses)
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
    adapted.fine_tuned = _parameters(adapted.model) if goes_back else []
    adapted.fine_tuning_seconds += time.perf_counter() - began


def check_itself(
    adapted: AdaptedObject,
    initialization: Callable[[], list[Tensor]],
    rates: list[Tensor],
    config: SegmentationConfig,
    seed: int,
) -> None:
    """Sees to it that the object is found in its own given frame, as ``config.self_check`` asks.

    Of ten states one may see nothing at all, and would lose a whole video. The steps that are taken here are those that
    fine-tuning would take next.

    Args:
        adapted: fine-tuned; left in another state where it has to be.
        initialization: gives one tensor per trainable parameter.
        rates: learning rates, broadcastable to the model's parameters.
        config: what is asked.
        seed: of all draws, as in fine-tuning.
    """
    if config.self_check == 0 or adapted.steps == 0 or adapted.diverged or adapted.overlap is not None:
        return
    began = time.perf_counter()
    adapted.overlap = _overlap(adapted, config)
    if adapted.overlap < config.self_check:
        adapted.unchecked = _parameters(adapted.model)
        overlap, state, parameters = max(_states(adapted, initialization, rates, config, seed), key=lambda one: one[0])
        load_parameters(adapted.model, parameters)
        adapted.overlap, adapted.state = overlap, state
        if adapted.fine_tuned:
            adapted.fine_tuned = _parameters(adapted.model)
    adapted.fine_tuning_seconds += time.perf_counter() - began


def _states(
    adapted: AdaptedObject,
    initialization: Callable[[], list[Tensor]],
    rates: list[Tensor],
    config: SegmentationConfig,
    seed: int,
) -> Iterator[tuple[float, int, list[Tensor]]]:
    """Overlap, number of steps and parameters: of the first state after the one at hand that passes the check, or of
    all, those from the initialization on, too."""
    model, draws = adapted.model, Stream.FINE_TUNING.ids(seed, adapted.id)

    def from_here(steps: range) -> Iterator[tuple[float, int, list[Tensor]]]:
        for step in steps:
            losses = fine_tune(model, _step_batch(adapted, config, seed, step), rates, [step], draws)
            if not _is_finite(model, losses):
                return
            yield _overlap(adapted, config), step + 1, _parameters(model)

    yield _overlap(adapted, config), adapted.steps, _parameters(model)
    for later in from_here(range(adapted.steps, adapted.steps + MORE_STEPS)):
        yield later
        if later[0] >= config.self_check:
            return
    load_parameters(model, initialization())
    yield _overlap(adapted, config), 0, _parameters(model)
    yield from from_here(range(adapted.steps - 1))


def _overlap(adapted: AdaptedObject, config: SegmentationConfig) -> float:
    """Of what is found in the latest given frame with the mask there, as intersection over union."""
    frame, view = adapted.given[-1], adapted.view
    following = None
    if (box := tight_box(frame.shown)) is not None:
        following = Following(box, config.continuity, config.follow_threshold)
    found = adapted.model.detect(frame.image, following=following)
    if not found:
        return 0.0
    mask = PASTINGS[config.pasting](found[0], view.size, view.size).cpu() >= 0.5
    return float((mask & frame.shown).sum() / (mask | frame.shown).sum())


def _parameters(model: MaskRCNN) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def adapt_online(
    adapted: AdaptedObject,
    initialization: Callable[[], list[Tensor]],
    rates: list[Tensor],
    position: int,
    config: SegmentationConfig,
    seed: int,
) -> None:
    """Online adaptation before the frame at ``position``, where one is due.

    It learns from the given frames as they are and the ``recent`` ones. Where the object was not seen in any of these
    the state to start from stays as it is, but that the release learns from the given frames alone then; where the
    steps diverge it is the fine-tuned one. Box propagation, too, starts anew.

    Args:
        adapted: changed in place.
        initialization: gives one tensor per trainable parameter, for ``online_reset`` "initialization".
        rates: learning rates, broadcastable to the model's parameters.
        position: of the next frame in the video.
        config: interval, steps, reset, choice, weight.
        seed: of all draws.
    """
    passed = position - adapted.start - 1
    if not config.online_interval or passed == 0 or passed % config.online_interval or adapted.diverged:
        return
    began = time.perf_counter()
    adapted.start_box = adapted.box
    if config.online_reset == "first_frame":
        load_parameters(adapted.model, adapted.fine_tuned)
    elif config.online_reset == "initialization":
        load_parameters(adapted.model, initialization())
    seen = [frame for frame in adapted.recent if frame is not None]
    if seen or config.online_choice == "release":
        loss = _online_loss(adapted, seen, config.online_first_weight)
        draws = Stream.ONLINE.ids(seed, adapted.id, position)
        losses = descend(adapted.model, loss, rates, range(config.online_steps), draws)
        if not _is_finite(adapted.model, losses):
            load_parameters(adapted.model, adapted.fine_tuned)
            adapted.diverged_adaptations += 1
    adapted.adaptation_seconds += time.perf_counter() - began


def _online_loss(
    adapted: AdaptedObject, recent: Sequence[LabelledFrame], weight: float
) -> Callable[[torch.Generator], Tensor]:
    """Mean over the frames to learn from, where a given one counts ``weight`` times; one batch where that is 1."""
    model, given = adapted.model, adapted.given
    if weight == 1 or not recent:
        return partial(model.loss, _batch(model, [*given, *recent]))
    share = weight * len(given) / (weight * len(given) + len(recent))
    batches = (share, _batch(model, given)), (1 - share, _batch(model, recent))
    return lambda draws: torch.stack([part * model.loss(batch, draws) for part, batch in batches]).sum()


def online_mask(probability: Tensor, config: SegmentationConfig) -> Tensor:
    """What online adaptation takes for the object: (H, W) of probabilities -> uint8 as in a ``LabelledFrame``."""
    mask = (probability >= config.online_threshold).to(torch.uint8)
    if config.online_void is None:
        return mask
    return torch.where((mask == 0) & (probability >= config.online_void), VOID, mask)


def remember(adapted: AdaptedObject, image: Tensor, mask: Tensor, position: int, config: SegmentationConfig) -> None:
    """Keeps a segmented frame, where the next online adaptation learns from it.

    Of each interval those are the latest frames, or those of the authors' release: from the second one on.

    Args:
        adapted: changed in place.
        image: (3, h, w) uint8, the frame at the model's input size.
        mask: (h, w) uint8, ``online_mask`` at that size.
        position: of the frame in the video.
        config: interval, frames, choice.
    """
    if not config.online_interval:
        return
    place = (position - adapted.start - 1) % config.online_interval
    if config.online_choice == "latest" or 1 <= place <= config.online_frames:
        frame = LabelledFrame(image, mask)
        adapted.recent.append(frame if frame.shown.any() else None)


def _step_batch(adapted: AdaptedObject, config: SegmentationConfig, seed: int, step: int) -> Batch:
    if config.transforms == 0:
        return _batch(adapted.model, adapted.given)
    rng = Stream.TRANSFORMS.numpy(seed, adapted.id, step)
    return _batch(adapted.model, transform_batch(adapted.given, step, config.transforms, SPATIAL, rng))


def _batch(model: MaskRCNN, frames: Sequence[LabelledFrame]) -> Batch:
    return model.batch([frame.image for frame in frames], [frame.mask for frame in frames])


def _is_finite(model: MaskRCNN, losses: Sequence[float]) -> bool:
    """Whether inner steps went well: losses and parameters are finite."""
    finite = all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    return finite and all(map(math.isfinite, losses))


class _Best:
    """The state with the lowest loss on the given frames as they are, of all that were considered."""

    def __init__(self, adapted: AdaptedObject, seed: int) -> None:
        self._model, self._batch = adapted.model, _batch(adapted.model, adapted.given)
        self._seed = Stream.STATE.ids(seed, adapted.id, 0)
        self._loss, self._parameters = math.inf, _parameters(adapted.model)
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

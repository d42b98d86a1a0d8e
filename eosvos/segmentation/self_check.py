"""After fine-tuning an object is found in its own given frame: by a later state, or by an earlier one."""

import time
from collections.abc import Callable, Iterator

from torch import Tensor

from eosvos.data.views import tight_box
from eosvos.draws import Stream
from eosvos.learning.inner_loop import fine_tune, load_parameters
from eosvos.model.roi_heads import PASTINGS, Following
from eosvos.segmentation.adaptation import AdaptedObject, is_finite, parameters_of, step_batch
from eosvos.segmentation.config import SegmentationConfig

MORE_STEPS = 10
"""Fine-tuning steps that the check of an object may add."""


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
        adapted.unchecked = parameters_of(adapted.model)
        overlap, state, parameters = max(_states(adapted, initialization, rates, config, seed), key=lambda one: one[0])
        load_parameters(adapted.model, parameters)
        adapted.overlap, adapted.state = overlap, state
        if adapted.fine_tuned:
            adapted.fine_tuned = parameters_of(adapted.model)
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
            losses = fine_tune(model, step_batch(adapted, config, seed, step), rates, [step], draws)
            if not is_finite(model, losses):
                return
            yield _overlap(adapted, config), step + 1, parameters_of(model)

    yield _overlap(adapted, config), adapted.steps, parameters_of(model)
    for later in from_here(range(adapted.steps, adapted.steps + MORE_STEPS)):
        yield later
        if later[0] >= config.self_check:
            return
    load_parameters(model, initialization())
    yield _overlap(adapted, config), 0, parameters_of(model)
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

"""Online adaptation: an object's model learns from what it segmented lately."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from eosvos.data.sequence import VOID
from eosvos.data.warps import LabelledFrame
from eosvos.draws import Stream
from eosvos.learning.inner_loop import descend, load_parameters
from eosvos.segmentation.adaptation import AdaptedObject, batch_of, is_finite
from eosvos.segmentation.config import SegmentationConfig


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
        if not is_finite(adapted.model, losses):
            load_parameters(adapted.model, adapted.fine_tuned)
            adapted.diverged_adaptations += 1
    adapted.adaptation_seconds += time.perf_counter() - began


def _online_loss(
    adapted: AdaptedObject, recent: Sequence[LabelledFrame], weight: float
) -> Callable[[torch.Generator], Tensor]:
    """Mean over the frames to learn from, where a given one counts ``weight`` times; one batch where that is 1."""
    model, given = adapted.model, adapted.given
    if weight == 1 or not recent:
        return partial(model.loss, batch_of(model, [*given, *recent]))
    share = weight * len(given) / (weight * len(given) + len(recent))
    batches = (share, batch_of(model, given)), (1 - share, batch_of(model, recent))
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

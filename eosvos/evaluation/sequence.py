"""Evaluation of one sequence: fine-tune on its first frame, segment the rest, score it."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eosvos.data.palette import encode_mask
from eosvos.data.sequence import VOID, Sequence, object_ids
from eosvos.errors import BadInput
from eosvos.evaluation.results import FineTuning, SequenceResult
from eosvos.learning.optimization import Optimization
from eosvos.metrics.config import Protocol, protocol_of
from eosvos.metrics.sequence_scores import SequenceScorer
from eosvos.metrics.table import ObjectResult
from eosvos.segmentation.adaptation import AdaptedObject, FineTuner, fine_tune_object
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.one_shot import OneShotSegmenter

Masks = list[list[bytes]]
"""For each fine-tuning per frame the predicted ids as palette PNG; the first is the given mask."""


@dataclass(frozen=True)
class SequenceSettings:
    """How sequences are evaluated.

    Attributes:
        T: numbers of fine-tuning steps.
        learning_rates: single ones to try; without any the checkpoint's own.
        segmentation: the rest of test time.
        seed: of everything random.
        frames: of each sequence at most, evenly spaced; 0 for all.
        threads: of the arithmetic.
        device: as torch names it.
    """

    T: tuple[int, ...]
    learning_rates: tuple[float, ...] = ()
    segmentation: SegmentationConfig = SegmentationConfig()
    seed: int = 0
    frames: int = 0
    threads: int = 1
    device: str = "cpu"

    def frames_of(self, sequence: Sequence) -> Sequence:
        """The sequence with the frames that are evaluated."""
        return sequence.thin(self.frames) if self.frames else sequence


def evaluate_sequence(
    optimization: Optimization,
    sequence: Sequence,
    settings: SequenceSettings,
    fine_tuner: FineTuner = fine_tune_object,
) -> tuple[list[SequenceResult], Masks]:
    """Fine-tunes on the first frame, segments and scores the rest, for each learning rate and T.

    A larger T continues from the next smaller one: the draws of a step depend on its number alone.

    Args:
        optimization: what is evaluated.
        sequence: with all its frames.
        settings: how.
        fine_tuner: takes the steps.

    Returns:
        the results, without objects where there is nothing to score, and the masks of each.

    Raises:
        BadInput: nothing to follow, or frames that cannot be decoded.
    """
    torch.set_num_threads(settings.threads)
    sequence = settings.frames_of(sequence)
    protocol = protocol_of(sequence.dataset)
    given, entered = _given(sequence, protocol)
    names = sequence.dataset, sequence.name
    results: list[SequenceResult] = []
    encoded: Masks = []
    for rate in settings.learning_rates or (None,):
        at_rate = optimization if rate is None else optimization.with_single_rate(rate)
        segmenter = OneShotSegmenter(at_rate, settings.segmentation, settings.seed, settings.device, fine_tuner)
        adapted: dict[int, AdaptedObject] = {}
        computed = 0
        for T in sorted(settings.T):
            fine_tuning = FineTuning(rate, T)
            if T == 0 and results:  # the rate does not matter before the first step
                results.append(replace(results[0], fine_tuning=fine_tuning))
                encoded.append(encoded[0])
                continue
            frames = _Frames(sequence)
            scorer = SequenceScorer(entered, protocol.frames(len(sequence)), sequence.name)
            masks: list[bytes] = []
            loading = video = 0.0
            for segmented in segmenter.segment(frames, given, T, adapted=adapted, keep_going=True):
                scorer.add(len(masks), segmented.mask, frames.truths.popleft())
                masks.append(encode_mask(segmented.mask))
                loading += segmented.loading_seconds
                video += segmented.seconds
            video += sum(one.fine_tuning_seconds for one in adapted.values())
            encoded.append(masks)
            scored = tuple(
                ObjectResult(*names, len(sequence), adapted[score.object_id].seconds, score, loading, video)
                for score in scorer.scores()
            )
            diverged = any(one.diverged for one in adapted.values())
            before, computed = computed, sum(one.computed for one in adapted.values())
            results.append(SequenceResult(sequence.name, fine_tuning, scored, diverged, computed - before))
    return results, encoded


class _Frames:
    """Decodes a sequence frame by frame, with the annotation, as the release's loader does.

    The annotations of the frames that were taken wait in ``truths``.
    """

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self.truths: deque[Tensor | None] = deque()

    def __iter__(self) -> Iterator[Tensor]:
        for position in range(len(self._sequence)):
            image, truth = self._sequence.frame(position)
            self.truths.append(truth)
            yield image


def _given(sequence: Sequence, protocol: Protocol) -> tuple[dict[int, Tensor], dict[int, int]]:
    """What is given: position of a frame -> the mask of the objects that enter there; object id -> that position.

    Raises BadInput where nothing can be followed.
    """
    entered = protocol.entered(_ids(sequence.mask(position)) for position in range(len(sequence)))
    if not entered:
        raise BadInput(
            f"{sequence.dataset}, {sequence.name}: {'no' if protocol.late_objects else 'its first'} frame has "
            f"{'an' if protocol.late_objects else 'no'} object, so there is nothing to follow"
        )
    given: dict[int, Tensor] = {}
    for start in dict.fromkeys(entered.values()):
        mask = sequence.mask(start)
        assert mask is not None  # it has objects
        new = torch.tensor([one for one, position in entered.items() if position == start], dtype=torch.uint8)
        given[start] = torch.where(torch.isin(mask, new), mask, 0).to(torch.int16).masked_fill(mask == VOID, -1)
    return given, entered


def _ids(mask: Tensor | None) -> tuple[int, ...]:
    return () if mask is None else tuple(number for number in object_ids(mask) if number != VOID)

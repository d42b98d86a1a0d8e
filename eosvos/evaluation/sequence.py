"""Evaluation of one sequence: fine-tune on its first frame, segment the rest, score it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eosvos.data.palette import encode_mask
from eosvos.data.sequence import Sequence, object_ids, without_void
from eosvos.errors import BadInput
from eosvos.evaluation.results import FineTuning, SequenceResult
from eosvos.learning.optimization import Optimization
from eosvos.metrics.sequence_scores import score_entering
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
        the results, and the masks of each.

    Raises:
        BadInput: nothing to follow, nothing to score, or frames that cannot be decoded.
    """
    torch.set_num_threads(settings.threads)
    sequence = settings.frames_of(sequence)
    decoded = [sequence.frame(position) for position in range(len(sequence))]
    images, truths = [image for image, _ in decoded], [mask for _, mask in decoded]
    given = _given(sequence, truths)
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
            frames = segmenter.segment(images, given, T, adapted=adapted, keep_going=True)
            masks = [frame.mask for frame in frames]
            diverged = any(one.diverged for one in adapted.values())
            entered = {object_id: one.start for object_id, one in adapted.items()}
            scored = tuple(
                ObjectResult(sequence.dataset, sequence.name, len(sequence), adapted[score.object_id].seconds, score)
                for score in score_entering(masks, truths, entered, sequence.name)
            )
            encoded.append([encode_mask(mask) for mask in masks])
            before, computed = computed, sum(one.computed for one in adapted.values())
            results.append(SequenceResult(sequence.name, fine_tuning, scored, diverged, computed - before))
    return results, encoded


def _given(sequence: Sequence, truths: list[Tensor | None]) -> dict[int, Tensor]:
    """Position of a frame -> the mask of the objects that are first seen there.

    Of DAVIS those of the first frame alone: that is what each of the public evaluators does. Raises BadInput where
    nothing can be followed.
    """
    first_only = sequence.dataset in ("davis2016", "davis2017")
    given: dict[int, Tensor] = {}
    seen: set[int] = set()
    for position, mask in enumerate(truths[:1] if first_only else truths):
        if mask is None:
            continue
        known = without_void(mask) if not sequence.merge_objects else mask
        new = [object_id for object_id in object_ids(known) if object_id not in seen]
        if new:
            given[position] = torch.where(torch.isin(known, torch.tensor(new, dtype=torch.uint8)), known, 0)
            seen |= set(new)
    if not given:
        raise BadInput(
            f"{sequence.dataset}, {sequence.name}: {'its first' if first_only else 'no'} frame has "
            f"{'no' if first_only else 'an'} object, so there is nothing to follow"
        )
    return given

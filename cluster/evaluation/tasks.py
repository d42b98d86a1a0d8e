"""The Ray tasks of an evaluation: one per sequence, a bounded number at once, tried again where they fail."""

import time
from collections.abc import Callable
from dataclasses import replace

import ray
import torch
from rich.console import Console

from cluster.evaluation.config import Evaluation
from cluster.evaluation.journal import SequenceResult
from cluster.failures import last_line
from cluster.fan_out import FanOut
from cluster.session import total
from eosvos.data.palette import encode_mask
from eosvos.data.parquet import EncodedDataset
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization
from eosvos.metrics.sequence_scores import score_sequence
from eosvos.metrics.table import ObjectResult
from eosvos.segmentation.adaptation import AdaptedObject, FineTuner, fine_tune_object
from eosvos.segmentation.one_shot import OneShotSegmenter
from eosvos.text import time_left

IN_FLIGHT = 2
"""Tasks that are with Ray at once, for each that can run."""

Masks = list[list[bytes]]
Land = Callable[[Sequence, list[SequenceResult], Masks], None]


def evaluate_sequence(
    optimization: Optimization,
    dataset: EncodedDataset,
    index: int,
    evaluation: Evaluation,
    fine_tuner: FineTuner = fine_tune_object,
) -> tuple[list[SequenceResult], Masks]:
    """Fine-tunes on the first frame, segments and scores the rest, for each learning rate and T.

    A larger T goes on from the next smaller one: the draws of a step depend on its number alone.

    Returns:
        the results, and for each of them per frame the predicted ids as palette PNG; the first is the given mask.

    Raises:
        BadInput: a first frame without a mask or an object, or frames that cannot be decoded.
    """
    torch.set_num_threads(evaluation.threads_per_task)
    sequence = sequence_of(dataset, index, evaluation)
    decoded = [sequence.frame(position) for position in range(len(sequence))]
    images, truths = [image for image, _ in decoded], [mask for _, mask in decoded]
    first_mask = truths[0]
    if first_mask is None or not first_mask.any():
        raise BadInput(f"{dataset.uri}, {sequence.name}: its first frame has no object, so there is nothing to follow")
    results: list[SequenceResult] = []
    encoded: Masks = []
    for rate in evaluation.learning_rate or (None,):
        at_rate = optimization if rate is None else optimization.with_single_rate(rate)
        device = "cuda" if evaluation.gpus_per_task else "cpu"
        segmenter = OneShotSegmenter(at_rate, evaluation.segmentation, evaluation.seed, device, fine_tuner)
        adapted: dict[int, AdaptedObject] = {}
        computed = 0
        for T in sorted(evaluation.T):
            if T == 0 and results:  # the rate does not matter before the first step
                results.append(replace(results[0], learning_rate=rate))
                encoded.append(encoded[0])
                continue
            frames = segmenter.segment(images, {0: first_mask}, T, adapted=adapted, keep_going=True)
            masks = [frame.mask for frame in frames]
            diverged = any(own.diverged for own in adapted.values())
            scores = score_sequence(masks, truths, list(adapted), sequence.name)
            scored = tuple(
                ObjectResult(sequence.dataset, sequence.name, len(sequence), own.seconds, score)
                for own, score in zip(adapted.values(), scores, strict=True)
            )
            encoded.append([encode_mask(mask) for mask in masks])
            before, computed = computed, sum(own.computed for own in adapted.values())
            results.append(SequenceResult(sequence.name, rate, T, scored, diverged, computed - before))
    return results, encoded


def sequence_of(dataset: EncodedDataset, index: int, evaluation: Evaluation) -> Sequence:
    """The sequence at ``index``, with the frames that are evaluated."""
    sequence = dataset.sequences[index]
    return sequence.thin(evaluation.frames) if evaluation.frames else sequence


def evaluate_sequences(
    evaluation: Evaluation,
    optimization: Optimization,
    dataset: EncodedDataset,
    missing: list[int],
    land: Land,
    console: Console,
) -> dict[str, Exception]:
    """Evaluates the sequences ``missing`` (indices), the longest first.

    Args:
        evaluation: how.
        optimization: what.
        dataset: on what.
        missing: indices of its sequences, at least one.
        land: called with each sequence, its results and its masks as it ends.
        console: says how far it is.

    Returns:
        what was raised by the sequences that failed, by name.
    """
    work = {index: len(sequence_of(dataset, index, evaluation)) * len(dataset.visible(index)) for index in missing}
    longest_first = sorted(missing, key=lambda index: -work[index])
    # Ray would try again for ever what does not fit into memory.
    on_ray = ray.remote(num_cpus=evaluation.threads_per_task, num_gpus=evaluation.gpus_per_task, max_retries=0)
    task = on_ray(evaluate_sequence)
    shared = ray.put(optimization)
    tasks: FanOut[int, tuple[list[SequenceResult], Masks]] = FanOut(
        lambda index: task.remote(shared, dataset, index, evaluation),
        longest_first,
        tasks_at_once(evaluation) * IN_FLIGHT,
        describe=lambda index: dataset.sequences[index].name,
    )
    failed: dict[str, Exception] = {}
    started, finished = time.monotonic(), 0
    for number, ended in enumerate(tasks, 1):
        tasks.at_once = tasks_at_once(evaluation) * IN_FLIGHT  # the cluster may have grown
        sequence = sequence_of(dataset, ended.item, evaluation)
        if isinstance(ended.outcome, Exception):
            console.print(f"{sequence.name}: failed ({last_line(ended.outcome)})", highlight=False)
            failed[sequence.name] = ended.outcome
            continue
        results, masks = ended.outcome
        land(sequence, results, masks)
        finished += work[ended.item]
        left = time_left(time.monotonic() - started, finished, sum(work.values()) - finished)
        shown = ", ".join(
            f"{100 * max(result.j_and_f for result in results if result.T == T):.1f} at T={T}" for T in evaluation.T
        )
        if len(evaluation.learning_rate) > 1:
            shown += f" (best of {len(evaluation.learning_rate)} rates)"
        for result in results:
            if result.diverged:
                console.print(f"{sequence.name}: fine-tuning diverged at {result.setting.replace('_', ' ')}")
        console.print(f"{number}/{len(missing)} {sequence.name}: J&F {shown}; {left}", highlight=False)
    return failed


def tasks_at_once(evaluation: Evaluation) -> int:
    """Tasks that the cluster can run at once."""
    slots = total("CPU") // evaluation.threads_per_task
    if evaluation.gpus_per_task:
        slots = min(slots, total("GPU") // evaluation.gpus_per_task)
    return max(int(slots), 1)

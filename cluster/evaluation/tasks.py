"""The Ray tasks of an evaluation: one per sequence, the longest first."""

import logging
import time
from collections.abc import Callable
from typing import Any

import ray

from cluster.evaluation.config import Evaluation, Subject
from cluster.failures import last_line
from cluster.fan_out import FanOut
from cluster.session import total
from eosvos.data.parquet import EncodedDataset
from eosvos.data.sequence import Sequence
from eosvos.evaluation.results import SequenceResult
from eosvos.evaluation.sequence import Masks, SequenceSettings, evaluate_sequence
from eosvos.learning.optimization import Optimization
from eosvos.text import time_left

log = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Tasks that are with Ray at once, for each that can run."""

Save = Callable[[Sequence, list[SequenceResult], Masks], None]


def settings_of(evaluation: Evaluation) -> SequenceSettings:
    """What a task has to know of an evaluation."""
    subject = evaluation.subject
    return SequenceSettings(
        evaluation.T,
        subject.learning_rate,
        evaluation.segmentation,
        subject.seed,
        subject.frames,
        subject.threads_per_task,
        "cuda" if subject.gpus_per_task else "cpu",
    )


def task_options(subject: Subject) -> dict[str, Any]:
    """Ray's options of a task; without its retries, which would go on for ever with what does not fit into memory."""
    return {"num_cpus": subject.threads_per_task, "num_gpus": subject.gpus_per_task, "max_retries": 0}


def tasks_at_once(subject: Subject) -> int:
    """Tasks that the cluster can run at once."""
    slots = total("CPU") // subject.threads_per_task
    if subject.gpus_per_task:
        slots = min(slots, total("GPU") // subject.gpus_per_task)
    return max(int(slots), 1)


def evaluate_sequences(
    evaluation: Evaluation, optimization: Optimization, dataset: EncodedDataset, missing: list[int], save: Save
) -> dict[str, Exception]:
    """Evaluates the sequences ``missing``, and says how far it is.

    Args:
        evaluation: how.
        optimization: what.
        dataset: on what.
        missing: indices of its sequences, at least one.
        save: called with each sequence, with the frames that are evaluated, its results and its masks as it ends.

    Returns:
        what was raised by the sequences that failed, by name.
    """
    settings, sequences = settings_of(evaluation), dataset.sequences
    work = {index: len(settings.frames_of(sequences[index])) * len(dataset.visible(index)) for index in missing}
    task, shared = ray.remote(**task_options(evaluation.subject))(evaluate_sequence), ray.put(optimization)
    tasks: FanOut[int, tuple[list[SequenceResult], Masks]] = FanOut(
        lambda index: task.remote(shared, sequences[index], settings),
        sorted(missing, key=lambda index: -work[index]),
        tasks_at_once(evaluation.subject) * IN_FLIGHT,
        describe=lambda index: sequences[index].name,
    )
    failed: dict[str, Exception] = {}
    started, finished = time.monotonic(), 0
    for number, ended in enumerate(tasks, 1):
        tasks.at_once = tasks_at_once(evaluation.subject) * IN_FLIGHT  # a cluster may grow
        sequence = settings.frames_of(sequences[ended.item])
        if ended.error is not None:
            log.info("%s: failed (%s)", sequence.name, last_line(ended.error))
            failed[sequence.name] = ended.error
            continue
        results, masks = ended.result
        save(sequence, results, masks)
        finished += work[ended.item]
        left = time_left(time.monotonic() - started, finished, sum(work.values()) - finished)
        for result in results:
            if result.diverged:
                log.info("%s: fine-tuning diverged at %s", sequence.name, result.fine_tuning)
        log.info("%d/%d %s: %s; %s", number, len(missing), sequence.name, _scores(evaluation, results), left)
    return failed


def _scores(evaluation: Evaluation, results: list[SequenceResult]) -> str:
    if not results[0].objects:
        return "no masks to score against"
    shown = "J&F " + ", ".join(
        f"{100 * max(result.j_and_f for result in results if result.T == T):.1f} at T={T}" for T in evaluation.T
    )
    rates = len(evaluation.subject.learning_rate)
    return f"{shown} (best of {rates} rates)" if rates > 1 else shown

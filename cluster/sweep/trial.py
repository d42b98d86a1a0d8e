"""One trial of a sweep: a setting, evaluated sequence by sequence; a plain Tune function over Ray tasks."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import ray
from ray import tune

from cluster import run_folder
from cluster.evaluation.config import Evaluation
from cluster.evaluation.journal import Journal
from cluster.evaluation.tasks import settings_of, task_options
from cluster.fan_out import FanOut
from cluster.sweep.cache import FineTuningCache, key_of
from cluster.sweep.config import Sweep
from cluster.sweep.rungs import SCORES, SECONDS, SEQUENCES, STEPS
from cluster.sweep.space import Setting, setting_of
from eosvos.data.parquet import EncodedDataset
from eosvos.data.sequence import Sequence
from eosvos.evaluation.results import SequenceResult, check_scored
from eosvos.evaluation.sequence import Masks, SequenceSettings, evaluate_sequence
from eosvos.files import locked
from eosvos.learning.optimization import Optimization
from eosvos.metrics.table import ObjectRow, SummaryRow, object_rows, summarize

SETTING = "setting"
"""A trial's values, in Tune's configuration of it."""
TRIALS, CACHE = "trials", "fine_tuning"
"""Folders in a sweep's."""


class Status(StrEnum):
    """How a trial ended, or what is known of its setting."""

    COMPLETE = "complete"
    """It has seen every sequence."""
    STOPPED = "stopped"
    """Another one is clearly better and not slower: it takes no more steps and no more time."""
    FAILED = "failed"
    """With all its tries."""


def evaluation_of(sweep: Sweep, setting: Setting) -> Evaluation:
    """The evaluation of one setting."""
    return Evaluation(sweep.subject, (setting.T,), setting.segmentation)


@dataclass(frozen=True)
class SharedByTrials:
    """What all trials of a sweep work on.

    Attributes:
        sweep: with absolute paths.
        folder: of the sweep.
        dataset: to evaluate on.
        order: indices of its sequences, in the order in which every trial sees them.
        inputs: of the journals, ``digest`` of checkpoint and data.
    """

    sweep: Sweep
    folder: Path
    dataset: EncodedDataset
    order: tuple[int, ...]
    inputs: str

    def journal(self, setting: Setting) -> Journal:
        """What a setting's evaluation has found so far."""
        return Journal(self.folder / TRIALS / setting.name, self.inputs)

    def fine_tuner(self, sequence: str, settings: SequenceSettings) -> FineTuningCache:
        """Of one sequence: what every setting with the same fine-tuning shares."""
        key = key_of(self.inputs, sequence, settings)
        limit = int(self.sweep.cache_gib * 2**30)
        return FineTuningCache(self.folder / CACHE, key, self.sweep.space.T, limit)


def run_trial(config: dict[str, Any], shared: SharedByTrials, optimization: Optimization) -> None:
    """Evaluates a setting on one sequence after another, and reports after each.

    What is in the journal is reported and not computed: after a pause or a failure, and in a sweep that resumes.
    """
    setting = setting_of(config[SETTING])
    evaluation, journal = evaluation_of(shared.sweep, setting), shared.journal(setting)
    run_folder.claim(journal.folder, evaluation)
    rows: list[ObjectRow] = []
    settings, learned = settings_of(evaluation), ray.put(optimization)
    task = ray.remote(**task_options(evaluation.subject))(evaluate_with_cache)
    for number, index in enumerate(shared.order, 1):
        sequence = shared.dataset.sequences[index]
        with locked(journal.folder, wait=True):  # a searcher may try a setting twice at once
            entry = journal.entry(sequence.name)
            if entry is None:
                # One try: Tune begins the trial again, and what is in the journal by then is not computed again.
                tasks: FanOut[Sequence, tuple[list[SequenceResult], Masks]] = FanOut(
                    lambda one: task.remote(learned, one, settings, shared),
                    [sequence],
                    at_once=1,
                    attempts=1,
                    describe=lambda one: f"{setting.name} on {one.name}",
                )
                results, masks = next(iter(tasks)).result
                entry = journal.add(results, masks, settings.frames_of(sequence).frame_names)
        rows += [row for result in entry.results for row in object_rows(result.objects)]
        tune.report({SEQUENCES: number, STEPS: setting.T} | report_of(rows))


def evaluate_with_cache(
    optimization: Optimization, sequence: Sequence, settings: SequenceSettings, shared: SharedByTrials
) -> tuple[list[SequenceResult], Masks]:
    """The Ray task: ``evaluate_sequence`` with the cache."""
    results, masks = evaluate_sequence(optimization, sequence, settings, shared.fine_tuner(sequence.name, settings))
    check_scored(results)
    return results, masks


def report_of(rows: list[ObjectRow]) -> dict[str, Any]:
    """J&F with its standard error, seconds per frame of one object, and J&F of every object."""
    (summary,) = summarize(rows)
    return {
        "j_and_f": summary["j_and_f"],
        "j_and_f_se": summary["j_and_f_se"],
        SECONDS: seconds_per_frame(summary),
        SCORES: [row["j_and_f"] for row in rows],
    }


def seconds_per_frame(summary: SummaryRow) -> float:
    """Of one object, fine-tuning included: one over its FPS. Every evaluation measures it."""
    if summary["fps"] is None:
        raise ValueError("an object has no time")
    return 1 / summary["fps"]

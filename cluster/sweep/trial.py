"""One trial of a sweep: a setting, evaluated sequence by sequence; a plain Tune function over Ray tasks."""

from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from cluster import run_folder
from cluster.evaluation.config import Evaluation
from cluster.evaluation.journal import Journal
from cluster.evaluation.tasks import evaluate_sequence, sequence_of
from cluster.sweep.cache import FineTuningCache, key_of
from cluster.sweep.config import Sweep
from cluster.sweep.rungs import SCORES, SECONDS, SEQUENCES
from cluster.sweep.space import Setting, setting_of
from eosvos.data.parquet import EncodedDataset
from eosvos.files import locked
from eosvos.learning.optimization import Optimization
from eosvos.metrics.table import Row, object_rows, summarize

SETTING = "setting"
"""A trial's values, in Tune's configuration of it."""
TRIALS, CACHE = "trials", "fine_tuning"
"""Folders in a sweep's."""


def evaluation_of(sweep: Sweep, setting: Setting) -> Evaluation:
    """The evaluation of one setting, in a folder of its own in the sweep's."""
    assert sweep.out is not None
    return Evaluation(
        checkpoint=sweep.checkpoint,
        data=sweep.data,
        out=sweep.out / TRIALS / setting.name,
        T=(setting.T,),
        learning_rate=() if sweep.learning_rate is None else (sweep.learning_rate,),
        sequences=sweep.sequences,
        frames=sweep.frames,
        segmentation=setting.segmentation,
        seed=sweep.seed,
        threads_per_task=sweep.threads_per_task,
        gpus_per_task=sweep.gpus_per_task,
    )


@dataclass(frozen=True)
class SharedByTrials:
    """What all trials of a sweep work on.

    Attributes:
        sweep: with absolute paths.
        dataset: to evaluate on.
        order: indices of its sequences, in the order in which every trial sees them.
        inputs: of the journals, ``digest`` of checkpoint and data.
    """

    sweep: Sweep
    dataset: EncodedDataset
    order: tuple[int, ...]
    inputs: str

    def journal(self, setting: Setting) -> Journal:
        """What a setting's evaluation has found so far."""
        out = evaluation_of(self.sweep, setting).out
        assert out is not None
        return Journal(out, self.inputs)

    def fine_tuner(self, sequence: str, evaluation: Evaluation) -> FineTuningCache:
        """Of one sequence: what every setting with the same fine-tuning shares."""
        assert self.sweep.out is not None
        key = key_of(self.inputs, sequence, evaluation)
        limit = int(self.sweep.cache_gib * 2**30)
        return FineTuningCache(self.sweep.out / CACHE, key, self.sweep.space.T, limit)


def run_trial(config: dict[str, Any], shared: SharedByTrials, optimization: Optimization) -> None:
    """Evaluates a setting on one sequence after another, and reports after each.

    What is in the journal is reported and not computed: after a pause or a failure, and in a sweep that goes on.
    """
    setting = setting_of(config[SETTING])
    evaluation, journal = evaluation_of(shared.sweep, setting), shared.journal(setting)
    run_folder.claim(journal.out, evaluation)
    rows: list[Row] = []
    learned = ray.put(optimization)
    for number, index in enumerate(shared.order, 1):
        with locked(journal.out, wait=True):  # a searcher may try a setting twice at once
            entry = journal.entry(shared.dataset.sequences[index].name)
            if entry is None:
                task = ray.remote(evaluate_once).options(
                    num_cpus=evaluation.threads_per_task, num_gpus=evaluation.gpus_per_task, max_retries=0
                )
                results, masks = ray.get(task.remote(learned, index, evaluation, shared))
                names = sequence_of(shared.dataset, index, evaluation).frame_names
                entry = journal.add(results, masks, names)
        rows += [row for result in entry.results for row in object_rows(result.objects)]
        tune.report({SEQUENCES: number} | report_of(rows))


def evaluate_once(optimization: Optimization, index: int, evaluation: Evaluation, shared: SharedByTrials) -> Any:
    """The Ray task: ``evaluate_sequence`` with the cache."""
    fine_tuner = shared.fine_tuner(shared.dataset.sequences[index].name, evaluation)
    return evaluate_sequence(optimization, shared.dataset, index, evaluation, fine_tuner)


def report_of(rows: list[Row]) -> dict[str, Any]:
    """J&F with its standard error, seconds per frame of one object, and J&F of every object."""
    (summary,) = summarize(rows)
    return {
        "j_and_f": summary["j_and_f"],
        "j_and_f_se": summary["j_and_f_se"],
        SECONDS: summary["seconds"] / summary["frames"],
        SCORES: [row["j_and_f"] for row in rows],
    }

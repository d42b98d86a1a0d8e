"""Validation beside a meta-training: J&F on the held-out sequences at T = 0 and T; what does best is kept."""

from typing import Any

import ray

from cluster import checkpoints, progress
from cluster.config import MetaTraining
from cluster.evaluation import Evaluation, SequenceResult, evaluate_sequence
from cluster.session import DATA_TASK_CPUS, total
from eosvos.data.parquet import EncodedDataset
from eosvos.data.tasks import held_out
from eosvos.learning.optimization import load


class Validation:
    """Validates the candidates that the training's worker 0 leaves in the run's folder, a Ray task per sequence.

    A candidate is a file, so that one whose validation a kill cut short is validated when the run goes on.
    """

    def __init__(self, training: MetaTraining, dataset: EncodedDataset, first_step: int) -> None:
        """Takes up what a killed run left: ``first_step`` is the outer step that it resumes from."""
        assert training.out is not None
        self._training, self._dataset, self._folder = training, dataset, training.out
        self._pending: dict[int, list[Any]] = {}
        progress.forget_after(self._folder, first_step, progress.VALIDATION_FILE)
        for step in checkpoints.candidates(self._folder):
            if step > first_step:
                checkpoints.candidate(self._folder, step).unlink()
            else:
                self.start(step)

    def start(self, step: int) -> None:
        """Starts to validate the candidate of an outer step, unless that was done or begun before."""
        if step in self._pending:
            return
        if step in {row["step"] for row in self.rows()}:
            self._settle(step)
            return
        training = self._training
        file = checkpoints.candidate(self._folder, step)
        evaluation = Evaluation(
            file,
            self._dataset.uri,
            T=(0, training.T),
            frames=training.validation_frames,
            seed=training.seed,
            gpu=training.gpu and total("GPU") > training.workers,
        )
        # A quarter of a CPU, so that it fits beside the workers and their streams on a small machine.
        task = ray.remote(num_cpus=DATA_TASK_CPUS, num_gpus=int(evaluation.gpu))(evaluate_sequence)
        shared = ray.put(load(file))
        indices = held_out(len(self._dataset.sequences), training.held_out, training.seed)
        self._pending[step] = [task.remote(shared, self._dataset, index, evaluation) for index in indices]

    def finished(self, *, wait: bool = False) -> list[progress.Row]:
        """Rows of the validations that ended since the last call, in the order of their steps; ``wait``: of all."""
        rows = []
        for step, tasks in sorted(self._pending.items()):
            _, running = ray.wait(tasks, num_returns=len(tasks), timeout=None if wait else 0)
            if running:
                break
            del self._pending[step]
            rows.append(self._row(step, [result for part in ray.get(tasks) for result in part]))
            progress.append(self._folder, rows[-1], progress.VALIDATION_FILE)
            self._settle(step)
        return rows

    def rows(self) -> list[progress.Row]:
        """All validations of the run so far."""
        return progress.read(self._folder, progress.VALIDATION_FILE)

    def _row(self, step: int, results: list[SequenceResult]) -> progress.Row:
        row: progress.Row = {"step": step}
        for name, T in (("validation_j_and_f_at_0", 0), ("validation_j_and_f_at_T", self._training.T)):
            scores = [own.scores.j_and_f for result in results if result.T == T for own in result.objects]
            row[name] = sum(scores) / len(scores)
        return row

    def _settle(self, step: int) -> None:
        """A candidate that was validated becomes the best one, or goes."""
        file = checkpoints.candidate(self._folder, step)
        best = max(self.rows(), key=lambda row: (row["validation_j_and_f_at_T"], row["step"]))
        if best["step"] == step:
            file.replace(self._folder / checkpoints.BEST)
        else:
            file.unlink()

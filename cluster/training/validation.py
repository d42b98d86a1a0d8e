"""Validation beside a meta-training: J&F on the held-out sequences at T = 0 and T; what does best is kept."""

from collections import Counter
from typing import Any

import ray

from cluster.evaluation.config import Evaluation
from cluster.evaluation.journal import SequenceResult
from cluster.evaluation.tasks import ATTEMPTS, evaluate_sequence
from cluster.failures import last_line
from cluster.session import DATA_TASK_CPUS, bad_input_in, total
from cluster.training import checkpoints, progress
from cluster.training.config import MetaTraining
from eosvos.data.parquet import EncodedDataset
from eosvos.data.tasks import held_out
from eosvos.learning.optimization import Optimization, load

AT_0, AT_T = "validation_j_and_f_at_0", "validation_j_and_f_at_T"


class Validation:
    """Validates the candidates that the training leaves in the run's folder, one after another.

    A candidate is a file until it was validated, so that nothing is lost by a kill.

    Attributes:
        failed: outer step -> what was raised by its validation, as often as a sequence is tried; its candidate stays.
    """

    def __init__(self, training: MetaTraining, dataset: EncodedDataset, first_step: int) -> None:
        """Takes up what a killed run left: ``first_step`` is the outer step that it resumes from."""
        assert training.out is not None
        self._training, self._dataset, self._folder = training, dataset, training.out
        self._indices = held_out(len(dataset.sequences), training.held_out, training.seed)
        self._running: tuple[int, list[Any]] | None = None
        self._attempts: Counter[int] = Counter()
        self.failed: dict[int, Exception] = {}
        progress.forget_after(self._folder, first_step, progress.VALIDATION_FILE)
        for step in checkpoints.candidates(self._folder):
            if step > first_step:  # it will be made again
                checkpoints.candidate(self._folder, step).unlink()

    def poll(self, timeout: float = 0) -> progress.Row | None:
        """The row of a validation that has ended, if any; otherwise sees to it that one is running where any waits."""
        if self._running is None:
            self._start_next()
            if self._running is None:
                return None
        step, tasks = self._running
        _, unfinished = ray.wait(tasks, num_returns=len(tasks), timeout=timeout)
        if unfinished:
            return None
        self._running = None
        try:
            results = [result for part in ray.get(tasks) for result in part]
        except Exception as error:
            self._attempts[step] += 1
            bad = bad_input_in(error)
            if bad is not None or self._attempts[step] == ATTEMPTS:
                self.failed[step] = bad or error
            else:
                print(f"the validation of step {step} failed and is tried again: {last_line(error)}", flush=True)
            return None
        row = self._row(step, results)
        progress.append(self._folder, row, progress.VALIDATION_FILE)
        self._settle(step)
        return row

    def waiting(self) -> list[int]:
        """The outer steps whose validation is not done, without those that failed."""
        return [step for step in checkpoints.candidates(self._folder) if step not in self.failed]

    def rows(self) -> list[progress.Row]:
        """All validations of the run so far."""
        return progress.read(self._folder, progress.VALIDATION_FILE)

    def _start_next(self) -> None:
        done = {row["step"] for row in self.rows()}
        for step in self.waiting():
            if step in done:
                self._settle(step)
                continue
            training, file = self._training, checkpoints.candidate(self._folder, step)
            evaluation = Evaluation(
                file,
                self._dataset.uri,
                T=(0, training.T),
                frames=training.validation_frames,
                segmentation=training.segmentation,
                seed=training.seed,
                gpus_per_task=float(training.gpu and total("GPU") > training.workers),
            )
            # A quarter of a CPU, so that it fits beside the workers and their streams on a small machine.
            # No retries by Ray, which would try again for ever what does not fit into memory.
            task = ray.remote(num_cpus=DATA_TASK_CPUS, num_gpus=evaluation.gpus_per_task, max_retries=0)(
                _evaluate_after
            )
            shared = ray.put(load(file))
            tasks: list[Any] = []
            for number, index in enumerate(self._indices):
                # As many at once as there are workers: each takes memory like one of them.
                before = tasks[number - training.workers] if number >= training.workers else None
                tasks.append(task.remote(before, shared, self._dataset, index, evaluation))
            self._running = step, tasks
            return

    def _row(self, step: int, results: list[SequenceResult]) -> progress.Row:
        row: progress.Row = {"step": step}
        for name, T in ((AT_0, 0), (AT_T, self._training.T)):
            scores = [own.scores.j_and_f for result in results if result.T == T for own in result.objects]
            row[name] = sum(scores) / len(scores)
        return row

    def _settle(self, step: int) -> None:
        """A candidate that was validated becomes the best one, or goes."""
        file = checkpoints.candidate(self._folder, step)
        best = max(self.rows(), key=lambda row: (row[AT_T], row["step"]))
        if best["step"] == step and file.is_file():
            file.replace(self._folder / checkpoints.BEST)
        else:
            file.unlink(missing_ok=True)


def _evaluate_after(
    before: object, optimization: Optimization, dataset: EncodedDataset, index: int, evaluation: Evaluation
) -> list[SequenceResult]:
    """Results of ``evaluate_sequence``, once the task that gives ``before`` has ended."""
    return evaluate_sequence(optimization, dataset, index, evaluation)[0]

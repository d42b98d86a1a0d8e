"""Validation beside a training: J&F on the held-out sequences without and with fine-tuning; what does best is kept."""

import logging
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

import ray

from cluster.fan_out import FanOut
from cluster.session import DATA_TASK_CPUS, total
from cluster.training import checkpoints, progress
from cluster.training.config import Training, ValidationSettings
from cluster.training.progress import ValidationRow
from eosvos.data.mixture import Mixture
from eosvos.data.sequence import Sequence
from eosvos.evaluation.results import SequenceResult, check_scored
from eosvos.evaluation.sequence import SequenceSettings, evaluate_sequence
from eosvos.learning.optimization import Optimization, load

log = logging.getLogger(__name__)


class Validation:
    """Validates the candidates that the training leaves in the run's folder, one after another.

    A candidate is a file until it is validated, so that nothing is lost by a kill.

    Attributes:
        settings: how.
        failed: outer step -> what its validation raised, after all tries; its candidate stays.
    """

    def __init__(
        self, training: Training, settings: ValidationSettings, folder: Path, data: Mixture, first_step: int
    ) -> None:
        """Takes up what a killed run left: ``first_step`` is the outer step that it resumes from."""
        self.settings = settings
        self._training, self._folder = training, folder
        held_out = data.held_out(training.held_out, training.seed)
        self._windows = [one for place in held_out for one in data.windows(place, settings.frames, settings.windows)]
        self._step = 0
        self._running: FanOut[int, list[SequenceResult]] | None = None
        self._results: list[SequenceResult] = []
        self.failed: dict[int, Exception] = {}
        progress.forget_after(folder, first_step, progress.VALIDATION_FILE)
        for step in checkpoints.candidates(folder):
            if step > first_step:  # it will be made again
                checkpoints.candidate(folder, step).unlink()

    def poll(self, timeout: float = 0) -> ValidationRow | None:
        """The row of a validation that has ended, if any; otherwise sees to it that one runs where any waits."""
        if self._running is None:
            self._running = self._start_next()
            if self._running is None:
                return None
        for ended in self._running.poll(timeout):
            if isinstance(ended.outcome, Exception):
                self.failed[self._step] = ended.outcome
                self._running = None
                return None
            self._results += ended.outcome
        if self._running.unfinished:
            return None
        self._running = None
        row = self._row(self._step, self._results)
        progress.append(self._folder, row, progress.VALIDATION_FILE)
        self._settle(self._step)
        return row

    def waiting(self) -> list[int]:
        """The outer steps whose validation is not done, without those that failed."""
        return [step for step in checkpoints.candidates(self._folder) if step not in self.failed]

    def rows(self) -> list[ValidationRow]:
        """All validations of the run so far."""
        return progress.read_validations(self._folder)

    def _start_next(self) -> FanOut[int, list[SequenceResult]] | None:
        done = {row["step"] for row in self.rows()}
        for step in self.waiting():
            if step in done:
                self._settle(step)
                continue
            self._step, self._results = step, []
            return self._tasks(step)
        return None

    def _tasks(self, step: int) -> FanOut[int, list[SequenceResult]]:
        """One for each window; as many at once as there are workers: each takes memory like one of them."""
        training, settings, file = self._training, self.settings, checkpoints.candidate(self._folder, step)
        gpu = training.gpu and total("GPU") > training.workers
        how = SequenceSettings(
            (0, settings.T),
            settings.learning_rates,
            segmentation=settings.segmentation,
            seed=training.seed,
            device="cuda" if gpu else "cpu",
        )
        # A quarter of a CPU, so that it fits beside the workers and their streams on a small machine.
        # No retries by Ray, which would try again for ever what does not fit into memory.
        task = ray.remote(num_cpus=DATA_TASK_CPUS, num_gpus=float(gpu), max_retries=0)(_results_of)
        shared = ray.put(load(file))
        return FanOut(
            lambda number: task.remote(shared, self._windows[number], how),
            range(len(self._windows)),
            training.workers,
            describe=lambda number: f"validation of step {step} on {_name(self._windows[number])}",
        )

    def _row(self, step: int, results: list[SequenceResult]) -> ValidationRow:
        by_rate: dict[float | None, list[SequenceResult]] = {}
        for result in (one for one in results if one.T > 0):
            by_rate.setdefault(result.fine_tuning.learning_rate, []).append(result)
        scores = {rate: _mean(own) for rate, own in by_rate.items()}
        best = max(scores, key=scores.__getitem__)
        row: ValidationRow = {
            "step": step,
            "validation_j_and_f_at_0": _mean(result for result in results if result.T == 0),
            "validation_j_and_f_at_T": scores[best],
            "validation_windows": len(self._windows),
        }
        if best is not None:
            row["validation_learning_rate"] = best
        return row

    def _settle(self, step: int) -> None:
        """A candidate that is validated becomes the best one, or goes."""
        file = checkpoints.candidate(self._folder, step)
        if progress.best_validation(self.rows())["step"] == step and file.is_file():
            file.replace(self._folder / checkpoints.BEST)
        else:
            file.unlink(missing_ok=True)


def _mean(results: Iterable[SequenceResult]) -> float:
    """J&F: mean over the objects of the means over their windows, in whichever order they come."""
    scores: dict[tuple[str, str, int], list[float]] = {}
    for one in (one for result in results for one in result.objects):
        scores.setdefault((one.dataset, one.sequence, one.scores.object_id), []).append(one.scores.j_and_f)
    return fmean(map(fmean, scores.values()))  # its sum is exact


def _name(window: Sequence) -> str:
    return f"{window.name}, frames {window.frame_names[0]} to {window.frame_names[-1]}"


def _results_of(optimization: Optimization, sequence: Sequence, settings: SequenceSettings) -> list[SequenceResult]:
    results, _ = evaluate_sequence(optimization, sequence, settings)
    check_scored(results)
    return results

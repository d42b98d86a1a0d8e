"""Ending trials early where another one is better and not slower: a scheduler for two objectives at fixed rungs."""

from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from eosvos.metrics.pareto import clearly_better

SEQUENCES, STEPS, SCORES, SECONDS = "sequences", "steps", "scores", "seconds_per_frame"
"""What a trial reports after each sequence: how many it has done, its T, J&F of all objects so far, and their time."""


@dataclass(frozen=True)
class _Standing:
    """What a trial had reported at a rung."""

    steps: int
    scores: list[float]
    seconds: float

    def beats(self, other: "_Standing") -> bool:
        """Whether it is clearly better, and not slower: neither as measured, nor by the steps it takes.

        Times are measured minutes apart, beside whatever else runs then, and can be wrong by half; steps never are.
        """
        not_slower = self.steps <= other.steps and self.seconds <= other.seconds
        return not_slower and clearly_better(self.scores, other.scores)


class ParetoRungs(FIFOScheduler):
    """Stops a trial when another is better on the same sequences by two paired standard errors, and not slower.

    Not slower is what takes no more fine-tuning steps T and no more measured time.

    A scheduler for one metric would end the fast half of the front or the accurate one. Trials are compared after the
    same numbers of sequences, the rungs: a trial that gets there first is paused until all of its cohort are there, so
    that no decision depends on who was faster. Trials of earlier cohorts, which are through, are compared with too.

    A trial may report again what it has reported before it was paused or failed; that changes nothing.

    Attributes:
        stopped: id of a trial -> the rung at which it was stopped.
    """

    def __init__(self, rungs: tuple[int, ...], total: int, cohort: int) -> None:
        """Rungs in sequences; the number of all trials, and of those in a cohort, in the order they are added."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._rungs, self._total, self._cohort = rungs, total, cohort
        self._trials: list[Trial] = []
        self._ended: set[Trial] = set()
        self._results: dict[tuple[str, int], _Standing] = {}
        self._decided: set[tuple[int, int]] = set()
        self.stopped: dict[str, int] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Takes a trial in, in its cohort; one that failed is added again, and has its place."""
        if trial not in self._trials:
            self._trials.append(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """At a rung: decides where all are there, else pauses."""
        rung = result[SEQUENCES]
        if rung not in self._rungs or (trial.trial_id, rung) in self._results:
            return str(TrialScheduler.CONTINUE)
        self._results[trial.trial_id, rung] = _Standing(result[STEPS], result[SCORES], result[SECONDS])
        self._decide(tune_controller, reporting=trial)
        if trial.trial_id in self.stopped:
            return str(TrialScheduler.STOP)
        decided = (self._trials.index(trial) // self._cohort, rung) in self._decided
        return str(TrialScheduler.CONTINUE if decided else TrialScheduler.PAUSE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Others may have waited for it."""
        self._ended.add(trial)
        self._decide(tune_controller)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """As ``on_trial_complete``, of a trial that does not run."""
        self._ended.add(trial)
        self._decide(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """As ``on_trial_complete``, but for a trial that is tried again."""
        if not trial.should_recover():  # type: ignore[no-untyped-call]
            self._ended.add(trial)
            self._decide(tune_controller)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The next in order of the first cohort that is not through, that has not begun or is past its rung."""
        for start in range(0, len(self._trials), self._cohort):
            going = [trial for trial in self._trials[start : start + self._cohort] if self._is_going(trial)]
            for trial in going:
                if trial.status == Trial.PENDING:
                    return trial
            for trial in going:
                if trial.status == Trial.PAUSED:
                    waits_at = max(rung for rung in self._rungs if (trial.trial_id, rung) in self._results)
                    if (start // self._cohort, waits_at) in self._decided:
                        return trial
            if going:
                return None
        return None

    def debug_string(self) -> str:
        """For Tune's reports."""
        return f"rungs at {self._rungs} sequences, {len(self.stopped)} of {len(self._trials)} trials stopped"

    def _decide(self, tune_controller: Any, reporting: Trial | None = None) -> None:
        """Decides every rung that all of a cohort have reached, or ended before."""
        for start in range(0, len(self._trials), self._cohort):
            cohort = self._trials[start : start + self._cohort]
            if len(cohort) < min(self._cohort, self._total - start):
                return
            for rung in self._rungs:
                key = (start // self._cohort, rung)
                going = [trial for trial in cohort if self._is_going(trial)]
                if key in self._decided:
                    continue
                if any((trial.trial_id, rung) not in self._results for trial in going):
                    break
                self._decided.add(key)
                beaten = [trial for trial in going if self._is_beaten(trial, rung)]
                self.stopped |= {trial.trial_id: rung for trial in beaten}
                for trial in beaten:
                    if trial is not reporting:  # that one is told by the answer to its report
                        tune_controller.stop_trial(trial)

    def _is_going(self, trial: Trial) -> bool:
        return trial not in self._ended and trial.trial_id not in self.stopped

    def _is_beaten(self, trial: Trial, rung: int) -> bool:
        standing = self._results[trial.trial_id, rung]
        return any(other.beats(standing) for (_, other_rung), other in self._results.items() if other_rung == rung)

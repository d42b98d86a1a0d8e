"""Who is stopped at the rungs: by the rule, whatever the order in which trials get there."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.sweep.rungs import SCORES, SECONDS, SEQUENCES, STEPS, ParetoRungs
from eosvos.metrics.pareto import clearly_better

Scores = np.ndarray[Any, Any]
RUNGS, LENGTH = (3, 6), 8


@dataclass(eq=False)
class Trial:
    """What a scheduler sees of one of Tune's."""

    trial_id: str
    status: str = "PENDING"
    done: int = 0
    recovers: bool = False

    def should_recover(self) -> bool:
        return self.recovers


@dataclass
class Simulation:
    """Tune's part: ``slots`` trials run at once, and in which order they report is drawn."""

    scheduler: ParetoRungs
    scores: Scores
    steps: list[int]
    seconds: list[float]
    slots: int
    fails: tuple[int, ...] = ()
    trials: list[Trial] = field(default_factory=list)

    def stop_trial(self, trial: Trial) -> None:
        assert trial.status == "PAUSED"
        trial.status = "TERMINATED"
        self.scheduler.on_trial_remove(self, trial)

    def run(self, rng: np.random.Generator) -> dict[str, int]:
        for number in range(len(self.scores)):
            self.trials.append(Trial(str(number)))
            self.scheduler.on_trial_add(self, self.trials[-1])
        for _ in range(10_000):
            running = [trial for trial in self.trials if trial.status == "RUNNING"]
            while len(running) < self.slots and (chosen := self.scheduler.choose_trial_to_run(self)) is not None:
                chosen.status, chosen.done = "RUNNING", 0  # a trial that was paused reports all again
                running.append(chosen)
            if not running:
                break
            self._report(running[rng.integers(len(running))])
        assert all(trial.status in ("TERMINATED", "ERROR") for trial in self.trials), "some wait for ever"
        return self.scheduler.stopped

    def _report(self, trial: Trial) -> None:
        number = int(trial.trial_id)
        trial.done += 1
        if number in self.fails and trial.done == 5:
            trial.status = "ERROR"
            self.scheduler.on_trial_error(self, trial)
            return
        result = {
            SEQUENCES: trial.done,
            STEPS: self.steps[number],
            SCORES: list(self.scores[number, : trial.done]),
            SECONDS: self.seconds[number],
        }
        decision = self.scheduler.on_trial_result(self, trial, result)
        if decision == "PAUSE":
            trial.status = "PAUSED"
        elif decision == "STOP" or trial.done == LENGTH:
            trial.status = "TERMINATED"
            self.scheduler.on_trial_complete(self, trial, result)


def _expected(
    scores: Scores, steps: list[int], seconds: list[float], cohort: int, fails: tuple[int, ...]
) -> dict[str, int]:
    """The rule, rung by rung: all of a cohort that got there are compared with all that ever got there."""
    stopped: dict[str, int] = {}
    reached: dict[int, list[int]] = {rung: [] for rung in RUNGS}
    for start in range(0, len(scores), cohort):
        going = list(range(start, min(start + cohort, len(scores))))
        for rung in RUNGS:
            going = [k for k in going if not (k in fails and rung >= 5)]
            reached[rung] += going
            beaten = [
                k
                for k in going
                if any(
                    steps[o] <= steps[k]
                    and seconds[o] <= seconds[k]
                    and clearly_better(scores[o, :rung], scores[k, :rung])
                    for o in reached[rung]
                )
            ]
            stopped |= {str(k): rung for k in beaten}
            going = [k for k in going if k not in beaten]
    return stopped


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([3, 4, 9]), st.sampled_from([(), (1,), (0, 5)]))
def test_decisions_follow_the_rule_in_any_order(seed: int, slots: int, cohort: int, fails: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 0.3, (9, LENGTH)) + rng.uniform(0, 0.5, (9, 1))
    steps = [int(value) for value in rng.integers(0, 3, 9)]
    seconds = [float(value) for value in rng.integers(1, 5, 9)]
    simulation = Simulation(ParetoRungs(RUNGS, 9, cohort), scores, steps, seconds, slots, fails)
    assert simulation.run(rng) == _expected(scores, steps, seconds, cohort, fails)


def test_a_faster_and_a_better_one_both_stay() -> None:
    scores = np.tile(np.array([[0.5], [0.6], [0.55]]), (1, LENGTH)) + np.linspace(0, 0.01, LENGTH)
    simulation = Simulation(ParetoRungs(RUNGS, 3, 3), scores, [1, 2, 2], [1.0, 2.0, 3.0], 2)
    assert simulation.run(np.random.default_rng(0)) == {"2": 3}  # slower and worse than the second


def test_a_time_that_was_measured_wrong_stops_nobody() -> None:
    scores = np.tile(np.array([[0.1], [0.9]]), (1, LENGTH)) + np.linspace(0, 0.01, LENGTH)
    simulation = Simulation(ParetoRungs(RUNGS, 2, 2), scores, [0, 1], [2.0, 1.0], 2)
    assert simulation.run(np.random.default_rng(0)) == {}  # no steps at all are never slower than one


def test_a_trial_that_is_tried_again_is_waited_for() -> None:
    scheduler = ParetoRungs((3,), 2, 2)
    controller = Simulation(scheduler, np.empty((0, 0)), [], [], 0)
    one, two = Trial("0", "RUNNING", recovers=True), Trial("1", "RUNNING")
    for trial in (one, two):
        scheduler.on_trial_add(controller, trial)
    scheduler.on_trial_error(controller, one)
    scheduler.on_trial_add(controller, one)
    result = {SEQUENCES: 3, STEPS: 1, SCORES: [0.1, 0.2, 0.3], SECONDS: 1.0}
    assert scheduler.on_trial_result(controller, two, result) == "PAUSE"
    two.status = "PAUSED"
    assert scheduler.on_trial_result(controller, one, result | {SCORES: [0.2, 0.3, 0.4]}) == "CONTINUE"
    assert scheduler.stopped == {"1": 3}

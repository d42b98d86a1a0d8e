"""What a sweep says while it runs: lines on the terminal, a run in MLflow for each setting."""

import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from cluster.evaluation.journal import Entry
from cluster.sweep.rungs import SECONDS, SEQUENCES
from cluster.sweep.space import Setting, setting_of
from cluster.sweep.trial import SETTING, SharedByTrials, Status, report_of
from cluster.tracking.background import BackgroundTracker
from cluster.tracking.logged_run import CHILDREN
from cluster.tracking.run import Tracker
from eosvos.config import to_dict
from eosvos.files import write_whole
from eosvos.metrics.table import ObjectRow, object_rows, percent
from eosvos.text import time_left

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
"""Between two lines about sequences; the end of a trial is always said."""


SUGGESTED = "suggested.jsonl"
"""In a sweep's folder: the values that a searcher suggested, in order."""


def read_suggestions(folder: Path) -> list[dict[str, Any]]:
    """What was suggested so far in a sweep; a searcher of the same sweep begins with it."""
    path = folder / SUGGESTED
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


class SweepProgress(tune.Callback):
    """Follows the trials.

    Attributes:
        tried: settings in the order in which their trials began.
    """

    def __init__(self, shared: SharedByTrials, total: int, background: BackgroundTracker) -> None:
        self.tried: dict[Setting, None] = {}
        self._shared, self._total, self._background = shared, total, background
        self._started: set[str] = set()
        self._done: dict[str, int] = {}
        self._known = 0
        self._ended: set[str] = set()
        self._began = self._said = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks to resume with them; a sweep resumes from its journals instead."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Notes the setting."""
        setting = setting_of(trial.config[SETTING])
        if trial.trial_id not in self._started:
            self._started.add(trial.trial_id)
            self._remember(trial.config[SETTING])
        if setting not in self.tried:
            self.tried[setting] = None
            self._known += len(self._shared.journal(setting).entries())

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Says how far it is."""
        self._done[trial.trial_id] = max(result[SEQUENCES], self._done.get(trial.trial_id, 0))
        if time.monotonic() - self._said > EVERY_SECONDS:
            self._say(f"{setting_of(trial.config[SETTING]).name}: {_line(result)} so far")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Says what came out, also where the trial was stopped, and logs it."""
        self._ended.add(trial.trial_id)
        setting, result = setting_of(trial.config[SETTING]), trial.last_result or {}
        done = self._done.get(trial.trial_id, 0)
        status = Status.COMPLETE if done == len(self._shared.order) else Status.STOPPED
        after = f" after {done} sequences" if status is Status.STOPPED else ""
        self._say(f"{setting.name}: {_line(result)}, {status}{after}")
        self._background.do(partial(_log, setting=setting, status=status, shared=self._shared))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Says which setting failed, with all its retries."""
        self._ended.add(trial.trial_id)
        setting = setting_of(trial.config[SETTING])
        self._say(f"{setting.name}: {Status.FAILED}")
        self._background.do(partial(_log, setting=setting, status=Status.FAILED, shared=self._shared))

    def _remember(self, values: dict[str, Any]) -> None:
        """Writes down what a searcher suggested, so that a sweep that resumes begins with the same."""
        before = read_suggestions(self._shared.folder)
        if self._shared.sweep.search == "optuna" and len(self._started) > len(before):
            lines = "".join(f"{json.dumps(suggestion)}\n" for suggestion in [*before, values])
            write_whole(self._shared.folder / SUGGESTED, lines.encode())

    def _say(self, what: str) -> None:
        self._said = time.monotonic()
        done_here = sum(self._done.values()) - self._known
        open_trials = [done for name, done in self._done.items() if name not in self._ended]
        to_begin = self._total - len(self._ended) - len(open_trials)
        most = len(self._shared.order)
        left = to_begin * most + sum(most - done for done in open_trials)
        estimate = time_left(self._said - self._began, done_here, left) if left else ""
        at_most = f"; at most {estimate}" if estimate else ""
        log.info("%d/%d %s%s", len(self._ended), self._total, what, at_most)


def _line(result: dict[str, Any]) -> str:
    if SEQUENCES not in result:
        return "nothing"
    return f"J&F {percent(result, 'j_and_f')}, {1 / result[SECONDS]:.2f} FPS"


def _log(parent: Tracker, setting: Setting, status: Status, shared: SharedByTrials) -> None:
    """A child run: the setting as parameters, J&F and time after each sequence as metrics. Twice is as once."""
    journal = shared.journal(setting)
    names = [shared.dataset.sequences[index].name for index in shared.order]
    entries: list[Entry] = [entry for name in names if (entry := journal.entry(name)) is not None]
    parameters: dict[str, Any] = {"T": setting.T} | to_dict(setting.segmentation)
    child = parent.child(setting.name, shared.folder / CHILDREN / setting.name, parameters)
    child.tags({"status": status})
    rows: list[ObjectRow] = []
    for number, entry in enumerate(entries, 1):
        rows += [row for result in entry.results for row in object_rows(result.objects)]
        report = report_of(rows)
        values = {name: report[name] for name in ("j_and_f", "j_and_f_se", SECONDS) if report[name] is not None}
        child.metrics([(number, values | {"fps": 1 / report[SECONDS]})], timestamp=entry.time)
    child.end(failed=status is Status.FAILED)

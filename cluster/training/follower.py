"""Follows a training as its driver: what the workers report goes to the terminal and MLflow; validation is seen to."""

import logging
import statistics
import threading
import time
from collections import deque

from ray.util.queue import Empty, Queue

from cluster.tracking.background import BackgroundTracker
from cluster.tracking.run import Tracker
from cluster.training.config import Training
from cluster.training.progress import StepRow, TaskRow, ValidationRow, measures
from cluster.training.validation import Validation
from eosvos.text import minutes_seconds

log = logging.getLogger(__name__)

KEPT, VALIDATED = "kept", "validation_j_and_f_at_T"
"""Metrics that every outer step and every validation has."""
COLLAPSE_STEPS, COLLAPSE_GAIN = 50, 0.03
"""Fine-tuning counts as no help where, over so many steps, it lowers the test loss by less than this share."""
SHOWN_SECONDS, LOGGED_SECONDS = 5.0, 10.0
"""Between two lines of progress, and between two requests to MLflow."""


class RowLog:
    """Sends rows to MLflow, each once: what a killed run has logged already is asked for first."""

    def __init__(self, background: BackgroundTracker, name: str) -> None:
        """``name`` is of a metric that every row has."""
        self._background, self._name = background, name
        self._last: int | None = None

    def send(self, rows: list[StepRow] | list[ValidationRow]) -> None:
        """In the order of their steps."""
        now = int(time.time() * 1000)  # of the first try: MLflow keeps what is sent again with the same time once
        self._background.do(lambda tracker: self._send(tracker, list(rows), now))

    def _send(self, tracker: Tracker, rows: list[StepRow | ValidationRow], timestamp: int) -> None:
        if self._last is None:
            self._last = tracker.last_step(self._name)
        new = [row for row in rows if row["step"] > (self._last or 0)]
        if new:
            tracker.metrics([(row["step"], measures(row)) for row in new], timestamp)
            self._last = new[-1]["step"]


def follow(
    queue: Queue,
    ended: threading.Event,
    training: Training,
    rows: list[StepRow],
    background: BackgroundTracker,
    validation: Validation | None,
) -> None:
    """Runs beside the training until ``ended``; begins with what a kill kept from MLflow.

    Args:
        queue: of rows, fed by worker 0.
        ended: set when no more rows will come.
        training: its configuration.
        rows: of the outer steps before the first one.
        background: of the run.
        validation: None where nothing is held out.
    """
    steps, validations = RowLog(background, KEPT), RowLog(background, VALIDATED)
    unlogged = list(rows)
    if validation:
        validations.send(validation.rows())
    shown = logged = time.monotonic()
    recent: deque[StepRow] = deque(rows[-COLLAPSE_STEPS:], maxlen=COLLAPSE_STEPS)
    while True:
        try:
            row: StepRow = queue.get(timeout=1)
        except Empty:
            if ended.is_set():
                break
            continue
        for task in row["tasks"]:
            if task["loss_at_T"] is None:
                log.info("step %d: dropped a task whose loss is not finite: %s", row["step"], _name(task))
        recent.append(row)
        unlogged.append(row)
        final = row["step"] == training.outer.steps
        if final or time.monotonic() - shown > SHOWN_SECONDS:
            pace = statistics.median(one["seconds"] for one in list(recent)[-21:])
            log.info(_progress_line(row, training, pace))
            shown = time.monotonic()
        if row["step"] % COLLAPSE_STEPS == 0 and (warning := collapse_warning(list(recent))):
            log.warning("step %d: %s", row["step"], warning)
        # Not before the first row: the workers' start must not wait for the CPUs that validation takes.
        if validation and (validated := _validated(validation)):
            validations.send([validated])
        if final or time.monotonic() - logged > LOGGED_SECONDS:
            steps.send(unlogged)
            unlogged, logged = [], time.monotonic()
    steps.send(unlogged)


def finish(validation: Validation, background: BackgroundTracker) -> None:
    """Waits for the validations that are left when the training has ended.

    Raises:
        Exception: what the first failed validation raised.
    """
    validations = RowLog(background, VALIDATED)
    said: list[int] = []
    while steps := validation.waiting():
        if steps != said:
            log.info("waiting for the validation of step %s", ", ".join(map(str, steps)))
        said = steps
        _validated(validation, timeout=20)
    validations.send(validation.rows())
    for error in validation.failed.values():
        raise error


def _validated(validation: Validation, timeout: float = 0) -> ValidationRow | None:
    """Polls, and says what became of a validation."""
    failed = set(validation.failed)
    row = validation.poll(timeout)
    if row:
        log.info(_validation_line(row, validation.settings.T))
    for step in validation.failed.keys() - failed:
        log.warning("the validation of step %d failed: %s; training goes on", step, validation.failed[step])
    return row


def collapse_warning(rows: list[StepRow]) -> str:
    """What to say where fine-tuning has stopped to help; empty where it helps, or where there are too few steps.

    Zero-shot collapse: where there is one object to a video, the initialization can learn to segment it without being
    shown which one, and fine-tuning has nothing left to do.
    """
    before = sum(row["loss_at_0"] for row in rows if "loss_at_0" in row)
    after = sum(row["loss_at_T"] for row in rows if "loss_at_T" in row)
    if len(rows) < COLLAPSE_STEPS or before == 0 or after < (1 - COLLAPSE_GAIN) * before:
        return ""
    change = 100 * (after / before - 1)
    return (
        f"warning: over the last {len(rows)} steps fine-tuning changed the test loss by {change:+.1f} %: it no longer "
        "helps; paste more objects (--paste), use data with several objects to a video, or lower --learning-rate"
    )


def _name(task: TaskRow) -> str:
    return f"{task['sequence']} object {task['object']} frames {', '.join(map(str, task['frames']))}"


def _validation_line(row: ValidationRow, T: int) -> str:
    before, after = 100 * row["validation_j_and_f_at_0"], 100 * row["validation_j_and_f_at_T"]
    rate = f" with rate {row['validation_learning_rate']:g}" if "validation_learning_rate" in row else ""
    line = f"validated step {row['step']}: J&F {before:.1f} at 0, {after:.1f} at {T}{rate} on the held-out sequences"
    return line if after > before else f"{line}; warning: fine-tuning does not help there"


def _progress_line(row: StepRow, training: Training, pace: float) -> str:
    losses = training.learner().describe(row) if row["kept"] else "skipped, as every task was dropped"
    left = minutes_seconds((training.outer.steps - row["step"]) * pace)
    return (
        f"step {row['step']}/{training.outer.steps}  {losses}  {training.outer.meta_batch / pace:.1f} tasks/s  "
        f"{left} left"
    )

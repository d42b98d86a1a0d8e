"""Follows a training as its driver: what the workers report goes to the terminal and MLflow; validation is seen to."""

import statistics
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from ray.util.queue import Empty, Queue

from cluster.tracking.run import Tracker
from cluster.training.config import MetaTraining, Training
from cluster.training.progress import Row
from cluster.training.validation import AT_0, AT_T, Validation

Metrics = tuple[int, Mapping[str, float]]
"""An outer step and what was measured there."""
KEPT = "kept"
"""A metric that every outer step has."""
COLLAPSE_STEPS, COLLAPSE_GAIN = 50, 0.03
"""Fine-tuning counts as no help where, over so many steps, it lowers the test loss by less than this share."""


def follow(
    queue: Queue,
    ended: threading.Event,
    training: Training,
    rows: list[Row],
    tracker: Tracker,
    validation: Validation | None,
) -> None:
    """Runs beside the training until ``ended``; begins with what a kill kept from MLflow.

    Args:
        queue: of rows as in ``progress``, fed by worker 0.
        ended: set when no more rows will come.
        training: its configuration.
        rows: of the outer steps before the first one.
        tracker: of the run.
        validation: None where nothing is held out.
    """
    last = tracker.last_step(KEPT)  # also of steps that a kill undid and that are taken again now
    unlogged = missing_metrics(tracker, rows, validation)
    shown = logged = time.monotonic()
    recent: deque[Row] = deque(rows[-COLLAPSE_STEPS:], maxlen=COLLAPSE_STEPS)
    while True:
        try:
            row = queue.get(timeout=1)
        except Empty:
            if ended.is_set():
                break
            continue
        for task in row["tasks"]:
            if task["loss_at_T"] is None:
                print(f"step {row['step']}: dropped a task whose loss is not finite: {_name(task)}")
        recent.append(row)
        if row["step"] > last:
            unlogged.append(_metrics(row))
        final = row["step"] == training.outer.steps
        if final or time.monotonic() - shown > 5:
            pace = statistics.median(row["seconds"] for row in list(recent)[-21:])
            print(_progress_line(row, training, pace), flush=True)
            shown = time.monotonic()
        if row["step"] % COLLAPSE_STEPS == 0 and (warning := collapse_warning(list(recent))):
            print(f"step {row['step']}: {warning}", flush=True)
        # Not before the first row: the workers' start must not wait for the CPUs that validation takes.
        if validation and (validated := _validated(validation, training)):
            unlogged.append(_metrics(validated))
        if final or time.monotonic() - logged > 10:
            unlogged, logged = tracker.metrics_or_later(unlogged), time.monotonic()
    tracker.metrics_or_later(unlogged)


def missing_metrics(tracker: Tracker, rows: list[Row], validation: Validation | None) -> list[Metrics]:
    """What the run in MLflow lacks of the outer steps in ``rows`` and of the validations."""
    missing = []
    for name, own in ((KEPT, rows), (AT_T, validation.rows() if validation else [])):
        last = tracker.last_step(name)
        missing += [_metrics(row) for row in own if row["step"] > last]
    return missing


def finish(validation: Validation, training: Training, tracker: Tracker) -> None:
    """Waits for the validations that are left when the training has ended.

    Raises:
        Exception: what the first failed validation raised.
    """
    while steps := validation.waiting():
        print(f"waiting for the validation of step {', '.join(map(str, steps))}", flush=True)
        row = _validated(validation, training, timeout=20)
        tracker.metrics_or_later([_metrics(row)] if row else [])
    for error in validation.failed.values():
        raise error


def _validated(validation: Validation, training: Training, timeout: float = 0) -> Row | None:
    """Polls, and prints what became of a validation."""
    failed = set(validation.failed)
    row = validation.poll(timeout)
    if row:
        print(_validation_line(row, training), flush=True)
    for step in validation.failed.keys() - failed:
        print(f"the validation of step {step} failed: {validation.failed[step]}; training goes on", flush=True)
    return row


def collapse_warning(rows: list[Row]) -> str:
    """What to say where fine-tuning has stopped to help; empty where it helps, or where there are too few steps.

    Zero-shot collapse: where there is one object to a video, the initialization can learn to segment it without being
    shown which one, and fine-tuning has nothing left to do.
    """
    sums = [sum(row[name] for row in rows if name in row) for name in ("loss_at_0", "loss_at_T")]
    if len(rows) < COLLAPSE_STEPS or sums[0] == 0 or sums[1] < (1 - COLLAPSE_GAIN) * sums[0]:
        return ""
    change = 100 * (sums[1] / sums[0] - 1)
    return (
        f"warning: over the last {len(rows)} steps fine-tuning changed the test loss by {change:+.1f} %: it no longer "
        "helps; paste more objects (--paste), use data with several objects to a video, or lower --learning-rate"
    )


def _name(task: Mapping[str, Any]) -> str:
    return f"{task['sequence']} object {task['object']} frames {', '.join(map(str, task['frames']))}"


def _metrics(row: Row) -> Metrics:
    return row["step"], {name: value for name, value in row.items() if name not in ("step", "tasks")}


def _validation_line(row: Row, training: Training) -> str:
    assert isinstance(training, MetaTraining)
    before, after = (100 * row[name] for name in (AT_0, AT_T))
    line = f"validated step {row['step']}: J&F {before:.1f} at 0, {after:.1f} at {training.T} on the held-out sequences"
    return line if after > before else f"{line}; warning: fine-tuning does not help there"


def _progress_line(row: dict[str, float], training: Training, pace: float) -> str:
    if row["kept"] == 0:
        losses = "skipped, as every task was dropped"
    elif not isinstance(training, MetaTraining):
        losses = f"loss {row['loss_at_T']:.3f}"
    else:
        losses = (
            f"test loss {row['loss_at_0']:.3f} at 0, {row['loss_at_T']:.3f} at {training.steps_named}, "
            f"mean rate {row['mean_rate']:.4f}"
        )
    left = round((training.outer.steps - row["step"]) * pace)
    return (
        f"step {row['step']}/{training.outer.steps}  {losses}  {training.outer.meta_batch / pace:.1f} tasks/s  "
        f"{left // 60}:{left % 60:02d} left"
    )

"""Training on Ray Train: tasks -> gradients -> one all-reduce -> one outer step -> checkpoint."""

import math
import shutil
import statistics
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.queue import Empty, Queue

from cluster import checkpoints, progress, run_folder
from cluster.config import PLACEMENT, MetaTraining, Training
from cluster.progress import Row
from cluster.run_folder import absolute_address, absolute_path
from cluster.session import WorkerResources, bad_input_in, connect, worker_resources
from cluster.tracking import Tracker, tracking_uri
from cluster.train_worker import train_worker
from cluster.validation import Validation
from eosvos.cli import flattened, to_dict
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.data.tasks import held_out
from eosvos.errors import BadInput
from eosvos.figures.training_curve import training_curve
from eosvos.learning.optimization import Optimization, differing_fields, initial_log_rates, load
from eosvos.learning.outer_loop import Learned
from eosvos.metrics.table import write_table
from eosvos.model.weights import initial_model

COLLAPSE_STEPS, COLLAPSE_GAIN = 50, 0.03
"""Fine-tuning counts as no help where, over so many steps, it lowers the test loss by less than this share."""


def train(training: Training) -> Path:
    """Runs or resumes a training and returns the path of its last checkpoint.

    Bad input is found before any work starts.

    Raises:
        BadInput: data, weights, parent, folder, cluster or tracking address that cannot be used.
    """
    if not training.data:
        raise BadInput("--data: name an encoded dataset; make one with jobs/encode_dataset.py")
    if training.out is None:
        raise BadInput("--out: name the run's folder")
    folder = absolute_path(training.out, "--out")
    uri = tracking_uri()
    training = replace(training, data=absolute_address(training.data, "--data"), out=folder)
    if isinstance(training, MetaTraining) and training.parent is not None:
        training = replace(training, parent=absolute_path(training.parent, "--parent"))
    dataset = open_dataset(training.data)
    last = folder / checkpoints.LAST
    run_folder.check(folder, training, free=PLACEMENT)
    first_step, start = checkpoints.latest(folder), None
    if first_step is None:
        first_step, start = 0, _initial(training, dataset)
    elif (hash_before := checkpoints.facts(folder, first_step).get("data_hash")) != dataset.hash:
        raise BadInput(
            f"{training.data}: its content (hash {dataset.hash[:12]}) is not what {folder} was trained on "
            f"({str(hash_before)[:12]}); give another --out"
        )
    if first_step >= training.outer.steps:
        print(f"{folder}: all {training.outer.steps} outer steps are done already")
        return last
    connect()
    resources = worker_resources(training.workers, training.gpu)
    if start is not None:
        run_folder.claim(folder, training)
        checkpoints.save(folder, 0, *start)
    print(f"{'resuming at' if first_step else 'starting from'} outer step {first_step}, in {folder}")
    kind = "meta_train" if isinstance(training, MetaTraining) else "parent_train"
    tracker = Tracker(uri, kind, f"{kind} {folder.name}", folder, flattened(to_dict(training)))
    tracker.tags({"data_hash": dataset.hash, "world_size": str(training.workers)})
    print(f"MLflow: {uri}, run {tracker.run_id}")
    try:
        _fit(training, resources, dataset, first_step, tracker)
    except BaseException:
        tracker.end(failed=True)
        raise
    tracker.artifact(last)
    if isinstance(training, MetaTraining):
        for path in (*_objects(folder), _curve(folder, training.T), folder / checkpoints.BEST):
            if path.is_file():
                tracker.artifact(path)
    tracker.end()
    return last


def _initial(training: Training, dataset: EncodedDataset) -> tuple[Optimization, Learned]:
    """What a fresh training starts from."""
    without = held_out(len(dataset.sequences), training.held_out, training.seed)
    facts: dict[str, Any] = {
        "data_hash": dataset.hash,
        "held_out": [dataset.sequences[index].name for index in without],
    }
    parent = training.parent if isinstance(training, MetaTraining) else None
    if parent is not None:
        start = load(parent)
        if different := differing_fields(start.config, training.model):
            raise BadInput(f"{parent}: its model differs from the one configured in {different}")
        print(f"initialization: {parent}")
        initialization = start.initialization
        facts["parent"] = start.facts.get("step", 0)
    else:
        model, loaded = initial_model(training.model, training.backbone_weights, training.seed)
        print(f"initial weights: {loaded}")
        initialization = model.state_dict()
    optimization = Optimization(training.model, initialization, None, facts)
    if isinstance(training, MetaTraining):
        rates = initial_log_rates(optimization.model(), training.initial_rate)
        facts |= {"T": training.T, "order": 1}
        optimization = replace(optimization, log_rates=rates, facts=facts)
    return optimization, checkpoints.learned_state(optimization, training.outer)


def _fit(
    training: Training, resources: WorkerResources, dataset: EncodedDataset, first_step: int, tracker: Tracker
) -> None:
    folder = training.out
    assert folder is not None
    queue = Queue(actor_options={"num_cpus": 0})
    ended = threading.Event()
    rows = [row for row in progress.read(folder) if row["step"] <= first_step]
    validation = None
    if isinstance(training, MetaTraining) and training.held_out > 0:
        validation = Validation(training, dataset, first_step)
    executor = ThreadPoolExecutor(1)
    follower = executor.submit(_follow, queue, ended, training, rows, tracker, validation)
    scratch = folder / ".ray_train"  # Ray Train wants a folder that all nodes see; our checkpoints do not go there
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={
            "training": training,
            "stream_cpus": resources.stream_cpus,
            "queue": queue,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=training.workers, use_gpu=training.gpu, resources_per_worker=resources.worker
        ),
        run_config=ray.train.RunConfig(name=uuid.uuid4().hex, storage_path=str(scratch)),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            if (bad := bad_input_in(failure)) is not None:
                raise bad from error
        raise
    finally:
        ended.set()
        executor.shutdown()
        queue.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
    follower.result()  # raises what it raised


def _follow(
    queue: Queue,
    ended: threading.Event,
    training: Training,
    rows: list[Row],
    tracker: Tracker,
    validation: Validation | None,
) -> None:
    """Hands what the workers report to the terminal, MLflow and validation, until all has ended; first ``rows``."""
    last = tracker.last_step("kept") if rows else 0
    unlogged = [_metrics(row) for row in rows if row["step"] > last]  # a kill came before they were logged
    shown = logged = time.monotonic()
    recent: deque[Row] = deque(maxlen=COLLAPSE_STEPS)
    final = False

    def report_validations() -> None:
        # After the last step all are waited for; those that a failed training leaves are done when it goes on.
        for validated in validation.finished(wait=final and ended.is_set()) if validation else ():
            print(_validation_line(validated, training), flush=True)
            unlogged.append(_metrics(validated))

    while True:
        report_validations()
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
        unlogged.append(_metrics(row))
        final = row["step"] == training.outer.steps
        if final or time.monotonic() - shown > 5:
            pace = statistics.median(row["seconds"] for row in list(recent)[-21:])
            print(_progress_line(row, training, pace), flush=True)
            shown = time.monotonic()
        if row["step"] % COLLAPSE_STEPS == 0 and (warning := collapse_warning(list(recent))):
            print(f"step {row['step']}: {warning}", flush=True)
        if final or time.monotonic() - logged > 10:
            unlogged, logged = tracker.metrics_or_later(unlogged), time.monotonic()
        if validation and isinstance(training, MetaTraining) and training.validates_at(row["step"]):
            validation.start(row["step"])
    report_validations()
    tracker.metrics_or_later(unlogged)


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
    first, second = task["frames"]
    return f"{task['sequence']} object {task['object']} frames {first} and {second}"


def _metrics(row: Row) -> tuple[int, Mapping[str, float]]:
    return row["step"], {name: value for name, value in row.items() if name not in ("step", "tasks")}


def _objects(folder: Path) -> tuple[Path, Path]:
    """Per object the mean test losses at 0 and at T over the last half of the steps; the two files of the table."""
    rows = progress.read(folder)
    losses: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in rows[len(rows) // 2 :]:
        for task in row["tasks"]:
            if task["loss_at_T"] is not None:
                own = losses.setdefault((task["sequence"], task["object"]), [])
                own.append((task["loss_at_0"], task["loss_at_T"]))
    table = [
        {"sequence": sequence, "object": number, "tasks": len(own), "loss_at_0": at_0, "loss_at_T": at_T}
        for (sequence, number), own in sorted(losses.items())
        for at_0, at_T in [(statistics.mean(pair[i] for pair in own) for i in (0, 1))]
    ]
    return write_table(table, folder, "objects")


def _validation_line(row: Row, training: Training) -> str:
    assert isinstance(training, MetaTraining)
    before, after = (100 * row[f"validation_j_and_f_at_{T}"] for T in ("0", "T"))
    line = f"validated step {row['step']}: J&F {before:.1f} at 0, {after:.1f} at {training.T} on the held-out sequences"
    return line if after > before else f"{line}; warning: fine-tuning does not help there"


def _curve(folder: Path, T: int) -> Path:
    """A picture of ``progress.jsonl``, beside it."""
    rows = progress.read(folder)
    names = ("step", "loss_at_0", "loss_at_T", "mean_rate")
    steps, at_0, at_T, rates = ([row.get(name, math.nan) for row in rows] for name in names)
    validated = [
        (row["step"], row["validation_j_and_f_at_0"], row["validation_j_and_f_at_T"])
        for row in progress.read(folder, progress.VALIDATION_FILE)
    ]
    return training_curve(steps, at_0, at_T, rates, T, folder / "training_curve.png", validated)


def _progress_line(row: dict[str, float], training: Training, pace: float) -> str:
    if row["kept"] == 0:
        losses = "skipped, as every task was dropped"
    elif not isinstance(training, MetaTraining):
        losses = f"loss {row['loss_at_T']:.3f}"
    else:
        losses = (
            f"test loss {row['loss_at_0']:.3f} at 0, {row['loss_at_T']:.3f} at {training.T}, "
            f"mean rate {row['mean_rate']:.4f}"
        )
    left = round((training.outer.steps - row["step"]) * pace)
    return (
        f"step {row['step']}/{training.outer.steps}  {losses}  {training.outer.meta_batch / pace:.1f} tasks/s  "
        f"{left // 60}:{left % 60:02d} left"
    )

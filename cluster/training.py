"""Training on Ray Train: tasks -> gradients -> one all-reduce -> one outer step -> checkpoint."""

import math
import shutil
import statistics
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.queue import Empty, Queue

from cluster import checkpoints, progress, run_folder
from cluster.config import PLACEMENT, MetaTraining, Training
from cluster.run_folder import absolute_address, absolute_path
from cluster.session import WorkerResources, bad_input_in, connect, worker_resources
from cluster.tracking import Tracker, tracking_uri
from cluster.train_worker import train_worker
from eosvos.cli import flattened, to_dict
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.errors import BadInput
from eosvos.figures.training_curve import training_curve
from eosvos.learning.optimization import Optimization, differing_fields, initial_log_rates, load
from eosvos.learning.outer_loop import Learned
from eosvos.model.weights import initial_model


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
        _fit(training, resources, folder, first_step, tracker)
    except BaseException:
        tracker.end(failed=True)
        raise
    tracker.artifact(last)
    if isinstance(training, MetaTraining):
        tracker.artifact(_curve(folder, training.T))
    tracker.end()
    return last


def _initial(training: Training, dataset: EncodedDataset) -> tuple[Optimization, Learned]:
    """What a fresh training starts from."""
    facts: dict[str, Any] = {"data_hash": dataset.hash}
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


def _fit(training: Training, resources: WorkerResources, folder: Path, first_step: int, tracker: Tracker) -> None:
    queue = Queue(actor_options={"num_cpus": 0})
    ended = threading.Event()
    rows = [row for row in progress.read(folder) if row["step"] <= first_step]
    follower = threading.Thread(target=_follow, args=(queue, ended, training, rows, tracker))
    follower.start()
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
        follower.join()
        queue.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _follow(
    queue: Queue, ended: threading.Event, training: Training, rows: list[dict[str, Any]], tracker: Tracker
) -> None:
    """Hands what the workers report to the terminal and MLflow, until the training has ended; first ``rows``."""
    last = tracker.last_step("kept") if rows else 0
    unlogged = [_metrics(row) for row in rows if row["step"] > last]  # a kill came before they were logged
    shown = logged = time.monotonic()
    recent: deque[float] = deque(maxlen=21)
    while True:
        try:
            row, dropped = queue.get(timeout=1)
        except Empty:
            if ended.is_set():
                break
            continue
        for name in dropped:
            print(f"step {row['step']}: dropped a task whose loss is not finite: {name}")
        recent.append(row["seconds"])
        unlogged.append(_metrics(row))
        final = row["step"] == training.outer.steps
        if final or time.monotonic() - shown > 5:
            print(_progress_line(row, training, statistics.median(recent)), flush=True)
            shown = time.monotonic()
        if final or time.monotonic() - logged > 10:
            unlogged, logged = tracker.metrics_or_later(unlogged), time.monotonic()
    tracker.metrics_or_later(unlogged)


def _metrics(row: dict[str, Any]) -> tuple[int, Mapping[str, float]]:
    return row["step"], {name: value for name, value in row.items() if name != "step"}


def _curve(folder: Path, T: int) -> Path:
    """A picture of ``progress.jsonl``, beside it."""
    rows = progress.read(folder)
    names = ("step", "loss_at_0", "loss_at_T", "mean_rate")
    steps, at_0, at_T, rates = ([row.get(name, math.nan) for row in rows] for name in names)
    return training_curve(steps, at_0, at_T, rates, T, folder / "training_curve.png")


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

"""Training on Ray Train: tasks -> gradients -> one all-reduce -> one outer step -> checkpoint."""

import math
import shutil
import statistics
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.queue import Queue

from cluster import run_folder
from cluster.session import WorkerResources, bad_input_in, connect, worker_resources
from cluster.tracking.provenance import run_of, run_tags
from cluster.tracking.run import Tracker, tracking_uri
from cluster.training import checkpoints, progress
from cluster.training.config import PLACEMENT, MetaTraining, Training
from cluster.training.follower import finish, follow, missing_metrics
from cluster.training.validation import AT_0, AT_T, Validation
from cluster.training.worker import train_worker
from eosvos.config import flattened, to_dict
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.data.tasks import held_out
from eosvos.errors import BadInput
from eosvos.figures import style
from eosvos.figures.learned_rates import learned_rates
from eosvos.figures.training_curve import training_curve
from eosvos.learning.optimization import Optimization, differing_fields, load
from eosvos.learning.outer_loop import Learned
from eosvos.learning.rates import LearningRates, applied, initial_rates, level_counts
from eosvos.metrics.table import write_table
from eosvos.model.normalization import frozen_batch_norms
from eosvos.model.weights import initial_model
from eosvos.paths import absolute_address, absolute_path

CURVE, RATES = "training_curve", "learned_rates"
COMPLETE = "complete"
"""An empty file that is written when nothing is left to do."""


def train(training: Training) -> Path:
    """Runs or resumes a training and returns the path of its last checkpoint.

    Bad input is found before any work starts.

    Raises:
        BadInput: data, weights, parent, folder, cluster or tracking address that cannot be used.
    """
    data = absolute_address(training.data, "--data")
    if training.out is None:
        raise BadInput("--out: name the run's folder")
    folder = absolute_path(training.out, "--out")
    uri = tracking_uri()
    training = replace(training, data=data, out=folder)
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
    elif not _left(training, first_step):
        print(f"{folder}: all {training.outer.steps} outer steps are done already")
        return last
    connect()
    resources = worker_resources(training.workers, training.gpu)
    with run_folder.claimed(folder, training, free=PLACEMENT):
        first_step = checkpoints.latest(folder)  # another run may have been at work until now
        if first_step is None:
            assert start is not None
            first_step = 0
            checkpoints.save(folder, 0, *start)
        else:
            checkpoints.renew_last(folder, first_step)
        _run(training, dataset, resources, first_step, uri)
    return last


def _run(training: Training, dataset: EncodedDataset, resources: WorkerResources, first_step: int, uri: str) -> None:
    """Takes the outer steps that are left, with all that belongs to them, in the run's folder."""
    folder = training.out
    assert folder is not None
    last = folder / checkpoints.LAST
    print(f"{'resuming at' if first_step else 'starting from'} outer step {first_step}, in {folder}")
    kind = "meta_train" if isinstance(training, MetaTraining) else "parent_train"
    tracker = Tracker(uri, kind, f"{kind} {folder.name}", folder, flattened(to_dict(training)))
    parent = training.parent if isinstance(training, MetaTraining) else None
    began = load(last)
    more = {"parent_run": run_of(parent)} if parent is not None else {}
    if began.rates is not None:
        more["learning_rates"] = str(began.rates)
    tracker.tags(run_tags(dataset.hash, world_size=str(training.workers), **more))
    tracker.dataset(training.data, dataset.hash, "training")
    tracker.watch_system()
    print(f"MLflow: {uri}, run {tracker.run_id}")
    with tracker:
        validation = None
        if isinstance(training, MetaTraining) and training.held_out > 0:
            validation = Validation(training, dataset, first_step)
        if first_step < training.outer.steps:
            _fit(training, resources, first_step, tracker, validation)
        if validation:
            finish(validation, training, tracker)
        tracker.metrics(missing_metrics(tracker, progress.read(folder), validation))
        tracker.artifact(last)
        if isinstance(training, MetaTraining):
            best = folder / checkpoints.BEST if validation else None
            pictures = (*_rates(best or last, folder), *_curve(folder, training.steps_named))
            for path in (*([best] if best else []), folder / progress.FILE, *_objects(folder), *pictures):
                tracker.artifact(path)
            if validation:
                score = max(row[AT_T] for row in validation.rows())
                model = f"eosvos-{training.model.backbone}-{training.model.short_side}"
                scored_on = {"data_hash": dataset.hash, "held_out": ", ".join(began.facts["held_out"])}
                version = tracker.register(model, checkpoints.BEST, score, scored_on)
                print(f"registered as version {version} of {model}")
    (folder / COMPLETE).touch()


def _left(training: Training, first_step: int) -> bool:
    """Whether anything is left to do: outer steps, validations, pictures, or what MLflow is to have."""
    folder = training.out
    assert folder is not None
    return first_step < training.outer.steps or not (folder / COMPLETE).is_file()


def _initial(training: Training, dataset: EncodedDataset) -> tuple[Optimization, Learned]:
    """What a fresh training starts from."""
    without = held_out(len(dataset.sequences), training.held_out, training.seed)
    _check_can_validate(dataset, without)
    facts: dict[str, Any] = {
        "data_hash": dataset.hash,
        "held_out": [dataset.sequences[index].name for index in without],
    }
    parent = training.parent if isinstance(training, MetaTraining) else None
    rates: LearningRates | None = None
    if parent is not None:
        start = load(parent)
        rates = start.rates
        _check_unseen(parent, start, facts)
        if different := differing_fields(start.config, training.model):
            raise BadInput(f"{parent}: its model differs from the one configured in {different}")
        print(f"initialization: {parent}")
        initialization = start.initialization
        facts["parent"] = start.facts.get("step", 0)
    else:
        model, loaded = initial_model(training.model, training.backbone_weights, training.seed)
        if isinstance(training, MetaTraining) and training.backbone_weights == "none" and frozen_batch_norms(model):
            raise BadInput(
                "--normalization frozen_batch: a model that starts from nothing has no statistics to freeze; train a "
                "parent, which finds them, and give it with --parent"
            )
        print(f"initial weights: {loaded}")
        initialization = model.state_dict()
    optimization = Optimization(training.model, initialization, None, facts)
    if isinstance(training, MetaTraining):
        _check_rates(training, rates)
        facts |= {"T": training.T, "order": training.order}
        facts["initial_rate"] = None if rates else training.rates.initial_rate
        model = optimization.model()
        rates = rates or initial_rates(model, training.rates, training.seed)
        counts = ", ".join(f"{level} {count:,}" for level, count in level_counts(model).items())
        print(f"learning rates: {rates}; by level {counts}")
        optimization = replace(optimization, rates=rates, facts=facts)
    return optimization, checkpoints.learned_state(optimization, training.outer)


def _check_rates(training: MetaTraining, rates: LearningRates | None) -> None:
    """Raises BadInput where the checkpoint to start from has learning rates of another kind than configured."""
    wanted = f"{training.rates.rate_level}, {training.rates.rate_form}"
    if rates is not None and f"{rates.level}, {rates.form}" != wanted:
        raise BadInput(
            f"{training.parent}: its learning rates are {rates.level}, {rates.form}, not {wanted}; set --rate-level "
            f"{rates.level} --rate-form {rates.form} to go on with them"
        )


def _check_unseen(parent: Path, start: Optimization, facts: Mapping[str, Any]) -> None:
    """Raises BadInput where a parent has learned from what is to be held out of the same data."""
    seen = set(facts["held_out"]) - set(start.facts.get("held_out", ()))
    if seen and start.facts.get("data_hash") == facts["data_hash"]:
        raise BadInput(
            f"{parent}: was trained on {', '.join(sorted(seen))}, which --held-out keeps for validation; train the "
            "parent with the same --held-out and --seed, or set --held-out 0"
        )


def _check_can_validate(dataset: EncodedDataset, indices: Sequence[int]) -> None:
    """Raises BadInput where a held-out sequence has nothing to follow or nothing to score; known from the index."""
    for index in indices:
        positions = {position for own in dataset.visible(index).values() for position in own}
        if len(dataset.sequences[index]) < 3 or 0 not in positions or len(positions) < 3:
            raise BadInput(
                f"{dataset.uri}, {dataset.sequences[index].name}: held out for validation, but it has no object in its "
                "first frame, or fewer than three frames with one; encode without it, or set --held-out 0"
            )


def _fit(
    training: Training, resources: WorkerResources, first_step: int, tracker: Tracker, validation: Validation | None
) -> None:
    folder = training.out
    assert folder is not None
    queue = Queue(actor_options={"num_cpus": 0})
    ended = threading.Event()
    rows = [row for row in progress.read(folder) if row["step"] <= first_step]
    executor = ThreadPoolExecutor(1)
    follower = executor.submit(follow, queue, ended, training, rows, tracker, validation)
    follower.add_done_callback(_said_at_once)
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


def _said_at_once(follower: Future[None]) -> None:
    if (error := follower.exception()) is not None:
        print(f"nothing is shown, validated or logged from here on, but training goes on: {error}", flush=True)


def _objects(folder: Path) -> tuple[Path, Path]:
    """Per object the mean test losses at 0 and at T over the last half of the steps, and what fine-tuning gained; the
    two files of the table."""
    rows = progress.read(folder)
    losses: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in rows[len(rows) // 2 :]:
        for task in row["tasks"]:
            if task["loss_at_T"] is not None:
                own = losses.setdefault((task["sequence"], task["object"]), [])
                own.append((task["loss_at_0"], task["loss_at_T"]))
    table = [
        {"sequence": sequence, "object": number, "tasks": len(own)}
        | {"loss_at_0": at_0, "loss_at_T": at_T, "gain": at_0 - at_T}
        for (sequence, number), own in sorted(losses.items())
        for at_0, at_T in [(statistics.mean(pair[i] for pair in own) for i in (0, 1))]
    ]
    return write_table(table, folder, "objects")


def _rates(checkpoint: Path, folder: Path) -> tuple[Path, ...]:
    """Pictures of the learning rates in ``checkpoint``."""
    optimization = load(checkpoint)
    assert optimization.rates is not None
    learned = optimization.rates.learned
    rates = applied(list(learned.values()), optimization.rates.form, len(learned))
    named = {name: rate.numpy() for name, rate in zip(learned, rates, strict=True)}
    return style.save(learned_rates(named, optimization.facts.get("initial_rate")), folder, RATES)


def _curve(folder: Path, T: str) -> tuple[Path, ...]:
    """Pictures of ``progress.jsonl``, beside it."""
    rows = progress.read(folder)
    names = ("step", "loss_at_0", "loss_at_T", "mean_rate")
    steps, at_0, at_T, rates = ([row.get(name, math.nan) for row in rows] for name in names)
    validated = [(row["step"], row[AT_0], row[AT_T]) for row in progress.read(folder, progress.VALIDATION_FILE)]
    return style.save(training_curve(steps, at_0, at_T, rates, T, validated), folder, CURVE)

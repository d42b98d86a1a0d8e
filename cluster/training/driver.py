"""Training on Ray Train: tasks -> gradients -> one all-reduce -> one outer step -> checkpoint."""

import logging
import shutil
import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import ray.train
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.queue import Queue

from cluster import run_folder
from cluster.session import WorkerResources, bad_input_in, connect, worker_resources
from cluster.tracking.background import BackgroundTracker
from cluster.tracking.logged_run import RunFacts, logged_run
from cluster.tracking.provenance import run_of, run_tags
from cluster.tracking.run import Tracker, check_answers, tracking_uri
from cluster.training import checkpoints, progress
from cluster.training.config import PLACEMENT, Training
from cluster.training.follower import KEPT, RowLog, finish, follow
from cluster.training.pictures import training_pictures
from cluster.training.start import initial_state
from cluster.training.validation import Validation
from cluster.training.worker import Work, train_worker
from eosvos.data.mixture import Mixture, open_mixture
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization, load
from eosvos.paths import absolute_path

log = logging.getLogger(__name__)

COMPLETE = "complete"
"""An empty file that is written when nothing is left to do."""


def train(training: Training, folder: Path) -> Path:
    """Runs or resumes a training in a run's folder and returns the path of its last checkpoint.

    Bad input is found before any work starts.

    Raises:
        BadInput: data, weights, parent, folder, cluster or tracking address that cannot be used.
    """
    training, folder = training.with_absolute_paths(), absolute_path(folder, "--out")
    uri = tracking_uri()
    mixture = open_mixture(training.data, training.data_weights)
    run_folder.check(folder, training, free=PLACEMENT)
    first_step, start = checkpoints.latest(folder), None
    if first_step is None:
        start = initial_state(training, mixture)
    elif (hash_before := checkpoints.facts(folder, first_step).get("data_hash")) != mixture.hash:
        raise BadInput(
            f"{', '.join(training.data)}: its content (hash {mixture.hash[:12]}) is not what {folder} was trained on "
            f"({str(hash_before)[:12]}); give another --out"
        )
    elif first_step >= training.outer.steps and (folder / COMPLETE).is_file():
        log.info("%s: all %d outer steps are done already", folder, training.outer.steps)
        return folder / checkpoints.LAST
    check_answers(uri)
    connect()
    resources = worker_resources(training.workers, training.gpu)
    with run_folder.claimed(folder, training, free=PLACEMENT):
        first_step = checkpoints.latest(folder)  # another run may have been at work until now
        if first_step is None:
            assert start is not None
            first_step = 0
            checkpoints.save(folder, 0, start, checkpoints.learned_state(start, training.outer))
        else:
            checkpoints.renew_last(folder, first_step)
        if _run(training, folder, mixture, resources, first_step, uri):
            (folder / COMPLETE).touch()
    return folder / checkpoints.LAST


def _run(
    training: Training, folder: Path, mixture: Mixture, resources: WorkerResources, first_step: int, uri: str
) -> bool:
    """Takes the outer steps that are left, with all that belongs to them; whether MLflow has all of it."""
    last = folder / checkpoints.LAST
    log.info("%s outer step %d, in %s", "resuming at" if first_step else "starting from", first_step, folder)
    began = load(last)
    tags = {"parent_run": run_of(training.start)} if training.start is not None else {}
    if began.rates is not None:
        tags["learning_rates"] = str(began.rates)
    tags = run_tags(mixture.hash, world_size=str(training.workers), **tags)
    data = tuple((dataset.uri, dataset.hash, "training") for dataset in mixture.datasets)
    facts = RunFacts(training.job, f"{training.job} {folder.name}", training, mixture.hash, tags, data)
    with logged_run(uri, folder, facts) as background:
        background.do(Tracker.watch_system)
        settings = training.validation
        validation = None if settings is None else Validation(training, settings, folder, mixture, first_step)
        if first_step < training.outer.steps:
            _fit(training, folder, resources, first_step, background, validation)
        RowLog(background, KEPT).send(progress.read(folder))  # what a kill, or no step to take, has kept from MLflow
        if validation:
            finish(validation, background)
        _log_results(training, folder, began, background, validation)
    return background.all_logged and not background.refused


def _log_results(
    training: Training,
    folder: Path,
    began: Optimization,
    background: BackgroundTracker,
    validation: Validation | None,
) -> None:
    """Checkpoints, pictures and the registered model, to MLflow."""
    last, best = folder / checkpoints.LAST, folder / checkpoints.BEST
    rows = validation.rows() if validation else []
    kept = (last, best) if rows else (last,)
    pictures = training_pictures(load(kept[-1]), folder, training.learner().fine_tuning_steps)
    for path in (*kept, folder / progress.FILE, *pictures):
        background.do(partial(Tracker.artifact, path=path))
    if rows and began.rates is not None:  # a parent alone segments nothing: somebody has to choose a rate
        row = progress.best_validation(rows)
        score = row["validation_j_and_f_at_T"]
        model = f"eosvos-{training.model.backbone}-{training.model.short_side}"
        scored_on = {
            "data_hash": began.facts["data_hash"],
            "held_out": ", ".join(began.facts["held_out"]),
            "windows": f"{row.get('validation_windows', 0)} of {training.validation_frames} frames",
        }

        def register(tracker: Tracker) -> None:
            version = tracker.register(model, checkpoints.BEST, score, scored_on)
            log.info("registered as version %d of %s", version, model)

        background.do(register)


def _fit(
    training: Training,
    folder: Path,
    resources: WorkerResources,
    first_step: int,
    background: BackgroundTracker,
    validation: Validation | None,
) -> None:
    queue = Queue(actor_options={"num_cpus": 0})
    ended = threading.Event()
    rows = [row for row in progress.read(folder) if row["step"] <= first_step]
    executor = ThreadPoolExecutor(1)
    follower = executor.submit(follow, queue, ended, training, rows, background, validation)
    follower.add_done_callback(_say_at_once)
    scratch = folder / ".ray_train"  # Ray Train wants a folder that all nodes see; our checkpoints do not go there
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"work": Work(training, folder, resources.stream_cpus, queue)},
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


def _say_at_once(follower: Future[None]) -> None:
    if (error := follower.exception()) is not None:
        log.warning("nothing is shown, validated or logged from here on, but training goes on: %s", error)

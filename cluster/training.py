"""Training on Ray Train: tasks -> gradients -> one all-reduce -> one outer step -> checkpoint."""

import json
import math
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import ray.train
import torch
import torch.distributed as dist
import tyro
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.queue import Empty, Queue

from cluster import checkpoints
from cluster.run_folder import absolute, claim
from cluster.session import connect, worker_resources
from cluster.stream import StreamConfig, task_stream
from cluster.tracking import Tracker, tracking_uri
from eosvos.cli import flattened, to_dict
from eosvos.data.augment import AugmentationConfig, TaskFrames
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.data.tasks import PlanConfig, Task
from eosvos.errors import BadInput
from eosvos.learning.meta_gradient import first_order
from eosvos.learning.optimization import Optimization, differing_fields, initial_log_rates, load
from eosvos.learning.outer_loop import GradientSum, Learned, OuterConfig
from eosvos.learning.parent import parent_gradient
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.weights import initial_model

PLACEMENT = ("out", "workers", "threads_per_worker", "gpu", "checkpoint_every")
"""Fields that say where and how a training runs, not what it computes; a resumed run may change them."""


@dataclass(frozen=True)
class Training:
    """A parent's training; the base of meta-training."""

    data: str = ""
    """Encoded dataset to train on: a folder or URI that jobs/encode_dataset.py wrote."""
    out: Path | None = None
    """Run folder; runs/<job>/<preset> by default. The same command on the same folder resumes."""
    seed: int = 0
    """Of everything random."""
    backbone_weights: str = "coco"
    """Initial weights: coco, imagenet, none, or a safetensors file with torchvision's names."""
    workers: int = 1
    """Training workers, each with a CPU or GPU of its own; they share the tasks of each meta-batch."""
    threads_per_worker: int = 1
    """Threads of each worker's arithmetic."""
    gpu: bool = False
    """Give each worker a GPU."""
    checkpoint_every: int = 25
    """Outer steps between checkpoints."""
    model: ModelConfig = ModelConfig()
    plan: PlanConfig = PlanConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    outer: OuterConfig = OuterConfig()

    def __post_init__(self) -> None:
        for name in ("workers", "threads_per_worker", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed: must be at least 0, got {self.seed}")


@dataclass(frozen=True)
class MetaTraining(Training):
    """Meta-training of the initialization and its learning rates (paper section 3.2)."""

    T: Annotated[int, tyro.conf.arg(aliases=["-T"])] = 5
    """Fine-tuning steps of the inner loop."""
    initial_rate: float = 1e-3
    """Every neuron's learning rate at the start."""
    parent: Path | None = None
    """Checkpoint of jobs/parent_train.py to start from, instead of --backbone-weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.T < 1:
            raise ValueError(f"T: must be at least 1, got {self.T}")
        if not self.initial_rate > 0:
            raise ValueError(f"initial_rate: must be above 0, got {self.initial_rate}")


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
    folder = Path(absolute(training.out, "--out"))
    uri = tracking_uri()
    training = replace(training, data=absolute(training.data, "--data"), out=folder)
    if isinstance(training, MetaTraining) and training.parent is not None:
        training = replace(training, parent=Path(absolute(training.parent, "--parent")))
    dataset = open_dataset(training.data)
    last = folder / checkpoints.LAST
    resumed = claim(folder, training, free=PLACEMENT)
    first_step = checkpoints.latest(folder)
    if first_step is None:
        checkpoints.save(folder, 0, *_initial(training, dataset))
        first_step = 0
    if first_step >= training.outer.steps:
        print(f"{folder}: all {training.outer.steps} outer steps are done already")
        return last
    print(f"{'resuming at' if resumed and first_step else 'starting from'} outer step {first_step}, in {folder}")
    connect()
    kind = "meta_train" if isinstance(training, MetaTraining) else "parent_train"
    tracker = Tracker(uri, kind, f"{kind} {folder.name}", folder, flattened(to_dict(training)))
    tracker.tags({"data_hash": dataset.hash, "world_size": str(training.workers)})
    print(f"MLflow: {uri}, run {tracker.run_id}")
    try:
        _fit(training, folder, first_step, tracker)
    except BaseException:
        tracker.end(failed=True)
        raise
    tracker.artifact(last)
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
    return optimization, _learned(optimization, training.outer)


def _learned(optimization: Optimization, config: OuterConfig) -> Learned:
    names = [name for name, _ in optimization.model().named_parameters()]
    rates = list(optimization.log_rates.values()) if optimization.log_rates else []
    return Learned([optimization.initialization[name] for name in names], rates, config)


def _fit(training: Training, folder: Path, first_step: int, tracker: Tracker) -> None:
    resources = worker_resources(training.workers, training.gpu)
    queue = Queue(actor_options={"num_cpus": 0})
    ended = threading.Event()
    follower = threading.Thread(target=_follow, args=(queue, ended, training, folder, first_step, tracker))
    follower.start()
    scratch = folder / ".ray_train"  # Ray Train wants a folder that all nodes see; our checkpoints do not go there
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"training": training, "queue": queue, "stream_cpus": resources.stream_cpus},
        scaling_config=ray.train.ScalingConfig(
            num_workers=training.workers, use_gpu=training.gpu, resources_per_worker=resources.worker
        ),
        run_config=ray.train.RunConfig(name=uuid.uuid4().hex, storage_path=str(scratch)),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            if (bad := _bad_input(failure)) is not None:
                raise bad from error
        raise
    finally:
        ended.set()
        follower.join()
        queue.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _bad_input(error: BaseException | None) -> BadInput | None:
    """The bad input among what an error was raised from; Ray wraps what a worker raises in errors of its own."""
    while error is not None:
        if isinstance(error, BadInput):
            return BadInput(str(error).splitlines()[0])
        error = error.__cause__ or getattr(error, "cause", None)
    return None


def _worker(config: dict[str, Any]) -> None:
    """The loop of one training worker; every worker holds the same state and takes the same outer steps."""
    training: Training = config["training"]
    context = ray.train.get_context()
    worker, workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(training.threads_per_worker)
    device = get_device() if training.gpu else torch.device("cpu")
    assert training.out is not None
    folder, dataset = training.out, open_dataset(training.data)
    first_step = checkpoints.latest(folder)
    assert first_step is not None
    optimization, optimizer_tensors = checkpoints.load(folder, first_step, device)
    model = optimization.model().to(device)
    learned = _learned(optimization, training.outer)
    learned.load_optimizer_tensors(optimizer_tensors)
    total = GradientSum(learned)
    started = time.perf_counter()
    for step, tasks in enumerate(
        _tasks(training, dataset, worker, workers, first_step, config["stream_cpus"]), first_step
    ):
        total.clear()
        dropped = [
            _name(dataset, task) for task, frames in tasks if not _add(training, model, learned, task, frames, total)
        ]
        if dist.is_initialized():
            dist.all_reduce(total.buffer)
        kept, loss_at_0, loss_at_T = total.mean()
        if kept:
            learned.step(total, step)
        if kept < training.outer.meta_batch:
            dropped = _gathered(dropped, workers)
        done = step + 1
        if worker == 0:
            row = {"step": done, "loss_at_T": loss_at_T, "kept": kept, "seconds": time.perf_counter() - started}
            if isinstance(training, MetaTraining):
                row |= {"loss_at_0": loss_at_0, "mean_rate": float(learned.log_rates.exp().mean())}
            if done % training.checkpoint_every == 0 or done == training.outer.steps:
                checkpoints.save(folder, done, optimization, learned)
            config["queue"].put((row, dropped))
        started = time.perf_counter()


def _tasks(
    training: Training, dataset: EncodedDataset, worker: int, workers: int, first_step: int, cpus: float
) -> Iterator[list[tuple[Task, TaskFrames]]]:
    stream = StreamConfig(
        training.plan,
        training.augmentation,
        training.outer.meta_batch,
        training.seed,
        training.model.short_side,
        training.model.long_side,
    )
    return task_stream(dataset, stream, worker, workers, first_step, training.outer.steps, cpus)


def _add(
    training: Training, model: MaskRCNN, learned: Learned, task: Task, frames: TaskFrames, total: GradientSum
) -> bool:
    """Adds one task's gradient to ``total``; False, and nothing added, where it is not finite."""
    seed = (training.seed, task.epoch, task.index)
    if isinstance(training, MetaTraining):
        train_batch = model.batch([frames.train_image], [frames.train_mask])
        test_batch = model.batch([frames.test_image], [frames.test_mask])
        meta = first_order(
            model, learned.initialization_views, learned.log_rates_views, train_batch, test_batch, training.T, seed
        )
        if meta.finite:
            total.add(meta.initialization, meta.log_rates, meta.loss_at_0, meta.loss_at_T)
        return meta.finite
    batch = model.batch([frames.train_image, frames.test_image], [frames.train_mask, frames.test_mask])
    loss, gradient = parent_gradient(model, learned.initialization_views, batch, seed)
    finite = math.isfinite(loss) and all(bool(torch.isfinite(part).all()) for part in gradient)
    if finite:
        total.add(gradient, [], loss, loss)
    return finite


def _name(dataset: EncodedDataset, task: Task) -> str:
    sequence = dataset.sequences[task.sequence]
    return f"{sequence.name} object {task.object_id} frames {task.train_frame} and {task.test_frame}"


def _gathered(names: list[str], workers: int) -> list[str]:
    if workers == 1:
        return names
    every: list[list[str]] = [[] for _ in range(workers)]
    dist.all_gather_object(every, names)
    return [name for part in every for name in part]


def _follow(
    queue: Queue, ended: threading.Event, training: Training, folder: Path, first_step: int, tracker: Tracker
) -> None:
    """Writes what the workers report to the terminal, the run's folder and MLflow, until the training has ended."""
    log = folder / "progress.jsonl"
    kept_lines = [line for line in _lines(log) if json.loads(line)["step"] <= first_step]
    log.write_text("".join(f"{line}\n" for line in kept_lines))  # what a killed run did after its last checkpoint
    unlogged: list[tuple[int, dict[str, float]]] = []
    shown = logged = time.monotonic()
    pace: float | None = None
    while True:
        try:
            row, dropped = queue.get(timeout=1)
        except Empty:
            if ended.is_set():
                break
            continue
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name in dropped:
            print(f"step {row['step']}: dropped a task whose loss is not finite: {name}")
        pace = row["seconds"] if pace is None else 0.9 * pace + 0.1 * row["seconds"]
        unlogged.append((row["step"], {name: value for name, value in row.items() if name != "step"}))
        final = row["step"] == training.outer.steps
        if final or time.monotonic() - shown > 5:
            print(_progress_line(row, training, pace), flush=True)
            shown = time.monotonic()
        if final or time.monotonic() - logged > 10:
            tracker.metrics(unlogged)
            unlogged, logged = [], time.monotonic()
    tracker.metrics(unlogged)


def _lines(path: Path) -> list[str]:
    """Whole lines of a JSON-lines file; a kill may have cut the last one."""
    text = path.read_text() if path.is_file() else ""
    return [line for line in text.split("\n")[:-1] if line]


def _progress_line(row: dict[str, float], training: Training, pace: float) -> str:
    left = round((training.outer.steps - row["step"]) * pace)
    losses = f"loss {row['loss_at_T']:.3f}"
    if isinstance(training, MetaTraining):
        losses = (
            f"test loss {row['loss_at_0']:.3f} at 0, {row['loss_at_T']:.3f} at {training.T}, "
            f"mean rate {row['mean_rate']:.4f}"
        )
    return (
        f"step {row['step']}/{training.outer.steps}  {losses}  {training.outer.meta_batch / pace:.1f} tasks/s  "
        f"{left // 60}:{left % 60:02d} left"
    )

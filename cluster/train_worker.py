"""The loop of one training worker; all workers hold the same state and take the same outer steps."""

import math
import time
from collections.abc import Iterator
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device

from cluster import checkpoints, progress
from cluster.config import MetaTraining, Training
from cluster.stream import StreamConfig, task_stream
from eosvos.data.augment import TaskFrames
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.data.tasks import Task
from eosvos.learning.meta_gradient import first_order
from eosvos.learning.outer_loop import GradientSum, Learned
from eosvos.learning.parent import parent_gradient
from eosvos.model.mask_rcnn import MaskRCNN


def train_worker(config: dict[str, Any]) -> None:
    """What Ray Train runs on every worker.

    Args:
        config: ``training`` (Training), ``stream_cpus`` (float) and ``queue`` (Queue of (row, names of dropped tasks),
            fed by worker 0).
    """
    training: Training = config["training"]
    context = ray.train.get_context()
    worker, workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(training.threads_per_worker)
    device = get_device() if training.gpu else torch.device("cpu")
    assert training.out is not None
    folder, dataset = training.out, open_dataset(training.data)
    # Looked up here and not by the driver, as Ray Train starts the workers anew after a preemption; one looks for all.
    first_step = broadcast_from_rank_zero(checkpoints.latest(folder))
    assert first_step is not None
    if worker == 0:
        progress.forget_after(folder, first_step)
    optimization, optimizer_tensors = checkpoints.load(folder, first_step, device)
    model = optimization.model().to(device)
    learned = checkpoints.learned_state(optimization, training.outer)
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
            row = {"step": done, "kept": kept, "seconds": time.perf_counter() - started}
            is_meta = isinstance(training, MetaTraining)
            if kept:  # a skipped step has no losses
                row |= {"loss_at_0": loss_at_0, "loss_at_T": loss_at_T} if is_meta else {"loss_at_T": loss_at_T}
            if is_meta:
                row["mean_rate"] = float(learned.log_rates.detach().exp().mean())
            progress.append(folder, row)
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
        finite = meta.finite and math.isfinite(meta.loss_at_0)
        if finite:
            total.add(meta.initialization, meta.log_rates, meta.loss_at_0, meta.loss_at_T)
        return finite
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

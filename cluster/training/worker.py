"""The loop of one training worker; all workers hold the same state and take the same outer steps."""

import math
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device

from cluster.training import checkpoints, progress
from cluster.training.config import MetaTraining, Training
from cluster.training.stream import StreamConfig, planned, task_stream
from eosvos.data.augment import TaskFrames
from eosvos.data.parquet import EncodedDataset, open_dataset
from eosvos.data.tasks import Task, held_out
from eosvos.learning.meta_gradient import meta_gradient
from eosvos.learning.outer_loop import GradientSum, Learned
from eosvos.learning.parent import parent_gradient
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.normalization import (
    FrozenBatchNorm,
    frozen_batch_norms,
    running_statistics,
    seen_statistics,
    update_statistics,
)


def train_worker(config: dict[str, Any]) -> None:
    """What Ray Train runs on every worker.

    Args:
        config: ``training`` (Training), ``stream_cpus`` (float) and ``queue`` (Queue of rows as in ``progress``, fed by
            worker 0).
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
    norms = _live_norms(training, model)
    total = GradientSum(learned, running_statistics(norms))
    steps, stream = (first_step, training.outer.steps), stream_config(training, dataset)
    started = time.perf_counter()
    own_tasks = task_stream(dataset, stream, worker, workers, *steps, config["stream_cpus"])
    everybodys = _batched(planned(dataset, stream, *steps), training.outer.meta_batch)
    for done, (own, everybody) in enumerate(zip(own_tasks, everybodys, strict=True), first_step + 1):
        total.clear()
        for task, frames in own:
            _add(training, model, learned, done - 1, task, frames, total)
        if dist.is_initialized():
            dist.all_reduce(total.buffer)
        losses = total.mean()
        if any(losses):
            learned.step(total, done - 1)
            if norms:
                update_statistics(norms, total.statistics)
                optimization.initialization.update(model.named_buffers())  # the parameters are in `learned`
        if worker == 0:
            is_meta = isinstance(training, MetaTraining)
            row = {"step": done, "seconds": time.perf_counter() - started}
            started = time.perf_counter()  # so that what comes now counts for the next step
            if is_meta:
                row["mean_rate"] = learned.mean_rate()
            row |= _losses(dataset, everybody, losses, is_meta)
            progress.append(folder, row)
            validates = isinstance(training, MetaTraining) and training.validates_at(done)
            if validates:
                checkpoints.save_candidate(folder, done, optimization, learned)
            # With every candidate too, so that no validation is of a step that a resumed run does again.
            if validates or done % training.checkpoint_every == 0 or done == training.outer.steps:
                checkpoints.save(folder, done, optimization, learned)
            config["queue"].put(row)


def _live_norms(training: Training, model: MaskRCNN) -> list[FrozenBatchNorm]:
    """The batch norms whose statistics are found in this training: a parent's that starts from nothing."""
    if isinstance(training, MetaTraining) or training.backbone_weights != "none":
        return []
    norms = frozen_batch_norms(model)
    for norm in norms:
        norm.live = True
    return norms


def stream_config(training: Training, dataset: EncodedDataset) -> StreamConfig:
    """Which tasks a training sees."""
    return StreamConfig(
        training.plan,
        training.augmentation,
        training.outer.meta_batch,
        training.seed,
        training.model.short_side,
        training.model.long_side,
        held_out(len(dataset.sequences), training.held_out, training.seed),
    )


def _batched(tasks: Iterator[Task], size: int) -> Iterator[list[Task]]:
    return iter(lambda: list(islice(tasks, size)), [])


def _add(
    training: Training, model: MaskRCNN, learned: Learned, step: int, task: Task, frames: TaskFrames, total: GradientSum
) -> None:
    """Adds one task's gradient in outer step ``step``, from 0, to ``total``, unless it is not finite."""
    slot, seed = task.position % training.outer.meta_batch, (training.seed, task.epoch, task.index)
    if isinstance(training, MetaTraining):
        test_batch = model.batch(list(frames.test_images), list(frames.test_masks))
        meta = meta_gradient(
            model,
            learned.initialization_views,
            learned.rates_views,
            learned.form,
            model.batch(list(frames.train_images), list(frames.train_masks)),
            test_batch,
            training.loss_weights(step, training.inner_steps(task.epoch, task.index)),
            seed,
            training.order,
        )
        if meta.finite:
            total.add(slot, meta.initialization, meta.rates, meta.loss_at_0, meta.loss_at_T)
        return
    images, masks = [*frames.train_images, *frames.test_images], [*frames.train_masks, *frames.test_masks]
    batch = model.batch(images, masks)
    loss, gradient = parent_gradient(model, learned.initialization_views, batch, seed)
    if math.isfinite(loss) and all(bool(torch.isfinite(part).all()) for part in gradient):
        total.add(slot, gradient, [], loss, loss, seen_statistics(frozen_batch_norms(model)))


def _losses(
    dataset: EncodedDataset, tasks: list[Task], losses: list[tuple[float, float] | None], is_meta: bool
) -> progress.Row:
    """What a step's row says of its tasks: mean losses where any was kept, and losses one by one (None: dropped)."""
    kept = [own for own in losses if own is not None]
    row: progress.Row = {"kept": len(kept)}
    if kept and is_meta:
        row["loss_at_0"] = sum(at_0 for at_0, _ in kept) / len(kept)
        row["helped"] = sum(at_T < at_0 for at_0, at_T in kept) / len(kept)
    if kept:
        row["loss_at_T"] = sum(at_T for _, at_T in kept) / len(kept)
    if kept and is_meta:
        row["gain"] = row["loss_at_0"] - row["loss_at_T"]
    row["tasks"] = []
    for task, own in zip(tasks, losses, strict=True):
        sequence, object_id, frames = task.target
        named = {"sequence": dataset.sequences[sequence].name, "object": object_id, "frames": list(frames)}
        at_0 = {"loss_at_0": own and own[0]} if is_meta else {}
        row["tasks"].append(named | at_0 | {"loss_at_T": own and own[1]})
    return row

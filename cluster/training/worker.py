"""The loop of one training worker; all workers hold the same state and take the same outer steps."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import ray.train
import torch
import torch.distributed as dist
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device
from ray.util.queue import Queue

from cluster.training import checkpoints, progress
from cluster.training.config import Training
from cluster.training.progress import StepRow, TaskRow
from cluster.training.stream import planned, stream_config, task_stream
from eosvos.data.mixture import Mixture, open_mixture
from eosvos.data.tasks import Task
from eosvos.learning.learner import Learner
from eosvos.learning.optimization import save
from eosvos.learning.outer_loop import GradientSum, Losses
from eosvos.model.normalization import running_statistics, update_statistics


@dataclass(frozen=True)
class Work:
    """What every worker of a training is given.

    Attributes:
        training: its configuration.
        folder: of the run.
        stream_cpus: CPUs that each worker's stream of tasks may use.
        queue: of rows, fed by worker 0. Not Ray Train's own ``report``, which every rank calls and which waits for the
            controller: 1.9 s a step against 1.7 ms (Ray 2.60, two workers on two cores).
    """

    training: Training
    folder: Path
    stream_cpus: float
    queue: Queue


def train_worker(config: dict[str, Work]) -> None:
    """What Ray Train runs on every worker; ``config`` has the ``work``."""
    work = config["work"]
    training, folder, learner = work.training, work.folder, work.training.learner()
    context = ray.train.get_context()
    worker, workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(training.threads_per_worker)
    device = get_device() if training.gpu else torch.device("cpu")
    data = open_mixture(training.data, training.data_weights)
    # Looked up here and not by the driver, as Ray Train starts the workers anew after a preemption; one looks for all.
    first_step = broadcast_from_rank_zero(checkpoints.latest(folder))
    assert first_step is not None
    if worker == 0:
        progress.forget_after(folder, first_step)
    optimization, optimizer_tensors = checkpoints.load(folder, first_step, device)
    model = optimization.model().to(device)
    learned = checkpoints.learned_state(optimization, training.outer)
    learned.load_optimizer_tensors(optimizer_tensors)
    average = checkpoints.load_average(folder, first_step, optimization, training.outer) if worker == 0 else None
    norms = learner.prepare(model)
    total = GradientSum(learned, running_statistics(norms))
    steps, stream = (first_step, training.outer.steps), stream_config(training, data)
    started = time.perf_counter()
    shared_tasks = task_stream(data, stream, worker, workers, *steps, work.stream_cpus)
    all_tasks = _batched(planned(data, stream, *steps), training.outer.meta_batch)
    for done, (batch, tasks) in enumerate(zip(shared_tasks, all_tasks, strict=True), first_step + 1):
        total.clear()
        for task, frames in batch:
            gradient = learner.gradient(model, learned, frames, task, done - 1)
            total.add(task.position % training.outer.meta_batch, gradient)
        if dist.is_initialized():
            dist.all_reduce(total.buffer)
        losses = total.mean()
        if any(losses):
            learned.step(total, done - 1)
            if norms:
                update_statistics(norms, total.statistics)
                optimization.initialization.update(model.named_buffers())  # the parameters are in `learned`
        if worker == 0:
            row: StepRow = {"step": done, "seconds": time.perf_counter() - started}
            started = time.perf_counter()  # so that what comes now counts for the next step
            row |= learner.measures(losses, learned)  # type: ignore[typeddict-item]
            row["tasks"] = _task_rows(data, learner, tasks, losses)
            progress.append(folder, row)
            now = checkpoints.current(optimization, learned, done)
            if average:
                average.add(now, done)
            validates = training.validation is not None and training.validation.is_due(done)
            if validates:
                save(average.optimization if average else now, checkpoints.candidate(folder, done))
            # With every candidate too, so that no validation is of a step that a resumed run does again.
            if validates or done % training.checkpoint_every == 0 or done == training.outer.steps:
                checkpoints.save(folder, done, optimization, learned, average)
            work.queue.put(row)


def _batched(tasks: Iterator[Task], size: int) -> Iterator[list[Task]]:
    return iter(lambda: list(islice(tasks, size)), [])


def _task_rows(
    data: Mixture, learner: Learner, tasks: Sequence[Task], losses: Sequence[Losses | None]
) -> list[TaskRow]:
    rows: list[TaskRow] = []
    for task, task_losses in zip(tasks, losses, strict=True):
        sequence, object_id, frames = task.target
        row: TaskRow = {"sequence": data.names([sequence])[0], "object": object_id, "frames": list(frames)}
        rows.append({**row, **learner.task_losses(task_losses)})
    return rows

"""The seeded plan of tasks, carried by Ray Data: read, decode, augment, one pipeline per worker."""

import dataclasses
import json
import logging
import pickle
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pyarrow as pa
import ray.data
import torch
from safetensors.torch import load, save

from cluster.session import DATA_TASK_CPUS
from cluster.training.config import Training
from eosvos.data.augment import TaskFrames, task_frames
from eosvos.data.config import AugmentationConfig, PlanConfig, Targets
from eosvos.data.mixture import Mixture
from eosvos.data.sequence import Sequence
from eosvos.data.tasks import Donor, Task, plan, worker_tasks

logging.getLogger("ray.data").setLevel(logging.ERROR)  # each pipeline says its plan, and how it is, on the terminal

SEGMENT_STEPS = 500
"""Outer steps that one pipeline carries; the plan of a long training never lies in memory as a whole."""


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """Which tasks, how augmented, at which size, with which objects; of all sequences but those left out (places)."""

    plan: PlanConfig
    augmentation: AugmentationConfig
    meta_batch: int
    seed: int
    short_side: int
    long_side: int
    without: tuple[int, ...] = ()
    targets: Targets = "one"


def stream_config(training: Training, data: Mixture) -> StreamConfig:
    """Which tasks a training sees."""
    return StreamConfig(
        training.plan,
        training.augmentation,
        training.outer.meta_batch,
        training.seed,
        training.model.short_side,
        training.model.long_side,
        data.without(data.held_out(training.held_out, training.seed)),
        training.targets,
    )


def planned(data: Mixture, config: StreamConfig, first_step: int, last_step: int) -> Iterator[Task]:
    """The tasks of all workers in outer steps ``first_step`` up to but without ``last_step``, in order."""
    sources = data.sources(config.plan, config.without)
    return plan(sources, config.plan, config.seed, config.meta_batch, first_step, last_step)


def task_stream(
    data: Mixture,
    config: StreamConfig,
    worker: int,
    workers: int,
    first_step: int,
    last_step: int,
    cpus: float,
) -> Iterator[list[tuple[Task, TaskFrames]]]:
    """Per outer step, in order, this worker's tasks; the same tasks whatever the number of workers.

    Args:
        data: encoded sequences.
        config: of the stream.
        worker, workers: rank and number of training workers.
        first_step, last_step: outer steps to cover, the last one excluded.
        cpus: how many CPUs the pipeline may use.
    """
    for start in range(first_step, last_step, SEGMENT_STEPS):
        stop = min(start + SEGMENT_STEPS, last_step)
        mine = list(worker_tasks(planned(data, config, start, stop), config.meta_batch, worker, workers))
        yield from _pipeline(mine, data, config, stop - start, cpus)


def _pipeline(
    tasks: list[Task], data: Mixture, config: StreamConfig, steps: int, cpus: float
) -> Iterator[list[tuple[Task, TaskFrames]]]:
    per_step = len(tasks) // steps
    if per_step == 0:  # more workers than tasks in a meta-batch: this one has none, but takes part in every step
        yield from ([] for _ in range(steps))
        return
    rows = [{"task": json.dumps(dataclasses.asdict(task))} for task in tasks]
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # else what was raised is lost but for its text
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = context.execution_options.resource_limits.copy(cpu=cpus)
    with ray.data.DataContext.current(context):
        # Items, as from_arrow looks at each block in a task that asks for a whole CPU: none may be free until the
        # stream of another worker has made all of its segment. Actors and not tasks, as Ray ends the processes of idle
        # tasks, and each new one imports torch for seconds.
        made: Any = ray.data.from_items(rows, override_num_blocks=steps).map_batches(
            _Maker,
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=DATA_TASK_CPUS,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(int(cpus), 1)),
            fn_constructor_args=(pickle.dumps(data), config),
        )
    for batch in made.iter_batches(batch_size=per_step, batch_format="pyarrow", prefetch_batches=2):
        yield [(_task(row["task"]), TaskFrames(**load(row["frames"]))) for row in batch.to_pylist()]


class _Maker:
    """Plan rows -> the same rows with their frames; one per process of the stream."""

    def __init__(self, data: bytes, config: StreamConfig) -> None:
        torch.set_num_threads(1)  # it asks for a part of one CPU
        self.data, self.config = data, config

    @cached_property
    def sequences(self) -> tuple[Sequence, ...]:
        """Opened with the first rows, and not with the actor, whose errors Ray Data passes on as text only."""
        data: Mixture = pickle.loads(self.data)
        return data.sequences

    def __call__(self, rows: pa.Table) -> pa.Table:
        config = self.config
        packed = []
        for text in rows["task"].to_pylist():
            frames = task_frames(
                self.sequences,
                _task(text),
                config.augmentation,
                config.seed,
                config.short_side,
                config.long_side,
                config.targets,
            )
            packed.append(save({field.name: getattr(frames, field.name) for field in dataclasses.fields(frames)}))
        return rows.append_column("frames", pa.array(packed, pa.binary()))


def _task(text: str) -> Task:
    values = json.loads(text)
    donor = values["donor"] and Donor(**{**values["donor"], "frames": tuple(values["donor"]["frames"])})
    return Task(**{**values, "frames": tuple(values["frames"]), "donor": donor, "hidden": tuple(values["hidden"])})

"""What a training or an evaluation would do: data, model, and the time that what is measured here makes expect."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cluster.evaluation.config import Evaluation
from cluster.evaluation.setup import chosen
from cluster.training import checkpoints
from cluster.training.config import Training
from cluster.training.worker import stream_config
from eosvos.data.augment import TaskFrames, input_size
from eosvos.data.config import PlanConfig
from eosvos.data.parquet import open_dataset
from eosvos.data.tasks import Task, learnable
from eosvos.draws import generator
from eosvos.errors import BadInput
from eosvos.learning.inner_loop import gradient
from eosvos.learning.optimization import Optimization, load
from eosvos.model.backbones import count_parameters
from eosvos.model.mask_rcnn import Batch, MaskRCNN
from eosvos.model.weights import initial_model

TYPICAL_SIZE = (480, 854)
"""(H, W) of a frame, where no dataset is named."""


def what_would_run(training: Training, folder: Path) -> str:
    """Some lines of text. Nothing is written, and no Ray is started; one task is measured on this machine.

    Raises:
        BadInput: a dataset that cannot be used, or no GPU where one is asked for.
    """
    if training.gpu and not torch.cuda.is_available():
        raise BadInput("--gpu: this machine has no GPU to measure a task on; add --no-gpu for a dry run")
    size, data = _data(training)
    height, width = input_size(size, training.model.short_side, training.model.long_side)
    model, _ = initial_model(training.model, "none", training.seed)
    lines = [
        data,
        f"model: {training.model.backbone}, {count_parameters(model):,} parameters, frames {_by((height, width))}",
    ]
    given = Optimization(training.model, model.state_dict(), None)
    optimization = training.learner().start(given, "a checkpoint")
    if optimization.rates is not None:
        lines.append(f"learning rates: {optimization.rates}")
    seconds, gigabytes = _measured(model, optimization, size, training)
    threads = "" if training.gpu else f", {training.threads_per_worker} thread(s)"
    lines.append(f"one task: {seconds:.2f} s on this {'GPU' if training.gpu else 'CPU'}{threads}")
    lines.append(f"memory: {gigabytes:.1f} GB per worker")
    steps, tasks = training.outer.steps, training.outer.meta_batch
    own = -(-tasks // training.workers)
    lines.append(f"steps: {steps:,} outer steps of {tasks} tasks, {own} for each of {training.workers} worker(s)")
    done = checkpoints.latest(folder)
    if done:
        lines.append(f"done: {done:,} outer steps, in {folder}")
    hours = (steps - (done or 0)) * own * seconds / 3600
    paid = hours * training.workers * (1 if training.gpu else training.threads_per_worker)
    lines.append(
        f"time: about {_time(hours)} on workers like this machine, {paid:,.1f} "
        f"{'GPU' if training.gpu else 'core'} hours in all; validation and waiting for data not included"
    )
    return "\n".join(lines)


def what_would_be_evaluated(evaluation: Evaluation) -> str:
    """Some lines of text. Nothing is written, and no Ray is started; a step and a frame are measured on this machine.

    Raises:
        BadInput: a checkpoint or dataset that cannot be used, or no GPU where one is asked for.
    """
    gpu = evaluation.gpus_per_task > 0
    if gpu and not torch.cuda.is_available():
        raise BadInput("--gpus-per-task: this machine has no GPU to measure on; leave the flag out for a dry run")
    optimization, config = load(evaluation.checkpoint), evaluation.segmentation
    size, objects, frames, data = _amount(evaluation)
    device = torch.device("cuda" if gpu else "cpu")
    model = optimization.model().to(device)
    short, long = (round(config.input_scale * side) for side in (model.config.short_side, model.config.long_side))
    size = input_size(size, short, long)
    with _threads(evaluation.threads_per_task):
        step, online = (
            _seconds(partial(gradient, model, _batch(model, size, count), generator(0)), gpu)
            for count in (config.transforms or 1, 1 + config.online_frames)
        )
        noise = torch.randint(0, 256, (3, *size), generator=generator(0), dtype=torch.uint8)
        boxes = torch.tensor([[0.0, 0.0, size[1] / 2, size[0] / 2]]).repeat(model.config.proposals_test // 2, 1)
        extra = boxes.to(device) if config.box_propagation else None
        frame = _seconds(partial(model.detect, noise, extra), gpu)
    online *= config.online_steps
    in_each_frame = frame + (online / config.online_interval if config.online_interval else 0.0)
    rates = max(len(evaluation.learning_rate), 1)
    passes = sum(rates if T > 0 else 1 for T in evaluation.T)
    seconds = rates * objects * max(evaluation.T) * step + passes * frames * in_each_frame
    where = "GPU" if gpu else f"CPU, {evaluation.threads_per_task} thread(s)"
    lines = [
        data,
        f"model: {model.config.backbone}, {count_parameters(model):,} parameters, frames {_by(size)}",
        f"one object on this {where}: {step:.2f} s for a fine-tuning step, {frame:.2f} s for a frame"
        + (f", {online:.2f} s for an online adaptation" if config.online_interval else ""),
        f"settings: T = {', '.join(map(str, evaluation.T))}" + (f" with {rates} learning rates" if rates > 1 else ""),
    ]
    if evaluation.data:
        lines.append(
            f"time: about {_time(seconds / 3600)} in all for one task, a cluster runs several at once; decoding, "
            "scores and pictures not included"
        )
    return "\n".join(lines)


def _amount(evaluation: Evaluation) -> tuple[tuple[int, int], int, int, str]:
    """(H, W) of the frames, how many objects and frames of them there are, and a line that says so."""
    if not evaluation.data:
        return TYPICAL_SIZE, 0, 0, f"data: none named; frames of {_by(TYPICAL_SIZE)} are assumed"
    dataset = open_dataset(evaluation.data)
    indices = chosen(dataset, evaluation)
    image, _ = dataset.sequences[indices[0]].frame(0)
    lengths = [min(len(dataset.sequences[index]), evaluation.frames or sys.maxsize) for index in indices]
    objects = [len(dataset.visible(index)) for index in indices]
    frames = sum(length * count for length, count in zip(lengths, objects, strict=True))
    text = f"data: {evaluation.data}, {len(indices)} sequences, {sum(objects)} objects, {frames:,} frames of them"
    return (image.shape[-2], image.shape[-1]), sum(objects), frames, text


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """With so many threads of the arithmetic."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _data(training: Training) -> tuple[tuple[int, int], str]:
    """(H, W) of its frames, and what is in it."""
    if not training.data:
        return TYPICAL_SIZE, f"data: none named; frames of {_by(TYPICAL_SIZE)} are assumed"
    dataset = open_dataset(training.data)
    stream = stream_config(training, dataset)
    objects = sum(map(len, learnable(dataset, stream.held_out)))
    held = [dataset.sequences[index].name for index in stream.held_out]
    text = (
        f"data: {training.data}, {len(dataset.sequences) - len(held)} sequences with {objects} objects to learn from, "
        f"{len(held)} held out{': ' if held else ''}{', '.join(held[:8])}{', ...' if len(held) > 8 else ''}"
    )
    image, _ = dataset.sequences[0].frame(0)
    return (image.shape[-2], image.shape[-1]), text


def _measured(
    model: MaskRCNN, optimization: Optimization, size: tuple[int, int], training: Training
) -> tuple[float, float]:
    """Seconds of a task as the training has them on average, and peak memory in GB (the GPU's on a GPU)."""
    device = torch.device("cuda" if training.gpu else "cpu")
    learned = checkpoints.learned_state(checkpoints.on_device(optimization, device), training.outer)
    frames, plan = _frames(size, training.plan), training.plan
    task = Task(0, 0, 0, 0, 1, (0,) * (plan.train_frames + plan.test_frames), plan.train_frames, None)
    with _threads(training.threads_per_worker):
        model.to(device)
        seconds = sum(
            share * _seconds(partial(learner.gradient, model, learned, frames, task, 0), training.gpu)
            for share, learner in training.learner().phases()
        )
    # A worker also holds the sum of its tasks' gradients and two moments of the optimizer.
    state = 3 * sum(value.numel() * value.element_size() for value in model.parameters())
    peak = torch.cuda.max_memory_allocated() if training.gpu else _resident()
    return seconds, (peak + state) / 1e9


def _seconds(task: Callable[[], object], gpu: bool) -> float:
    """Of the second of two runs."""
    for _ in range(2):
        started = time.perf_counter()
        task()
        if gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return seconds


def _frames(size: tuple[int, int], plan: PlanConfig) -> TaskFrames:
    image, mask = _noise(size)
    counts = plan.train_frames, plan.test_frames
    return TaskFrames(*(torch.stack([part] * count) for count in counts for part in (image, mask)))


def _resident() -> int:
    """Bytes, at the peak of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux


def _batch(model: MaskRCNN, size: tuple[int, int], count: int) -> Batch:
    image, mask = _noise(size)
    return model.batch([image] * count, [mask] * count)


def _noise(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A frame (3, H, W) uint8 of noise, and the mask (H, W) uint8 of an object of half its height and width."""
    height, width = size
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    return torch.randint(0, 256, (3, *size), generator=generator(0), dtype=torch.uint8), mask


def _time(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} minutes"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"

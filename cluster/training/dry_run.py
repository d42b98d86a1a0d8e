"""What a training would do: data, model, and the time that a task on this machine makes expect."""

from functools import partial
from pathlib import Path

import torch

from cluster.training import checkpoints
from cluster.training.config import Training
from cluster.training.stream import stream_config
from eosvos.data.augment import TaskFrames
from eosvos.data.config import PlanConfig
from eosvos.data.mixture import open_mixture
from eosvos.data.resizing import input_size
from eosvos.data.sequence import size_text
from eosvos.data.tasks import Task
from eosvos.errors import BadInput
from eosvos.learning.optimization import Optimization
from eosvos.measure import TYPICAL_SIZE, noise, seconds_of, threads
from eosvos.model.backbones import count_parameters
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.weights import initial_model
from eosvos.text import hours_text


def what_would_run(training: Training, folder: Path) -> str:
    """Some lines of text. Nothing is written, and no Ray is started; one task is measured on this machine.

    Raises:
        BadInput: a dataset that cannot be used, or no GPU where one is asked for.
    """
    if training.gpu and not torch.cuda.is_available():
        raise BadInput("--gpu: this machine has no GPU to measure a task on; add --no-gpu for a dry run")
    size, data = _data(training)
    seen = size_text(input_size(size, training.model.short_side, training.model.long_side))
    model, _ = initial_model(training.model, "none", training.seed)
    lines = [
        data,
        f"model: {training.model.backbone}, {count_parameters(model):,} parameters, frames {seen}",
    ]
    given = Optimization(training.model, model.state_dict(), None)
    optimization = training.learner().start(given, "a checkpoint")
    if optimization.rates is not None:
        lines.append(f"learning rates: {optimization.rates}")
    seconds, gigabytes = _measured(model, optimization, size, training)
    used = "" if training.gpu else f", {training.threads_per_worker} thread(s)"
    lines.append(f"one task: {seconds:.2f} s on this {'GPU' if training.gpu else 'CPU'}{used}")
    lines.append(f"memory: {gigabytes:.1f} GB per worker")
    steps, tasks = training.outer.steps, training.outer.meta_batch
    per_worker = -(-tasks // training.workers)
    lines.append(
        f"steps: {steps:,} outer steps of {tasks} tasks, {per_worker} for each of {training.workers} worker(s)"
    )
    done = checkpoints.latest(folder)
    if done:
        lines.append(f"done: {done:,} outer steps, in {folder}")
    hours = (steps - (done or 0)) * per_worker * seconds / 3600
    paid = hours * training.workers * (1 if training.gpu else training.threads_per_worker)
    lines.append(
        f"time: about {hours_text(hours)} on workers like this machine, {paid:,.1f} "
        f"{'GPU' if training.gpu else 'core'} hours in all; validation and waiting for data not included"
    )
    return "\n".join(lines)


def _data(training: Training) -> tuple[tuple[int, int], str]:
    """(H, W) of its frames, and what is in it."""
    if not training.data:
        return TYPICAL_SIZE, f"data: none named; frames of {size_text(TYPICAL_SIZE)} are assumed"
    data = open_mixture(training.data, training.data_weights)
    held = data.names(data.held_out(training.held_out, training.seed))
    sources = data.sources(training.plan, stream_config(training, data).without)
    lines = [
        f"data: {address}, {sum(map(bool, source.visible))} sequences with {sum(map(len, source.visible))} objects to "
        f"learn from"
        for address, source in zip(training.data, sources, strict=True)
    ]
    lines.append(f"held out: {len(held)}{': ' if held else ''}{', '.join(held[:8])}{', ...' if len(held) > 8 else ''}")
    image, _ = data.sequences[0].frame(0)
    return (image.shape[-2], image.shape[-1]), "\n".join(lines)


def _measured(
    model: MaskRCNN, optimization: Optimization, size: tuple[int, int], training: Training
) -> tuple[float, float]:
    """Seconds of a task as the training has them on average, and peak memory in GB (the GPU's on a GPU)."""
    device = torch.device("cuda" if training.gpu else "cpu")
    learned = checkpoints.learned_state(checkpoints.on_device(optimization, device), training.outer)
    frames, plan = _frames(size, training.plan), training.plan
    task = Task(0, 0, 0, 0, 1, (0,) * (plan.train_frames + plan.test_frames), plan.train_frames, None)
    with threads(training.threads_per_worker):
        model.to(device)
        seconds = sum(
            share * seconds_of(partial(learner.gradient, model, learned, frames, task, 0), training.gpu)
            for share, learner in training.learner().phases()
        )
    # A worker also holds the sum of its tasks' gradients and two moments of the optimizer.
    state = 3 * sum(value.numel() * value.element_size() for value in model.parameters())
    peak = torch.cuda.max_memory_allocated() if training.gpu else _resident()
    return seconds, (peak + state) / 1e9


def _frames(size: tuple[int, int], plan: PlanConfig) -> TaskFrames:
    image, mask = noise(size)
    counts = plan.train_frames, plan.test_frames
    return TaskFrames(*(torch.stack([part] * count) for count in counts for part in (image, mask)))


def _resident() -> int:
    """Bytes, at the peak of this process."""
    import resource  # late: Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux

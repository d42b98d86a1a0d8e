"""What an evaluation would do: data, model, and the time that a step and a frame on this machine make expect."""

import sys
from functools import partial

import torch

from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.setup import choose_sequences
from eosvos.data.parquet import open_dataset
from eosvos.data.resizing import input_size
from eosvos.data.sequence import size_text
from eosvos.draws import generator
from eosvos.errors import BadInput
from eosvos.learning.inner_loop import gradient
from eosvos.learning.optimization import load
from eosvos.measure import TYPICAL_SIZE, batch_of_noise, noise, seconds_of, threads
from eosvos.model.backbones import count_parameters
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.segmentation.config import SegmentationConfig
from eosvos.text import hours_text

Size = tuple[int, int]


def what_would_be_evaluated(evaluation: Evaluation) -> str:
    """Some lines of text. Nothing is written, and no Ray is started; a step and a frame are measured on this machine.

    Raises:
        BadInput: a checkpoint or dataset that cannot be used, or no GPU where one is asked for.
    """
    subject, config = evaluation.subject, evaluation.segmentation
    gpu = subject.gpus_per_task > 0
    if gpu and not torch.cuda.is_available():
        raise BadInput("--gpus-per-task: this machine has no GPU to measure on; leave the flag out for a dry run")
    model = load(subject.checkpoint).model().to(torch.device("cuda" if gpu else "cpu"))
    size, objects, frames, data = _amount(subject)
    short, long = (round(config.input_scale * side) for side in (model.config.short_side, model.config.long_side))
    size = input_size(size, short, long)
    with threads(subject.threads_per_task):
        step, frame, online = _measure(model, config, size, gpu)
    in_each_frame = frame + (online / config.online_interval if config.online_interval else 0.0)
    rates = max(len(subject.learning_rate), 1)
    passes = sum(rates if T > 0 else 1 for T in evaluation.T)
    seconds = rates * objects * max(evaluation.T) * step + passes * frames * in_each_frame
    where = "GPU" if gpu else f"CPU, {subject.threads_per_task} thread(s)"
    lines = [
        data,
        f"model: {model.config.backbone}, {count_parameters(model):,} parameters, frames {size_text(size)}",
        f"one object on this {where}: {step:.2f} s for a fine-tuning step, {frame:.2f} s for a frame"
        + (f", {online:.2f} s for an online adaptation" if config.online_interval else ""),
        f"settings: T = {', '.join(map(str, evaluation.T))}" + (f" with {rates} learning rates" if rates > 1 else ""),
    ]
    if subject.data:
        lines.append(
            f"time: about {hours_text(seconds / 3600)} in all for one task, a cluster runs several at once; decoding, "
            "scores and pictures not included"
        )
    return "\n".join(lines)


def _amount(subject: Subject) -> tuple[Size, int, int, str]:
    """(H, W) of the frames, how many objects and frames of them there are, and a line that says so."""
    if not subject.data:
        return TYPICAL_SIZE, 0, 0, f"data: none named; frames of {size_text(TYPICAL_SIZE)} are assumed"
    dataset = open_dataset(subject.data)
    indices = choose_sequences(dataset, subject)
    image, _ = dataset.sequences[indices[0]].frame(0)
    lengths = [min(len(dataset.sequences[index]), subject.frames or sys.maxsize) for index in indices]
    objects = [len(dataset.visible(index)) for index in indices]
    frames = sum(length * count for length, count in zip(lengths, objects, strict=True))
    text = f"data: {subject.data}, {len(indices)} sequences, {sum(objects)} objects, {frames:,} frames of them"
    return (image.shape[-2], image.shape[-1]), sum(objects), frames, text


def _measure(model: MaskRCNN, config: SegmentationConfig, size: Size, gpu: bool) -> tuple[float, float, float]:
    """Seconds of a fine-tuning step, of a frame, and of an online adaptation."""
    step, online = (
        seconds_of(partial(gradient, model, batch_of_noise(model, size, count), generator(0)), gpu)
        for count in (config.transforms or 1, 1 + config.online_frames)
    )
    boxes = torch.tensor([[0.0, 0.0, size[1] / 2, size[0] / 2]]).repeat(model.config.proposals_test // 2, 1)
    extra = boxes.to("cuda" if gpu else "cpu") if config.box_propagation else None
    return step, seconds_of(partial(model.detect, noise(size)[0], extra), gpu), online * config.online_steps

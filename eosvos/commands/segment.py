"""Segment a video: the mask of its first frame in, a mask for every frame out."""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from eosvos.cli import parse_preset
from eosvos.config import to_dict
from eosvos.device import Device
from eosvos.errors import BadInput
from eosvos.packaged import CARD, CHECKPOINTS, DEFAULT, checkpoint_file
from eosvos.paths import absolute_path
from eosvos.segmentation.config import FOLLOWING, SegmentationConfig

if TYPE_CHECKING:
    from eosvos.data.readers.clip import Clip
    from eosvos.data.readers.masks import MaskFiles
    from eosvos.segmentation.one_shot import OneShotSegmenter

log = logging.getLogger(__name__)

DESCRIPTION = """Segment the objects of a mask in all frames of a video.

Writes a folder: masks/ (palette PNGs, values as in the mask), overlay.mp4, contact_sheet.png, segmentation.json (times,
boxes, scores). It appears when all is done; until then, and after an interruption, what there is is in OUT.partial. No
Ray cluster is needed.

Examples:
    eosvos segment --video clip.mp4 --mask first.png
    eosvos segment --video frames/ --mask masks/ --quality best --checkpoint best.safetensors
    eosvos segment --video clip.mp4 --mask first.png --quality balanced -T 30 --time-budget 20
"""


@dataclass(frozen=True)
class Segment:
    """What to segment, and how carefully."""

    video: Path
    """Video file (mp4, mov, webm, gif, ...) or folder of frames."""
    mask: Path
    """PNG for the first frame: values above 0 are object ids, or black and white for one object. Or a folder of PNGs
    named as frames are (in a video file by their numbers, the first is 0), for objects that enter later, and for
    corrections."""
    out: Path | None = None
    """Folder of the result; runs/segment/VIDEO by default."""
    overwrite: bool = False
    """Replace the result of another run in --out."""
    checkpoint: Path | None = None
    """Checkpoint of jobs/meta_train.py, or the name of one in this package: real-small, the default, or synthetic."""
    T: Annotated[int, tyro.conf.arg(aliases=["-T"])] = 10
    """Fine-tuning steps for each object."""
    time_budget: float | None = None
    """Seconds of fine-tuning for each given mask, shared by its objects, after which no step begins; of the states so
    far the one with the lowest loss on the given frame is taken. Give a large -T with it to use them all."""
    corrections: bool = True
    """In a folder of masks those of an object after its first one count too, and not only each object's first one."""
    learning_rate: float | None = None
    """One learning rate for every neuron instead of learned ones, for a checkpoint of jobs/parent_train.py."""
    segmentation: SegmentationConfig = FOLLOWING
    seed: int = 0
    """Of everything random."""
    threads: int = 0
    """Threads of the arithmetic; 0: as many as there are cores."""
    device: Device = "auto"
    """What computes; auto: a GPU by CUDA where there is one, else the CPU. mps is Apple's GPU, and little tried."""

    def __post_init__(self) -> None:
        for name in ("T", "seed", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be at least 0, got {getattr(self, name)}")
        if self.time_budget is not None and not self.time_budget > 0:
            raise ValueError(f"time_budget: must be above 0, got {self.time_budget}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"learning_rate: must be above 0, got {self.learning_rate}")


_NEEDED = (tyro.MISSING, tyro.MISSING)
QUALITY = {
    "fast": Segment(*_NEEDED, T=10),
    "balanced": Segment(*_NEEDED, T=50),
    "best": Segment(*_NEEDED, T=100, segmentation=replace(FOLLOWING, online_interval=5)),
}


def main() -> None:
    """The command line's ``eosvos segment``."""
    config, quality = parse_preset(Segment, QUALITY, DESCRIPTION, flag="--quality")
    # Late, so that --help is quick.
    import torch

    from eosvos.data.readers.clip import open_clip
    from eosvos.data.readers.masks import open_masks
    from eosvos.device import choose_device
    from eosvos.learning.optimization import load
    from eosvos.segmentation.one_shot import OneShotSegmenter
    from eosvos.segmentation.video import OVERLAY, check_out

    video, mask = absolute_path(config.video, "--video"), absolute_path(config.mask, "--mask")
    out = absolute_path(config.out or Path("runs/segment") / _name(video), "--out")
    checkpoint = absolute_path(checkpoint_file(config.checkpoint), "--checkpoint")
    config = replace(config, video=video, mask=mask, out=out, checkpoint=checkpoint)
    check_out(out, config.overwrite, (video, mask, checkpoint))
    optimization = load(checkpoint)
    if config.learning_rate is not None:
        optimization = optimization.with_single_rate(config.learning_rate)
    elif optimization.rates is None and (config.T > 0 or config.segmentation.online_interval > 0):
        raise BadInput(f"{checkpoint}: a parent has no learning rates of its own; give one with --learning-rate")
    device = choose_device(config.device)
    clip = open_clip(video)
    masks = open_masks(mask, clip, config.corrections)
    if config.threads:
        torch.set_num_threads(config.threads)
    if checkpoint == CHECKPOINTS[DEFAULT]:
        log.info(f"checkpoint: {DEFAULT} of this package; for research and evaluation, not for commercial use ({CARD})")
    log.info(_description(clip, masks))
    segmenter = OneShotSegmenter(optimization, config.segmentation, config.seed, device)
    facts = {"quality": quality, "device": device, "config": to_dict(config)}
    result = _with_progress(segmenter, clip, masks, out, config, facts)
    for line in _checked(result["objects"], config.segmentation.self_check):
        log.info(line)
    log.info(", ".join(f"{name.replace('_', '-')} {value:.1f} s" for name, value in result["seconds"].items()))
    log.info(f"{result['fps']:.2f} frames of an object per second, {result['video_fps']:.2f} of the video")
    log.info(f"result: {out}, picture: {out / OVERLAY}")


def _name(video: Path) -> str:
    """Of the result: the video's; ``frames`` says nothing, the folder around it does."""
    around = video.parent.name if video.is_dir() and video.name in ("frames", "images") else ""
    return around or video.stem


def _description(clip: "Clip", masks: "MaskFiles") -> str:
    objects = ", ".join(
        f"{object_id} from frame {first}" if first else f"{object_id}" for object_id, first in masks.objects.items()
    )
    text = f"{clip.source}: {clip.size[1]}x{clip.size[0]}, {clip.count} frames; objects: {objects}"
    if corrections := _tunings(masks) - len(masks.objects):
        text += f"; {corrections} corrections (--no-corrections leaves them out)"
    if clip.frame_names is None and 0 not in masks and 1 in masks:
        text += "; no mask is of frame 0, the first one of a video file: rename the masks if they are counted from 1"
    return text


def _checked(objects: dict[str, dict[str, Any]], least: float) -> list[str]:
    """What the self-check has to say: of objects that were not found in their own given frame."""
    lines = []
    for object_id, one in objects.items():
        if one["overlap"] is None or (one["state"] == one["steps"] and one["overlap"] >= least):
            continue
        lines.append(
            f"object {object_id}: not found in its own given frame after {one['steps']} steps; taken: the state after "
            f"{one['state']}, overlap there {one['overlap']:.2f}"
        )
    return lines


def _tunings(masks: "MaskFiles") -> int:
    """How often an object is fine-tuned: for its first mask, and anew for each correction."""
    return sum(map(len, masks.ids.values()))


def _with_progress(
    segmenter: "OneShotSegmenter",
    clip: "Clip",
    masks: "MaskFiles",
    out: Path,
    config: Segment,
    facts: dict[str, Any],
) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from eosvos.segmentation.video import Reporting, segment_clip

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(soft_wrap=True, highlight=False)) as bar:
        tuning = bar.add_task("fine-tuning", total=config.T * _tunings(masks))
        segmenting = bar.add_task("segmenting", total=clip.count)
        begun: list[int] = []  # an entry for each object whose fine-tuning began

        def on_step(object_id: int, steps: int) -> None:
            if steps == 1:
                begun.append(object_id)
            done = config.T * (len(begun) - 1) + steps
            bar.update(tuning, description=f"fine-tuning object {object_id}", completed=done)

        try:
            return segment_clip(
                segmenter,
                clip,
                masks,
                out,
                config.T,
                math.inf if config.time_budget is None else config.time_budget,
                Reporting(facts, on_step, lambda frames: bar.update(segmenting, completed=frames)),
            )
        except FloatingPointError as error:
            raise BadInput(f"{error} (--rate-scale 0.5, say, or a smaller -T)") from error

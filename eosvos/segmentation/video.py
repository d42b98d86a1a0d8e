"""A clip and its masks in, a folder with the result out: masks, overlay video, contact sheet, what was measured."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from eosvos.data.palette import encode_mask
from eosvos.data.readers.clip import Clip, ClipFrame
from eosvos.errors import BadInput
from eosvos.figures.clip_pictures import ClipSheet, OverlayVideo
from eosvos.figures.overlay import overlay
from eosvos.files import locked, write_whole
from eosvos.metrics.speed import Seconds, speed
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.one_shot import OneShotSegmenter

RESULT = "segmentation.json"
MASKS, OVERLAY, SHEET = "masks", "overlay.mp4", "contact_sheet.png"
WRITTEN = (MASKS, OVERLAY, SHEET, RESULT)
"""All that a result holds; the last file says that the result is whole."""


def check_out(out: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Raises BadInput where ``out`` cannot take the result of a run.

    Args:
        out: the folder: not there, empty, or with a result of ours that may be overwritten.
        overwrite: whether it may.
        inputs: files and folders that the run reads; none may be in ``out``.
    """
    partial = _partial_of(out)
    for path in inputs:
        for folder in (out, partial):
            if path.resolve().is_relative_to(folder.resolve()):
                raise BadInput(f"{path}: is in {folder}, which the result goes to; give another --out, or move it")
    for folder in (out, partial):
        if (folder.exists() and not folder.is_dir()) or _names(folder) - set(WRITTEN):
            raise BadInput(f"{folder}: exists and holds other files than a result of ours; give another --out")
    if not _names(out):
        return
    if not (out / RESULT).is_file() and not _is_half_replaced(out):
        raise BadInput(f"{out}: exists and holds other files than a result of ours; give another --out")
    if not overwrite:
        raise BadInput(f"{out}: holds the result of another run; give another --out, or --overwrite")


def _partial_of(out: Path) -> Path:
    """The folder beside ``out`` that a run works in."""
    return out.with_name(f"{out.name}.partial")


def _names(folder: Path) -> set[str]:
    """Names in a folder, without hidden files and others that file managers leave there."""
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.name[0] != "."} - {"Thumbs.db", "desktop.ini"}


def _is_half_replaced(out: Path) -> bool:
    """Whether a run ended while it replaced ``out``: the old result is gone, the new one is still beside it."""
    return (_partial_of(out) / RESULT).is_file() and not (out / RESULT).exists()


@contextmanager
def _partial(out: Path) -> Iterator[Path]:
    """An empty folder beside ``out`` to work in, which stays. Raises BadInput where another run has it."""
    partial = _partial_of(out)
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{partial}: cannot be made ({error.strerror}); give another --out") from error
    with locked(partial) as ours:
        if ours is False:
            raise BadInput(f"{partial}: another run is writing there; wait for it, or give another --out")
        if _is_half_replaced(out):
            _empty(out)  # first, as the result file in the other folder tells that these files are ours
        _empty(partial)
        (partial / MASKS).mkdir()
        yield partial


def _empty(folder: Path) -> None:
    """Removes a result, first the file that says that it is whole."""
    for name in reversed(WRITTEN):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def _replace(partial: Path, out: Path) -> None:
    """Puts what is in ``partial`` in ``out``, which may be a mount point, in place of an older result."""
    out.mkdir(exist_ok=True)
    _empty(out)
    for name in WRITTEN[:-1]:
        shutil.move(partial / name, out / name)  # by copying, where it is another file system
    write_whole(out / RESULT, (partial / RESULT).read_bytes())
    shutil.rmtree(partial)


@dataclass(frozen=True)
class Reporting:
    """What is told of a run.

    Attributes:
        facts: what was run, for the JSON file.
        on_step: called with an object's id and the number of its fine-tuning steps, after each.
        on_frame: called with the number of frames that are done, after each.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    on_step: Callable[[int, int], None] = lambda object_id, steps: None
    on_frame: Callable[[int], None] = lambda frames: None


SILENT = Reporting()


def segment_clip(
    segmenter: OneShotSegmenter,
    clip: Clip,
    masks: Mapping[int, Tensor],
    out: Path,
    T: int,
    time_budget: float = math.inf,
    reporting: Reporting = SILENT,
) -> dict[str, Any]:
    """Segments a clip and writes ``out`` when all is done, in place of the result that was there.

    Until then, and where something goes wrong on the way, what is done is in ``out.partial`` beside it. Written:
    ``masks/NAME.png`` (palette PNG of the clip's size), ``overlay.mp4``, ``contact_sheet.png``, ``segmentation.json``.

    Args:
        segmenter: with checkpoint and settings.
        clip: what to segment.
        masks: position of a frame -> mask, as ``OneShotSegmenter.segment`` takes them.
        out: folder, whose ``check_out`` went well.
        T: fine-tuning steps.
        time_budget: as in ``OneShotSegmenter.segment``.
        reporting: what the JSON file says of the run, and who is told how far it is.

    Returns:
        what the JSON file holds: ``seconds``, per object and for the whole, ``fps`` and ``video_fps`` as in ``Speed``,
        ``objects``, ``frames`` with boxes and scores.

    Raises:
        BadInput, FloatingPointError: as ``OneShotSegmenter.segment``; ``out`` stays as it was.
    """
    with _partial(out) as partial:
        began = time.perf_counter()
        source = _Source(clip.read())
        loading = following = 0.0
        adapted: dict[int, AdaptedObject] = {}
        frames: list[dict[str, Any]] = []
        sheet, output = ClipSheet(), 0.0
        with OverlayVideo(partial / OVERLAY, clip.size) as video:
            for result in segmenter.segment(source, masks, T, time_budget, adapted, on_step=reporting.on_step):
                start, frame = time.perf_counter(), source.frame
                loading, following = loading + result.loading_seconds, following + result.seconds
                (partial / MASKS / f"{frame.name}.png").write_bytes(encode_mask(result.mask))
                painted = overlay(frame.image, result.mask)
                video.add(painted, frame.time)
                sheet.add(frame.name, painted)
                frames.append({"name": frame.name, "boxes": result.boxes, "scores": result.scores})
                output += time.perf_counter() - start
                reporting.on_frame(len(frames))
        start = time.perf_counter()
        sheet.image().save(partial / SHEET)
        output += time.perf_counter() - start
        report = {
            **reporting.facts,
            "seconds": _seconds(adapted, loading, output, time.perf_counter() - began),
            **_speeds(adapted, len(frames), loading, following),
            "objects": {str(one.id): _describe(one) for one in adapted.values()},
            "frames": frames,
        }
        (partial / RESULT).write_text(json.dumps(report, indent=1))
        _replace(partial, out)
        return report


def _describe(adapted: AdaptedObject) -> dict[str, Any]:
    return {
        "steps": adapted.steps,
        "state": adapted.state,
        "overlap": adapted.overlap,
        "undone_adaptations": adapted.diverged_adaptations,
        "fine_tuning_seconds": adapted.fine_tuning_seconds,
        "adaptation_seconds": adapted.adaptation_seconds,
        "inference_seconds": adapted.segmentation_seconds,
    }


def _seconds(adapted: Mapping[int, AdaptedObject], loading: float, output: float, total: float) -> dict[str, float]:
    """Seconds by part; ``input`` is reading and resizing, ``other`` merging and whatever else is not one object's."""
    parts = {
        "fine_tuning": sum(one.fine_tuning_seconds for one in adapted.values()),
        "adaptation": sum(one.adaptation_seconds for one in adapted.values()),
        "inference": sum(one.segmentation_seconds for one in adapted.values()),
        "input": loading,
        "output": output,
    }
    return parts | {"other": total - sum(parts.values()), "total": total}


def _speeds(
    adapted: Mapping[int, AdaptedObject], frames: int, loading: float, following: float
) -> dict[str, float | None]:
    """As in ``Speed``, of a video whose frames took so many seconds to load, and in all, but for fine-tuning."""
    times: Seconds = {
        "seconds": sum(one.seconds for one in adapted.values()),
        "loading_seconds": loading * len(adapted),
        "video_seconds": following + sum(one.fine_tuning_seconds for one in adapted.values()),
    }
    speeds = speed(frames * len(adapted), frames, times)
    return {"fps": speeds["fps"], "video_fps": speeds["video_fps"]}


class _Source(Iterator[Tensor]):
    """The images of a clip; remembers the last frame."""

    frame: ClipFrame

    def __init__(self, frames: Iterator[ClipFrame]) -> None:
        self._frames = frames

    def __next__(self) -> Tensor:
        self.frame = next(self._frames)
        return self.frame.image

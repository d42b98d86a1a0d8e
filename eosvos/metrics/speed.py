"""Times of segmentation, and frames per second in two senses: of an object, and of the whole video."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict


class Seconds(TypedDict):
    """What was measured; None where nobody took the time. The first frame counts; writing of files never does.

    ``seconds``: fine-tuning, adaptation and segmentation of an object. ``loading_seconds``: decoding and resizing of
    the frames of its video. ``video_seconds``: of the whole video, by the clock: all objects, loading, merging.
    """

    seconds: float | None
    loading_seconds: float | None
    video_seconds: float | None


class Speed(Seconds):
    """Frames per second, fine-tuning included; None where a time is missing.

    ``fps`` is what the paper's FPS is: frames of one object over ``seconds`` and ``loading_seconds``. Every object is
    charged with all of its video's loading, as each reads the video by itself in the authors' release; merging is out.
    ``video_fps`` is frames of the video over ``video_seconds``: what somebody who waits for all objects sees.
    """

    fps: float | None
    video_fps: float | None


SECONDS = tuple(Seconds.__annotations__)
"""The names of the times."""


def speed(frames: float, video_frames: float, times: Seconds) -> Speed:
    """The speeds that follow from times.

    Args:
        frames: of objects, each with all frames of its video.
        video_frames: of videos.
        times: in which all these were segmented.
    """
    of_objects = total((times["seconds"], times["loading_seconds"]))
    return {
        **times,
        "fps": _per_second(frames, of_objects),
        "video_fps": _per_second(video_frames, times["video_seconds"]),
    }


def speed_of_objects(rows: Iterable[Mapping[str, Any]]) -> Speed:
    """Of many objects: times and frames are sums over objects, those of videos over videos, each counted once.

    Args:
        rows: with ``dataset``, ``sequence``, ``frames`` and the fields of ``Seconds``.
    """
    videos: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        videos.setdefault((row["dataset"], row["sequence"]), []).append(row)
    objects = [row for group in videos.values() for row in group]
    times: Seconds = {
        "seconds": total([row["seconds"] for row in objects]),
        "loading_seconds": total([row["loading_seconds"] for row in objects]),
        "video_seconds": total([mean([row["video_seconds"] for row in group]) for group in videos.values()]),
    }
    video_frames = sum(sum(row["frames"] for row in group) / len(group) for group in videos.values())
    return speed(sum(row["frames"] for row in objects), video_frames, times)


def total(values: Sequence[float | None]) -> float | None:
    """Their sum, None where one is missing."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def mean(values: Sequence[float | None]) -> float | None:
    """Their mean, None where one is missing; there is at least one."""
    of_all = total(values)
    return None if of_all is None else of_all / len(values)


def _per_second(frames: float, seconds: float | None) -> float | None:
    return frames / seconds if seconds else None

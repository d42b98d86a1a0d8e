"""Encode, verify, open and stream a set as large as YouTube-VOS, of tiny pictures: seconds, bytes, memory."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from eosvos.cli import parse, run

DESCRIPTION = """A generated set in the layout of YouTube-VOS, with its counts, goes through all that data goes through.

It has 3,471 sequences and about 94,000 masks of several resolutions, up to six objects, some of which enter late; only
its pictures are tiny. Steps: make, encode, verify, open and plan the first step, stream one epoch.

Example:
    python jobs/benchmark_encoding.py --scale 0.05
"""
Result = TypeVar("Result")
SEQUENCES, FRAMES = 3471, 27
SIZES = ((24, 43), (24, 32), (43, 24), (36, 64))
"""(H, W), of the sequences in turn."""
OBJECTS = (0.5, 0.28, 0.13, 0.05, 0.03, 0.01)
"""Share of the sequences with one object, two, and so on."""


@dataclass(frozen=True)
class BenchmarkEncoding:
    """How much of it."""

    scale: float = 1.0
    """Share of the sequences."""
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    """Where a temporary folder is made."""

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise ValueError(f"scale: must be above 0 and at most 1, got {self.scale}")


def main() -> None:
    benchmark = parse(BenchmarkEncoding, DESCRIPTION)
    # Late, here and below, so that --help is quick.
    from cluster.encoding import encode, verify
    from cluster.session import connect
    from eosvos.data.config import AugmentationConfig, PlanConfig
    from eosvos.data.mixture import open_mixture
    from eosvos.data.readers.youtube_vos import read_youtube_vos
    from eosvos.data.tasks import plan

    connect()  # its start is not timed
    with tempfile.TemporaryDirectory(dir=benchmark.folder) as folder:
        root, out = Path(folder) / "youtube-vos", f"{folder}/encoded"
        _timed("make", lambda: _make(root, max(round(benchmark.scale * SEQUENCES), 2)))
        spec = {"layout": "youtube-vos", "root": "generated"}
        _timed("encode", lambda: encode(read_youtube_vos(root, "train"), out, spec))
        faults = _timed("verify", lambda: verify(out))
        print(f"           {len(faults)} faults")
        first = _timed("plan", lambda: next(plan(open_mixture([out]).sources(PlanConfig()), PlanConfig(), 0, 4, 0, 1)))
        print(f"           the first task is of sequence {first.sequence}")
        data = open_mixture([out])
        (source,) = data.sources(PlanConfig())
        objects = sum(bool(frames) for each in source.visible for frames in each.values())

        def stream() -> int:
            from cluster.training.stream import StreamConfig, task_stream

            config = StreamConfig(PlanConfig(), AugmentationConfig(), 4, 0, 32, 64)
            steps = task_stream(data, config, 0, 1, 0, -(-objects // 4), 1.0)
            return sum(len(step) for step in steps)

        print(f"           {_timed('stream', stream)} tasks of {objects} objects")
        size = sum(path.stat().st_size for path in Path(out).iterdir())
        frames = sum(map(len, data.sequences))
        print(f"{len(data.sequences)} sequences, {frames} frames, {size:,} bytes")


def _timed(name: str, work: Callable[[], Result]) -> Result:
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    own, others = _peaks()
    print(
        f"{name:10} {seconds:8.1f} s, driver {own:,.0f} MB, largest worker {max(others, default=0):,.0f} MB", flush=True
    )
    return result


def _peaks() -> tuple[float, list[float]]:
    """Most memory that this process had in MB, and each of Ray's that it has started and that lives."""
    parents: dict[int, int] = {}
    peaks: dict[int, float] = {}
    ray_workers: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        number = int(status.parent.name)
        parents[number] = int(lines["PPid"])
        peaks[number] = int(lines.get("VmHWM", "0 kB").split()[0]) / 1024
        if command.startswith(b"ray::") and number != os.getpid():
            ray_workers.add(number)

    def is_ours(number: int) -> bool:
        while number in parents and number != os.getpid():
            number = parents[number]
        return number == os.getpid()

    return peaks[os.getpid()], [peaks[number] for number in ray_workers if is_ours(number)]


def _make(root: Path, sequences: int) -> None:
    """Frames every fifth, as the archive has them; a mask for each frame from the first object on."""
    import io

    import numpy as np
    from PIL import Image

    from eosvos.data.palette import encode_mask

    rng = np.random.default_rng(0)
    pictures: dict[tuple[int, int], list[bytes]] = {}
    for size in SIZES:
        pictures[size] = []
        for _ in range(8):
            data = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(data, format="JPEG")
            pictures[size].append(data.getvalue())
    videos = {}
    for number in range(sequences):
        name, (height, width) = f"{number:010x}", SIZES[number % len(SIZES)]
        images, masks = root / "train/JPEGImages" / name, root / "train/Annotations" / name
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        enters = [0, *rng.integers(0, FRAMES, rng.choice(len(OBJECTS), p=OBJECTS)).tolist()]
        seen: dict[int, list[str]] = {}
        for frame in range(FRAMES):
            (images / f"{5 * frame:05d}.jpg").write_bytes(pictures[height, width][rng.integers(8)])
            mask = np.zeros((height, width), np.uint8)
            for object_id, first in enumerate(enters, 1):
                if frame >= first:
                    top, left = rng.integers(height - 8), rng.integers(width - 8)
                    mask[top : top + 8, left : left + 8] = object_id
                    seen.setdefault(object_id, []).append(f"{5 * frame:05d}")
            (masks / f"{5 * frame:05d}.png").write_bytes(encode_mask(mask))
        videos[name] = {
            "objects": {f"{key}": {"category": f"kind{key}", "frames": frames} for key, frames in seen.items()}
        }
    (root / "train/meta.json").write_text(json.dumps({"videos": videos}))


if __name__ == "__main__":
    run(main, resumes=False)

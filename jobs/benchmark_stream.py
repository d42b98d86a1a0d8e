"""How fast the stream makes tasks, beside a bare loop over the same functions."""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eosvos.cli import parse, run
from eosvos.paths import absolute_address

if TYPE_CHECKING:
    from cluster.training.stream import StreamConfig
    from eosvos.data.mixture import Mixture

DESCRIPTION = """Tasks per second and core of the stream that training reads, beside a plain loop in one process.

The stream has one core: it reads, decodes and augments in a process of its own, and hands over through Ray. Its first
steps are left out, while its process starts.

Example:
    python jobs/benchmark_stream.py
    python jobs/benchmark_stream.py --data runs/data/train --short-side 480 --long-side 854
"""
TASKS = 4
"""Of an outer step."""
WARM_UP = 3
"""Steps that are left out."""


@dataclass(frozen=True)
class BenchmarkStream:
    """What to stream."""

    data: tuple[str, ...] = ()
    """Encoded datasets; unless given, synthetic video of 640x640, which has as many pixels as 480x854."""
    short_side: int = 640
    long_side: int = 854
    """Frames are resized to these."""
    steps: int = 40
    """Outer steps of four tasks in each measurement."""
    repetitions: int = 3
    """Measurements of each, in turns; medians are compared."""


def main() -> None:
    benchmark = parse(BenchmarkStream, DESCRIPTION)
    # Late, so that --help is quick.
    import torch

    from cluster.session import connect
    from cluster.training.stream import StreamConfig
    from eosvos.data.config import AugmentationConfig, PlanConfig
    from eosvos.data.mixture import open_mixture

    torch.set_num_threads(1)
    connect()
    with tempfile.TemporaryDirectory() as folder:
        data = open_mixture([absolute_address(one, "--data") for one in benchmark.data] or [_video(Path(folder))])
        config = StreamConfig(PlanConfig(), AugmentationConfig(), TASKS, 0, benchmark.short_side, benchmark.long_side)
        rates: dict[str, list[float]] = {"loop": [], "stream": []}
        for _ in range(benchmark.repetitions):
            rates["loop"].append(_loop(data, config, benchmark.steps))
            rates["stream"].append(_stream(data, config, benchmark.steps))
    for name, values in rates.items():
        print(
            f"{name:8} {statistics.median(values):6.2f} tasks/s on one core ({', '.join(f'{v:.2f}' for v in values)})"
        )
    ratio = statistics.median(rates["stream"]) / statistics.median(rates["loop"])
    print(f"stream / loop: {ratio:.2f}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


def _video(folder: Path) -> str:
    from eosvos.data.parquet import encode
    from eosvos.data.readers.synthetic import SyntheticSettings, synthetic

    encode(synthetic("train", 6, SyntheticSettings(size=640, frames=6)), folder / "data", {})
    return str(folder / "data")


def _loop(data: "Mixture", config: "StreamConfig", steps: int) -> float:
    """Tasks per second."""
    from cluster.training.stream import planned
    from eosvos.data.augment import task_frames

    tasks = list(planned(data, config, 0, steps))
    began = time.perf_counter()
    for task in tasks:
        task_frames(data.sequences, task, config.augmentation, config.seed, config.short_side, config.long_side)
    return len(tasks) / (time.perf_counter() - began)


def _stream(data: "Mixture", config: "StreamConfig", steps: int) -> float:
    """Tasks per second, once it runs."""
    from cluster.training.stream import task_stream

    began, count = 0.0, 0
    for step, batch in enumerate(task_stream(data, config, 0, 1, 0, WARM_UP + steps, cpus=1.0)):
        if step == WARM_UP:
            began, count = time.perf_counter(), 0
        count += len(batch)
    return (count - TASKS) / (time.perf_counter() - began)


if __name__ == "__main__":
    run(main, resumes=False)

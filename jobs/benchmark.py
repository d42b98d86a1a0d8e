"""Measure what the learner costs, each time as a ratio to a plain reference in the same run."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eosvos.cli import parse, run
from eosvos.learning.inner_loop import fine_tune, generator
from eosvos.learning.rates import RatesConfig, initial_rates
from eosvos.model.config import MOBILENET_240P, TINY, ModelConfig
from eosvos.model.mask_rcnn import Batch
from eosvos.model.weights import initial_model

DESCRIPTION = """Overhead of an inner step: loss, gradient, step and sum of gradients, over forward and backward alone.

Example:
    python jobs/benchmark.py --repetitions 40
"""
MODELS = {"tiny, 128x128": (TINY, 128, 128), "mobilenet_v2, 240x427": (MOBILENET_240P, 240, 427)}


@dataclass(frozen=True)
class Benchmark:
    """How to measure."""

    repetitions: int = 30
    """Measurements of each; the two alternate, and medians are compared."""
    threads: int = 1
    """Threads of the arithmetic."""

    def __post_init__(self) -> None:
        for name in ("repetitions", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")


def main() -> None:
    benchmark = parse(Benchmark, DESCRIPTION)
    torch.set_num_threads(benchmark.threads)
    table = Table(title=f"inner step, {benchmark.threads} thread(s), torch {torch.__version__}")
    for heading in ("model", "forward and backward, ms", "inner step, ms", "ratio of medians", "median of ratios"):
        table.add_column(heading, justify="right")
    for name, (config, height, width) in MODELS.items():
        plain, step = _inner_step(config, height, width, benchmark.repetitions, name)
        ratio = statistics.median(step) / statistics.median(plain)
        paired = statistics.median(b / a for a, b in zip(plain, step, strict=True))
        times = (f"{1000 * statistics.median(values):.1f}" for values in (plain, step))
        table.add_row(name, *times, f"{ratio:.3f}", f"{paired:.3f}")
    Console(soft_wrap=True).print(table)


def _inner_step(
    config: ModelConfig, height: int, width: int, repetitions: int, name: str
) -> tuple[list[float], list[float]]:
    """Seconds of forward and backward alone, and of whole inner steps, taken in turns on the same state and draws."""
    model, _ = initial_model(config, "none", 0)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator(0))
    mask = torch.zeros((height, width), dtype=torch.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    batch: Batch = model.batch([image], [mask])
    parameters = list(model.parameters())
    rates = list(initial_rates(model, RatesConfig(rate_form="linear", initial_rate=1e-12)).learned.values())
    total = [torch.zeros_like(parameter) for parameter in parameters]

    def plain() -> None:
        torch.autograd.grad(model.loss(batch, generator(0, 0)), parameters, allow_unused=True)

    def step() -> None:
        fine_tune(model, batch, rates, range(1), (0,), total)

    for warm_up in (plain, step, plain, step):
        warm_up()
    times = [(_seconds(plain), _seconds(step)) for _ in track(range(repetitions), description=name, transient=True)]
    return [first for first, _ in times], [second for _, second in times]


def _seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    run(main)

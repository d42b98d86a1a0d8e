"""Measure what the learner costs, each time as a ratio to a plain reference in the same run."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from eosvos.cli import parse, run
from eosvos.learning.config import RatesConfig
from eosvos.model.config import MOBILENET_240P, TINY, ModelConfig

if TYPE_CHECKING:
    from torchvision.ops import MultiScaleRoIAlign

    from eosvos.model.mask_rcnn import Batch

DESCRIPTION = """What the learner's parts cost, beside a plain reference.

An inner step (loss, gradient, step, sum of gradients) beside forward and backward alone; our RoIAlign, forward and
backward, beside torchvision's.

Example:
    python jobs/benchmark.py --repetitions 40
"""
MODELS = {"tiny, 128x128": (TINY, 128, 128), "mobilenet_v2, 240x427": (MOBILENET_240P, 240, 427)}
POOLING = {
    "32 boxes, 256x448, 7x7 of 96": (256, 448, 96, 32, 7),
    "8 boxes, 256x448, 14x14 of 96": (256, 448, 96, 8, 14),
    "512 boxes, 480x864, 7x7 of 256": (480, 864, 256, 512, 7),
    "128 boxes, 480x864, 28x28 of 256": (480, 864, 256, 128, 28),
    "512 boxes, 768x1344, 7x7 of 256": (768, 1344, 256, 512, 7),
}
"""Boxes, frame, and what is pooled: side and channels."""


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
    # Late, here and below, so that --help is quick.
    import torch
    from rich.console import Console
    from rich.table import Table

    torch.set_num_threads(benchmark.threads)
    table = Table(title=f"{benchmark.threads} thread(s), torch {torch.__version__}")
    for heading in ("what", "reference, ms", "ours, ms", "ratio of medians", "median of ratios"):
        table.add_column(heading, justify="right")
    cases = {f"inner step, {name}": partial(_inner_step, *model) for name, model in MODELS.items()}
    cases |= {f"RoIAlign, {name}": partial(_roi_align, *setting) for name, setting in POOLING.items()}
    for name, case in cases.items():
        reference, ours = _measured(*case(), benchmark.repetitions, name)
        ratio = statistics.median(ours) / statistics.median(reference)
        paired = statistics.median(b / a for a, b in zip(reference, ours, strict=True))
        times = (f"{1000 * statistics.median(values):.1f}" for values in (reference, ours))
        table.add_row(name, *times, f"{ratio:.3f}", f"{paired:.3f}")
    Console(soft_wrap=True).print(table)


def _measured(
    reference: Callable[[], None], ours: Callable[[], None], repetitions: int, name: str
) -> tuple[list[float], list[float]]:
    """Seconds of both, taken in turns."""
    from rich.progress import track

    for warm_up in (reference, ours, reference, ours):
        warm_up()
    times = [(_seconds(reference), _seconds(ours)) for _ in track(range(repetitions), description=name, transient=True)]
    return [first for first, _ in times], [second for _, second in times]


def _inner_step(config: ModelConfig, height: int, width: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Forward and backward alone, and a whole inner step, on the same state and draws."""
    import torch

    from eosvos.draws import generator
    from eosvos.learning.inner_loop import fine_tune
    from eosvos.learning.rates import initial_rates
    from eosvos.model.weights import initial_model

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

    return plain, step


def _roi_align(
    height: int, width: int, channels: int, boxes: int, side: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Forward and backward of torchvision's pooling from the pyramid, and of ours, of boxes of all sizes."""
    import torch
    from torchvision.ops import MultiScaleRoIAlign

    from eosvos.draws import generator
    from eosvos.model.roi_align import PyramidRoIAlign

    draws = generator(0)
    levels = {
        str(level): torch.randn((1, channels, height // stride, width // stride), generator=draws).requires_grad_()
        for level, stride in enumerate((4, 8, 16, 32))
    }
    corners = torch.rand((boxes, 2, 2), generator=draws) * torch.tensor([width, height])
    rois = [torch.cat((corners.amin(dim=1), corners.amax(dim=1) + 1), dim=1)]

    def run_through(pool: "MultiScaleRoIAlign") -> None:
        pooled = pool(levels, rois, [(height, width)])
        torch.autograd.grad(pooled, list(levels.values()), torch.ones_like(pooled), allow_unused=True)

    reference, ours = (kind(list(levels), side, 2) for kind in (MultiScaleRoIAlign, PyramidRoIAlign))
    return partial(run_through, reference), partial(run_through, ours)


def _seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    run(main)

"""How fast J and F are computed, beside the public evaluator's way, and that both give the same."""

import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosvos.cli import parse, run
from eosvos.errors import BadInput

DESCRIPTION = """Frames per second of J and F of predictions made by rule from the annotations of DAVIS 2016.

The reference works as the public evaluator does: frame by frame in one process, on whole frames, with OpenCV's dilation
by a disk. Ours scores sequences in several processes. The values must be the same.

Example:
    python jobs/benchmark_scores.py --root DAVIS --split val
"""
Ids = NDArray[np.uint8]
Masks = list[Ids]
_masks: dict[str, Masks] = {}
"""Of each sequence, in every process, so that only scoring is timed."""


@dataclass(frozen=True)
class BenchmarkScores:
    """What to score."""

    root: Path
    """Folder of DAVIS 2016 in its official layout."""
    split: str = "val"
    """Name of a list of sequences."""
    processes: int = 2
    """Of ours."""
    repetitions: int = 5
    """Measurements of each; the two alternate, and medians are compared."""


def _shifted(mask: Ids) -> Ids:
    result = np.zeros_like(mask)
    result[3:, :-5] = mask[:-3, 5:]
    return result


RULES: dict[str, Callable[[Masks, int], Ids]] = {
    "previous": lambda truths, i: truths[max(i - 1, 0)],
    "first": lambda truths, i: truths[0],
    "shift_3_-5": lambda truths, i: _shifted(truths[i]),
}


def main() -> None:
    benchmark = parse(BenchmarkScores, DESCRIPTION)
    # Late, here and below, so that --help is quick.
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from eosvos.data.readers.davis import read_davis2016

    try:
        import cv2  # noqa: F401 - for the reference, of the development's dependencies
    except ImportError as error:
        raise BadInput("the reference needs OpenCV: pip install opencv-python-headless") from error
    sequences = {sequence.name: sequence for sequence in read_davis2016(benchmark.root, benchmark.split)}
    masks = {
        name: [mask.numpy() for position in range(len(video)) if (mask := video.mask(position)) is not None]
        for name, video in sequences.items()
    }
    _share(masks)
    longest_first = sorted(masks, key=lambda name: -len(masks[name]))
    work = [(name, rule) for name in longest_first for rule in RULES]
    frames = sum(max(len(masks[name]) - 2, 0) for name, _ in work)
    speeds: list[tuple[float, float]] = []
    with ProcessPoolExecutor(benchmark.processes, initializer=_share, initargs=(masks,)) as pool:
        list(pool.map(abs, range(4 * benchmark.processes)))  # until all processes have their masks
        for _ in track(range(benchmark.repetitions), description="both, in turns", transient=True):
            start = time.perf_counter()
            expected = [_reference(*one) for one in work]
            between = time.perf_counter()
            found = list(pool.map(_ours, work))
            speeds.append((frames / (between - start), frames / (time.perf_counter() - between)))
    reference, ours = (statistics.median(column) for column in zip(*speeds, strict=True))
    largest = max(float(np.abs(np.array(a) - np.array(b)).max()) for a, b in zip(expected, found, strict=True))
    table = Table(title=f"J and F of {frames} frames, {len(masks)} sequences, {len(RULES)} rules")
    for heading in ("", "frames per second", "ratio"):
        table.add_column(heading, justify="right")
    table.add_row("the evaluator's way, one process", f"{reference:.1f}", "1.0")
    table.add_row(f"ours, {benchmark.processes} processes", f"{ours:.1f}", f"{ours / reference:.1f}")
    Console(soft_wrap=True).print(table)
    print(f"largest difference of a value: {largest:.1e}")


def _share(masks: dict[str, Masks]) -> None:
    import eosvos.metrics.sequence_scores  # noqa: F401 - so that this is not timed

    _masks.update(masks)


def _ours(work: tuple[str, str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """J and F of each frame that counts."""
    from eosvos.metrics.sequence_scores import score_sequence

    name, rule = work
    truths = _masks[name]
    (scores,) = score_sequence([RULES[rule](truths, i) for i in range(len(truths))], truths, (1,), name)
    return scores.j, scores.f


def _reference(name: str, rule: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from eosvos.metrics.config import DAVIS

    truths = _masks[name]
    pairs = [(RULES[rule](truths, i) == 1, truths[i] == 1) for i in DAVIS.frames(len(truths))]
    return tuple(_plain_j(*pair) for pair in pairs), tuple(_plain_f(*pair) for pair in pairs)


def _plain_j(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    union = np.sum(prediction | truth)
    return float(np.sum(prediction & truth) / union) if union else 1.0


def _plain_f(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """By the definition (facts of ``f_measure``): boundaries of the whole frame, dilated by a disk."""
    import cv2

    from eosvos.metrics.measures import BOUND

    radius = math.ceil(BOUND * math.hypot(*truth.shape))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk: Any = (x * x + y * y <= radius * radius).astype(np.uint8)
    edges = [_plain_boundary(mask).astype(np.uint8) for mask in (prediction, truth)]
    wide = [cv2.dilate(edge, disk) for edge in edges]
    lengths = [int(edge.sum()) for edge in edges]
    if 0 in lengths:
        return float(lengths[0] == lengths[1])
    precision = float((edges[0] * wide[1]).sum() / lengths[0])
    recall = float((edges[1] * wide[0]).sum() / lengths[1])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _plain_boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    east, south, both = mask.copy(), mask.copy(), mask.copy()
    east[:, :-1], south[:-1], both[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    edge = (mask ^ east) | (mask ^ south) | (mask ^ both)
    edge[-1], edge[:, -1] = mask[-1] ^ east[-1], mask[:, -1] ^ south[:, -1]
    edge[-1, -1] = False
    return edge


if __name__ == "__main__":
    run(main)

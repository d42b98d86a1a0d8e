"""A long sequence takes no more memory to evaluate than a short one: peak of fresh processes."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.evaluation.sequence import SequenceSettings, evaluate_sequence
from eosvos.learning.optimization import load
from eosvos.packaged import CHECKPOINTS
from eosvos.segmentation.config import SegmentationConfig

CHECKPOINT = CHECKPOINTS["synthetic"]

pytestmark = pytest.mark.slow

SIZE = int(os.environ.get("LONG_SEQUENCE_SIZE", "512"))
FRAMES = tuple(map(int, os.environ.get("LONG_SEQUENCE_FRAMES", "60,460").split(",")))


def evaluate(frames: int) -> None:
    """A short synthetic video again and again; 400 frames more would be 300 MB more, were they kept."""
    (short,) = synthetic("train", 1, SyntheticSettings(size=SIZE, frames=4))
    names = tuple(f"{position:05d}" for position in range(frames))
    sequence = replace(short, frame_names=names, read=lambda position: short.read(position % 4))
    results, masks = evaluate_sequence(
        load(CHECKPOINT), sequence, SequenceSettings((0,), segmentation=SegmentationConfig(transforms=1))
    )
    assert [len(one) for one in masks] == [frames]
    assert {len(one.scores.positions) for result in results for one in result.objects} == {frames - 2}


def _peak(frames: int) -> int:
    """Bytes of a process that evaluates so many frames, at its largest."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = os.spawnve(os.P_NOWAIT, sys.executable, [sys.executable, __file__, str(frames)], environment)
    _, status, usage = os.wait4(process, 0)
    assert status == 0
    return usage.ru_maxrss * 1024


def test_memory_does_not_grow_with_the_sequence() -> None:
    short, long = map(_peak, FRAMES)
    print(f"peak {short / 2**20:.0f} MiB at {FRAMES[0]} frames, {long / 2**20:.0f} MiB at {FRAMES[1]}")
    assert long <= 1.1 * short


if __name__ == "__main__":
    evaluate(int(sys.argv[1]))

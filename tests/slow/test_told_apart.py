"""Fine-tuned on one object of a sequence, the packaged checkpoint segments that one and not the one beside it."""

from itertools import permutations

import numpy as np
import pytest

from eosvos.data.demo_video import SEQUENCES
from eosvos.data.readers.synthetic import synthetic
from eosvos.learning.optimization import load
from eosvos.metrics.measures import jaccard
from eosvos.packaged import CHECKPOINTS
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.one_shot import OneShotSegmenter

CHECKPOINT = CHECKPOINTS["synthetic"]

pytestmark = pytest.mark.slow


def test_the_second_object_is_told_apart() -> None:
    """Every ordered pair of objects of every unseen sequence of the demo, T = 5, each object alone, without a merge."""
    segmenter = OneShotSegmenter(load(CHECKPOINT), SegmentationConfig(transforms=0))
    own, other = [], []
    for sequence in synthetic("held", SEQUENCES["held"]):
        frames = [sequence.frame(position) for position in range(len(sequence))]
        first = frames[0][1]
        assert first is not None
        predicted = {
            target: [
                frame.mask.numpy() > 0
                for frame in segmenter.segment((image for image, _ in frames), {0: first * (first == target)}, 5)
            ]
            for target in (1, 2, 3)
        }
        for target, beside in permutations((1, 2, 3), 2):
            pairs = [
                (predicted[target][k], truth.numpy()) for k, (_, truth) in enumerate(frames) if k and truth is not None
            ]
            own.append(np.mean([jaccard(mask, truth == target) for mask, truth in pairs]))
            other.append(np.mean([jaccard(mask, truth == beside) for mask, truth in pairs]))
    print(f"{len(own)} pairs: J {100 * np.mean(own):.1f} on the own mask, {100 * np.mean(other):.1f} on the other's")
    assert len(own) >= 24
    assert np.mean(own) >= 0.5
    assert np.mean(other) <= 0.1

"""One sequence evaluated: for each learning rate and T what a segmentation on its own would give."""

from dataclasses import replace

import pytest
import torch

from eosvos.data.palette import encode_mask
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.sequence import EncodedFrame, Sequence
from eosvos.errors import BadInput
from eosvos.evaluation.results import FineTuning
from eosvos.evaluation.sequence import SequenceSettings, evaluate_sequence
from eosvos.learning.optimization import load
from eosvos.metrics.sequence_scores import score_sequence
from eosvos.packaged import CHECKPOINT
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.one_shot import OneShotSegmenter

BARE = SegmentationConfig(transforms=1)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Sequence:
    folder = tmp_path_factory.mktemp("sequence") / "held"
    encode(synthetic("held", 1, SyntheticSettings(size=64, frames=4)), folder, {"made": "for tests"})
    return open_dataset(folder).sequences[0]


def test_each_fine_tuning_is_as_on_its_own(sequence: Sequence) -> None:
    """Results for T = 2 go on from T = 1; the masks and scores are those of a segmenter that begins anew."""
    optimization = load(CHECKPOINT)
    settings = SequenceSettings((0, 1, 2), (0.01, 0.02), BARE, seed=3)
    results, masks = evaluate_sequence(optimization, sequence, settings)
    assert [result.fine_tuning for result in results] == [FineTuning(r, T) for r in (0.01, 0.02) for T in (0, 1, 2)]
    assert results[3] == replace(results[0], fine_tuning=FineTuning(0.02, 0))  # before a step no rate matters
    objects = len(results[0].objects)
    assert [result.computed_steps for result in results] == [0, objects, objects, 0, objects, objects]
    images, truths = zip(*(sequence.frame(position) for position in range(len(sequence))), strict=True)
    segmenter = OneShotSegmenter(optimization.with_single_rate(0.02), BARE, 3)
    alone = [frame.mask for frame in segmenter.segment(images, {0: truths[0]}, 2)]
    assert masks[-1] == [encode_mask(mask) for mask in alone]
    scores = score_sequence(alone, truths, [one.scores.object_id for one in results[-1].objects], sequence.name)
    assert [one.scores for one in results[-1].objects] == list(scores)
    assert results[-1].j_and_f == pytest.approx(sum(score.j_and_f for score in scores) / len(scores))
    assert all(one.seconds > 0 for one in results[-1].objects if one.seconds is not None)


def test_some_frames(sequence: Sequence) -> None:
    settings = SequenceSettings((0,), segmentation=BARE, frames=3)
    (result,), (masks,) = evaluate_sequence(load(CHECKPOINT), sequence, settings)
    assert len(masks) == 3
    assert {one.frames for one in result.objects} == {3}
    assert {one.scores.positions for one in result.objects} == {(1,)}
    names = settings.frames_of(sequence).frame_names
    assert names == tuple(sequence.frame_names[position] for position in (0, 2, 3))


def test_threads_are_those_of_the_settings(sequence: Sequence) -> None:
    before = torch.get_num_threads()
    try:
        evaluate_sequence(load(CHECKPOINT), sequence, SequenceSettings((0,), segmentation=BARE, threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("has_mask", [False, True])
def test_nothing_to_follow(sequence: Sequence, has_mask: bool) -> None:
    empty = encode_mask(torch.zeros(64, 64, dtype=torch.uint8))

    def read(position: int) -> EncodedFrame:
        return replace(sequence.read(position), mask=empty if has_mask else None)

    with pytest.raises(BadInput, match="held-00000: its first frame has no object, so there is nothing to follow"):
        evaluate_sequence(load(CHECKPOINT), replace(sequence, read=read), SequenceSettings((0,)))

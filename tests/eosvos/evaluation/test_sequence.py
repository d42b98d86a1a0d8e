"""One sequence evaluated: for each learning rate and T what a segmentation on its own would give."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eosvos.data.palette import encode_mask
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.readers.frames import read_frames
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.sequence import VOID, EncodedFrame, Sequence
from eosvos.errors import BadInput
from eosvos.evaluation.results import FineTuning, check_scored
from eosvos.evaluation.sequence import SequenceSettings, evaluate_sequence
from eosvos.learning.optimization import load
from eosvos.metrics.sequence_scores import score_sequence
from eosvos.metrics.speed import SECONDS
from eosvos.packaged import CHECKPOINTS
from eosvos.segmentation.adaptation import AdaptedObject
from eosvos.segmentation.config import SegmentationConfig
from eosvos.segmentation.following import Found
from eosvos.segmentation.merging import Prediction
from eosvos.segmentation.one_shot import Frame, OneShotSegmenter
from tests.eosvos.segmentation.objects import Given

CHECKPOINT = CHECKPOINTS["synthetic"]

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
    times = [one.times for one in results[-1].objects]
    assert all(one["seconds"] > 0 for one in times if one["seconds"] is not None)
    assert len({(one["loading_seconds"], one["video_seconds"]) for one in times}) == 1  # of the video they are all in
    of_objects, loading, video = (sum(one[name] or 0 for one in times) for name in SECONDS)
    assert 0 < of_objects + loading / objects < video / objects


def test_frames_and_masks_are_not_kept(sequence: Sequence) -> None:
    """Of twelve frames, decoded at each of two T, no more than two images and a few masks are there at any time."""
    images, masks = [], []

    def read(position: int) -> EncodedFrame:
        alive = [one.shape for one in gc.get_objects() if type(one) is torch.Tensor and one.dtype is torch.uint8]
        images.append(alive.count(torch.Size((3, 64, 64))))
        masks.append(alive.count(torch.Size((64, 64))))
        return sequence.read(position % 4)

    long = replace(sequence, frame_names=tuple(map(str, range(12))), read=read)
    evaluate_sequence(load(CHECKPOINT), long, SequenceSettings((0, 1), segmentation=BARE))
    assert len(images) == 26  # the first frame's mask is read twice before: for its objects' ids, and to give it
    assert max(images) <= 2
    assert max(masks) <= 6


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


def _with_masks(sequence: Sequence, masks: list[np.ndarray | None], dataset: str) -> Sequence:
    def read(position: int) -> EncodedFrame:
        mask = masks[position]
        return replace(sequence.read(position), mask=None if mask is None else encode_mask(mask))

    return replace(sequence, dataset=dataset, merge_objects=False, read=read)


@pytest.fixture
def late(sequence: Sequence) -> list[np.ndarray | None]:
    """Object 1 from the first frame on, object 2 from the second, object 3 in the last; void in the first."""
    masks = [np.zeros((64, 64), np.uint8) for _ in range(4)]
    for position, mask in enumerate(masks):
        mask[10:30, 10:30] = 1
        mask[40:60, 30:50] = 2 * (position > 0)
        mask[0:8, 40:60] = 3 * (position == 3)
    masks[0][:, 60:] = VOID
    return list(masks)


def test_an_object_that_enters_late_counts_after_its_first_mask(
    sequence: Sequence, late: list[np.ndarray | None]
) -> None:
    results, (masks,) = evaluate_sequence(
        load(CHECKPOINT), _with_masks(sequence, late, "youtube_vos"), SequenceSettings((0,), segmentation=BARE)
    )
    (result,) = results
    positions = {one.scores.object_id: one.scores.positions for one in result.objects}
    assert positions == {1: (1, 2, 3), 2: (2, 3)}  # after object 3's first mask comes no frame
    first = late[0]
    assert first is not None
    assert masks[0] == encode_mask(np.where(first == VOID, 0, first))


def test_of_davis_the_objects_of_the_first_frame_count(sequence: Sequence, late: list[np.ndarray | None]) -> None:
    (result,), _ = evaluate_sequence(
        load(CHECKPOINT), _with_masks(sequence, late, "davis2017"), SequenceSettings((0,), segmentation=BARE)
    )
    assert {one.scores.object_id: one.scores.positions for one in result.objects} == {1: (1, 2)}


def test_an_object_of_davis_that_is_not_in_the_first_frame(sequence: Sequence, late: list[np.ndarray | None]) -> None:
    with pytest.raises(BadInput, match="held-00000: its first frame has no object"):
        evaluate_sequence(
            load(CHECKPOINT), _with_masks(sequence, [None, *late[1:]], "davis2017"), SequenceSettings((0,))
        )


def test_first_masks_alone_give_masks_without_scores(sequence: Sequence, late: list[np.ndarray | None]) -> None:
    """What enters is shown, and nothing else; the mask in which object 2 enters does not say where object 1 is."""
    assert late[0] is not None
    assert late[2] is not None
    masks = [late[0], None, np.where(late[2] == 2, late[2], 0).astype(np.uint8), None]
    hidden = _with_masks(sequence, masks, "youtube_vos")
    (result,), (predicted,) = evaluate_sequence(load(CHECKPOINT), hidden, SequenceSettings((0,), segmentation=BARE))
    assert (result.objects, len(predicted)) == ((), 4)
    with pytest.raises(BadInput, match="held-00000: no mask to score against beside those that are given"):
        check_scored([result])


def test_void_of_a_given_mask_is_neither_object_nor_background(sequence: Sequence) -> None:
    """Fine-tuning is given it as such, and the loss takes no notice of what lies there."""
    first = sequence.mask(0)
    assert first is not None
    truths = [sequence.mask(position) for position in range(len(sequence))]
    with_void = first.clone()
    with_void[:, :20] = VOID
    videos = {
        void: _with_masks(sequence, [None if one is None else one.numpy() for one in (mask, *truths[1:])], "davis2017")
        for void, mask in ((True, with_void), (False, torch.where(with_void == VOID, 0, with_void)))
    }
    seen: dict[bool, list[AdaptedObject]] = {True: [], False: []}

    def fine_tuner(adapted: AdaptedObject, *arguments: Any) -> None:
        current.append(adapted)

    for void, video in videos.items():
        current = seen[void]
        evaluate_sequence(load(CHECKPOINT), video, SequenceSettings((1,), segmentation=BARE), fine_tuner)
    assert len(seen[True]) == len(seen[False]) > 0
    for one, other in zip(seen[True], seen[False], strict=True):
        (masked,), (plain,) = one.given, other.given
        assert (masked.mask[:, :30] == VOID).any()
        assert not (plain.mask == VOID).any()
        assert torch.equal(masked.shown, plain.shown)
        assert torch.equal(torch.where(masked.mask == VOID, 0, masked.mask), plain.mask)
        assert one.start_box is not None
        assert other.start_box is not None
        assert torch.equal(one.start_box.box, other.start_box.box)


CAPS = Path(__file__).parents[4] / "shared" / "data" / "multi_object" / "pumavos" / "caps"


@pytest.mark.parametrize(
    "kind", ["made", pytest.param("caps", marks=pytest.mark.skipif(not CAPS.is_dir(), reason="no caps"))]
)
def test_a_perfect_detector_has_all_of_it_right(
    sequence: Sequence, late: list[np.ndarray | None], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Objects that enter late or leave, frames without a mask: each object in every frame that counts."""
    video = _with_masks(sequence, late, "youtube_vos")
    if kind == "caps":
        (video,) = read_frames(CAPS / "frames", CAPS / "masks")
    truths = [video.mask(position) for position in range(len(video))]

    def find(self: OneShotSegmenter, adapted: AdaptedObject, frame: Frame, position: int) -> Found:
        truth = truths[position]
        seen = torch.zeros(frame.whole.frame) if truth is None else (truth == adapted.id).float()
        return Given(frame.whole, Prediction(seen))

    monkeypatch.setattr(OneShotSegmenter, "find", find)
    (result,), _ = evaluate_sequence(load(CHECKPOINT), video, SequenceSettings((0,), segmentation=BARE))
    assert [one.scores.object_id for one in result.objects] == [1, 2]
    for one in result.objects:
        assert set(one.scores.j) == set(one.scores.f) == {1.0}
        annotated = [position for position, mask in enumerate(truths) if mask is not None]
        entered = next(
            p for p in annotated if truths[p] is not None and bool((truths[p] == one.scores.object_id).any())
        )
        assert list(one.scores.positions) == [position for position in annotated if position > entered]

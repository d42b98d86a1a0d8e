"""Data of odd shapes: encoded it comes back bit for bit, and tasks are made of it, or a clear word is said."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from eosvos.data.augment import task_frames
from eosvos.data.config import AugmentationConfig, PlanConfig, Targets
from eosvos.data.parquet import EncodedDataset, encode, open_dataset
from eosvos.data.parquet.card import facts
from eosvos.data.readers.coco import read_coco
from eosvos.data.sequence import VOID, Sequence
from eosvos.data.tasks import Source, Task, learnable, plan
from eosvos.errors import BadInput

Mask = NDArray[np.uint8] | None
Videos = list[list[Mask]]
Make = Callable[..., Sequence]
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 3), (12, 16), (16, 12), (40, 7)]
AUGMENTATION = AugmentationConfig(translation=0.2)
IDS = st.integers(1, VOID - 1) | st.sampled_from([1, 2, VOID - 2, VOID - 1])


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, int]) -> Mask:
    """None, empty, void everywhere, or boxes with any ids, one over another, down to a pixel and up to all of it."""
    if draw(st.integers(0, 5)) == 0:
        return None
    mask = np.full(shape, VOID if draw(st.integers(0, 5)) == 0 else 0, np.uint8)
    for _ in range(draw(st.integers(0, 3))):
        (top, left), (height, width) = ([draw(st.integers(0, side - 1)) for side in shape] for _ in range(2))
        mask[top : top + height + 1, left : left + width + 1] = draw(IDS | st.just(VOID))
    return mask


@st.composite
def videos(draw: st.DrawFn) -> Videos:
    """One to three, each of one to four frames of one size."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    return [draw(st.lists(masks(shape), min_size=1, max_size=4)) for shape in shapes]


def encoded(sequences: list[Sequence], folder: str) -> EncodedDataset:
    encode(sequences, Path(folder) / "encoded", {"made": "for tests"})
    return open_dataset(Path(folder) / "encoded")


def check_equal(dataset: EncodedDataset, sequences: list[Sequence], given: Videos) -> None:
    for index, (back, one, own) in enumerate(zip(dataset.sequences, sequences, given, strict=True)):
        assert (back.dataset, back.name, back.frame_names) == (one.dataset, one.name, one.frame_names)
        visible: dict[int, list[int]] = {}
        for position, mask in enumerate(own):
            assert back.read(position).image == one.read(position).image
            assert back.read(position).mask == one.read(position).mask
            stored = back.frame(position)[1]
            assert (stored is None) == (mask is None)
            if mask is not None and stored is not None:
                np.testing.assert_array_equal(stored.numpy(), mask)
                for number in set(np.unique(mask).tolist()) - {0, VOID}:
                    visible.setdefault(number, []).append(position)
        assert dataset.visible(index) == {number: tuple(where) for number, where in visible.items()}


def check_targets(dataset: EncodedDataset, task: Task) -> None:
    """The masks of each kind of targets agree with each other; merged ones hold also what no object has half of."""
    one, merged, each = (
        task_frames(dataset.sequences, task, AUGMENTATION, 0, 16, 32, targets).train_masks
        for targets in get_args(Targets)
    )
    assert torch.equal(one == 1, each == 1)
    assert bool((merged == 1)[(each > 0) & (each != VOID)].all())
    assert bool(((each == 0) | (each == VOID))[(merged == 0) | (merged == VOID)].all())


def make_tasks(dataset: EncodedDataset, config: PlanConfig, most: int = 100) -> int:
    """Frames of the tasks of an epoch, of ``most`` at most; how many tasks there are."""
    visible = learnable(dataset)
    objects = sum(len(frames) > 0 for ids in visible for frames in ids.values())
    tasks = list(plan([Source(visible)], config, 0, objects, 0, 1))
    for task in tasks[:most]:
        frames = task_frames(dataset.sequences, task, AUGMENTATION, 0, 16, 32)
        assert frames.train_images.shape[:2] == (config.train_frames, 3)
        assert frames.test_masks.shape[0] == config.test_frames
        for shown in (frames.train_masks, frames.test_masks):
            assert set(shown.unique().tolist()) <= {0, 1, VOID}
            assert bool((shown == 1).flatten(1).any(dim=1).all())
    for task in tasks[:3]:
        check_targets(dataset, task)
    return len(tasks)


@settings(max_examples=60)
@given(
    own=videos(),
    config=st.builds(
        PlanConfig,
        frames=st.sampled_from(["one", "two"]),
        draw=st.sampled_from(["object", "image"]),
        train_frames=st.integers(1, 2),
        test_frames=st.integers(1, 2),
        paste=st.sampled_from([0.0, 1.0]),
    ),
)
def test_any_masks(make_sequence: Make, own: Videos, config: PlanConfig) -> None:
    sequences = [make_sequence(f"video{index}", video) for index, video in enumerate(own)]
    with tempfile.TemporaryDirectory() as folder:
        dataset = encoded(sequences, folder)
        check_equal(dataset, sequences, own)
        with_objects = sum(any(ids.values()) for ids in learnable(dataset))
        if with_objects == 0 or (config.paste and with_objects == 1):
            with pytest.raises(BadInput, match=r"no frame with a visible object|pasting needs objects of at least two"):
                make_tasks(dataset, config)
        else:
            assert make_tasks(dataset, config) >= with_objects


def test_all_ids_at_once_beside_the_other_orientation(make_sequence: Make, tmp_path: Path) -> None:
    """854x480 with 254 objects, and 480x853 with one that is seen once, at the border."""
    tiles = np.arange(480 * 854).reshape(480, 854) // (480 * 854 // (VOID - 1) + 1) + 1
    once = np.zeros((853, 480), np.uint8)
    once[-30:, -40:] = VOID - 1
    own: Videos = [[tiles.astype(np.uint8), None], [np.zeros_like(once), once, np.full_like(once, VOID)]]
    sequences = [make_sequence(f"video{index}", video) for index, video in enumerate(own)]
    dataset = encoded(sequences, str(tmp_path))
    check_equal(dataset, sequences, own)
    assert facts(dataset, 0)["resolutions"] == "480x853 (3), 854x480 (2)"
    assert len(dataset.visible(0)) == VOID - 1
    assert make_tasks(dataset, PlanConfig(paste=0.5), most=10) == VOID


outlines = st.lists(st.tuples(st.integers(-30, 40), st.integers(-30, 40)), min_size=1, max_size=5)


@settings(max_examples=40)
@given(parts=st.lists(outlines, min_size=1, max_size=4))
def test_coco_annotations_outside_their_images_and_without_area(parts: list[list[tuple[int, int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(Path(folder) / "0.jpg")
        content = {
            "images": [{"id": 5, "file_name": "0.jpg", "height": 9, "width": 12}],
            "categories": [{"id": 1, "name": "thing"}],
            "annotations": [
                {
                    "id": number,
                    "image_id": 5,
                    "category_id": 1,
                    "segmentation": [[value for corner in part for value in corner]],
                }
                for number, part in enumerate(parts)
            ],
        }
        (Path(folder) / "instances.json").write_text(json.dumps(content))
        sequences = read_coco(Path(folder), Path(folder) / "instances.json")
        mask = sequences[0].mask(0)
        assert mask is not None
        dataset = encoded(sequences, folder)
        check_equal(dataset, sequences, [[mask.numpy()]])
        ids = set(mask.unique().tolist()) - {0}
        assert dataset.sequences[0].categories == dict.fromkeys(ids, "thing")
        if ids:
            assert make_tasks(dataset, PlanConfig()) == len(ids)
        else:
            with pytest.raises(BadInput, match="no frame with a visible object"):
                make_tasks(dataset, PlanConfig())

"""Which objects a task's masks hold: one, all as one, or each by itself; the images are the same."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from eosvos.data.augment import TaskFrames, task_frames
from eosvos.data.config import AugmentationConfig, StillsConfig, Targets
from eosvos.data.palette import encode_mask
from eosvos.data.sequence import VOID, EncodedFrame, Sequence
from eosvos.data.tasks import MIN_AREA, Donor, Task

IDENTITY = AugmentationConfig(
    flip=0, rotation=0, scale=(1, 1), translation=0, brightness=0, contrast=0, saturation=0, hue=0
)
MOVED = replace(IDENTITY, flip=0.5, rotation=20, scale=(0.8, 1.2), translation=0.3, brightness=0.2)
KINDS: tuple[Targets, ...] = ("one", "merged", "instances")
HEIGHT, WIDTH = 48, 64
BOXES = {3: (4, 6, 14, 20), 5: (24, 10, 42, 34), 9: (50, 30, 62, 46)}
"""Id of each object -> x0, y0, x1, y1."""


def _video(name: str, brightness: int, without: int = 0) -> Sequence:
    """Two frames with three rectangles of their own grey and void below them; the second is ``without`` one of them."""
    frames = []
    for hidden in (0, without):
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids[40:, :20] = VOID
        for object_id, (x0, y0, x1, y1) in BOXES.items():
            if object_id != hidden:
                ids[y0:y1, x0:x1] = object_id
        data = io.BytesIO()
        grey = np.where(ids == VOID, 0, ids * brightness).astype(np.uint8)
        Image.fromarray(grey).convert("RGB").save(data, "PNG")
        frames.append(EncodedFrame(data.getvalue(), encode_mask(ids), f"{name} image", f"{name} mask"))
    return Sequence("made", name, ("0", "1"), False, frames.__getitem__)


def _frames(
    targets: Targets, task: Task, config: AugmentationConfig = IDENTITY, without: int = 0, height: int = HEIGHT
) -> TaskFrames:
    sequences = (_video("host", 10, without), _video("donor", 25))
    return task_frames(sequences, task, config, 0, height, WIDTH, targets)


def _task(index: int = 0, donor: Donor | None = None, hidden: tuple[int, ...] = ()) -> Task:
    return Task(0, index, index, 0, 5, (0, 1), 1, donor, hidden)


def _inside(object_id: int) -> Tensor:
    x0, y0, x1, y1 = BOXES[object_id]
    mask = torch.zeros((HEIGHT, WIDTH), dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_each_kind_of_three_objects_and_void() -> None:
    void = torch.zeros((HEIGHT, WIDTH), dtype=torch.bool)
    void[40:, :20] = True
    others = _inside(3) | _inside(9)
    masks = {kind: _frames(kind, _task()).train_masks[0] for kind in KINDS}
    assert all(torch.equal(mask == VOID, void) for mask in masks.values())
    assert torch.equal(masks["one"] == 1, _inside(5))
    assert not masks["one"][others].any()
    assert torch.equal(masks["merged"] == 1, _inside(5) | others)
    for number, object_id in ((1, 5), (2, 3), (3, 9)):  # the task's object first
        assert torch.equal(masks["instances"] == number, _inside(object_id))
    assert masks["merged"].unique().tolist() == masks["one"].unique().tolist() == [0, 1, VOID]
    assert masks["instances"].unique().tolist() == [0, 1, 2, 3, VOID]


def test_merged_objects_that_touch_have_no_seam() -> None:
    """In half the size a corner where four objects meet is in a pixel that each covers by a quarter."""
    ids = np.zeros((64, 64), np.uint8)
    ids[8:31, 8:31], ids[8:31, 31:56], ids[31:56, 8:31], ids[31:56, 31:56] = 3, 5, 9, 11
    data = io.BytesIO()
    Image.fromarray(ids).convert("RGB").save(data, "PNG")
    frame = EncodedFrame(data.getvalue(), encode_mask(ids), "image", "mask")
    video = Sequence("made", "touching", ("0", "1"), False, lambda position: frame)
    task = Task(0, 0, 0, 0, 3, (0, 1), 1, None)
    merged, instances = (
        task_frames((video,), task, IDENTITY, 0, 32, 32, kind).train_masks[0][4:28, 4:28]
        for kind in ("merged", "instances")
    )
    assert (merged == 1).all()
    assert torch.nonzero(instances == 0).tolist() == [[11, 11]]


def test_the_others_stay_where_the_object_is_hidden() -> None:
    masks = {kind: _frames(kind, _task(hidden=(1,)), without=5).test_masks[0] for kind in KINDS}
    assert masks["one"].unique().tolist() == [0, VOID]
    assert torch.equal(masks["merged"] == 1, _inside(3) | _inside(9))
    assert torch.equal(masks["instances"] == 2, _inside(3))
    assert torch.equal(masks["instances"] == 3, _inside(9))
    assert not (masks["instances"] == 1).any()


@pytest.mark.parametrize("index", range(12))
@pytest.mark.parametrize("views", [StillsConfig(), StillsConfig(apart=0.2, elastic=0.05)])
def test_the_kinds_differ_in_their_masks_alone(index: int, views: StillsConfig) -> None:
    """With everything that moves pixels: a third of the tasks with a donor, a third with one that is the target."""
    donor = Donor(1, 3, (0, 1), index % 3 == 2) if index % 3 else None
    task = replace(_task(index, donor), frames=(0, 0))
    one, merged, instances = (_frames(kind, task, replace(MOVED, views=views)) for kind in KINDS)
    for part in ("train", "test"):
        images = [getattr(frames, f"{part}_images") for frames in (one, merged, instances)]
        masks = [getattr(frames, f"{part}_masks")[0] for frames in (one, merged, instances)]
        assert torch.equal(images[0], images[1])
        assert torch.equal(images[0], images[2])
        assert torch.equal(masks[0] == 1, masks[2] == 1)
        assert torch.equal(masks[1] == 1, (masks[2] > 0) & (masks[2] != VOID))
        assert torch.equal(masks[1] == VOID, masks[2] == VOID)
        assert int((masks[0] == 1).sum()) >= MIN_AREA * HEIGHT * WIDTH


def test_what_a_warp_moves_out_is_not_there() -> None:
    numbers = [set(_frames("instances", _task(index), MOVED).train_masks.unique().tolist()) for index in range(30)]
    assert all(1 in found for found in numbers)
    assert any({2, 3} <= found for found in numbers)
    assert any(not {2, 3} <= found for found in numbers)


@pytest.mark.parametrize("is_target", [True, False])
def test_what_is_pasted_in_is_an_object_too(is_target: bool) -> None:
    pasted = 0
    for index in range(8):
        frames = {kind: _frames(kind, _task(index, Donor(1, 9, (0, 1), is_target))) for kind in KINDS}
        image, mask = frames["instances"].train_images[0], frames["instances"].train_masks[0]
        of_donor = (image != _frames("one", _task(index)).train_images[0]).any(dim=0)
        of_host = {object_id: _inside(object_id) & ~of_donor for object_id in BOXES}
        numbers = {int(mask[shown].unique()) for shown in (of_donor, *of_host.values()) if shown.any()}
        assert numbers == {*mask.unique().tolist()} - {0, VOID}  # each has one of its own, and nothing else has
        assert len(numbers) == sum(bool(shown.any()) for shown in (of_donor, *of_host.values()))
        assert torch.equal(frames["merged"].train_masks[0] == 1, of_donor | of_host[3] | of_host[5] | of_host[9])
        assert torch.equal(frames["one"].train_masks[0] == 1, of_donor if is_target else of_host[5])
        # Where an object of the host may be, is no object of another video.
        assert bool((frames["one"].train_masks == VOID).any()) == (not is_target)
        assert (frames["merged"].train_masks == VOID).any()
        pasted += bool(of_donor.any())
    assert pasted >= 4


def test_small_objects_are_kept_at_a_smaller_size() -> None:
    mask = _frames("instances", _task(), height=6).train_masks[0]
    assert mask.shape == (6, 8)
    assert {1, 2, 3} <= set(mask.unique().tolist())

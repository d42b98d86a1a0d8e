"""Void, the pixels that nobody decided on: no object, and nothing that a loss looks at."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.data.augment import TaskFrames, task_frames
from eosvos.data.config import AugmentationConfig
from eosvos.data.palette import encode_mask
from eosvos.data.sequence import VOID, EncodedFrame, Sequence
from eosvos.data.tasks import Donor, Task

HEIGHT, WIDTH = 48, 64
IDENTITY = AugmentationConfig(
    flip=0, rotation=0, scale=(1, 1), translation=0, brightness=0, contrast=0, saturation=0, hue=0
)
MOVED = AugmentationConfig(flip=0.5, rotation=20, scale=(0.8, 1.2), translation=0.1)


def _video(void: int) -> Sequence:
    """A red square with a green margin, on blue; the mask has ``void`` in the margin."""
    image = np.full((HEIGHT, WIDTH, 3), (0, 0, 200), np.uint8)
    image[10:34, 20:44], image[14:30, 24:40] = (0, 200, 0), (200, 0, 0)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:34, 20:44], mask[14:30, 24:40] = void, 1
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    frame = EncodedFrame(data.getvalue(), encode_mask(mask), "image", "mask")
    return Sequence("made", "one", ("0", "1"), False, lambda position: frame)


def _frames(void: int, config: AugmentationConfig, donor: Donor | None = None, index: int = 0) -> TaskFrames:
    task = Task(0, index, index, 0, 1, (0, 1), 1, donor)
    return task_frames((_video(void), _video(void)), task, config, 0, HEIGHT, WIDTH)


def test_void_goes_with_the_object() -> None:
    mask = _frames(VOID, IDENTITY).train_masks[0]
    assert mask.unique().tolist() == [0, 1, VOID]
    assert int((mask == VOID).sum()) == 24 * 24 - 16 * 16


@pytest.mark.parametrize("index", range(6))
def test_void_changes_no_pixel_and_no_draw(index: int) -> None:
    """Frames with void are those without, and their masks are the same but for it."""
    donor = Donor(1, 1, (0, 1), index % 2 == 0) if index > 2 else None
    with_void, without = (_frames(void, MOVED, donor, index) for void in (VOID, 0))
    assert torch.equal(with_void.train_masks == 1, without.train_masks == 1)
    assert torch.equal(with_void.test_masks == 1, without.test_masks == 1)
    assert torch.equal(with_void.train_images, without.train_images)
    assert torch.equal(with_void.test_images, without.test_images)


def test_the_void_of_a_donor_is_not_pasted() -> None:
    frames = _frames(VOID, MOVED, Donor(1, 1, (0, 1), True))
    assert frames.train_masks.unique().tolist() == [0, 1]


def test_void_is_kept_at_a_smaller_size() -> None:
    task = Task(0, 0, 0, 0, 1, (0, 1), 1, None)
    mask = task_frames((_video(VOID),), task, IDENTITY, 0, HEIGHT // 2, WIDTH).train_masks[0]
    assert mask.shape == (HEIGHT // 2, WIDTH // 2)
    assert mask.unique().tolist() == [0, 1, VOID]

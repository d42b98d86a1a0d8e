"""Augmentation: image and mask together, the same pixels anywhere, no object lost."""

import io
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

from eosvos.data import augment, warps
from eosvos.data.augment import TaskFrames, task_frames
from eosvos.data.config import AugmentationConfig
from eosvos.data.sequence import EncodedFrame, Sequence
from eosvos.data.tasks import MIN_AREA, Donor, Task
from eosvos.data.warps import LabelledFrame
from eosvos.errors import BadInput

IDENTITY = AugmentationConfig(
    flip=0, rotation=0, scale=(1, 1), translation=0, brightness=0, contrast=0, saturation=0, hue=0
)
GEOMETRY = replace(IDENTITY, flip=0.5, rotation=30, scale=(0.75, 1.25), translation=0.15)
LOOK = replace(IDENTITY, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, channel_permutation=0.5)
SEED, HEIGHT, WIDTH = 0, 48, 64
HOST, DONOR, BACKGROUND = (40, 200, 60), (220, 30, 30), (30, 30, 120)


def _png(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return data.getvalue()


def _sequence(
    name: str, colour: tuple[int, int, int], boxes: list[tuple[int, int, int, int]], size: tuple[int, int]
) -> Sequence:
    """Frames in which object 1 is a rectangle (x0, y0, x1, y1) of one colour, so that the image shows the mask."""
    frames = []
    for x0, y0, x1, y1 in boxes:
        mask = np.zeros(size, np.uint8)
        mask[y0:y1, x0:x1] = 1
        image = np.where(mask[..., None] > 0, np.array(colour), np.array(BACKGROUND)).astype(np.uint8)
        frames.append(EncodedFrame(_png(image), _png(mask), f"{name} image", f"{name} mask"))
    names = tuple(f"{position:05d}" for position in range(len(boxes)))
    return Sequence("made", name, names, False, frames.__getitem__)


@pytest.fixture(scope="module")
def sequences() -> tuple[Sequence, ...]:
    """Two of 48x64 and, as donors, one that is wider and one that is smaller."""
    return (
        _sequence("host", HOST, [(20, 14, 44, 36), (12, 10, 36, 30)], (HEIGHT, WIDTH)),
        _sequence("donor", DONOR, [(4, 6, 20, 18), (40, 30, 58, 44)], (HEIGHT, WIDTH)),
        _sequence("wide", DONOR, [(130, 10, 150, 40), (140, 8, 158, 30)], (HEIGHT, 160)),
        _sequence("narrow", DONOR, [(2, 2, 18, 30), (4, 8, 20, 40)], (HEIGHT, 24)),
    )


def _task(index: int = 0, donor: int | None = None, is_target: bool = False) -> Task:
    pasted = None if donor is None else Donor(donor, 1, (0, 1), is_target)
    return Task(0, index, index, 0, 1, (0, 1), 1, pasted)


def _frames(sequences: tuple[Sequence, ...], task: Task, config: AugmentationConfig, seed: int = SEED) -> TaskFrames:
    return task_frames(sequences, task, config, seed, HEIGHT, 2 * WIDTH)


def _both(frames: TaskFrames) -> list[tuple[Tensor, Tensor]]:
    return [(frames.train_images[0], frames.train_masks[0]), (frames.test_images[0], frames.test_masks[0])]


def _near(image: Tensor, colour: tuple[int, int, int]) -> Tensor:
    """Pixels closest to this one of the three colours and black."""
    palette = torch.tensor([HOST, DONOR, BACKGROUND, (0, 0, 0)], dtype=torch.float32)
    distances = (image.float()[None] - palette[:, :, None, None]).square().sum(dim=1)
    return distances.argmin(dim=0) == (HOST, DONOR).index(colour)


def _disagreement(mask: Tensor, shown: Tensor) -> float:
    """Share of the mask and what the image shows that is not in both."""
    union = ((mask > 0) | shown).sum()
    return float(((mask > 0) != shown).sum() / union)


def _equal(a: TaskFrames, b: TaskFrames) -> bool:
    return all(
        torch.equal(x, y)
        for one, other in zip(_both(a), _both(b), strict=True)
        for x, y in zip(one, other, strict=True)
    )


def test_without_ranges_the_frames_are_as_they_are(sequences: tuple[Sequence, ...]) -> None:
    frames = _frames(sequences, _task(), IDENTITY)
    for position, (image, mask) in enumerate(_both(frames)):
        expected_image, expected_mask = sequences[0].frame(position)
        assert torch.equal(image, expected_image)
        assert expected_mask is not None
        assert torch.equal(mask, expected_mask)


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_image_and_mask_move_together(sequences: tuple[Sequence, ...], index: int) -> None:
    for image, mask in _both(_frames(sequences, _task(index), GEOMETRY)):
        assert image.shape == (3, HEIGHT, WIDTH)
        assert mask.shape == (HEIGHT, WIDTH)
        assert image.dtype == mask.dtype == torch.uint8
        assert set(mask.unique().tolist()) == {0, 1}
        assert int(mask.sum()) >= MIN_AREA * HEIGHT * WIDTH
        assert _disagreement(mask, _near(image, HOST)) < 0.12  # a pixel's width along the border


def test_each_frame_has_another_warp_and_shares_its_flip_and_colours(sequences: tuple[Sequence, ...]) -> None:
    same = (_sequence("same", HOST, [(4, 6, 20, 18)] * 2, (HEIGHT, WIDTH)),)
    warped = _frames(same, _task(), replace(GEOMETRY, flip=0))
    assert not torch.equal(warped.train_masks[0], warped.test_masks[0])
    flipped = set()
    for index in range(20):
        frames = _frames(same, _task(index), replace(LOOK, flip=0.5))
        assert torch.equal(frames.train_images[0], frames.test_images[0])
        assert torch.equal(frames.train_masks[0], frames.test_masks[0])
        xs = torch.where(frames.train_masks[0] > 0)[1]
        flipped.add((int(xs.min()), int(xs.max()) + 1))
    assert flipped == {(4, 20), (WIDTH - 20, WIDTH - 4)}


def test_colours_change_the_image_alone(sequences: tuple[Sequence, ...]) -> None:
    plain = _frames(sequences, _task(), IDENTITY)
    for field in ("brightness", "contrast", "saturation", "hue", "channel_permutation"):
        value = 0.5 if field == "hue" else 1.0
        changed = [_frames(sequences, _task(index), replace(IDENTITY, **{field: value})) for index in range(4)]
        assert any(not torch.equal(frames.train_images[0], plain.train_images[0]) for frames in changed), field
        assert all(torch.equal(frames.train_masks[0], plain.train_masks[0]) for frames in changed), field
    permuted = replace(IDENTITY, channel_permutation=1)
    images = [_frames(sequences, _task(index), permuted).train_images[0] for index in range(20)]
    assert len({tuple(image[:, 20, 30].tolist()) for image in images}) == 6
    assert all(sorted(image[:, 20, 30].tolist()) == sorted(HOST) for image in images)


@pytest.mark.parametrize("donor", [None, 1])
def test_the_same_task_has_the_same_pixels(sequences: tuple[Sequence, ...], donor: int | None) -> None:
    config = replace(GEOMETRY, brightness=0.2, hue=0.1)
    torch.manual_seed(1)
    first = _frames(sequences, _task(3, donor), config)
    torch.manual_seed(2)
    assert _equal(_frames(sequences, _task(3, donor), config), first)
    assert not _equal(_frames(sequences, _task(4, donor), config), first)
    assert not _equal(_frames(sequences, replace(_task(3, donor), epoch=1), config), first)
    assert not _equal(_frames(sequences, _task(3, donor), config, seed=1), first)


@given(st.integers(0, 10**6), st.sampled_from([1, 3]))
@settings(max_examples=40)
def test_a_pasted_target_covers_the_host(sequences: tuple[Sequence, ...], index: int, donor: int) -> None:
    for image, mask in _both(_frames(sequences, _task(index, donor, True), GEOMETRY)):
        assert int(mask.sum()) >= MIN_AREA * HEIGHT * WIDTH
        assert _disagreement(mask, _near(image, DONOR)) < 0.3  # small objects have much border
        assert not bool((_near(image, HOST) & (mask > 0)).float().mean() > 0.01)


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3]))
@settings(max_examples=40)
def test_a_pasted_distractor_is_cut_out_of_the_target(sequences: tuple[Sequence, ...], index: int, donor: int) -> None:
    task = _task(index, donor)
    alone = _both(_frames(sequences, replace(task, donor=None), IDENTITY))
    for (image, mask), (plain, whole) in zip(_both(_frames(sequences, task, IDENTITY)), alone, strict=True):
        covered = (image != plain).any(dim=0)
        assert bool(covered[_near(image, DONOR)].all())
        assert torch.equal(mask > 0, (whole > 0) & ~covered)
        assert int(mask.sum()) >= 0.4 * int(whole.sum())


def test_pasted_objects_are_all_over_the_frame(sequences: tuple[Sequence, ...]) -> None:
    centres = []
    for index in range(40):
        for _, mask in _both(_frames(sequences, _task(index, 1, True), IDENTITY)):
            ys, xs = torch.where(mask > 0)
            centres.append((float(xs.double().mean()) / WIDTH, float(ys.double().mean()) / HEIGHT))
    low, high = torch.tensor(centres).amin(dim=0), torch.tensor(centres).amax(dim=0)
    assert bool((low < 0.2).all() and (high > 0.8).all())
    assert any(bool((_near(_frames(sequences, _task(i, 1), IDENTITY).train_images[0], DONOR)).any()) for i in range(5))


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("config", [IDENTITY, GEOMETRY])
def test_an_object_of_a_wider_video_is_not_lost(
    sequences: tuple[Sequence, ...], index: int, config: AugmentationConfig
) -> None:
    for image, mask in _both(_frames(sequences, _task(index, 2, True), config)):
        assert int(mask.sum()) >= MIN_AREA * HEIGHT * WIDTH
        assert bool(((mask > 0) & _near(image, DONOR)).any())


def test_a_warp_that_loses_the_object_is_left_out(
    sequences: tuple[Sequence, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def lost(frame: LabelledFrame, *rest: Any) -> LabelledFrame:
        tries.append(1)
        return LabelledFrame(frame.image * 0, frame.mask * 0)

    for module in (augment, warps):
        monkeypatch.setattr(module, "warp", lost)
    plain = _frames(sequences, _task(), IDENTITY)
    assert len(tries) == 2 * warps.TRIES
    assert torch.equal(plain.train_images[0], sequences[0].frame(0)[0])
    distractor = _frames(sequences, _task(0, 1), IDENTITY)
    assert torch.equal(distractor.train_images[0], plain.train_images[0])
    assert torch.equal(distractor.train_masks[0], plain.train_masks[0])
    target = _frames(sequences, _task(0, 1, True), IDENTITY)
    donor_image, donor_mask = sequences[1].frame(0)
    assert donor_mask is not None
    assert torch.equal(target.train_masks[0], donor_mask)
    assert torch.equal(target.train_images[0], torch.where(donor_mask.bool(), donor_image, plain.train_images[0]))


def test_several_frames_of_each_kind(sequences: tuple[Sequence, ...]) -> None:
    task = replace(_task(0, 1), frames=(0, 1, 0, 1, 1), train_frames=2, donor=Donor(1, 1, (1, 0, 1, 0, 0), False))
    frames = _frames(sequences, task, AugmentationConfig())
    assert frames.train_images.shape == (2, 3, HEIGHT, WIDTH)
    assert frames.train_masks.shape == (2, HEIGHT, WIDTH)
    assert frames.test_images.shape == (3, 3, HEIGHT, WIDTH)
    assert frames.test_masks.shape == (3, HEIGHT, WIDTH)
    everything = [*frames.train_images, *frames.test_images]
    assert not any(torch.equal(a, b) for i, a in enumerate(everything) for b in everything[:i])  # no warp twice
    packed = save({field.name: getattr(frames, field.name) for field in fields(frames)})  # as the stream sends them
    assert all(torch.equal(value, getattr(frames, name)) for name, value in load(packed).items())


def test_a_distractor_that_covers_everything_is_not_pasted() -> None:
    sequences = (
        _sequence("host", HOST, [(28, 20, 34, 26)] * 2, (HEIGHT, WIDTH)),
        _sequence("cover", DONOR, [(0, 0, WIDTH, HEIGHT)] * 2, (HEIGHT, WIDTH)),
    )
    seen = 0
    for index in range(10):
        frames = _frames(sequences, _task(index, 1), IDENTITY)
        assert int(frames.train_masks[0].sum()) >= 0.4 * 36
        seen += int(torch.equal(frames.train_images[0], sequences[0].frame(0)[0]))
    assert seen < 10  # at other places it hides less


def test_a_frame_that_does_not_show_the_object(
    sequences: tuple[Sequence, ...], make_sequence: Callable[..., Any]
) -> None:
    with pytest.raises(BadInput, match=r"^made/host/00001: object 2 is not in its mask.*encode the dataset again"):
        _frames(sequences, replace(_task(), object_id=2, frames=(1, 1)), IDENTITY)
    unlabelled = make_sequence("some", [np.ones((48, 64), np.uint8), None])
    with pytest.raises(BadInput, match=r"^made/some/00001: object 1"):
        _frames((unlabelled,), _task(), IDENTITY)


@pytest.mark.parametrize(
    "values", [{"flip": 2}, {"brightness": -1}, {"hue": 0.6}, {"scale": (0, 1)}, {"scale": (2, 1)}, {"translation": 3}]
)
def test_ranges_that_make_no_sense_name_the_field(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(values))}: "):
        AugmentationConfig(**values)


def test_a_frame_in_which_the_object_is_hidden(make_sequence: Callable[..., Sequence]) -> None:
    shown, other = np.zeros((40, 50), np.uint8), np.full((40, 50), 2, np.uint8)
    shown[10:30, 10:30] = 1
    sequences = (make_sequence("host", [shown, other]),)
    task = Task(0, 0, 0, 0, 1, (0, 1), 1, None, hidden=(1,))
    for index in range(10):
        frames = task_frames(sequences, replace(task, index=index), AugmentationConfig(), 0, 40, 50)
        assert (frames.train_masks == 1).any()
        assert not frames.test_masks.any()
    with pytest.raises(BadInput, match=r"object 1 is in its mask, though the index says otherwise"):
        task_frames(sequences, replace(task, frames=(0, 0)), AugmentationConfig(), 0, 40, 50)

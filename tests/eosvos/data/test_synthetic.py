"""The synthetic videos: the same seed gives the same bytes, and the problem that they pose is fair."""

import pickle

import numpy as np
import pytest

from eosvos.data.readers.synthetic import SyntheticSettings, render, synthetic
from eosvos.data.sequence import object_ids
from eosvos.errors import BadInput

SMALL = SyntheticSettings(size=64, frames=3)


def _bytes(split: str, count: int, seed: int = 0) -> list[tuple[bytes, bytes | None]]:
    encoded = [s.read(p) for s in synthetic(split, count, SMALL, seed) for p in range(len(s))]
    return [(frame.image, frame.mask) for frame in encoded]


def test_same_seed_same_bytes() -> None:
    first = _bytes("train", 6)
    assert _bytes("train", 6) == first
    assert _bytes("train", 3) == first[:9]


def test_splits_and_seeds_share_nothing() -> None:
    images = [image for key in (("train", 0), ("held", 0), ("train", 1)) for image, _ in _bytes(key[0], 4, key[1])]
    assert len(set(images)) == len(images) == 3 * 4 * 3


@pytest.mark.parametrize("settings", [SyntheticSettings(), SMALL, SyntheticSettings(size=96, frames=4, objects=6)])
def test_every_object_can_be_seen(settings: SyntheticSettings) -> None:
    least = 0.015 * settings.size**2 * min(1, 3 / settings.objects)
    for index in range(25):
        images, masks = render("held", index, settings)
        assert images.shape == (settings.frames, settings.size, settings.size, 3)
        areas = np.stack([(masks == number).sum(axis=(1, 2)) for number in range(1, settings.objects + 1)])
        assert areas[:, 0].min() >= least, index
        assert areas.min() > 0, index
        assert masks.max() == settings.objects


def test_objects_move_and_cover_each_other() -> None:
    moved, touching = [], 0
    for index in range(20):
        _, masks = render("train", index, SyntheticSettings())
        for number in (1, 2, 3):
            centers = [np.argwhere(mask == number).mean(axis=0) for mask in (masks[0], masks[-1])]
            moved.append(np.linalg.norm(centers[1] - centers[0]))
        pairs = np.stack([masks[:, :, :-1], masks[:, :, 1:]])
        touching += bool(((pairs[0] != pairs[1]) & (pairs > 0).all(axis=0)).any())
    assert np.median(moved) > 5
    assert touching >= 10


def test_the_texture_tells_objects_apart() -> None:
    """Colours of the first frame, as histograms, name the right object of the last frame far above chance."""
    right = []
    for index in range(40):
        images, masks = render("held", index, SyntheticSettings())
        coarse = (images // 43).astype(np.int64) @ np.array([36, 6, 1])
        histograms = [
            [np.bincount(coarse[t][masks[t] == number], minlength=216) for number in (1, 2, 3)] for t in (0, -1)
        ]
        first, last = (np.array(h) / np.sum(h, axis=1, keepdims=True) for h in histograms)
        likeness = np.minimum(first[:, None], last[None]).sum(axis=2)
        right += list(likeness.argmax(axis=0) == np.arange(3))
    assert np.mean(right) > 0.8


def test_masks_are_ids() -> None:
    sequence = synthetic("train", 1, SMALL)[0]
    assert (sequence.dataset, sequence.name, sequence.merge_objects) == ("synthetic", "train-00000", False)
    image, mask = sequence.frame(0)
    assert image.shape == (3, 64, 64)
    assert mask is not None
    assert object_ids(mask) == (1, 2, 3)
    assert np.array_equal(mask.numpy(), render("train", 0, SMALL)[1][0])


def test_travels_to_other_processes() -> None:
    sequence = synthetic("train", 2, SMALL)[1]
    assert len(pickle.dumps(sequence)) < 1000
    assert pickle.loads(pickle.dumps(sequence)).read(2) == sequence.read(2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("val", 1), "split val"), (("train", 0), "sequences 0"), (("train", 1, SMALL, -1), "seed")],
)
def test_bad_arguments(arguments: tuple, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        synthetic(*arguments)


@pytest.mark.parametrize("field", [{"size": 31}, {"frames": 0}, {"objects": 2}, {"objects": 9}])
def test_settings_out_of_range(field: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(field))} .*must be between"):
        SyntheticSettings(**field)

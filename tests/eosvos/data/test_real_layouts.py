"""Real data by its layout: what is on disk is what is read, and encoded it comes back bit for bit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from eosvos.data.readers.davis import read_davis2016
from eosvos.data.readers.davis2017 import read_davis2017
from eosvos.data.readers.frames import read_frames
from eosvos.data.readers.images import read_images
from eosvos.data.readers.youtube_vos import read_youtube_vos
from eosvos.data.sequence import Sequence

SHARED = Path(__file__).parents[4] / "shared" / "data"
Read = Callable[[Path], list[Sequence]]


def _clip(root: Path) -> list[Sequence]:
    return read_frames(root / "frames", root / "masks")


REAL: dict[str, tuple[Read, int, int, int]] = {
    "davis2016_train": (lambda root: read_davis2016(root, "train"), 30, 1193, 1193),
    "davis2017_multi": (lambda root: read_davis2017(root, "fit") + read_davis2017(root, "held"), 7, 406, 406),
    "youtube_vos": (lambda root: read_youtube_vos(root, "train"), 1, 15, 15),
    "images_with_masks": (read_images, 2615, 2615, 2615),
    "multi_object/davis2017/schoolgirls": (_clip, 1, 80, 80),
    "multi_object/pumavos/caps": (_clip, 1, 87, 5),
    "multi_object/pumavos/chair": (_clip, 1, 60, 60),
}
"""Folder -> how it is read; sequences, frames and masks in it."""
each = pytest.mark.parametrize("name", REAL)


def _read(name: str) -> list[Sequence]:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not beside the checkout (shared/data)")
    return REAL[name][0](SHARED / name)


def _sample(sequences: list[Sequence]) -> list[Sequence]:
    """At most about twenty frames, from all of a dataset."""
    step = len(sequences) // 20 + 1
    return [sequence.thin(max(20 * step // len(sequences), 2)) for sequence in sequences[::step]]


@each
def test_a_sample_comes_back(name: str, comes_back: Callable[..., None], tmp_path: Path) -> None:
    comes_back(_sample(_read(name)), tmp_path / "encoded")


@each
def test_what_is_on_disk_is_read(name: str) -> None:
    """Each frame and each mask, with its bytes and in its order."""
    sequences = _read(name)
    _, videos, frames, masks = REAL[name]
    assert (len(sequences), sum(map(len, sequences))) == (videos, frames)
    assert [len(list((SHARED / name).rglob(f"*.{ending}"))) for ending in ("jpg", "png")] == [frames, masks]
    for one in sequences:
        assert list(one.frame_names) == sorted(one.frame_names)
    for one in _sample(sequences):
        for position, frame in enumerate(one.frame_names):
            encoded = one.read(position)
            assert Path(encoded.image_source).stem == frame
            assert Path(encoded.image_source).read_bytes() == encoded.image
            assert encoded.mask is None or Path(encoded.mask_source).read_bytes() == encoded.mask


@pytest.mark.slow
@each
def test_all_of_it_comes_back(name: str, comes_back: Callable[..., None], tmp_path: Path) -> None:
    comes_back(_read(name), tmp_path / "encoded")

"""The DAVIS 2016 reader: the layout, its oddities, and a clear word for everything that can be missing."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosvos.data.readers.davis import read_davis2016
from eosvos.data.sequence import object_ids
from eosvos.errors import BadInput

REAL = Path(__file__).parents[4] / "shared" / "data" / "davis2016_train"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="DAVIS 2016 is not beside the checkout (shared/data)")


def test_frames_are_the_listed_ones(davis_root: Path) -> None:
    bear, surf = read_davis2016(davis_root, "train")
    assert (bear.dataset, bear.name, bear.merge_objects) == ("davis2016", "bear", True)
    assert bear.frame_names == ("00000", "00001", "00002", "00003")
    assert len(surf) == 3
    assert [s.frame_names for s in read_davis2016(davis_root, "fit")] == [("00000", "00002"), ("00000", "00002")]


def test_a_list_from_another_system(davis_root: Path) -> None:
    expected = read_davis2016(davis_root, "train")
    path = davis_root / "ImageSets/480p/train.txt"
    lines = path.read_text().splitlines()
    path.write_bytes(b"\xef\xbb\xbf# all\r\n\r\n" + "  \t\r\n".join(lines).encode() + b"\r\n \r\n")
    assert read_davis2016(davis_root, "train") == expected


def test_bytes_and_masks(davis_root: Path) -> None:
    bear, surf = read_davis2016(davis_root, "train")
    encoded = bear.read(1)
    assert encoded.image == (davis_root / "JPEGImages/480p/bear/00001.jpg").read_bytes()
    assert encoded.mask == (davis_root / "Annotations/480p/bear/00001.png").read_bytes()
    image, mask = bear.frame(1)
    assert image.shape == (3, 20, 30)
    assert mask is not None
    assert object_ids(mask) == (1,)
    assert int(mask.sum()) == 6 * 6
    empty = surf.mask(2)
    assert empty is not None
    assert object_ids(empty) == ()


def test_first_channel_of_a_mask_with_alpha(davis_root: Path) -> None:
    values = np.zeros((20, 30, 2), np.uint8)
    values[4:6, 7:9, 0] = 255
    values[..., 1] = 255  # opaque everywhere: to take this channel would make the whole frame an object
    Image.fromarray(values, "LA").save(davis_root / "Annotations/480p/bear/00002.png")
    mask = read_davis2016(davis_root, "train")[0].mask(2)
    assert mask is not None
    assert int(mask.sum()) == 4


def test_travels_to_other_processes(davis_root: Path) -> None:
    bear = read_davis2016(davis_root, "train")[0]
    assert pickle.loads(pickle.dumps(bear)).read(2) == bear.read(2)


def _remove(*names: str) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        for name in names:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def _list(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "ImageSets/480p/train.txt").write_text(text)


LINE = "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png"
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "root": (_remove(""), "davis: no such folder"),
    "images": (_remove("JPEGImages"), "JPEGImages/480p: no such folder"),
    "annotations": (_remove("Annotations"), "Annotations/480p: no such folder"),
    "lists": (_remove("ImageSets"), "ImageSets/480p: no such folder"),
    "list": (_remove("ImageSets/480p/train.txt"), "train.txt: no such list; splits that exist here: fit"),
    "empty": (_list(" \n\n"), "train.txt: the split is empty"),
    "one column": (_list(f"{LINE}\n\n/JPEGImages/480p/bear/00001.jpg\n"), "train.txt, line 3: "),
    "three columns": (_list(f"{LINE} x\n"), "train.txt, line 1: "),
    "another resolution": (_list(LINE.replace("480p", "1080p")), "train.txt, line 1: "),
    "two sequences": (_list(LINE.replace("Annotations/480p/bear", "Annotations/480p/surf")), "train.txt, line 1: "),
    "two frames": (_list(LINE.replace("00000.png", "00001.png")), "train.txt, line 1: "),
    "outside": (_list(LINE.replace("bear", "..")), "train.txt, line 1: "),
    "twice": (_list(f"{LINE}\n{LINE}\n"), "train.txt, line 2: bear/00000 is listed twice"),
    "backslash": (_list(LINE.replace("bear", "a\\b")), "train.txt, line 1: "),
    "sequence": (_list(LINE.replace("bear", "cat")), "JPEGImages/480p/cat/00000.jpg: no such frame"),
    "frame": (_remove("JPEGImages/480p/bear/00001.jpg"), "JPEGImages/480p/bear/00001.jpg: no such frame"),
    "annotation": (_remove("Annotations/480p/surf/00002.png"), "Annotations/480p/surf/00002.png: no such annotation"),
    "not text": (lambda root: (root / "ImageSets/480p/train.txt").write_bytes(b"\xff\xfe\x00"), "train.txt: not a"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_missing_is_named(davis_root: Path, case: str) -> None:
    damage, message = BAD[case]
    damage(davis_root)
    with pytest.raises(BadInput) as raised:
        read_davis2016(davis_root, "train")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(davis_root) in str(raised.value)


def test_an_annotation_without_a_frame(davis_root: Path) -> None:
    _remove("JPEGImages/480p/bear/00001.jpg")(davis_root)
    with pytest.raises(BadInput, match=r"bear/00001\.png: an annotation without a frame; restore .*bear/00001\.jpg"):
        read_davis2016(davis_root, "fit")  # lists every second frame, so 00001 is not listed


def test_a_frame_that_vanishes_later(davis_root: Path) -> None:
    bear = read_davis2016(davis_root, "train")[0]
    _remove("JPEGImages/480p/bear/00001.jpg")(davis_root)
    with pytest.raises(BadInput, match=r"00001\.jpg: cannot be read"):
        bear.read(1)


@needs_real
def test_real_data() -> None:
    splits = {split: read_davis2016(REAL, split) for split in ("train", "fit", "held")}
    assert {split: (len(s), sum(map(len, s))) for split, s in splits.items()} == {
        "train": (30, 1193),
        "fit": (25, 893),
        "held": (5, 300),
    }
    by_name = {sequence.name: sequence for sequence in splits["train"]}
    bear = by_name["bear"]
    image, mask = bear.frame(bear.frame_names.index("00077"))  # gray and alpha
    assert image.shape == (3, 480, 854)
    assert mask is not None
    before = bear.mask(76)
    assert before is not None
    assert (mask != before).float().mean() < 0.05
    for name in ("bmx-bumps", "surf"):
        masks = [by_name[name].mask(position) for position in range(len(by_name[name]))]
        assert any(mask is not None and not mask.any() for mask in masks), name

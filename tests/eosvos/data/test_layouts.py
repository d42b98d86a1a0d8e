"""The readers of the field's layouts: DAVIS 2017, YouTube-VOS, folders of frames, images with masks, PASCAL VOC."""

import json
from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosvos.data.palette import encode_mask
from eosvos.data.readers.davis import read_davis2016
from eosvos.data.readers.davis2017 import read_davis2017
from eosvos.data.readers.frames import read_frames
from eosvos.data.readers.images import read_images, read_voc
from eosvos.data.readers.layouts import LAYOUTS
from eosvos.data.readers.youtube_vos import read_youtube_vos
from eosvos.data.sequence import VOID, Sequence
from eosvos.errors import BadInput

Make = Callable[[Path], list[Sequence]]


def image(path: Path, size: tuple[int, int] = (12, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(str(path))).integers(0, 255, (*size, 3), np.uint8)).save(path)


def mask(path: Path, *ids: int, size: tuple[int, int] = (12, 16)) -> None:
    """Each id has a column of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(size, np.uint8)
    for column, number in enumerate(ids):
        values[2:8, column] = number
    path.write_bytes(encode_mask(values))


def davis2017(root: Path) -> None:
    for top in ("480p", "Full-Resolution"):
        for name, frames in (("two", 3), ("one", 2)):
            for frame in range(frames):
                image(root / "JPEGImages" / top / name / f"{frame:05d}.jpg")
                mask(root / "Annotations" / top / name / f"{frame:05d}.png", 1, 2, VOID)
    image(root / "JPEGImages/480p/test/00000.jpg")
    image(root / "JPEGImages/480p/test/00001.jpg")
    mask(root / "Annotations/480p/test/00000.png", 254, 3)
    for year, split, names in (("2017", "val", "two\none \n"), ("2017", "test-dev", "test"), ("2016", "train", "one")):
        (root / "ImageSets" / year).mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / year / f"{split}.txt").write_bytes(b"\xef\xbb\xbf# names\r\n" + names.encode())


def youtube_vos(root: Path) -> None:
    for frame in range(0, 25, 5):
        image(root / "train/JPEGImages/a1" / f"{frame:05d}.jpg")
    mask(root / "train/Annotations/a1/00000.png", 1)
    mask(root / "train/Annotations/a1/00005.png", 1, 7)
    image(root / "train/JPEGImages/b2/00000.jpg", size=(20, 8))
    mask(root / "train/Annotations/b2/00000.png", 2, size=(20, 8))
    videos = {
        "a1": {
            "objects": {"1": {"category": "cat", "frames": ["00000"]}, "7": {"category": "dog", "frames": ["00005"]}}
        },
        "b2": {"objects": {"2": {"category": "sail", "frames": ["00000"]}}},
    }
    (root / "train/meta.json").write_text(json.dumps({"videos": videos}))


def frames(root: Path) -> None:
    for number in (1, 2, 10):
        image(root / "frames/clip" / f"frame{number}.JPG")
    mask(root / "masks/clip/frame2.png", 1)


def images(root: Path) -> None:
    for name in ("a/1", "a/2", "b/c/1", "3"):
        image(root / "images" / f"{name}.jpg")
        mask(root / "masks" / f"{name}.png", 4, 9, VOID)


def voc(root: Path) -> None:
    for name in ("2007_1", "2007_2"):
        image(root / "JPEGImages" / f"{name}.jpg")
    mask(root / "SegmentationObject/2007_1.png", 1, VOID)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("2007_1\n")


def ids(sequence: Sequence) -> list[list[int] | None]:
    masks = [sequence.mask(position) for position in range(len(sequence))]
    return [None if one is None else [i for i in one.unique().tolist() if i] for one in masks]


def test_davis2017(tmp_path: Path) -> None:
    davis2017(tmp_path)
    one, two = read_davis2017(tmp_path, "val")
    assert (one.dataset, one.name, one.frame_names, one.merge_objects) == (
        "davis2017",
        "one",
        ("00000", "00001"),
        False,
    )
    assert ids(two) == [[1, 2, VOID]] * 3
    assert "Full-Resolution" in read_davis2017(tmp_path, "val", "Full-Resolution")[0].read(0).image_source
    (test,) = read_davis2017(tmp_path, "test-dev")
    assert ids(test) == [[3, 254], None]


def test_davis2016_from_the_archive_of_davis2017(tmp_path: Path) -> None:
    davis2017(tmp_path)
    (one,) = read_davis2016(tmp_path, "train")
    assert (one.dataset, one.merge_objects, ids(one)) == ("davis2016", True, [[1], [1]])


def test_youtube_vos(tmp_path: Path) -> None:
    youtube_vos(tmp_path)
    first, second = read_youtube_vos(tmp_path, "train")
    assert first.frame_names == ("00000", "00005", "00010", "00015", "00020")
    assert ids(first) == [[1], [1, 7], None, None, None]
    assert (first.categories, second.categories) == ({1: "cat", 7: "dog"}, {2: "sail"})


def test_youtube_vos_with_all_frames_has_the_masks_of_its_split(tmp_path: Path) -> None:
    youtube_vos(tmp_path)
    for name in ("a1", "b2"):
        for frame in range(21):
            size = (12, 16) if name == "a1" else (20, 8)
            image(tmp_path / "train_all_frames/JPEGImages" / name / f"{frame:05d}.jpg", size)
    first, _ = read_youtube_vos(tmp_path, "train_all_frames")
    assert len(first) == 21
    assert [position for position, found in enumerate(ids(first)) if found] == [0, 5]


def test_frames(tmp_path: Path) -> None:
    frames(tmp_path)
    (clip,) = read_frames(tmp_path / "frames", tmp_path / "masks")
    (alone,) = read_frames(tmp_path / "frames/clip", tmp_path / "masks/clip")
    assert clip.name == alone.name == "clip"
    assert clip.frame_names == alone.frame_names == ("frame1", "frame2", "frame10")
    assert ids(clip) == [None, [1], None]


def test_images(tmp_path: Path) -> None:
    images(tmp_path)
    found = read_images(tmp_path)
    assert [(one.name, one.frame_names) for one in found] == [
        ("3", ("3",)),
        ("a/1", ("1",)),
        ("a/2", ("2",)),
        ("b/c/1", ("1",)),
    ]
    assert ids(found[0]) == [[4, 9, VOID]]
    assert [one.name for one in read_images(tmp_path, "a")] == ["a/1", "a/2"]


def test_voc(tmp_path: Path) -> None:
    voc(tmp_path)
    (one,) = read_voc(tmp_path, "train")
    assert (one.dataset, one.name, ids(one)) == ("voc", "2007_1", [[1, VOID]])


READ: dict[str, tuple[Callable[[Path], None], Make]] = {
    "davis2017": (davis2017, lambda root: read_davis2017(root, "val")),
    "youtube-vos": (youtube_vos, lambda root: read_youtube_vos(root, "train")),
    "frames": (frames, lambda root: read_frames(root / "frames", root / "masks")),
    "images": (images, read_images),
    "voc": (voc, lambda root: read_voc(root, "train")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_table_has_the_flags_that_the_reader_takes(name: str) -> None:
    layout = LAYOUTS[name]
    module, _, function = (layout.completer or layout.reader).rpartition(".")
    taken = signature(getattr(import_module(f"eosvos.data.readers.{module}"), function)).parameters
    needed = [
        flag for flag, one in taken.items() if one.default is Parameter.empty and one.kind != Parameter.VAR_KEYWORD
    ]
    assert needed == list(layout.needs)
    if "settings" not in taken:  # of the generator
        assert list(taken) == list(layout.flags)


@pytest.mark.parametrize("layout", READ)
def test_all_of_it_comes_back_bit_for_bit(layout: str, comes_back: Callable[..., None], tmp_path: Path) -> None:
    make, read = READ[layout]
    make(tmp_path)
    comes_back(read(tmp_path), tmp_path / "encoded")


def _drop(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


TWICE = '{"videos": {"a1": {"objects": {"1": {}, "1": {}}}, "b2": {"objects": {}}}}'
ID = '{"videos": {"a1": {"objects": {"%s": {}}}, "b2": {"objects": {}}}}'
BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("davis2017", _drop("Annotations/480p/two/00001.png"), "two/00001.png: no such mask, though there is a frame"),
    ("davis2017", _drop("JPEGImages/480p/two/00001.jpg"), "two/00001.png: a mask without a frame"),
    ("davis2017", _drop("ImageSets/2017/val.txt"), "val.txt: no such list; splits that exist here: test-dev"),
    ("davis2017", _write("ImageSets/2017/val.txt", "one\ntwo\none\n"), "val.txt, line 3: one is also in line 1"),
    ("davis2017", _write("ImageSets/2017/val.txt", "../two"), "val.txt, line 1: '../two' is not the name"),
    ("davis2017", _write("ImageSets/2017/val.txt", "three"), "480p/three: no such folder, or no frame in it"),
    ("davis2017", _write("ImageSets/2017/val.txt", "\n# none\n"), "val.txt: the split is empty"),
    ("youtube-vos", _drop("train/meta.json"), "meta.json: missing"),
    ("youtube-vos", _write("train/meta.json", "{"), "meta.json: not in the official form"),
    ("youtube-vos", _write("train/meta.json", TWICE), "1 occurs twice"),
    ("youtube-vos", _write("train/meta.json", ID % "255"), "meta.json: .*object '255', but ids are 1 to 254"),
    ("youtube-vos", _write("train/meta.json", ID % "1_0"), "meta.json: .*object '1_0', but ids are 1 to 254"),
    ("youtube-vos", _write("train/meta.json", TWICE.replace('"1": {}, ', "").replace("a1", "../a1")), "'../a1' is not"),
    ("youtube-vos", _write("train/meta.json", ID.replace("{}}}, ", '{"category": 7}}}, ') % 1), "7 is no plain text"),
    ("youtube-vos", lambda root: mask(root / "train/Annotations/c3/0.png", 1), "c3: masks without frames"),
    (
        "youtube-vos",
        _write("train/meta.json", '{"videos": {"a1": {"objects": {}}}}'),
        "b2: .* does not name this video",
    ),
    ("youtube-vos", _drop("train/JPEGImages/a1/00005.jpg"), "00005.png: a mask without a frame"),
    (
        "youtube-vos",
        _write(
            "train/meta.json",
            '{"videos": {"a1": {"objects": {}}, "b2": {"objects": {}}, "c3": {"objects": {}}}}',
        ),
        "c3: no such folder, but .* names the video",
    ),
    (
        "youtube-vos",
        _write(
            "train/meta.json",
            '{"videos": {"a1": {"objects": {"1": {"frames": ["00099"]}}}, "b2": {"objects": {}}}}',
        ),
        "a1/00099.jpg: no such frame, but .* says that object 1 is in it",
    ),
    ("frames", _drop("masks/clip/frame2.png"), "masks/clip: no such folder, or no mask in it"),
    ("frames", lambda root: mask(root / "masks/other/1.png", 1), "masks/other: masks without frames"),
    ("frames", lambda root: image(root / "frames/1.jpg"), "frames/1.jpg: a frame beside the folder clip of a video"),
    ("frames", lambda root: image(root / "frames/clip/frame1.png"), "frame1.png: there is also frame1.JPG"),
    (
        "frames",
        lambda root: (root / "frames/clip/frame3.jpg").symlink_to("/etc/hostname"),
        "frame3.jpg: a symbolic link that leaves ",
    ),
    ("images", _drop("masks/a/2.png"), "a/2.png: no such mask, though there is .*images/a/2.jpg"),
    ("images", _drop("images/b/c/1.jpg"), "b/c/1.png: a mask without an image"),
    (
        "voc",
        _write("ImageSets/Segmentation/train.txt", "2007_2"),
        "SegmentationObject/2007_2: no such file, but train.txt lists it",
    ),
]


@pytest.mark.parametrize(("layout", "damage", "message"), BAD, ids=[f"{one[0]}: {one[2]}" for one in BAD])
def test_what_is_wrong_is_named(layout: str, damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    make, read = READ[layout]
    make(tmp_path)
    damage(tmp_path)
    with pytest.raises(BadInput, match=message):
        read(tmp_path)

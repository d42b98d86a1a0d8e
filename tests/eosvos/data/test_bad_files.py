"""Files that are damaged, lead elsewhere or claim to be what they are not: a clear word from every reader, at once."""

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosvos.data.palette import encode_mask
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.readers.clip import open_clip
from eosvos.data.readers.frames import read_frames
from eosvos.data.readers.images import read_images
from eosvos.data.readers.masks import read_mask
from eosvos.data.sequence import MAX_PIXELS, decode_image, decode_mask
from eosvos.errors import BadInput

SIZE = 12, 16


def png(width: int, height: int, kind: int = 3) -> bytes:
    """The header of a PNG of this size (kind 2: RGB, 3: palette) and a little of its pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(768)) if kind == 3 else b""
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + pixels + chunk(b"IEND", b"")


def saved(form: str, mode: str = "RGB", size: tuple[int, int] = SIZE) -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(data, form)
    return data.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Videos a and b of two frames, all with masks, in ``frames`` and ``masks``."""
    for name in ("a/0", "a/1", "b/0", "b/1"):
        for top, ending, data in (
            ("frames", "jpg", saved("JPEG")),
            ("masks", "png", encode_mask(np.eye(*SIZE, dtype=np.uint8))),
        ):
            path = tmp_path / top / f"{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return tmp_path


SIZES = {
    "what Pillow warns of": (10_000, 10_000),
    "what Pillow refuses": (50_000, 50_000),
    "one row": (2**31 - 1, 1),
}
DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "cut off": ("frames/b/1.jpg", saved("JPEG")[:-40], "not a readable image"),
    "no image": ("frames/b/1.jpg", b"<html>404 Not Found</html>", "not a readable image .no known image format"),
    "nothing": ("frames/b/1.jpg", b"", "not a readable image"),
    "mask cut off": ("masks/b/1.png", encode_mask(np.eye(*SIZE, dtype=np.uint8))[:-30], "not a readable mask"),
    "no mask": ("masks/b/1.png", b"version https://git-lfs.github.com/spec/v1", "not a readable mask"),
    "mask of another size": ("masks/b/1.png", encode_mask(np.eye(12, 15, dtype=np.uint8)), "has 15x12 pixels, its"),
    "frame of another size": ("frames/b/1.jpg", saved("JPEG", size=(16, 12)), "its frame .*b/1.jpg has 12x16"),
    "mask in colours": ("masks/b/1.png", saved("PNG"), "a mask of mode RGB has no object ids"),
    "mask in colours with alpha": ("masks/b/1.png", saved("PNG", "RGBA"), "a mask of mode RGBA has no object ids"),
    "mask of 16 bits": ("masks/b/1.png", saved("PNG", "I;16"), "a mask of mode I;16 has no object ids"),
    "gray JPEG as a mask": ("masks/b/1.png", saved("JPEG", "L"), "a mask as JPEG, which blurs"),
    **{f"frame, {name}": ("frames/b/1.jpg", png(*size, 2), "not a readable image") for name, size in SIZES.items()},
    **{f"mask, {name}": ("masks/b/1.png", png(*size), "not a readable mask") for name, size in SIZES.items()},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files(case: str, root: Path) -> None:
    name, data, message = DAMAGED[case]
    (root / name).write_bytes(data)
    sequences = read_frames(root / "frames", root / "masks")
    with pytest.raises(BadInput, match=message) as raised:
        encode(sequences, root / "out" / "encoded", {})
    assert str(root) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list((root / "out").iterdir()) == []


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_bomb_is_refused_by_all_who_open_images(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    file = tmp_path / "clip/0.png"
    file.write_bytes(png(*size))
    for read in (open_clip, lambda _: read_mask(file)):
        with pytest.raises(BadInput, match=r"0\.png: not a readable"):
            read(tmp_path / "clip")


def test_frames_of_8k_are_no_bombs() -> None:
    assert 7680 * 4320 < 8192 * 8192 < MAX_PIXELS
    data = encode_mask(np.full((4320, 7680), 3, np.uint8))
    assert decode_image(data, "a.png").shape == (3, 4320, 7680)
    assert decode_mask(data, "a.png", merge_objects=False).unique().tolist() == [3]


def _link(path: Path, target: Path | str, folder: bool = False) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target, target_is_directory=folder)


def _elsewhere(root: Path, name: str) -> Path:
    """The same file or folder beside the dataset."""
    there = root.parent / f"{root.name} elsewhere" / name
    there.parent.mkdir(parents=True, exist_ok=True)
    (root / name).rename(there)
    return there


@pytest.mark.parametrize("name", ["frames/b", "masks/b", "frames/b/1.jpg", "masks/b/1.png"])
def test_links_that_leave_the_root(name: str, root: Path) -> None:
    _link(root / name, _elsewhere(root, name))
    with pytest.raises(BadInput, match=f"{name}: a symbolic link that leaves {root}"):
        read_frames(root / "frames", root / "masks")


@pytest.mark.parametrize("target", ["../../frames2", "/nowhere", "b", "../masks/b"])
def test_folders_that_are_links_to_nowhere_or_out(target: str, root: Path) -> None:
    _link(root / "frames/b", target)
    with pytest.raises(BadInput, match="frames/b: a symbolic link that le"):
        read_frames(root / "frames", root / "masks")


def test_links_of_the_root_and_in_it(root: Path) -> None:
    (root / "link").symlink_to(root / "frames")
    _link(root / "frames/b", "a")
    _link(root / "masks/b/1.png", "../a/1.png")
    first, second = read_frames(root / "link", root / "masks")
    assert (first.name, second.name) == ("a", "b")
    assert first.read(1).image == second.read(1).image


def _as_images(root: Path) -> None:
    (root / "frames").rename(root / "images")


def test_images_by_links(root: Path) -> None:
    _as_images(root)
    for top in ("images", "masks"):
        (root / top / "c").symlink_to("b")
    assert [one.name for one in read_images(root)] == ["a/0", "a/1", "b/0", "b/1", "c/0", "c/1"]


@pytest.mark.parametrize("links", [{"images/b/up": ".."}, {"images/a/x": "../b", "images/b/x": "../a"}])
def test_links_in_a_circle(links: dict[str, str], root: Path) -> None:
    _as_images(root)
    for name, target in links.items():
        (root / name).symlink_to(target)
    with pytest.raises(BadInput, match="a symbolic link to a folder around it"):
        read_images(root)


NAMES: dict[str, Callable[[Path], object]] = {
    "line break": lambda root: (root / "frames/b/1.jpg").rename(root / "frames/b/1\n.jpg"),
    "not UTF-8": lambda root: (root / "frames/b/1.jpg").rename(root / "frames/b/\udcff.jpg"),
    "backslash": lambda root: (root / "frames/b").rename(root / "frames/b\\c"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_that_not_every_system_takes(case: str, root: Path) -> None:
    NAMES[case](root)
    with pytest.raises(BadInput, match="is a name that not every system takes") as raised:
        read_frames(root / "frames", root / "masks")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("split", ["..", "/", "../images", "a/../../masks", "c", "a\\b"])
def test_a_split_that_is_no_folder_below(split: str, root: Path) -> None:
    _as_images(root)
    with pytest.raises(BadInput, match=r"name a folder below it|no such folder"):
        read_images(root, split)


def test_masks_in_a_folder_without_images(root: Path) -> None:
    _as_images(root)
    shutil.rmtree(root / "images/b")
    with pytest.raises(BadInput, match=r"masks/b/0\.png: a mask without an image"):
        read_images(root)


def gray(*shades: int) -> bytes:
    """A mask of ``SIZE`` without a palette, with rows of each shade."""
    data = io.BytesIO()
    rows = np.resize(np.array(shades, np.uint8), SIZE[0])
    Image.fromarray(np.repeat(rows[:, None], SIZE[1], axis=1)).save(data, "PNG")
    return data.getvalue()


def photograph(root: Path, mask: bytes) -> Path:
    """A folder in the layout ``images`` with one image."""
    for top, name, data in (("images", "one.jpg", saved("JPEG")), ("masks", "one.png", mask)):
        (root / top).mkdir()
        (root / top / name).write_bytes(data)
    return root


@pytest.mark.parametrize("shades", [(0, 255), (255,), (0, 3, 200, 255)], ids=["two", "white", "smooth edges"])
def test_black_and_white_is_not_taken_for_void(tmp_path: Path, shades: tuple[int, ...]) -> None:
    root = photograph(tmp_path, gray(*shades))
    with pytest.raises(BadInput, match=r"masks/one\.png: a mask in black and white, but values are object ids"):
        encode(read_images(root), tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("shades", "ids"), [((0, 1, 7, 255), [1, 7]), ((0, 200), [200]), ((0,), [])], ids=str)
def test_gray_masks_of_ids_are_taken(tmp_path: Path, shades: tuple[int, ...], ids: list[int]) -> None:
    encode(read_images(photograph(tmp_path, gray(*shades))), tmp_path / "out", {})
    assert sorted(open_dataset(tmp_path / "out").visible(0)) == ids


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_video_of_two_sizes(tmp_path: Path, skip_bad: bool) -> None:
    for video, sizes in (("good", [SIZE, SIZE]), ("bad", [SIZE, SIZE[::-1]])):
        for number, size in enumerate(sizes):
            for top, name, data in (
                ("frames", f"{number}.jpg", saved("JPEG", size=size)),
                ("masks", f"{number}.png", encode_mask(np.ones(size, np.uint8))),
            ):
                (tmp_path / top / video).mkdir(parents=True, exist_ok=True)
                (tmp_path / top / video / name).write_bytes(data)
    sequences = read_frames(tmp_path / "frames", tmp_path / "masks")
    message = "frames/bad/1.jpg: has 12x16 pixels, the first frame has 16x12; export all frames of a video at one size"
    if skip_bad:
        encode(sequences, tmp_path / "out", {}, skip_bad=True)
        assert message in (tmp_path / "out" / "_skipped.txt").read_text()
        return
    with pytest.raises(BadInput, match=message):
        encode(sequences, tmp_path / "out", {})

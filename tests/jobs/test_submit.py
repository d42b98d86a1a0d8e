"""The zip for a server: official names, the frames that are asked for, the same bytes; all that is wrong is named."""

import io
import json
import runpy
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosvos.data.palette import DAVIS_PALETTE, encode_mask
from eosvos.data.parquet import encode
from eosvos.data.sequence import EncodedFrame, Sequence

JOB = Path(__file__).parents[2] / "jobs" / "submit.py"
FRAMES = tuple(f"{number:05d}" for number in range(0, 12))
SIZES = {"bear": (30, 40), "goat": (40, 30)}
Files = dict[str, bytes]


def _box(name: str, number: int, top: int = 5) -> np.ndarray:
    mask = np.zeros(SIZES[name], np.uint8)
    mask[top : top + 10, 10:20] = number
    return mask


def _sequence(dataset: str, name: str, given: Mapping[int, np.ndarray]) -> Sequence:
    height, width = SIZES[name]

    def read(position: int) -> EncodedFrame:
        data = io.BytesIO()
        Image.new("RGB", (width, height)).save(data, format="JPEG")
        mask = encode_mask(given[position]) if position in given else None
        return EncodedFrame(data.getvalue(), mask, "image", "mask")

    return Sequence(dataset, name, FRAMES, False, read)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data as the servers give it out: ``davis2017`` with the first mask alone, ``youtube_vos`` with a late object."""
    for dataset in ("davis2017", "youtube_vos"):
        given = {name: {0: _box(name, 1)} | ({5: _box(name, 3)} if dataset == "youtube_vos" else {}) for name in SIZES}
        encode([_sequence(dataset, name, given[name]) for name in SIZES], tmp_path / dataset, {"made": dataset})
    for name in SIZES:
        (tmp_path / "predictions" / name).mkdir(parents=True)
        for number, frame in enumerate(FRAMES):
            (tmp_path / "predictions" / name / f"{frame}.png").write_bytes(encode_mask(_box(name, 1, number)))
    objects = {"1": {"category": "ape", "frames": ["00000", "00005"]}, "3": {"frames": ["00005", "00010"]}}
    (tmp_path / "meta.json").write_text(json.dumps({"videos": {name: {"objects": objects} for name in SIZES}}))
    return tmp_path


Submit = Callable[..., None]


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Arguments -> the command, which succeeds."""

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["submit", *map(str, arguments)])
        runpy.run_path(str(JOB), run_name="__main__")

    return run


def _flags(folder: Path, dataset: str = "davis2017", out: str = "out.zip") -> list[object]:
    meta = ["--meta", folder / "meta.json"] if dataset == "youtube_vos" else []
    return ["--data", folder / dataset, *meta, "--predictions", folder / "predictions", "--out", folder / out]


WANTED = {
    "davis2017": [f"{name}/{frame}.png" for name in SIZES for frame in FRAMES],
    "youtube_vos": [f"Annotations/{name}/{frame}.png" for name in SIZES for frame in FRAMES[::5]],
}


@pytest.mark.parametrize("dataset", WANTED)
def test_what_is_written_is_what_the_server_asks_for(
    folder: Path, submit: Submit, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gray = folder / "predictions" / "bear" / "00005.png"
    Image.fromarray(_box("bear", 1, 5)).save(gray)  # another's way to write the same ids
    for out in ("out.zip", "again.zip"):
        submit(*_flags(folder, dataset, out))
    assert (folder / "out.zip").read_bytes() == (folder / "again.zip").read_bytes()
    with zipfile.ZipFile(folder / "out.zip") as archive:
        assert archive.namelist() == WANTED[dataset]
        for name in archive.namelist():
            with Image.open(archive.open(name)) as image:
                assert image.mode == "P"
                assert image.getpalette() == DAVIS_PALETTE.flatten().tolist()
                sequence, frame = Path(name).parts[-2:]
                assert np.array_equal(np.array(image), _box(sequence, 1, int(frame[:5])))
    submit(*_flags(folder, dataset)[: 4 if dataset == "youtube_vos" else 2], "--check", folder / "out.zip")
    assert "all as asked for" in capsys.readouterr().out


def test_predictions_of_another_tool_may_be_in_masks(folder: Path, submit: Submit) -> None:
    submit(*_flags(folder))
    bear = folder / "predictions" / "bear"
    bear.rename(folder / "bear")
    bear.mkdir()
    (folder / "bear").rename(bear / "masks")
    submit(*_flags(folder, out="again.zip"))
    assert (folder / "out.zip").read_bytes() == (folder / "again.zip").read_bytes()


@pytest.fixture
def wrong(submit: Submit, folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], list[str]]:
    """A zip -> what the check of it says, line by line."""

    def check(file: Path) -> list[str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            submit(*_flags(folder)[:2], "--check", file)
        assert left.value.code == 2
        said = capsys.readouterr()
        assert said.err.startswith(f"error: {file}: not what is asked for, as said above")
        return said.out.splitlines()

    return check


def _png(mask: np.ndarray, mode: str = "P") -> bytes:
    data = io.BytesIO()
    Image.fromarray(mask).convert(mode).save(data, format="PNG")
    return data.getvalue()


SPOILED: dict[str, tuple[Callable[[Files], object], list[str]]] = {
    "missing sequence": (
        lambda files: [files.pop(name) for name in list(files) if name.startswith("goat/")],
        ["goat: missing: " + ", ".join(f"{frame}.png" for frame in FRAMES)],
    ),
    "missing frames": (
        lambda files: [files.pop(f"bear/0000{number}.png") for number in (3, 4)],
        ["bear: missing: 00003.png, 00004.png"],
    ),
    "another size": (
        lambda files: files.update({"bear/00003.png": encode_mask(_box("goat", 1))}),
        ["bear: has 30x40 pixels, its frame 40x30: 00003.png"],
    ),
    "no palette": (
        lambda files: files.update({"bear/00003.png": _png(_box("bear", 1), "RGB")}),
        ["bear: a PNG of mode RGB, not a PNG with a palette: 00003.png"],
    ),
    "an id that was not given": (
        lambda files: files.update({"bear/00003.png": encode_mask(_box("bear", 3))}),
        ["bear: holds object 3, given are 1: 00003.png"],
    ),
    "no image": (lambda files: files.update({"bear/00003.png": b"x"}), ["bear: cannot be read (cannot identify"]),
    "too large": (
        lambda files: files.update({"bear/00003.png": bytes(2**20)}),
        ["bear: larger than any mask of its size: 00003.png"],
    ),
    "extra files": (
        lambda files: files.update({"bear/.DS_Store": b"x", "readme.txt": b"x", "deer/00000.png": b"x"}),
        ["bear: not asked for: .DS_Store", ".: not asked for: readme.txt", "deer: not asked for: 00000.png"],
    ),
    "names that leave the folder": (
        lambda files: files.update({"../bear/00000.png": b"x", "/etc/x": b"x", "bear/../../x": b"x", "./x": b"x"}),
        [f"{where}: not the name of a file in the zip" for where in ("../bear", "/etc", "bear/../..", ".")],
    ),
    "several": (
        lambda files: files.update({"bear/00003.png": files.pop("goat/00003.png"), "x": b""}),
        ["goat: missing: 00003.png", "bear: has 30x40", ".: not asked for: x"],
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_all_that_is_wrong_is_named(
    folder: Path, submit: Submit, wrong: Callable[[Path], list[str]], what: str
) -> None:
    spoil, lines = SPOILED[what]
    submit(*_flags(folder))
    with zipfile.ZipFile(folder / "out.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    spoil(files)
    with zipfile.ZipFile(folder / "spoiled.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    for said, wanted in zip(wrong(folder / "spoiled.zip"), lines, strict=True):
        assert said.startswith(wanted)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_and_a_broken_entry(folder: Path, submit: Submit, wrong: Callable[[Path], list[str]]) -> None:
    file = folder / "out.zip"
    submit(*_flags(folder))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("bear/00001.png", b"x")
        offset = archive.getinfo("goat/00002.png").header_offset
    content = bytearray(file.read_bytes())
    content[offset + 60] ^= 255
    file.write_bytes(content)
    twice, broken = wrong(file)
    assert twice == "bear: there more than once: 00001.png"
    assert broken.startswith("goat: cannot be read (Bad CRC-32")


def _change(folder: Path, path: str, content: bytes) -> None:
    (folder / path).write_bytes(content)


REFUSALS: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "a frame": (
        lambda folder: (folder / "predictions/goat/00007.png").unlink(),
        [],
        "predictions/goat/00007.png: cannot be read (No such file or directory); evaluate all frames",
    ),
    "a size": (
        lambda folder: _change(folder, "predictions/goat/00007.png", encode_mask(_box("bear", 1))),
        [],
        "predictions/goat/00007.png: has 40x30 pixels, its frame 30x40",
    ),
    "an id": (
        lambda folder: _change(folder, "predictions/goat/00007.png", encode_mask(_box("goat", 3))),
        [],
        "predictions/goat/00007.png: holds object 3, given are 1",
    ),
    "meta for DAVIS": (lambda folder: None, ["--meta", "TMP/meta.json"], "--meta: goes with YouTube-VOS only"),
    "no meta": (lambda folder: None, ["--data", "TMP/youtube_vos"], "--meta: missing; YouTube-VOS's meta.json"),
    "a frame that is not there": (
        lambda folder: _change(folder, "meta.json", (folder / "meta.json").read_bytes().replace(b"00010", b"00020")),
        ["--data", "TMP/youtube_vos", "--meta", "TMP/meta.json"],
        "TMP/youtube_vos: lacks frames of bear that TMP/meta.json names",
    ),
    "no server": (
        lambda folder: encode([_sequence("frames", "bear", {0: _box("bear", 1)})], folder / "other", {"made": 1}),
        ["--data", "TMP/other"],
        "TMP/other: holds frames; there are servers for davis2017, youtube_vos",
    ),
    "both": (lambda folder: None, ["--check", "TMP/out.zip"], "give either --predictions and --out, or --check"),
    "a folder": (
        lambda folder: (folder / "taken.zip").mkdir(),
        ["--out", "TMP/taken.zip"],
        "TMP/taken.zip: cannot be written (Is a directory); name another place",
    ),
    "no zip": (lambda folder: None, ["--out", "TMP/out"], "out: must end in .zip"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_nothing_is_written_of_bad_input(folder: Path, refused: Callable[..., str], what: str) -> None:
    spoil, more, message = REFUSALS[what]
    spoil(folder)
    line = refused("submit", *_flags(folder), *(part.replace("TMP", str(folder)) for part in more))
    assert message.replace("TMP", str(folder)) in line
    assert not (folder / "out.zip").exists()


def test_what_is_no_zip(folder: Path, refused: Callable[..., str]) -> None:
    for name, content in (("text.zip", b"x"), ("missing.zip", None)):
        if content is not None:
            (folder / name).write_bytes(content)
        line = refused("submit", *_flags(folder)[:2], "--check", folder / name)
        assert f"{folder / name}: not a readable zip" in line

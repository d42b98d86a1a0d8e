"""Clips: video files of every kind that people have, and folders of frames."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from eosvos.data.readers.clip import natural_order, open_clip
from eosvos.errors import BadInput

Pixels = NDArray[np.uint8]


def _pictures(count: int, height: int, width: int) -> list[Pixels]:
    """A light square on a dark ramp that moves to the right, four pixels per frame; smooth enough for any codec."""
    pictures = []
    for k in range(count):
        ramp = np.linspace(20, 120, width)[None, :, None] * np.ones((height, 1, 3))
        ramp[height // 4 : height // 2, 4 + 4 * k : 20 + 4 * k] = (220, 180, 60)
        pictures.append(ramp.astype(np.uint8))
    return pictures


def _write_video(
    path: Path,
    pictures: list[Pixels],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times: list[int] | None = None,
    rotation: int = 0,
) -> None:
    """A video of ``pictures`` shown at ``times`` (in hundredths of a second)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        if rotation:
            stream.set_display_rotation(rotation)
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = (times or range(0, 10_000, 4))[k], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.mp4", "libx264", "gray"),
        ("a.mp4", "libx264", "yuv420p10le"),
        ("a.gif", "gif", "rgb8"),
    ],
)
def test_video_files(tmp_path: Path, name: str, codec: str, pixel_format: str) -> None:
    pictures = _pictures(6, 48, 64)
    _write_video(tmp_path / name, pictures, codec, pixel_format)
    clip = open_clip(tmp_path / name)
    assert (clip.size, clip.frame_names) == ((48, 64), None)
    assert clip.count == 6
    for _ in range(2):  # as often as one likes
        frames = list(clip.read())
        assert [frame.name for frame in frames] == ["00000", "00001", "00002", "00003", "00004", "00005"]
        assert [float(frame.time) for frame in frames] == pytest.approx([0.04 * k for k in range(6)], abs=0.002)
        for frame, picture in zip(frames, pictures, strict=True):
            expected = picture.mean(axis=2, keepdims=True).repeat(3, axis=2) if pixel_format == "gray" else picture
            difference = frame.image.permute(1, 2, 0).numpy().astype(float) - expected
            assert frame.image.shape == (3, 48, 64)
            assert np.abs(difference).mean() < (25 if codec == "gif" else 15)  # a gif has 256 colours


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_rotation_that_the_file_asks_for(tmp_path: Path, rotation: int) -> None:
    """A phone's portrait video is stored lying down; a player turns it."""
    picture = _pictures(1, 64, 48)[0]
    stored = np.rot90(picture, -rotation // 90)  # so that the turn, counterclockwise, gives it back
    _write_video(tmp_path / "phone.mp4", [np.ascontiguousarray(stored)] * 3, rotation=rotation)
    clip = open_clip(tmp_path / "phone.mp4")
    assert clip.size == (64, 48)
    for frame in clip.read():
        assert np.abs(frame.image.permute(1, 2, 0).numpy().astype(float) - picture).mean() < 10


@pytest.mark.parametrize("start", [0, 6000])
def test_a_variable_frame_rate_odd_sides_and_a_late_start(tmp_path: Path, start: int) -> None:
    """Times count from the first frame, as in a piece cut out of a longer video."""
    times = [0, 3, 50, 51, 90]
    _write_video(tmp_path / "a.mkv", _pictures(5, 35, 51), "ffv1", "bgr0", [start + t for t in times])
    frames = list(open_clip(tmp_path / "a.mkv").read())
    assert [float(frame.time) for frame in frames] == pytest.approx([time / 100 for time in times], abs=0.001)
    assert all(frame.image.shape == (3, 35, 51) for frame in frames)
    assert np.array_equal(frames[4].image.permute(1, 2, 0).numpy(), _pictures(5, 35, 51)[4])  # ffv1 loses nothing


def _folder(folder: Path, pictures: dict[str, Image.Image], **options: Any) -> Path:
    folder.mkdir()
    for name, picture in pictures.items():
        picture.save(folder / name, **options)
    return folder


def test_a_folder_of_frames_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ["shot9.png", "shot10.png", "shot11.png", "shot100.png"]
    pictures = {name: Image.fromarray(picture) for name, picture in zip(names, _pictures(4, 33, 41), strict=True)}
    folder = _folder(tmp_path / "frames", dict(sorted(pictures.items())))
    (folder / "notes.txt").write_text("no frame")
    (folder / ".hidden.png").write_text("no frame")
    clip = open_clip(folder)
    assert (clip.size, clip.count, clip.frame_names) == ((33, 41), 4, ("shot9", "shot10", "shot11", "shot100"))
    assert (clip.position("shot11"), clip.position("2"), clip.position("shot012")) == (2, None, None)
    frames = list(clip.read())
    for frame, picture in zip(frames, pictures.values(), strict=True):
        assert np.array_equal(frame.image.permute(1, 2, 0).numpy(), np.asarray(picture))
    assert [frame.time for frame in frames] == [Fraction(k, 24) for k in range(4)]


MODES: dict[str, tuple[Callable[[], Image.Image], list[int]]] = {
    "gray": (lambda: Image.new("L", (4, 3), 77), [77, 77, 77]),
    "alpha": (lambda: Image.new("RGBA", (4, 3), (10, 20, 30, 0)), [10, 20, 30]),
    "palette": (lambda: Image.new("RGB", (4, 3), (200, 0, 100)).quantize(4), [200, 0, 100]),
    "16-bit": (lambda: Image.fromarray(np.full((3, 4), 77 * 257, dtype=np.uint16)), [77, 77, 77]),
}


def _palette_with_alpha() -> Image.Image:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, 200, 0, 100])
    image.info["transparency"] = bytes([0, 128])
    return image


MODES["palette with alpha"] = (_palette_with_alpha, [200, 0, 100])


@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_mode(tmp_path: Path, mode: str) -> None:
    make, colour = MODES[mode]
    (frame,) = open_clip(_folder(tmp_path / "f", {"a.png": make()})).read()
    assert frame.image.shape == (3, 3, 4)
    assert frame.image[:, 1, 2].tolist() == pytest.approx(colour, abs=1)


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_a_photo_that_lies_down(tmp_path: Path, ending: str) -> None:
    picture = Image.fromarray(_pictures(1, 30, 40)[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    clip = open_clip(_folder(tmp_path / "f", {f"a.{ending}": picture}, exif=exif, quality=95))
    assert clip.size == (40, 30)
    (frame,) = clip.read()
    upright = np.asarray(picture.rotate(-90, expand=True)).astype(float)
    assert np.abs(frame.image.permute(1, 2, 0).numpy() - upright).mean() < 5


def test_a_name_with_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_video(tmp_path / "take2:final.mp4", _pictures(2, 16, 16))
    monkeypatch.chdir(tmp_path)
    assert open_clip(Path("take2:final.mp4")).count == 2


def test_what_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("nothing to see")
    (tmp_path / "empty").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    Image.new("RGB", (8, 6)).save(_folder(tmp_path / "sizes", {"0.png": Image.new("RGB", (6, 8))}) / "1.png")
    twice = _folder(tmp_path / "twice", {"0.png": Image.new("RGB", (8, 6)), "0.k.png": Image.new("RGB", (8, 6))})
    Image.new("RGB", (8, 6)).save(twice / "0.jpg")
    _folder(tmp_path / "broken", {"0.png": Image.new("RGB", (6, 8))})
    (tmp_path / "broken" / "1.png").write_bytes(b"no image")
    for name, message in {
        "missing.mp4": "no such video; name a video file or a folder of frames",
        "text.mp4": "not a readable video",
        "sound.mp4": "holds no video",
        "empty": "a folder without frames",
        "sizes": "1.png: has 8x6 pixels, 0.png has 6x8",
        "twice": "there is also 0.",
        "broken": "1.png: not a readable image",
    }.items():
        with pytest.raises(BadInput, match=message):
            open_clip(tmp_path / name)


def test_a_video_that_was_cut_out(tmp_path: Path) -> None:
    """Packets before its start are in the file to decode the first frame from, and are no frames of it."""
    _write_video(tmp_path / "whole.mp4", _pictures(12, 48, 64))
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        source = whole.streams.video[0]
        stream = cut.add_stream_from_template(source)
        offset = round(Fraction(5 * 4, 100) / (source.time_base or 1))
        for packet in whole.demux(source):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, stream
                cut.mux(packet)
    clip = open_clip(tmp_path / "cut.mp4")
    frames = list(clip.read())
    assert clip.count == len(frames) < 12
    assert clip.position("00011") is None
    assert float(frames[0].time) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.avi", "a video without a frame; export it again"), ("a.mp4", "holds no video"), ("a.mkv", "not a readable")],
)
def test_a_video_without_a_frame(tmp_path: Path, name: str, message: str) -> None:
    """Headers alone; what FFmpeg makes of them depends on the kind of file."""
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.start_encoding()
    with pytest.raises(BadInput, match=rf"{name}: {message}"):
        open_clip(tmp_path / name)


def test_a_video_that_breaks_off(tmp_path: Path) -> None:
    """Frames are decoded one by one: those before the break are there, and a file without any is refused."""
    _write_video(tmp_path / "whole.mkv", _pictures(30, 64, 200), "ffv1", "bgr0")
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "half.mkv").write_bytes(data[: len(data) // 2])
    frames = open_clip(tmp_path / "half.mkv").read()
    for k in range(10):
        assert np.array_equal(next(frames).image.permute(1, 2, 0).numpy(), _pictures(30, 64, 200)[k])
    (tmp_path / "head.mkv").write_bytes(data[:800])
    with pytest.raises(BadInput, match=r"head.mkv: (a video without a frame|not a readable video|cannot be decoded)"):
        open_clip(tmp_path / "head.mkv")


@given(st.lists(st.integers(0, 10**6), unique=True), st.text("ab_-", max_size=5))
def test_natural_order(numbers: list[int], prefix: str) -> None:
    names = [f"{prefix}{number}" for number in numbers]
    assert sorted(names, key=natural_order) == [f"{prefix}{number}" for number in sorted(numbers)]

"""Colours that show on any page, and files that are whole or absent."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from eosvos.figures.style import (
    INK,
    PNG_DPI,
    SERIES,
    bare,
    new_figure,
    ordered_colours,
    save,
    svg_text,
)
from eosvos.files import write_whole

PAGES = ("#ffffff", "#111111", "#0d1117")


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio, from 1 to 21."""

    def luminance(colour: str) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_of_contrast() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the known value


@pytest.mark.parametrize("page", PAGES)
def test_every_colour_shows_on_light_and_dark(page: str) -> None:
    assert contrast(INK, page) > 4.3
    for colour in (*SERIES, *ordered_colours(25)):
        assert contrast(colour, page) > 3


def test_ordered_colours_differ_and_are_as_many_as_asked_for() -> None:
    for count in (1, 2, 7):
        assert len(set(ordered_colours(count))) == count
    assert ordered_colours(2) == [ordered_colours(5)[0], ordered_colours(5)[-1]]


def plot() -> Figure:
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o-", color=SERIES[0])
    axes.set_xlabel("x")
    bare(axes)
    return figure


def test_the_same_plot_is_the_same_file(tmp_path: Path) -> None:
    assert svg_text(plot()) == svg_text(plot())
    (tmp_path / "other").mkdir()
    for one, other in zip(save(plot(), tmp_path, "plot"), save(plot(), tmp_path / "other", "plot"), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_both_files_without_a_background(tmp_path: Path) -> None:
    figure = plot()
    svg, png = save(figure, tmp_path, "plot")
    assert sorted(tmp_path.iterdir()) == [png, svg] == [tmp_path / "plot.png", tmp_path / "plot.svg"]
    with Image.open(png) as image:
        assert (image.format, image.size) == ("PNG", (3 * PNG_DPI, 2 * PNG_DPI))
        pixels = np.asarray(image.convert("RGBA"))
    assert pixels[0, 0, 3] == 0  # nothing in the corner
    assert (pixels[..., 3] == 0).mean() > 0.8
    drawn = pixels[pixels[..., 3] == 255]
    assert not (drawn[:, :3] < 30).all(axis=1).any()  # no black text was left
    root = ElementTree.fromstring(svg.read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox") == "0 0 216 144"
    assert INK in svg.read_text()
    assert "#000000" not in svg.read_text()


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    assert write_whole(path, b"old") == path

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]

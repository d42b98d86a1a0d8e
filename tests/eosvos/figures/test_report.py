"""The page is whole, well formed, complete in itself, and a browser shows it."""

import base64
import io
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eosvos.figures.accuracy_speed import accuracy_and_speed_over_steps, accuracy_speed, curves
from eosvos.figures.published import DAVIS_2016, published_on
from eosvos.figures.report import Picture, Report, html, write_report
from eosvos.figures.style import INK, svg_text
from eosvos.metrics.sequence_scores import ObjectScores
from eosvos.metrics.table import ObjectResult, object_rows, summarize

ODD = "<b>\"odd\" & 'names'</b>"
SCORES = {"bear": (0.9,), "pigs": (0.4, 0.6), ODD: (0.7,)}
"""J and F of each object of each sequence at T = 0; 0.1 less at T = 10."""
STEPS = (0, 10)
VOID = {"meta", "img", "br"}


def rows(rate: float | None = None, dataset: str = "davis", seconds: float | None = 2.0) -> list[dict[str, Any]]:
    return [
        row
        for T in STEPS
        for name, values in SCORES.items()
        for number, value in enumerate(values, 1)
        for row in object_rows(
            [
                ObjectResult(
                    dataset,
                    name,
                    4,
                    seconds,
                    ObjectScores(number, (1, 2), (value - T / 100,) * 2, (value,) * 2),
                    *(None if seconds is None else one for one in (0.5, 3.2)),
                )
            ],
            {"learning_rate": rate, "T": T},
        )
    ]


def report(objects: list[dict[str, Any]], title: str = "A title") -> Report:
    summary = summarize(objects, by=("learning_rate", "T"))
    pictures = []
    if summary[0]["fps"] is not None:
        ours = curves(summary, "ours")
        pictures = [
            Picture("Speed", "J&F against speed", svg_text(accuracy_speed(ours, published_on(DAVIS_2016)))),
            Picture(f"Steps of {ODD}", f"J&F of {ODD}", svg_text(accuracy_and_speed_over_steps(ours))),
            Picture("Best", "Frames of bear", Image.new("RGBA", (300, 90), (200, 30, 30, 255))),
        ]
    configuration = {"checkpoint": Path("a/b.safetensors"), "T": STEPS, "name": ODD, "learning_rate": (), "out": None}
    return Report(title, configuration, summary, objects, pictures)


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order; tables as lists of rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes)
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open  # only there an element may end itself
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data
            if self.open[-1] in ("td", "th"):
                self.tables[-1][-1][-1] += data


def test_tables_say_what_the_rows_say() -> None:
    page = Page(html(report(rows())))
    summary, sequences, configuration = page.tables
    measures = ["J", "J recall", "J decay", "F", "F recall", "F decay", "J&F"]
    assert summary[0] == ["", *measures, "FPS", "video FPS", "Objects"]
    assert [row[0] for row in summary[1:]] == ["T = 0", "T = 10"]
    # Four objects: 90, 40, 60, 70.
    error = 100 * np.std([0.9, 0.4, 0.6, 0.7], ddof=1) / 2
    assert summary[1][1] == f"65.0 ± {error:.1f}"
    assert summary[2][7] == f"60.0 ± {error:.1f}"
    assert summary[1][8:] == ["1.60", "1.25", "4"]
    assert sequences == [
        ["Sequence", "Objects", "T = 0", "T = 10"],
        ["pigs", "2", "50.0", "45.0"],
        [ODD, "1", "70.0", "65.0"],
        ["bear", "1", "90.0", "85.0"],
    ]
    assert configuration == [
        ["Setting", "Value"],
        ["checkpoint", "a/b.safetensors"],
        ["T", "0, 10"],
        ["name", ODD],
        ["learning_rate", "-"],
        ["out", "-"],
    ]


def test_the_page_is_semantic_and_needs_nothing_else() -> None:
    text = html(report(rows(), title=ODD))
    page = Page(text)
    counts = Counter(tag for tag, _ in page.tags)
    assert (counts["main"], counts["h1"], counts["h2"], counts["figure"], counts["figcaption"]) == (1, 1, 4, 3, 3)
    assert (counts["table"], counts["caption"], counts["script"], counts["link"]) == (3, 3, 0, 0)
    assert page.text["title"] == page.text["h1"] == ODD
    assert ODD not in text
    assert all(dict(attributes).get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"] == ["Frames of bear"]
    images = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert [image["aria-label"] for image in images] == ["J&F against speed", f"J&F of {ODD}"]
    assert {image["role"] for image in images} == {"img"}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "prefers-color-scheme: dark" in text
    # What an element points to is on the page, or in the element itself.
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "aria-labelledby"):
                assert value is not None
                assert value.startswith("data:image/png;base64,") or value.removeprefix("#") in ids
    pointed = re.findall(r"url\(([^)]*)\)", text)
    assert pointed
    assert {target.removeprefix("#") for target in pointed} <= set(ids)


def test_pictures_come_as_they_are() -> None:
    text = html(report(rows()))
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert INK not in drawing  # words have the page's colour
        assert "currentColor" in drawing
    (data,) = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (300, 90)
        assert image.getpixel((150, 45)) == (200, 30, 30, 255)


def test_rates_datasets_and_times_that_are_missing() -> None:
    objects = rows(0.01, seconds=None) + rows(0.1, "other", seconds=None)
    summary, sequences, _ = Page(html(report(objects))).tables
    assert [row[0] for row in summary[1:]] == [f"T = {T}, rate {rate}" for rate in (0.01, 0.1) for T in STEPS]
    assert {row[8] for row in summary[1:]} == {"-"}
    bear = {row[0]: row[2:] for row in sequences if "bear" in row[0]}
    assert bear == {"davis: bear": ["90.0", "85.0", "-", "-"], "other: bear": ["-", "-", "90.0", "85.0"]}
    empty = Page(html(Report("Nothing", {}, [], [])))
    assert [len(table) for table in empty.tables] == [1, 1, 1]
    assert "Figures" not in empty.text["h2"]


def test_the_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    broken = Report("Broken", {}, [{"learning_rate": None}], [])
    with pytest.raises(KeyError):
        write_report(broken, path)
    assert list(tmp_path.iterdir()) == []

    def stopped(self: Path, target: Path) -> Path:
        raise OSError("stopped before the new name")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopped)
        with pytest.raises(OSError, match="stopped"):
            write_report(report(rows()), path)
    assert list(tmp_path.iterdir()) == []
    assert write_report(report(rows()), path) == path
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
class TestInABrowser:
    """Headless Chromium opens the file."""

    @pytest.fixture
    def browse(self, tmp_path: Path) -> Any:
        path = write_report(report(rows()), tmp_path / "report.html")

        def run(*arguments: str) -> str:
            assert BROWSER is not None
            # The page is trusted, and containers do not let Chromium make its sandbox.
            common = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}")
            command = [BROWSER, *common, *arguments, path.as_uri()]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

        return run

    def test_the_document_has_all_rows(self, browse: Any) -> None:
        page = Page(browse("--dump-dom"))
        assert [len(table) for table in page.tables] == [3, 4, 6]
        assert [row[0] for row in page.tables[1]] == ["Sequence", "pigs", ODD, "bear"]
        assert sum(tag == "svg" for tag, _ in page.tags) == 2

    @pytest.mark.parametrize(("scheme", "paper"), [(1, (255, 255, 255)), (0, (17, 17, 17))], ids=["light", "dark"])
    def test_it_shows_in_light_and_dark(
        self, browse: Any, tmp_path: Path, scheme: int, paper: tuple[int, int, int]
    ) -> None:
        shot = tmp_path / "shot.png"
        browse(f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1000,2200", f"--screenshot={shot}")
        with Image.open(shot) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert tuple(pixels[5, 5]) == paper
        drawn = (abs(pixels - np.array(paper)) > 60).any(axis=2)
        assert 0.01 < drawn.mean() < 0.5
        assert drawn[:300].any()
        assert drawn[1500:].any()
        assert ((pixels == (200, 30, 30)).all(axis=2)).sum() > 20_000  # the picture of 300 x 90

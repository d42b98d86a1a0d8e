"""One evaluation on one page: an HTML file that needs nothing but itself."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from eosvos.figures.style import INK
from eosvos.files import write_whole
from eosvos.metrics.table import SPEEDS, Row, per_second, percent, summarize

SUMMARY_MEASURES = {
    "J": "j_mean",
    "J recall": "j_recall",
    "J decay": "j_decay",
    "F": "f_mean",
    "F recall": "f_recall",
    "F decay": "f_decay",
    "J&F": "j_and_f",
}
"""Heading -> measure."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1c1c; --pale: #666; --line: #ddd; }
@media (prefers-color-scheme: dark) { :root { --paper: #111; --ink: #e4e4e4; --pale: #a0a0a0; --line: #333; } }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .8rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--pale); padding-bottom: .4rem; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; }
td:last-child, th:last-child { padding-right: 0; }
tbody th, thead th:first-child, .text td { text-align: left; }
.text thead th { text-align: left; }
.text th, .text td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.text th { font-weight: 400; color: var(--pale); white-space: nowrap; }
figure { margin: 1.5rem 0; }
figcaption { color: var(--pale); font-size: .9rem; margin-top: .4rem; }
svg, img { display: block; max-width: 100%; height: auto; }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Picture:
    """A figure of a report.

    Attributes:
        caption: the line under it.
        description: what it shows, for whoever cannot see it.
        content: a plot as the text of an SVG document, as ``style.svg_text`` gives it, or an image of pixels.
    """

    caption: str
    description: str
    content: str | Image.Image


@dataclass(frozen=True)
class Report:
    """What a report shows, in this order.

    Attributes:
        title: heading of the page.
        configuration: what was run: name of a setting -> its value.
        summary: rows of ``eosvos.metrics.table.summarize`` by learning_rate and T.
        objects: rows of ``eosvos.metrics.table.object_rows`` with the columns learning_rate and T.
        pictures: plots and contact sheets.
    """

    title: str
    configuration: Mapping[str, Any]
    summary: Sequence[Row]
    objects: Sequence[Row]
    pictures: Sequence[Picture] = ()


def write_report(report: Report, path: Path) -> Path:
    """Writes the page to ``path``, whole or not at all; its folder exists."""
    return write_whole(path, html(report).encode())


def html(report: Report) -> str:
    """The page as text: tables first, then the pictures. It has no script and loads nothing."""
    pictures = "".join(_figure(picture, f"picture-{number}-") for number, picture in enumerate(report.pictures, 1))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(report.title)}</h1>
{_section("Summary", _summary_table(report.summary))}
{_section("Figures", pictures) if pictures else ""}
{_section("Sequences", _sequence_table(report.objects))}
{_section("Configuration", _configuration_table(report.configuration))}
</main>
</body>
</html>
"""


def _section(heading: str, content: str) -> str:
    name = heading.lower()
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{heading}</h2>\n{content}\n</section>'


def _summary_table(summary: Sequence[Row]) -> str:
    rows = []
    for row in summary:
        measures = [percent(row, name) for name in SUMMARY_MEASURES.values()]
        speeds = [per_second(row, name) for name in SPEEDS.values()]
        rows.append([_setting(row), *measures, *speeds, str(row["objects"])])
    caption = (
        "Means over objects in %, ± one standard error; FPS: frames of one object per second, as the paper counts, "
        "video FPS: of the whole video with all its objects; both with fine-tuning"
    )
    return _table(caption, ["", *SUMMARY_MEASURES, *SPEEDS, "Objects"], rows)


def _sequence_table(objects: Sequence[Row]) -> str:
    """A row per sequence with its J&F in each setting, the worst of the last setting first."""
    per_sequence = summarize(objects, by=("dataset", "sequence", "learning_rate", "T"))
    settings = list(dict.fromkeys(_setting(row) for row in per_sequence))
    datasets = {row["dataset"] for row in per_sequence}
    sequences: dict[tuple[str, str], dict[str, Row]] = {}
    for row in per_sequence:
        sequences.setdefault((row["dataset"], row["sequence"]), {})[_setting(row)] = row

    def last_score(key: tuple[str, str]) -> float:
        row = sequences[key].get(settings[-1])
        return 1.0 if row is None else float(row["j_and_f"])

    rows = []
    for dataset, name in sorted(sequences, key=last_score):
        by_setting = sequences[dataset, name]
        found = [by_setting.get(setting) for setting in settings]
        scores = ["-" if row is None else f"{100 * row['j_and_f']:.1f}" for row in found]
        label = name if len(datasets) == 1 else f"{dataset}: {name}"
        rows.append([label, str(max(row["objects"] for row in by_setting.values())), *scores])
    caption = "J&F in %, mean over the objects of a sequence; lowest first, by the last column"
    return _table(caption, ["Sequence", "Objects", *settings], rows)


def _configuration_table(configuration: Mapping[str, Any]) -> str:
    rows = [[name, _value(value)] for name, value in configuration.items()]
    return _table("What was run", ["Setting", "Value"], rows, kind="text")


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def _setting(row: Row) -> str:
    rate = row["learning_rate"]
    return f"T = {row['T']}" if rate is None else f"T = {row['T']}, rate {rate:g}"


def _table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "numbers") -> str:
    """A table whose first column names its rows."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table class="{kind}">\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _figure(picture: Picture, prefix: str) -> str:
    if isinstance(picture.content, str):
        content = _inline_svg(picture.content, picture.description, prefix)
    else:
        content = f'<img alt="{escape(picture.description)}" src="{_data_uri(picture.content)}">'
    return f"<figure>\n{content}\n<figcaption>{escape(picture.caption)}</figcaption>\n</figure>\n"


def _inline_svg(document: str, description: str, prefix: str) -> str:
    """The svg element of a document, made to live on a page with others.

    Its ids get a prefix, as every plot numbers its parts alike, and its ink becomes the page's.
    """
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'\bid="', f'id="{prefix}', element)
    element = re.sub(r'href="#', f'href="#{prefix}', element)
    element = re.sub(r"url\(#", f"url(#{prefix}", element)
    element = element.replace(INK, "currentColor")
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)


def _data_uri(image: Image.Image) -> str:
    png = io.BytesIO()
    image.save(png, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"

"""The documentation is true: links and pictures exist, files and flags that it names too, its proofs run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]
SHOWN_BY_ALL = {"--help", "--config", "--preset", "--quality"}
OTHERS_COMMANDS = re.compile(r"^(pip|ray|submit=\S*|sed|source|make|export|\S*mlflow|\S*pytest) ")
"""Lines in code blocks whose flags are not ours, up to ``-- python``."""
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _code_blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _known_flags() -> set[str]:
    """Every field of a dataclass in the code, as a flag: all that a command can have, and a little more."""
    code = [path.read_text() for room in ("eosvos", "cluster", "jobs") for path in (ROOT / room).rglob("*.py")]
    fields = {name for text in code for name in re.findall(r"^    (\w+): ", text, re.MULTILINE)}
    flags = {f"--{name.replace('_', '-')}" for name in fields}
    # Written out, as those that are taken off the command line before it is parsed.
    return flags | {f"--no-{flag[2:]}" for flag in flags} | set(re.findall(r'"(--[a-z][a-zA-Z-]*)"', "".join(code)))


def _flags(text: str) -> set[str]:
    """Those of our commands: in code blocks, and between backticks."""
    flags: set[str] = set()
    for block in _code_blocks(text):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            ours = line.split("#")[0]
            if OTHERS_COMMANDS.match(ours):
                ours = ours.partition("-- python ")[2]
            flags |= set(re.findall(r"(?<!\S)--[a-z][a-zA-Z-]*", ours))
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`]+)`", outside):
        if code.startswith("--") or "jobs/" in code or code.startswith("eosvos "):
            flags |= set(re.findall(r"(?<!\S)--[a-z][a-zA-Z-]*", code))
    return flags


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


@each_page
def test_links_and_pictures_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"(?:eosvos|cluster|jobs|tests|docs|benchmarks)/[\w/.-]*[\w/]", page.read_text())
    missing = {path for path in named if not (ROOT / path).exists()}
    assert not missing


@each_page
def test_flags_that_are_named_exist(page: Path) -> None:
    assert _flags(page.read_text()) <= _known_flags() | SHOWN_BY_ALL
    assert not re.search(r"--[a-z-]+ (True|False)\b", page.read_text())  # a switch takes no value


@pytest.mark.parametrize("folder", ["docs", "benchmarks"])
def test_every_picture_and_page_is_shown(folder: str) -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    }
    assert {path for path in (ROOT / folder).iterdir() if path.name != "README.md"} <= linked


def test_the_proof_of_determinism_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "determinism.md").read_text(), re.M | re.S)
    exec(block, {})

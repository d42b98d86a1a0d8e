"""The wheel in an environment that has what the wheel itself asks for, and nothing else."""

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from importlib.metadata import Distribution, distribution
from pathlib import Path

import av
import numpy as np
import pytest
from packaging.requirements import Requirement

from eosvos.data.palette import encode_mask
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic

ROOT = Path(__file__).parents[2]
FRAMES = 5
pytestmark = pytest.mark.slow


def _build(folder: Path) -> Path:
    """The wheel, from a copy of what it is built from, so that nothing is left in the checkout."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("eosvos", "cluster"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    _run(folder, sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def _needed(requirements: list[str]) -> dict[str, Distribution]:
    """Name -> distribution of all that is required without an extra, what those require, and so on."""
    needed: dict[str, Distribution] = {}
    todo = [Requirement(text) for text in requirements]
    while todo:
        requirement = todo.pop()
        if requirement.name not in needed and (
            requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ):
            needed[requirement.name] = distribution(requirement.name)
            todo += [Requirement(text) for text in needed[requirement.name].requires or []]
    return needed


def _link(own: Distribution, site: Path) -> None:
    """Puts a distribution of this environment into another one's packages."""
    for top in {file.parts[0] for file in own.files or []} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(own.locate_file(top))))


def _run(folder: Path, *command: object) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel installed, and linked to it what its own metadata require.

    Downloading torch again would take minutes and prove nothing more about this project.
    """
    folder = tmp_path_factory.mktemp("wheel")
    wheel = _build(folder)
    _run(folder, sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    _run(folder, sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    site = Path(_run(folder, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (metadata,) = site.glob("eosvos-*.dist-info")
    for own in _needed(Distribution.at(metadata).requires or []).values():
        _link(own, site)
    return folder / "venv"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip.mp4``, ``first.png`` and ``truth/clip``."""
    folder = tmp_path_factory.mktemp("video")
    (sequence,) = synthetic("held", 1, SyntheticSettings(size=128, frames=FRAMES))
    (folder / "truth" / "clip").mkdir(parents=True)
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width = stream.height = 128
        for position in range(FRAMES):
            image, mask = sequence.frame(position)
            assert mask is not None
            (folder / "truth" / "clip" / f"{position:05d}.png").write_bytes(encode_mask(mask))
            pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    shutil.copy(folder / "truth" / "clip" / "00000.png", folder / "first.png")
    return folder


def test_the_environment_has_neither_cluster_nor_checkout(environment: Path, video: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('ray', 'mlflow', 'matplotlib', 'pytest') if u.find_spec(n)])"
    assert _run(video, environment / "bin" / "python", "-c", code).strip() == "[]"
    where = _run(video, environment / "bin" / "python", "-c", "import eosvos; print(eosvos.__file__)")
    assert Path(where.strip()).is_relative_to(environment)


def test_segment_and_score(environment: Path, video: Path) -> None:
    command = environment / "bin" / "eosvos"
    shown = _run(video, command, "segment", "--video", "clip.mp4", "--mask", "first.png", "--out", "results/clip")
    assert "result: " in shown
    written = {"masks", "overlay.mp4", "contact_sheet.png", "segmentation.json"}
    assert {path.name for path in (video / "results" / "clip").iterdir()} == written
    scored = ("score", "--ground-truth", "truth", "--predictions", "results", "--layout", "frames")
    assert "mean over objects" in _run(video, command, *scored)
    assert (video / "results" / "scores.csv").is_file()


def test_the_readmes_example(environment: Path, video: Path) -> None:
    code = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    lines = _run(video, environment / "bin" / "python", "-c", code).splitlines()
    assert len(lines) == FRAMES
    assert lines[0].startswith("[0, 1")

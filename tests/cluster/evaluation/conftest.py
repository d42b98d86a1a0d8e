"""Two evaluations that are done, for all tests of evaluations; pictures are drawn for one of them."""

from pathlib import Path

import pytest

from cluster.evaluation import driver
from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate

RATES = (0.01, 0.05)


@pytest.fixture(scope="session")
def learned(trained: Path) -> Evaluation:
    """Of the checkpoint's learned rates."""
    return Evaluation(Subject(trained / "meta.safetensors", str(trained / "held")), T=(0, 3))


@pytest.fixture(scope="session")
def learned_folder(learned: Evaluation, ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``learned``, which is done, without pictures; copied by a test that changes something there."""
    folder = tmp_path_factory.mktemp("evaluations") / "learned"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "evaluation_pictures", _no_pictures)
        evaluate(learned, folder)
    return folder


@pytest.fixture(scope="session")
def grid(trained: Path) -> Evaluation:
    """Of the parent at two single rates."""
    subject = Subject(trained / "parent.safetensors", str(trained / "held"), learning_rate=RATES)
    return Evaluation(subject, T=(0, 3))


@pytest.fixture(scope="session")
def grid_folder(grid: Evaluation, ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``grid``, which is done, with all pictures."""
    folder = tmp_path_factory.mktemp("evaluations") / "grid"
    evaluate(grid, folder)
    return folder


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the pictures, which take seconds."""
    monkeypatch.setattr(driver, "evaluation_pictures", _no_pictures)


def _no_pictures(*_: object) -> list[Path]:
    return []


@pytest.fixture
def broken(trained: Path, tmp_path: Path) -> Path:
    """A dataset of which no frame can be read."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in (trained / "held").iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content if path.name.startswith("_") else b"\0" * len(content))
    return folder

"""The command's refusals; a parent's training itself is in the test of the comparison."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.training.config import MetaTraining, ParentTraining, shared
from eosvos.config import to_dict


@pytest.fixture
def config(training: MetaTraining, tmp_path: Path) -> Path:
    """The parent's part of a configuration that would work."""
    path = tmp_path / "mine.json"
    parent = ParentTraining(**shared(training))
    path.write_text(json.dumps(to_dict(parent)))
    return path


def test_data_that_is_not_there(refused: Callable[..., str], config: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    line = refused("parent_train", "--config", config, "--data", missing, "--out", tmp_path / "run")
    assert line == f"{missing}: no such folder; encode a dataset with jobs/encode_dataset.py"
    assert not (tmp_path / "run").exists()


def test_a_parent_has_no_inner_steps(refused: Callable[..., str], config: Path, tmp_path: Path) -> None:
    assert "-T" in refused("parent_train", "--config", config, "-T", 5, "--out", tmp_path / "run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--validation-T", "0"), "validation_T: must be at least 1, got 0"),
        (("--validation-rates", "0.1", "0.1"), "validation_rates: needs different values above 0, got (0.1, 0.1)"),
    ],
)
def test_a_validation_that_cannot_be(
    refused: Callable[..., str], config: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    assert message in refused("parent_train", "--config", config, "--out", tmp_path / "run", *flags)

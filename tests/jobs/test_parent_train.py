"""The command's refusals; a parent's training itself is in the test of the comparison."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from cluster.training.config import MetaTraining, ParentTraining, Training
from eosvos.config import to_dict


@pytest.fixture
def config(training: MetaTraining, tmp_path: Path) -> Path:
    """The parent's part of a configuration that would work."""
    path = tmp_path / "mine.json"
    parent = ParentTraining(**{field.name: getattr(training, field.name) for field in fields(Training)})
    path.write_text(json.dumps(to_dict(parent)))
    return path


def test_data_that_is_not_there(refused: Callable[..., str], config: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    line = refused("parent_train", "--config", config, "--data", missing, "--out", tmp_path / "run")
    assert line == f"{missing}: no such folder; encode a dataset with jobs/encode_dataset.py"
    assert not (tmp_path / "run").exists()


def test_a_parent_has_no_inner_steps(refused: Callable[..., str], config: Path, tmp_path: Path) -> None:
    assert "-T" in refused("parent_train", "--config", config, "-T", 5, "--out", tmp_path / "run")

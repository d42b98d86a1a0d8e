"""Parent training by its command: what it leaves behind, and its refusals."""

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from cluster.config import MetaTraining, Training
from eosvos.cli import to_dict
from eosvos.learning.optimization import load

JOB = Path(__file__).parents[2] / "jobs" / "parent_train.py"


@pytest.fixture
def config(training: MetaTraining, tmp_path: Path) -> Path:
    """The parent's part of a configuration."""
    path = tmp_path / "config.json"
    parent = Training(**{field.name: getattr(training, field.name) for field in fields(Training)})
    path.write_text(json.dumps(to_dict(parent)))
    return path


@pytest.mark.slow
def test_a_parent(
    ray_here: None,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [str(JOB), "--config", str(config), "--out", str(tmp_path / "run")])
    runpy.run_path(str(JOB), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == f"last checkpoint: {tmp_path / 'run' / 'last.safetensors'}"
    parent = load(tmp_path / "run" / "last.safetensors")
    assert parent.log_rates is None
    assert parent.facts["step"] == 2
    rows = [json.loads(line) for line in (tmp_path / "run" / "progress.jsonl").read_text().splitlines()]
    assert [sorted(row) for row in rows] == [["kept", "loss_at_T", "seconds", "step"]] * 2


def test_data_that_is_not_there(refused: Callable[..., str], config: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    line = refused("parent_train", "--config", config, "--data", missing, "--out", tmp_path / "run")
    assert line.startswith(f"{missing}: no such folder")
    assert not (tmp_path / "run").exists()

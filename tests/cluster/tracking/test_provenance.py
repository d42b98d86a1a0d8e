"""Where a run comes from."""

import re
import subprocess
from pathlib import Path

import pytest

from cluster.tracking import provenance
from cluster.tracking.provenance import git_commit, hardware, run_of, run_tags


def test_the_commit_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "CODE", tmp_path)
    assert git_commit() == "unknown"

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    commit = git_commit()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (tmp_path / "notes").write_text("nobody knows this file")
    assert git_commit() == commit
    (tmp_path / "code.py").write_text("2")
    assert git_commit() == f"{commit}-dirty"


def test_hardware_and_tags(ray_here: None) -> None:
    assert re.match(r"2 CPUs \(.+\)", hardware())
    tags = run_tags("abc", world_size="2")
    assert tags | {"data_hash": "abc", "world_size": "2"} == tags
    assert set(tags) == {"git_commit", "hardware", "data_hash", "world_size"}


def test_the_run_of_a_checkpoint(tmp_path: Path) -> None:
    assert run_of(tmp_path / "best.safetensors") == ""
    (tmp_path / provenance.RUN_FILE).write_text("sqlite:///x y.db 123abc\n")
    assert run_of(tmp_path / "best.safetensors") == "123abc"
    assert run_of(tmp_path / "checkpoints" / "step-000100.safetensors") == "123abc"

"""Paths of the command line: absolute, and refused where they would mean nothing."""

from pathlib import Path

import pytest

from eosvos.errors import BadInput
from eosvos.paths import absolute_address, absolute_path


def test_paths_of_a_command_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_path(Path("runs/meta"), "--out") == tmp_path / "runs" / "meta"
    assert absolute_address("data", "--data") == str(tmp_path / "data")
    assert absolute_address("s3://bucket/train", "--data") == "s3://bucket/train"
    with pytest.raises(BadInput, match="--out s3:/bucket/run: a URI cannot be used here"):
        absolute_path(Path("s3://bucket/run"), "--out")


def test_paths_of_a_submitted_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert absolute_path(tmp_path, "--out") == tmp_path
    assert absolute_address("s3://bucket/train", "--data") == "s3://bucket/train"
    for relative in (lambda: absolute_path(Path("runs"), "--out"), lambda: absolute_address("runs", "--out")):
        with pytest.raises(BadInput, match="--out runs: a submitted job runs in a throw-away copy of the code"):
            relative()

"""The command's refusals: exit code 2 and one line that names the file or the flag, before any work."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import run_folder
from cluster.training.config import MetaTraining
from eosvos.config import to_dict

Refused = Callable[..., str]


@pytest.fixture
def config(training: MetaTraining, tmp_path: Path) -> Path:
    """A configuration that would work."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(to_dict(training)))
    return path


def test_a_parent_that_is_no_checkpoint(refused_alone: Refused, config: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent.safetensors"
    parent.write_text("a text")
    line = refused_alone("meta_train", "--config", config, "--parent", parent, "--out", tmp_path / "run")
    assert line.startswith(f"{parent}: not a checkpoint of ours")
    assert not (tmp_path / "run").exists()


def test_more_workers_than_cpus(refused_alone: Refused, config: Path, tmp_path: Path) -> None:
    """Ray has to start to know; it says nothing, and nothing is written."""
    line = refused_alone("meta_train", "--config", config, "--workers", 1000, "--out", tmp_path / "run")
    assert line.startswith("--workers 1000: the cluster has ")
    assert not (tmp_path / "run").exists()


def test_another_configuration_on_the_same_run(
    refused: Refused, config: Path, training: MetaTraining, tmp_path: Path
) -> None:
    run_folder.claim(tmp_path / "run", training)
    line = refused("meta_train", "--config", config, "--out", tmp_path / "run", "-T", 3, "--meta-batch", 2)
    assert line == (
        f"{tmp_path / 'run'}: holds a run that differs in T (2 there, 3 now), outer.meta_batch (4 there, 2 now); "
        "give another --out or remove the folder"
    )


REFUSALS = {
    "--data TMP/missing": "TMP/missing: no such folder; encode a dataset with jobs/encode_dataset.py",
    "--data TMP": "TMP/_index.parquet: missing, so the folder is no encoded dataset",
    "--data ": "--data: name an encoded dataset",
    "--parent TMP/missing": "TMP/missing: no such checkpoint",
    "--backbone-weights TMP/missing.safetensors": "TMP/missing.safetensors: ",
    "--workers 0": "workers: must be at least 1, got 0",
    "--validate-every -1": "validate_every: must be at least 0, got -1",
    "--validation-frames 2": "validation_frames: must be at least 3, got 2",
    "--validation-windows 0": "validation_windows: must be at least 1, got 0",
    "-T 0": "T: must be at least 1, got 0",
    "--data-weights 5 0": "data_weights: must be within 1 and 10000, got (5, 0)",
    "--data-weights 1 1000000007": "data_weights: must be within 1 and 10000, got (1, 1000000007)",
    "--initial-rate 0": "initial_rate: must be above 0, got 0",
    "--preset mine": "--preset mine: no such preset; choose one of demo, davis2016-small, real-small",
    "--config TMP/missing.json": "TMP/missing.json: not a readable JSON file",
    "--out TMP": "TMP: exists and is no run's folder; give another --out",
}


@pytest.mark.parametrize("arguments", REFUSALS)
def test_bad_input_is_one_line(refused: Refused, config: Path, tmp_path: Path, arguments: str) -> None:
    given = arguments.replace("TMP", str(tmp_path)).split(" ")
    out = [] if "--out" in given else ["--out", tmp_path / "run"]
    line = refused("meta_train", "--config", config, *out, *given)
    assert REFUSALS[arguments].replace("TMP", str(tmp_path)) in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", ["--data", "--out", "--parent"])
def test_relative_paths_of_a_submitted_job(
    refused: Refused, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str, flag: str
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    line = refused("meta_train", "--config", config, "--out", tmp_path / "run", flag, "here")
    assert line == f"{flag} here: a submitted job runs in a throw-away copy of the code; give an absolute path"
    assert not (tmp_path / "run").exists()


def test_a_submitted_job_without_a_tracking_address(
    refused: Refused, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    line = refused("meta_train", "--config", config, "--out", tmp_path / "run")
    assert line.startswith("MLFLOW_TRACKING_URI=: a submitted job runs in a throw-away copy of the code; set an")
    assert not (tmp_path / "run").exists()
